//! The commit path: a message from one to one, by how many are flushed together.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use roamd::request::Destination;

use crate::{
    meter::{cost, line},
    world::{World, caller, user},
};

const MESSAGES: u64 = 4096;
const PAIRS: usize = 100;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// pwrite of so many bytes and fdatasync, one after the other over a file that has its room.
fn sync_micros(world: &World, bytes: usize) -> f64 {
    let file = File::create(world.dir.path().join("floor")).expect("a file");
    file.write_all_at(&vec![0; 16 << 20], 0).expect("room");
    file.sync_all().expect("a disk");
    let block = vec![1; bytes];
    let times = 0..200u64;
    let took = times.map(|round| {
        let start = Instant::now();
        file.write_all_at(&block, round * bytes as u64 % (8 << 20)).expect("room");
        file.sync_data().expect("a disk");
        start.elapsed()
    });
    median(took.collect())
}

pub fn run() {
    for batch in [1, 32, 256] {
        let mut world = World::new();
        let senders: Vec<_> = (0..PAIRS).map(|pair| caller(&format!("s{pair}"))).collect();
        let peers: Vec<_> =
            (0..PAIRS).map(|pair| Destination::Peer(user(&format!("r{pair}")))).collect();
        let (mut took, mut staged, mut next) = (Vec::new(), 0, 0);
        let one = cost(MESSAGES, || {
            for _ in 0..MESSAGES / batch {
                for _ in 0..batch {
                    next = (next + 1) % PAIRS;
                    world.send(&senders[next], &peers[next]);
                }
                staged = world.engine.staged_bytes();
                let start = Instant::now();
                world.flush();
                took.push(start.elapsed());
            }
        });
        let floor = sync_micros(&world, staged);
        line(
            &format!("send, {batch} to a flush"),
            &one,
            staged / batch as usize,
            floor * 1e3 / batch as f64,
        );
        println!(
            "    a flush of {staged} bytes: p50 {:.0} us, pwrite and fdatasync of them {floor:.0} us: {:.2} x",
            median(took.clone()),
            median(took) / floor
        );
    }
}
