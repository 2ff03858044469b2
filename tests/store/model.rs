//! The store is a vector per log and a map per table, whatever the filler does behind it and however
//! it is closed.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{prelude::*, test_runner::Config};
use roamd::store::{
    Bounds, Commit, Condition, LogEntry, ROW_BYTES_MAX, ReadLimit, Reader, Store, StoreConfig,
    StoreError, Writer,
    catalogue::{LogKey, LogKind, Table},
};

use crate::place::{ALL, copy, history, inbox, quiet, sent};

const INBOX_ENTRIES: u64 = 20;

#[derive(Clone, Copy, Debug)]
enum Length {
    Small(u8),
    Empty,
    /// So many bytes more than the largest record of a run.
    Boundary(i8),
    Piece,
    Large,
}

#[derive(Clone, Debug)]
enum Change {
    Append(u8, Length),
    FanOut(Vec<u8>, Length),
    Put(u8, u8, Length),
    Delete(u8, u8),
    /// A log, and how far from its end.
    Trim(u8, i8),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>),
    /// A log's head and a row as they are, or not.
    Conditional(u8, u8, bool, Change),
    Burst(u8, u16),
    Flush,
    Settle,
    Close,
    Drop,
    /// The directory is copied as it is and the copy opened: what a kill leaves.
    Kill,
    Look(u8, u16, u8, u16),
    Scan(u8, u8, u8, u8),
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        8 => (0u8..60).prop_map(Length::Small),
        1 => Just(Length::Empty),
        1 => (-1i8..=1).prop_map(Length::Boundary),
        1 => Just(Length::Piece),
        1 => Just(Length::Large),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<u8>(), length()).prop_map(|(log, len)| Change::Append(log, len)),
        2 => (prop::collection::vec(any::<u8>(), 1..6), length())
            .prop_map(|(logs, len)| Change::FanOut(logs, len)),
        3 => (any::<u8>(), any::<u8>(), length()).prop_map(|(t, k, len)| Change::Put(t, k, len)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(t, k)| Change::Delete(t, k)),
        1 => (any::<u8>(), -3i8..90).prop_map(|(log, back)| Change::Trim(log, back)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(change(), 1..6).prop_map(Step::Commit),
        3 => (any::<u8>(), any::<u8>(), any::<bool>(), change())
            .prop_map(|(log, key, holds, change)| Step::Conditional(log, key, holds, change)),
        2 => (any::<u8>(), 1u16..300).prop_map(|(log, count)| Step::Burst(log, count)),
        8 => Just(Step::Flush),
        3 => Just(Step::Settle),
        1 => Just(Step::Close),
        1 => Just(Step::Drop),
        2 => Just(Step::Kill),
        6 => any::<(u8, u16, u8, u16)>().prop_map(|(a, b, c, d)| Step::Look(a, b, c, d)),
        6 => any::<(u8, u8, u8, u8)>().prop_map(|(a, b, c, d)| Step::Scan(a, b, c, d)),
    ]
}

/// Three families; keys of which one is the beginning of another as text.
fn log(number: u8) -> LogKey {
    match number % 8 {
        0 => inbox("a"),
        1 => inbox("ab"),
        2 => inbox("b"),
        3 => history("a"),
        4 => history("ab"),
        5 => sent("a", "b"),
        6 => sent("a", "bc"),
        _ => sent("ab", "c"),
    }
}

fn table(number: u8) -> Table {
    [Table::Member, Table::Device][usize::from(number % 2)]
}

fn key(number: u8) -> Bytes {
    let letter = |n: u8| [b'a', b'b', 0xff][usize::from(n % 3)];
    let key = [letter(number), letter(number / 3), letter(number / 9)];
    Bytes::copy_from_slice(&key[..1 + usize::from(number / 27) % 3])
}

/// Everything there is, as of one moment.
#[derive(Clone, Debug, Default)]
struct Model {
    /// First sequence and all entries ever.
    logs: BTreeMap<LogKey, (u64, Vec<Bytes>)>,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    written: u64,
}

impl Model {
    fn bounds(&self, log: &LogKey) -> Bounds {
        let Some((first, entries)) = self.logs.get(log) else { return Bounds::EMPTY };
        let last = entries.len() as u64;
        let kept = match log.kind() {
            LogKind::Inbox => (last + 1).saturating_sub(INBOX_ENTRIES),
            _ => 1,
        };
        Bounds { first: kept.max(*first), last }
    }

    fn read(&self, log: &LogKey, from: u64, limit: ReadLimit) -> Vec<LogEntry> {
        let bounds = self.bounds(log);
        let mut out = Vec::new();
        let mut bytes = 0;
        for seq in from.max(bounds.first)..=bounds.last {
            let record = self.logs[log].1[seq as usize - 1].clone();
            bytes += record.len();
            if out.len() == limit.entries || (!out.is_empty() && bytes > limit.bytes) {
                break;
            }
            out.push(LogEntry { seq, record: Some(record) });
        }
        out
    }

    fn scan(&self, table: Table, prefix: &[u8], after: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
        let rows = self
            .rows
            .iter()
            .filter(|((of, key), _)| *of == table && key.starts_with(prefix) && key[..] > *after);
        rows.map(|((_, key), row)| (key.clone(), row.clone())).take(limit).collect()
    }

    /// A record unlike all others, of this length.
    fn record(&mut self, length: Length) -> Bytes {
        self.written += 1;
        let bytes = match length {
            Length::Small(bytes) => usize::from(bytes),
            Length::Empty => 0,
            Length::Boundary(more) => (6 * 1024_i32 + i32::from(more)) as usize,
            Length::Piece => 12 * 1024,
            Length::Large => 64 * 1024,
        };
        self.written.to_be_bytes().into_iter().cycle().take(bytes).collect()
    }

    fn append(&mut self, log: LogKey, record: Bytes) {
        self.logs.entry(log).or_insert((1, Vec::new())).1.push(record);
    }

    fn apply(&mut self, change: &Change, commit: &mut Commit) {
        match change {
            Change::Append(number, length) => {
                let record = self.record(*length);
                commit.append(log(*number), record.clone());
                self.append(log(*number), record);
            }
            Change::FanOut(numbers, length) => {
                let kind = log(numbers[0]).kind();
                // The same log may be named twice: it gets the record twice.
                let logs = numbers.iter().map(|n| log(*n)).filter(|log| log.kind() == kind);
                let logs: Vec<_> = logs.collect();
                let record = self.record(*length);
                commit.append_each(logs.clone().into(), record.clone());
                logs.into_iter().for_each(|log| self.append(log, record.clone()));
            }
            Change::Put(number, at, length) => {
                // A row has a limit; a test of its own sees it refused.
                let row = self.record(*length);
                let row = row.slice(..row.len().min(ROW_BYTES_MAX));
                commit.put(table(*number), key(*at), row.clone());
                self.rows.insert((table(*number), key(*at)), row);
            }
            Change::Delete(number, at) => {
                commit.delete(table(*number), key(*at));
                self.rows.remove(&(table(*number), key(*at)));
            }
            Change::Trim(number, back) => {
                let last = self.bounds(&log(*number)).last;
                let first = last.saturating_add_signed(-i64::from(*back));
                commit.trim(log(*number), first);
                if let Some((kept, _)) = self.logs.get_mut(&log(*number)) {
                    *kept = first.min(last + 1).max(*kept);
                }
            }
        }
    }
}

/// What a reader and a writer have in common.
trait View {
    fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError>;
    fn read(&self, log: &LogKey, from: u64, l: ReadLimit) -> Result<Vec<LogEntry>, StoreError>;
    #[rustfmt::skip]
    fn rows(&self, t: Table, p: &[u8], a: &[u8], l: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

macro_rules! view {
    ($type:ty) => {
        impl View for $type {
            fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
                self.bounds(log)
            }
            fn read(
                &self,
                log: &LogKey,
                from: u64,
                l: ReadLimit,
            ) -> Result<Vec<LogEntry>, StoreError> {
                self.read(log, from, l)
            }
            fn rows(
                &self,
                t: Table,
                p: &[u8],
                a: &[u8],
                l: usize,
            ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
                self.rows(t, p, a, l)
            }
        }
    };
}
view!(Reader);
view!(Writer);

fn compare(view: &impl View, model: &Model) -> Result<(), TestCaseError> {
    for number in 0..8 {
        let log = log(number);
        prop_assert_eq!(view.bounds(&log).unwrap(), model.bounds(&log), "{:?}", &log);
        let read = view.read(&log, 0, ALL).unwrap();
        prop_assert!(read == model.read(&log, 0, ALL), "entries of {:?}", log);
    }
    for table in [Table::Member, Table::Device, Table::Counter] {
        let rows = view.rows(table, &[], &[], usize::MAX).unwrap();
        prop_assert!(rows == model.scan(table, &[], &[], usize::MAX), "rows of {:?}", table);
    }
    Ok(())
}

struct Run {
    folder: tempfile::TempDir,
    config: StoreConfig,
    store: Option<(Store, Writer)>,
    copies: u32,
    /// Staged included.
    now: Model,
    durable: Model,
}

impl Run {
    fn new(memory_bytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = quiet(&folder.path().join("data"));
        config.memory_bytes = memory_bytes;
        config.inbox_entries = INBOX_ENTRIES;
        let store = Some(Store::open(&config).unwrap());
        Self { folder, config, store, copies: 0, now: Model::default(), durable: Model::default() }
    }

    fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    fn writer(&mut self) -> &mut Writer {
        &mut self.store.as_mut().unwrap().1
    }

    fn reopen(&mut self) {
        self.store = Some(Store::open(&self.config).unwrap());
        // Numbers of records are not used again, so that old data cannot pass for new.
        let written = self.now.written;
        self.now = Model { written, ..self.durable.clone() };
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Commit(changes) => {
                let mut commit = Commit::new();
                changes.iter().for_each(|change| self.now.apply(change, &mut commit));
                self.writer().stage(&commit).unwrap();
            }
            Step::Conditional(number, at, holds, change) => {
                let mut commit = Commit::new();
                let head = self.now.bounds(&log(*number)).last;
                let row = self.now.rows.get(&(Table::Member, key(*at))).cloned();
                let wrong_row = if row.is_none() { Some("no".into()) } else { None };
                let row = if *holds || at % 2 == 0 { row } else { wrong_row };
                let off = u64::from(!holds && at % 2 == 0);
                commit.require(Condition::Head(log(*number), head + off));
                commit.require(Condition::Row(Table::Member, key(*at), row));
                let mut after = self.now.clone();
                after.apply(change, &mut commit);
                let outcome = self.writer().stage(&commit);
                if *holds {
                    outcome.unwrap();
                    self.now = after;
                } else {
                    prop_assert!(matches!(outcome, Err(StoreError::Conflict)));
                }
            }
            Step::Burst(number, count) => {
                for _ in 0..*count {
                    let mut commit = Commit::new();
                    self.now.apply(&Change::Append(*number, Length::Small(30)), &mut commit);
                    self.writer().stage(&commit).unwrap();
                }
            }
            Step::Flush => {
                self.writer().flush().unwrap();
                self.durable = self.now.clone();
            }
            Step::Settle => self.store().settle().unwrap(),
            Step::Close => {
                let (store, writer) = self.store.take().unwrap();
                store.close(writer).unwrap();
                self.reopen();
            }
            Step::Drop => {
                self.store = None;
                self.reopen();
            }
            Step::Kill => {
                // No round may be under way, or files would be copied from different moments.
                self.store().settle().unwrap();
                self.copies += 1;
                let to = self.folder.path().join(format!("copy{}", self.copies));
                copy(&self.config.dir, &to);
                self.store = None;
                self.config.dir = to;
                self.reopen();
            }
            Step::Look(number, from, entries, bytes) => {
                let log = log(*number);
                let from = u64::from(*from) % (self.now.bounds(&log).last + 3);
                let limit =
                    ReadLimit { entries: usize::from(*entries % 40), bytes: (*bytes).into() };
                let wanted = self.now.read(&log, from, limit);
                prop_assert!(self.writer().read(&log, from, limit).unwrap() == wanted);
                let one = self.now.read(&log, from, ALL).into_iter().find(|e| e.seq == from);
                prop_assert!(self.writer().entry(&log, from).unwrap() == one);
                let wanted = self.durable.read(&log, from, limit);
                prop_assert!(self.store().reader().read(&log, from, limit).unwrap() == wanted);
            }
            Step::Scan(number, prefix, after, limit) => {
                let table = table(*number);
                let all = [Bytes::new()];
                let pick = |n: u8| if n < 60 { all[0].clone() } else { key(n) };
                let (prefix, after, limit) = (pick(*prefix), pick(*after), usize::from(limit % 9));
                let wanted = self.now.scan(table, &prefix, &after, limit);
                prop_assert_eq!(self.writer().rows(table, &prefix, &after, limit).unwrap(), wanted);
                let wanted = self.durable.scan(table, &prefix, &after, limit);
                let reader = self.store().reader();
                prop_assert_eq!(reader.rows(table, &prefix, &after, limit).unwrap(), wanted);
                let row = self.durable.rows.get(&(table, after.clone())).cloned();
                prop_assert_eq!(reader.row(table, &after).unwrap(), row);
            }
        }
        Ok(())
    }
}

/// `PROPTEST_CASES` for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_store_is_vectors_and_maps(
        memory_bytes in prop_oneof![Just(0), Just(5_000), Just(200_000), Just(1 << 30)],
        steps in prop::collection::vec(step(), 1..70),
    ) {
        let mut run = Run::new(memory_bytes);
        for (number, step) in steps.iter().enumerate() {
            run.step(step)?;
            // A whole comparison is slow, so not after every step.
            if number % 8 == 7 || matches!(step, Step::Close | Step::Drop | Step::Kill) {
                compare(&run.store.as_ref().unwrap().1, &run.now)?;
                compare(&run.store().reader(), &run.durable)?;
            }
        }
        run.step(&Step::Flush)?;
        run.step(&Step::Close)?;
        compare(&run.store().reader(), &run.durable)?;
        let mut damaged = Vec::new();
        run.store().check(|tree, key| damaged.push((tree.to_owned(), key.to_vec()))).unwrap();
        prop_assert_eq!(damaged, []);
        let blobs = run.config.dir.join("trees/blobs");
        prop_assert_eq!(blobs.read_dir().unwrap().count(), 0, "sled does not sync its blobs");
    }
}
