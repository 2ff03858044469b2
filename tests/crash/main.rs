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

use std::{fmt::Write as _, path::Path, sync::Mutex, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use witness::{Complaints, Depth, Launch, Ledger, Load, seed, setting};

/// The machine is not shared between tests that are about moments.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The load of one round is over after so long, whatever the daemon has replied.
const LOAD_TIME_MAX: Duration = Duration::from_secs(4);
/// Everything is read again in every so many rounds.
const WHOLE_EVERY: u64 = 25;
/// A round that ends by SIGTERM, in every so many.
const TERMINATE_EVERY: u64 = 10;

#[test]
fn acked_data_survives_kill_9() {
    let _turn = ONE_AT_A_TIME.lock();
    let seed = seed("CRASH_SEED");
    let rounds = setting("CRASH_ROUNDS", 50);
    let replay = format!("CRASH_SEED={seed} CRASH_ROUNDS={rounds} cargo test --test crash acked");
    println!("{replay}");
    let dir = tempfile::Builder::new().prefix("roamd-crash-").tempdir().unwrap();
    let mut run = Run::begin(seed, dir.path());
    for round in 0..rounds {
        let complaints = run.round(round, round + 1 == rounds);
        if !complaints.is_empty() {
            let mut text = format!("round {round}: {} complaints\n", complaints.len());
            for complaint in complaints.iter().take(20) {
                writeln!(text, "- {complaint}").unwrap();
            }
            let kept = dir.keep();
            panic!("{text}\ndata directory: {}\nagain: {replay}", kept.display());
        }
    }
    println!("{}", run.launch.verify().unwrap());
    println!("{}", run.report(rounds));
}

/// One data directory through all its lives.
struct Run {
    launch: Launch,
    rng: StdRng,
    ledger: Ledger,
    slowest_start: Duration,
    starts: u64,
    kills_at_start: u64,
}

impl Run {
    fn begin(seed: u64, dir: &Path) -> Self {
        let launch = Launch::small_store(&dir.join("data"));
        let (mut roamd, address) = launch.start().unwrap();
        let ledger = Ledger::open(&launch, address).unwrap();
        roamd.kill();
        let rng = StdRng::seed_from_u64(seed);
        Self { launch, rng, ledger, slowest_start: Duration::ZERO, starts: 0, kills_at_start: 0 }
    }

    /// Start, load, kill; start, check, repeat what is open, check.
    fn round(&mut self, round: u64, last: bool) -> Complaints {
        let mut complaints = self.live(round);
        if !complaints.is_empty() {
            return complaints;
        }
        while self.rng.random_bool(0.25) {
            let mut roamd = self.launch.spawn();
            roamd.startup(Duration::from_millis(self.rng.random_range(0..150)));
            roamd.kill();
            self.kills_at_start += 1;
        }
        let (mut roamd, address) = match self.launch.start() {
            Ok(started) => started,
            Err(text) => return vec![text],
        };
        self.starts += 1;
        self.slowest_start = self.slowest_start.max(roamd.started.elapsed());
        let depth = match round % WHOLE_EVERY == WHOLE_EVERY - 1 || last {
            true => Depth::Whole,
            false => Depth::New,
        };
        complaints = self.ledger.check(address, depth);
        if complaints.is_empty() {
            complaints = self.ledger.settle(address);
        }
        if complaints.is_empty() {
            complaints = self.ledger.check(address, Depth::New);
        }
        if complaints.is_empty() {
            self.ledger.forget_requests();
        } else {
            complaints.push(roamd.obituary("while checking"));
        }
        complaints
    }

    /// One life under load, and its end.
    fn live(&mut self, round: u64) -> Complaints {
        let (mut roamd, address) = match self.launch.start() {
            Ok(started) => started,
            Err(text) => return vec![text],
        };
        self.starts += 1;
        self.slowest_start = self.slowest_start.max(roamd.started.elapsed());
        let load = Load::start(&self.ledger, address, self.rng.random());
        let replies = self.rng.random_range(1..1400);
        let works = load.work(replies, LOAD_TIME_MAX);
        let mut complaints = Vec::new();
        if !works {
            complaints.push(roamd.obituary("the load ended before its time"));
        } else if round % TERMINATE_EVERY == TERMINATE_EVERY - 1 {
            roamd.terminate();
            match roamd.reap_in_time() {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    let words = roamd.last_words();
                    complaints.push(format!("SIGTERM under load ended with {status}:{words}"));
                }
                Err(text) => complaints.push(text),
            }
        } else {
            roamd.kill();
        }
        if roamd.said("panicked") {
            complaints.push(format!("roamd panicked:{}", roamd.last_words()));
        }
        complaints.extend(self.ledger.take(load.end()));
        complaints
    }

    fn report(&self, rounds: u64) -> String {
        let figures = &self.ledger.figures;
        format!(
            "{rounds} rounds, {} starts (slowest {:?}), {} kills during a start: {} sends acked, \
             {} without a reply of which {} were done, {} repeated; {} inbox entries, all as promised",
            self.starts,
            self.slowest_start,
            self.kills_at_start,
            figures.acked,
            figures.open,
            figures.done_without_reply,
            figures.repeated,
            figures.entries,
        )
    }
}
