//! One generation of recent changes in memory: what the journal holds and the trees do not yet.
//!
//! The store keeps up to three generations, newest first: `staged` (applied, not durable, seen by
//! the writer alone), `active` (durable and visible) and `frozen` (being written to the trees, kept
//! as a cache until the next one). Within a generation a log's entries are contiguous, and an older
//! generation's entries end where the next one's begin.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;

use super::{
    catalogue::{LogKey, LogKind, Table},
    commit::Operation,
};

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
    pub(super) fn last(&self) -> u64 {
        self.start + self.entries.len() as u64 - 1
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

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Applies one operation. `older` are the log's bounds before this generation.
    ///
    /// An append that is already there is passed over, so that applying twice is harmless. An
    /// append that leaves a gap is refused: it returns false.
    pub(super) fn apply(
        &mut self,
        operation: Operation,
        older: impl FnOnce(&LogKey) -> Bounds,
    ) -> bool {
        match operation {
            Operation::Append { log, seq, record } => {
                let logs = &mut self.logs[log.kind() as usize];
                let tail = match logs.get_mut(&log.bytes()[..]) {
                    Some(tail) => tail,
                    None => {
                        let bounds = older(&log);
                        self.bytes += OVERHEAD_BYTES + log.bytes().len();
                        logs.entry(log.bytes().clone()).or_insert(Tail {
                            start: bounds.last + 1,
                            entries: Vec::new(),
                            first: bounds.first,
                        })
                    }
                };
                let next = tail.start + tail.entries.len() as u64;
                if seq < next {
                    return true;
                }
                if seq > next {
                    return false;
                }
                self.bytes += OVERHEAD_BYTES + record.len();
                tail.entries.push(record);
            }
            Operation::Row(table, key, row) => {
                self.bytes += OVERHEAD_BYTES + key.len() + row.as_ref().map_or(0, Bytes::len);
                self.tables[table as usize].insert(key, row);
            }
            Operation::Trim(log, first) => {
                let bounds = older(&log);
                let logs = &mut self.logs[log.kind() as usize];
                let tail = logs.entry(log.bytes().clone()).or_insert(Tail {
                    start: bounds.last + 1,
                    entries: Vec::new(),
                    first: bounds.first,
                });
                tail.first = tail.first.max(first.min(tail.last() + 1));
                self.bytes += OVERHEAD_BYTES;
            }
        }
        true
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
