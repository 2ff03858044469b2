//! Entries of a device that comes back: read, joined with their messages, encoded.

use bytes::BytesMut;
use roamd::request::Destination;

use crate::{
    meter::{cost, line, memcpy},
    world::{World, caller, user},
};

const ENTRIES: u64 = 1000;
const TIMES: u64 = 20;

pub fn run() {
    for (conversations, name) in [(1, "entry, one conversation"), (100, "entry, 100 conversations")]
    {
        let mut world = World::new();
        for sent in 0..ENTRIES {
            let sender = caller(&format!("s{}", sent % conversations));
            world.send(&sender, &Destination::Peer(user("peer")));
        }
        world.flush();
        let peer = user("peer");
        let mut out = BytesMut::with_capacity(1 << 20);
        for batch in [1, 250] {
            let one = cost(ENTRIES * TIMES, || {
                for _ in 0..TIMES {
                    out.clear();
                    for after in (0..ENTRIES).step_by(batch) {
                        world.batch(&peer, after, batch, ENTRIES, &mut out);
                    }
                }
            });
            let made = out.len() / ENTRIES as usize;
            line(&format!("{name}, {batch} at once"), &one, made, memcpy(made));
        }
    }
}
