//! One data directory through many lives: load, kill, start, check, repeat what is open, check.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Complaints, Depth, Launch, Ledger, Load};

/// The load of one round is over after so long, whatever the daemon has replied.
const LOAD_TIME_MAX: Duration = Duration::from_secs(4);
/// Everything is read again in every so many rounds.
const WHOLE_EVERY: u64 = 25;
/// A round that ends by SIGTERM, in every so many.
const TERMINATE_EVERY: u64 = 10;

/// One data directory through all its lives.
pub struct Lives {
    pub launch: Launch,
    rng: StdRng,
    ledger: Ledger,
    slowest_start: Duration,
    starts: u64,
    kills_at_start: u64,
}

impl Lives {
    /// The first life: users, devices and groups are made.
    pub fn begin(seed: u64, launch: Launch) -> Self {
        let (mut roamd, address) = launch.start().unwrap();
        let ledger = Ledger::open(&launch, address).unwrap();
        roamd.kill();
        let rng = StdRng::seed_from_u64(seed);
        Self { launch, rng, ledger, slowest_start: Duration::ZERO, starts: 0, kills_at_start: 0 }
    }

    /// Start, load, kill; start, check, repeat what is open, check.
    pub fn round(&mut self, round: u64, last: bool) -> Complaints {
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

    /// What happened in all of them.
    pub fn report(&self, rounds: u64) -> String {
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
