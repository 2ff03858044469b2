//! The simulation (L0): engine, sessions and clients as they are, on a simulated clock, network and
//! disk, in one thread, driven by a seed and held against the reference model of `tests/model`.
//!
//! `cargo test --features simulation --test simulation` runs a slice. `SIM_ROUNDS=10000` runs more seeds
//! (from `SIM_FROM=n` on), `SIM_SEED=n` runs one and tells every step, `SIM_KEEP=1,5,9` leaves out all
//! other steps of its plan, `SIM_STEPS=n` changes the length of a run, `SIM_HOURS=24` the length of the
//! soak, `SIM_PLANTED=400` the seeds tried for each planted bug, `SIM_TALLY=1` says what happened how often. A
//! run says at its end how many sessions and requests it was; a failure prints its plan, made small.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

mod acts;
mod checks;
mod device;
mod driver;
mod network;
mod planted;
mod publish;
mod server;
mod shrink;
mod soak;
mod steps;
mod tap;
mod world;

#[path = "../model/bodies.rs"]
mod bodies;
#[path = "../model/compare.rs"]
mod compare;
#[path = "../model/dice.rs"]
mod dice;
#[path = "../model/model/mod.rs"]
#[allow(dead_code, reason = "shared with tests/model, which uses all of it")]
mod model;
#[path = "../model/plan/mod.rs"]
#[allow(dead_code, reason = "shared with tests/model, which uses all of it")]
mod plan;

use std::{
    collections::BTreeMap,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use acts::{Act, Source, Step};
use dice::Dice;
use driver::Found;
use world::World;

const ROUNDS: u64 = 1000;
const STEPS: usize = 120;
/// A seed that takes longer is named.
const SLOW: Duration = Duration::from_secs(10);

/// What a slice must have met, or it proves less than it seems.
const MET: &[&str] = &[
    "Attach: CatchUp",
    "Attach: TooLong(Trimmed)",
    "Attach: UpToDate",
    "Send: done",
    "Send: IDEMPOTENCY_CONFLICT",
    "Send: STORAGE_FULL",
    "Send: again",
    "closed: Draining",
    "closed: Idle",
    "closed: Replaced",
    "closed: TokenExpired",
    "death: Fault",
    "death: Kill",
    "death: Power",
    "death: Stop",
    "death: while opening",
    "device: acked sends",
    "device: entries",
    "flush: made, not told",
    "full",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn steps() -> usize {
    number("SIM_STEPS").map_or(STEPS, |steps| steps as usize)
}

/// Threads and memory of this process are looked at, and its switches are for all.
static ALONE: Mutex<()> = Mutex::new(());

type Tally = BTreeMap<String, u64>;

/// What a run came to.
struct Run {
    plan: Vec<Step>,
    result: Result<(), Found>,
    shown: String,
    tally: Tally,
}

/// A run of a seed: of these steps, or of those it chooses itself.
fn run(seed: u64, given: Option<&[Step]>, talk: bool) -> Run {
    let mut plan = Vec::new();
    let mut shown = String::new();
    let mut tally = Tally::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, talk)?;
        let result = catch_unwind(AssertUnwindSafe(|| match given {
            Some(steps) => steps.iter().try_for_each(|step| one(&mut world, step)),
            None => {
                let mut source = Source::new(seed);
                while plan.len() < steps() {
                    for step in source.next(&world.model, &world.plan) {
                        plan.push(step.clone());
                        one(&mut world, &step)?;
                    }
                }
                let end = Step { act: Act::Heal, luck: seed };
                plan.push(end.clone());
                one(&mut world, &end)
            }
        }));
        shown = world.shown();
        for device in &world.devices {
            *world.tally.entry("device: entries".into()).or_default() += device.entries;
            *world.tally.entry("device: acked sends".into()).or_default() += device.acked_sends;
        }
        world.tally.insert("steps".into(), world.step as u64);
        tally = std::mem::take(&mut world.tally);
        result.unwrap_or_else(|panic| Err(text(&*panic)))
    }));
    let result = outcome.unwrap_or_else(|panic| Err(text(&*panic)));
    let plan = given.map_or(plan, <[Step]>::to_vec);
    Run { plan, result, shown, tally }
}

/// How much that was. A session is a Hello that was accepted; a request was answered.
fn summary(tally: &Tally) -> String {
    let of = |kind: &str| tally.get(kind).copied().unwrap_or_default();
    let ends = tally.iter().filter(|(kind, _)| kind.starts_with("death: "));
    let crashes = ends.map(|(_, count)| count).sum::<u64>() - of("death: Stop");
    format!(
        "{} sessions, {} requests, {} steps, {crashes} crashes, {} orderly stops, {} full disks",
        of("sessions"),
        of("requests"),
        of("steps"),
        of("death: Stop"),
        of("full")
    )
}

fn one(world: &mut World, step: &Step) -> Result<(), Found> {
    world.step += 1;
    world.dice = Dice::new(step.luck);
    world.act(&step.act)
}

fn text(panic: &(dyn std::any::Any + Send)) -> Found {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

/// The report of a failure: what was found, the small plan, and how to see it again.
fn report(seed: u64, failed: &Run, found: &str) -> String {
    let plan = &failed.plan;
    let chosen = |kept: &[usize]| kept.iter().map(|at| plan[*at].clone()).collect::<Vec<_>>();
    let (kept, small) =
        shrink::shrink(plan, found, |kept| run(seed, Some(&chosen(kept)), false).result);
    let line = |at: &usize| format!("  {at:3} {}", steps::short(&plan[*at].act));
    let lines: Vec<_> = kept.iter().map(line).collect();
    let numbers: Vec<_> = kept.iter().map(usize::to_string).collect();
    format!(
        "{}\n\nseed {seed}: {found}\n\n{} of {} steps are enough, for: {small}\n{}\n\nagain: \
         SIM_SEED={seed} cargo test --features simulation --test simulation\nwith these steps \
         only: SIM_SEED={seed} SIM_KEEP={}\n",
        failed.shown,
        kept.len(),
        plan.len(),
        lines.join("\n"),
        numbers.join(",")
    )
}

/// Runs seeds on all cores until one fails; what became of that one.
fn seeds(range: std::ops::Range<u64>) -> (Tally, Option<(u64, Run)>) {
    let (next, end) = (AtomicU64::new(range.start), range.end);
    let total = Mutex::new((Tally::new(), None));
    let lock = || total.lock().unwrap_or_else(PoisonError::into_inner);
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || lock().1.is_some() {
                        return;
                    }
                    let began = Instant::now();
                    let mut done = run(seed, None, false);
                    if began.elapsed() > SLOW {
                        eprintln!("seed {seed} took {:?}", began.elapsed());
                    }
                    let mut total = lock();
                    for (kind, count) in std::mem::take(&mut done.tally) {
                        *total.0.entry(kind).or_default() += count;
                    }
                    if done.result.is_err() && total.1.as_ref().is_none_or(|(at, _)| *at > seed) {
                        total.1 = Some((seed, done));
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Seeds that found something and are not in the slice. 1416: what was too old on a full disk. 2237:
/// devices that came again on a full disk counted twice against the limit. 2338: cursors written by
/// the first timer after it. 2835: a stop on a full disk. 3706: devices that came again on a full
/// disk were listed as they had been before. 5900, 8679: a crash while rows of devices waited for room.
#[test]
fn seeds_that_found_something_agree() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    roamd::store::fsync::set_enabled(false);
    for seed in [1416, 2237, 2338, 2835, 3706, 5900, 8679] {
        if let Err(found) = run(seed, None, false).result {
            panic!("\nseed {seed}: {found}");
        }
    }
}

#[test]
fn all_seeds_agree_with_the_model() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The trees' own syncs are the simulated disk's business.
    roamd::store::fsync::set_enabled(false);
    if let Some(seed) = number("SIM_SEED") {
        let done = match std::env::var("SIM_KEEP") {
            Err(_) => run(seed, None, true),
            Ok(keep) => {
                let plan = run(seed, None, false).plan;
                let kept = keep.split(',').map(|at| plan[at.parse::<usize>().unwrap()].clone());
                run(seed, Some(&kept.collect::<Vec<_>>()), true)
            }
        };
        if let Err(found) = done.result {
            panic!("\nseed {seed}: {found}");
        }
        return;
    }
    let first = number("SIM_FROM").unwrap_or(1);
    let rounds = number("SIM_ROUNDS").unwrap_or(ROUNDS);
    let (tally, failed) = seeds(first..first + rounds);
    if let Some((seed, failed)) = failed
        && let Err(found) = &failed.result
    {
        panic!("\n{}", report(seed, &failed, found));
    }
    if std::env::var_os("SIM_TALLY").is_some() {
        eprintln!("{tally:#?}");
    }
    // Not through the harness, which keeps what a test that passes has said.
    writeln!(std::io::stderr(), "{rounds} seeds from {first} on: {}", summary(&tally)).unwrap();
    if rounds >= ROUNDS && number("SIM_STEPS").is_none() {
        let missing: Vec<_> = MET.iter().filter(|kind| !tally.contains_key(**kind)).collect();
        assert!(missing.is_empty(), "never met: {missing:?}, only {tally:#?}");
    }
}
