//! The engine against a reference model, over random commands, crashes and restarts.
//!
//! `cargo test --test model` runs a slice. `MODEL_ROUNDS=10000` runs more seeds (from `MODEL_FROM=n` on), `MODEL_SEED=n` runs
//! one and tells every step, `MODEL_STEPS=n` changes the length of a run, `MODEL_TALLY=1` says which
//! answers came how often. A failure names its seed and the last steps before it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

mod audit;
mod client;
mod compare;
mod dice;
mod driver;
mod found;
mod invariant;
mod kinds;
mod lies;
mod model;
mod plan;
mod replica;
mod shell;
mod spoil;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use driver::Driver;

const ROUNDS: u64 = 150;
const STEPS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// One run; says what was found and how to see it again.
fn run(seed: u64, talk: bool, tally: &mut BTreeMap<String, u64>) -> Result<(), String> {
    let steps = number("MODEL_STEPS").unwrap_or(STEPS);
    let mut driver = Driver::new(seed, talk)?;
    let result = catch_unwind(AssertUnwindSafe(|| driver.run(steps)));
    for (kind, count) in &driver.tally {
        *tally.entry(kind.clone()).or_default() += count;
    }
    let found = match result {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(found)) => found,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or("without a text"))
        }
    };
    Err(format!(
        "{}\n\nseed {seed}: {found}\n\nagain: MODEL_SEED={seed} cargo test --test model\n",
        driver.shown()
    ))
}

/// Seeds that found something no plain slice does. A recall after its reader had left the group: the
/// total that a push told still counted the message.
#[test]
fn seeds_that_found_something_agree() {
    roamd::store::fsync::set_enabled(false);
    for seed in [100_911] {
        if let Err(found) = run(seed, false, &mut BTreeMap::new()) {
            panic!("\n{found}");
        }
    }
}

#[test]
fn the_engine_agrees_with_the_model() {
    // The crash here is the process's, not the disk's: what was written is not lost by it.
    roamd::store::fsync::set_enabled(false);
    let range = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("MODEL_FROM").unwrap_or(1);
            first..first + number("MODEL_ROUNDS").unwrap_or(ROUNDS)
        }
    };
    let talk = number("MODEL_SEED").is_some();
    let mut tally = BTreeMap::new();
    let seeds = range.end - range.start;
    for seed in range {
        if let Err(found) = run(seed, talk, &mut tally) {
            panic!("\n{found}");
        }
    }
    if std::env::var_os("MODEL_TALLY").is_some() {
        eprintln!("{tally:#?}");
    }
    if seeds >= ROUNDS && number("MODEL_STEPS").is_none() {
        let missing: Vec<_> =
            kinds::KINDS.iter().filter(|kind| !tally.contains_key(**kind)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}, only {tally:#?}");
    }
}
