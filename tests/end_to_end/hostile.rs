//! Hostile clients on real sockets: each gets the answer it must get, the connection ends or goes
//! on as it must, and honest clients notice nothing.

#[path = "../hostile/mod.rs"]
mod table;

use std::{collections::VecDeque, thread};

use self::table::{HostileCase, When};
use crate::{
    expect,
    support::{Client, Daemon, daemon::until, peer, text},
};
use prost::Message as _;
use roamd::{
    limits::{CLIENT_FRAME_BYTES_MAX, GREETING_FRAME_BYTES_MAX},
    refusal::ErrorCode,
    wire::proto::{Bye, ClientFrame, Hello, Ping, client_frame::Body, server_frame},
};

/// The number that the requests of the table have.
const REQUEST: u64 = 2;

fn attack(daemon: &Daemon, case: &HostileCase) {
    let mut client = daemon.connect();
    if case.when == When::AfterWelcome {
        client.greet(daemon.greeting("mallory", "laptop"));
    }
    client.expect_reply(REQUEST);
    client.write(&case.bytes);
    if case.fatal {
        client.end().fatally(case.expect);
        return;
    }
    let server_frame::Body::Error(error) = client.reply(REQUEST) else {
        panic!("answered as if it were right");
    };
    assert_eq!((error.code, error.fatal), (case.expect.number(), false), "{error:?}");
    let pong = expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 4711 })));
    assert_eq!(pong.client_time_ms, 4711);
    client.bye();
}

#[test]
fn every_hostile_case_has_its_answer() {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    let mut number = 0;
    for case in table::cases() {
        println!("{:?}: {}", case.when, case.name);
        attack(&daemon, &case);
        if number % 10 == 0 {
            alice.send(peer("bob"), number + 1, "honest");
        }
        number += 1;
    }
    bob.synced(number.div_ceil(10));
    assert_eq!(daemon.login("mallory", "laptop").welcome.head_seq, 0, "an attack had an effect");
    assert!(!daemon.log().contains("panicked"));
}

/// Where a user belongs to nothing, every request of the protocol has one answer, whatever the state of
/// the session; none of them is merely not heard.
#[test]
fn every_request_of_a_stranger_has_its_answer() {
    use ErrorCode::{ForbiddenScope, IdempotencyConflict, NotFound};
    for caught_up in [false, true] {
        let daemon = Daemon::start();
        let mut eve = daemon.open(daemon.greeting("eve", "laptop"));
        let too_long = eve.too_long();
        if caught_up {
            eve.adopt(&too_long);
            eve.caught_up();
        }
        let mut asked = 0;
        for body in table::requests::right() {
            let text: String = format!("{body:?}").chars().take(200).collect();
            let allowed: &[ErrorCode] = match &body {
                Body::Hello(_) | Body::Resume(_) | Body::Ack(_) | Body::Bye(_) => continue,
                Body::Ping(_)
                | Body::Send(_)
                // What was sent just before is taken back.
                | Body::CancelSend(_)
                | Body::FetchMessages(_)
                | Body::ListConversations(_)
                | Body::GetConversations(_)
                | Body::SyncPull(_)
                | Body::SetPresence(_)
                | Body::SubscribePresence(_)
                | Body::ListDevices(_)
                | Body::RegisterPush(_) => &[],
                // Its number is that of the message.
                Body::CreateGroup(_) => &[IdempotencyConflict],
                Body::SendNotice(_) => &[ForbiddenScope],
                _ => &[NotFound],
            };
            let posted = eve.post(body.clone());
            match eve.reply(posted) {
                server_frame::Body::Error(error) => {
                    let code = allowed.iter().find(|code| code.number() == error.code);
                    assert!(code.is_some() && !error.fatal, "{error:?} to {text}");
                }
                reply => assert!(allowed.is_empty(), "{reply:?} to {text}"),
            }
            asked += 1;
        }
        assert_eq!(asked, 35);
        assert!(!daemon.log().contains("panicked"));
    }
}

/// Cause: a socket that is closed with bytes unread resets the connection, and the peer may never
/// see the error. Fix: what the peer still says is read and dropped for a moment.
#[test]
fn whoever_talks_on_still_hears_the_error() {
    let daemon = Daemon::start();
    for welcome in [false, true] {
        let mut client = daemon.connect();
        if welcome {
            client.greet(daemon.greeting("mallory", "laptop"));
        }
        let mut writer = client.writer();
        let talk = thread::spawn(move || {
            use std::io::Write;
            // A frame of 20 MB, and the first MB of it.
            let _ = writer.write_all(&[0x80, 0xda, 0xc4, 0x09]);
            let _ = writer.write_all(&vec![0; 1 << 20]);
        });
        let end = client.end();
        end.fatally(ErrorCode::FrameTooLarge);
        talk.join().unwrap();
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let daemon = Daemon::start();
    let mut other = daemon.login("bob", "phone");
    let mut slow = daemon.connect();
    slow.expect_reply(1);
    let hello = Body::Hello(daemon.greeting("alice", "phone"));
    for body in [hello, Body::Ping(Ping { client_time_ms: 7 })] {
        let frame = ClientFrame { req_id: 1, ack_seq: 0, body: Some(body) };
        for byte in frame.encode_length_delimited_to_vec() {
            slow.write(&[byte]);
            // A whole round trip of somebody else lies between two bytes.
            expect!(Pong, other.call(Body::Ping(Ping { client_time_ms: 1 })));
        }
        match slow.reply(1) {
            server_frame::Body::Welcome(welcome) => assert_eq!(welcome.user_id, "alice"),
            server_frame::Body::Pong(pong) => assert_eq!(pong.client_time_ms, 7),
            other => panic!("{other:?}"),
        }
        slow.expect_reply(1);
    }
}

#[test]
fn an_end_in_the_middle_of_a_frame_is_just_an_end() {
    let daemon = Daemon::with(&[("limits.connections", "3")]);
    for cut in [1, 2, 10, 100] {
        let mut client = daemon.connect();
        let hello = Body::Hello(daemon.greeting("alice", "phone"));
        let frame = ClientFrame { req_id: 1, ack_seq: 0, body: Some(hello) };
        client.write(&frame.encode_length_delimited_to_vec()[..cut]);
        client.finish();
        let end = client.end();
        // Too many at once is possible as long as the one before is not quite gone.
        let code = end.error.map(|error| error.code);
        assert!(code.is_none_or(|code| code == ErrorCode::Overloaded.number()), "{code:?}");
    }
    let mut client = until("a place", || {
        let mut client = daemon.connect();
        let posted = client.post(Body::Hello(daemon.greeting("alice", "phone")));
        match client.reply_or_end(posted) {
            Some(server_frame::Body::Welcome(_)) => Some(client),
            _ => None,
        }
    });
    client.write(&[100, 0x08]);
    client.finish();
    let end = client.end();
    assert!(end.error.is_none() && end.go_away.is_none(), "{end:?}");
    assert!(!daemon.log().contains("ERROR"), "nobody must act because a client went away");
}

/// Two hundred at once send what no client would; one that is honest goes on as before.
#[test]
fn garbage_from_everywhere_disturbs_nobody() {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut attackers: Vec<Client> = (0..200).map(|_| daemon.connect()).collect();
    for (number, attacker) in (1..).zip(&mut attackers) {
        let garbage: Vec<u8> = (0..1 + next() % 3000).map(|_| (next() >> 32) as u8).collect();
        attacker.write(&garbage);
        if number % 10 == 0 {
            alice.send(peer("bob"), number, "honest");
        }
    }
    let known: Vec<i32> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
    let mut refused = 0;
    for attacker in &mut attackers {
        // Some have announced more than they sent; the server waits for it, and hears the end.
        attacker.finish();
        let end = attacker.end();
        assert!(!end.reset && end.go_away.is_none(), "{end:?}");
        if let Some(error) = end.error {
            assert!(error.fatal && known.contains(&error.code), "{error:?}");
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} of 200 were told what was wrong");
    bob.synced(20);
    assert_eq!(bob.texts().len(), 20);
}

/// Whoever says nothing gives way to whoever does: the oldest is told so and closed, the others stay
/// until they are the oldest.
#[test]
fn silence_takes_no_place_from_those_who_speak() {
    let daemon = Daemon::with(&[("limits.greeting_connections", "3")]);
    let session = daemon.login("alice", "phone");
    let mut silent: VecDeque<Client> = (0..3).map(|_| daemon.connect()).collect();
    for number in 0..10 {
        let mut client = daemon.open(daemon.greeting("bob", &format!("phone{}", number % 3)));
        let mut oldest = silent.pop_front().unwrap();
        let end = oldest.end();
        let error = end.fatally(ErrorCode::Overloaded);
        assert!((500..=1000).contains(&error.retry_after_ms), "{error:?}");
        client.settle();
        silent.push_back(daemon.connect());
    }
    session.bye();
}

#[test]
fn an_address_has_so_many_connections() {
    let daemon = Daemon::with(&[("limits.connections_per_address", "2")]);
    let one = daemon.login("alice", "phone");
    let _silent = daemon.connect();
    let mut third = daemon.connect();
    third.post(Body::Hello(daemon.greeting("bob", "phone")));
    let end = third.end();
    let error = end.fatally(ErrorCode::RateLimited);
    assert!(error.detail.contains("limits.connections_per_address"), "{error:?}");
    assert!(error.retry_after_ms >= 500, "{error:?}");
    one.bye();
    until("a free place", || {
        let mut client = daemon.connect();
        let posted = client.post(Body::Hello(daemon.greeting("carol", "phone")));
        let reply = client.reply_or_end(posted)?;
        matches!(reply, server_frame::Body::Welcome(_)).then_some(())
    });
}

/// Large frames take their share of what there is before memory is reserved for them. One that finds too
/// little left waits, and is taken when there is room; small frames do not wait.
#[test]
fn large_frames_share_what_there_is() {
    let daemon = Daemon::with(&[("limits.inbound_bytes", "256KiB"), ("log.level", "debug")]);
    let large = "x".repeat(60_000);
    // Five of 60 kB, of which 256 KiB hold four.
    let mut slow: Vec<(Client, Vec<u8>)> = (0..5u64)
        .map(|number| {
            let mut client = daemon.login("mallory", &format!("device{number}"));
            client.expect_reply(100);
            let body = Some(text(peer("bob"), 1, &large));
            let frame = ClientFrame { req_id: 100, ack_seq: 0, body };
            let mut bytes = frame.encode_length_delimited_to_vec();
            let rest = bytes.split_off(30_000);
            client.write(&bytes);
            (client, rest)
        })
        .collect();
    daemon.wait_log("waits for its share");
    daemon.login("bob", "phone").send(peer("carol"), 1, "small");
    for (client, rest) in &mut slow {
        client.write(rest);
    }
    for (client, _) in &mut slow {
        expect!(SendAck, client.reply(100));
    }
}

/// The limits are met to the byte, from both sides.
#[test]
fn a_frame_of_just_the_limit_is_taken() {
    let daemon = Daemon::start();
    // A field that nobody knows fills the frame up.
    let fill = |frame: ClientFrame, size: usize| {
        let mut body = frame.encode_to_vec();
        let rest = size - body.len() - 2;
        let len = if rest - 1 < 128 {
            1
        } else if rest - 2 < 1 << 14 {
            2
        } else {
            3
        };
        body.extend([0xfa, 0x07]);
        prost::encoding::encode_varint((rest - len) as u64, &mut body);
        body.resize(size, b'x');
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(size as u64, &mut bytes);
        bytes.extend(body);
        bytes
    };
    let hello = |daemon: &Daemon| {
        let hello = Hello { ..daemon.greeting("alice", "phone") };
        ClientFrame { req_id: 1, ack_seq: 0, body: Some(Body::Hello(hello)) }
    };
    let mut client = daemon.connect();
    client.expect_reply(1);
    client.write(&fill(hello(&daemon), GREETING_FRAME_BYTES_MAX));
    expect!(Welcome, client.reply(1));
    let ping = Body::Ping(Ping { client_time_ms: 1 });
    let ping = |req_id| ClientFrame { req_id, ack_seq: 0, body: Some(ping.clone()) };
    client.expect_reply(2);
    client.write(&fill(ping(2), CLIENT_FRAME_BYTES_MAX));
    expect!(Pong, client.reply(2));
    client.write(&fill(ping(3), CLIENT_FRAME_BYTES_MAX + 1));
    client.end().fatally(ErrorCode::FrameTooLarge);

    let mut client = daemon.connect();
    client.write(&fill(hello(&daemon), GREETING_FRAME_BYTES_MAX + 1));
    client.end().fatally(ErrorCode::FrameTooLarge);
}

/// Whatever comes after Bye is not heard, and what was asked before is answered.
#[test]
fn nothing_is_heard_after_bye() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let before = alice.post(text(peer("bob"), 1, "before"));
    let bye = ClientFrame { req_id: 0, ack_seq: 0, body: Some(Body::Bye(Bye {})) };
    let after = ClientFrame { req_id: 99, ack_seq: 0, body: Some(text(peer("bob"), 2, "after")) };
    let frames = [bye, after].map(|frame| frame.encode_length_delimited_to_vec());
    alice.write(&frames.concat());
    let end = alice.end();
    assert!(end.error.is_none() && !end.reset, "{end:?}");
    expect!(SendAck, alice.reply(before));
    assert_eq!(daemon.open(daemon.greeting("bob", "phone")).welcome.head_seq, 1);
}
