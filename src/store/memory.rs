//! One generation of recent changes in memory: what the journal holds and the trees do not yet.
//!
//! The store keeps up to three generations, newest first: `staged` (applied, not durable, seen by
//! the writer alone), `active` (durable and visible) and `frozen` (being written to the trees, kept
//! as a cache until the next one). Within a generation a log's entries are contiguous, and an older
//! generation's entries end where the next one's begin.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;

use super::catalogue::{LogKey, LogKind, Table};

/// The oldest kept and the newest assigned sequence of a log. `last = 0`: never an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Oldest kept; `last + 1` when nothing is kept.
    pub first: u64,
    /// Newest ever assigned.
    pub last: u64,
}

impl Bounds {
    /// A log that never had an entry.
    pub const EMPTY: Self = Self { first: 1, last: 0 };
}

/// The part of a log that one generation holds.
#[derive(Debug)]
pub(super) struct Tail {
    /// Sequence of the first entry here.
    pub(super) start: u64,
    pub(super) entries: Vec<Bytes>,
    /// The log's first sequence as of this generation.
    pub(super) first: u64,
}

impl Tail {
    /// The sequence that the next entry gets.
    pub(super) fn next(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    /// The log's newest sequence as of this generation.
    pub(super) fn last(&self) -> u64 {
        self.next() - 1
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { first: self.first, last: self.last() }
    }

    /// The entry of this sequence, if it is here.
    pub(super) fn entry(&self, seq: u64) -> Option<&Bytes> {
        self.entries.get(usize::try_from(seq.checked_sub(self.start)?).ok()?)
    }
}

/// Approximate heap cost of one entry or row beyond its bytes.
const OVERHEAD_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Generation {
    logs: [HashMap<Bytes, Tail>; LogKind::ALL.len()],
    tables: [BTreeMap<Bytes, Option<Bytes>>; Table::ALL.len()],
    bytes: usize,
}

impl Generation {
    pub(super) fn tail(&self, log: &LogKey) -> Option<&Tail> {
        self.logs[log.kind() as usize].get(&log.bytes()[..])
    }

    pub(super) fn row(&self, table: Table, key: &[u8]) -> Option<&Option<Bytes>> {
        self.tables[table as usize].get(key)
    }

    pub(super) fn rows(&self, table: Table) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.tables[table as usize]
    }

    pub(super) fn logs(&self, kind: LogKind) -> impl Iterator<Item = (&Bytes, &Tail)> {
        self.logs[kind as usize].iter()
    }

    /// Approximate memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes sure that a part of the log is here; begun over `older`, the log's bounds before this
    /// generation, if there is none yet. A part without entries says what `older` said. Returns the
    /// sequence that the next entry gets.
    ///
    /// # Errors
    /// That of `older`; nothing was changed.
    pub(super) fn tail_over<E>(
        &mut self,
        log: &LogKey,
        older: impl FnOnce() -> Result<Bounds, E>,
    ) -> Result<u64, E> {
        let tails = &mut self.logs[log.kind() as usize];
        if let Some(tail) = tails.get(&log.bytes()[..]) {
            return Ok(tail.next());
        }
        let Bounds { first, last } = older()?;
        self.bytes += OVERHEAD_BYTES + log.bytes().len();
        let tail = Tail { start: last + 1, entries: Vec::new(), first };
        let next = tail.next();
        tails.insert(log.bytes().clone(), tail);
        Ok(next)
    }

    /// Adds an entry to a log that has a tail here, and returns its sequence; none without a tail.
    pub(super) fn append(&mut self, log: &LogKey, record: Bytes) -> Option<u64> {
        let tail = self.logs[log.kind() as usize].get_mut(&log.bytes()[..])?;
        let seq = tail.next();
        self.bytes += OVERHEAD_BYTES + record.len();
        tail.entries.push(record);
        Some(seq)
    }

    /// Raises the first sequence of a log that has a tail here, at most to what comes next, and
    /// returns it; none without a tail.
    pub(super) fn trim(&mut self, log: &LogKey, first: u64) -> Option<u64> {
        let tail = self.logs[log.kind() as usize].get_mut(&log.bytes()[..])?;
        tail.first = tail.first.max(first.min(tail.next()));
        Some(tail.first)
    }

    /// Writes a row; none = it is removed.
    pub(super) fn set_row(&mut self, table: Table, key: Bytes, row: Option<Bytes>) {
        self.bytes += OVERHEAD_BYTES + key.len() + row.as_ref().map_or(0, Bytes::len);
        self.tables[table as usize].insert(key, row);
    }

    /// Takes over everything of a newer generation.
    pub(super) fn absorb(&mut self, newer: &mut Self) {
        for (mine, theirs) in self.logs.iter_mut().zip(&mut newer.logs) {
            for (key, mut tail) in theirs.drain() {
                match mine.get_mut(&key[..]) {
                    Some(old) => {
                        debug_assert_eq!(old.last() + 1, tail.start);
                        old.entries.append(&mut tail.entries);
                        old.first = old.first.max(tail.first);
                    }
                    None => {
                        mine.insert(key, tail);
                    }
                }
            }
        }
        for (mine, theirs) in self.tables.iter_mut().zip(&mut newer.tables) {
            mine.extend(std::mem::take(theirs));
        }
        self.bytes += std::mem::take(&mut newer.bytes);
    }
}
