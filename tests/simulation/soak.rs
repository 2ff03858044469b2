//! A long time, with faults now and then: at its end nothing may have piled up, neither in the server
//! nor in the network nor in this process.

use std::time::{Duration, Instant};

use crate::{
    acts::{Act, Source, Step},
    dice::Dice,
    driver::Found,
    number, one,
    world::World,
};

/// Simulated hours.
const HOURS: u64 = 24;
/// Memory may grow by so much between the first quarter and the end: the model keeps everything.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// Threads, descriptors and bytes of this process.
#[derive(Debug)]
struct Own {
    threads: usize,
    descriptors: usize,
    bytes: u64,
}

fn own() -> Option<Own> {
    let count = |path: &str| std::fs::read_dir(path).map(Iterator::count).ok();
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(Own {
        threads: count("/proc/self/task")?,
        descriptors: count("/proc/self/fd")?,
        bytes: pages * 4096,
    })
}

fn act(world: &mut World, act: Act, luck: u64) -> Result<(), Found> {
    one(world, &Step { act, luck })
}

/// Everybody goes: nobody is left, here or there.
fn nobody(world: &mut World, luck: u64) -> Result<(), Found> {
    let who: Vec<_> = world.devices.iter().map(|it| (it.user.clone(), it.device.clone())).collect();
    for (user, device) in &who {
        act(world, Act::Go(user.clone(), device.clone()), luck)?;
    }
    act(world, Act::Wait(Duration::from_secs(300)), luck)?;
    let conns = world.process()?.conns.len();
    if (conns, world.links.len()) != (0, 0) {
        return Err(format!("I11: {conns} connections and {} links stay", world.links.len()));
    }
    let stat = world.process()?.store.stat().map_err(|e| e.to_string())?;
    if stat.memory_bytes > 4 << 20 || stat.journal_bytes > 8 << 20 {
        return Err(format!("I11: the store has {stat:?}"));
    }
    for (user, device) in who {
        act(world, Act::Come(user, device), luck)?;
    }
    act(world, Act::Heal, luck)
}

fn soak(seed: u64, hours: u64) -> Result<(), Found> {
    let mut world = World::new(seed, false)?;
    let mut source = Source::new(seed);
    let mut dice = Dice::new(seed);
    let mut early = None;
    let began = world.now.mono;
    let passed = |world: &World| world.now.mono - began;
    let whole = Duration::from_secs(hours * 3600);
    let mut quarter = 0;
    while passed(&world) < whole {
        let steps = source.next(&world.model, &world.plan);
        let result = steps.iter().try_for_each(|step| one(&mut world, step)).and_then(|()| {
            act(
                &mut world,
                Act::Wait(Duration::from_secs(dice.within(20, 400))),
                dice.below(1 << 40),
            )
        });
        result.map_err(|found| format!("{}\n{found}", world.shown()))?;
        if passed(&world) >= whole / 4 * (quarter + 1) {
            quarter += 1;
            act(&mut world, Act::Heal, seed)
                .and_then(|()| nobody(&mut world, seed))
                .map_err(|found| format!("{}\n{found}", world.shown()))?;
            early = early.or_else(own);
        }
    }
    let (Some(early), Some(late)) = (early, own()) else { return Ok(()) };
    eprintln!("soak of {hours} simulated hours: {early:?}, then {late:?}");
    // The engine of the trees has helpers that come and go.
    let grown = late.bytes.saturating_sub(early.bytes);
    if late.threads > early.threads + 8 || late.descriptors > early.descriptors + 8 {
        return Err(format!("I11: {early:?}, then {late:?}"));
    }
    if grown > GROWTH_BYTES_MAX {
        return Err(format!("I11: memory grew by {grown} bytes: {early:?}, then {late:?}"));
    }
    Ok(())
}

#[test]
fn nothing_piles_up_in_a_long_time() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    roamd::store::fsync::set_enabled(false);
    let began = Instant::now();
    let seed = number("SIM_SEED").unwrap_or(1);
    if let Err(found) = soak(seed, number("SIM_HOURS").unwrap_or(HOURS)) {
        panic!("\nseed {seed}: {found}");
    }
    eprintln!("soak: {:?}", began.elapsed());
}
