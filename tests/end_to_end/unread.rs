//! Unread and read markers: derived, the same on all devices, exact after everything.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        CreateGroup, GetUnread, MarkRead, MarkReadReply, Ping, Send, Unread, client_frame::Body,
        entry::Kind,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, peer},
};

#[track_caller]
fn mark(client: &mut Client, id: &str, read_seq: u64) -> MarkReadReply {
    expect!(MarkReadReply, client.call(Body::MarkRead(marking(id, read_seq))))
}

fn marking(id: &str, read_seq: u64) -> MarkRead {
    MarkRead { conversation_id: id.into(), read_seq, peer_visible: false }
}

fn reply(read_seq: u64, unread: u64, unread_total: u64) -> MarkReadReply {
    MarkReadReply { read_seq, unread, unread_total }
}

#[track_caller]
fn unread(client: &mut Client, ids: &[&str]) -> Unread {
    let conversation_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = GetUnread { conversation_ids, explain: true };
    expect!(Unread, client.call(Body::GetUnread(request)))
}

/// The read markers a device was told of.
fn markers(client: &Client) -> Vec<u64> {
    let marker = |kind: &Option<Kind>| match kind {
        Some(Kind::Read(marker)) => Some(marker.read_seq),
        _ => None,
    };
    client.inbox.iter().filter_map(|(_, entry)| marker(&entry.kind)).collect()
}

/// Bob's phone and laptop, and two conversations with 5 and 3 messages for him.
fn story() -> (Daemon, Client, Client, String, String) {
    let daemon = Daemon::start();
    let phone = daemon.login("bob", "phone");
    let laptop = daemon.login("bob", "laptop");
    let mut alice = daemon.login("alice", "phone");
    let mut carol = daemon.login("carol", "phone");
    let a = alice.send_many(&peer("bob"), 1..=5)[0].conversation_id.clone();
    let c = carol.send_many(&peer("bob"), 1..=3)[0].conversation_id.clone();
    (daemon, phone, laptop, a, c)
}

#[test]
fn a_marker_goes_forward_only() {
    let (_daemon, mut phone, _, a, c) = story();
    assert_eq!(phone.unread_total(), 8);
    assert_eq!(mark(&mut phone, &a, 2), reply(2, 3, 6));
    assert_eq!(mark(&mut phone, &a, 1), reply(2, 3, 6), "backwards changes nothing");
    assert_eq!(mark(&mut phone, &a, 0), reply(2, 3, 6));
    assert_eq!(mark(&mut phone, &a, u64::MAX), reply(5, 0, 3), "beyond the last is the last");
    assert_eq!(mark(&mut phone, &c, 3), reply(3, 0, 0));
    assert_eq!(unread(&mut phone, &[]).conversations.len(), 0);
}

#[test]
fn the_total_is_the_sum_and_every_number_is_explained() {
    let (_daemon, mut phone, _, a, c) = story();
    mark(&mut phone, &a, 4);
    for ids in [vec![], vec![a.as_str(), c.as_str()], vec![c.as_str()]] {
        let unread = unread(&mut phone, &ids);
        assert_eq!((unread.unread_total, unread.complete), (4, true), "of all, whatever is asked");
        if ids.len() != 1 {
            let sum: u64 = unread.conversations.iter().map(|one| one.unread).sum();
            assert_eq!(sum, 4);
        }
        for one in &unread.conversations {
            assert_eq!(one.unread, one.last_ordinal - one.read_ordinal - one.removed);
        }
    }
    let one = &unread(&mut phone, &[&a]).conversations[0];
    assert_eq!((one.unread, one.read_seq, one.visible_last_seq), (1, 4, 5));
    phone.refused(ErrorCode::NotFound, Body::MarkRead(marking("nowhere", 1)));
    let missing = GetUnread { conversation_ids: vec!["nowhere".into()], explain: false };
    phone.refused(ErrorCode::NotFound, Body::GetUnread(missing));
}

#[test]
fn other_devices_are_told_of_the_marker() {
    let (_daemon, mut phone, mut laptop, a, c) = story();
    mark(&mut phone, &a, 2);
    mark(&mut phone, &c, 3);
    laptop.synced(10);
    assert_eq!(markers(&laptop), [2, 3]);
    assert_eq!(laptop.unread_total(), 3);
    mark(&mut laptop, &a, 5);
    assert_eq!(phone.unread_total(), 0);
    phone.synced(10);
    assert_eq!(markers(&phone)[..2], [2, 3]);
}

/// Reading message after message must not push messages out of the inbox.
#[test]
fn markers_are_told_once_in_two_seconds() {
    let (_daemon, mut phone, mut laptop, a, _) = story();
    let start = time(&mut phone);
    for seq in 1..=5 {
        assert_eq!(mark(&mut phone, &a, seq).read_seq, seq, "the marker itself waits for nothing");
    }
    laptop.settle();
    let quick = time(&mut phone) < start + 2000;
    if quick {
        assert_eq!(markers(&laptop), [1], "the first at once, the others later");
    }
    laptop.wait("the last marker", |laptop| markers(laptop).contains(&5).then_some(()));
    if quick {
        assert_eq!(markers(&laptop), [1, 5]);
    }
    assert!(time(&mut phone) >= start + 2000);
    laptop.settle();
    assert!(laptop.seq <= 8 + 3, "{} entries", laptop.seq);
}

fn time(client: &mut Client) -> u64 {
    expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 0 }))).server_time_ms
}

/// A marker whose entry is held back is told after all: by a drain, and after a crash.
#[test]
fn a_marker_held_back_is_not_lost() {
    for crash in [false, true] {
        let (mut daemon, mut phone, laptop, a, _) = story();
        let at = laptop.position();
        laptop.bye();
        mark(&mut phone, &a, 1);
        mark(&mut phone, &a, 4);
        if crash {
            daemon.crash();
        } else {
            daemon.restart();
        }
        let mut laptop = daemon.resume("bob", "laptop", at);
        let state = laptop.caught_up();
        assert_eq!(markers(&laptop).last(), Some(&4), "crash: {crash}");
        assert_eq!(state.unread_total, 4);
    }
}

#[test]
fn what_one_writes_is_read() {
    let (_daemon, mut phone, mut laptop, a, _) = story();
    phone.send(conversation(&a), 1, "answer");
    assert_eq!((phone.unread_total(), laptop.unread_total()), (3, 3));
    assert_eq!(mark(&mut laptop, &a, 3), reply(6, 0, 3));
    laptop.settle();
    assert!(markers(&laptop).is_empty(), "the message itself says so");
}

#[test]
fn uncounted_messages_do_not_count() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let mut id = String::new();
    for number in 1..=9 {
        let send = Send {
            to: Some(peer("bob")),
            client_message_id: number,
            uncounted: number % 3 != 0,
            ..Default::default()
        };
        id = expect!(SendAck, alice.call(Body::Send(send))).conversation_id;
    }
    assert_eq!(bob.unread_total(), 3);
    assert_eq!(mark(&mut bob, &id, 2), reply(2, 3, 3));
    assert_eq!(mark(&mut bob, &id, 3), reply(3, 2, 2));
    assert_eq!(mark(&mut bob, &id, 8), reply(8, 1, 1));
}

#[test]
fn caught_up_tells_all_that_is_unread() {
    let (daemon, mut phone, laptop, a, c) = story();
    let at = laptop.position();
    drop(laptop);
    mark(&mut phone, &a, 3);
    let mut laptop = daemon.resume("bob", "laptop", at);
    assert_eq!(laptop.welcome.unread_total, 5);
    let state = laptop.caught_up();
    assert_eq!((state.unread_total, state.complete), (5, true));
    let counts: Vec<_> =
        state.changed.iter().map(|one| (one.conversation_id.as_str(), one.unread)).collect();
    let mut expected = [(a.as_str(), 2), (c.as_str(), 3)];
    expected.sort_unstable();
    let mut got = counts.clone();
    got.sort_unstable();
    assert_eq!(got, expected);
}

/// Against a count by hand, over conversations of both kinds, with a crash in between.
#[test]
fn unread_equals_a_count_by_hand() {
    let mut daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let at = bob.position();
    let mut alice = daemon.login("alice", "phone");
    let alice_at = alice.position();
    let mut ids = Vec::new();
    for number in 1..=3 {
        let group = CreateGroup {
            client_request_id: number,
            user_ids: vec!["bob".into()],
            ..Default::default()
        };
        ids.push(expect!(GroupCreated, alice.call(Body::CreateGroup(group))).conversation_id);
    }
    // Per conversation: whether each message counts, and the marker.
    let mut model: Vec<(Vec<bool>, usize)> = vec![(Vec::new(), 0); ids.len()];
    let mut random = 12345u64;
    let mut below = |most: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % most
    };
    for step in 10..210 {
        let at_id = below(3) as usize;
        let (id, (messages, read)) = (ids[at_id].clone(), &mut model[at_id]);
        match below(5) {
            0 => {
                let seq = below(messages.len() as u64 + 3);
                let got = mark(&mut bob, &id, seq);
                *read = (*read).max((seq as usize).min(messages.len()));
                assert_eq!(got.read_seq, *read as u64);
            }
            1 => {
                bob.send(conversation(&id), step, "own");
                messages.push(true);
                *read = messages.len();
            }
            _ => {
                let uncounted = below(4) == 0;
                let send = Send {
                    to: Some(conversation(&id)),
                    client_message_id: step,
                    uncounted,
                    ..Default::default()
                };
                expect!(SendAck, alice.call(Body::Send(send)));
                messages.push(!uncounted);
            }
        }
        if step == 100 {
            daemon.crash();
            bob = daemon.resume("bob", "phone", at);
            alice = daemon.resume("alice", "phone", alice_at);
        }
        let by_hand: Vec<u64> = model
            .iter()
            .map(|(messages, read)| messages[*read..].iter().filter(|counts| **counts).count())
            .map(|count| count as u64)
            .collect();
        let asked: Vec<&str> = ids.iter().map(String::as_str).collect();
        let told = unread(&mut bob, &asked);
        let counts: Vec<u64> = told.conversations.iter().map(|one| one.unread).collect();
        assert_eq!(counts, by_hand, "step {step}");
        assert_eq!(told.unread_total, by_hand.iter().sum::<u64>());
    }
}
