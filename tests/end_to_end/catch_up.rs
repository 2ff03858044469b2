//! Catch-up: the big packages, paced by acks, and the step from there to live.

use std::thread;

use roamd::wire::proto::{
    ClientLimits, Hello, Position, SyncPull, TooLongReason, Verdict, client_frame::Body,
};

use crate::{
    expect,
    support::{Client, Daemon, client::check_batch, peer, text},
};

/// Bob's position before any of `count` messages that alice has sent him.
fn backlog(daemon: &Daemon, count: u64) -> (Client, Position) {
    let at = daemon.login("bob", "phone").bye();
    let mut alice = daemon.login("alice", "laptop");
    alice.send_many(&peer("bob"), 1..=count);
    (alice, at)
}

fn slowly(daemon: &Daemon, at: Position, limits: ClientLimits) -> Client {
    let hello = daemon.greeting("bob", "phone");
    daemon.open(Hello { resume: Some(at), limits: Some(limits), ..hello })
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn acks_pace_the_batches() {
    let daemon = Daemon::start();
    let (_alice, at) = backlog(&daemon, 25);
    let limits = ClientLimits { max_unacked_entries: 10, ..Default::default() };
    let mut bob = slowly(&daemon, at, limits);
    bob.synced(10);
    bob.settle();
    assert_eq!(bob.seq, 10, "the server goes on without an ack");
    bob.ack(4);
    bob.synced(14);
    bob.settle();
    assert_eq!(bob.seq, 14, "four were acked, so four more may come");
    bob.ack(14);
    bob.synced(24);
    bob.settle();
    assert!(!bob.has_caught_up(), "one is still owed");
    bob.ack(20);
    let state = bob.caught_up();
    assert_eq!((state.seq, state.unread_total), (25, 25));
    assert_eq!(state.changed.len(), 1);
    assert_eq!(bob.texts(), numbers(1..=25));
}

#[test]
fn bytes_pace_the_batches_too() {
    let daemon = Daemon::start();
    let (mut alice, at) = backlog(&daemon, 0);
    let long = "x".repeat(10_000);
    for number in 1..=30 {
        alice.send(peer("bob"), number, &long);
    }
    let limits = ClientLimits { max_unacked_bytes: 100_000, ..Default::default() };
    let mut bob = slowly(&daemon, at, limits);
    bob.synced(9);
    bob.settle();
    assert!((9..=10).contains(&bob.seq), "100,000 bytes are {} messages", bob.seq);
    while !bob.has_caught_up() {
        bob.ack(bob.seq);
        bob.settle();
    }
    assert_eq!(bob.caught_up().seq, 30);
}

#[test]
fn a_batch_keeps_the_size_the_client_wants() {
    let daemon = Daemon::start();
    let (mut alice, at) = backlog(&daemon, 0);
    let sizes = [100, 3000, 60_000, 3000, 3000, 100, 100, 9000, 60_000, 60_000];
    for (number, size) in (1..).zip(sizes) {
        alice.send(peer("bob"), number, &"x".repeat(size));
    }
    let limits = ClientLimits { max_batch_bytes: 10_000, ..Default::default() };
    let mut bob = slowly(&daemon, at, limits);
    bob.caught_up();
    let got: Vec<_> = bob.messages().map(|message| message.content.len()).collect();
    assert_eq!(got, sizes);
    for (first, last, _) in &bob.batches {
        let bytes: usize = got[*first as usize - 1..*last as usize].iter().sum();
        assert!(bytes <= 10_000 || first == last, "{first}..={last}: {bytes} bytes");
    }
    let shapes: Vec<_> = bob.batches.iter().map(|(first, last, _)| (*first, *last)).collect();
    assert_eq!(shapes[..3], [(1, 2), (3, 3), (4, 7)], "batches are filled");
}

#[test]
fn a_big_backlog_needs_no_nudge() {
    let daemon = Daemon::start();
    let (mut alice, at) = backlog(&daemon, 0);
    let long = "x".repeat(60_000);
    for number in 1..=17 {
        alice.post(text(peer("bob"), number, &long));
    }
    alice.settle();
    // A little less than the megabyte that may be un-acked: it comes without a word from here.
    let mut bob = slowly(&daemon, at, ClientLimits::default());
    bob.synced(17);
    assert_eq!(bob.caught_up().seq, 17);
}

/// While somebody sends without a pause, the step from backlog to live loses and repeats nothing.
#[test]
fn there_is_no_gap_between_catch_up_and_live() {
    const COUNT: u64 = 1500;
    let daemon = Daemon::with(&[("limits.inbox_entries", "100000")]);
    let (mut alice, at) = backlog(&daemon, 300);
    let sender = thread::spawn(move || {
        alice.send_many(&peer("bob"), 301..=COUNT);
        alice
    });
    // Several devices come in at different moments of it.
    let receivers: Vec<_> = (0..4u32)
        .map(|device| {
            let hello = daemon.greeting("bob", &format!("device {device}").replace(' ', "-"));
            let limits = ClientLimits { max_unacked_entries: 40 + device, ..Default::default() };
            let hello = Hello { resume: Some(at), limits: Some(limits), ..hello };
            let mut bob = daemon.connect();
            thread::spawn(move || {
                bob.greet(hello);
                while bob.seq < COUNT {
                    let seq = bob.seq;
                    bob.synced(seq + 1);
                    bob.ack(bob.seq);
                }
                bob
            })
        })
        .collect();
    sender.join().unwrap();
    for receiver in receivers {
        let mut bob = receiver.join().unwrap();
        // Wherever it went live, it was told so, and is now where everybody is.
        bob.caught_up();
        assert_eq!((bob.seq, bob.unread_total()), (COUNT, COUNT));
        assert_eq!(bob.texts(), numbers(1..=COUNT));
    }
}

/// A device that stops acking while it is live falls behind, and is told when it is live again.
#[test]
fn a_live_session_that_falls_behind_catches_up_again() {
    let daemon = Daemon::start();
    let (mut alice, at) = backlog(&daemon, 0);
    let limits = ClientLimits { max_unacked_entries: 5, ..Default::default() };
    let mut bob = slowly(&daemon, at, limits);
    assert_eq!(bob.welcome.verdict(), Verdict::UpToDate);
    assert_eq!(bob.caught_up().seq, 0);
    alice.send_many(&peer("bob"), 1..=12);
    bob.synced(5);
    bob.settle();
    assert_eq!((bob.seq, bob.has_caught_up()), (5, false));
    while !bob.has_caught_up() {
        bob.ack(bob.seq);
        bob.settle();
    }
    let state = bob.caught_up();
    assert_eq!((state.seq, state.unread_total), (12, 12));
    bob.ack(12);
    alice.send(peer("bob"), 13, "live");
    bob.synced(13);
    bob.settle();
    assert!(!bob.has_caught_up(), "it has stayed live");
}

/// A session that lags behind retention is told so in the middle of it, and finds the way back.
#[test]
fn retention_may_overtake_a_session() {
    let daemon = Daemon::with(&[("limits.inbox_entries", "20")]);
    let (mut alice, at) = backlog(&daemon, 15);
    let limits = ClientLimits { max_unacked_entries: 10, ..Default::default() };
    let mut bob = slowly(&daemon, at, limits);
    bob.synced(10);
    alice.send_many(&peer("bob"), 16..=60);
    bob.settle();
    assert_eq!(bob.seq, 10);
    bob.ack(10);
    let too_long = bob.too_long();
    assert_eq!(too_long.reason(), TooLongReason::Trimmed);
    assert_eq!((too_long.head_seq, too_long.first_seq), (60, 41));
    bob.adopt(&too_long);
    assert_eq!(bob.caught_up().seq, 60);
    alice.send(peer("bob"), 61, "live");
    bob.synced(61);
    assert_eq!(bob.texts().last().unwrap(), "live");
}

/// The default retention, met to the entry.
#[test]
fn retention_beyond_a_thousand() {
    let daemon = Daemon::start();
    let (_alice, mut at) = backlog(&daemon, 1203);
    at.seq = 202;
    assert_eq!(daemon.resume("bob", "phone", at).too_long().reason(), TooLongReason::Trimmed);
    at.seq = 203;
    let mut bob = daemon.resume("bob", "phone", at);
    bob.caught_up();
    assert_eq!(bob.texts(), numbers(204..=1203));
}

#[test]
fn sync_pull_reads_and_moves_nothing() {
    let daemon = Daemon::with(&[("limits.inbox_entries", "20")]);
    let (_alice, at) = backlog(&daemon, 30);
    let mut tool = daemon.login("bob", "tool");
    let mut pull = |after_seq, limit| {
        let body = tool.call(Body::SyncPull(SyncPull { after_seq, limit }));
        let batch = expect!(Pulled, body);
        check_batch(&batch);
        assert_eq!((batch.prev_seq, batch.head_seq), (after_seq, 30));
        (batch.last_seq, batch.entries.len())
    };
    assert_eq!(pull(10, 5), (15, 5));
    assert_eq!(pull(15, 0), (30, 15));
    assert_eq!(pull(30, 0), (30, 0));
    let trimmed = Body::SyncPull(SyncPull { after_seq: 9, limit: 1 });
    tool.refused(roamd::refusal::ErrorCode::ResyncNeeded, trimmed);
    drop(tool);
    let bob = daemon.resume("bob", "phone", at);
    assert_eq!(bob.welcome.device_cursor, 0);
    let tool = daemon.resume("bob", "tool", Position { seq: 30, ..at });
    assert_eq!(tool.welcome.device_cursor, 30, "the cursor of its Resume and no other");
}

/// Whoever has more than the server is told so, never "nothing new".
#[test]
fn a_pull_beyond_the_head_is_refused() {
    let daemon = Daemon::start();
    let (_alice, _) = backlog(&daemon, 3);
    let mut tool = daemon.login("bob", "tool");
    let pull = Body::SyncPull(SyncPull { after_seq: 99, limit: 1 });
    tool.refused(roamd::refusal::ErrorCode::ResyncNeeded, pull);
}
