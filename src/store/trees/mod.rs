//! The sled trees: where logs and tables rest. The only folder that calls the engine.
//!
//! A log's entries are stored as runs: key = log key and the sequence of the run's first entry,
//! value = several entries. Runs of one log do not overlap. Values carry a checksum over key and
//! value ([`value`]), and have at most 6 KiB and a little, because sled does not sync the files it uses for large
//! pages; larger records are split into pieces. What is written in which order, and what an interrupted
//! write leaves, is told in [`write`].
//!
//! Every call is fenced: a panic of the engine is an error here ([`super::guard`]).

mod gaps;
mod salvage;
mod tidy;
mod value;
mod whole;
mod write;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};

pub(super) use self::{gaps::Gap, value::unseal};
use self::{
    value::{BoundsRow, Run, bounds_key, piece_prefix, run_key, run_seq, same_log, seal},
    write::{Changes, LogWrites},
};
use super::{
    catalogue::{LogKey, LogKind, Table},
    codec::{put_varint, read_varint},
    error::StoreError,
    fsync,
    guard::{Fenced, guarded},
    lock_within,
    memory::Bounds,
};

const APPLIED: &[u8] = b"applied";
/// sled counts a page as long as it is on disk, rounded up to a power of two. Pages of small rows take up
/// to so many times as much of memory; pages of runs take less, but those that were read once are counted
/// late, 64 at a time in each of 256 parts.
const CACHE_FACTOR: u64 = 3;
/// How long the threads of a database that was closed just now may keep its file.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Trees {
    logs: [sled::Tree; LogKind::ALL.len()],
    tables: [sled::Tree; Table::ALL.len()],
    /// Log family byte and log key → first, last, lowest run still stored.
    bounds: sled::Tree,
    /// Pieces of split records: family byte, log key, sequence, piece number.
    pieces: sled::Tree,
    meta: sled::Tree,
    inbox_entries: u64,
    /// Groups of changes until a simulated crash.
    #[cfg(test)]
    pub(super) batches_left: std::sync::atomic::AtomicU64,
    #[cfg(feature = "simulation")]
    path: std::path::PathBuf,
    /// Last: the engine ends with it.
    db: Fenced<sled::Db>,
}

/// One tree for each name, in order.
fn open_each<const N: usize>(
    names: [&'static str; N],
    open: impl Fn(&str) -> Result<sled::Tree, sled::Error>,
) -> Result<[sled::Tree; N], sled::Error> {
    let trees = names.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
    Ok(trees.try_into().expect("as many trees as names"))
}

impl Trees {
    pub(super) fn open(
        path: &Path,
        cache_bytes: u64,
        inbox_entries: u64,
    ) -> Result<Self, StoreError> {
        remove_unfinished_snapshots(path)?;
        if let Ok(file) = File::open(path.join("db")) {
            // Somebody else's lock is reported by sled.
            let _ = lock_within(&file, PATIENCE);
        }
        let trees = guarded("opening the trees", || {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes / CACHE_FACTOR)
                .mode(sled::Mode::HighThroughput)
                .flush_every_ms(None)
                .open()?;
            let tree = |name: &str| db.open_tree(name);
            Ok(Self {
                logs: open_each(LogKind::ALL.map(LogKind::tree), tree)?,
                tables: open_each(Table::ALL.map(Table::tree), tree)?,
                bounds: tree("bounds")?,
                pieces: tree("pieces")?,
                meta: tree("meta")?,
                inbox_entries,
                #[cfg(test)]
                batches_left: std::sync::atomic::AtomicU64::new(u64::MAX),
                #[cfg(feature = "simulation")]
                path: path.to_owned(),
                db: Fenced::new(db),
            })
        })?;
        // sled makes its files without making their names durable.
        File::open(path).and_then(|dir| fsync::sync_dir(&dir)).map_err(|source| {
            StoreError::Io { what: "syncing", path: path.to_path_buf(), source }
        })?;
        Ok(trees)
    }

    /// The last commit that is wholly in the trees and durable there.
    pub(super) fn applied(&self) -> Result<u64, StoreError> {
        guarded("reading the trees", || match self.meta.get(APPLIED)? {
            None => Ok(0),
            Some(value) => {
                let mut row = unseal(APPLIED, &value).ok_or_else(|| damaged("meta"))?;
                Ok(read_varint(&mut row)?)
            }
        })
    }

    /// Records that everything up to `commit` is in the trees. The caller has flushed before.
    pub(super) fn set_applied(&self, commit: u64) -> Result<(), StoreError> {
        self.step()?;
        let mut row = BytesMut::new();
        put_varint(&mut row, commit);
        guarded("writing the trees", || {
            self.meta.insert(APPLIED, seal(APPLIED, &row))?;
            Ok(())
        })
    }

    /// Durable when it returns (see [`super::fsync`]).
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.step()?;
        guarded("flushing the trees", || {
            self.db.flush()?;
            Ok(())
        })?;
        #[cfg(feature = "simulation")]
        super::journal::disk::sim::trees_flushed(&self.path).map_err(self.failed())?;
        Ok(())
    }

    #[cfg(feature = "simulation")]
    fn failed(&self) -> impl Fn(std::io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::Io { what: "writing", path: path.clone(), source }
    }

    /// Counts down to a simulated crash; in the product it does nothing.
    fn step(&self) -> Result<(), StoreError> {
        #[cfg(feature = "simulation")]
        super::journal::disk::sim::trees_step().map_err(self.failed())?;
        #[cfg(test)]
        {
            use std::sync::atomic::Ordering;
            let left = self.batches_left.fetch_sub(1, Ordering::SeqCst);
            if left == 0 {
                self.batches_left.store(0, Ordering::SeqCst);
                return Err(StoreError::Poisoned);
            }
        }
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        guarded("measuring the trees", || Ok(self.db.size_on_disk()?))
    }

    /// What retention by count leaves of such bounds.
    pub(super) fn kept(&self, kind: LogKind, bounds: Bounds) -> Bounds {
        match kind {
            LogKind::Inbox => {
                let first = bounds.last.saturating_add(1).saturating_sub(self.inbox_entries);
                Bounds { first: bounds.first.max(first), ..bounds }
            }
            _ => bounds,
        }
    }

    pub(super) fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        guarded("reading bounds", || {
            Ok(self.bounds_row(log)?.map_or(Bounds::EMPTY, |row| row.bounds))
        })
    }

    /// Bounds of a log, retention by count included.
    pub(super) fn kept_bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        Ok(self.kept(log.kind(), self.bounds(log)?))
    }

    fn bounds_row(&self, log: &LogKey) -> Result<Option<BoundsRow>, StoreError> {
        let key = bounds_key(log);
        match self.bounds.get(&key)? {
            None => Ok(None),
            Some(value) => BoundsRow::read(&key, &value).map(Some).ok_or_else(|| damaged("bounds")),
        }
    }

    pub(super) fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        guarded("reading a row", || match self.tables[table as usize].get(key)? {
            None => Ok(None),
            Some(value) => unseal(key, &value).map(Some).ok_or_else(|| damaged(table.tree())),
        })
    }

    /// Gives at most `most` rows whose key starts with `prefix` and is greater than `after`, in key
    /// order; none for one that is damaged.
    pub(super) fn rows(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        most: usize,
        mut each: impl FnMut(Bytes, Option<Bytes>),
    ) -> Result<(), StoreError> {
        let start = if after > prefix { after } else { prefix };
        guarded("reading rows", || {
            let mut left = most;
            for item in self.tables[table as usize].range(start..) {
                let (key, value) = item?;
                if left == 0 || !key.starts_with(prefix) {
                    break;
                }
                if key[..] != *after {
                    each(Bytes::copy_from_slice(&key), unseal(&key, &value));
                    left -= 1;
                }
            }
            Ok(())
        })
    }

    /// Every log of a family that has a bounds row, with its bounds; none when they are damaged.
    pub(super) fn logs(
        &self,
        kind: LogKind,
    ) -> Result<BTreeMap<LogKey, Option<Bounds>>, StoreError> {
        guarded("listing logs", || {
            let mut logs = BTreeMap::new();
            for item in self.bounds.scan_prefix([kind as u8]) {
                let (key, value) = item?;
                let row = BoundsRow::read(&key, &value);
                logs.insert(log_of(kind, &key), row.map(|row| row.bounds));
            }
            Ok(logs)
        })
    }

    /// Gives entries `from..=to` in order, until `take` says no; says whether it never did. What
    /// should be there and is not, or is damaged, comes as none.
    pub(super) fn read(
        &self,
        log: &LogKey,
        from: u64,
        to: u64,
        mut take: impl FnMut(u64, Option<Bytes>) -> bool,
    ) -> Result<bool, StoreError> {
        let tree = &self.logs[log.kind() as usize];
        guarded("reading a log", || {
            let mut next = from;
            let start = match tree.range(..=run_key(log, from)).next_back().transpose()? {
                Some((key, _)) if same_log(&key, log) => key.to_vec(),
                _ => run_key(log, from),
            };
            for item in tree.range(start..=run_key(log, to)) {
                let (key, value) = item?;
                let Some(first) = run_seq(&key) else { continue };
                while next < first && next <= to {
                    if !take(next, None) {
                        return Ok(false);
                    }
                    next += 1;
                }
                for (seq, record) in (first..).zip(self.run(log, first, &key, &value)?) {
                    if seq < next {
                        continue;
                    }
                    if seq > to {
                        return Ok(true);
                    }
                    if !take(seq, Some(record)) {
                        return Ok(false);
                    }
                    next = seq + 1;
                }
            }
            while next <= to {
                if !take(next, None) {
                    return Ok(false);
                }
                next += 1;
            }
            Ok(true)
        })
    }

    /// The entries of one run; no entries when it is damaged.
    fn run(
        &self,
        log: &LogKey,
        first: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<Bytes>, StoreError> {
        match Run::read(key, value) {
            None => Ok(Vec::new()),
            Some(Run::Entries(entries)) => Ok(entries),
            Some(Run::Split(len)) => Ok(Vec::from_iter(self.split_record(log, first, len)?)),
        }
    }

    fn split_record(&self, log: &LogKey, seq: u64, len: u64) -> Result<Option<Bytes>, StoreError> {
        let mut record = BytesMut::new();
        for item in self.pieces.scan_prefix(piece_prefix(log, seq)) {
            let (key, value) = item?;
            match unseal(&key, &value) {
                Some(piece) => record.put_slice(&piece),
                None => return Ok(None),
            }
        }
        Ok((record.len() as u64 == len).then(|| record.freeze()))
    }

    /// Everything as it stands: tree, key, value.
    #[cfg(test)]
    pub(super) fn dump(&self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        for name in self.db.tree_names() {
            for item in self.db.open_tree(&name).unwrap().iter() {
                let (key, value) = item.unwrap();
                let name = String::from_utf8_lossy(&name).into_owned();
                all.push((name, key.to_vec(), value.to_vec()));
            }
        }
        all.sort();
        all
    }

    /// Replaces a value by bytes that do not check.
    #[cfg(test)]
    pub(super) fn damage_bounds(&self, log: &LogKey) {
        self.bounds.insert(bounds_key(log), b"damaged").unwrap();
    }

    /// Reads every value once and reports those that do not check or have no valid form, as (tree,
    /// key); returns how many values there are.
    pub(super) fn check(&self, mut report: impl FnMut(&str, &[u8])) -> Result<u64, StoreError> {
        let logs = LogKind::ALL.map(|kind| (kind.tree(), &self.logs[kind as usize]));
        let tables = Table::ALL.map(|table| (table.tree(), &self.tables[table as usize]));
        let own = [("bounds", &self.bounds), ("pieces", &self.pieces), ("meta", &self.meta)];
        guarded("checking the trees", || {
            let mut values = 0;
            for (name, tree) in logs.into_iter().chain(tables).chain(own) {
                for item in tree.iter() {
                    let (key, value) = item?;
                    values += 1;
                    let valid = match name {
                        "bounds" => BoundsRow::read(&key, &value).is_some(),
                        _ if LogKind::ALL.iter().any(|kind| kind.tree() == name) => {
                            run_seq(&key).is_some() && Run::read(&key, &value).is_some()
                        }
                        _ => unseal(&key, &value).is_some(),
                    };
                    if !valid {
                        report(name, &key);
                    }
                }
            }
            Ok(values)
        })
    }
}

/// How many of the trees' own forms such bytes have, under such a key.
pub(super) fn forms_of(key: &[u8], body: &[u8]) -> usize {
    let value = seal(key, body);
    let run = match Run::read(key, &value) {
        Some(Run::Entries(entries)) => {
            let mut again = Run::begin();
            entries.iter().for_each(|entry| Run::add(&mut again, entry));
            let again = seal(key, &again);
            assert_eq!(Run::read(key, &again), Some(Run::Entries(entries)));
            1
        }
        split => usize::from(split.is_some()),
    };
    let bounds = BoundsRow::read(key, &value).inspect(|row| {
        assert_eq!(BoundsRow::read(key, &seal(key, &row.body())).as_ref(), Some(row));
    });
    run + usize::from(bounds.is_some())
}

/// The log of a bounds key.
fn log_of(kind: LogKind, key: &[u8]) -> LogKey {
    LogKey::of(kind, Bytes::copy_from_slice(key.get(1..).unwrap_or_default()))
}

pub(super) fn damaged(tree: &str) -> StoreError {
    StoreError::Damaged(format!("a value of tree {tree} does not match its checksum"))
}

/// A kill while sled writes a snapshot leaves `snap.*.generating`, which keeps it from opening.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    let Ok(files) = fs::read_dir(path) else { return Ok(()) };
    for file in files.flatten() {
        let name = file.file_name();
        if name.to_string_lossy().ends_with(".generating") {
            fs::remove_file(file.path()).map_err(|source| StoreError::Io {
                what: "removing unfinished snapshot",
                path: file.path(),
                source,
            })?;
        }
    }
    Ok(())
}
