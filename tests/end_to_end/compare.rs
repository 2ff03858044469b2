//! The version compare: what the server says to every position a device may claim, and the way back
//! when the inbox cannot help.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        self, ClientLimits, Hello, ListConversations, Position, Resume, TooLongReason, Verdict,
        client_frame::Body, server_frame,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, peer, text},
};

/// A daemon that keeps 10 entries, and bob's phone in step with 6 of them.
fn story() -> (Daemon, Client, Position) {
    let daemon = Daemon::with(&[("limits.inbox_entries", "10")]);
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    alice.send_many(&peer("bob"), 1..=6);
    bob.synced(6);
    let at = bob.bye();
    (daemon, alice, at)
}

#[test]
fn equal_versions_are_up_to_date() {
    let (daemon, _, at) = story();
    let mut bob = daemon.resume("bob", "phone", at);
    assert_eq!(bob.welcome.verdict(), Verdict::UpToDate);
    assert_eq!((bob.welcome.head_seq, bob.welcome.first_seq), (6, 1));
    assert_eq!((bob.welcome.device_cursor, bob.welcome.unread_total), (6, 6));
    let state = bob.caught_up();
    assert_eq!((state.seq, state.unread_total, state.complete), (6, 6, true));
    assert!(bob.inbox.is_empty());
}

#[test]
fn an_older_version_is_caught_up() {
    let (daemon, mut alice, at) = story();
    alice.send_many(&peer("bob"), 7..=9);
    let mut bob = daemon.resume("bob", "phone", at);
    assert_eq!(bob.welcome.verdict(), Verdict::CatchUp);
    assert_eq!((bob.welcome.head_seq, bob.welcome.device_cursor), (9, 6));
    let state = bob.caught_up();
    assert_eq!((state.seq, state.unread_total), (9, 9));
    assert_eq!(bob.texts(), ["7", "8", "9"]);
}

#[test]
fn the_oldest_position_that_retention_leaves_is_caught_up() {
    let (daemon, mut alice, mut at) = story();
    alice.send_many(&peer("bob"), 7..=12);
    // 12 entries, the last 10 of them kept: 3 to 12.
    at.seq = 2;
    let mut bob = daemon.resume("bob", "phone", at);
    assert_eq!((bob.welcome.first_seq, bob.welcome.verdict()), (3, Verdict::CatchUp));
    bob.caught_up();
    assert_eq!(bob.inbox.first().map(|(seq, _)| *seq), Some(3));
    assert_eq!(bob.inbox.len(), 10);

    at.seq = 1;
    let mut bob = daemon.resume("bob", "phone", at);
    assert_eq!(bob.welcome.verdict(), Verdict::TooLong);
    assert_eq!(bob.too_long().reason(), TooLongReason::Trimmed);
}

#[test]
fn every_reason_of_too_long_has_its_name() {
    let (daemon, _, at) = story();
    let hello = |resume| Hello { resume, ..daemon.greeting("bob", "phone") };
    let check = |hello: Hello, reason| {
        let mut bob = daemon.open(hello);
        assert_eq!(bob.welcome.verdict(), Verdict::TooLong);
        let too_long = bob.too_long();
        assert_eq!(too_long.reason(), reason);
        assert_eq!((too_long.epoch, too_long.head_seq, too_long.first_seq), (at.epoch, 6, 1));
        assert!(!too_long.snapshot_token.is_empty());
        bob.settle();
        assert!(bob.inbox.is_empty() && !bob.has_caught_up(), "streamed before Resume");
        bob.adopt(&too_long);
        assert_eq!(bob.caught_up().seq, 6);
    };
    let position = |epoch, seq| Some(Position { epoch, seq });
    check(hello(None), TooLongReason::NewDevice);
    check(hello(position(at.epoch ^ 1, 6)), TooLongReason::Epoch);
    check(hello(position(0, 0)), TooLongReason::Epoch);
    check(hello(position(at.epoch, 7)), TooLongReason::Ahead);
    check(hello(position(at.epoch, u64::MAX)), TooLongReason::Ahead);
    let limits = ClientLimits { max_missed_entries: 3, ..Default::default() };
    let hello = Hello { limits: Some(limits), ..hello(position(at.epoch, 2)) };
    check(hello.clone(), TooLongReason::ClientLimit);
    let resume = position(at.epoch, 3);
    assert_eq!(daemon.open(Hello { resume, ..hello }).welcome.verdict(), Verdict::CatchUp);
    daemon.wait_log("a device is ahead of the server");
}

/// The way of a new device and of one that was away for too long: the message index, then live.
#[test]
fn too_long_leads_through_the_message_index_to_live() {
    let (daemon, mut alice, at) = story();
    let mut carol = daemon.login("carol", "phone");
    carol.send(peer("bob"), 1, "from carol");
    alice.send_many(&peer("bob"), 7..=30);

    for hello in [
        Hello { resume: Some(at), ..daemon.greeting("bob", "phone") },
        daemon.greeting("bob", "new"),
    ] {
        let mut bob = daemon.open(hello);
        let too_long = bob.too_long();
        let head = too_long.head_seq;
        let (mut listed, mut page_token) = (Vec::new(), Default::default());
        // What happens meanwhile has a number above the head, and comes after Resume.
        alice.send(peer("bob"), head + 100, "meanwhile");
        loop {
            let request = ListConversations {
                snapshot_token: too_long.snapshot_token.clone(),
                page_token,
                limit: 1,
                ..Default::default()
            };
            let page = expect!(ConversationPage, bob.call(Body::ListConversations(request)));
            assert!(page.position >= head);
            listed.extend(page.conversations);
            page_token = page.next_page_token;
            if page.complete {
                break;
            }
        }
        let mut peers: Vec<_> = listed.iter().map(|known| known.peer.as_str()).collect();
        peers.sort_unstable();
        assert_eq!(peers, ["alice", "carol"]);
        let with_alice = listed.iter().find(|known| known.peer == "alice").unwrap();
        let newest = with_alice.last_message.as_ref().unwrap();
        assert_eq!(newest.history_seq, with_alice.visible_last_seq);

        bob.adopt(&too_long);
        let state = bob.caught_up();
        assert_eq!(bob.texts(), ["meanwhile"]);
        assert_eq!(state.seq, head + 1);
        assert_eq!(state.changed.iter().map(|one| one.unread).sum::<u64>(), state.unread_total);
        // Live.
        alice.send(peer("bob"), head + 101, "live");
        bob.synced(head + 2);
        // History has what the inbox lost.
        let page = bob.history(&with_alice.conversation_id, proto::Direction::Newer, 0, 5);
        assert_eq!((page.first_seq, page.last_seq), (1, 5));
        bob.bye();
    }
}

#[test]
fn a_position_that_is_trimmed_before_resume_is_too_long_again() {
    let (daemon, mut alice, _) = story();
    let mut bob = daemon.open(daemon.greeting("bob", "tablet"));
    let first = bob.too_long();
    alice.send_many(&peer("bob"), 7..=40);
    let position = Some(Position { epoch: first.epoch, seq: first.head_seq });
    let again = expect!(TooLong, bob.call(Body::Resume(Resume { position })));
    assert_eq!((again.reason(), again.head_seq), (TooLongReason::Trimmed, 40));
    assert_eq!(again.first_seq, 31);
    bob.adopt(&again);
    assert_eq!(bob.caught_up().seq, 40);
}

#[test]
fn resume_follows_too_long_and_nothing_else() {
    let (daemon, _, at) = story();
    let mut bob = daemon.resume("bob", "phone", at);
    bob.caught_up();
    bob.post(Body::Resume(Resume { position: Some(at) }));
    bob.end().fatally(ErrorCode::WrongState);
}

/// Cause: the refusal of an earlier request was taken for the refusal of Resume, whose answer then
/// had no state to arrive in. Fix: the session remembers which request is the Resume.
#[test]
fn a_refusal_on_the_way_does_not_swallow_resume() {
    let (daemon, _, _) = story();
    let mut bob = daemon.open(daemon.greeting("bob", "tablet"));
    let too_long = bob.too_long();
    let position = Some(Position { epoch: too_long.epoch, seq: too_long.head_seq });
    bob.seq = too_long.head_seq;
    let refused: Vec<_> = (1..=50)
        .map(|number| bob.post(text(crate::support::conversation("nowhere"), number, "?")))
        .collect();
    let resume = bob.post(Body::Resume(Resume { position }));
    for req_id in refused {
        let server_frame::Body::Error(error) = bob.reply(req_id) else { panic!("not refused") };
        assert_eq!(error.code, ErrorCode::NotFound.number());
    }
    expect!(Resumed, bob.reply(resume));
    assert_eq!(bob.caught_up().seq, 6);
}

#[test]
fn a_long_absence_in_days_is_too_long() {
    // The shortest retention by age that can be set is a second.
    let daemon = Daemon::with(&[("limits.inbox_age", "1s")]);
    let mut bob = daemon.login("bob", "phone");
    let at = bob.position();
    let mut alice = daemon.login("alice", "laptop");
    alice.send_many(&peer("bob"), 1..=3);
    bob.synced(3);
    bob.bye();
    // Age counts when a device connects.
    let reason = crate::support::daemon::until("the entries to expire", || {
        let mut bob = daemon.resume("bob", "phone", at);
        (bob.welcome.first_seq == 4).then(|| bob.too_long())
    });
    assert_eq!(reason.reason(), TooLongReason::Trimmed);
}
