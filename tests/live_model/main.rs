//! The model's plan against the shipped daemon: real sockets, a real disk, kill -9, SIGTERM, a frozen
//! process. The same plan, model and checker of devices as in `tests/model`; what stands for the
//! daemon there is the daemon here.
//!
//! ```text
//! cargo test --test live_model                            a few seeds
//! LIVE_ROUNDS=100 LIVE_FROM=1000 cargo test --test live_model
//! LIVE_SEED=7 cargo test --test live_model -- --nocapture  one, and every step is told
//! LIVE_STEPS=1000 ...                                      longer runs
//! cargo test --features simulation --test live_model planted -- --nocapture
//! ```
//! One thing is asked at a time, and all devices come to rest before the next: then the order is known,
//! and everything is compared exactly, but for the times that the daemon's clock gives. What goes out
//! together (sends of one device before a kill, or while the process is frozen) is settled by what its
//! sender does anyway: it repeats them, and what was done must be a beginning of them. A run in which
//! the machine stood still around a timer proves nothing, is counted as such and says so.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]
// What the model's own test uses of its modules beyond this.
#![allow(dead_code)]

#[path = "../model/bodies.rs"]
mod bodies;
#[path = "../model/client.rs"]
mod client;
#[path = "../model/compare.rs"]
mod compare;
#[path = "../model/dice.rs"]
mod dice;
#[path = "../model/invariant.rs"]
mod invariant;
#[path = "../model/model/mod.rs"]
mod model;
#[path = "../model/plan/mod.rs"]
mod plan;
#[path = "../model/replica.rs"]
mod replica;
#[path = "../witness/mod.rs"]
mod witness;

mod connections;
mod driver;
mod ends;
mod hear;
mod wire;

use driver::Live;
use witness::setting;

const ROUNDS: u64 = 3;
const STEPS: u64 = 110;

#[test]
fn the_daemon_agrees_with_the_model() {
    let range = match std::env::var("LIVE_SEED") {
        Ok(_) => {
            let seed = setting("LIVE_SEED", 0);
            seed..seed + 1
        }
        Err(_) => {
            let first = setting("LIVE_FROM", 1);
            first..first + setting("LIVE_ROUNDS", ROUNDS)
        }
    };
    let talk = std::env::var_os("LIVE_SEED").is_some();
    let (mut doubtful, mut told) = (0, std::collections::BTreeMap::<&str, u64>::new());
    let seeds = range.end - range.start;
    for seed in range {
        let mut live = Live::start(seed, talk, &[]).unwrap();
        if let Err(found) = live.run(setting("LIVE_STEPS", STEPS)) {
            panic!(
                "\n{}\n\nseed {seed}: {found}\n{}\nagain: LIVE_SEED={seed} cargo test --test \
                 live_model -- --nocapture\n",
                live.shown(),
                live.obituary()
            );
        }
        doubtful += u64::from(live.doubtful);
        for (what, count) in &live.tally {
            *told.entry(what).or_default() += count;
        }
    }
    println!("{seeds} seeds, {doubtful} of them not to the end: the machine stood still; {told:?}");
    assert!(doubtful * 2 <= seeds, "{doubtful} of {seeds} seeds proved nothing");
}

/// The checker is not blind on this side of the sockets either: a daemon with a planted bug is found.
#[cfg(feature = "simulation")]
#[test]
fn planted_bugs_are_found() {
    use roamd::planted::{Bug, VARIABLE};
    const SEEDS_MAX: u64 = 30;
    for bug in [
        Bug::SessionNotFenced,
        Bug::SequenceReused,
        Bug::HalfFanOut,
        Bug::InstructionLost,
        Bug::RecalledContentLeaves,
        Bug::UnreadTwice,
        Bug::RetryMakesTwo,
        Bug::NewestTrimmed,
    ] {
        let planted = [(VARIABLE, bug.name().to_owned())];
        let found = (1..=SEEDS_MAX).find_map(|seed| {
            let run = || Live::start(seed, false, &planted)?.run(STEPS);
            // What it makes impossible may show as a panic of the test.
            let run = std::panic::catch_unwind(run);
            Some((seed, run.unwrap_or_else(|_| Err("a panic".to_owned())).err()?))
        });
        let (seed, found) = found.unwrap_or_else(|| panic!("{} is not found", bug.name()));
        let named = invariant::named(&found).map_or("no name".to_owned(), |i| i.to_string());
        println!("| {} | live model | {seed} | {named} |", bug.name());
    }
}
