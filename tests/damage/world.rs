//! The directory that is damaged: one of everything, most of it in the trees, the rest in the journal.

use std::path::Path;

use roamd::{
    limits::Limits,
    message::HistoryPolicy,
    store::{Store, StoreConfig},
};

use crate::{
    place::quiet,
    scenario::{
        World, changes, first_half, group, own_state, second_half, text, to_group, to_peer,
        told_by_the_system,
    },
};

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 64 << 10, ..quiet(dir) }
}

/// From seven members on a group is large.
pub fn limits() -> Limits {
    Limits { fanout_members: 6, ..Limits::default() }
}

/// How many there are.
const LAST_FLUSHES: usize = 10;

pub const CROWD: [&str; 8] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7"];

/// Ends and starts: what opens the trees writes down where everything is in them.
fn again(dir: &Path, store: Store, world: World) -> (Store, World) {
    store.close(world.engine.into_writer()).unwrap();
    let (store, writer) = Store::open(&config(dir)).unwrap();
    let mut world = World::with(&store, writer, limits());
    world.pass(1000);
    (store, world)
}

/// Makes it. `before_flush` is called before each of the last flushes, which only the journal has; with
/// how many of them follow.
pub fn build(dir: &Path, mut before_flush: impl FnMut(usize)) {
    let (store, writer) = Store::open(&config(dir)).unwrap();
    let mut world = World::with(&store, writer, limits());
    first_half(&mut world);
    store.settle().unwrap();
    second_half(&mut world);
    changes(&mut world);
    store.settle().unwrap();
    let (store, mut world) = again(dir, store, world);
    own_state(&mut world);
    world.create("u0", 1000, "crowd", HistoryPolicy::Full, &CROWD[1..]);
    world.create("u1", 1000, "few", HistoryPolicy::SinceJoin, &["u2", "u3"]);
    for number in 0..120_u64 {
        let who = CROWD[number as usize % 3 + 1];
        let to = if number % 2 == 0 { to_group("crowd") } else { to_group("few") };
        let size = if number % 40 == 0 { 9000 } else { 60 };
        world.send(who, to, 2000 + number, text(format!("{number} ").repeat(size / 3)));
        if number % 20 == 19 {
            world.engine.flush().unwrap();
            store.settle().unwrap();
        }
    }
    // More than one segment of sled's file, so that something lies where an open does not look.
    for number in 0..300_u64 {
        let content = format!("{number} is long ").repeat(100);
        world.send(CROWD[number as usize % 2], to_peer("u5"), 4000 + number, text(content));
        if number % 100 == 99 {
            world.engine.flush().unwrap();
            store.settle().unwrap();
        }
    }
    let (store, mut world) = again(dir, store, world);
    world.read("u2", group("few"), 9);
    told_by_the_system(&mut world);
    for number in 0..LAST_FLUSHES {
        before_flush(LAST_FLUSHES - number);
        let content = text(format!("in the journal {number}"));
        world.send("u1", to_peer("u2"), 3000 + number as u64, content);
        world.engine.flush().unwrap();
    }
    drop(world);
    drop(store);
}
