//! The journal: the write-ahead log that makes a commit durable.
//!
//! Each commit is one record, written by one `pwrite` and one `fdatasync` into a segment file whose
//! blocks exist already: overwriting initialised blocks costs the disk half of what appending does,
//! because no file metadata changes. Segments are made of zeros once and then recycled.
//!
//! ```text
//!   append(payload) ─▶ [record n] ─▶ pwrite ─▶ fdatasync ─▶ durable: the commit may be acknowledged
//!                         │ no room
//!                         └▶ next segment from the pool (pool.rs), then as above
//!   open(applied)   ─▶ every record after `applied`, in order (replay.rs), or a typed refusal
//!   recycle(applied)─▶ segments that are applied elsewhere become spares
//! ```
//!
//! Invariants:
//! - Commit numbers are dense and begin at 1. Record n + 1 is written only after n is on disk.
//! - What a replay hands out is on disk before it is handed out.
//! - An open never comes back silently short: see `replay.rs` for what is dropped and what is
//!   damage. `record.rs`, `segment.rs` describe every byte.
//! - After the first failure to write or sync, nothing more is accepted ([`JournalError::Poisoned`]).
//!   A full disk is found while a new segment is made, before any byte of the record is written,
//!   and does not poison.
//!
//! One thread owns the [`Journal`] and appends; [`Recycler`]s may live elsewhere. The journal takes
//! no lock on its directory: that only one process opens it is the business of the store.

pub(super) mod disk;
mod error;
mod pool;
mod record;
mod replay;
mod salvage;
mod segment;
mod tail;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;

pub(super) use self::salvage::salvage;
pub use self::{
    error::{Damage, JournalError},
    pool::Recycler,
    tail::read_between,
};
use self::{
    pool::{Pool, Ready, Sealed},
    segment::{Active, BLOCK_BYTES, HEADER_BYTES, Name},
};

/// Longest segment file, in bytes. It bounds what a replay holds in memory at a time.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Shortest segment file.
const SEGMENT_BYTES_MIN: u64 = HEADER_BYTES + BLOCK_BYTES;
/// Largest payload of one commit, in bytes. Larger: [`JournalError::TooLarge`].
pub const PAYLOAD_BYTES_MAX: usize = (SEGMENT_BYTES_MAX - 2 * HEADER_BYTES) as usize;
/// The append buffer is given back to the allocator when one record made it larger than many commits
/// of many writers at once do.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// Number of a commit: dense, 1-based, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitNo(u64);

impl CommitNo {
    /// Before the first.
    pub const ZERO: Self = Self(0);

    /// Wraps a number from the disk.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before this; [`Self::ZERO`] stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for CommitNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the journal lives and how it uses the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// The journal's own directory; made if it does not exist.
    pub dir: PathBuf,
    /// Length of a segment file; rounded up to 4 KiB, at least 8 KiB, at most
    /// [`SEGMENT_BYTES_MAX`]. A larger commit gets a segment of its own size. May change from one
    /// open to the next.
    pub segment_bytes: u64,
    /// Spare segments kept ready; segments given back beyond it are deleted. With 0 each rollover
    /// waits until a segment is made.
    pub segments_spare: usize,
}

impl JournalConfig {
    /// The default sizes: segments of 32 MiB, two spares.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes: 32 * 1024 * 1024, segments_spare: 2 }
    }

    fn file_bytes(&self) -> u64 {
        self.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).next_multiple_of(BLOCK_BYTES)
    }
}

/// See the head of this module.
#[derive(Debug)]
pub struct Journal {
    pool: Arc<Pool>,
    active: Active,
    last: CommitNo,
    buffer: Vec<u8>,
    /// Made for a record that is larger than a segment.
    ready: Option<Ready>,
}

impl Journal {
    /// Opens the journal, or makes a new one if the directory holds none and `applied` is 0.
    ///
    /// Every commit after `applied` goes through `each`, in order and without a gap, and is on disk
    /// by then. Payloads are slices of one buffer per segment: a kept slice keeps its segment's
    /// buffer in memory. When an error is returned, `each` may have seen commits, all of them good.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] when a commit that was acknowledged, or that `applied` names, is
    /// not there; [`JournalError::NewerFormat`]; [`JournalError::Replay`] when `each` fails;
    /// [`JournalError::Io`] and [`JournalError::NoSpace`] from the disk.
    pub fn open<E>(
        config: &JournalConfig,
        applied: CommitNo,
        mut each: impl FnMut(CommitNo, Bytes) -> Result<(), E>,
    ) -> Result<Self, JournalError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (pool, live) = Pool::open(config)?;
        let mut each = |commit, payload| each(commit, payload).map_err(Into::into);
        match replay::replay(&pool, &live, applied, &mut each)? {
            Some((active, last)) => {
                Ok(Self { pool: Arc::new(pool), active, last, buffer: Vec::new(), ready: None })
            }
            None if applied == CommitNo::ZERO => Self::begin(pool, applied),
            None => Err(JournalError::Damaged {
                path: config.dir.clone(),
                offset: 0,
                damage: Damage::Short { last: CommitNo::ZERO, applied },
            }),
        }
    }

    /// Makes a new journal whose first commit will be the one after `applied`, for a store that was
    /// restored or repaired without its journal.
    ///
    /// # Errors
    /// [`JournalError::Exists`] if the directory holds a journal; [`JournalError::Io`] and
    /// [`JournalError::NoSpace`] from the disk.
    pub fn create(config: &JournalConfig, applied: CommitNo) -> Result<Self, JournalError> {
        let (pool, live) = Pool::open(config)?;
        if !live.is_empty() {
            return Err(JournalError::Exists { path: config.dir.clone() });
        }
        Self::begin(pool, applied)
    }

    fn begin(pool: Pool, last: CommitNo) -> Result<Self, JournalError> {
        let active = pool.activate(1, last.next(), pool.file_bytes(0), &mut None)?;
        Ok(Self { pool: Arc::new(pool), active, last, buffer: Vec::new(), ready: None })
    }

    /// Appends one commit. It is durable when this returns.
    ///
    /// # Errors
    /// [`JournalError::NoSpace`] and [`JournalError::TooLarge`]: nothing was written, the journal
    /// goes on. [`JournalError::Io`]: if a write, sync or rename failed, whether the commit will be
    /// there after the next open is unknown and the journal is poisoned; if only a file could not
    /// be opened or made, nothing was written and the next append may succeed.
    /// [`JournalError::Poisoned`] after an earlier failure.
    pub fn append(&mut self, payload: &[u8]) -> Result<CommitNo, JournalError> {
        self.pool.check()?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes: payload.len() });
        }
        let bytes = record::stored_bytes(payload.len()) as u64;
        if bytes > self.active.room() {
            self.roll_over(self.pool.file_bytes(bytes))?;
        }
        let commit = self.last.next();
        let Active { file, path, header, end } = &mut self.active;
        record::encode(&mut self.buffer, commit, header.salt, payload);
        disk::write(file, &self.buffer, *end).map_err(|e| self.pool.poison("write", path, e))?;
        disk::sync(file).map_err(|e| self.pool.poison("sync", path, e))?;
        *end += bytes;
        self.last = commit;
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(commit)
    }

    /// Makes sure that the next append finds room for a payload of `bytes`, or of less.
    ///
    /// # Errors
    /// As [`Journal::append`]. After [`JournalError::NoSpace`] less may still find room.
    pub fn reserve(&mut self, bytes: usize) -> Result<(), JournalError> {
        self.pool.check()?;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes });
        }
        let bytes = record::stored_bytes(bytes) as u64;
        if bytes <= self.active.room() {
            return Ok(());
        }
        self.pool.make_ready(bytes, &mut self.ready)
    }

    /// Whether the segment has room for records of so many bytes in all.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes as u64 <= self.active.room()
    }

    fn roll_over(&mut self, bytes: u64) -> Result<(), JournalError> {
        let number = self.active.header.number + 1;
        let next = self.pool.activate(number, self.last.next(), bytes, &mut self.ready)?;
        let full = std::mem::replace(&mut self.active, next);
        // From here on a missing last segment is missed.
        let seal = full.header.seal(self.active.header.first);
        disk::write(&full.file, &seal, segment::SEAL_AT)
            .and_then(|()| disk::sync(&full.file))
            .map_err(|e| self.pool.poison("seal", &full.path, e))?;
        self.pool.seal(Sealed {
            number: full.header.number,
            last: self.last,
            bytes: full.header.bytes,
            used: full.end,
        });
        Ok(())
    }

    /// Closes a journal whose every commit is applied elsewhere, durably, up to `applied`: of its
    /// segments one is left that has room for next to nothing. If not all are, nothing is done.
    ///
    /// # Errors
    /// As [`Recycler::recycle`]; nothing is lost.
    pub fn rest(mut self, applied: CommitNo) -> Result<(), JournalError> {
        self.pool.check()?;
        if applied < self.last {
            return Ok(());
        }
        if self.active.header.bytes > SEGMENT_BYTES_MIN {
            self.ready = None;
            self.roll_over(SEGMENT_BYTES_MIN)?;
        }
        self.recycler().retire(self.last)
    }

    /// Whether the segment that takes records is one that [`Journal::rest`] left.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.active.header.bytes < self.pool.file_bytes(0)
    }

    /// The newest commit; durable. [`CommitNo::ZERO`] if there was none.
    #[must_use]
    pub fn last(&self) -> CommitNo {
        self.last
    }

    /// A handle that gives segments back, for another thread.
    #[must_use]
    pub fn recycler(&self) -> Recycler {
        Recycler::new(Arc::clone(&self.pool))
    }

    /// Bytes that a replay would read: headers and records of the segments not yet given back.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.active.end + self.pool.sealed_bytes()
    }
}

/// Whether a directory holds any segment that is or was live.
pub(super) fn is_there(dir: &std::path::Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let name = |file: std::fs::DirEntry| Name::parse(file.file_name().to_str()?);
    names.filter_map(name).any(|name| matches!(name, Name::Live(_)))
}

/// Whether such bytes, found in a segment file under this name, are a header, a record, a name of the
/// journal's: for tools that try to break what reads them.
pub(super) fn forms_of(bytes: &[u8]) -> usize {
    let number = record::be_u64(bytes, 16).unwrap_or_default();
    let salt = record::be_u64(bytes, 16).unwrap_or_default();
    let header = segment::Header::decode(bytes, std::path::Path::new("segment"), number).ok();
    let at = record::find(bytes, 0, salt);
    let mut buffer = Vec::new();
    record::encode(&mut buffer, CommitNo::new(number), salt, bytes);
    let own = record::decode(&buffer, 0, salt).map(|record| record.payload);
    assert_eq!(own.and_then(|payload| buffer.get(payload)), Some(bytes));
    let name = std::str::from_utf8(bytes).ok().and_then(segment::Name::parse);
    [header.is_some(), at.is_some(), name.is_some()].map(usize::from).iter().sum()
}
