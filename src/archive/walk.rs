//! Everything in a store, in one order, without the contents of messages that are gone.
//!
//! Families of logs in the order of their numbers, their logs by key, entries by sequence; then tables
//! in the order of their numbers, rows by key. The content of a message that was recalled or deleted for everyone
//! is shown to nobody, so it is left out here, and that of its edits; everything else of it stays, because
//! unread and order rest on it.

use bytes::Bytes;
use hashbrown::HashSet;

use crate::{
    history::{self, Change, Mutated, Mutation},
    store::{
        Bounds, ReadLimit, Reader, StoreError,
        catalogue::{LogKey, LogKind, Table, last_seq},
    },
};

/// What is read of a log at once.
const PAGE: ReadLimit = ReadLimit { entries: 1000, bytes: 4 << 20 };
/// Rows read at once.
const ROWS: usize = 1000;

/// One thing of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A log and what is kept of it; none = its bounds are damaged. Its entries follow.
    Log(LogKey, Option<Bounds>),
    /// An entry of the log that came last; none = a hole.
    Entry(u64, Option<Bytes>),
    /// A row; none = a damaged one.
    Row(Table, Bytes, Option<Bytes>),
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Logs that ever had an entry.
    pub logs: u64,
    /// Their entries.
    pub entries: u64,
    /// Rows.
    pub rows: u64,
    /// Entries, rows and bounds that are damaged.
    pub holes: u64,
}

impl Counted {
    pub(super) fn add(&mut self, item: &Item) {
        let (count, whole) = match item {
            Item::Log(_, bounds) => (&mut self.logs, bounds.is_some()),
            Item::Entry(_, record) => (&mut self.entries, record.is_some()),
            Item::Row(_, _, row) => (&mut self.rows, row.is_some()),
        };
        *count += 1;
        self.holes += u64::from(!whole);
    }
}

/// Gives every item in order.
pub(super) fn walk<E: From<StoreError>>(
    reader: &Reader,
    mut each: impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    for kind in LogKind::ALL {
        for (log, bounds) in reader.logs(kind)? {
            if bounds.is_some_and(|bounds| bounds.last == 0) {
                continue;
            }
            each(Item::Log(log.clone(), bounds))?;
            if let Some(bounds) = bounds {
                entries(reader, &log, bounds, &mut each)?;
            }
        }
    }
    for table in Table::ALL {
        let mut after = Bytes::new();
        loop {
            let page = reader.rows_and_holes(table, &[], &after, ROWS)?;
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            page.into_iter().try_for_each(|(key, row)| each(Item::Row(table, key, row)))?;
        }
    }
    Ok(())
}

fn entries<E: From<StoreError>>(
    reader: &Reader,
    log: &LogKey,
    bounds: Bounds,
    each: &mut impl FnMut(Item) -> Result<(), E>,
) -> Result<(), E> {
    let gone = match log.kind() {
        LogKind::History | LogKind::Mutation => gone(reader, log)?,
        _ => HashSet::new(),
    };
    let mut next = bounds.first;
    while next <= bounds.last {
        let page = reader.read(log, next, PAGE)?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            for seq in next..entry.seq {
                each(Item::Entry(seq, None))?;
            }
            next = entry.seq + 1;
            let record =
                entry.record.map(|record| without_content(log.kind(), entry.seq, record, &gone));
            each(Item::Entry(entry.seq, record))?;
        }
    }
    (next..=bounds.last).try_for_each(|seq| each(Item::Entry(seq, None)))
}

/// The messages of a conversation that are gone for everyone, by the log of their changes and by the
/// rows that name the latest ones: one of the two may be damaged.
fn gone(reader: &Reader, log: &LogKey) -> Result<HashSet<u64>, StoreError> {
    let mut gone = HashSet::new();
    let mut after = Bytes::new();
    loop {
        // A log's key is the conversation's, and so the beginning of the keys of its changed messages.
        let page = reader.rows_and_holes(Table::Mutated, log.bytes(), &after, ROWS)?;
        let Some((last, _)) = page.last() else { break };
        after = last.clone();
        for (key, row) in page {
            let row = row.and_then(|row| Mutated::decode(row).ok());
            gone.extend(row.filter(|row| row.gone).and_then(|_| last_seq(&key)));
        }
    }
    let changes = LogKey::of(LogKind::Mutation, log.bytes().clone());
    let bounds = match reader.bounds(&changes) {
        Ok(bounds) => bounds,
        Err(StoreError::Damaged(_)) => return Ok(gone),
        Err(error) => return Err(error),
    };
    let mut next = bounds.first;
    while next <= bounds.last {
        let page = reader.read(&changes, next, PAGE)?;
        let Some(last) = page.last() else { break };
        next = last.seq + 1;
        for mutation in page.into_iter().filter_map(|entry| Mutation::decode(entry.record?).ok()) {
            if !matches!(mutation.change, Change::Edited { .. }) {
                gone.insert(mutation.seq.number());
            }
        }
    }
    Ok(gone)
}

/// The record, without its content if the message it is of is gone.
fn without_content(kind: LogKind, seq: u64, record: Bytes, gone: &HashSet<u64>) -> Bytes {
    match kind {
        LogKind::History if gone.contains(&seq) => match history::decode(record.clone()) {
            Ok(mut message) if !message.draft.content.is_empty() => {
                message.draft.content = Bytes::new();
                history::encode(&message)
            }
            _ => record,
        },
        LogKind::Mutation if !gone.is_empty() => match Mutation::decode(record.clone()) {
            Ok(mut mutation) if gone.contains(&mutation.seq.number()) => {
                let Change::Edited { content, .. } = &mut mutation.change else { return record };
                *content = Bytes::new();
                mutation.encode()
            }
            _ => record,
        },
        _ => record,
    }
}
