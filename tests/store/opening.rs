//! Who may open a data directory, and what is refused.

use std::{fs, sync::mpsc, time::Duration};

use roamd::store::{Commit, Store, StoreError};

use crate::place::{Place, append, history};

#[test]
fn a_second_instance_is_refused_while_anything_of_the_first_lives() {
    let place = Place::new();
    let (store, writer) = place.open();
    let reader = store.reader();
    let in_use = || matches!(place.try_open(), Err(StoreError::InUse(_)));
    assert!(in_use());
    drop(store);
    assert!(in_use(), "the writer could still write");
    drop(writer);
    assert!(in_use(), "the reader still has the trees open");
    drop(reader);
    place.open();
}

#[test]
fn a_writer_that_outlives_its_store_is_refused_and_never_waits() {
    let mut place = Place::new();
    place.config.memory_bytes = 0;
    let (store, mut writer) = place.open();
    append(&mut writer, &history("c"), 1..=1);
    drop(store);
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let mut commit = Commit::new();
        commit.append(history("c"), "late".into());
        let _ = writer.stage(&commit);
        done.send(matches!(writer.flush(), Err(StoreError::Poisoned))).unwrap();
    });
    assert_eq!(outcome.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let place = Place::new();
    let (store, writer) = place.open();
    store.close(writer).unwrap();
    let path = place.dir().join("ROAMD");
    let text = fs::read_to_string(&path).unwrap().replace("format 2", "format 3");
    fs::write(&path, &text).unwrap();
    match place.try_open() {
        Err(StoreError::Format { found: 3, known: 2 }) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn trees_or_journal_that_lost_what_was_durable_are_damage() {
    let place = Place::new();
    let (store, mut writer) = place.open();
    append(&mut writer, &history("c"), 1..=5);
    store.close(writer).unwrap();
    let damaged = |without: &str| {
        let dir = place.copied(without);
        let path = dir.join(without);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        let mut config = place.config.clone();
        config.dir = dir;
        let outcome = Store::open(&config).map(|_| ());
        let refused = matches!(&outcome, Err(StoreError::Damaged(_) | StoreError::Journal(_)));
        assert!(refused, "without {without}: {outcome:?}");
    };
    damaged("trees");
    damaged("journal");
    damaged("ROAMD");
}

#[test]
fn an_unreadable_checkpoint_is_damage() {
    let place = Place::new();
    let (store, writer) = place.open();
    store.close(writer).unwrap();
    for text in [&b"\xff\xfe"[..], b"", b"roamd data directory\n"] {
        fs::write(place.dir().join("ROAMD"), text).unwrap();
        assert!(matches!(place.try_open(), Err(StoreError::Damaged(_))));
    }
}
