//! Making a data directory from what another one held: for restore, import and compaction.
//!
//! The directory is made under a name of the caller's and is worth nothing until
//! [`Builder::finish`] has returned; then every byte and every name in it is durable.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use bytes::Bytes;

use super::{
    StoreConfig,
    catalogue::{LogKey, Table},
    checkpoint::Checkpoint,
    error::StoreError,
    fsync, io,
    journal::{CommitNo, Journal, JournalConfig},
    lock_within, make_dir,
    memory::{Bounds, Generation},
    trees::Trees,
    writer,
};
use crate::id::Epoch;

/// Bytes gathered before they are written.
const STEP_BYTES: usize = 1 << 20;
/// Room that must be left on the disk after each step: sled must never meet a full disk.
const ROOM_BYTES: u64 = 64 << 20;
/// How long the threads of the trees may keep a file after they are closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A data directory being made.
#[derive(Debug)]
pub struct Builder {
    config: StoreConfig,
    trees: Trees,
    /// What commits came to and the trees do not have yet.
    replayed: Generation,
    /// Gathered and not yet written.
    bytes: usize,
    values: Vec<(String, Vec<u8>, Vec<u8>)>,
    log: Option<(LogKey, u64)>,
    entries: Vec<Option<Bytes>>,
    table: Option<Table>,
    rows: Vec<(Bytes, Option<Bytes>)>,
}

impl Builder {
    /// Begins in `config.dir`, which is made and must not have anything in it.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`]; any other when the directory cannot be made.
    pub fn begin(config: &StoreConfig) -> Result<Self, StoreError> {
        fsync::bind();
        let dir = &config.dir;
        make_dir(dir)?;
        if fs::read_dir(dir).map_err(io("reading", dir))?.next().is_some() {
            return Err(StoreError::NotEmpty(dir.clone()));
        }
        let trees = Trees::open(&dir.join("trees"), config.cache_bytes, config.inbox_entries)?;
        Ok(Self {
            config: config.clone(),
            trees,
            replayed: Generation::default(),
            bytes: 0,
            values: Vec::new(),
            log: None,
            entries: Vec::new(),
            table: None,
            rows: Vec::new(),
        })
    }

    /// A value as [`super::Part::Value`] had it.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], or what the trees say.
    pub fn value(&mut self, tree: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.values.push((tree.to_owned(), key.to_vec(), value.to_vec()));
        self.grown(key.len() + value.len())
    }

    /// A commit as [`super::Part::Commit`] had it; in order, after all values.
    ///
    /// # Errors
    /// As [`Builder::value`]; [`StoreError::Damaged`] when it does not follow what is there.
    pub fn commit(&mut self, operations: Bytes) -> Result<(), StoreError> {
        self.write()?;
        writer::replay(&self.trees, &mut self.replayed, operations)?;
        if self.replayed.bytes() >= self.config.memory_bytes { self.round() } else { Ok(()) }
    }

    /// A log and what is kept of it; none = its bounds are damaged. Its entries follow.
    ///
    /// # Errors
    /// As [`Builder::value`].
    pub fn log(&mut self, log: &LogKey, bounds: Option<Bounds>) -> Result<(), StoreError> {
        self.write()?;
        self.log = bounds.map(|bounds| (log.clone(), bounds.first));
        self.trees.put_bounds(log, bounds)
    }

    /// The next entry of the log that was named last; none = a hole. Of a log whose bounds are
    /// damaged nothing can be kept.
    ///
    /// # Errors
    /// As [`Builder::value`].
    pub fn entry(&mut self, record: Option<Bytes>) -> Result<(), StoreError> {
        if self.log.is_none() {
            return Ok(());
        }
        let bytes = record.as_ref().map_or(0, Bytes::len);
        self.entries.push(record);
        self.grown(bytes)
    }

    /// A row; none = a damaged one.
    ///
    /// # Errors
    /// As [`Builder::value`].
    pub fn row(&mut self, table: Table, key: Bytes, row: Option<Bytes>) -> Result<(), StoreError> {
        if self.table != Some(table) {
            self.write()?;
            self.table = Some(table);
        }
        let bytes = key.len() + row.as_ref().map_or(0, Bytes::len);
        self.rows.push((key, row));
        self.grown(bytes)
    }

    fn grown(&mut self, bytes: usize) -> Result<(), StoreError> {
        // Something for the list itself.
        self.bytes += bytes + 16;
        if self.bytes >= STEP_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what was gathered.
    fn write(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.bytes) == 0 {
            return Ok(());
        }
        self.check_room()?;
        let values = std::mem::take(&mut self.values);
        self.trees.put_values(
            values.iter().map(|(tree, key, value)| (&tree[..], &key[..], &value[..])),
        )?;
        if let Some((log, next)) = &mut self.log {
            let entries = std::mem::take(&mut self.entries);
            let first = *next;
            *next += entries.len() as u64;
            self.trees.put_entries(log, first, entries)?;
        }
        if let Some(table) = self.table {
            self.trees.put_rows(table, &std::mem::take(&mut self.rows))?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<(), StoreError> {
        self.check_room()?;
        self.trees.write(&std::mem::take(&mut self.replayed), true)
    }

    fn check_room(&self) -> Result<(), StoreError> {
        let dir = &self.config.dir;
        let room = fs2::available_space(dir).map_err(io("measuring the disk of", dir))?;
        if room < ROOM_BYTES { Err(StoreError::NoSpace) } else { Ok(()) }
    }

    /// Ends: the directory is whole, durable and can be opened.
    ///
    /// # Errors
    /// As [`Builder::value`].
    pub fn finish(mut self, epoch: Epoch, commit: u64) -> Result<(), StoreError> {
        self.write()?;
        self.round()?;
        self.trees.flush()?;
        self.trees.set_applied(commit)?;
        self.trees.flush()?;
        let dir = self.config.dir.clone();
        let journal = JournalConfig {
            dir: dir.join("journal"),
            segment_bytes: self.config.segment_bytes,
            segments_spare: 0,
        };
        drop(self.trees);
        let database = dir.join("trees/db");
        let file = File::open(&database).map_err(io("opening", &database))?;
        lock_within(&file, PATIENCE).map_err(|_| StoreError::InUse(dir.clone()))?;
        drop(Journal::create(&journal, CommitNo::new(commit))?);
        Checkpoint { epoch, applied: commit }.save(&dir)?;
        sync_all(&dir)
    }
}

/// Makes every file and every name below a directory durable.
pub(super) fn sync_all(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(io("reading", dir))? {
        let path = entry.map_err(io("reading", dir))?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| fsync::sync_data(&file))
                .map_err(io("syncing", &path))?;
        }
    }
    File::open(dir).and_then(|names| fsync::sync_dir(&names)).map_err(io("syncing", dir))
}
