//! A data directory for a test, and the small words the tests share.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use roamd::{
    id::{ConversationId, DeviceId, Epoch, UserId},
    store::{
        Commit, LogEntry, ReadLimit, Reader, Store, StoreConfig, StoreError, Writer,
        catalogue::LogKey,
    },
};

/// Everything there is.
pub const ALL: ReadLimit = ReadLimit { entries: usize::MAX, bytes: usize::MAX };

/// A temporary data directory and how it is opened.
pub struct Place {
    folder: tempfile::TempDir,
    pub config: StoreConfig,
}

impl Place {
    /// Quiet: nothing moves to the trees unless a test asks for it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = quiet(&folder.path().join("data"));
        Self { folder, config }
    }

    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    pub fn open(&self) -> (Store, Writer) {
        Store::open(&self.config).unwrap()
    }

    pub fn try_open(&self) -> Result<(Store, Writer), StoreError> {
        Store::open(&self.config)
    }

    /// A copy of the directory as it is now: what a kill leaves, if nothing is being written.
    pub fn copied(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        copy(&self.config.dir, &to);
        to
    }
}

pub fn quiet(dir: &Path) -> StoreConfig {
    StoreConfig {
        memory_bytes: 1 << 30,
        cache_bytes: 8 << 20,
        segment_bytes: 256 << 10,
        checkpoint_interval: Duration::from_secs(3600),
        inbox_entries: 1000,
        new_epoch: Epoch::new(7),
        ..StoreConfig::new(dir)
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn inbox(user: &str) -> LogKey {
    LogKey::inbox(&UserId::new(user).unwrap())
}

pub fn history(conversation: &str) -> LogKey {
    LogKey::history(&ConversationId::new(conversation).unwrap())
}

pub fn sent(user: &str, device: &str) -> LogKey {
    LogKey::sent(&UserId::new(user).unwrap(), &DeviceId::new(device).unwrap())
}

/// A record that says who it is.
pub fn record(number: u64) -> Bytes {
    Bytes::from(format!("record {number}"))
}

/// Appends records `numbers` to a log, each in a commit of its own, and flushes.
pub fn append(writer: &mut Writer, log: &LogKey, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let mut commit = Commit::new();
        commit.append(log.clone(), record(number));
        writer.stage(&commit).unwrap();
    }
    writer.flush().unwrap();
}

pub fn trim(writer: &mut Writer, log: &LogKey, first: u64) {
    let mut commit = Commit::new();
    commit.trim(log.clone(), first);
    writer.stage(&commit).unwrap();
    writer.flush().unwrap();
}

pub fn entries(numbers: std::ops::RangeInclusive<u64>) -> Vec<LogEntry> {
    numbers.map(|seq| LogEntry { seq, record: Some(record(seq)) }).collect()
}

pub fn read(reader: &Reader, log: &LogKey, from: u64) -> Vec<LogEntry> {
    reader.read(log, from, ALL).unwrap()
}
