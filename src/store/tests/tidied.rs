//! A store at rest: its file was tidied, and its journal keeps nothing ready.

use std::fs;

use bytes::Bytes;

use super::{Bounds, Store, commit, history, quiet, seen};
use crate::store::{memory::Generation, trees::Trees};

#[test]
fn tidying_stops_when_it_is_told_to_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trees");
    let trees = Trees::open(&path, 8 << 20, 20).unwrap();
    for round in 0..6_u64 {
        let mut generation = Generation::default();
        for log in 0..200 {
            let older = Bounds { first: 1, last: round * 12 };
            generation.tail_over(&history(log), || Ok::<_, ()>(older)).unwrap();
            for _ in 0..12 {
                generation.append(&history(log), vec![round as u8; 3000].into());
            }
        }
        trees.write(&generation, false).unwrap();
        trees.flush().unwrap();
    }
    let dump = trees.dump();
    assert!(!trees.tidy(|| false).unwrap(), "told to stop, it says it is not done");
    // How much there is to move depends on sled's threads, and so does whether it comes to an end by itself.
    let mut steps = 0;
    let go_on = || {
        steps += 1;
        steps <= 100
    };
    trees.tidy(go_on).unwrap();
    assert!((2..=101).contains(&steps), "{steps}");
    assert!(trees.dump() == dump);
    drop(trees);
    assert!(Trees::open(&path, 8 << 20, 20).unwrap().dump() == dump);
}

#[test]
fn a_row_of_the_tidying_that_a_crash_left_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let config = quiet(&folder.path().join("data"));
    let (store, mut writer) = Store::open(&config).unwrap();
    commit(&mut writer, |c| c.append(history(1), Bytes::from("first")));
    writer.flush().unwrap();
    store.settle().unwrap();
    store.shared.trees.leave_tidy_row();
    let before = seen(&store);
    store.close(writer).unwrap();
    let (store, _writer) = Store::open(&config).unwrap();
    store.check(|tree, key| panic!("{tree} {key:?}")).unwrap();
    assert!(seen(&store) == before);
}

#[test]
fn after_an_orderly_stop_the_journal_keeps_one_segment() {
    let folder = tempfile::tempdir().unwrap();
    let config = quiet(&folder.path().join("data"));
    let names = || {
        let files = fs::read_dir(config.dir.join("journal")).unwrap();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let spares = || names().iter().filter(|name| name.starts_with("spare-")).count();
    for life in 1..4_u64 {
        let (store, mut writer) = Store::open(&config).unwrap();
        // More than a segment, so that there is one to give back.
        for n in 0..500 {
            commit(&mut writer, |c| c.append(history(n % 7), vec![n as u8; 3000].into()));
            writer.flush().unwrap();
        }
        store.settle().unwrap();
        assert_eq!(spares(), 2, "{:?}", names());
        let before = seen(&store);
        store.close(writer).unwrap();
        assert_eq!(names().len(), 1, "{:?}", names());
        let (store, writer) = Store::open(&config).unwrap();
        assert!(seen(&store) == before, "life {life}");
        store.close(writer).unwrap();
        assert_eq!(names().len(), 1, "{:?}", names());
    }
}
