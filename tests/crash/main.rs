//! kill -9 of the real daemon, under load, at any moment: nothing acked is lost, nothing is there
//! twice, nothing that was shown changes, and it opens again.
//!
//! ```text
//! cargo test --test crash                                50 rounds and 20 first boots
//! CRASH_ROUNDS=1000 cargo test --test crash              as many as wanted
//! CRASH_SEED=7 cargo test --test crash -- --nocapture    the same choices again
//! ```
//! A seed repeats every choice of the test: what is sent, after how many replies the daemon is
//! killed, which syscall of a first boot. It cannot repeat how threads and kernel interleave; if a
//! failure does not come back at once, run more rounds with its seed. The data directory of a
//! failed run is kept and named.
//!
//! All rounds share one data directory, so that state accumulates: inboxes are trimmed, journal
//! segments go around, trees grow, devices fall behind. The store is so small that most kills hit a
//! checkpoint, a rollover or a recycled segment. Some kills hit the start after a kill. Every tenth
//! round is a SIGTERM instead, which must end with status 0.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

#[path = "../witness/mod.rs"]
mod witness;

mod first_boot;

use std::{fmt::Write as _, sync::Mutex};

use witness::{Launch, Lives, seed, setting};

/// The machine is not shared between tests that are about moments.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn acked_data_survives_kill_9() {
    let _turn = ONE_AT_A_TIME.lock();
    let seed = seed("CRASH_SEED");
    let rounds = setting("CRASH_ROUNDS", 50);
    let replay = format!("CRASH_SEED={seed} CRASH_ROUNDS={rounds} cargo test --test crash acked");
    println!("{replay}");
    let dir = tempfile::Builder::new().prefix("roamd-crash-").tempdir().unwrap();
    let mut lives = Lives::begin(seed, Launch::small_store(&dir.path().join("data")));
    for round in 0..rounds {
        let complaints = lives.round(round, round + 1 == rounds);
        if !complaints.is_empty() {
            let mut text = format!("round {round}: {} complaints\n", complaints.len());
            for complaint in complaints.iter().take(20) {
                writeln!(text, "- {complaint}").unwrap();
            }
            let kept = dir.keep();
            panic!("{text}\ndata directory: {}\nagain: {replay}", kept.display());
        }
    }
    println!("{}", lives.launch.verify().unwrap());
    println!("{}", lives.report(rounds));
}
