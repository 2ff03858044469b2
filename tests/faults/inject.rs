//! System calls that fail: the n-th of a kind, with EIO or ENOSPC, once or from then on. Whatever the
//! daemon makes of it, nothing that it acks is lost, and afterwards it opens.
//!
//! strace counts in each thread for itself: the first calls are those of the boot, later ones of the
//! writer's and the filler's work. A failed write is final (status 9); room that is not there is met
//! before anything is staged and refuses what would write.

use std::{ffi::OsString, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    tools::{ONE_AT_A_TIME, folder, may_trace, none, strace},
    witness::{Complaints, Depth, Launch, Ledger, Load, look, seed, setting},
};

/// Calls that fail together.
const KINDS: [&str; 4] = [
    "fsync,fdatasync",
    "pwrite64,pwritev,ftruncate,fallocate",
    "rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat",
    "openat",
];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// What has found something is always tried.
const FOUND: [Fault; 1] = [
    // A start that was refused ended by a panic when the trees were dropped.
    Fault { calls: KINDS[0], error: ERRORS[1], number: 3, once: false },
];
/// The last call that is tried in a slice.
const LAST_CALL: u64 = 200;
/// Lives of a slice.
const LIVES: u64 = 5;
/// Lives on one data directory.
const LIVES_PER_DIRECTORY: usize = 16;
/// How long a life under strace may take to be ready.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const LOAD_TIME_MAX: Duration = Duration::from_secs(2);
const REPLIES: u64 = 400;

/// What fails.
#[derive(Clone, Copy, Debug)]
struct Fault {
    calls: &'static str,
    error: &'static str,
    number: u64,
    /// Only this one: the next call succeeds as if nothing had been.
    once: bool,
}

#[test]
fn inject_errors_into_any_call_and_no_ack_is_false() {
    let _turn = ONE_AT_A_TIME.lock();
    if !may_trace() {
        return;
    }
    let seed = seed("FAULT_SEED");
    let last = setting("FAULT_CALLS", 0);
    let count = setting("FAULT_LIVES", LIVES);
    let again = format!(
        "FAULT_SEED={seed} FAULT_CALLS={last} FAULT_LIVES={count} cargo test --test faults inject"
    );
    println!("{again}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    for number in 1..=last {
        let each = KINDS.iter().flat_map(|calls| ERRORS.map(|error| (*calls, error)));
        faults.extend(each.map(|(calls, error)| Fault {
            calls,
            error,
            number,
            once: rng.random_bool(0.5),
        }));
    }
    if last == 0 {
        faults.extend((0..count).map(|_| Fault {
            calls: KINDS.choose(&mut rng).unwrap(),
            error: ERRORS.choose(&mut rng).unwrap(),
            // Most calls of a life come soon.
            number: match rng.random_bool(0.5) {
                true => rng.random_range(1..30),
                false => rng.random_range(1..=LAST_CALL),
            },
            once: rng.random_bool(0.5),
        }));
    }
    faults.extend(FOUND);
    let mut ends = Ends::default();
    for some in faults.chunks(LIVES_PER_DIRECTORY) {
        let dir = folder();
        let mut lives =
            Lives { launch: Launch::small_store(&dir.path().join("data")), ledger: None };
        let mut dir = Some(dir);
        for fault in some {
            let mut complaints = lives.faulty(*fault, rng.random(), &mut ends);
            if complaints.is_empty() {
                complaints =
                    look(&lives.launch, &mut lives.ledger, Depth::New).err().unwrap_or_default();
            }
            none(&complaints, &format!("{fault:?}"), &again, &mut dir);
        }
        lives.launch.verify().unwrap_or_else(|text| panic!("{text}\nagain: {again}"));
        ends.acked += lives.ledger.map_or(0, |ledger| ledger.figures.acked);
    }
    println!("{} lives: {ends:?}", faults.len());
}

/// How lives ended.
#[derive(Debug, Default)]
struct Ends {
    /// It did not begin to serve.
    refused_to_start: u64,
    /// By itself, because the disk failed.
    by_itself: u64,
    /// When told to.
    in_order: u64,
    acked: u64,
}

struct Lives {
    launch: Launch,
    ledger: Option<Ledger>,
}

impl Lives {
    /// A life in which something fails.
    fn faulty(&mut self, fault: Fault, seed: u64, ends: &mut Ends) -> Complaints {
        let Fault { calls, error, number, once } = fault;
        let when = if once { number.to_string() } else { format!("{number}+") };
        let under = strace(calls, &format!("error={error}:when={when}"));
        let under = under.into_iter().map(OsString::from).collect();
        let launch = Launch { under, ..self.launch.clone() };
        let mut roamd = launch.spawn();
        let mut load = None;
        let address = roamd.ready(START_TIME_MAX);
        if let Some(address) = address {
            if self.ledger.is_none() {
                self.ledger = Ledger::open(&self.launch, address).ok();
            }
            if let Some(ledger) = &mut self.ledger {
                ledger.may_be_full = true;
                let devices = Load::start(ledger, address, seed);
                devices.work(REPLIES, LOAD_TIME_MAX);
                load = Some(devices);
            }
        }
        roamd.terminate();
        let mut complaints = Complaints::new();
        match roamd.reap_in_time().map(|status| status.code()) {
            Ok(Some(0)) if address.is_some() => ends.in_order += 1,
            Ok(Some(9)) if address.is_some() => ends.by_itself += 1,
            // Keys, the directory, or what a program needs to be loaded at all.
            Ok(Some(1 | 3 | 9 | 127)) if address.is_none() => ends.refused_to_start += 1,
            Ok(status) => complaints.push(format!("ended with {status:?}:{}", roamd.last_words())),
            Err(text) => complaints.push(text),
        }
        if roamd.said("panicked") {
            complaints.push(format!("roamd panicked:{}", roamd.last_words()));
        }
        if let (Some(load), Some(ledger)) = (load, &mut self.ledger) {
            complaints.extend(ledger.take(load.end()));
        }
        complaints
    }
}
