//! Frames to requests, replies to frames.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use prost::Message;
use roamd::{
    reply::{Batch, Reply},
    request::Destination,
    seq::InboxSeq,
    wire::{
        FrameDecoder, decode_client, encode_client, encode_server,
        proto::{ClientFrame, Send, ServerFrame, client_frame::Body, send::To},
    },
};

use crate::{
    meter::{cost, line, memcpy},
    world::{CONTENT_BYTES, World, caller, user},
};

const FRAMES: u64 = 64;
const TIMES: u64 = 500;

pub fn run() {
    decode();
    let mut world = World::new();
    let sender = caller("sender");
    for _ in 0..250 {
        world.send(&sender, &Destination::Peer(user("peer")));
    }
    world.flush();
    for count in [1, 250] {
        let entries = world.entries(&user("peer"), 0, count);
        let head = InboxSeq::new(count as u64);
        let batch = Reply::SyncBatch(Batch { prev: InboxSeq::ZERO, head, entries });
        let mut out = BytesMut::with_capacity(1 << 20);
        encode_server(0, &batch, &mut out);
        let made = out.len() / count;
        let rounds = TIMES * FRAMES / count as u64;
        let one = cost(rounds * count as u64, || {
            for _ in 0..rounds {
                out.clear();
                encode_server(0, black_box(&batch), &mut out);
            }
        });
        line(&format!("encode an entry, batch of {count}"), &one, made, memcpy(made));
    }
    received(&world);
}

fn decode() {
    let send = Send {
        to: Some(To::Peer("a-user-with-a-name".into())),
        client_message_id: 1,
        content_type: "text/plain".into(),
        content: Bytes::from(vec![b'x'; CONTENT_BYTES]),
        ..Send::default()
    };
    let frame = ClientFrame { req_id: 1, ack_seq: 0, body: Some(Body::Send(send)) };
    let mut stream = BytesMut::new();
    for _ in 0..FRAMES {
        encode_client(&frame, &mut stream);
    }
    let mut decoder = FrameDecoder::new(1 << 20);
    let one = cost(FRAMES * TIMES, || {
        for _ in 0..TIMES {
            let mut input = stream.clone();
            while let Some(frame) = decoder.next_frame(&mut input).expect("a frame") {
                black_box(decode_client(frame).expect("a request"));
            }
        }
    });
    let bytes = stream.len() / FRAMES as usize;
    line("decode a send of 200 bytes", &one, bytes, memcpy(bytes));
}

/// What a client pays that decodes everything.
fn received(world: &World) {
    let entries = world.entries(&user("peer"), 0, 250);
    let batch = Batch { prev: InboxSeq::ZERO, head: InboxSeq::new(250), entries };
    let mut out = BytesMut::new();
    encode_server(0, &Reply::SyncBatch(batch), &mut out);
    let frame = FrameDecoder::new(2 << 20).next_frame(&mut out).expect("a frame");
    let frame = frame.expect("a whole one");
    let one = cost(TIMES / 4 * 250, || {
        for _ in 0..TIMES / 4 {
            black_box(ServerFrame::decode(frame.clone()).expect("a frame"));
        }
    });
    line(
        "a client decodes an entry, batch of 250",
        &one,
        frame.len() / 250,
        memcpy(frame.len() / 250),
    );
}
