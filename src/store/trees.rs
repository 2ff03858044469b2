//! The sled trees: where logs and tables rest. The only file that calls the engine.
//!
//! A log's entries are stored as runs: key = log key and the sequence of the run's first entry,
//! value = several entries. Runs do not overlap: a crash may leave runs that the journal will write
//! again under another split, and the first write after opening removes those. Values carry a checksum over key and value, and stay below 8 KiB, above which sled
//! uses files that it does not sync; larger records are split into pieces.

use std::{path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    catalogue::{LogKey, LogKind, Table},
    codec::{Malformed, put_slice, put_varint, read_slice, read_u8, read_varint},
    error::StoreError,
    memory::{Bounds, Generation, Tail},
};

/// A run is closed when it has so many bytes.
const RUN_BYTES_MAX: usize = 4 * 1024;
/// A run is closed when it has so many entries.
const RUN_ENTRIES_MAX: usize = 256;
/// A record above this size is split.
const RECORD_BYTES_MAX: usize = 6 * 1024;
/// Size of a piece of a split record.
const PIECE_BYTES: usize = 7 * 1024;
/// Changes given to sled at once.
const BATCH_CHANGES: usize = 512;
/// Trimmed runs of one log are removed when so many sequences are below its first.
const SWEEP_SLACK: u64 = 64;

const RUN: u8 = 1;
const SPLIT: u8 = 2;
const APPLIED: &[u8] = b"applied";

/// One entry as read: its sequence and record; none = stored damaged or missing.
pub(super) type Read = (u64, Option<Bytes>);

#[derive(Debug)]
pub(super) struct Trees {
    db: sled::Db,
    logs: [sled::Tree; LogKind::ALL.len()],
    tables: [sled::Tree; Table::ALL.len()],
    /// Log family byte and log key → first, last, lowest run still stored.
    bounds: sled::Tree,
    /// Pieces of split records: family byte, log key, sequence, piece number.
    pieces: sled::Tree,
    meta: sled::Tree,
    inbox_entries: u64,
}

impl Trees {
    pub(super) fn open(
        path: &Path,
        cache_bytes: u64,
        inbox_entries: u64,
    ) -> Result<Self, StoreError> {
        remove_unfinished_snapshots(path)?;
        let db = open_db(
            &sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes)
                .mode(sled::Mode::HighThroughput)
                .flush_every_ms(None),
        )?;
        let tree = |name: &str| db.open_tree(name);
        Ok(Self {
            logs: [
                tree(LogKind::Inbox.tree())?,
                tree(LogKind::History.tree())?,
                tree(LogKind::Sent.tree())?,
            ],
            tables: [
                tree(Table::Conversation.tree())?,
                tree(Table::Membership.tree())?,
                tree(Table::Member.tree())?,
                tree(Table::Device.tree())?,
                tree(Table::SentException.tree())?,
                tree(Table::Counter.tree())?,
            ],
            bounds: tree("bounds")?,
            pieces: tree("pieces")?,
            meta: tree("meta")?,
            db,
            inbox_entries,
        })
    }

    /// The last commit that is wholly in the trees and durable there.
    pub(super) fn applied(&self) -> Result<u64, StoreError> {
        match self.meta.get(APPLIED)? {
            None => Ok(0),
            Some(value) => {
                let mut row = unseal(APPLIED, &value).ok_or_else(|| damaged("meta row"))?;
                Ok(read_varint(&mut row)?)
            }
        }
    }

    /// Records that everything up to `commit` is in the trees. The caller has flushed before.
    pub(super) fn set_applied(&self, commit: u64) -> Result<(), StoreError> {
        let mut row = BytesMut::new();
        put_varint(&mut row, commit);
        self.meta.insert(APPLIED, seal(APPLIED, &row))?;
        Ok(())
    }

    /// Durable when it returns (see [`super::fsync`]).
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.db.size_on_disk()?)
    }

    pub(super) fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        Ok(self.bounds_row(log)?.map_or(Bounds::EMPTY, |(bounds, _)| bounds))
    }

    fn bounds_row(&self, log: &LogKey) -> Result<Option<(Bounds, u64)>, StoreError> {
        let key = bounds_key(log);
        let Some(value) = self.bounds.get(&key)? else { return Ok(None) };
        let mut row = unseal(&key, &value).ok_or_else(|| damaged("bounds row"))?;
        let first = read_varint(&mut row)?;
        let last = read_varint(&mut row)?;
        let lowest = read_varint(&mut row)?;
        Ok(Some((Bounds { first, last }, lowest)))
    }

    pub(super) fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.tables[table as usize].get(key)? {
            None => Ok(None),
            Some(value) => unseal(key, &value).map(Some).ok_or_else(|| damaged(table.tree())),
        }
    }

    /// Rows whose key starts with `prefix` and is greater than `after`, in key order.
    pub(super) fn rows(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> {
        let start = if after > prefix { after.to_vec() } else { prefix.to_vec() };
        let skip = after.to_vec();
        let prefix = prefix.to_vec();
        self.tables[table as usize]
            .range(start..)
            .take_while(move |item| item.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
            .filter(move |item| item.as_ref().map_or(true, |(key, _)| key[..] != skip[..]))
            .map(move |item| {
                let (key, value) = item?;
                let row = unseal(&key, &value).ok_or_else(|| damaged(table.tree()))?;
                Ok((Bytes::copy_from_slice(&key), row))
            })
    }

    /// Every log of a family that has a bounds row, with its bounds.
    pub(super) fn logs(
        &self,
        kind: LogKind,
    ) -> impl Iterator<Item = Result<(LogKey, Bounds), StoreError>> {
        self.bounds.scan_prefix([kind as u8]).map(move |item| {
            let (key, value) = item?;
            let mut row = unseal(&key, &value).ok_or_else(|| damaged("bounds row"))?;
            let bounds = Bounds { first: read_varint(&mut row)?, last: read_varint(&mut row)? };
            Ok((LogKey::from_parts(kind, Bytes::copy_from_slice(&key[1..])), bounds))
        })
    }

    /// Reads entries `from..=to` in order into `out`, until `more` says no. What should be there
    /// and is not, or is damaged, comes as none.
    pub(super) fn read(
        &self,
        log: &LogKey,
        from: u64,
        to: u64,
        mut take: impl FnMut(Read) -> bool,
    ) -> Result<(), StoreError> {
        let tree = &self.logs[log.kind() as usize];
        let mut next = from;
        let start = match tree.range(..=run_key(log, from)).next_back().transpose()? {
            Some((key, _)) if same_log(&key, log) => key.to_vec(),
            _ => run_key(log, from),
        };
        for item in tree.range(start..=run_key(log, to)) {
            let (key, value) = item?;
            let Some(first) = run_seq(&key) else { continue };
            while next < first && next <= to {
                if !take((next, None)) {
                    return Ok(());
                }
                next += 1;
            }
            let Some(entries) = self.run(log, first, &key, &value)? else { continue };
            for (index, record) in entries.into_iter().enumerate() {
                let seq = first + index as u64;
                if seq < next {
                    continue;
                }
                if seq > to || !take((seq, Some(record))) {
                    return Ok(());
                }
                next = seq + 1;
            }
        }
        while next <= to {
            if !take((next, None)) {
                return Ok(());
            }
            next += 1;
        }
        Ok(())
    }

    /// The entries of one run; none when it is damaged.
    fn run(
        &self,
        log: &LogKey,
        first: u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<Bytes>>, StoreError> {
        let Some(mut body) = unseal(key, value) else { return Ok(None) };
        let mut parse = || -> Result<(u8, Vec<Bytes>, u64), Malformed> {
            let form = read_u8(&mut body)?;
            if form == SPLIT {
                return Ok((form, Vec::new(), read_varint(&mut body)?));
            }
            let mut entries = Vec::new();
            while !body.is_empty() {
                entries.push(read_slice(&mut body)?);
            }
            Ok((form, entries, 0))
        };
        match parse() {
            Ok((RUN, entries, _)) => Ok(Some(entries)),
            Ok((SPLIT, _, len)) => Ok(self.split_record(log, first, len)?.map(|r| vec![r])),
            _ => Ok(None),
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

    /// Writes a generation. Not durable until [`Trees::flush`]; harmless to repeat.
    ///
    /// `reopened` tells that this is the first write since opening: runs that an interrupted write
    /// left above what counts as applied are removed.
    pub(super) fn write(&self, generation: &Generation, reopened: bool) -> Result<(), StoreError> {
        for kind in LogKind::ALL {
            let tree = &self.logs[kind as usize];
            let mut runs = Batch::new(tree);
            let mut pieces = Batch::new(&self.pieces);
            let mut bounds = Batch::new(&self.bounds);
            for (key, tail) in generation.logs(kind) {
                let log = LogKey::from_parts(kind, key.clone());
                if reopened {
                    for key in
                        tree.range(run_key(&log, tail.start)..=run_key(&log, u64::MAX)).keys()
                    {
                        runs.remove(&key?)?;
                    }
                    runs.finish()?;
                }
                write_runs(&log, tail, &mut runs, &mut pieces)?;
                let lowest = match self.bounds_row(&log)? {
                    Some((_, lowest)) => lowest,
                    None => tail.start,
                };
                let first = match kind {
                    LogKind::Inbox => {
                        tail.first.max((tail.last() + 1).saturating_sub(self.inbox_entries))
                    }
                    LogKind::History | LogKind::Sent => tail.first,
                };
                let lowest = self.sweep(&log, lowest, first, &mut runs, &mut pieces)?;
                let mut row = BytesMut::new();
                put_varint(&mut row, first);
                put_varint(&mut row, tail.last());
                put_varint(&mut row, lowest);
                bounds.insert(&bounds_key(&log), &row)?;
            }
            pieces.finish()?;
            runs.finish()?;
            bounds.finish()?;
        }
        for table in Table::ALL {
            let mut batch = Batch::new(&self.tables[table as usize]);
            for (key, row) in generation.rows(table) {
                match row {
                    Some(row) => batch.insert(key, row)?,
                    None => batch.remove(key)?,
                }
            }
            batch.finish()?;
        }
        Ok(())
    }

    /// Removes runs that lie wholly below the log's first sequence; returns the lowest run left.
    fn sweep(
        &self,
        log: &LogKey,
        lowest: u64,
        log_first: u64,
        runs: &mut Batch<'_>,
        pieces: &mut Batch<'_>,
    ) -> Result<u64, StoreError> {
        if log_first <= lowest.saturating_add(SWEEP_SLACK) {
            return Ok(lowest);
        }
        let tree = &self.logs[log.kind() as usize];
        let mut previous: Option<(sled::IVec, u64, bool)> = None;
        let mut left = lowest;
        for item in tree.range(run_key(log, lowest)..=run_key(log, log_first)) {
            let (key, value) = item?;
            let Some(first) = run_seq(&key) else { continue };
            // The run before ends below this one, which starts at or below `log_first`.
            if let Some((old_key, old_first, split)) = previous.take() {
                runs.remove(&old_key)?;
                left = first;
                if split {
                    for piece in self.pieces.scan_prefix(piece_prefix(log, old_first)).keys() {
                        pieces.remove(&piece?)?;
                    }
                }
            }
            previous = Some((key, first, value.first() == Some(&SPLIT)));
        }
        Ok(left)
    }

    /// Reads every value once and reports what is damaged, by tree.
    pub(super) fn check(&self, mut report: impl FnMut(&str, &[u8])) -> Result<u64, StoreError> {
        let mut values = 0;
        let named = LogKind::ALL
            .iter()
            .map(|kind| (kind.tree(), &self.logs[*kind as usize]))
            .chain(Table::ALL.iter().map(|t| (t.tree(), &self.tables[*t as usize])))
            .chain([("bounds", &self.bounds), ("pieces", &self.pieces), ("meta", &self.meta)]);
        for (name, tree) in named {
            for item in tree.iter() {
                let (key, value) = item?;
                values += 1;
                if unseal(&key, &value).is_none() {
                    report(name, &key);
                }
            }
        }
        Ok(values)
    }
}

fn write_runs(
    log: &LogKey,
    tail: &Tail,
    runs: &mut Batch<'_>,
    pieces: &mut Batch<'_>,
) -> Result<(), StoreError> {
    let mut run = BytesMut::new();
    let mut run_first = tail.start;
    let mut count = 0;
    for (index, record) in tail.entries.iter().enumerate() {
        let seq = tail.start + index as u64;
        let split = record.len() > RECORD_BYTES_MAX;
        let full = run.len() + record.len() > RUN_BYTES_MAX || count == RUN_ENTRIES_MAX;
        if count > 0 && (split || full) {
            runs.insert(&run_key(log, run_first), &run)?;
            run.clear();
            count = 0;
        }
        if split {
            for (number, piece) in record.chunks(PIECE_BYTES).enumerate() {
                let mut key = piece_prefix(log, seq);
                key.put_u16(number as u16);
                pieces.insert(&key, piece)?;
            }
            let mut value = BytesMut::new();
            value.put_u8(SPLIT);
            put_varint(&mut value, record.len() as u64);
            runs.insert(&run_key(log, seq), &value)?;
            continue;
        }
        if count == 0 {
            run_first = seq;
            run.put_u8(RUN);
        }
        put_slice(&mut run, record);
        count += 1;
    }
    if count > 0 {
        runs.insert(&run_key(log, run_first), &run)?;
    }
    Ok(())
}

/// Gathers changes of one tree and hands them over in bounded batches.
struct Batch<'a> {
    tree: &'a sled::Tree,
    batch: sled::Batch,
    changes: usize,
}

impl<'a> Batch<'a> {
    fn new(tree: &'a sled::Tree) -> Self {
        Self { tree, batch: sled::Batch::default(), changes: 0 }
    }

    fn insert(&mut self, key: &[u8], body: &[u8]) -> Result<(), StoreError> {
        self.batch.insert(key, seal(key, body));
        self.grown()
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.batch.remove(key);
        self.grown()
    }

    fn grown(&mut self) -> Result<(), StoreError> {
        self.changes += 1;
        if self.changes == BATCH_CHANGES { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.changes = 0;
        self.tree.apply_batch(std::mem::take(&mut self.batch))?;
        Ok(())
    }
}

/// The stored form of a value: its bytes and a CRC-32C over key and bytes (so that a value found
/// under another key is damage too).
fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(body.len() + 4);
    value.extend_from_slice(body);
    value.extend_from_slice(&checksum(key, body).to_be_bytes());
    value
}

fn unseal(key: &[u8], value: &[u8]) -> Option<Bytes> {
    let (body, sum) = value.split_last_chunk::<4>()?;
    (checksum(key, body) == u32::from_be_bytes(*sum)).then(|| Bytes::copy_from_slice(body))
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

fn bounds_key(log: &LogKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + log.bytes().len());
    key.push(log.kind() as u8);
    key.extend_from_slice(log.bytes());
    key
}

fn run_key(log: &LogKey, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + log.bytes().len());
    key.extend_from_slice(log.bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

fn run_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq))
}

fn same_log(key: &[u8], log: &LogKey) -> bool {
    key.len() == log.bytes().len() + 8 && key.starts_with(log.bytes())
}

fn piece_prefix(log: &LogKey, seq: u64) -> Vec<u8> {
    let mut key = bounds_key(log);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(format!("checksum of a {what} record does not match"))
}

/// Opens sled, waiting for a database of this process that was dropped a moment ago.
///
/// sled does not join its threads when it is dropped, and they keep its lock for as long as they
/// work. Nobody else can hold it: whoever opens the trees has the data directory's own lock.
fn open_db(config: &sled::Config) -> Result<sled::Db, StoreError> {
    const TRIES: u32 = 500;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::park_timeout(PAUSE);
            }
            other => return Ok(other?),
        }
    }
    Ok(config.open()?)
}

/// A kill while sled writes a snapshot leaves `snap.*.generating`, which keeps it from opening.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    let Ok(files) = std::fs::read_dir(path) else { return Ok(()) };
    for file in files.flatten() {
        let name = file.file_name();
        if name.to_string_lossy().ends_with(".generating") {
            std::fs::remove_file(file.path()).map_err(|source| StoreError::Io {
                what: "removing unfinished snapshot",
                path: file.path(),
                source,
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::mpsc, thread, time::Duration};

    use super::*;

    /// Cause: sled keeps its lock until its threads are done, which is after it was dropped, so that
    /// closing and opening again in one process failed now and then. The fix is to wait.
    #[test]
    fn opening_waits_for_the_lock_of_a_database_that_is_still_closing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Trees::open(dir.path(), 1 << 20, 10).unwrap());
        let closing = File::options().write(true).open(dir.path().join("db")).unwrap();
        closing.lock().unwrap();
        let (done, opened) = mpsc::channel();
        let path = dir.path().to_path_buf();
        let opener = thread::spawn(move || {
            let result = Trees::open(&path, 1 << 20, 10).map(drop);
            done.send(result.is_ok()).unwrap();
        });
        let waiting = opened.recv_timeout(Duration::from_millis(50));
        assert_eq!(waiting, Err(mpsc::RecvTimeoutError::Timeout));
        drop(closing);
        assert_eq!(opened.recv(), Ok(true));
        opener.join().unwrap();
    }
}
