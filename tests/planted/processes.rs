//! Bugs in the shipped daemon, under kill -9: each in a data directory of its own, and the same rounds
//! without any.

use roamd::planted::{Bug, VARIABLE};

use super::{
    invariant::Invariant,
    table::{Planted, Row},
    witness::{Launch, Lives, setting},
};

/// Rounds after which a bug counts as not found.
const ROUNDS_MAX: u64 = 60;

/// What the witness's complaints are about, by their beginnings.
const NAMES: &[(&str, Invariant)] = &[
    ("acked send lost", Invariant::I1),
    ("own entry not as acked", Invariant::I1),
    ("history of", Invariant::I1),
    ("inbox of", Invariant::I1),
    ("roamd does not start", Invariant::I1),
    // To a conversation there was.
    ("an unfitting reply", Invariant::I1),
    ("acked change of members lost", Invariant::I1),
    ("not as acked", Invariant::I2),
    ("phantom", Invariant::I2),
    ("damaged", Invariant::I2),
    ("refused and yet done", Invariant::I2),
    ("history_seq used twice", Invariant::I3),
    ("read marker of", Invariant::I9),
    ("unread of", Invariant::I9),
];

/// Rounds of this seed until something is wrong; how many, and what.
fn rounds(bug: Option<Bug>, most: u64) -> Option<(u64, String)> {
    let dir = tempfile::Builder::new().prefix("roamd-planted-").tempdir().unwrap();
    let mut launch = Launch::small_store(&dir.path().join("data"));
    if let Some(bug) = bug {
        launch.env.push((VARIABLE, bug.name().to_owned()));
    }
    let mut lives = Lives::begin(setting("PLANTED_SEED", 11), launch);
    for round in 0..most {
        let complaints = lives.round(round, false);
        if complaints.is_empty() {
            continue;
        }
        let name = |complaint: &String| {
            NAMES.iter().find(|(start, _)| complaint.contains(start)).map(|(_, name)| *name)
        };
        let text = complaints.join("\n");
        return Some((
            round + 1,
            match complaints.iter().find_map(name) {
                Some(name) => name.broken(text),
                None => text,
            },
        ));
    }
    None
}

/// Looks for all of these; also says what is wrong without any.
pub fn find_all(all: &[&Planted]) -> (Vec<(Bug, Option<Row>)>, Vec<String>) {
    let mut rows = Vec::new();
    for planted in all {
        let found = rounds(Some(planted.bug), ROUNDS_MAX);
        rows.push((planted.bug, found.map(|(count, text)| Row::new(planted, count, text))));
    }
    let most = rows.iter().filter_map(|(_, row)| row.as_ref()).map(|row| row.seeds).max();
    let clean = rounds(None, most.unwrap_or(0));
    let clean = clean.map(|(round, text)| format!("nothing is planted, and round {round}: {text}"));
    (rows, clean.into_iter().collect())
}
