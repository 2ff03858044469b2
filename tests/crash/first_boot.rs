//! A kill at the n-th write of a life that begins in an empty directory, and again at the m-th write
//! of the next one: whatever is left opens again, and keeps what was acked.
//!
//! strace counts the calls that change something on disk (or write anywhere), in each thread for
//! itself, and kills the process before the n-th of any thread is done. Small numbers hit making
//! the key, the directory, the journal and the trees; larger ones the first commits, checkpoints
//! and rollovers; the largest the orderly stop, or nothing.
//!
//! ```text
//! cargo test --test crash first_boot                       20 pairs out of 1..=300
//! CRASH_POINTS=300 cargo test --test crash first_boot      each of 1..=300
//! ```

use std::{ffi::OsString, net::SocketAddr, process::Command, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    ONE_AT_A_TIME,
    witness::{Complaints, Depth, Launch, Ledger, Load, look, seed, setting},
};

/// The last call that is tried.
const LAST_POINT: usize = 300;
/// About the last call of a boot, in a store with small segments.
const BOOT_POINT: usize = 60;
/// What counts.
const WRITES: &str = "write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,\
                      rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,ftruncate,fallocate";
/// How long a life under strace may take to be ready.
const START_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the load of one life lasts at most.
const LOAD_TIME_MAX: Duration = Duration::from_secs(2);
/// Replies after which a life that was not killed is stopped.
const REPLIES: u64 = 600;

#[test]
fn first_boot_survives_a_kill_at_any_write() {
    let _turn = ONE_AT_A_TIME.lock();
    if let Err(why) = may_trace() {
        println!("SKIPPED: {why}");
        return;
    }
    let seed = seed("CRASH_SEED");
    let count = (setting("CRASH_POINTS", 20) as usize).min(LAST_POINT);
    let replay =
        format!("CRASH_SEED={seed} CRASH_POINTS={count} cargo test --test crash first_boot");
    println!("{replay}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut killed = 0;
    for number in 1..=count {
        // All of them, or a draw in which the boot itself comes as often as everything behind it.
        let mut draw = || match rng.random_bool(0.5) {
            true => rng.random_range(1..=BOOT_POINT),
            false => rng.random_range(1..=LAST_POINT),
        };
        let first = if count == LAST_POINT { number } else { draw() };
        let points = [first, draw()];
        let dir = tempfile::Builder::new().prefix("roamd-crash-").tempdir().unwrap();
        let mut lives = Lives {
            launch: Launch::small_store(&dir.path().join("data")),
            ledger: None,
            seed: rng.random(),
            killed: 0,
        };
        let complaints = lives.all(points);
        killed += lives.killed;
        if !complaints.is_empty() {
            let kept = dir.keep();
            panic!(
                "killed at {points:?}: {}\ndata directory: {}\nagain: {replay}",
                complaints.join("\n- "),
                kept.display()
            );
        }
    }
    println!("{count} first boots, {killed} of {} lives killed: all open again", count * 2);
}

/// Whether strace is there and may do its work.
fn may_trace() -> Result<(), String> {
    let output = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    match output {
        Err(error) => Err(format!("strace cannot be started: {error}")),
        Ok(output) if output.status.success() && output.stderr.is_empty() => Ok(()),
        Ok(output) => {
            Err(format!("strace may not trace: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

struct Lives {
    launch: Launch,
    ledger: Option<Ledger>,
    seed: u64,
    killed: usize,
}

impl Lives {
    fn all(&mut self, points: [usize; 2]) -> Complaints {
        for point in points {
            let mut complaints = self.traced(point);
            if complaints.is_empty() {
                complaints = self.untraced();
            }
            if !complaints.is_empty() {
                return complaints;
            }
        }
        Complaints::new()
    }

    /// A life that ends at the point, or is stopped when it gets so far.
    fn traced(&mut self, point: usize) -> Complaints {
        let trace = format!("trace={WRITES}");
        let inject = format!("inject={WRITES}:signal=KILL:when={point}");
        // -D: the daemon is our child, strace is not.
        let under = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let launch = Launch { under: under.map(OsString::from).to_vec(), ..self.launch.clone() };
        let mut roamd = launch.spawn();
        let load = roamd.ready(START_TIME_MAX).and_then(|address| self.work(address));
        roamd.terminate();
        let mut complaints = Complaints::new();
        match roamd.reap_in_time() {
            Ok(status) if status.code().is_none() => self.killed += 1,
            Ok(status) if status.success() => {}
            Ok(status) => complaints.push(format!("ended with {status}:{}", roamd.last_words())),
            Err(text) => complaints.push(text),
        }
        if let (Some(load), Some(ledger)) = (load, &mut self.ledger) {
            complaints.extend(ledger.take(load.end()));
        }
        complaints
    }

    fn work(&mut self, address: SocketAddr) -> Option<Load> {
        if self.ledger.is_none() {
            // The kill may come in between; then nothing was promised.
            self.ledger = Ledger::open(&self.launch, address).ok();
        }
        let load = Load::start(self.ledger.as_ref()?, address, self.seed);
        load.work(REPLIES, LOAD_TIME_MAX);
        Some(load)
    }

    /// A life without strace, in which everything is looked at. It ends by a kill, too.
    fn untraced(&mut self) -> Complaints {
        match look(&self.launch, &mut self.ledger, Depth::Whole) {
            Ok(_) => Complaints::new(),
            Err(complaints) => complaints,
        }
    }
}
