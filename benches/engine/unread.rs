//! Unread counts, which are derived and not kept: of one conversation, and the state at the head.

use bytes::BytesMut;
use roamd::{
    engine::Command,
    request::{Destination, Request},
    wire::encode_server,
};

use crate::{
    meter::{cost, line, memcpy},
    world::{World, caller, user},
};

const TIMES: u64 = 200;

pub fn run() {
    for conversations in [10, 200] {
        let mut world = World::new();
        let reader = caller("peer");
        for sent in 0..conversations * 5 {
            let sender = caller(&format!("s{}", sent % conversations));
            world.send(&sender, &Destination::Peer(user("peer")));
        }
        world.flush();
        let mut out = BytesMut::with_capacity(1 << 20);
        let one = cost(TIMES, || {
            for _ in 0..TIMES {
                out.clear();
                let ask = Request::GetUnread { conversations: Vec::new(), explain: false };
                let answer = world.ask(&reader, ask);
                let reply = world.complete(&reader.user, answer);
                encode_server(1, &reply, &mut out);
            }
        });
        let name = format!("GetUnread of all {conversations} conversations");
        line(&name, &one, out.len(), memcpy(out.len()));
        let one = cost(TIMES, || {
            for _ in 0..TIMES {
                world.apply(&reader, &Command::CaughtUp);
            }
        });
        let name = format!("the state at CaughtUp, {conversations} conversations");
        line(&name, &one, out.len(), memcpy(out.len()));
    }
}
