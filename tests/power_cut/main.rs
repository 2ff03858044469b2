//! The plug is pulled under load: nothing acked is lost, and the data directory opens again.
//!
//! ```text
//! cargo test --test power_cut                                20 cuts
//! POWER_CUT_ROUNDS=500 cargo test --test power_cut           as many as wanted
//! POWER_CUT_SEED=7 cargo test --test power_cut -- --nocapture
//! ```
//! Needs root, loop devices and ext4; says SKIPPED and why where one of them is missing. It runs in
//! a mount namespace of its own, so that no mount and no loop device outlives it, however it ends.
//!
//! # What models a power cut
//! What counts as "on disk" is what the drive has confirmed to have flushed. The image file behind a
//! loop device is more than that: it also has everything that was only submitted. A harness that
//! copies it cannot see a sync that lacks the flush (`sync_file_range` instead of `fdatasync`, which
//! is what stock sled does), and a copy made while writes go on is a mixture of moments besides.
//! So the drive itself gets a volatile cache, made of the page cache ([`drive`]):
//!
//! ```text
//! roamd ─ ext4 "root" ─ loop ─ disk.img on ext4 "drive" ─ loop ─ drive.img
//!                               └ written: page cache       └ flushed: here
//! ```
//! A write of the inner file system ends in the page cache of `disk.img`; only a flush of the inner
//! device makes the loop driver fsync it. The cut is the ioctl that shuts the outer file system down
//! without flushing its log: from one instant on nothing reaches `drive.img`, and what was not
//! flushed is gone when it is unmounted. Both file systems commit their journals by themselves only
//! every 300 s, so nothing is saved by chance. Real drives also write back part of their cache when
//! they like: before every other cut, random pieces of `disk.img` are written out, so that some
//! unflushed writes survive, later ones without earlier ones.
//!
//! After the cut every write fails with EIO. The daemon must stop by itself, with its own exit status
//! (looked at in every other round; in the others it is killed), and must ack nothing: therefore *every* ack a device has received has to be kept, those after the cut too.
//!
//! # That it can see
//! The same with the daemon's syncs switched off (`ROAMD_TEST_ONLY_NO_FSYNC=1`) must lose acked
//! data, or the test fails.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

#[path = "../witness/mod.rs"]
mod witness;

mod drive;

use std::{
    fmt::Write as _,
    os::unix::fs::MetadataExt,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use drive::Drive;
use rand::{Rng, SeedableRng, rngs::StdRng};
use witness::{Complaints, Depth, Launch, Ledger, Load, seed, setting};

/// Set in the process that runs in its own mount namespace.
const INSIDE: &str = "POWER_CUT_INSIDE";
/// Switches the daemon's syncs off; see `src/cli/server/serve.rs`.
const NO_FSYNC: &str = "ROAMD_TEST_ONLY_NO_FSYNC";
/// Rounds on one drive; the next ones begin with an empty one.
const ROUNDS_PER_DRIVE: u64 = 7;
/// The load of one round is over after so long, whatever the daemon has replied.
const LOAD_TIME_MAX: Duration = Duration::from_secs(4);
/// How long the devices may go on without power.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Exit status of a daemon whose disk has failed.
const STATUS_STORAGE: i32 = 9;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn acked_data_survives_a_power_cut() {
    let _turn = ONE_AT_A_TIME.lock();
    if !inside("acked_data_survives_a_power_cut") {
        return;
    }
    let seed = seed("POWER_CUT_SEED");
    let rounds = setting("POWER_CUT_ROUNDS", 20);
    let replay = format!(
        "POWER_CUT_SEED={seed} POWER_CUT_ROUNDS={rounds} cargo test --test power_cut acked"
    );
    println!("{replay}");
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut drives, mut acked, mut open, mut stopped) = (0, 0, 0, 0);
    let mut left = rounds;
    while left > 0 {
        let mut run = Run::begin(rng.random());
        if drives % 2 == 1 {
            run.launch.rarely_checkpoint();
        }
        drives += 1;
        for _ in 0..left.min(ROUNDS_PER_DRIVE) {
            let complaints = run.round();
            assert!(complaints.is_empty(), "{}again: {replay}", list(&complaints));
            left -= 1;
        }
        run.launch.verify().unwrap_or_else(|text| panic!("{text}\nagain: {replay}"));
        let ledger = run.ledger.expect("there was a round");
        acked += ledger.figures.acked;
        open += ledger.figures.open;
        stopped += run.stopped;
    }
    println!(
        "{rounds} power cuts in {:?}: {acked} sends acked and kept, {open} without a reply settled; \
         in {stopped} the daemon stopped by itself with status {STATUS_STORAGE}",
        began.elapsed()
    );
}

/// The harness is not blind: a daemon that does not sync is caught.
#[test]
fn without_syncs_the_loss_is_seen() {
    let _turn = ONE_AT_A_TIME.lock();
    if !inside("without_syncs_the_loss_is_seen") {
        return;
    }
    let seed = seed("POWER_CUT_SEED");
    println!("POWER_CUT_SEED={seed} cargo test --test power_cut without_syncs");
    for warm in [true, false] {
        let mut run = Run::begin(seed);
        if warm {
            // Everything up to here is on disk, by an orderly stop.
            let complaints = run.orderly();
            assert!(complaints.is_empty(), "{}", list(&complaints));
        }
        run.launch.env.push((NO_FSYNC, "1".to_owned()));
        let before = run.ledger.as_ref().map_or(0, |ledger| ledger.figures.acked);
        let mut complaints = run.until_cut(700, false);
        run.launch.env.pop();
        let acked = run.ledger.as_ref().map_or(0, |ledger| ledger.figures.acked) - before;
        assert!(acked > 100 && complaints.is_empty(), "{acked} acked; {}", list(&complaints));
        complaints = run.look();
        let first = complaints.first().unwrap_or_else(|| {
            panic!("{acked} sends were acked without a sync, and no loss was seen")
        });
        let first: String = first.chars().take(200).collect();
        println!(
            "without syncs (warm: {warm}), {acked} acked: {} complaints, {first}",
            complaints.len()
        );
    }
}

/// True in the process that does the work. Otherwise starts that process, or says why not.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Err(why) = possible() {
        println!("SKIPPED: {why}");
        return false;
    }
    let own = std::env::current_exe().expect("path of this test");
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare has just been started");
    assert!(status.success(), "see above");
    false
}

/// Whether this machine lets us do what we need.
fn possible() -> Result<(), String> {
    let owner = std::fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if owner != 0 {
        return Err("a power cut can only be staged by root".to_owned());
    }
    let probe = Command::new("unshare").args(["--mount", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return Err("no mount namespace can be made".to_owned());
    }
    drive::possible()
}

fn list(complaints: &Complaints) -> String {
    let mut text = format!("{} complaints\n", complaints.len());
    for complaint in complaints.iter().take(20) {
        writeln!(text, "- {complaint}").unwrap();
    }
    text
}

/// One drive through its power cuts.
struct Run {
    launch: Launch,
    rng: StdRng,
    ledger: Option<Ledger>,
    cuts: u64,
    stopped: u64,
    // Last: unmounted when everything else is gone.
    drive: Drive,
}

impl Run {
    fn begin(seed: u64) -> Self {
        let drive = Drive::make().unwrap();
        Self {
            launch: Launch::small_store(&drive.root().join("data")),
            rng: StdRng::seed_from_u64(seed),
            ledger: None,
            cuts: 0,
            stopped: 0,
            drive,
        }
    }

    fn round(&mut self) -> Complaints {
        let replies = self.rng.random_range(1..1400);
        let destage = self.cuts % 2 == 1;
        self.cuts += 1;
        let complaints = self.until_cut(replies, destage);
        if complaints.is_empty() { self.look() } else { complaints }
    }

    /// A life that ends by the cut. Leaves the drive without power and taken out.
    fn until_cut(&mut self, replies: u64, destage: bool) -> Complaints {
        let mut complaints = Complaints::new();
        let (mut roamd, address) = match self.launch.start() {
            Ok(started) => started,
            Err(text) => return vec![text],
        };
        let ledger = self.ledger.get_or_insert_with(|| {
            Ledger::open(&self.launch, address).expect("a daemon that runs")
        });
        let load = Load::start(ledger, address, self.rng.random());
        if !load.work(replies, LOAD_TIME_MAX) {
            complaints.push(roamd.obituary("the load ended before its time"));
        }
        if destage {
            self.drive.destage(&mut self.rng).unwrap();
        }
        self.drive.cut().unwrap();
        // Whatever is still answered counts as well.
        load.work(u64::MAX, AFTERMATH);
        if destage {
            roamd.kill();
        } else {
            complaints.extend(ledger.knock(address));
            match roamd.reap_in_time() {
                Ok(status) if status.code() == Some(STATUS_STORAGE) => self.stopped += 1,
                Ok(status) => {
                    complaints.push(format!("without power: {status}{}", roamd.last_words()));
                }
                Err(text) => complaints.push(text),
            }
        }
        if roamd.said("panicked") {
            complaints.push(format!("roamd panicked:{}", roamd.last_words()));
        }
        complaints.extend(ledger.take(load.end()));
        self.drive.take_out().unwrap();
        complaints
    }

    /// Power is back: everything acked is there.
    fn look(&mut self) -> Complaints {
        self.drive.put_in().unwrap();
        let (mut roamd, address) = match self.launch.start() {
            Ok(started) => started,
            Err(text) => return vec![text],
        };
        let ledger = self.ledger.as_mut().expect("look comes after a life");
        let mut complaints = ledger.check(address, Depth::Whole);
        if complaints.is_empty() {
            complaints = ledger.settle(address);
        }
        if complaints.is_empty() {
            complaints = ledger.check(address, Depth::New);
        }
        if complaints.is_empty() {
            ledger.forget_requests();
        } else {
            complaints.push(roamd.obituary("while checking"));
        }
        complaints
    }

    /// A life that ends in order, with everything on disk, also what the file systems hold back.
    fn orderly(&mut self) -> Complaints {
        let (mut roamd, address) = self.launch.start().unwrap();
        let ledger = self.ledger.get_or_insert_with(|| {
            Ledger::open(&self.launch, address).expect("a daemon that runs")
        });
        let load = Load::start(ledger, address, self.rng.random());
        load.work(300, LOAD_TIME_MAX);
        roamd.terminate();
        let mut complaints = Complaints::new();
        match roamd.reap_in_time() {
            Ok(status) if status.success() => {}
            Ok(status) => complaints.push(format!("ended with {status}")),
            Err(text) => complaints.push(text),
        }
        complaints.extend(ledger.take(load.end()));
        self.drive.take_out().unwrap();
        if complaints.is_empty() {
            complaints = self.look();
            self.drive.sync();
        }
        complaints
    }
}
