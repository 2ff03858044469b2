//! The store: logs and tables, and one atomic commit that assigns sequences.
//!
//! Everything the daemon keeps is a **log** (dense 1-based sequence per key) or a **table** (key to
//! row); [`catalogue`] lists them all. A [`Commit`] is an atomic set of changes with conditions.
//! The one [`Writer`] stages commits and makes a group of them durable with one flush; any number
//! of [`Reader`]s see exactly what is durable.
//!
//! Below: a [`journal`] takes each group commit as one record and one fdatasync; memory serves what
//! is recent; a thread moves it into sled trees, many entries of one log as one record. On open the
//! journal is replayed over the trees. No engine type leaves this folder, and every failed write is
//! final (`docs/storage.md`).
//!
//! Data directory: `ROAMD` (identity), `LOCK`, `journal/`, `trees/`, `keys/` (of the daemon).

pub mod catalogue;
pub mod codec;
pub mod fsync;
pub mod journal;

mod build;
mod checkpoint;
mod commit;
mod copy;
mod error;
mod filler;
pub mod forms;
mod guard;
mod memory;
mod reader;
mod relied;
mod salvage;
mod swap;
#[cfg(test)]
mod tests;
mod trees;
mod writer;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};

#[cfg(feature = "simulation")]
pub use self::journal::disk::sim as simulated_disk;
pub use self::{
    build::Builder,
    checkpoint::FORMAT_VERSION,
    commit::{Change, Commit, Condition, RECORD_BYTES_MAX, ROW_BYTES_MAX},
    copy::{Part, Position},
    error::StoreError,
    memory::Bounds,
    reader::{LogEntry, ReadLimit, Reader},
    salvage::{LogLeft, Salvage, Unreadable},
    swap::Site,
    writer::Writer,
};
use self::{
    checkpoint::{Checkpoint, Known},
    copy::Hold,
    filler::FillState,
    journal::{CommitNo, Journal, JournalConfig, JournalError},
    memory::Generation,
    trees::Trees,
};
use crate::{
    id::Epoch,
    planted::{self, Bug},
};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory; made when missing.
    pub dir: PathBuf,
    /// Memory for recent data, what is being moved to the trees included: a move begins when half of
    /// it is in use, writes wait when all of it is.
    pub memory_bytes: usize,
    /// Memory for pages of the trees.
    pub cache_bytes: u64,
    /// Size of a journal segment.
    pub segment_bytes: u64,
    /// Data rests in the journal alone for at most about this long.
    pub checkpoint_interval: Duration,
    /// Inbox entries kept per user. Exact in every answer; on disk the older ones are removed when
    /// the log is next written to the trees.
    pub inbox_entries: u64,
    /// The epoch of a directory that is made now.
    pub new_epoch: Epoch,
}

impl StoreConfig {
    /// The defaults: 192 MiB memory, 256 MiB cache, 32 MiB segments, 5 s; a random epoch.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            memory_bytes: 192 << 20,
            cache_bytes: 256 << 20,
            segment_bytes: 32 << 20,
            checkpoint_interval: Duration::from_secs(5),
            inbox_entries: 1000,
            new_epoch: Epoch::new(rand::random::<u64>().max(1)),
        }
    }
}

/// Newest generations of the data, durable in the journal.
#[derive(Debug)]
struct Recent {
    active: Generation,
    /// The last commit in `active`.
    active_commit: CommitNo,
    /// Being written to the trees, or written and kept as a cache.
    frozen: Arc<Generation>,
    /// What `frozen` takes while it is being written; then 0.
    moving_bytes: usize,
}

/// What the writer, the readers and the filler share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    epoch: Epoch,
    memory_bytes: usize,
    trees: Trees,
    recent: RwLock<Recent>,
    /// Held for reading as long as no newer data may reach the trees; by the filler while it freezes.
    /// Taken before `recent`.
    still: RwLock<()>,
    fill: Mutex<FillState>,
    fill_changed: Condvar,
    /// Kept of the journal for a copy under way.
    hold: Hold,
    failed: AtomicBool,
    abandoned: AtomicBool,
    /// What a replay would read, as of the last flush.
    journal_bytes: AtomicU64,
    #[cfg(test)]
    room: AtomicU64,
    /// What the filler's thread has, when there is none.
    #[cfg(feature = "simulation")]
    inline: Mutex<Option<(journal::Recycler, bool)>>,
    /// Last: nobody else may open the directory while anything above is alive.
    _lock: File,
}

impl Shared {
    fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// What retention by count leaves of a log with such bounds.
    fn kept(&self, kind: catalogue::LogKind, bounds: Bounds) -> Bounds {
        self.trees.kept(kind, bounds)
    }

    /// Bytes that may still be written to the disk.
    fn room(&self) -> Result<u64, StoreError> {
        #[cfg(test)]
        {
            let room = self.room.load(Ordering::SeqCst);
            if room < u64::MAX {
                return Ok(room);
            }
        }
        #[cfg(feature = "simulation")]
        if let Some(room) = journal::disk::sim::room() {
            return Ok(room);
        }
        fs2::available_space(&self.dir).map_err(io("measuring the disk of", &self.dir))
    }
}

/// An open data directory.
///
/// The directory stays taken until the store, its writer and all its readers are dropped.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    filler: Option<JoinHandle<()>>,
}

/// Figures about a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStat {
    /// Bytes of the trees on disk.
    pub trees_bytes: u64,
    /// The last commit that is wholly in the trees.
    pub applied: u64,
    /// Bytes of the journal that the next open would read.
    pub journal_bytes: u64,
    /// Approximate bytes of recent data in memory.
    pub memory_bytes: usize,
}

impl Store {
    /// Opens or makes a data directory, replays the journal, and starts the filler.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, [`StoreError::Format`] for a newer
    /// format, [`StoreError::Damaged`] when something durable is missing or does not check.
    pub fn open(config: &StoreConfig) -> Result<(Self, Writer), StoreError> {
        fsync::bind();
        let dir = &config.dir;
        make_dir(dir)?;
        let lock = lock(dir)?;
        swap::end_interrupted(dir)?;
        let known = Checkpoint::load(dir)?;
        let trees = Trees::open(&dir.join("trees"), config.cache_bytes, config.inbox_entries)?;
        let applied = trees.applied()?;
        if let Some(Known { checkpoint, .. }) = known
            && applied < checkpoint.applied
        {
            return Err(StoreError::Damaged(format!(
                "the trees end at commit {applied}, but were durable up to {}",
                checkpoint.applied
            )));
        }
        if known.is_some() && !journal::is_there(&dir.join("journal")) {
            // Its first segment is older than the file ROAMD, and the last one is never given back.
            return Err(StoreError::Damaged("the journal is missing".into()));
        }
        let epoch = known.map_or(config.new_epoch, |known| known.checkpoint.epoch);
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            epoch,
            memory_bytes: config.memory_bytes,
            trees,
            recent: RwLock::new(Recent {
                active: Generation::default(),
                active_commit: CommitNo::new(applied),
                frozen: Arc::default(),
                moving_bytes: 0,
            }),
            still: RwLock::default(),
            fill: Mutex::default(),
            fill_changed: Condvar::new(),
            hold: Hold::default(),
            failed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            journal_bytes: AtomicU64::new(0),
            #[cfg(test)]
            room: AtomicU64::new(u64::MAX),
            #[cfg(feature = "simulation")]
            inline: Mutex::default(),
            _lock: lock,
        });
        let mut replayed = Generation::default();
        let mut newest = None;
        let journal = Journal::open(
            &JournalConfig {
                dir: dir.join("journal"),
                segment_bytes: config.segment_bytes,
                segments_spare: 2,
            },
            CommitNo::new(applied),
            |_, record| {
                let record = match planted::is(Bug::SequenceReused) {
                    true => newest.replace(record),
                    false => Some(record),
                };
                let replay = |record| writer::replay(&shared.trees, &mut replayed, record);
                record.map_or(Ok(()), replay)
            },
        )?;
        match known {
            None if journal.last() > CommitNo::ZERO => {
                return Err(StoreError::Damaged("the file ROAMD is missing".into()));
            }
            None => Checkpoint { epoch, applied }.save(dir)?,
            // Before anything is written that the older format does not have.
            Some(Known { format, checkpoint }) if format < FORMAT_VERSION => {
                checkpoint.save(dir)?
            }
            Some(_) => {}
        }
        shared.journal_bytes.store(journal.live_bytes(), Ordering::Relaxed);
        {
            let mut recent = shared.recent.write();
            recent.active = replayed;
            recent.active_commit = journal.last();
        }
        let recycler = journal.recycler();
        let rested = journal.rests();
        let interval = config.checkpoint_interval;
        let behind = Arc::clone(&shared);
        #[cfg(feature = "simulation")]
        if journal::disk::sim::is_on() {
            *shared.inline.lock() = Some((recycler, true));
            let writer = Writer::new(Arc::clone(&shared), journal);
            return Ok((Self { shared, filler: None }, writer));
        }
        let filler = std::thread::Builder::new()
            .name("filler".into())
            .spawn(move || filler::run(&behind, &recycler, interval, rested))
            .map_err(io("starting a thread for", dir))?;
        let writer = Writer::new(Arc::clone(&shared), journal);
        Ok((Self { shared, filler: Some(filler) }, writer))
    }

    /// The data set's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// A view of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Pretends that the disk has so much room; the greatest number = what it really has.
    #[cfg(test)]
    pub(crate) fn set_room(&self, bytes: u64) {
        self.shared.room.store(bytes, Ordering::SeqCst);
    }

    /// Figures for people.
    ///
    /// # Errors
    /// When the trees cannot be asked.
    pub fn stat(&self) -> Result<StoreStat, StoreError> {
        let memory_bytes = {
            let recent = self.shared.recent.read();
            recent.active.bytes() + recent.frozen.bytes()
        };
        Ok(StoreStat {
            trees_bytes: self.shared.trees.disk_bytes()?,
            applied: self.shared.trees.applied()?,
            journal_bytes: self.shared.journal_bytes.load(Ordering::Relaxed),
            memory_bytes,
        })
    }

    /// Moves everything that is durable now into the trees, and waits until that is done.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when the disk has no room: nothing was moved, nothing is lost.
    /// [`StoreError::Poisoned`] when it failed, now or before.
    pub fn settle(&self) -> Result<(), StoreError> {
        filler::settle(&self.shared)
    }

    /// Where a copy of this directory is made that is to take its place.
    #[must_use]
    pub fn place_of_copy(&self) -> PathBuf {
        self.shared.dir.join(swap::NEW)
    }

    /// The copy at [`Store::place_of_copy`] is complete and takes the place of what is there now when
    /// the directory is opened next, whatever happens until then. Nothing may have been committed
    /// since the copy began, and nothing must be from now on.
    ///
    /// # Errors
    /// When it cannot be made durable or renamed: then everything stays as it is.
    pub fn replace_by_copy(&self) -> Result<(), StoreError> {
        swap::commit(&self.shared.dir)
    }

    /// Removes what is at [`Store::place_of_copy`], if there is anything.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard_copy(&self) -> Result<(), StoreError> {
        swap::discard(&self.shared.dir)
    }

    /// Reads every value of the trees and reports the damaged ones as (tree, key); returns how many
    /// values there are.
    ///
    /// # Errors
    /// When the trees cannot be read at all.
    pub fn check(&self, report: impl FnMut(&str, &[u8])) -> Result<u64, StoreError> {
        self.shared.trees.check(report)
    }

    /// Moves everything into the trees and closes. What the writer has not flushed is not kept.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] when the last round failed; nothing durable is lost by that.
    pub fn close(mut self, writer: Writer) -> Result<(), StoreError> {
        let journal = writer.into_journal();
        filler::stop(&self.shared);
        if let Some(filler) = self.filler.take() {
            let _ = filler.join();
        }
        if self.shared.failed() {
            return Err(StoreError::Poisoned);
        }
        let applied = CommitNo::new(self.shared.trees.applied()?);
        match journal.rest(self.shared.hold.limit(applied)) {
            // It rests as it is.
            Ok(()) | Err(JournalError::NoSpace { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Store {
    /// Without [`Store::close`] the journal keeps what is not in the trees; the next open replays.
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        filler::stop(&self.shared);
        if let Some(filler) = self.filler.take() {
            let _ = filler.join();
        }
    }
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { what, path: path.to_path_buf(), source }
}

/// Makes a directory and those above it; their names are durable when it returns.
fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match fs::create_dir(dir) {
        Err(error) if !dir.is_dir() => return Err(io("making data directory", dir)(error)),
        _ => {}
    }
    File::open(parent).and_then(|parent| fsync::sync_dir(&parent)).map_err(io("syncing", parent))
}

/// One process per data directory: an exclusive lock that the kernel drops with the process.
fn lock(dir: &Path) -> Result<File, StoreError> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let path = dir.join("LOCK");
    let open = || File::options().create(true).truncate(false).write(true).open(&path);
    let file = open().map_err(io("opening", &path))?;
    match lock_within(&file, PATIENCE) {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_path_buf())),
        Err(fs::TryLockError::Error(source)) => Err(io("locking", &path)(source)),
    }
}

/// Locks a file that may be given back in a moment: a process that is being started holds a copy of
/// every lock of the one that starts it, and sled's own threads keep a file longer than its last
/// handle.
fn lock_within(file: &File, patience: Duration) -> Result<(), fs::TryLockError> {
    const STEP: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if waited < patience => {
                std::thread::park_timeout(STEP);
                waited += STEP;
            }
            outcome => return outcome,
        }
    }
}
