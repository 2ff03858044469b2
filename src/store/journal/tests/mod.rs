//! The journal against its promises: what was acknowledged is replayed, in order, once; what is
//! broken is said to be. `crash` ends the process and the power everywhere, `damage` changes bytes,
//! `model` does everything at random.

mod crash;
mod damage;
mod model;

use std::{convert::Infallible, path::Path};

use super::*;

const SMALL: u64 = 8192;

fn config(dir: &Path) -> JournalConfig {
    JournalConfig { dir: dir.join("journal"), segment_bytes: SMALL, segments_spare: 1 }
}

/// Opens and returns what was replayed, after checking that the numbers are dense.
fn open(
    config: &JournalConfig,
    applied: CommitNo,
) -> Result<(Journal, Vec<Vec<u8>>), JournalError> {
    let mut seen = Vec::new();
    let journal = Journal::open(config, applied, |commit, payload| {
        assert_eq!(commit.number(), applied.number() + seen.len() as u64 + 1, "dense");
        seen.push(payload.to_vec());
        Ok::<_, Infallible>(())
    })?;
    assert_eq!(journal.last().number(), applied.number() + seen.len() as u64);
    Ok((journal, seen))
}

/// A payload that names its commit.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(bytes).collect()
}

fn names(config: &JournalConfig) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(&config.dir)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn commits_are_replayed_across_rollovers_from_any_checkpoint() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, seen) = open(&config, CommitNo::ZERO).expect("new");
    assert!(seen.is_empty());
    let mut all = Vec::new();
    // Empty, small, filling a segment to the last byte, and larger than one.
    for bytes in [0, 1, 300, 4096 - 28, 4000, 50_000, 10, 9000, 3000, 3000] {
        let commit = journal.append(&payload(all.len() as u64, bytes)).expect("append");
        all.push(payload(all.len() as u64, bytes));
        assert_eq!(commit.number(), all.len() as u64);
    }
    let live = journal.live_bytes();
    drop(journal);
    for applied in 0..=all.len() {
        let (journal, seen) = open(&config, CommitNo::new(applied as u64)).expect("open");
        assert_eq!(seen, all[applied..], "after {applied}");
        assert!(journal.live_bytes() <= live);
    }
    let (journal, _) = open(&config, CommitNo::ZERO).expect("open");
    assert_eq!(journal.live_bytes(), live);
}

#[test]
fn an_emptied_journal_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    for number in 0..20 {
        journal.append(&payload(number, 1500)).expect("append");
    }
    journal.recycler().recycle(journal.last()).expect("recycle");
    assert_eq!(names(&config).len(), 2, "one live, one spare: {:?}", names(&config));
    drop(journal);
    let (mut journal, seen) = open(&config, CommitNo::new(20)).expect("open");
    assert!(seen.is_empty());
    assert_eq!(journal.append(b"next").expect("append"), CommitNo::new(21));
    drop(journal);
    assert_eq!(open(&config, CommitNo::new(20)).expect("open").1, [b"next"]);
    assert!(open(&config, CommitNo::ZERO).is_err(), "the first commits were given back");
}

#[test]
fn spares_are_reused_and_their_number_is_bounded() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    let recycler = journal.recycler();
    for number in 0..200 {
        let commit = journal.append(&payload(number, 1500)).expect("append");
        if number % 7 == 0 {
            recycler.recycle(commit).expect("recycle");
        }
        assert!(names(&config).len() <= 6, "{:?}", names(&config));
    }
    recycler.recycle(journal.last()).expect("recycle");
    drop(journal);
    assert!(open(&config, CommitNo::new(200)).expect("open").1.is_empty());
}

#[test]
fn a_commit_too_large_is_refused_and_the_journal_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut journal, _) = open(&config(dir.path()), CommitNo::ZERO).expect("new");
    // Never touched, so never backed by memory.
    let large = vec![0; PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(journal.append(&large), Err(JournalError::TooLarge { .. })));
    assert_eq!(journal.append(b"small").expect("append"), CommitNo::new(1));
}

#[test]
fn the_consumer_may_stop_the_replay() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    journal.append(b"one").expect("append");
    drop(journal);
    let refused = Journal::open(&config, CommitNo::ZERO, |_, _| Err("no"));
    assert!(matches!(refused, Err(JournalError::Replay { commit: CommitNo(1), .. })));
}

#[test]
fn a_journal_may_be_begun_at_a_restored_position() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let mut journal = Journal::create(&config, CommitNo::new(41)).expect("create");
    assert_eq!(journal.append(b"x").expect("append"), CommitNo::new(42));
    drop(journal);
    assert_eq!(open(&config, CommitNo::new(41)).expect("open").1, [b"x"]);
    assert!(matches!(Journal::create(&config, CommitNo::ZERO), Err(JournalError::Exists { .. })));
}

#[test]
fn another_thread_may_recycle_while_the_journal_appends() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    let recycler = journal.recycler();
    let (tell, told) = std::sync::mpsc::channel();
    let upkeep = std::thread::spawn(move || {
        for applied in told {
            recycler.recycle(applied).expect("recycle");
        }
    });
    for number in 1..=300 {
        let commit = journal.append(&payload(number, 1500)).expect("append");
        tell.send(CommitNo::new(commit.number() / 2)).expect("the thread runs");
    }
    drop(tell);
    upkeep.join().expect("upkeep");
    drop(journal);
    let (_, seen) = open(&config, CommitNo::new(150)).expect("open");
    assert_eq!(seen, (151..=300).map(|number| payload(number, 1500)).collect::<Vec<_>>());
}
