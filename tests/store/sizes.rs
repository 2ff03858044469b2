//! Sizes of records and rows: every record up to the limit comes back, whatever form it has on disk.
//!
//! Cause: two rows of 64 KiB in one page of sled made a page that sled keeps in a file it does not
//! sync. Fix: a row has a limit, and pieces are small enough for any page.

use bytes::Bytes;
use roamd::store::{
    Commit, LogEntry, RECORD_BYTES_MAX, ROW_BYTES_MAX, StoreError, catalogue::Table,
};

use crate::place::{ALL, Place, history};

fn filled(bytes: usize) -> Bytes {
    bytes.to_be_bytes().into_iter().cycle().take(bytes).collect()
}

#[test]
fn records_of_every_size_come_back() {
    let place = Place::new();
    let (store, mut writer) = place.open();
    let edge = 6 * 1024;
    let sizes = [0, 1, edge - 1, edge, edge + 1, 7 * 1024, 2 * edge, 2 * edge + 1, 64 * 1024];
    let sizes: Vec<usize> = sizes.into_iter().chain([RECORD_BYTES_MAX, 3, 0]).collect();
    for bytes in &sizes {
        let mut commit = Commit::new();
        commit.append(history("c"), filled(*bytes));
        writer.stage(&commit).unwrap();
    }
    writer.flush().unwrap();
    let expected: Vec<LogEntry> =
        (1..).zip(&sizes).map(|(seq, n)| LogEntry { seq, record: Some(filled(*n)) }).collect();
    assert!(store.reader().read(&history("c"), 1, ALL).unwrap() == expected);
    store.close(writer).unwrap();
    let (store, _writer) = place.open();
    assert!(store.reader().read(&history("c"), 1, ALL).unwrap() == expected);
}

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let place = Place::new();
    let (store, mut writer) = place.open();
    let mut row = Commit::new();
    row.append(history("c"), "first".into());
    row.put(Table::Counter, "k".into(), filled(ROW_BYTES_MAX + 1));
    let refused = writer.stage(&row);
    assert!(matches!(refused, Err(StoreError::TooLarge { what: "row", .. })), "{refused:?}");
    let mut record = Commit::new();
    record.append(history("c"), filled(RECORD_BYTES_MAX + 1));
    let refused = writer.stage(&record);
    assert!(matches!(refused, Err(StoreError::TooLarge { what: "record", .. })), "{refused:?}");
    writer.flush().unwrap();
    assert_eq!(store.reader().bounds(&history("c")).unwrap().last, 0);
}

/// Pages split and merge while values of the largest size come and go.
#[test]
fn no_page_needs_a_file_that_sled_does_not_sync() {
    let place = Place::new();
    let (store, mut writer) = place.open();
    for round in 0..6_u64 {
        let mut commit = Commit::new();
        for n in 0..60_u64 {
            let key = Bytes::from(format!("{:0>120}", (n * 37 + round) % 60));
            match (n * 7 + round * 11) % 3 {
                0 => commit.delete(Table::Member, key),
                _ => commit.put(Table::Member, key, filled(ROW_BYTES_MAX)),
            }
            commit.append(history(&"c".repeat(64)), filled(13 * ROW_BYTES_MAX));
        }
        commit.trim(history(&"c".repeat(64)), round * 55);
        writer.stage(&commit).unwrap();
        writer.flush().unwrap();
        store.settle().unwrap();
        let blobs = place.dir().join("trees/blobs").read_dir().unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
}
