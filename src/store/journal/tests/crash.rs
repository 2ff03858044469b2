//! The process, the disk or the power ends at every single step.

use std::io;

use super::*;
use crate::store::journal::disk::sim::{self, Fault};

/// Everything the journal does, in one run: open, appends, rollovers, an oversized commit, recycling
/// with reuse and deletion. Returns what was acknowledged and the last checkpoint.
struct Run {
    acked: Vec<Vec<u8>>,
    /// In flight when the run ended: it may or may not be there.
    pending: Option<Vec<u8>>,
    applied: CommitNo,
}

fn run(config: &JournalConfig) -> Run {
    let mut run = Run { acked: Vec::new(), pending: None, applied: CommitNo::ZERO };
    let _ = steps(config, &mut run);
    run
}

fn steps(config: &JournalConfig, run: &mut Run) -> Result<(), JournalError> {
    for round in 0..2 {
        let mut journal = Journal::open(config, run.applied, |_, _| Ok::<_, io::Error>(()))?;
        for (step, bytes) in [1500, 1500, 9000, 1500, 1500, 1500, 10].into_iter().enumerate() {
            let payload = payload(run.acked.len() as u64, bytes);
            run.pending = Some(payload.clone());
            journal.append(&payload)?;
            run.pending = None;
            run.acked.push(payload);
            if step % 3 == 2 {
                run.applied = CommitNo::new(run.acked.len() as u64 - round);
                journal.recycler().recycle(run.applied)?;
            }
        }
    }
    Ok(())
}

/// Opens after the end of a run and compares; returns the journal and what it now holds.
fn check(config: &JournalConfig, run: &Run, what: &str) -> (Journal, Vec<Vec<u8>>) {
    let (journal, seen) = open(config, run.applied).unwrap_or_else(|e| panic!("{what}: {e}"));
    let applied = run.applied.number() as usize;
    let mut expected = run.acked.clone();
    if seen.len() > expected.len() - applied {
        expected.extend(run.pending.clone());
    }
    assert_eq!(seen, expected[applied..], "{what}");
    (journal, expected)
}

/// Runs until `fault` strikes after `step` steps; None when the run ends before.
fn strike(step: u64, fault: Fault) -> Option<(tempfile::TempDir, JournalConfig, Run)> {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    sim::start(dir.path());
    sim::fail_after(step, fault);
    let run = run(&config);
    if !sim::fired() {
        assert_eq!(run.acked.len(), 14, "the run without a fault does everything");
        sim::stop();
        return None;
    }
    Some((dir, config, run))
}

#[test]
fn a_kill_at_any_step_loses_nothing_acknowledged() {
    for torn in [0, 100, 500, 999, 1000] {
        let mut step = 0;
        while let Some((_dir, config, run)) = strike(step, Fault::Kill(torn)) {
            let what = format!("kill at step {step}, {torn}/1000 of the write");
            sim::restart();
            let (mut journal, mut all) = check(&config, &run, &what);
            all.push(b"after".to_vec());
            journal.append(b"after").expect("append");
            drop(journal);
            let again = Run { acked: all, pending: None, applied: run.applied };
            check(&config, &again, &what);
            step += 1;
        }
        assert!(step > 60, "only {step} steps");
    }
}

/// The process dies, is started again, appends, and then the power goes: what the second process
/// read may never have been on disk, and what it acknowledged must be.
#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    for seed in 0..6 {
        let mut step = 0;
        while let Some((_dir, config, run)) = strike(step, Fault::Kill(1000)) {
            let what = format!("step {step}, seed {seed}");
            if seed % 2 == 0 {
                sim::power_cut(seed);
            } else {
                sim::restart();
            }
            let (mut journal, mut all) = check(&config, &run, &what);
            // What the replay handed out is durable without any further append.
            if seed % 3 == 0 {
                for _ in 0..4 {
                    all.push(payload(all.len() as u64, 1500));
                    journal.append(all.last().expect("pushed")).expect("append");
                }
            }
            drop(journal);
            sim::power_cut(seed + 100);
            let again = Run { acked: all, pending: None, applied: run.applied };
            check(&config, &again, &what);
            step += 1;
        }
    }
}

/// A sync that failed leaves pages that the kernel calls clean and the disk never took. Opening
/// again must not believe what it reads from memory until it was written once more.
#[test]
fn a_failed_sync_poisons_and_a_reopen_does_not_trust_memory() {
    let mut step = 0;
    while let Some((_dir, config, run)) = strike(step, Fault::Errno(libc::EIO)) {
        let what = format!("EIO at step {step}");
        sim::restart();
        let (mut journal, mut all) = check(&config, &run, &what);
        all.push(b"after".to_vec());
        journal.append(b"after").expect("append");
        drop(journal);
        sim::power_cut(step);
        let again = Run { acked: all, pending: None, applied: run.applied };
        check(&config, &again, &what);
        step += 1;
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_accepted() {
    for step in 0..2 {
        let dir = tempfile::tempdir().expect("dir");
        let config = config(dir.path());
        sim::start(dir.path());
        let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
        journal.append(b"one").expect("append");
        sim::fail_after(step, Fault::Errno(if step == 0 { libc::ENOSPC } else { libc::EIO }));
        assert!(matches!(journal.append(b"two"), Err(JournalError::Io { .. })));
        assert!(matches!(journal.append(b"two"), Err(JournalError::Poisoned)));
        let recycled = journal.recycler().recycle(CommitNo::new(1));
        assert!(matches!(recycled, Err(JournalError::Poisoned)));
        assert_eq!(journal.last(), CommitNo::new(1));
        sim::stop();
    }
}

#[test]
fn a_full_disk_refuses_the_commit_and_does_not_poison() {
    // The steps of making a segment: create, fill, sync, header, sync, rename.
    for step in 0..6 {
        let dir = tempfile::tempdir().expect("dir");
        let config = config(dir.path());
        sim::start(dir.path());
        let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
        journal.append(&payload(1, 3000)).expect("append");
        sim::fail_after(step, Fault::Errno(libc::ENOSPC));
        let refused = journal.append(&payload(2, 3000));
        assert!(matches!(refused, Err(JournalError::NoSpace { .. })), "{step}: {refused:?}");
        assert!(sim::fired());
        assert_eq!(names(&config), ["segment-0000000000000001"], "nothing is left behind");
        assert_eq!(journal.append(b"small fits").expect("append"), CommitNo::new(2));
        assert_eq!(journal.append(&payload(3, 3000)).expect("space again"), CommitNo::new(3));
        drop(journal);
        sim::power_cut(step);
        let (_, seen) = open(&config, CommitNo::ZERO).expect("open");
        assert_eq!(seen, [payload(1, 3000), b"small fits".to_vec(), payload(3, 3000)]);
        sim::stop();
    }
}

#[test]
fn room_that_was_reserved_is_there() {
    // The steps of making a spare: create, fill, sync, rename.
    for step in 0..4 {
        let dir = tempfile::tempdir().expect("dir");
        let config = config(dir.path());
        sim::start(dir.path());
        let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
        journal.append(&payload(1, 3000)).expect("append");
        sim::fail_after(step, Fault::Errno(libc::ENOSPC));
        let refused = journal.reserve(3000);
        assert!(matches!(refused, Err(JournalError::NoSpace { .. })), "{step}: {refused:?}");
        assert!(sim::fired());
        assert_eq!(names(&config), ["segment-0000000000000001"], "nothing is left behind");
        journal.reserve(5).expect("less fits");
        journal.append(b"small").expect("append");
        journal.reserve(3000).expect("space again");
        assert_eq!(names(&config).len(), 2);
        journal.append(&payload(3, 3000)).expect("append");
        for bytes in [20_000, 15_000, 30_000] {
            journal.reserve(bytes).expect("more than a segment");
        }
        assert_eq!(names(&config).len(), 3, "the largest is enough");
        journal.append(&payload(4, 20_000)).expect("append");
        assert_eq!(names(&config).len(), 3);
        drop(journal);
        let (_, seen) = open(&config, CommitNo::ZERO).expect("open");
        let expected = [payload(1, 3000), b"small".to_vec(), payload(3, 3000), payload(4, 20_000)];
        assert_eq!(seen, expected);
        sim::stop();
    }
}

#[test]
fn a_full_disk_while_recycling_loses_nothing() {
    for step in 0..6 {
        let dir = tempfile::tempdir().expect("dir");
        let config = config(dir.path());
        sim::start(dir.path());
        let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
        journal.append(&payload(1, 10)).expect("append");
        sim::fail_after(step, Fault::Errno(libc::ENOSPC));
        let recycled = journal.recycler().recycle(CommitNo::ZERO);
        if step < 4 {
            assert!(matches!(recycled, Err(JournalError::NoSpace { .. })), "{step}");
            journal.append(&payload(2, 3000)).expect("goes on");
            journal.recycler().recycle(CommitNo::ZERO).expect("later");
        }
        sim::stop();
    }
}
