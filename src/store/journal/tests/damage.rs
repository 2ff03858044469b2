//! Bytes, files and positions that are not what they were: a typed refusal, never silently short.

use std::fs;

use super::*;
use crate::store::journal::segment::Name;

/// Ten commits of 1,500 bytes: two per segment, five segments.
fn ten() -> (tempfile::TempDir, JournalConfig) {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    for number in 1..=10 {
        journal.append(&payload(number, 1500)).expect("append");
    }
    drop(journal);
    assert_eq!(names(&config).len(), 5);
    (dir, config)
}

fn flip(config: &JournalConfig, segment: u64, at: usize) {
    let path = Name::Live(segment).path(&config.dir);
    let mut bytes = fs::read(&path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(&path, bytes).expect("write");
}

fn damage(config: &JournalConfig, applied: u64) -> (String, u64, Damage) {
    match open(config, CommitNo::new(applied)).map(|(_, seen)| seen.len()) {
        Err(JournalError::Damaged { path, offset, damage }) => {
            let name = path.file_name().and_then(|name| name.to_str()).expect("name");
            (name.to_owned(), offset, damage)
        }
        other => panic!("expected damage, got {other:?}"),
    }
}

fn record_damage(expected: u64) -> Damage {
    Damage::Record { expected: CommitNo::new(expected) }
}

const FIRST_AT: usize = HEADER_BYTES as usize;
const SECOND_AT: usize = FIRST_AT + record::stored_bytes(1500);

#[test]
fn a_flipped_bit_before_the_last_record_is_damage() {
    for segment in 1..=5_u64 {
        for (place, at) in [(1, FIRST_AT), (2, SECOND_AT)] {
            let commit = (segment - 1) * 2 + place;
            for inside in [0, 5, 9, 17, 24, 27, 28, 1000] {
                if commit == 10 {
                    continue;
                }
                let (_dir, config) = ten();
                flip(&config, segment, at + inside);
                let (name, offset, what) = damage(&config, 0);
                assert_eq!(name, format!("segment-{segment:016x}"));
                assert_eq!((offset, what), (at as u64, record_damage(commit)));
                // Nothing was changed: it is still damage.
                assert_eq!(damage(&config, 0).2, record_damage(commit));
            }
        }
    }
}

/// A bit flipped in the last record cannot be told from a write that never finished: the record
/// is dropped. The checkpoint is the one witness there is.
#[test]
fn a_flipped_bit_in_the_last_record_is_a_torn_tail() {
    let (_dir, config) = ten();
    flip(&config, 5, SECOND_AT + 40);
    let short = Damage::Short { last: CommitNo::new(9), applied: CommitNo::new(10) };
    assert_eq!(damage(&config, 10).2, short);
    let (mut journal, seen) = open(&config, CommitNo::ZERO).expect("open");
    assert_eq!(seen.len(), 9);
    journal.append(b"another tenth").expect("append");
    drop(journal);
    assert_eq!(open(&config, CommitNo::new(9)).expect("open").1, [b"another tenth"]);
}

#[test]
fn headers_lengths_and_missing_segments_are_damage() {
    let (_dir, config) = ten();
    for at in [0, 9, 16, 24, 32, 40, 48] {
        flip(&config, 3, at);
        assert_eq!(damage(&config, 0).2, Damage::Header);
        flip(&config, 3, at);
    }
    for segment in 1..=5 {
        let path = Name::Live(segment).path(&config.dir);
        let bytes = fs::read(&path).expect("read");
        for length in [0, 51, 4096, SECOND_AT, 8191] {
            fs::write(&path, &bytes[..length]).expect("truncate");
            let expected = if length < 52 { Damage::Header } else { Damage::Length };
            assert_eq!(damage(&config, 0).2, expected, "cut at {length}");
        }
        fs::remove_file(&path).expect("remove");
        let (name, _, what) = damage(&config, 0);
        assert_eq!(name, format!("segment-{segment:016x}"));
        match segment {
            // Cause: it looked like a journal that ends earlier. Fix: the one before it is sealed.
            5 => assert_eq!(what, Damage::LastMissing { expected: CommitNo(9) }),
            _ => assert!(matches!(what, Damage::Missing { .. }), "{what:?}"),
        }
        fs::write(&path, bytes).expect("restore");
    }
    assert_eq!(open(&config, CommitNo::ZERO).expect("whole again").1.len(), 10);
}

#[test]
fn swapped_segments_are_damage() {
    let (_dir, config) = ten();
    let (second, third) = (Name::Live(2).path(&config.dir), Name::Live(3).path(&config.dir));
    let bytes = fs::read(&second).expect("read");
    fs::copy(&third, &second).expect("copy");
    fs::write(&third, bytes).expect("write");
    assert_eq!(damage(&config, 0).2, Damage::Header);
}

#[test]
fn a_hole_that_only_concerns_applied_commits_is_none() {
    let (_dir, config) = ten();
    fs::remove_file(Name::Live(2).path(&config.dir)).expect("remove");
    assert!(matches!(damage(&config, 3).2, Damage::Missing { .. }));
    let (journal, seen) = open(&config, CommitNo::new(4)).expect("open");
    assert_eq!(seen.len(), 6);
    journal.recycler().recycle(CommitNo::new(4)).expect("recycle");
    assert_eq!(names(&config)[0], "segment-0000000000000003");
}

#[test]
fn an_empty_directory_is_new_only_without_a_checkpoint() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let short = Damage::Short { last: CommitNo::ZERO, applied: CommitNo::new(3) };
    assert_eq!(damage(&config, 3).2, short);
    assert!(open(&config, CommitNo::ZERO).expect("new").1.is_empty());
    assert_eq!(damage(&config, 3).2, short);
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let (_dir, config) = ten();
    let path = Name::Live(5).path(&config.dir);
    let mut bytes = fs::read(&path).expect("read");
    bytes[11] = 2;
    let crc = crc32c::crc32c(&bytes[..48]);
    bytes[48..52].copy_from_slice(&crc.to_be_bytes());
    fs::write(&path, bytes).expect("write");
    let refused = open(&config, CommitNo::ZERO).map(|_| ());
    assert!(matches!(refused, Err(JournalError::NewerFormat { version: 2, .. })), "{refused:?}");
}

/// A payload that holds a whole record, as an evil client might send it, ends up behind a shorter
/// record after a torn write. It has no salt that fits, and the remainder is zeroed anyway.
#[test]
fn nothing_of_a_torn_record_comes_back_behind_a_shorter_one() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut journal, _) = open(&config, CommitNo::ZERO).expect("new");
    let salt = journal.active.header.salt;
    let mut forged = Vec::new();
    // Worse than possible: it knows the salt, and stands exactly behind the next, shorter record.
    record::encode(&mut forged, CommitNo::new(2), salt, b"forged");
    let mut evil = vec![0; 4];
    evil.extend_from_slice(&forged);
    journal.append(&evil).expect("append");
    drop(journal);
    flip(&config, 1, FIRST_AT + 30);
    assert_eq!(damage(&config, 0).2, record_damage(1), "with the salt it looks acknowledged");

    let path = Name::Live(1).path(&config.dir);
    let mut bytes = fs::read(&path).expect("read");
    bytes[FIRST_AT + 32 + 16] ^= 1;
    fs::write(&path, bytes).expect("write");
    let (mut journal, seen) = open(&config, CommitNo::ZERO).expect("torn tail");
    assert!(seen.is_empty());
    assert!(fs::read(&path).expect("read")[FIRST_AT..].iter().all(|&byte| byte == 0));
    journal.append(b"1234").expect("append");
    drop(journal);
    assert_eq!(open(&config, CommitNo::ZERO).expect("open").1, [b"1234"]);
}

#[test]
fn leftovers_are_cleared_and_foreign_files_left_alone() {
    let (_dir, config) = ten();
    for name in ["spare-0000000000000009.new", "spare-0000000000000008", "notes.txt"] {
        fs::write(config.dir.join(name), b"half").expect("write");
    }
    assert_eq!(open(&config, CommitNo::ZERO).expect("open").1.len(), 10);
    let names = names(&config);
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(names.contains(&"notes.txt".to_owned()));
}
