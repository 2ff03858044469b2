//! Lists of conversations: recents, paging, previews.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        ConversationPage, CreateGroup, GetConversations, ListConversations, Ping, Send,
        client_frame::Body,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, peer},
};

/// Waits until the server's clock has moved on: two things in one millisecond have no order in time.
#[track_caller]
fn tick(client: &mut Client) {
    let mut time =
        || expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 0 }))).server_time_ms;
    let start = time();
    while time() == start {}
}

#[track_caller]
fn page(client: &mut Client, request: ListConversations) -> ConversationPage {
    expect!(ConversationPage, client.call(Body::ListConversations(request)))
}

fn peers(page: &ConversationPage) -> Vec<&str> {
    page.conversations.iter().map(|known| known.peer.as_str()).collect()
}

/// Alice with conversations with u1, u2, u3 and u4, in this order of time.
fn four() -> (Daemon, Client, Vec<u64>) {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut times = Vec::new();
    for number in 1..=4 {
        times.push(alice.send(peer(&format!("u{number}")), number, "hi").time_ms);
        tick(&mut alice);
    }
    (daemon, alice, times)
}

#[test]
fn the_newest_activity_comes_first() {
    let (daemon, mut alice, _) = four();
    let all = ListConversations::default;
    assert_eq!(peers(&page(&mut alice, all())), ["u4", "u3", "u2", "u1"]);
    let mut u2 = daemon.login("u2", "phone");
    u2.send(peer("alice"), 1, "and you?");
    let now = page(&mut alice, all());
    assert_eq!(peers(&now), ["u2", "u4", "u3", "u1"]);
    assert_eq!((now.position, now.unread_total, now.complete), (5, 1, true));
    let first = &now.conversations[0];
    let last = first.last_message.as_ref().unwrap();
    assert_eq!((last.history_seq, last.sender.as_str()), (2, "u2"));
    assert_eq!((first.activity_ms, first.unread, first.read_seq), (last.time_ms, 1, 1));
    // A new group without a message is activity too.
    tick(&mut alice);
    let group = CreateGroup { client_request_id: 9, title: "new".into(), ..Default::default() };
    expect!(GroupCreated, alice.call(Body::CreateGroup(group)));
    assert_eq!(page(&mut alice, all()).conversations[0].title, "new");
}

#[test]
fn only_what_happened_since() {
    let (_daemon, mut alice, times) = four();
    let mut since = |since_ms| {
        let page = page(&mut alice, ListConversations { since_ms, ..Default::default() });
        assert!(page.complete);
        peers(&page).join(" ")
    };
    assert_eq!(since(times[1]), "u4 u3");
    assert_eq!(since(times[1] - 1), "u4 u3 u2");
    assert_eq!(since(times[3]), "");
    assert_eq!(since(u64::MAX), "");
}

#[test]
fn pages_have_every_conversation_once() {
    let (_daemon, mut alice, _) = four();
    for snapshot in [false, true] {
        let snapshot_token = if snapshot { vec![0; 8] } else { vec![] };
        for limit in 1..=5 {
            let (mut found, mut page_token) = (Vec::new(), Default::default());
            let mut pages = 0;
            loop {
                let request = ListConversations {
                    snapshot_token: snapshot_token.clone().into(),
                    page_token,
                    limit,
                    ..Default::default()
                };
                let page = page(&mut alice, request);
                assert!(page.conversations.len() <= limit as usize);
                assert_eq!(page.complete, page.next_page_token.is_empty());
                found.extend(page.conversations.into_iter().map(|known| known.peer));
                pages += 1;
                page_token = page.next_page_token;
                if page.complete {
                    break;
                }
            }
            assert_eq!(pages, 4usize.div_ceil(limit as usize), "no empty page at the end");
            if !snapshot {
                assert_eq!(found, ["u4", "u3", "u2", "u1"]);
            }
            found.sort_unstable();
            assert_eq!(found, ["u1", "u2", "u3", "u4"]);
        }
    }
}

/// A conversation that moves to the front while the list is paged is not on a later page; whatever
/// moves has an entry of its own. In a snapshot nothing moves.
#[test]
fn paging_stands_still_while_messages_come() {
    let (daemon, mut alice, _) = four();
    let mut u1 = daemon.login("u1", "phone");
    let mut number = 0;
    for snapshot_token in ["", "12345678"] {
        let (mut found, mut page_token) = (Vec::new(), Default::default());
        loop {
            let request = ListConversations {
                snapshot_token: snapshot_token.into(),
                page_token,
                limit: 1,
                ..Default::default()
            };
            let page = page(&mut alice, request);
            found.extend(page.conversations.into_iter().map(|known| known.peer));
            page_token = page.next_page_token;
            if page.complete {
                break;
            }
            number += 1;
            u1.send(peer("alice"), number, "me!");
        }
        found.sort_unstable();
        found.dedup();
        let still = if snapshot_token.is_empty() { 3 } else { 4 };
        assert!(found.len() >= still, "{found:?}");
    }
}

#[test]
fn foreign_tokens_are_refused() {
    let (_daemon, mut alice, _) = four();
    for (snapshot_token, page_token) in
        [("x", ""), ("123456789", ""), ("", "x"), ("", "123456789"), ("", "12345678\u{9}abc")]
    {
        let request = ListConversations {
            snapshot_token: snapshot_token.into(),
            page_token: page_token.into(),
            ..Default::default()
        };
        alice.refused(ErrorCode::BadToken, Body::ListConversations(request));
    }
}

#[test]
fn a_preview_is_short() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    for (number, size) in (1..).zip([1024, 1025, 60_000]) {
        let send = Send {
            to: Some(peer("bob")),
            client_message_id: number,
            content: vec![b'x'; size].into(),
            mentions: vec!["bob".into()],
            ..Default::default()
        };
        expect!(SendAck, alice.call(Body::Send(send)));
        let known = &alice.recents()[0];
        let preview = known.last_message.as_ref().unwrap();
        assert_eq!(preview.content.len(), 1024);
        assert!(preview.mentions.is_empty());
        assert_eq!(known.last_message_cut, size > 1024);
    }
}

#[test]
fn items_align_with_what_was_asked() {
    let (daemon, mut alice, _) = four();
    let ids: Vec<_> = alice.recents().into_iter().map(|known| known.conversation_id).collect();
    let asked = vec![ids[2].clone(), "nowhere".into(), ids[0].clone(), ids[2].clone()];
    let request = || GetConversations { conversation_ids: asked.clone() };
    let items = expect!(ConversationItems, alice.call(Body::GetConversations(request())));
    let got: Vec<_> =
        items.items.iter().map(|item| item.conversation.as_ref().map(|it| &*it.peer)).collect();
    assert_eq!(got, [Some("u2"), None, Some("u4"), Some("u2")]);
    assert_eq!(items.position, 4);
    assert!(items.items[0].conversation.as_ref().unwrap().last_message.is_some());
    // What is there for alice is not there for others.
    let mut eve = daemon.login("eve", "laptop");
    let items = expect!(ConversationItems, eve.call(Body::GetConversations(request())));
    assert!(items.items.len() == 4 && items.items.iter().all(|item| item.conversation.is_none()));
}
