//! Tests of what cannot be reached from outside: interruptions inside a round of the filler, a disk
//! without room, damage of one log, rows that the writer knows.

mod full;
mod interrupted;
mod relied;
mod tidied;

use std::time::Duration;

use bytes::Bytes;

use super::{
    Bounds, Commit, LogEntry, ReadLimit, Store, StoreConfig, Writer,
    catalogue::{LogKey, LogKind, Table},
};
use crate::id::{ConversationId, DeviceId, UserId};

const ALL: ReadLimit = ReadLimit { entries: usize::MAX, bytes: usize::MAX };

/// A store in which nothing moves to the trees unless asked.
fn quiet(dir: &std::path::Path) -> StoreConfig {
    StoreConfig {
        memory_bytes: 1 << 30,
        cache_bytes: 8 << 20,
        segment_bytes: 1 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        inbox_entries: 20,
        ..StoreConfig::new(dir)
    }
}

fn inbox(number: u64) -> LogKey {
    LogKey::inbox(&UserId::new(&format!("u{number}")).unwrap())
}

fn history(number: u64) -> LogKey {
    LogKey::history(&ConversationId::new(&format!("c{number}")).unwrap())
}

fn sent(number: u64) -> LogKey {
    let user = UserId::new(&format!("u{number}")).unwrap();
    LogKey::sent(&user, &DeviceId::new("phone").unwrap())
}

/// Everything that can be seen of a store.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    logs: Vec<(LogKey, Bounds, Vec<LogEntry>)>,
    rows: Vec<(Table, Bytes, Bytes)>,
}

fn seen(store: &Store) -> Seen {
    let reader = store.reader();
    let mut seen = Seen { logs: Vec::new(), rows: Vec::new() };
    for kind in LogKind::ALL {
        for (log, bounds) in reader.logs(kind).unwrap() {
            let bounds = bounds.unwrap();
            assert_eq!(reader.bounds(&log).unwrap(), bounds, "{log:?}");
            let entries = reader.read(&log, 1, ALL).unwrap();
            seen.logs.push((log, bounds, entries));
        }
    }
    for table in Table::ALL {
        let rows = reader.rows(table, &[], &[], usize::MAX).unwrap();
        seen.rows.extend(rows.into_iter().map(|(key, row)| (table, key, row)));
    }
    seen
}

fn commit(writer: &mut Writer, build: impl FnOnce(&mut Commit)) {
    let mut commit = Commit::new();
    build(&mut commit);
    writer.stage(&commit).unwrap();
}
