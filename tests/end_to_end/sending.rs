//! Sending: where a message goes, and what makes a retry the same message.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        ConversationKind, CreateGroup, Direction, Message, Position, Retry, Send, SendAck,
        client_frame::Body, server_frame,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, daemon::until, peer, text},
};

fn message(client: &Client, history_seq: u64) -> &Message {
    client.messages().find(|message| message.history_seq == history_seq).unwrap()
}

#[test]
fn a_direct_conversation_is_one_whoever_starts() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let first = alice.send(peer("bob"), 1, "hi bob");
    let second = bob.send(peer("alice"), 1, "hi alice");
    assert_eq!(first.conversation_id, second.conversation_id);
    assert_eq!((first.history_seq, second.history_seq), (1, 2));
    assert_eq!((first.inbox_seq, second.inbox_seq), (1, 2));
    assert_ne!(first.message_id, second.message_id);
    let third = alice.send(conversation(&first.conversation_id), 2, "by id");
    assert_eq!(third.history_seq, 3);
    for client in [&mut alice, &mut bob] {
        client.synced(3);
        assert_eq!(client.texts(), ["hi bob", "hi alice", "by id"]);
    }
    let got = message(&bob, 1);
    assert_eq!((got.sender.as_str(), got.sender_device.as_str()), ("alice", "laptop"));
    assert_eq!((got.message_id, got.client_message_id), (first.message_id, 1));
    assert_eq!((got.time_ms, got.created_at_ms), (first.time_ms, 1_700_000_000_000));

    let known = bob.recents();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].kind(), ConversationKind::Direct);
    assert_eq!((known[0].peer.as_str(), known[0].member_count), ("alice", 2));
}

/// The two first messages meet: one conversation, two messages, both for both.
#[test]
fn both_may_start_at_once() {
    let daemon = Daemon::start();
    let mut clients = [daemon.login("alice", "a"), daemon.login("bob", "b")];
    let posted = [
        clients[0].post(text(peer("bob"), 1, "from alice")),
        clients[1].post(text(peer("alice"), 1, "from bob")),
    ];
    let acks: Vec<SendAck> = std::iter::zip(&mut clients, posted)
        .map(|(client, req_id)| expect!(SendAck, client.reply(req_id)))
        .collect();
    assert_eq!(acks[0].conversation_id, acks[1].conversation_id);
    assert_eq!(acks[0].history_seq + acks[1].history_seq, 3);
    clients.iter_mut().for_each(|client| client.synced(2));
    assert_eq!(clients[0].texts(), clients[1].texts());
}

#[test]
fn a_user_may_write_to_itself() {
    let daemon = Daemon::start();
    let mut phone = daemon.login("alice", "phone");
    let mut laptop = daemon.login("alice", "laptop");
    let ack = laptop.send(peer("alice"), 1, "note");
    assert_eq!((ack.history_seq, ack.inbox_seq), (1, 1));
    laptop.send(peer("alice"), 2, "another");
    for client in [&mut phone, &mut laptop] {
        client.synced(2);
        assert_eq!(client.texts(), ["note", "another"]);
        assert_eq!(client.unread_total(), 0);
    }
    let known = phone.recents();
    assert_eq!((known[0].peer.as_str(), known[0].member_count), ("alice", 1));
}

/// The sender's other devices get the message as an entry, and can tell who wrote it.
#[test]
fn the_senders_other_devices_get_its_message() {
    let daemon = Daemon::start();
    let mut phone = daemon.login("alice", "phone");
    let mut laptop = daemon.login("alice", "laptop");
    let ack = laptop.send(peer("bob"), 42, "from the laptop");
    phone.synced(ack.inbox_seq);
    laptop.synced(ack.inbox_seq);
    for client in [&phone, &laptop] {
        let got = message(client, ack.history_seq);
        assert_eq!((got.sender_device.as_str(), got.client_message_id), ("laptop", 42));
    }
    assert_eq!(phone.unread_total(), 0);
}

#[test]
fn everything_in_a_message_arrives() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let sizes = [0, 1, 8 * 1024, 16 * 1024 + 1, 64 * 1024];
    let mut acks = Vec::new();
    for (number, size) in (1u64..).zip(sizes) {
        // Bytes that are no text, different at every place.
        let content: Vec<u8> = (0..size).map(|at: u32| (at.wrapping_mul(31) >> 3) as u8).collect();
        let send = Send {
            to: Some(peer("bob")),
            client_message_id: number,
            created_at_ms: u64::MAX,
            content_type: "application/x-größe".into(),
            content: content.into(),
            reply_to_seq: number - 1,
            mentions: vec!["bob".into(), "nobody".into()],
            silent: number % 2 == 0,
            uncounted: number % 2 == 1,
            no_push: true,
        };
        acks.push((expect!(SendAck, alice.call(Body::Send(send.clone()))), send));
    }
    bob.synced(5);
    let id = &acks[0].0.conversation_id;
    let page = bob.history(id, Direction::Newest, 0, 5);
    for ((ack, send), stored) in std::iter::zip(&acks, &page.messages) {
        assert_eq!(message(&bob, ack.history_seq), stored);
        assert!(stored.content == send.content, "{} bytes differ", send.content.len());
        assert_eq!(stored.content_type, send.content_type);
        assert_eq!((stored.created_at_ms, stored.reply_to_seq), (u64::MAX, send.reply_to_seq));
        assert_eq!(stored.mentions, send.mentions);
        assert_eq!((stored.silent, stored.uncounted), (send.silent, send.uncounted));
    }
    assert_eq!(bob.unread_total(), 2, "two of five count");
}

#[test]
fn content_has_a_limit_that_can_be_set() {
    let daemon = Daemon::with(&[("limits.content_bytes", "100B")]);
    let mut alice = daemon.login("alice", "laptop");
    alice.send(peer("bob"), 1, &"x".repeat(100));
    let large = text(peer("bob"), 2, &"x".repeat(101));
    let error = alice.refused(ErrorCode::ContentTooLarge, large);
    assert!(error.detail.contains("at most 100"), "{}", error.detail);
    alice.send(peer("bob"), 2, "shorter");
}

#[test]
fn a_conversation_of_others_and_one_that_is_not_there_look_the_same() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let ack = alice.send(peer("bob"), 1, "secret");
    let mut eve = daemon.login("eve", "laptop");
    let theirs = text(conversation(&ack.conversation_id), 1, "?");
    let missing = text(conversation("d.00000000000000000000000000"), 2, "?");
    let theirs = eve.refused(ErrorCode::NotFound, theirs);
    let missing = eve.refused(ErrorCode::NotFound, missing);
    assert_eq!(theirs, missing);
}

#[test]
fn an_answer_to_what_is_not_there_is_refused() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let early =
        Send { to: Some(peer("bob")), client_message_id: 1, reply_to_seq: 1, ..text_of("x") };
    alice.refused(ErrorCode::InvalidArgument, Body::Send(early));
    assert_eq!(alice.send(peer("bob"), 1, "x").history_seq, 1, "the refusal used nothing up");
}

fn text_of(content: &str) -> Send {
    Send { content: content.to_owned().into(), ..Send::default() }
}

fn duplicate(ack: &SendAck) -> SendAck {
    SendAck { duplicate: true, ..ack.clone() }
}

#[test]
fn a_retry_is_the_same_message() {
    let mut daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let at = bob.position();
    let mut alice = daemon.login("alice", "laptop");
    let alice_at = alice.position();
    let first = alice.send(peer("bob"), 1, "once");
    let second = alice.send(peer("bob"), 2, "twice");
    assert!(!first.duplicate && !second.duplicate);
    // On the same session, by the id of the conversation instead of the peer.
    assert_eq!(alice.send(peer("bob"), 1, "once"), duplicate(&first));
    let by_id = conversation(&first.conversation_id);
    assert_eq!(alice.send(by_id.clone(), 2, "twice"), duplicate(&second));
    // On another session.
    let mut alice = daemon.resume("alice", "laptop", alice_at);
    assert_eq!(alice.welcome.last_client_message_id, 2);
    assert_eq!(alice.send(peer("bob"), 1, "once"), duplicate(&first));
    // After a restart, and after a crash.
    daemon.restart();
    let mut alice = daemon.resume("alice", "laptop", alice_at);
    assert_eq!(alice.send(peer("bob"), 1, "once"), duplicate(&first));
    let third = alice.send(peer("bob"), 3, "thrice");
    daemon.crash();
    let mut alice = daemon.resume("alice", "laptop", alice_at);
    assert_eq!(alice.welcome.last_client_message_id, 3);
    assert_eq!(alice.send(by_id, 3, "thrice"), duplicate(&third));
    bob = daemon.resume("bob", "phone", at);
    bob.caught_up();
    assert_eq!(bob.texts(), ["once", "twice", "thrice"]);
}

/// Retries that overtake each other in one session, as a client in doubt sends them.
#[test]
fn many_retries_at_once_are_one_message() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let posted: Vec<_> = (0..50).map(|_| alice.post(text(peer("bob"), 9, "x"))).collect();
    let acks: Vec<_> =
        posted.into_iter().map(|req_id| expect!(SendAck, alice.reply(req_id))).collect();
    assert_eq!(acks.iter().filter(|ack| !ack.duplicate).count(), 1);
    assert!(acks.iter().all(|ack| duplicate(ack) == duplicate(&acks[0])));
    alice.settle();
    assert_eq!(alice.seq, 1);
}

#[test]
fn another_payload_under_the_same_number_is_a_conflict() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let first = alice.send(peer("bob"), 5, "yes");
    let mut changed = Vec::new();
    for change in 0..8 {
        let Body::Send(mut send) = text(peer("bob"), 5, "yes") else { unreachable!() };
        match change {
            0 => send.content = "no".into(),
            1 => send.content_type = "text/html".into(),
            2 => send.created_at_ms += 1,
            3 => send.mentions = vec!["bob".into()],
            4 => send.silent = true,
            5 => send.uncounted = true,
            6 => send.to = Some(peer("carol")),
            _ => send.reply_to_seq = 1,
        }
        changed.push(send);
    }
    for send in changed {
        let error = alice.refused(ErrorCode::IdempotencyConflict, Body::Send(send.clone()));
        assert_eq!(error.retry(), Retry::Never, "{send:?}");
    }
    assert_eq!(alice.send(peer("bob"), 5, "yes"), duplicate(&first));
    alice.settle();
    assert_eq!(alice.seq, 1, "a conflict has no effect");
    // Numbers are per device and per user.
    let mut phone = daemon.login("alice", "phone");
    assert!(!phone.send(peer("bob"), 5, "phone").duplicate);
    let mut bob = daemon.login("bob", "laptop");
    assert!(!bob.send(peer("alice"), 5, "bob").duplicate);
}

#[test]
fn numbers_may_come_out_of_order() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let at = alice.position();
    let numbers = [10, 3, 7, 20, 1, 15, u64::MAX, 8];
    let acks: Vec<_> = numbers
        .iter()
        .map(|number| alice.send(peer("bob"), *number, &number.to_string()))
        .collect();
    let order: Vec<_> = acks.iter().map(|ack| ack.history_seq).collect();
    assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8], "accepted in the order of the frames");
    daemon.crash();
    let mut alice = daemon.resume("alice", "laptop", at);
    assert_eq!(alice.welcome.last_client_message_id, u64::MAX);
    for (number, ack) in numbers.iter().zip(&acks) {
        let again = alice.send(peer("bob"), *number, &number.to_string());
        assert_eq!(again, duplicate(ack));
        alice.refused(ErrorCode::IdempotencyConflict, text(peer("bob"), *number, "other"));
    }
}

#[test]
fn a_refused_send_does_not_use_its_number_up() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    alice.refused(ErrorCode::NotFound, text(conversation("team"), 1, "x"));
    let create =
        CreateGroup { client_request_id: 2, conversation_id: "team".into(), ..Default::default() };
    expect!(GroupCreated, alice.call(Body::CreateGroup(create)));
    assert!(!alice.send(conversation("team"), 1, "x").duplicate);
}

/// Messages of one session to one conversation keep the order of their frames.
#[test]
fn pipelined_sends_keep_their_order() {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    let acks = alice.send_many(&peer("bob"), 1..=500);
    let order: Vec<_> = acks.iter().map(|ack| ack.history_seq).collect();
    assert_eq!(order, (1..=500).collect::<Vec<_>>());
    bob.synced(500);
    let sent: Vec<_> = (1..=500).map(|number| number.to_string()).collect();
    assert_eq!(bob.texts(), sent);
    alice.synced(500);
    for (ack, (seq, _)) in acks.iter().zip(&alice.inbox) {
        assert_eq!(ack.inbox_seq, *seq);
    }
}

/// More requests than may be outstanding: the server reads on when replies are out.
#[test]
fn a_flood_of_requests_is_answered_to_the_last() {
    let daemon = Daemon::with(&[("limits.outstanding_requests", "3")]);
    let mut alice = daemon.login("alice", "laptop");
    alice.send_many(&peer("bob"), 1..=300);
    alice.settle();
    assert_eq!(alice.seq, 300);
}

#[test]
fn a_session_that_sends_too_fast_is_told_to_wait() {
    let daemon = Daemon::with(&[("limits.sends_per_second", "1"), ("limits.sends_burst", "3")]);
    let mut alice = daemon.login("alice", "laptop");
    for number in 1..=3 {
        alice.send(peer("bob"), number, "x");
    }
    let error = alice.refused(ErrorCode::RateLimited, text(peer("bob"), 4, "x"));
    assert_eq!(error.retry(), Retry::AfterDelay);
    assert!(error.detail.contains("limits.sends_per_second"), "{error:?}");
    assert!((1..=2000).contains(&error.retry_after_ms), "{error:?}");
}

/// The allowance is the user's: neither a new session nor another device is a way around it.
#[test]
fn a_user_that_sends_too_fast_is_told_so_on_every_device() {
    let daemon = Daemon::with(&[("limits.sends_per_second", "1"), ("limits.sends_burst", "2")]);
    let mut alice = daemon.login("alice", "laptop");
    for number in 1..=2 {
        alice.send(peer("bob"), number, "x");
    }
    alice.bye();
    let mut devices: Vec<_> = ["laptop", "phone"].map(|of| daemon.login("alice", of)).into();
    let sends = devices
        .iter_mut()
        .flat_map(|device| [3, 4].map(|number| device.call(text(peer("bob"), number, "x"))));
    let refused = sends.filter(|reply| matches!(reply, server_frame::Body::Error(_))).count();
    assert!(refused >= 2, "{refused} of 4 were refused");
    daemon.login("carol", "phone").send(peer("bob"), 1, "another user has its own");
}

#[test]
fn a_user_that_opens_sessions_too_fast_is_told_to_wait() {
    let settings = [("limits.sessions_per_second", "1"), ("limits.sessions_burst", "2")];
    let daemon = Daemon::with(&settings);
    let one = daemon.login("alice", "laptop");
    daemon.login("alice", "phone");
    let mut third = daemon.connect();
    third.post(Body::Hello(daemon.greeting("alice", "phone")));
    let end = third.end();
    let error = end.fatally(ErrorCode::RateLimited);
    assert!(error.detail.contains("limits.sessions_per_second"), "{error:?}");
    assert_eq!(error.retry(), Retry::AfterDelay);
    assert!((1..=2000).contains(&error.retry_after_ms), "{error:?}");
    one.bye();
    until("a new allowance", || {
        let mut client = daemon.connect();
        let posted = client.post(Body::Hello(daemon.greeting("alice", "phone")));
        let reply = client.reply_or_end(posted)?;
        matches!(reply, server_frame::Body::Welcome(_)).then_some(())
    });
}

/// A device whose data came back from a backup must not use a number twice, and is told the last.
#[test]
fn welcome_names_the_last_number() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    alice.send(peer("bob"), 17, "x");
    alice.send(peer("bob"), 4, "out of order");
    let at: Position = alice.position();
    let again = daemon.resume("alice", "laptop", at);
    assert_eq!(again.welcome.last_client_message_id, 17);
    let other = daemon.resume("alice", "phone", at);
    assert_eq!(other.welcome.last_client_message_id, 0);
}
