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

    /// Adds an entry; returns what that takes. Most logs of a store that many use get one.
    fn push(&mut self, record: Bytes) -> usize {
        let before = self.bytes();
        if self.entries.is_empty() {
            self.entries.reserve_exact(1);
        }
        let len = record.len();
        self.entries.push(record);
        self.bytes() - before + len
    }

    /// What the list takes.
    fn bytes(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES
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

/// What a log takes beyond its key and entries: its place in a hash map, of whose places between 7/16
/// and 7/8 are taken.
const LOG_BYTES: usize = size_of::<(Bytes, Tail)>() * 8 / 5;
/// What an entry takes beyond its record.
const ENTRY_BYTES: usize = size_of::<Bytes>();
/// What a row takes beyond key and bytes: its place in a tree, whose nodes are two thirds full. Bytes
/// that are written over count until the generation ends: they share blocks with others.
const ROW_BYTES: usize = size_of::<(Bytes, Option<Bytes>)>() * 3 / 2;

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

    /// Memory held, in bytes, to within a few percent.
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
        self.bytes += LOG_BYTES + log.bytes().len();
        let tail = Tail { start: last + 1, entries: Vec::new(), first };
        let next = tail.next();
        tails.insert(log.bytes().clone(), tail);
        Ok(next)
    }

    /// Adds an entry to a log that has a tail here, and returns its sequence; none without a tail.
    pub(super) fn append(&mut self, log: &LogKey, record: Bytes) -> Option<u64> {
        let tail = self.logs[log.kind() as usize].get_mut(&log.bytes()[..])?;
        let seq = tail.next();
        self.bytes += tail.push(record);
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
        self.bytes += key.len() + row.as_ref().map_or(0, Bytes::len);
        if self.tables[table as usize].insert(key, row).is_none() {
            self.bytes += ROW_BYTES;
        }
    }

    /// Takes over everything of a newer generation.
    pub(super) fn absorb(&mut self, newer: &mut Self) {
        self.bytes += std::mem::take(&mut newer.bytes);
        for (mine, theirs) in self.logs.iter_mut().zip(&mut newer.logs) {
            for (key, mut tail) in theirs.drain() {
                match mine.get_mut(&key[..]) {
                    Some(old) => {
                        debug_assert_eq!(old.last() + 1, tail.start);
                        let both = LOG_BYTES + old.bytes() + tail.bytes();
                        old.entries.append(&mut tail.entries);
                        self.bytes = self.bytes + old.bytes() - both;
                        old.first = old.first.max(tail.first);
                    }
                    None => {
                        mine.insert(key, tail);
                    }
                }
            }
        }
        for (mine, theirs) in self.tables.iter_mut().zip(&mut newer.tables) {
            for (key, row) in std::mem::take(theirs) {
                if mine.insert(key, row).is_some() {
                    self.bytes -= ROW_BYTES;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UserId;

    fn log(number: u64) -> LogKey {
        LogKey::inbox(&UserId::new(&format!("user{number}")).unwrap())
    }

    fn bytes(length: usize) -> Bytes {
        Bytes::from(vec![7; length])
    }

    fn group(generation: &mut Generation, logs: u64, from: u64) {
        for number in 0..logs {
            let log = log(number);
            generation.tail_over(&log, || Ok::<_, ()>(Bounds { first: 1, last: from })).unwrap();
            generation.append(&log, bytes(20)).unwrap();
            generation.set_row(Table::Member, log.bytes().clone(), Some(bytes(10)));
        }
    }

    #[test]
    fn the_bytes_of_one_group_by_another_are_those_of_both_at_once() {
        let mut by_group = Generation::default();
        for from in 0..9 {
            let mut staged = Generation::default();
            group(&mut staged, 100, from);
            by_group.absorb(&mut staged);
            assert_eq!(staged.bytes(), 0);
        }
        let lists: usize = by_group.logs(LogKind::Inbox).map(|(_, tail)| tail.bytes()).sum();
        let keys: usize = by_group.logs(LogKind::Inbox).map(|(key, _)| key.len()).sum();
        // Every key and row that was written is still in some block.
        let written = 9 * (2 * keys + 100 * (20 + 10));
        assert_eq!(by_group.bytes(), lists + written + 100 * (LOG_BYTES + ROW_BYTES));
    }

    #[test]
    fn a_log_with_one_entry_takes_no_room_for_more() {
        let mut generation = Generation::default();
        group(&mut generation, 1, 0);
        let (_, tail) = generation.logs(LogKind::Inbox).next().unwrap();
        assert_eq!(tail.bytes(), ENTRY_BYTES);
    }
}
