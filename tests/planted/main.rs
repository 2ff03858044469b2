//! Tests the testers: each bug of `roamd::planted` is switched on and must be found by the checker
//! that is there for it, which must name the promise that is broken. With none switched on the same
//! seeds pass.
//!
//! ```text
//! cargo test --features simulation --test planted -- --nocapture      all of them, and the table
//! PLANTED=half_fan_out cargo test --features simulation --test planted -- --nocapture
//! PLANTED_SEEDS=200 ...                                                so many seeds at most
//! ```
//! The checkers are those of the other tests: the reference model with engine and sessions in this
//! process (`tests/model`), the random histories of the push hook (`tests/push`), and the witness of
//! the shipped daemon under kill -9 (`tests/witness`), for mistakes that only a process can make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]
// The checkers are used here in part.
#![allow(dead_code)]

#[path = "../model/audit.rs"]
mod audit;
#[path = "../model/client.rs"]
mod client;
#[path = "../model/compare.rs"]
mod compare;
#[path = "../model/dice.rs"]
mod dice;
#[path = "../model/driver.rs"]
mod driver;
#[path = "../push/model.rs"]
mod hook;
#[path = "../model/invariant.rs"]
mod invariant;
#[path = "../model/model/mod.rs"]
mod model;
#[path = "../model/plan/mod.rs"]
mod plan;
#[path = "../model/replica.rs"]
mod replica;
#[path = "../model/shell/mod.rs"]
mod shell;
#[path = "../model/spoil.rs"]
mod spoil;
#[path = "../witness/mod.rs"]
mod witness;

mod processes;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::{Driver, Found};
use roamd::planted::{self, Bug};
use table::{Checker, PLANTED, Planted, Row};

/// Steps of a run of the model.
const STEPS: u64 = 300;
/// Seeds, or rounds of one seed, after which a bug counts as not found.
const SEEDS_MAX: u64 = 100;

fn seeds_max() -> u64 {
    witness::setting("PLANTED_SEEDS", SEEDS_MAX)
}

/// One seed of a checker in this process.
fn attempt(checker: Checker, seed: u64) -> Result<(), Found> {
    let run = || match checker {
        Checker::Model => Driver::new(seed, false)?.run(STEPS),
        Checker::Hook => {
            hook::run(seed, seed % 2 == 1, false);
            Ok(())
        }
        Checker::Witness => unreachable!("has processes of its own"),
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("a panic without a text").to_owned())
    })
}

/// Seeds from one on until the bug is found.
fn find(planted: &Planted) -> Option<Row> {
    planted::set(Some(planted.bug));
    let found = (1..=seeds_max()).find_map(|seed| {
        let found = attempt(planted.checker, seed).err()?;
        Some(Row::new(planted, seed, found))
    });
    planted::set(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    roamd::store::fsync::set_enabled(false);
    // What a planted bug makes panic is told in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = std::env::var("PLANTED").ok();
    let wanted: Vec<&Planted> =
        PLANTED.iter().filter(|p| wanted.as_ref().is_none_or(|w| p.bug.name() == w)).collect();
    assert!(!wanted.is_empty(), "no planted bug has this name");
    let (outside, inside): (Vec<&Planted>, Vec<&Planted>) =
        wanted.iter().partition(|planted| planted.checker == Checker::Witness);
    let mut rows = Vec::new();
    for planted in inside {
        rows.push((planted.bug, find(planted)));
    }
    let mut clean = Vec::new();
    for checker in [Checker::Model, Checker::Hook] {
        let of_it = rows.iter().filter_map(|(_, row)| row.as_ref());
        let most = of_it.filter(|row| row.checker == checker).map(|row| row.seeds).max();
        for seed in 1..=most.unwrap_or(0) {
            if let Err(found) = attempt(checker, seed) {
                clean.push(format!("nothing is planted, and {checker:?} {seed}: {found}"));
            }
        }
    }
    // Not beside the others: a process that is being started holds their stores' locks for a moment.
    let (found, complaints) = processes::find_all(&outside);
    rows.extend(found);
    clean.extend(complaints);
    let _ = std::panic::take_hook();
    rows.sort_by_key(|(bug, _)| *bug);
    let wrong = table::print(&rows);
    assert!(clean.is_empty(), "\n{}", clean.join("\n"));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// None is left out.
#[test]
fn each_is_in_the_table() {
    let named: Vec<Bug> = PLANTED.iter().map(|planted| planted.bug).collect();
    let missing: Vec<_> = Bug::ALL.iter().filter(|bug| !named.contains(bug)).collect();
    assert!(missing.is_empty(), "{missing:?} are planted and looked for by nobody");
    assert!(named.len() >= 20);
}
