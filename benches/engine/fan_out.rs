//! One message to a group: written to every member's inbox, and read and encoded for each of them.

use bytes::BytesMut;
use roamd::request::Destination;

use crate::{
    meter::{cost, line, memcpy},
    world::{World, caller, user},
};

const MESSAGES: u64 = 50;

pub fn run() {
    for members in [10, 200] {
        let mut world = World::new();
        let owner = caller("m0");
        let others = (1..members).map(|member| user(&format!("m{member}")));
        let group = Destination::Conversation(world.group(&owner, others.collect()));
        let copies = MESSAGES * members;
        let one = cost(copies, || {
            for _ in 0..MESSAGES {
                world.send(&owner, &group);
                world.flush();
            }
        });
        line(&format!("write a copy, {members} members"), &one, 0, memcpy(16));
        // The last entry of each, as the sessions of all members read it.
        let users: Vec<_> = (0..members).map(|member| user(&format!("m{member}"))).collect();
        let mut out = BytesMut::with_capacity(1 << 20);
        let seq = 10;
        let one = cost(copies, || {
            for _ in 0..MESSAGES {
                out.clear();
                for user in &users {
                    world.batch(user, seq - 1, 1, seq, &mut out);
                }
            }
        });
        let made = out.len() / members as usize;
        line(&format!("read and encode a copy, {members} members"), &one, made, memcpy(made));
    }
}
