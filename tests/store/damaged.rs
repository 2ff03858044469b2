//! Damage on disk is seen: a typed refusal to open, a typed error, or a typed hole; never a panic that
//! gets out, never fewer or other data without a word.
//!
//! Each damaged copy is opened and read by a process of its own (this test again), because an engine
//! in trouble may also loop or take all memory.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::{
    inspect::{FindingKind, verify},
    store::{
        Bounds, Commit, Store, StoreConfig, StoreError, Writer,
        catalogue::{LogKey, LogKind, Table},
    },
};

use crate::place::{ALL, Place, copy, history, inbox, quiet, sent};

const CHILD: &str = "ROAMD_DAMAGED_CHILD";
/// Longer than any honest answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn row(number: u64) -> Bytes {
    number.to_be_bytes().into_iter().cycle().take(300).collect()
}

fn record(number: u64) -> Bytes {
    let len = if number.is_multiple_of(40) { 9_000 } else { 20 + number as usize % 100 };
    number.to_be_bytes().into_iter().cycle().take(len).collect()
}

fn log(number: u64) -> LogKey {
    match number % 9 {
        n @ 0..4 => inbox(&format!("u{n}")),
        n @ 4..7 => history(&format!("c{n}")),
        n => sent("u", &format!("d{n}")),
    }
}

fn write(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut commit = Commit::new();
        commit.append(log(number), record(number));
        commit.put(Table::Member, format!("key{}", number % 70).into(), row(number));
        writer.stage(&commit).unwrap();
    }
    writer.flush().unwrap();
}

/// What [`write`] of `0..count` comes to.
#[derive(Default)]
struct Expected {
    logs: BTreeMap<LogKey, Vec<Bytes>>,
    rows: BTreeMap<Bytes, Bytes>,
}

fn expected(count: u64) -> Expected {
    let mut expected = Expected::default();
    for number in 0..count {
        expected.logs.entry(log(number)).or_default().push(record(number));
        expected.rows.insert(format!("key{}", number % 70).into(), row(number));
    }
    expected
}

/// Commits of the directory that is damaged: some long in the trees, some in the last round.
const COMMITS: u64 = 900;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 32 << 10, inbox_entries: u64::MAX, ..quiet(dir) }
}

/// How a damaged directory answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// Everything is there: the damage hit nothing that matters.
    Whole,
    /// Did not open.
    Refused,
    /// Opened; what is missing came as typed errors or holes.
    Told,
    /// The last flush is missing, as after a write that never finished: no trace can tell these apart.
    TornTail,
}

/// Reads everything; panics at a silent difference.
fn examine(dir: &Path) -> Answer {
    let (store, _writer) = match Store::open(&config(dir)) {
        Ok(open) => open,
        Err(
            StoreError::Damaged(_)
            | StoreError::Journal(_)
            | StoreError::Trees(_)
            | StoreError::Format { .. },
        ) => return Answer::Refused,
        Err(error) => panic!("not a refusal because of damage: {error}"),
    };
    let reader = store.reader();
    let mut told = false;
    let expected = expected(COMMITS);
    let mut newest_missing = 0;
    for (log, records) in &expected.logs {
        let whole = Bounds { first: 1, last: records.len() as u64 };
        match reader.bounds(log) {
            Err(_) => told = true,
            Ok(bounds) if bounds == whole => {}
            Ok(bounds) => {
                assert!(bounds.first == 1 && bounds.last < whole.last, "{log:?}: {bounds:?}");
                newest_missing += whole.last - bounds.last;
            }
        }
        match reader.read(log, 1, ALL) {
            Err(_) => told = true,
            Ok(entries) => {
                for (entry, seq) in entries.iter().zip(1..) {
                    assert_eq!(entry.seq, seq);
                    match &entry.record {
                        None => told = true,
                        Some(record) => assert!(*record == records[seq as usize - 1], "{seq}"),
                    }
                }
            }
        }
    }
    for (key, row) in &expected.rows {
        match reader.row(Table::Member, key) {
            Err(_) => told = true,
            Ok(Some(found)) if found == *row => {}
            Ok(found) => assert!(newest_missing > 0, "{key:?}: {:?}", found.map(|row| row.len())),
        }
    }
    for kind in LogKind::ALL {
        told |= reader.logs(kind).map_or(true, |logs| logs.iter().any(|(_, b)| b.is_none()));
    }
    told |= reader.rows(Table::Member, b"", b"", usize::MAX).is_err();
    told |= store.check(|_, _| ()).is_err();
    // What a reader meets, a verification names. (The records here are none of the engine's, which it
    // says as well.)
    let report = verify(&store, &mut |_| ());
    let names = |kind| report.findings.iter().any(|finding| finding.kind == kind);
    let named = [FindingKind::Damaged, FindingKind::Hole, FindingKind::Unreadable];
    assert_eq!(named.into_iter().any(names), told);
    match (newest_missing, told) {
        (0, false) => Answer::Whole,
        (0, true) => Answer::Told,
        // The last flush of the prepared directory, whole.
        (LAST_FLUSH, false) => Answer::TornTail,
        _ => panic!("{newest_missing} entries are missing without a word"),
    }
}

const LAST_FLUSH: u64 = 50;

#[test]
fn child_examines_a_damaged_directory() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    println!("answer: {:?}", examine(Path::new(&dir)));
}

/// Lets a child examine the directory.
fn ask(dir: &Path) -> Result<Answer, String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "damaged::child_examines_a_damaged_directory", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (done, output) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        let mut complaints = String::new();
        let _ = err.read_to_string(&mut complaints);
        let _ = done.send((text, complaints));
    });
    let Ok((text, complaints)) = output.recv_timeout(PATIENCE) else {
        child.kill().unwrap();
        child.wait().unwrap();
        return Err("no answer".into());
    };
    let status = child.wait().unwrap();
    for answer in [Answer::Whole, Answer::Refused, Answer::Told, Answer::TornTail] {
        if status.success() && text.contains(&format!("answer: {answer:?}")) {
            return Ok(answer);
        }
    }
    Err(format!("{status}: {text}\n{complaints}"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.metadata().unwrap().len() > 0 {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

/// Does one damage; says what and where.
fn damage(random: &mut StdRng, file: &Path) -> String {
    let handle = fs::File::options().read(true).write(true).open(file).unwrap();
    let len = handle.metadata().unwrap().len();
    let mut content = vec![0; len as usize];
    handle.read_exact_at(&mut content, 0).unwrap();
    // Not in the zeros at the end of a file, where nothing lives.
    let used = content.iter().rposition(|byte| *byte != 0).map_or(1, |at| at as u64 + 1);
    let at = random.random_range(0..used);
    let what = match random.random_range(0..4) {
        0 | 1 => {
            let bit = random.random_range(0..8);
            handle.write_all_at(&[content[at as usize] ^ (1 << bit)], at).unwrap();
            format!("bit {bit} of byte {at}")
        }
        2 => {
            let until = len.min(at + random.random_range(1..4096));
            handle.write_all_at(&vec![0; (until - at) as usize], at).unwrap();
            format!("zeros in {at}..{until}")
        }
        _ => {
            handle.set_len(at).unwrap();
            format!("cut at {at}")
        }
    };
    format!("{}: {what} of {used}/{len}", file.display())
}

#[test]
fn no_damage_goes_unseen() {
    let place = Place::new();
    let (store, mut writer) = Store::open(&config(place.dir())).unwrap();
    for round in 0..6 {
        write(&mut writer, round * 140..(round + 1) * 140);
        store.settle().unwrap();
    }
    write(&mut writer, 840..850);
    // The last flush is only in the journal.
    write(&mut writer, 850..COMMITS);
    drop((store, writer));
    assert_eq!(ask(place.dir()), Ok(Answer::Whole));

    let seeds = std::env::var("ROAMD_DAMAGES").ok().and_then(|text| text.parse().ok());
    let first: u64 =
        std::env::var("ROAMD_DAMAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut answers = BTreeMap::<Answer, u64>::new();
    let mut unseen = Vec::new();
    for seed in first..first + seeds.unwrap_or(60) {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        copy(place.dir(), &dir);
        let files = files(&dir);
        let file = &files[random.random_range(0..files.len())];
        let what = damage(&mut random, file);
        match ask(&dir) {
            Ok(answer) => *answers.entry(answer).or_default() += 1,
            Err(error) => unseen.push(format!("damage {seed}, {what}: {error}")),
        }
    }
    println!("{answers:?}");
    assert!(unseen.is_empty(), "{} unseen:\n{}", unseen.len(), unseen.join("\n"));
}
