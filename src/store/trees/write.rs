//! Writing one generation into the trees, so that an interruption anywhere does no harm.
//!
//! A round is not atomic: it is many changes, and the commit up to which the trees are complete is
//! noted only after all of them. Until then a reopened store replays the same commits over whatever
//! part arrived. That is harmless because of the order in which things arrive:
//!
//! ```text
//!   pieces, runs ──▶ bounds ──▶ removal of what lies below the bounds ──▶ ... ──▶ applied
//! ```
//! - A log's bounds rise only after its runs are there. The replay takes an entry at or below the
//!   bounds for written and passes it over.
//! - Runs above the bounds are not there for readers. Written again they may be split differently,
//!   so the first write after opening removes those it finds ([`Trees::write`], `reopened`).
//! - Runs are removed only below the first sequence that the bounds already name. An interrupted
//!   removal is made up for by the first write after opening, which looks from the very beginning.
//! - Rows of tables are whole values: written again they are the same.

use super::{
    Trees,
    value::{
        BoundsRow, Run, VALUE_BYTES_MAX, bounds_key, piece_key, piece_prefix, run_key, run_seq,
        seal,
    },
};
use crate::{
    planted::{self, Bug},
    store::{
        catalogue::{LogKey, LogKind, Table},
        error::StoreError,
        guard::guarded,
        memory::{Generation, Tail},
    },
};

/// A run is closed when it has so many bytes.
const RUN_BYTES_MAX: usize = 4 * 1024;
/// A run is closed when it has so many entries.
const RUN_ENTRIES_MAX: usize = 256;
/// Changes made together. (Few in unit tests, where an interruption is tried after each.)
const GROUP_CHANGES: usize = if cfg!(test) { 3 } else { 512 };
/// Of a group that only writes so many of so many neighbours go first, the others between them. sled
/// splits a page of more than 16 values into 9 and the rest, and what it splits it writes anew: pages
/// that split while they have the first ones are then filled without another split.
const FIRST_OF: (usize, usize) = (9, 16);
/// Trimmed runs of one log are removed when so many sequences are below its first.
const SWEEP_SLACK: u64 = 64;

impl Trees {
    /// Writes a generation. Not durable until [`Trees::flush`]; harmless to repeat.
    ///
    /// `reopened` tells that this is the first write since opening, so that an interrupted one may
    /// have left something.
    pub(in crate::store) fn write(
        &self,
        generation: &Generation,
        reopened: bool,
    ) -> Result<(), StoreError> {
        guarded("writing the trees", || {
            for kind in LogKind::ALL {
                let mut logs = LogWrites::new(self, kind);
                let mut left_out = planted::is(Bug::CheckpointLosesLog);
                let mut all: Vec<_> = generation.logs(kind).collect();
                all.sort_unstable_by_key(|(key, _)| *key);
                for (key, tail) in all {
                    if std::mem::take(&mut left_out) {
                        continue;
                    }
                    logs.write(LogKey::of(kind, key.clone()), tail, reopened)?;
                }
                logs.finish()?;
            }
            for table in Table::ALL {
                let mut batch = Changes::new(self, &self.tables[table as usize]);
                for (key, row) in generation.rows(table) {
                    match row {
                        Some(row) => batch.insert(key, row)?,
                        None => batch.remove(key)?,
                    }
                }
                batch.finish()?;
            }
            Ok(())
        })
    }
}

/// Writes of one family of logs.
pub(super) struct LogWrites<'a> {
    trees: &'a Trees,
    tree: &'a sled::Tree,
    pub(super) runs: Changes<'a>,
    pub(super) pieces: Changes<'a>,
    /// Logs whose runs are written or under way, and whose bounds wait for that.
    waiting: Vec<Waiting>,
}

struct Waiting {
    log: LogKey,
    row: BoundsRow,
    /// Runs below the first sequence are looked for from here on; none = not this time.
    sweep_from: Option<u64>,
}

impl<'a> LogWrites<'a> {
    pub(super) fn new(trees: &'a Trees, kind: LogKind) -> Self {
        let tree = &trees.logs[kind as usize];
        let runs = Changes::new(trees, tree);
        let pieces = Changes::new(trees, &trees.pieces);
        Self { trees, tree, runs, pieces, waiting: Vec::new() }
    }

    fn write(&mut self, log: LogKey, tail: &Tail, reopened: bool) -> Result<(), StoreError> {
        if reopened {
            let above = run_key(&log, tail.start)..=run_key(&log, u64::MAX);
            for key in self.tree.range(above).keys() {
                self.runs.remove(&key?)?;
            }
        }
        self.write_runs(&log, tail)?;
        let mut bounds = self.trees.kept(log.kind(), tail.bounds());
        let mut lowest = tail.start;
        if let Some(old) = self.trees.bounds_row(&log)? {
            bounds.first = bounds.first.max(old.bounds.first);
            lowest = old.lowest;
        }
        let from = if reopened { 0 } else { lowest };
        let sweep_from = (bounds.first > from.saturating_add(SWEEP_SLACK)).then_some(from);
        self.waiting.push(Waiting { log, row: BoundsRow { bounds, lowest }, sweep_from });
        if self.waiting.len() >= GROUP_CHANGES { self.finish() } else { Ok(()) }
    }

    /// The three steps of the head of this module.
    fn finish(&mut self) -> Result<(), StoreError> {
        self.pieces.finish()?;
        self.runs.finish()?;

        let mut gone = Vec::new();
        let mut bounds = Changes::new(self.trees, &self.trees.bounds);
        for Waiting { log, mut row, sweep_from } in std::mem::take(&mut self.waiting) {
            if let Some(from) = sweep_from {
                let first = row.bounds.first;
                // Each run but the last ends before the next begins, so below the first sequence.
                let mut runs =
                    self.tree.range(run_key(&log, from)..=run_key(&log, first)).peekable();
                while let Some(run) = runs.next() {
                    let (key, value) = run?;
                    let Some(seq) = run_seq(&key) else { continue };
                    row.lowest = seq;
                    if runs.peek().is_some() {
                        let prefix = Run::is_split(&value).then(|| piece_prefix(&log, seq));
                        gone.push((key, prefix));
                    }
                }
            }
            bounds.insert(&bounds_key(&log), &row.body())?;
        }
        bounds.finish()?;

        // Pieces first: a run without its pieces is found again, pieces without a run are not.
        for prefix in gone.iter().filter_map(|(_, prefix)| prefix.as_ref()) {
            for piece in self.trees.pieces.scan_prefix(prefix).keys() {
                self.pieces.remove(&piece?)?;
            }
        }
        self.pieces.finish()?;
        for (key, _) in &gone {
            self.runs.remove(key)?;
        }
        self.runs.finish()
    }

    pub(super) fn write_runs(&mut self, log: &LogKey, tail: &Tail) -> Result<(), StoreError> {
        let mut run = Run::begin();
        let mut run_first = tail.start;
        let mut count = 0;
        for (seq, record) in (tail.start..).zip(&tail.entries) {
            let split = record.len() > VALUE_BYTES_MAX;
            let full = run.len() + record.len() > RUN_BYTES_MAX || count == RUN_ENTRIES_MAX;
            if count > 0 && (split || full) {
                self.runs.insert(&run_key(log, run_first), &run)?;
                run = Run::begin();
                count = 0;
            }
            if split {
                for (number, piece) in record.chunks(VALUE_BYTES_MAX).enumerate() {
                    self.pieces.insert(&piece_key(log, seq, number as u16), piece)?;
                }
                self.runs.insert(&run_key(log, seq), &Run::split(record.len()))?;
                continue;
            }
            if count == 0 {
                run_first = seq;
            }
            Run::add(&mut run, record);
            count += 1;
        }
        if count > 0 {
            self.runs.insert(&run_key(log, run_first), &run)?;
        }
        Ok(())
    }
}

/// Gathers changes of one tree and makes them in bounded groups.
///
/// They come in the order of their keys, because then most find the page of the one before in the
/// processor's cache; of new keys [`FIRST_OF`] go first. They are single changes and not a batch of
/// sled's, which makes them in the order of a hash map and keeps every reader out meanwhile. That all
/// of a group arrive or none is asked by nobody.
pub(super) struct Changes<'a> {
    trees: &'a Trees,
    tree: &'a sled::Tree,
    /// Key and stored value; none = it is removed.
    waiting: Vec<(sled::IVec, Option<Vec<u8>>)>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(trees: &'a Trees, tree: &'a sled::Tree) -> Self {
        Self { trees, tree, waiting: Vec::new() }
    }

    pub(super) fn insert(&mut self, key: &[u8], body: &[u8]) -> Result<(), StoreError> {
        self.grown((key.into(), Some(seal(key, body))))
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.grown((key.into(), None))
    }

    fn grown(&mut self, change: (sled::IVec, Option<Vec<u8>>)) -> Result<(), StoreError> {
        self.waiting.push(change);
        if self.waiting.len() == GROUP_CHANGES { self.finish() } else { Ok(()) }
    }

    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.trees.step()?;
        let changes = std::mem::take(&mut self.waiting);
        if changes.iter().any(|(_, value)| value.is_none()) {
            // What is removed may be written again behind that.
            return changes.into_iter().try_for_each(|change| self.make(change));
        }
        let (first, of) = FIRST_OF;
        let goes_first = |place: usize| place * first / of != (place + 1) * first / of;
        let mut later = Vec::new();
        for (place, change) in changes.into_iter().enumerate() {
            if goes_first(place) { self.make(change)? } else { later.push(change) }
        }
        later.into_iter().try_for_each(|change| self.make(change))
    }

    fn make(&self, (key, value): (sled::IVec, Option<Vec<u8>>)) -> Result<(), StoreError> {
        match value {
            Some(value) => self.tree.insert(key, value)?,
            None => self.tree.remove(key)?,
        };
        Ok(())
    }
}
