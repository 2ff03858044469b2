//! What is trimmed is gone for every reader, whether its rows still stand somewhere or not.
//!
//! Cause: reads went below the first sequence, so that a trimmed entry came back, or, once its row
//! was removed, as a damaged one. Fix: the bounds decide what a read covers.

use roamd::store::Bounds;

use crate::place::{Place, append, entries, history, inbox, read, trim};

#[test]
fn trimmed_entries_are_gone_not_damaged() {
    let place = Place::new();
    let log = history("c");
    let (store, mut writer) = place.open();
    append(&mut writer, &log, 1..=300);
    trim(&mut writer, &log, 250);
    let check = |reader: &roamd::store::Reader| {
        assert_eq!(reader.bounds(&log).unwrap(), Bounds { first: 250, last: 300 });
        assert_eq!(read(reader, &log, 1), entries(250..=300));
        assert_eq!(reader.entry(&log, 249).unwrap(), None);
        assert_eq!(reader.entry(&log, 301).unwrap(), None);
    };
    check(&store.reader());
    store.close(writer).unwrap();
    let (store, writer) = place.open();
    check(&store.reader());
    store.close(writer).unwrap();
    let (store, _writer) = place.open();
    check(&store.reader());
}

#[test]
fn retention_by_count_is_exact_in_memory_and_on_disk() {
    let mut place = Place::new();
    place.config.inbox_entries = 10;
    let log = inbox("a");
    let (store, mut writer) = place.open();
    append(&mut writer, &log, 1..=200);
    assert_eq!(store.reader().bounds(&log).unwrap(), Bounds { first: 191, last: 200 });
    assert_eq!(read(&store.reader(), &log, 1), entries(191..=200));
    store.close(writer).unwrap();
    let (store, mut writer) = place.open();
    assert_eq!(read(&store.reader(), &log, 1), entries(191..=200));
    append(&mut writer, &log, 201..=205);
    assert_eq!(read(&store.reader(), &log, 1), entries(196..=205));
}

#[test]
fn a_trim_stops_at_the_end_and_never_goes_back() {
    let place = Place::new();
    let log = history("c");
    let (store, mut writer) = place.open();
    trim(&mut writer, &log, 40);
    assert_eq!(store.reader().bounds(&log).unwrap(), Bounds { first: 1, last: 0 });
    append(&mut writer, &log, 1..=10);
    trim(&mut writer, &log, 40);
    trim(&mut writer, &log, 3);
    assert_eq!(store.reader().bounds(&log).unwrap(), Bounds { first: 11, last: 10 });
    assert_eq!(read(&store.reader(), &log, 1), []);
    append(&mut writer, &log, 11..=12);
    drop((store, writer));
    let (store, _writer) = place.open();
    assert_eq!(store.reader().bounds(&log).unwrap(), Bounds { first: 11, last: 12 });
    assert_eq!(read(&store.reader(), &log, 1), entries(11..=12));
}
