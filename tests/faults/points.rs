//! A kill before the n-th call that changes something on disk, in five phases of a daemon's life. A
//! first boot has its own test (`tests/crash/first_boot.rs`).

use std::{ffi::OsString, net::SocketAddr, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    tools::{ONE_AT_A_TIME, Tracer, folder, may_trace, none, strace},
    witness::{Complaints, Depth, Launch, Ledger, Load, Roamd, look, seed, setting},
};

const WRITES: &str = "write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,\
                      rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,ftruncate,fallocate";
/// The last call that is tried.
const LAST_POINT: u64 = 300;
/// Lives of each phase in a slice.
const LIVES: u64 = 2;
const START_TIME_MAX: Duration = Duration::from_secs(30);
const LOAD_TIME_MAX: Duration = Duration::from_secs(2);
/// Replies before a phase begins, and at most within it.
const BEFORE: u64 = 30;
const WITHIN: u64 = 1600;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The start of a daemon that was killed under load.
    Boot,
    /// Commits in the journal, and nothing else.
    Steady,
    /// Inboxes that are far longer than what is kept.
    Trim,
    /// Rounds into the trees, one after the other.
    Checkpoint,
    /// SIGTERM under load.
    Close,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Boot, Self::Steady, Self::Trim, Self::Checkpoint, Self::Close];

    fn prepare(self, launch: &mut Launch) {
        let mut set = |name: &'static str, value: &str| {
            launch.env.retain(|(other, _)| *other != name);
            launch.env.push((name, value.to_owned()));
        };
        match self {
            // What one round brings is kept: see `Launch::small_store`.
            Self::Trim => set("ROAMD_LIMITS__INBOX_ENTRIES", "700"),
            Self::Checkpoint => set("ROAMD_STORE__CHECKPOINT_INTERVAL", "10ms"),
            Self::Steady => launch.rarely_checkpoint(),
            Self::Boot | Self::Close => {}
        }
    }
}

#[test]
fn points_of_a_kill_in_five_phases() {
    let _turn = ONE_AT_A_TIME.lock();
    if !may_trace() {
        return;
    }
    let seed = seed("FAULT_SEED");
    let count = setting("FAULT_POINTS", LIVES).min(LAST_POINT);
    let again = format!("FAULT_SEED={seed} FAULT_POINTS={count} cargo test --test faults points");
    println!("{again}");
    let mut rng = StdRng::seed_from_u64(seed);
    for phase in Phase::ALL {
        let dir = folder();
        let mut launch = Launch::small_store(&dir.path().join("data"));
        phase.prepare(&mut launch);
        let mut dir = Some(dir);
        let mut lives = Lives { phase, launch, ledger: None, running: None, killed: 0 };
        for number in 1..=count {
            let point = match count {
                LAST_POINT => number,
                // One that is always reached.
                _ if number == 1 => 1,
                // An orderly stop is short, and most calls of all phases come soon.
                _ if phase == Phase::Close || rng.random_bool(0.5) => rng.random_range(1..30),
                _ => rng.random_range(1..=LAST_POINT),
            };
            let complaints = lives.one(point, rng.random());
            none(&complaints, &format!("{phase:?}, killed at {point}"), &again, &mut dir);
        }
        lives.running = None;
        lives.launch.verify().unwrap_or_else(|text| panic!("{text}\nagain: {again}"));
        assert!(lives.killed > 0, "{phase:?}: nobody was killed: the test proves nothing");
        println!("{phase:?}: {} of {count} lives killed, all open again", lives.killed);
    }
}

struct Lives {
    phase: Phase,
    launch: Launch,
    ledger: Option<Ledger>,
    /// The daemon that the last look left.
    running: Option<(Roamd, SocketAddr)>,
    killed: u64,
}

impl Lives {
    fn one(&mut self, point: u64, seed: u64) -> Complaints {
        if self.running.is_none() {
            match look(&self.launch, &mut self.ledger, Depth::New) {
                Ok(running) => self.running = Some(running),
                Err(complaints) => return complaints,
            }
        }
        let mut complaints = self.until_killed(point, seed);
        if complaints.is_empty() {
            match look(&self.launch, &mut self.ledger, Depth::New) {
                Ok(running) => self.running = Some(running),
                Err(found) => complaints = found,
            }
        }
        complaints
    }

    fn until_killed(&mut self, point: u64, seed: u64) -> Complaints {
        let (Some((mut roamd, address)), Some(ledger)) = (self.running.take(), &mut self.ledger)
        else {
            return vec!["nothing runs".into()];
        };
        let kill = format!("signal=KILL:when={point}");
        let load = Load::with_window(ledger, address, seed, 1);
        let mut complaints = Complaints::new();
        if !load.work(BEFORE, LOAD_TIME_MAX) {
            complaints.push(roamd.obituary("the load ended before its time"));
        }
        if self.phase == Phase::Boot {
            roamd.kill();
            complaints.extend(ledger.take(load.end()));
            let under = strace(WRITES, &kill).into_iter().map(OsString::from).collect();
            let launch = Launch { under, ..self.launch.clone() };
            roamd = launch.spawn();
            roamd.startup(START_TIME_MAX);
            roamd.terminate();
        } else {
            let tracer = Tracer::attach(roamd.pid(), WRITES, &kill);
            if self.phase != Phase::Close {
                load.work(WITHIN, LOAD_TIME_MAX);
            }
            roamd.terminate();
            if let Err(text) = roamd.reap_in_time() {
                complaints.push(text);
            }
            drop(tracer);
            complaints.extend(ledger.take(load.end()));
        }
        match roamd.reap_in_time() {
            Ok(status) if status.code().is_none() => self.killed += 1,
            Ok(status) if status.success() => {}
            Ok(status) => complaints.push(format!("ended with {status}:{}", roamd.last_words())),
            Err(text) => complaints.push(text),
        }
        complaints
    }
}
