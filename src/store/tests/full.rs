//! A full disk and a damaged log: what goes on, and what comes back.

use super::{Store, commit, history, inbox, quiet, seen};
use crate::store::{Commit, StoreError, catalogue::Table, journal::CommitNo};

/// Cause: a disk without room let the round of the filler fail, which is final. Fix: a round begins
/// only when there is room for it; until then memory fills up and commits are refused, before
/// anything of them is staged.
#[test]
fn a_full_disk_refuses_commits_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = quiet(&folder.path().join("data"));
    config.memory_bytes = 1000;
    let (store, mut writer) = Store::open(&config).unwrap();
    store.set_room(0);
    let mut flushed = 0;
    let mut next = Commit::new();
    next.append(history(1), "one record like the other".into());
    let refused = loop {
        match writer.stage(&next) {
            Ok(()) => flushed += 1,
            Err(error) => break error,
        }
        writer.flush().unwrap();
        assert!(flushed < 1000, "memory is not bounded");
    };
    assert!(matches!(refused, StoreError::NoSpace), "{refused}");
    assert!(writer.healthy() && matches!(store.settle(), Err(StoreError::NoSpace)));
    assert_eq!(store.reader().bounds(&history(1)).unwrap().last, flushed, "reads go on");
    assert!(matches!(writer.reserve(0), Err(StoreError::NoSpace)));
    assert_eq!(writer.staged_bytes(), 0);
    writer.stage(&Commit::new()).unwrap();
    writer.flush().unwrap();

    store.set_room(u64::MAX);
    store.settle().unwrap();
    writer.stage(&next).unwrap();
    writer.flush().unwrap();
    assert_eq!(store.reader().bounds(&history(1)).unwrap().last, flushed + 1);
    let before = seen(&store);
    store.close(writer).unwrap();
    let (store, _writer) = Store::open(&config).unwrap();
    assert_eq!(seen(&store), before);
}

#[test]
fn a_copy_gives_way_when_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let config = quiet(&folder.path().join("data"));
    let (store, mut writer) = Store::open(&config).unwrap();
    let mut write = || {
        commit(&mut writer, |c| c.append(history(1), "record".into()));
        writer.flush().unwrap();
    };
    write();
    store.settle().unwrap();
    write();
    let mut parts = 0;
    let copied = store.reader().copy(|_| {
        parts += 1;
        if parts == 1 {
            store.set_room(0);
            assert!(matches!(store.settle(), Err(StoreError::NoSpace)));
            // Nothing of the journal is kept any more, and what is found now is not called a copy.
            assert_eq!(store.shared.hold.limit(CommitNo::new(9)), CommitNo::new(9));
        }
        Ok::<_, StoreError>(())
    });
    assert!(matches!(copied, Err(StoreError::NoSpace)), "{copied:?}");
    store.set_room(u64::MAX);
    let copied = store.reader().copy(|_| Ok::<_, StoreError>(())).unwrap();
    assert_eq!((copied.applied, copied.commit), (1, 2));
    assert_eq!(store.shared.hold.limit(CommitNo::new(9)), CommitNo::new(9), "it is let go");
}

/// Cause: a failure to read the trees in the middle of staging poisoned the writer, so one damaged
/// log stopped everybody. Fix: what can fail comes before anything is changed.
#[test]
fn a_damaged_log_refuses_its_own_commits_whole_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = quiet(&folder.path().join("data"));
    let (store, mut writer) = Store::open(&config).unwrap();
    for log in [inbox(1), inbox(2)] {
        commit(&mut writer, |c| c.append(log, "first".into()));
    }
    writer.flush().unwrap();
    store.close(writer).unwrap();
    let (store, mut writer) = Store::open(&config).unwrap();
    store.shared.trees.damage_bounds(&inbox(2));

    let mut both = Commit::new();
    both.append_each([inbox(1), inbox(2)].into(), "second".into());
    both.put(Table::Counter, "k".into(), "v".into());
    assert!(matches!(writer.stage(&both), Err(StoreError::Damaged(_))));
    let mut trim = Commit::new();
    trim.trim(inbox(2), 1);
    assert!(matches!(writer.stage(&trim), Err(StoreError::Damaged(_))));
    assert_eq!(writer.staged_bytes(), 0);
    assert_eq!(writer.bounds(&inbox(1)).unwrap().last, 1);
    assert_eq!(writer.row(Table::Counter, b"k").unwrap(), None);

    commit(&mut writer, |c| c.append(inbox(1), "third".into()));
    writer.flush().unwrap();
    assert_eq!(store.reader().bounds(&inbox(1)).unwrap().last, 2);
    let mut damaged = Vec::new();
    store.check(|tree, _| damaged.push(tree.to_owned())).unwrap();
    assert_eq!(damaged, ["bounds"]);
}
