//! kill -9 at any time: what was flushed is there, in order, and what was not is there whole or not
//! at all.
//!
//! A child process (this test again, told so by its environment) commits and says so on its standard
//! output after every flush; it is killed after some of these. What it writes follows from the
//! number of the commit, so the reader knows what to expect.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use roamd::store::{
    Commit, Store, StoreConfig,
    catalogue::{LogKey, Table},
};

use crate::place::{ALL, Place, history, inbox, quiet, sent};

const CHILD: &str = "ROAMD_STORE_CHILD";
const LOGS: u64 = 40;
const INBOX_ENTRIES: u64 = 100;

pub fn config(dir: &std::path::Path) -> StoreConfig {
    StoreConfig {
        // A round every few commits, so that most kills hit one.
        memory_bytes: 20_000,
        checkpoint_interval: Duration::from_millis(2),
        segment_bytes: 64 << 10,
        inbox_entries: INBOX_ENTRIES,
        ..quiet(dir)
    }
}

/// The logs that a commit appends to.
fn logs(number: u64) -> [LogKey; 4] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let (user, other) = (mixed % LOGS, (mixed / LOGS) % LOGS);
    [
        history(&format!("c{}", number % 3)),
        inbox(&format!("u{user}")),
        inbox(&format!("u{other}")),
        sent("u", &format!("d{}", mixed % 3)),
    ]
}

fn record(number: u64) -> Bytes {
    let len = if number.is_multiple_of(50) { 20_000 } else { 8 + number as usize % 200 };
    number.to_be_bytes().into_iter().cycle().take(len).collect()
}

pub fn commit(number: u64) -> Commit {
    let mut commit = Commit::new();
    for log in logs(number) {
        commit.append(log, record(number));
    }
    commit.put(Table::Counter, "last".into(), Bytes::copy_from_slice(&number.to_be_bytes()));
    if number.is_multiple_of(100) {
        commit.trim(history("c1"), number / 10);
    }
    commit
}

/// The child; without the variable there is nothing to do.
#[test]
fn child_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (store, mut writer) = Store::open(&config(dir.as_ref())).unwrap();
    let row = store.reader().row(Table::Counter, b"last").unwrap();
    let last = row.map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap()));
    let mut out = std::io::stdout();
    for number in last + 1.. {
        writer.stage(&commit(number)).unwrap();
        if number.is_multiple_of(3) {
            writer.flush().unwrap();
            writeln!(out, "durable {number}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Every log as the commits up to `last` make it.
pub fn verify(store: &Store, last: u64) {
    let mut expected = std::collections::BTreeMap::<LogKey, Vec<Bytes>>::new();
    for number in 1..=last {
        for log in logs(number) {
            expected.entry(log).or_default().push(record(number));
        }
    }
    let reader = store.reader();
    for (log, records) in expected {
        let bounds = reader.bounds(&log).unwrap();
        assert_eq!(bounds.last, records.len() as u64, "{log:?}");
        if log.kind() == roamd::store::catalogue::LogKind::Inbox {
            assert_eq!(bounds.first, (bounds.last + 1).saturating_sub(INBOX_ENTRIES).max(1));
        }
        let entries = reader.read(&log, 1, ALL).unwrap();
        assert_eq!(entries.len() as u64, bounds.last + 1 - bounds.first, "{log:?}");
        for (entry, seq) in entries.into_iter().zip(bounds.first..) {
            assert_eq!(entry.seq, seq);
            assert!(entry.record.as_ref() == Some(&records[seq as usize - 1]), "{log:?} {seq}");
        }
    }
    store.check(|tree, key| panic!("damaged: {tree} {key:?}")).unwrap();
}

#[test]
fn a_kill_at_any_time_loses_nothing_that_was_flushed() {
    let place = Place::new();
    let rounds: u64 =
        std::env::var("ROAMD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut last = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, place.dir())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = 0;
        let wanted = 5 + (round * 37) % 120;
        let out = BufReader::new(child.stdout.take().unwrap());
        let durable = out.lines().map_while(Result::ok).filter_map(|line| {
            let number = line.split_once("durable ")?.1;
            number.trim().parse::<u64>().ok()
        });
        for number in durable.take(wanted as usize) {
            said = number;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said > last, "the child got nowhere");

        let (store, writer) = Store::open(&config(place.dir())).unwrap();
        let row = store.reader().row(Table::Counter, b"last").unwrap().unwrap();
        last = u64::from_be_bytes(row[..].try_into().unwrap());
        assert!(last >= said && last.is_multiple_of(3), "{last} of {said} came back");
        verify(&store, last);
        match round % 3 {
            0 => store.close(writer).unwrap(),
            1 => drop((store, writer)),
            _ => {
                store.settle().unwrap();
                verify(&store, last);
            }
        }
    }
}
