//! A round of the filler that ends after each of its steps in turn: what the next open replays over
//! the half-written trees must be exactly what was durable, and leave nothing behind.
//!
//! Cause: the bounds of a log could reach the trees before its runs. The replay took the entries for
//! written and passed them over: lost. Fix: the order told at the head of `trees/write.rs`.

use std::{path::Path, sync::atomic::Ordering};

use bytes::Bytes;

use super::{Seen, Store, Writer, commit, history, inbox, quiet, seen, sent};
use crate::store::{StoreConfig, catalogue::Table};

/// Everything of one kind of change, over what the workload before it left.
fn workload(writer: &mut Writer, salt: u64) {
    let text = |n: u64| Bytes::from(format!("{salt}.{n}."));
    // Logs that only a trim touches come in between: a bounds row without runs.
    for log in 0..6 {
        if salt > 0 {
            commit(writer, |c| c.trim(history(log + 10), 80 * salt + log));
        }
        commit(writer, |c| c.append_each([inbox(log), inbox(log + 1)].into(), text(log)));
    }
    for n in 0..90 {
        commit(writer, |c| c.append(inbox(n % 2), text(n)));
        let big = [0, 6 * 1024, 6 * 1024 + 1, 15_000][n as usize % 4];
        commit(writer, |c| c.append(history(10), vec![salt as u8; big].into()));
        commit(writer, |c| c.append(sent(n % 4), text(n)));
        let key = Bytes::from(format!("k{}", n % 13));
        if (n + salt).is_multiple_of(5) {
            commit(writer, |c| c.delete(Table::Member, key));
        } else {
            commit(writer, |c| c.put(Table::Member, key, text(n)));
        }
    }
    for log in 0..6 {
        commit(writer, |c| c.append(history(log + 10), text(log)));
    }
    commit(writer, |c| c.append(history(salt + 100), text(0)));
    writer.flush().unwrap();
}

/// What is seen after each of three workloads, and the trees at the end.
struct Outcome {
    after: Vec<Seen>,
    dump: Dump,
}

/// Tree, key, value.
type Dump = Vec<(String, Vec<u8>, Vec<u8>)>;

/// The trees and keys of what `a` has and `b` has not.
fn only_in<'a>(a: &'a Dump, b: &Dump) -> Vec<(&'a str, String)> {
    let there: std::collections::HashSet<_> = b.iter().collect();
    let only = a.iter().filter(|item| !there.contains(item));
    only.map(|(tree, key, _)| (tree.as_str(), key.escape_ascii().to_string())).collect()
}

/// Three workloads with a round after each; the second round ends after `steps`. None = it did not
/// get that far.
fn run(config: &StoreConfig, steps: u64) -> Option<Outcome> {
    let (store, mut writer) = Store::open(config).unwrap();
    workload(&mut writer, 0);
    store.settle().unwrap();
    let mut after = vec![seen(&store)];
    // As after a start: an interrupted first write is the case with the most to clean up.
    store.close(writer).unwrap();
    let (store, mut writer) = Store::open(config).unwrap();
    workload(&mut writer, 1);
    store.shared.trees.batches_left.store(steps, Ordering::SeqCst);
    let interrupted = store.settle().is_err();
    after.push(seen(&store));
    drop((store, writer));
    if !interrupted && steps < u64::MAX {
        return None;
    }
    let (store, mut writer) = Store::open(config).unwrap();
    after.push(seen(&store));
    store.settle().unwrap();
    after.push(seen(&store));
    workload(&mut writer, 2);
    after.push(seen(&store));
    store.close(writer).unwrap();
    let (store, _writer) = Store::open(config).unwrap();
    after.push(seen(&store));
    assert_eq!(store.check(|tree, key| panic!("{tree} {key:?}")).unwrap() as usize, {
        store.shared.trees.dump().len()
    });
    Some(Outcome { after, dump: store.shared.trees.dump() })
}

#[test]
fn a_round_may_end_after_any_step() {
    // No power is cut here, so memory is disk enough, and much faster.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let run = |steps| {
        let folder = tempfile::tempdir_in(&place).unwrap();
        run(&quiet(&folder.path().join("data")), steps)
    };
    let whole = run(u64::MAX).unwrap();
    assert!(whole.after[1..4].iter().all(|seen| *seen == whole.after[1]));
    let mut steps = 0;
    while let Some(cut) = run(steps) {
        for (index, (cut, whole)) in cut.after.iter().zip(&whole.after).enumerate() {
            assert!(cut == whole, "cut after {steps} steps, point {index}");
        }
        let (more, less) = (only_in(&cut.dump, &whole.dump), only_in(&whole.dump, &cut.dump));
        assert!(more.is_empty() && less.is_empty(), "cut after {steps}: {more:?} {less:?}");
        steps += 1;
    }
    assert!(steps > 50, "{steps} steps are too few to mean anything");
}
