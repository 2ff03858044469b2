//! The files behind the journal: which segments are sealed, which are spare, and how one becomes
//! the other.
//!
//! ```text
//!   made and zeroed ──sync, rename──▶ spare ──header, sync, rename, sync dir──▶ live
//!   (spare-N.new)                    (spare-N) ◀──rename, sync dir── (applied)  (segment-N)
//! ```
//! Invariants: a name says what a file is only after everything that makes it true is on disk, so a
//! crash between any two steps leaves a file of the earlier kind. A segment that was given back is
//! used again only after its new name is on disk; otherwise the power cut could show the old name
//! over the new content.
//!
//! The appending thread takes spares, any other thread gives segments back; they share one short
//! mutex, which is never held during I/O.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    CommitNo, JournalConfig, JournalError, SEGMENT_BYTES_MAX, disk, error,
    segment::{Active, BLOCK_BYTES, HEADER_BYTES, Header, Name},
};

/// A live segment that takes no more records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub number: u64,
    /// Every record in it is at or before this commit.
    pub last: CommitNo,
    /// Length of the file.
    pub bytes: u64,
    /// Bytes of it that a replay needs.
    pub used: u64,
}

/// A file of zeros that will be the next segment, larger than a spare.
#[derive(Debug)]
pub(super) struct Ready {
    file: File,
    path: PathBuf,
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    /// In order of number.
    sealed: VecDeque<Sealed>,
    /// Ids of spares, all of `segment_bytes`.
    spares: Vec<u64>,
    next_spare: u64,
}

/// See the head of this module.
#[derive(Debug)]
pub(super) struct Pool {
    dir: PathBuf,
    dir_handle: File,
    segment_bytes: u64,
    spares_max: usize,
    poisoned: AtomicBool,
    /// Held while segments are given back or spares are made; never by the appending thread, which
    /// may make one spare more.
    upkeep: Mutex<()>,
    state: Mutex<State>,
}

impl Pool {
    /// Opens the directory, makes it if needed, clears what a crash left, and makes sure that every
    /// name in it is durable. Returns the numbers of the live segments in order.
    pub fn open(config: &JournalConfig) -> Result<(Self, Vec<u64>), JournalError> {
        let dir = config.dir.clone();
        fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
        let full = dir.canonicalize().map_err(io_error("find", &dir))?;
        if let Some(parent) = full.parent() {
            let handle = File::open(parent).map_err(io_error("open", parent))?;
            disk::sync_dir(&handle).map_err(io_error("sync", parent))?;
        }
        let dir_handle = File::open(&dir).map_err(io_error("open", &dir))?;
        let pool = Self {
            dir_handle,
            segment_bytes: config.file_bytes(),
            spares_max: config.segments_spare,
            poisoned: AtomicBool::new(false),
            upkeep: Mutex::new(()),
            state: Mutex::default(),
            dir,
        };
        let live = pool.list()?;
        disk::sync_dir(&pool.dir_handle).map_err(io_error("sync", &pool.dir))?;
        Ok((pool, live))
    }

    fn list(&self) -> Result<Vec<u64>, JournalError> {
        let read = io_error("read", &self.dir);
        let mut live = Vec::new();
        let mut state = self.state.lock();
        for entry in fs::read_dir(&self.dir).map_err(&read)? {
            let entry = entry.map_err(&read)?;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str().and_then(Name::parse) else { continue };
            let path = entry.path();
            match name {
                Name::Live(number) => live.push(number),
                Name::Spare(id) => {
                    state.next_spare = state.next_spare.max(id.saturating_add(1));
                    let bytes = entry.metadata().map_err(io_error("look at", &path))?.len();
                    if bytes == self.segment_bytes && state.spares.len() < self.spares_max {
                        state.spares.push(id);
                    } else {
                        disk::remove(&path).map_err(io_error("remove", &path))?;
                    }
                }
                Name::Unfinished(id) => {
                    state.next_spare = state.next_spare.max(id.saturating_add(1));
                    disk::remove(&path).map_err(io_error("remove", &path))?;
                }
            }
        }
        live.sort_unstable();
        Ok(live)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses when an earlier failure left the disk in an unknown state.
    pub fn check(&self) -> Result<(), JournalError> {
        if self.poisoned.load(Ordering::SeqCst) { Err(JournalError::Poisoned) } else { Ok(()) }
    }

    /// Poisons the journal and wraps the failure that did it.
    pub fn poison(&self, action: &'static str, path: &Path, source: io::Error) -> JournalError {
        self.poisoned.store(true, Ordering::SeqCst);
        JournalError::Io { action, path: path.to_owned(), source }
    }

    /// As [`Self::poison`], except that a full disk is no reason to stop: only a file that nobody
    /// needs yet was being written.
    fn poison_unless_full(
        &self,
        action: &'static str,
        path: &Path,
        source: io::Error,
    ) -> JournalError {
        if error::is_no_space(&source) {
            return JournalError::NoSpace { path: path.to_owned(), source };
        }
        self.poison(action, path, source)
    }

    pub fn seal(&self, sealed: Sealed) {
        self.state.lock().sealed.push_back(sealed);
    }

    /// Bytes of the sealed segments that a replay needs.
    pub fn sealed_bytes(&self) -> u64 {
        self.state.lock().sealed.iter().map(|sealed| sealed.used).sum()
    }

    /// Makes the live segment `number`, whose first commit is `first`, at least `bytes` long
    /// ([`Self::file_bytes`]). It is durable, empty and named when this returns.
    pub fn activate(
        &self,
        number: u64,
        first: CommitNo,
        mut bytes: u64,
        ready: &mut Option<Ready>,
    ) -> Result<Active, JournalError> {
        let live = Name::Live(number).path(&self.dir);
        let salt = getrandom::u64()
            .map_err(|error| io_error("draw a salt for", &live)(io::Error::other(error)))?;
        let (file, path) = match self.take_spare(bytes)? {
            Some(spare) => spare,
            None => match ready.take_if(|ready| ready.bytes >= bytes) {
                Some(ready) => {
                    bytes = ready.bytes;
                    (ready.file, ready.path)
                }
                None => self.make(bytes)?,
            },
        };
        let header = Header { number, first, bytes, salt };
        let named = disk::write(&file, &header.encode(), 0)
            .and_then(|()| disk::sync(&file))
            .and_then(|()| disk::rename(&path, &live));
        if let Err(source) = named {
            self.discard(&path);
            return Err(self.poison_unless_full("name", &live, source));
        }
        disk::sync_dir(&self.dir_handle).map_err(|e| self.poison("sync", &self.dir, e))?;
        Ok(Active { file, path: live, header, end: HEADER_BYTES })
    }

    /// Length of a segment with room for a record of `record` bytes.
    pub fn file_bytes(&self, record: u64) -> u64 {
        self.segment_bytes.max((HEADER_BYTES + record).next_multiple_of(BLOCK_BYTES))
    }

    /// Makes sure that [`Self::activate`] finds a file for a record of `record` bytes.
    pub fn make_ready(&self, record: u64, ready: &mut Option<Ready>) -> Result<(), JournalError> {
        let bytes = self.file_bytes(record);
        if bytes == self.segment_bytes {
            return if self.state.lock().spares.is_empty() { self.make_spare() } else { Ok(()) };
        }
        if ready.as_ref().is_some_and(|ready| ready.bytes >= bytes) {
            return Ok(());
        }
        // A group that grows does not ask for a new file with every commit.
        let bytes = bytes.next_power_of_two().clamp(bytes, SEGMENT_BYTES_MAX.max(bytes));
        let (file, path) = self.make(bytes)?;
        if let Some(smaller) = ready.replace(Ready { file, path, bytes }) {
            self.discard(&smaller.path);
        }
        Ok(())
    }

    fn take_spare(&self, bytes: u64) -> Result<Option<(File, PathBuf)>, JournalError> {
        if bytes != self.segment_bytes {
            return Ok(None);
        }
        let Some(id) = self.state.lock().spares.pop() else { return Ok(None) };
        let path = Name::Spare(id).path(&self.dir);
        match disk::open(&path) {
            Ok(file) => Ok(Some((file, path))),
            Err(source) => {
                self.state.lock().spares.push(id);
                Err(JournalError::Io { action: "open", path, source })
            }
        }
    }

    /// Makes a file of zeros, durable but for its name.
    fn make(&self, bytes: u64) -> Result<(File, PathBuf), JournalError> {
        let path = {
            let mut state = self.state.lock();
            let id = state.next_spare;
            state.next_spare = id.saturating_add(1);
            Name::Unfinished(id).path(&self.dir)
        };
        let file = disk::create(&path).map_err(|source| {
            if error::is_no_space(&source) {
                return JournalError::NoSpace { path: path.clone(), source };
            }
            JournalError::Io { action: "make", path: path.clone(), source }
        })?;
        if let Err(source) = disk::write_zeros(&file, 0..bytes).and_then(|()| disk::sync(&file)) {
            self.discard(&path);
            return Err(self.poison_unless_full("fill", &path, source));
        }
        Ok((file, path))
    }

    /// Removes a file that is of no use. If that fails too, the next open does it.
    fn discard(&self, path: &Path) {
        let _ = disk::remove(path);
    }

    fn give_back(&self, applied: CommitNo) -> Result<(), JournalError> {
        let mut spares = Vec::new();
        let mut changed = false;
        let mut outcome = Ok(());
        loop {
            let (sealed, keep, id) = {
                let mut state = self.state.lock();
                let Some(sealed) = state.sealed.front().copied() else { break };
                if sealed.last > applied {
                    break;
                }
                let wanted = state.spares.len() + spares.len() < self.spares_max;
                let id = state.next_spare;
                state.next_spare = id.saturating_add(1);
                (sealed, wanted && sealed.bytes == self.segment_bytes, id)
            };
            let path = Name::Live(sealed.number).path(&self.dir);
            let gone = if keep {
                disk::rename(&path, &Name::Spare(id).path(&self.dir))
            } else {
                disk::remove(&path)
            };
            if let Err(source) = gone {
                outcome = Err(self.poison_unless_full("give back", &path, source));
                break;
            }
            changed = true;
            if keep {
                spares.push(id);
            }
            self.state.lock().sealed.pop_front();
        }
        if changed {
            disk::sync_dir(&self.dir_handle).map_err(|e| self.poison("sync", &self.dir, e))?;
            self.state.lock().spares.extend(spares);
        }
        outcome
    }

    fn prepare_spares(&self) -> Result<(), JournalError> {
        while self.state.lock().spares.len() < self.spares_max {
            self.make_spare()?;
        }
        Ok(())
    }

    fn remove_spares(&self) {
        let spares = std::mem::take(&mut self.state.lock().spares);
        spares.into_iter().for_each(|id| self.discard(&Name::Spare(id).path(&self.dir)));
    }

    fn make_spare(&self) -> Result<(), JournalError> {
        let (_, path) = self.make(self.segment_bytes)?;
        let id = match path.file_name().and_then(|name| name.to_str()).and_then(Name::parse) {
            Some(Name::Unfinished(id)) => id,
            _ => return Ok(()),
        };
        if let Err(source) = disk::rename(&path, &Name::Spare(id).path(&self.dir)) {
            self.discard(&path);
            return Err(self.poison_unless_full("name", &path, source));
        }
        // The name need not be durable: the live name that replaces it will be.
        self.state.lock().spares.push(id);
        Ok(())
    }
}

/// Gives applied segments back and keeps spares ready, from any thread, while the journal appends.
///
/// It belongs to the journal it came from: do not use it once the directory is opened again.
#[derive(Clone, Debug)]
pub struct Recycler {
    pool: Arc<Pool>,
}

impl Recycler {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// Gives back the sealed segments whose every record is at or before `applied`, and makes the
    /// spares that are missing, so that an append finds one ready.
    ///
    /// `applied` must already be durable as the checkpoint that the next open is given. The segment
    /// that takes records is never given back. Call it after each checkpoint, and whenever the
    /// journal may have rolled over: without a spare the append makes its own segment, which takes
    /// as long as writing one.
    ///
    /// # Errors
    /// [`JournalError::NoSpace`] when a spare cannot be made; nothing is lost, and what could be
    /// given back was. [`JournalError::Poisoned`] after an earlier failure. [`JournalError::Io`]
    /// otherwise; if a write, sync or rename failed, it poisons the journal.
    pub fn recycle(&self, applied: CommitNo) -> Result<(), JournalError> {
        let _upkeep = self.pool.upkeep.lock();
        self.pool.check()?;
        self.pool.give_back(applied)?;
        self.pool.prepare_spares()
    }

    /// As [`Recycler::recycle`], for a journal that is about to rest: nothing is kept ready.
    ///
    /// # Errors
    /// As [`Recycler::recycle`].
    pub fn retire(&self, applied: CommitNo) -> Result<(), JournalError> {
        let _upkeep = self.pool.upkeep.lock();
        self.pool.check()?;
        self.pool.give_back(applied)?;
        self.pool.remove_spares();
        Ok(())
    }
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> JournalError + 'a {
    move |source| JournalError::Io { action, path: path.to_owned(), source }
}
