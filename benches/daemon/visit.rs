//! Devices that come back and go again, from threads of their own with sockets that block.
//!
//! What is asked of the server is what [`crate::link`] asks: a token, positions to compare, CaughtUp. The
//! driver's part of it is as small as it can be, for it shares the processors: the frame is made before, and
//! a connection is given up rather than closed, so that no port waits for its turn to be used again.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;
use roamd::wire::{
    encode_client,
    proto::{ClientFrame, Hello, Position, ServerFrame, client_frame::Body, server_frame},
};
use socket2::SockRef;

use crate::scan::{self, Said};

/// Bytes read at once: more than the answer to a Hello has.
const READ_BYTES: usize = 4096;

/// What a device says when it comes.
pub fn hello(token: &str, seq: u64, epoch: u64) -> Vec<u8> {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        token: token.to_owned(),
        device_id: "d".into(),
        resume: Some(Position { epoch, seq }),
        ..Hello::default()
    };
    let frame = ClientFrame { req_id: 1, ack_seq: 0, body: Some(Body::Hello(hello)) };
    let mut bytes = bytes::BytesMut::new();
    encode_client(&frame, &mut bytes);
    bytes.to_vec()
}

/// These come in turn for so long, so many at a time: how many came, and the seconds that it took.
pub fn come_back(
    address: SocketAddr,
    hellos: &[Vec<u8>],
    together: usize,
    length: Duration,
) -> (u64, f64) {
    let (next, count) = (AtomicUsize::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..together {
            scope.spawn(|| {
                while start.elapsed() < length {
                    let index = next.fetch_add(1, Ordering::Relaxed) % hellos.len();
                    visit(address, &hellos[index]);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (count.into_inner(), start.elapsed().as_secs_f64())
}

fn visit(address: SocketAddr, hello: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    stream.write_all(hello).expect("a connection");
    let (mut input, mut end) = ([0; READ_BYTES], 0);
    let (mut read, mut welcome) = (0, false);
    loop {
        let count = stream.read(&mut input[end..]).expect("a connection");
        assert!(count > 0, "the server has closed the connection");
        end += count;
        while let Some((prefix, length)) = scan::frame(&input[read..end]) {
            let frame = &input[read + prefix..read + prefix + length];
            read += prefix + length;
            match scan::said(frame) {
                Said::CaughtUp => {
                    assert!(welcome, "Welcome goes before CaughtUp");
                    return;
                }
                Said::Other(frame) => {
                    let frame = ServerFrame::decode(frame).expect("a server frame");
                    let is_welcome = matches!(frame.body, Some(server_frame::Body::Welcome(_)));
                    assert!(is_welcome, "not expected: {frame:?}");
                    welcome = true;
                }
                other => panic!("not expected: {other:?}"),
            }
        }
    }
}
