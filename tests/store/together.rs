//! Readers beside the writer and the filler: a log is whole at every moment.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use roamd::store::{Commit, ReadLimit, Reader, catalogue::Table};

use crate::place::{ALL, Place, history, inbox, record};

const INBOX_ENTRIES: u64 = 150;
const COMMITS: u64 = 6_000;

/// Reads a log in pages, as a session does, and all of it, as a tool does.
fn watch(reader: &Reader, durable: &AtomicU64, done: &AtomicBool) -> u64 {
    let mut reads = 0;
    let logs = [history("c"), inbox("a"), history("quiet")];
    let mut cursors = [0u64; 3];
    while !done.load(Ordering::Acquire) {
        for (log, cursor) in logs.iter().zip(&mut cursors) {
            let quiet = *log == history("quiet");
            let at_least = durable.load(Ordering::Acquire) / if quiet { 1000 } else { 1 };
            let page = ReadLimit { entries: 1 + (reads as usize * 7) % 60, bytes: 4096 };
            let limit = if reads % 5 == 0 { ALL } else { page };
            let from = if reads % 5 == 0 { 1 } else { *cursor + 1 };
            let entries = reader.read(log, from, limit).unwrap();
            for (entry, next) in entries.iter().zip(entries.first().map_or(1, |e| e.seq)..) {
                assert_eq!(entry.seq, next, "{log:?}: not contiguous");
                assert_eq!(entry.record, Some(record(next)), "{log:?} {next}");
            }
            let newest = entries.last().map_or(from - 1, |entry| entry.seq);
            if limit.entries == ALL.entries {
                assert!(newest >= at_least, "{log:?}: {at_least} was durable, {newest} read");
            }
            match entries.first() {
                // Only retention may pass a cursor.
                Some(first) if first.seq > from => {
                    assert!(*log == inbox("a"), "{log:?}: {from} is missing");
                    assert!(first.seq <= reader.bounds(log).unwrap().first);
                }
                Some(_) => {}
                None => assert!(from > at_least, "{log:?}: {from} is missing"),
            }
            *cursor = newest;
            reads += 1;
        }
        // Both rows of a commit or none.
        let rows = reader.rows(Table::Counter, b"", b"", 10).unwrap();
        assert!(rows.windows(2).all(|pair| pair[0].1 == pair[1].1), "{rows:?}");
    }
    reads
}

#[test]
fn a_log_is_whole_at_every_moment() {
    let mut place = Place::new();
    place.config.memory_bytes = 3_000;
    place.config.inbox_entries = INBOX_ENTRIES;
    place.config.checkpoint_interval = Duration::from_millis(1);
    let (store, mut writer) = place.open();
    let (durable, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let reader = store.reader();
    std::thread::scope(|scope| {
        let watchers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| watch(&reader, &durable, &done))).collect();
        for number in 1..=COMMITS {
            let mut commit = Commit::new();
            commit.append_each([history("c")].into(), record(number));
            commit.append(inbox("a"), record(number));
            if number.is_multiple_of(1000) {
                commit.append(history("quiet"), record(number / 1000));
            }
            for key in ["a", "z"] {
                commit.put(Table::Counter, key.into(), record(number));
            }
            writer.stage(&commit).unwrap();
            if number.is_multiple_of(4) {
                writer.flush().unwrap();
                durable.store(number, Ordering::Release);
            }
            if watchers.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        done.store(true, Ordering::Release);
        for watcher in watchers {
            assert!(watcher.join().unwrap() > 100, "a reader was kept waiting");
        }
    });
}
