//! Which checker is to find which bug, and what it may call it.

use roamd::planted::Bug;

use super::invariant::{Invariant, Invariant::*, named};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checker {
    /// `tests/model`: engine, sessions and store in this process.
    Model,
    /// `tests/push`: what the hook is told.
    Hook,
    /// `tests/witness`: the daemon as a process, under kill -9.
    Witness,
}

impl Checker {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "reference model",
            Self::Hook => "histories of the push hook",
            Self::Witness => "witness, kill -9",
        }
    }
}

/// A bug, who finds it, and the promises of which one must be named.
pub struct Planted {
    pub bug: Bug,
    pub checker: Checker,
    pub breaks: &'static [Invariant],
}

const fn model(bug: Bug, breaks: &'static [Invariant]) -> Planted {
    Planted { bug, checker: Checker::Model, breaks }
}

pub const PLANTED: &[Planted] = &[
    Planted { bug: Bug::AckBeforeSync, checker: Checker::Witness, breaks: &[I1] },
    Planted { bug: Bug::CheckpointEarly, checker: Checker::Witness, breaks: &[I1] },
    Planted { bug: Bug::PushJobLost, checker: Checker::Hook, breaks: &[I11] },
    model(Bug::SequenceReused, &[I1]),
    model(Bug::NewestTrimmed, &[I10]),
    // The sequence that the next ack tells shows as well that an inbox lacks it.
    model(Bug::InstructionLost, &[I1, I8]),
    model(Bug::UnreadTwice, &[I9]),
    model(Bug::LeakBeforeJoin, &[I2]),
    model(Bug::CursorBackwards, &[I7]),
    model(Bug::OverflowSkipped, &[I3, I6, I10]),
    model(Bug::FullQueueDrops, &[I6]),
    model(Bug::LiveBeforeCaughtUp, &[I6]),
    model(Bug::RetryMakesTwo, &[I5]),
    model(Bug::PayloadIgnored, &[I5]),
    model(Bug::RecalledContentLeaves, &[I8]),
    model(Bug::TotalIsNoSum, &[I9]),
    model(Bug::TooLongNotSaid, &[I10]),
    model(Bug::HistoryReversed, &[I4]),
    model(Bug::GrowthNotTold, &[I11]),
    model(Bug::HalfFanOut, &[I1]),
    model(Bug::OrderSwapped, &[I3]),
    model(Bug::SessionNotFenced, &[I12]),
    model(Bug::LargePushLost, &[I11]),
    model(Bug::UnflushedReads, &[I2]),
    model(Bug::MarkLost, &[I9]),
    model(Bug::PresenceStays, &[I12]),
    model(Bug::AnswerLost, &[I14]),
    model(Bug::LargeFanOut, &[I13]),
    model(Bug::CheckpointLosesLog, &[I1]),
];

/// A bug that was found.
pub struct Row {
    pub checker: Checker,
    /// Seeds, or rounds of one seed.
    pub seeds: u64,
    found: String,
    named: Option<Invariant>,
    right: bool,
}

impl Row {
    pub fn new(planted: &Planted, seeds: u64, found: String) -> Self {
        let named = match planted.checker {
            Checker::Model => named(&found),
            Checker::Hook => found.contains("never heard of").then_some(I11),
            Checker::Witness => named(&found),
        };
        let right = named.is_some_and(|named| planted.breaks.contains(&named));
        Self { checker: planted.checker, seeds, found, named, right }
    }
}

/// Prints what was found; gives back what is not as it should be.
pub fn print(rows: &[(Bug, Option<Row>)]) -> Vec<String> {
    let mut wrong = Vec::new();
    println!("| bug | found by | after seeds | as |\n|---|---|---|---|");
    for (bug, row) in rows {
        let Some(row) = row else {
            println!("| {} | NOBODY | | |", bug.name());
            wrong.push(format!("{} is not found", bug.name()));
            continue;
        };
        let named = row
            .named
            .map_or("NO NAME".to_owned(), |named| format!("{named:?}: {}", named.promise()));
        let found_by = row.checker.name();
        println!("| {} | {found_by} | {} | {named} |", bug.name(), row.seeds);
        if !row.right {
            let found: String = row.found.chars().take(1500).collect();
            wrong.push(format!("{} is found under another name: {found}", bug.name()));
        }
    }
    let found = rows.iter().filter(|(_, row)| row.is_some()).count();
    println!("{found} of {} found", rows.len());
    wrong
}
