//! The life and the end of sessions: displacement, silence, drain, crash.

use std::{
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;
use roamd::{
    refusal::ErrorCode,
    wire::proto::{self, GoAwayReason, Ping, Position, Verdict, client_frame::Body, server_frame},
};

use crate::{
    expect,
    support::{Daemon, daemon::until, peer, text},
};

#[test]
fn the_newest_session_of_a_device_wins() {
    let daemon = Daemon::start();
    let mut old = daemon.login("bob", "phone");
    let other = old.position();
    let mut new = daemon.resume("bob", "phone", other);
    old.end().gone(GoAwayReason::Replaced);
    assert_ne!(old.welcome.session_id, new.welcome.session_id);
    new.caught_up();
    // Another device of the user, and the same device id of another user, are somebody else.
    let mut tablet = daemon.login("bob", "tablet");
    let mut carol = daemon.login("carol", "phone");
    carol.send(peer("bob"), 1, "hi");
    new.synced(1);
    tablet.synced(1);
    carol.settle();
}

#[test]
fn sessions_of_one_device_that_fight_lose_nothing() {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    let (mut texts, mut cursor) = (Vec::new(), 0);
    for number in 1..=30 {
        alice.send(peer("bob"), number, &number.to_string());
        bob.synced(number);
        bob.ack(number);
        texts.extend(bob.texts());
        let next = daemon.resume("bob", "phone", bob.position());
        assert!(next.welcome.device_cursor >= cursor, "the cursor went back");
        cursor = next.welcome.device_cursor;
        bob.end().gone(GoAwayReason::Replaced);
        bob = next;
    }
    let sent: Vec<_> = (1..=30).map(|number| number.to_string()).collect();
    assert_eq!(texts, sent);
}

#[test]
fn silence_ends_a_session_and_any_frame_breaks_it() {
    let daemon = Daemon::with(&[("limits.heartbeat_interval", "1s")]);
    let mut silent = daemon.login("alice", "phone");
    let mut talks = daemon.login("bob", "phone");
    assert_eq!(silent.welcome.heartbeat_interval_ms, 1000);
    let start = Instant::now();
    let silent = thread::spawn(move || {
        let end = silent.end();
        end.gone(GoAwayReason::Idle);
        start.elapsed()
    });
    // Longer than three intervals, with an ack of nothing now and then.
    while start.elapsed() < Duration::from_millis(4500) {
        talks.ack(0);
        thread::park_timeout(Duration::from_millis(500));
    }
    expect!(Pong, talks.call(Body::Ping(Ping { client_time_ms: 1 })));
    let after = silent.join().unwrap();
    // The last frame was heard a little before the clock was read.
    assert!(after > Duration::from_millis(2500), "{after:?}");
}

#[test]
fn bye_is_answered_by_the_end_after_every_reply() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let sends: Vec<_> = (1..=20).map(|n| alice.post(text(peer("bob"), n, "x"))).collect();
    alice.post(Body::Bye(proto::Bye {}));
    let end = alice.end();
    assert!(end.error.is_none() && end.go_away.is_none() && !end.reset, "{end:?}");
    for req_id in sends {
        expect!(SendAck, alice.reply(req_id));
    }
}

#[test]
fn a_request_number_is_used_once_at_a_time() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    // Both come in one piece, so that the first cannot have been answered.
    let frames = [1, 2].map(|number| {
        let body = Some(text(peer("bob"), number, "x"));
        proto::ClientFrame { req_id: 77, ack_seq: 0, body }.encode_length_delimited_to_vec()
    });
    alice.write(&frames.concat());
    alice.end().fatally(ErrorCode::BadRequestId);
}

/// SIGTERM while everybody sends: every client is told, the process ends well, and what was acked
/// is there afterwards, once and in order.
#[test]
fn a_drain_under_load_loses_nothing_that_was_acked() {
    let mut daemon = Daemon::with(&[("limits.inbox_entries", "100000")]);
    let mut bob = daemon.login("bob", "phone");
    let epoch = bob.welcome.epoch;
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let mut client = daemon.login(&format!("sender{sender}"), "laptop");
            thread::spawn(move || {
                let mut acked = Vec::new();
                let mut posted = std::collections::VecDeque::new();
                let mut number = 0;
                // Sixteen under way, until the server has enough.
                let end = loop {
                    while posted.len() < 16 {
                        number += 1;
                        let content = format!("{sender}:{number}");
                        posted
                            .push_back((number, client.post(text(peer("bob"), number, &content))));
                    }
                    let (number, req_id) = posted.pop_front().unwrap();
                    match client.reply_or_end(req_id) {
                        Some(server_frame::Body::SendAck(_)) => acked.push(number),
                        Some(other) => panic!("{other:?}"),
                        None => break client.end(),
                    }
                };
                let go_away = end.gone(GoAwayReason::Draining).clone();
                assert!((200..2000).contains(&go_away.retry_after_ms), "{go_away:?}");
                acked
            })
        })
        .collect();
    bob.synced(500);
    daemon.terminate();
    bob.end().gone(GoAwayReason::Draining);
    let acked: Vec<Vec<u64>> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert!(daemon.ended().success());
    daemon.wait_log("everything acked is on disk");

    daemon.relaunch();
    let mut bob = daemon.resume("bob", "phone", Position { epoch, seq: 0 });
    while !bob.has_caught_up() {
        bob.ack(bob.seq);
        bob.settle();
    }
    for (sender, acked) in acked.iter().enumerate() {
        let prefix = format!("{sender}:");
        let got: Vec<u64> = bob
            .texts()
            .iter()
            .filter_map(|text| text.strip_prefix(&prefix)?.parse().ok())
            .collect();
        let dense: Vec<u64> = (1..=got.len() as u64).collect();
        assert_eq!(got, dense, "once each and in order");
        assert!(got.len() >= acked.len() && acked == &dense[..acked.len()]);
    }
}

/// kill -9 in the middle of it: the same promise.
#[test]
fn a_crash_loses_nothing_that_was_acked() {
    let mut daemon = Daemon::with(&[("limits.inbox_entries", "100000")]);
    let epoch = daemon.login("bob", "phone").welcome.epoch;
    let mut acked = 0;
    for round in 1..=4 {
        let mut alice = daemon.open(daemon.greeting("alice", "laptop"));
        let first = alice.welcome.last_client_message_id + 1;
        assert!(first > acked, "an acked number is not remembered");
        let mut posted: Vec<u64> = Vec::new();
        for number in first..first + 300 {
            posted.push(alice.post(text(peer("bob"), number, &number.to_string())));
        }
        // Some are answered, others are under way when the process dies.
        for (number, req_id) in (first..).zip(posted).take(20 * round) {
            expect!(SendAck, alice.reply(req_id));
            acked = number;
        }
        daemon.crash();
        let mut bob = daemon.resume("bob", "phone", Position { epoch, seq: 0 });
        while !bob.has_caught_up() {
            bob.ack(bob.seq);
            bob.settle();
        }
        let got: Vec<u64> = bob.texts().iter().map(|text| text.parse().unwrap()).collect();
        let dense: Vec<u64> = (1..=got.len() as u64).collect();
        assert_eq!(got, dense);
        assert!(got.len() as u64 >= acked, "{acked} were acked, {} are there", got.len());
    }
}

/// A client that reads nothing costs the others nothing, and is let go in the end.
#[test]
fn a_reader_that_never_reads_is_let_go() {
    let daemon = Daemon::with(&[
        ("limits.write_stall", "1s"),
        ("limits.unacked_bytes", "64MiB"),
        ("limits.heartbeat_interval", "1h"),
    ]);
    let at = daemon.login("bob", "phone").position();
    let mut alice = daemon.login("alice", "laptop");
    let large = "x".repeat(60_000);
    for number in 1..=800 {
        alice.post(text(peer("bob"), number, &large));
        if number % 50 == 0 {
            // She must not become a reader that never reads herself.
            alice.settle();
        }
    }
    let mut stalled = daemon.resume("bob", "phone", at);
    // It reads Welcome and no more of 48 MB than sockets buffer; alice goes on as before.
    let start = Instant::now();
    let mut number = 800;
    until("the stalled reader to be let go", || {
        number += 1;
        alice.send(peer("carol"), number, "hi");
        (start.elapsed() > Duration::from_secs(3)).then_some(())
    });
    assert!(stalled.breaks_off(), "still served after a stall of three times the limit");
    let mut back = daemon.resume("bob", "phone", at);
    assert_eq!(back.welcome.verdict(), Verdict::CatchUp);
    back.caught_up();
    assert_eq!(back.seq, 800);
}
