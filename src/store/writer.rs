//! The one writer: stages commits in memory, makes a group of them durable with one write and one
//! flush of the journal, then makes them visible. Publish after commit: nothing staged is seen by a
//! [`super::Reader`] before [`Writer::flush`] returns.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Shared,
    catalogue::{LogKey, Table},
    commit::{self, Commit, Condition},
    error::StoreError,
    filler,
    journal::{CommitNo, Journal, JournalError},
    memory::{Bounds, Generation},
    reader::{self, LogEntry, ReadLimit},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// The owner of all changes. There is one per open store.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    staged: Generation,
    chunks: Vec<Bytes>,
    chunk_bytes: usize,
    buffer: BytesMut,
    record: Vec<u8>,
    poisoned: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal) -> Self {
        Self {
            shared,
            journal,
            staged: Generation::default(),
            chunks: Vec::new(),
            chunk_bytes: 0,
            buffer: BytesMut::new(),
            record: Vec::new(),
            poisoned: false,
        }
    }

    /// Applies a commit on top of everything staged. It is durable and visible after the next
    /// [`Writer::flush`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a condition does not hold: nothing was changed.
    pub fn stage(&mut self, commit: &Commit) -> Result<(), StoreError> {
        for condition in &commit.conditions {
            let holds = match condition {
                Condition::Head(log, last) => self.bounds(log)?.last == *last,
                Condition::Row(table, key, row) => self.row(*table, key)? == *row,
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        if self.buffer.capacity() < BUFFER_BYTES / 4 {
            self.buffer = BytesMut::with_capacity(BUFFER_BYTES);
        }
        let mut failure = None;
        let (shared, staged) = (&self.shared, &self.staged);
        // A log named twice in one commit gets the following sequence the second time.
        let mut assigned = hashbrown::HashMap::<LogKey, u64>::new();
        let repeats = commit.changes.len() > 1;
        commit::encode(&commit.changes, &mut self.buffer, |log| {
            let last = match assigned.get(log) {
                Some(last) => *last,
                None => match reader::bounds(shared, Some(staged), log) {
                    Ok(bounds) => bounds.last,
                    Err(error) => {
                        failure = Some(error);
                        0
                    }
                },
            };
            if repeats {
                assigned.insert(log.clone(), last + 1);
            }
            last + 1
        });
        if let Some(error) = failure {
            self.poisoned = true;
            return Err(error);
        }
        let chunk = self.buffer.split().freeze();
        self.chunk_bytes += chunk.len();
        self.chunks.push(chunk.clone());
        apply(&self.shared, &mut self.staged, chunk)
    }

    /// Makes everything staged durable, then visible. Nothing to do is no work.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the journal cannot grow: nothing was written; what was staged
    /// stays staged. Any other failure is final.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        if self.poisoned || self.shared.failed() {
            return Err(StoreError::Poisoned);
        }
        if self.chunks.is_empty() {
            return Ok(());
        }
        self.record.clear();
        for chunk in &self.chunks {
            self.record.extend_from_slice(chunk);
        }
        let commit = match self.journal.append(&self.record) {
            Ok(commit) => commit,
            Err(JournalError::NoSpace { .. }) => return Err(StoreError::NoSpace),
            Err(error) => {
                self.poisoned = true;
                return Err(error.into());
            }
        };
        self.chunks.clear();
        self.chunk_bytes = 0;
        self.record.shrink_to(BUFFER_BYTES * 4);
        let active_bytes = {
            let mut recent = self.shared.recent.write();
            recent.active.absorb(&mut self.staged);
            recent.active_commit = commit;
            recent.active.bytes()
        };
        filler::after_commit(&self.shared, active_bytes)
    }

    /// Bytes staged and not yet flushed.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// The last durable commit.
    #[must_use]
    pub fn last_commit(&self) -> CommitNo {
        self.journal.last()
    }

    /// False after a final failure, of the writer or of the thread behind it.
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.poisoned && !self.shared.failed()
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
}

/// Applies the operations of one journal record to a generation, over what is older.
pub(super) fn apply(
    shared: &Shared,
    generation: &mut Generation,
    chunk: Bytes,
) -> Result<(), StoreError> {
    commit::decode(chunk, |operation| {
        let mut failure = None;
        let applied = generation.apply(operation, |log| {
            reader::bounds(shared, None, log).unwrap_or_else(|error| {
                failure = Some(error);
                Bounds::EMPTY
            })
        });
        match (failure, applied) {
            (Some(error), _) => Err(error),
            (None, false) => Err(StoreError::Damaged("the journal skips a sequence".into())),
            (None, true) => Ok(()),
        }
    })
}
