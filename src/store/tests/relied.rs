//! Rows that commits rely on: what is known of those in the trees is never what they were before.

use bytes::Bytes;

use super::{Commit, Store, Table, Writer, commit, inbox, quiet};
use crate::store::{Condition, StoreError};

/// Moves everything to the trees, and nothing of it stays in memory.
fn move_away(store: &Store, writer: &mut Writer) {
    for _ in 0..2 {
        commit(writer, |c| c.append(inbox(1), Bytes::from_static(b"other")));
        writer.flush().unwrap();
        store.settle().unwrap();
    }
}

fn holds(writer: &mut Writer, row: Option<&'static str>) -> bool {
    let mut commit = Commit::new();
    commit.require(Condition::Row(Table::Conversation, "key".into(), row.map(Bytes::from)));
    match writer.stage(&commit) {
        Ok(()) => true,
        Err(StoreError::Conflict) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_row_that_commits_rely_on_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut writer) = Store::open(&quiet(&folder.path().join("data"))).unwrap();
    let mut before = None;
    for row in [Some("a"), Some("b"), None, Some("a"), Some("c")] {
        move_away(&store, &mut writer);
        // Looked for, then known.
        for _ in 0..2 {
            assert!(holds(&mut writer, before), "{before:?} is in the trees");
            assert!(!holds(&mut writer, row), "{row:?} is not there yet");
        }
        commit(&mut writer, |c| match row {
            Some(row) => c.put(Table::Conversation, "key".into(), row.into()),
            None => c.delete(Table::Conversation, "key".into()),
        });
        assert!(holds(&mut writer, row) && !holds(&mut writer, before), "{row:?} is staged");
        writer.flush().unwrap();
        assert!(holds(&mut writer, row) && !holds(&mut writer, before), "{row:?} is durable");
        before = row;
    }
    store.close(writer).unwrap();
}
