//! A page of 50 messages of a history: allowed, read, encoded.

use bytes::BytesMut;
use roamd::{
    id::ConversationId,
    request::{Destination, Direction, Request},
    seq::HistorySeq,
    wire::encode_server,
};

use crate::{
    meter::{cost, line, memcpy},
    world::{World, caller, user},
};

const TIMES: u64 = 200;

pub fn run() {
    let mut world = World::new();
    let sender = caller("sender");
    let messages = 20_000;
    for sent in 0..messages {
        world.send(&sender, &Destination::Peer(user("peer")));
        if sent % 256 == 0 {
            world.flush();
        }
    }
    world.flush();
    let id = ConversationId::direct(&sender.user, &user("peer"));
    let places = [
        ("newest", Direction::Newest),
        ("middle", Direction::Older(HistorySeq::new(messages / 2))),
        ("oldest", Direction::Older(HistorySeq::new(51))),
    ];
    let mut out = BytesMut::with_capacity(1 << 20);
    for (name, direction) in places {
        let one = cost(TIMES, || {
            for _ in 0..TIMES {
                out.clear();
                let request = Request::FetchHistory {
                    conversation: id.clone(),
                    direction,
                    limit: 50,
                    max_bytes: 256 * 1024,
                };
                let answer = world.ask(&sender, request);
                let reply = world.complete(&sender.user, answer);
                encode_server(1, &reply, &mut out);
            }
        });
        line(&format!("page of 50, {name} of 20,000"), &one, out.len(), memcpy(out.len()));
    }
}
