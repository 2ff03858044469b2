//! Paging a history: all directions, all edges, byte budgets.

use std::thread;

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        Direction, FetchHistory, FetchMessages, HistoryPage, MessageRef, MessageState,
        client_frame::Body,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, peer, text},
};

/// Bob, and the direct conversation in which alice has sent him "1" to "count".
fn told(count: u64) -> (Daemon, Client, String) {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let acks = alice.send_many(&peer("bob"), 1..=count);
    let id = acks[0].conversation_id.clone();
    let bob = daemon.login("bob", "phone");
    (daemon, bob, id)
}

/// What holds for any page; returns its rows.
#[track_caller]
fn rows(page: &HistoryPage) -> Vec<u64> {
    let rows: Vec<u64> = page.messages.iter().map(|message| message.history_seq).collect();
    assert!(rows.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap: {rows:?}");
    let range = (rows.first().copied().unwrap_or(0), rows.last().copied().unwrap_or(0));
    assert_eq!((page.first_seq, page.last_seq), range);
    for message in &page.messages {
        assert_eq!(message.state(), MessageState::Normal);
        assert_eq!(message.content, message.history_seq.to_string().as_bytes());
    }
    rows
}

#[test]
fn a_history_can_be_scrolled_back_and_forth() {
    let (_daemon, mut bob, id) = told(120);
    let mut seen = Vec::new();
    let mut page = bob.history(&id, Direction::Newest, 0, 0);
    assert_eq!(page.messages.len(), 50, "the default");
    loop {
        let mut these = rows(&page);
        assert_eq!((page.visible_first_seq, page.visible_last_seq), (1, 120));
        assert_eq!(page.complete, these[0] == 1);
        these.extend(seen);
        seen = these;
        if page.complete {
            break;
        }
        page = bob.history(&id, Direction::Older, seen[0], 33);
    }
    assert_eq!(seen, (1..=120).collect::<Vec<_>>());

    let (mut forth, mut anchor) = (Vec::new(), 0);
    loop {
        let page = bob.history(&id, Direction::Newer, anchor, 47);
        forth.extend(rows(&page));
        anchor = page.last_seq;
        if page.complete {
            break;
        }
    }
    assert_eq!(forth, seen);
}

#[test]
fn every_edge_has_its_page() {
    let (_daemon, mut bob, id) = told(10);
    let mut page = |direction, anchor, limit| {
        let page = bob.history(&id, direction, anchor, limit);
        (rows(&page), page.complete)
    };
    use Direction::{Newer, Newest, Older};
    assert_eq!(page(Newest, 0, 3), (vec![8, 9, 10], false));
    assert_eq!(page(Newest, 5, 10), ((1..=10).collect(), true), "the anchor is ignored");
    assert_eq!(page(Older, 4, 3), (vec![1, 2, 3], true));
    assert_eq!(page(Older, 4, 2), (vec![2, 3], false));
    assert_eq!(page(Older, 1, 2), (vec![], true));
    assert_eq!(page(Older, 11, 1), (vec![10], false));
    assert_eq!(page(Older, u64::MAX, 1), (vec![10], false));
    assert_eq!(page(Newer, 8, 200), (vec![9, 10], true));
    assert_eq!(page(Newer, 0, 1), (vec![1], false));
    assert_eq!(page(Newer, 10, 1), (vec![], true));
    assert_eq!(page(Newer, u64::MAX, 1), (vec![], true));
    let below = Body::FetchHistory(FetchHistory {
        conversation_id: id.clone(),
        direction: Older.into(),
        ..Default::default()
    });
    bob.refused(ErrorCode::BelowFloor, below);
}

#[test]
fn a_page_keeps_its_byte_budget() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let sizes = [10_000, 20_000, 60_000, 1, 1, 30_000];
    let mut id = String::new();
    for (number, size) in (1..).zip(sizes) {
        id = alice.send(peer("bob"), number, &"x".repeat(size)).conversation_id;
    }
    let mut page = |direction: Direction, anchor_seq, max_bytes| {
        let request = FetchHistory {
            conversation_id: id.clone(),
            direction: direction.into(),
            anchor_seq,
            limit: 200,
            max_bytes,
        };
        let page = expect!(HistoryPage, alice.call(Body::FetchHistory(request)));
        let rows: Vec<_> = page.messages.iter().map(|message| message.history_seq).collect();
        (rows, page.complete)
    };
    use Direction::{Newer, Newest, Older};
    assert_eq!(page(Newest, 0, 40_000), (vec![4, 5, 6], false), "cut at the far end");
    assert_eq!(page(Newest, 0, 1), (vec![6], false), "at least one");
    assert_eq!(page(Older, 4, 40_000), (vec![3], false), "at least one, whatever it weighs");
    assert_eq!(page(Older, 3, 40_000), (vec![1, 2], true));
    assert_eq!(page(Newer, 0, 40_000), (vec![1, 2], false));
    assert_eq!(page(Newer, 3, 40_000), (vec![4, 5, 6], true));
    assert_eq!(page(Newest, 0, u32::MAX), ((1..=6).collect(), true));
}

#[test]
fn a_history_outlives_the_inbox() {
    let daemon = Daemon::with(&[("limits.inbox_entries", "5")]);
    let mut alice = daemon.login("alice", "laptop");
    let id = alice.send_many(&peer("bob"), 1..=60)[0].conversation_id.clone();
    let mut bob = daemon.login("bob", "phone");
    let page = bob.history(&id, Direction::Newer, 0, 200);
    assert_eq!(rows(&page), (1..=60).collect::<Vec<_>>());
}

/// Cause: a reply that found no room was sent only when something else happened on the connection.
/// Fix: what the socket has taken makes room, and that is reason enough.
#[test]
fn many_large_replies_need_no_nudge() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let large = "x".repeat(60_000);
    for number in 1..=10 {
        alice.post(text(peer("bob"), number, &large));
    }
    alice.settle();
    let mut bob = daemon.login("bob", "phone");
    let id = bob.recents()[0].conversation_id.clone();
    for _ in 0..4 {
        let pages: Vec<_> = (0..60)
            .map(|_| {
                bob.post(Body::FetchHistory(FetchHistory {
                    conversation_id: id.clone(),
                    direction: Direction::Newest.into(),
                    max_bytes: u32::MAX,
                    ..Default::default()
                }))
            })
            .collect();
        // A reader that pauses, so that the socket's buffers are full and then empty at once.
        thread::park_timeout(std::time::Duration::from_millis(50));
        for req_id in pages {
            assert_eq!(expect!(HistoryPage, bob.reply(req_id)).messages.len(), 8);
        }
    }
}

/// Cause: a small request made the server read two hundred large messages, of which a frame holds
/// sixteen. Fix: what has no room is not read, and says so in its place.
#[test]
fn large_messages_fetched_by_place_come_a_few_at_a_time() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let content = "x".repeat(60_000);
    let mut acks = Vec::new();
    for number in 1..=20 {
        acks.push(alice.send(peer("bob"), number, &content));
    }
    let place =
        |seq| MessageRef { conversation_id: acks[0].conversation_id.clone(), history_seq: seq };
    let mut wanted: Vec<u64> = (1..=20).chain([99]).collect();
    let mut found = Vec::new();
    for _ in 0..3 {
        let refs = wanted.iter().map(|seq| place(*seq)).collect();
        let reply = alice.call(Body::FetchMessages(FetchMessages { refs }));
        let items = expect!(MessageItems, reply).items;
        assert_eq!(items.len(), wanted.len());
        let mut skipped = Vec::new();
        for (item, seq) in items.iter().zip(&wanted) {
            match &item.message {
                Some(message) => {
                    assert_eq!((message.history_seq, message.content.len()), (*seq, 60_000));
                    found.push(*seq);
                }
                // What is not there is never a matter of room.
                None => assert_eq!(item.skipped, *seq != 99),
            }
            if item.skipped {
                skipped.push(*seq);
            }
        }
        wanted = skipped;
    }
    assert_eq!((found, wanted), ((1..=20).collect(), vec![]));
}
