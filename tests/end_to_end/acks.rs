//! Acks: what they move, when they are written, what is refused.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{Ack, FetchHistory, GetConversations, Ping, Position, client_frame::Body},
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, daemon::until, peer, text},
};

/// Bob's phone, live, with ten entries that are not acked.
fn ten() -> (Daemon, Client, Client) {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    alice.send_many(&peer("bob"), 1..=10);
    bob.synced(10);
    (daemon, alice, bob)
}

/// What the server has stored for bob's phone, as it tells a session that claims nothing new.
fn cursor(daemon: &Daemon, epoch: u64) -> u64 {
    daemon.resume("bob", "phone", Position { epoch, seq: 0 }).welcome.device_cursor
}

#[test]
fn an_ack_moves_the_cursor_of_its_device_and_nothing_else() {
    let (daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    let unread = bob.unread_total();
    bob.ack(7);
    bob.settle();
    assert_eq!(bob.unread_total(), unread, "an ack is no read receipt");
    drop(bob);
    let tablet = daemon.resume("bob", "tablet", Position { epoch, seq: 0 });
    assert_eq!((tablet.welcome.device_cursor, tablet.welcome.first_seq), (0, 1));
    assert_eq!(cursor(&daemon, epoch), 7);
}

#[test]
fn acks_are_cumulative_and_never_go_back() {
    let (daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    for seq in [3, 9, 4, 1, 0] {
        bob.ack(seq);
    }
    bob.settle();
    drop(bob);
    assert_eq!(cursor(&daemon, epoch), 9);
    assert_eq!(cursor(&daemon, epoch), 9, "a session that resumes at 0 does not move it back");
}

/// The server writes cursors a moment later; an orderly end within that moment loses none.
#[test]
fn a_cursor_outlives_a_restart_within_its_delay() {
    let (mut daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    bob.ack(8);
    // The ack is with the engine when an answer of the engine has come; now the daemon stops.
    bob.settle();
    daemon.restart();
    assert_eq!(cursor(&daemon, epoch), 8);
}

#[test]
fn a_cursor_outlives_a_crash_after_its_delay() {
    let (mut daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    bob.ack(8);
    bob.settle();
    // It is written after 250 ms. A crash before that may move it back and loses nothing else.
    let written = until("the cursor to be written", || {
        daemon.crash();
        let mut bob = daemon.resume("bob", "phone", Position { epoch, seq: 0 });
        let stored = bob.welcome.device_cursor;
        assert!(stored == 0 || stored == 8, "{stored}");
        bob.caught_up();
        assert_eq!(bob.seq, 10, "redelivered");
        bob.ack(8);
        bob.settle();
        // Every commit after the delay carries it.
        until("the delay", || {
            bob.settle();
            (bob.welcome.server_time_ms + 600 < time_of(&mut bob)).then_some(())
        });
        (stored == 8).then_some(stored)
    });
    assert_eq!(written, 8);
}

fn time_of(client: &mut Client) -> u64 {
    expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 0 }))).server_time_ms
}

#[test]
fn an_ack_of_what_was_not_sent_is_fatal() {
    for piggybacked in [false, true] {
        let (_daemon, _, mut bob) = ten();
        if piggybacked {
            bob.post_with_ack(11, Body::Ping(Ping { client_time_ms: 1 }));
        } else {
            bob.ack(11);
        }
        bob.end().fatally(ErrorCode::AckBeyondSent);
    }
}

/// What is written is not yet sent: a paced session may not ack beyond its window.
#[test]
fn an_ack_of_what_exists_but_was_not_sent_is_fatal() {
    let (daemon, _, bob) = ten();
    let at = Position { epoch: bob.welcome.epoch, seq: 0 };
    drop(bob);
    let mut bob = daemon.open(roamd::wire::proto::Hello {
        resume: Some(at),
        limits: Some(roamd::wire::proto::ClientLimits {
            max_unacked_entries: 4,
            ..Default::default()
        }),
        ..daemon.greeting("bob", "phone")
    });
    bob.synced(4);
    bob.ack(5);
    bob.end().fatally(ErrorCode::AckBeyondSent);
    assert_eq!(cursor(&daemon, at.epoch), 0);
}

#[test]
fn any_frame_carries_an_ack() {
    let (daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    let ping = bob.post_with_ack(6, Body::Ping(Ping { client_time_ms: 1 }));
    expect!(Pong, bob.reply(ping));
    bob.settle();
    drop(bob);
    assert_eq!(cursor(&daemon, epoch), 6);
}

/// The client will not repeat an ack because the request it rode on was refused.
#[test]
fn an_ack_counts_on_a_request_that_is_refused() {
    let refused = [
        // By the wire and by the engine.
        (Body::FetchHistory(FetchHistory::default()), ErrorCode::InvalidArgument),
        (
            Body::GetConversations(GetConversations { conversation_ids: vec!["x".into(); 201] }),
            ErrorCode::TooManyItems,
        ),
        (text(conversation("nowhere"), 1, "?"), ErrorCode::NotFound),
    ];
    for (body, code) in refused {
        let (daemon, _, mut bob) = ten();
        let epoch = bob.welcome.epoch;
        let req_id = bob.post_with_ack(5, body);
        assert_eq!(expect!(Error, bob.reply(req_id)).code, code.number());
        bob.settle();
        drop(bob);
        assert_eq!(cursor(&daemon, epoch), 5, "{code:?}");
    }
}

/// The larger of the two counts.
#[test]
fn an_ack_may_carry_an_ack() {
    let (daemon, _, mut bob) = ten();
    let epoch = bob.welcome.epoch;
    bob.post_with_ack(9, Body::Ack(Ack { seq: 2 }));
    bob.settle();
    drop(bob);
    assert_eq!(cursor(&daemon, epoch), 9);
}

#[test]
fn bye_carries_the_last_ack() {
    let (daemon, _, bob) = ten();
    let at = bob.bye();
    assert_eq!((at.seq, cursor(&daemon, at.epoch)), (10, 10));
}

/// Both devices of a user get everything; one ack does not serve for two.
#[test]
fn each_device_has_a_cursor_of_its_own() {
    let (daemon, mut alice, mut phone) = ten();
    let mut tablet = daemon.resume("bob", "tablet", Position { seq: 4, ..phone.position() });
    tablet.caught_up();
    phone.ack(10);
    tablet.ack(6);
    alice.send(peer("bob"), 11, "to both");
    phone.synced(11);
    tablet.synced(11);
    assert_eq!(phone.texts().len(), 11);
    assert_eq!(tablet.texts().len(), 7);
    phone.settle();
    tablet.settle();
    let (phone, tablet) = (phone.position(), tablet.position());
    let phone = daemon.resume("bob", "phone", Position { seq: 0, ..phone });
    let tablet = daemon.resume("bob", "tablet", Position { seq: 0, ..tablet });
    assert_eq!((phone.welcome.device_cursor, tablet.welcome.device_cursor), (10, 6));
}
