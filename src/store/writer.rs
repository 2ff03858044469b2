//! The one writer: stages commits in memory, makes a group of them durable with one write and one
//! flush of the journal, then makes them visible. Publish after commit: nothing staged is seen by a
//! [`super::Reader`] before [`Writer::flush`] returns.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{
    Shared,
    catalogue::{LogKey, Table},
    commit::{self, Apply, Change, Commit, Condition, Operation, RECORD_BYTES_MAX, ROW_BYTES_MAX},
    error::StoreError,
    filler,
    journal::{CommitNo, Journal, JournalError},
    memory::{Bounds, Generation},
    reader::{self, LogEntry, ReadLimit},
    relied::Relied,
    trees::Trees,
};
use crate::planted::{self, Bug};

/// The buffer of staged commits is given back to the allocator when a group made it larger than those
/// of many writers at once are.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// The owner of all changes. There is one per open store.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    staged: Generation,
    relied: Relied,
    /// What the journal will be given: the operations of everything staged.
    record: Vec<u8>,
    poisoned: bool,
    /// Log entries, rows and trims staged so far.
    operations: u64,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal) -> Self {
        let staged = Generation::default();
        let relied = Relied::default();
        Self { journal, staged, relied, record: Vec::new(), poisoned: false, operations: 0, shared }
    }

    /// The end of a writer; what it has not flushed is not kept.
    pub(super) fn into_journal(self) -> Journal {
        self.journal
    }

    /// Applies a commit on top of everything staged. It is durable and visible after the next
    /// [`Writer::flush`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a condition does not hold; [`StoreError::NoSpace`] when the
    /// journal cannot grow, or the trees cannot and memory is full; [`StoreError::TooLarge`] for a
    /// row above [`ROW_BYTES_MAX`] or a record above [`RECORD_BYTES_MAX`]; any other when the trees
    /// cannot be read. Nothing was changed.
    pub fn stage(&mut self, commit: &Commit) -> Result<(), StoreError> {
        for condition in &commit.conditions {
            let holds = match condition {
                Condition::Head(log, last) => self.bounds(log)?.last == *last,
                Condition::Row(table, key, row) => self.is_row(*table, key, row.as_ref())?,
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        // Everything that can fail comes first, so that a commit is staged whole or not at all.
        if !commit.changes.is_empty() {
            self.reserve(commit.bytes_max())?;
        }
        for change in &commit.changes {
            match change {
                Change::Append { logs, record } => {
                    check_size("record", record, RECORD_BYTES_MAX)?;
                    logs.iter().try_for_each(|log| self.begin(log))?;
                }
                Change::Trim(log, _) => self.begin(log)?,
                Change::Put(_, _, row) => check_size("row", row, ROW_BYTES_MAX)?,
                Change::Delete(..) => {}
            }
        }
        for change in &commit.changes {
            if let Change::Put(table, key, _) | Change::Delete(table, key) = change {
                self.relied.changes(*table, key);
            }
        }
        commit::apply(&commit.changes, &mut self.record, &mut self.staged);
        self.operations += commit.changes.iter().map(Change::operations).sum::<u64>();
        if planted::is(Bug::UnflushedReads) {
            self.shared.recent.write().active.absorb(&mut self.staged);
        }
        Ok(())
    }

    fn begin(&mut self, log: &LogKey) -> Result<(), StoreError> {
        let shared = &self.shared;
        self.staged.tail_over(log, || reader::bounds(shared, None, log)).map(|_| ())
    }

    /// Whether the row has these bytes, staged commits included.
    fn is_row(
        &mut self,
        table: Table,
        key: &Bytes,
        row: Option<&Bytes>,
    ) -> Result<bool, StoreError> {
        if let Some(found) = reader::recent_row(&self.shared, Some(&self.staged), table, key) {
            return Ok(found.as_ref() == row);
        }
        if let Some(known) = self.relied.row(table, key) {
            return Ok(known.as_ref() == row);
        }
        let found = self.shared.trees.row(table, key)?;
        let is = found.as_ref() == row;
        self.relied.found(table, key, found);
        Ok(is)
    }

    /// Makes sure that a commit of so many bytes ([`Commit::bytes_max`]) finds room on top of what is
    /// staged, so that a full disk is met before anything is staged and not when it is flushed.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] as [`Writer::stage`]; any other failure is final.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), StoreError> {
        filler::before_commit(&self.shared)?;
        match self.journal.reserve(self.record.len().saturating_add(bytes)) {
            Ok(()) => Ok(()),
            Err(JournalError::NoSpace { .. }) => {
                self.shared.hold.break_off();
                Err(StoreError::NoSpace)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether commits of so many bytes in all will wait for nothing but the disk's flush: not for a new
    /// segment, nor for room in memory.
    #[must_use]
    pub fn is_at_ease(&self, bytes: usize) -> bool {
        let in_memory = {
            let recent = self.shared.recent.read();
            recent.active.bytes().saturating_add(recent.moving_bytes)
        };
        self.healthy()
            && self.journal.has_room(self.record.len().saturating_add(bytes))
            && in_memory.saturating_add(bytes) < self.shared.memory_bytes
    }

    /// Makes everything staged durable, then visible. Nothing to do is no work.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk takes back the room that was found when it was staged:
    /// nothing was written, what was staged stays staged, and a later call may succeed. Any other
    /// failure is final.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if !self.healthy() {
            return Err(StoreError::Poisoned);
        }
        if self.record.is_empty() {
            return Ok(());
        }
        let commit = match self.journal.append(&self.record) {
            Ok(commit) => commit,
            Err(JournalError::NoSpace { .. }) => return Err(StoreError::NoSpace),
            Err(error) => {
                self.poisoned = true;
                return Err(error.into());
            }
        };
        self.record.clear();
        self.record.shrink_to(BUFFER_BYTES_KEPT);
        self.shared.journal_bytes.store(self.journal.live_bytes(), Ordering::Relaxed);
        let (active_bytes, moving_bytes) = {
            let mut recent = self.shared.recent.write();
            recent.active.absorb(&mut self.staged);
            recent.active_commit = commit;
            (recent.active.bytes(), recent.moving_bytes)
        };
        filler::after_commit(&self.shared, active_bytes, moving_bytes)
    }

    /// What commits have cost so far: log entries, rows and trims staged through this writer.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Bytes staged and not yet flushed.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.record.len()
    }

    /// The last durable commit.
    #[must_use]
    pub fn last_commit(&self) -> CommitNo {
        self.journal.last()
    }

    /// False after a final failure, of the writer or of the thread behind it, and once the store is
    /// closed.
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.poisoned && !self.shared.failed() && !self.shared.abandoned()
    }

    /// Oldest kept and newest sequence, staged commits included.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        reader::bounds(&self.shared, Some(&self.staged), log)
    }

    /// One entry, staged commits included.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn entry(&self, log: &LogKey, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        reader::entry(&self.shared, Some(&self.staged), log, seq)
    }

    /// Entries `from..`, staged commits included.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn read(
        &self,
        log: &LogKey,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogEntry>, StoreError> {
        reader::read(&self.shared, Some(&self.staged), log, from, u64::MAX, limit)
    }

    /// A row, staged commits included.
    ///
    /// # Errors
    /// When the trees cannot be read or the row is damaged.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        reader::row(&self.shared, Some(&self.staged), table, key)
    }

    /// Rows by prefix, staged commits included; see [`super::Reader::rows`].
    ///
    /// # Errors
    /// As [`Writer::row`].
    pub fn rows(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        reader::rows(&self.shared, Some(&self.staged), table, prefix, after, limit)
    }

    /// As [`Writer::rows`], but a damaged row comes as none.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn rows_and_holes(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Option<Bytes>)>, StoreError> {
        reader::rows_and_holes(&self.shared, Some(&self.staged), table, prefix, after, limit)
    }
}

fn check_size(what: &'static str, value: &Bytes, most: usize) -> Result<(), StoreError> {
    let bytes = value.len();
    if bytes > most { Err(StoreError::TooLarge { what, bytes, most }) } else { Ok(()) }
}

impl Apply for Generation {
    fn append(&mut self, log: &LogKey, record: &Bytes) -> u64 {
        let assigned = Generation::append(self, log, record.clone());
        assigned.expect("stage began a tail of every log the commit names")
    }

    fn trim(&mut self, log: &LogKey, first: u64) -> u64 {
        let trimmed = Generation::trim(self, log, first);
        trimmed.expect("stage began a tail of every log the commit names")
    }

    fn row(&mut self, table: Table, key: &Bytes, row: Option<&Bytes>) {
        self.set_row(table, key.clone(), row.cloned());
    }
}

/// Applies the operations of one journal record to a generation, over what is in the trees.
///
/// An entry that is already there, because an interrupted round of the filler wrote it, is passed
/// over: what the trees count as theirs is never written again.
pub(super) fn replay(
    trees: &Trees,
    generation: &mut Generation,
    record: Bytes,
) -> Result<(), StoreError> {
    commit::decode(record, |operation| {
        match operation {
            Operation::Append { log, seq, record } => {
                let older = || trees.kept_bounds(&log);
                let next = generation.tail_over(&log, older)?;
                if seq > next {
                    return Err(StoreError::Damaged("the journal skips a sequence".into()));
                }
                if seq == next {
                    generation.append(&log, record);
                }
            }
            Operation::Trim(log, first) => {
                generation.tail_over(&log, || trees.kept_bounds(&log))?;
                generation.trim(&log, first);
            }
            Operation::Row(table, key, row) => generation.set_row(table, key, row),
        }
        Ok(())
    })
}
