//! What a user's devices share of a conversation: marked as unread, preferences and drafts; what the
//! other side may know of it: read receipts, readers.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        CreateGroup, GetConversations, GetReaders, GetUnread, LeaveGroup, MarkRead, MarkReadReply,
        MarkUnread, PeerRead, Ping, Preferences, ReadMarker, ReaderPage, RemoveMembers,
        SetPreferences, client_frame::Body, entry::Kind,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, peer},
};

/// The inbox_seq of the entry a request made; 0 = none.
#[track_caller]
fn done(client: &mut Client, body: Body) -> u64 {
    expect!(Done, client.call(body)).inbox_seq
}

#[track_caller]
fn mark(client: &mut Client, id: &str, read_seq: u64, peer_visible: bool) -> MarkReadReply {
    let request = MarkRead { conversation_id: id.into(), read_seq, peer_visible };
    expect!(MarkReadReply, client.call(Body::MarkRead(request)))
}

fn mark_unread(id: &str) -> Body {
    Body::MarkUnread(MarkUnread { conversation_id: id.into() })
}

fn set(id: &str, change: Preferences) -> Body {
    let preferences = Some(Preferences { conversation_id: id.into(), ..change });
    Body::SetPreferences(SetPreferences { preferences })
}

fn draft(id: &str, text: &str) -> Body {
    set(id, Preferences { draft: Some(text.to_owned().into()), ..Default::default() })
}

fn kinds<T>(client: &Client, pick: impl Fn(&Kind) -> Option<T>) -> Vec<T> {
    client.inbox.iter().filter_map(|(_, entry)| pick(entry.kind.as_ref()?)).collect()
}

fn markers(client: &Client) -> Vec<ReadMarker> {
    kinds(client, |kind| if let Kind::Read(it) = kind { Some(it.clone()) } else { None })
}

fn receipts(client: &Client) -> Vec<PeerRead> {
    kinds(client, |kind| if let Kind::PeerRead(it) = kind { Some(it.clone()) } else { None })
}

fn preferences(client: &Client) -> Vec<Preferences> {
    kinds(client, |kind| if let Kind::Preferences(it) = kind { Some(it.clone()) } else { None })
}

fn drafts(client: &Client) -> Vec<String> {
    let text = |it: &Preferences| String::from_utf8_lossy(it.draft()).into_owned();
    preferences(client).iter().map(text).collect()
}

fn time(client: &mut Client) -> u64 {
    expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 0 }))).server_time_ms
}

/// A daemon, bob's phone and laptop, alice's phone, and five messages from alice to bob.
fn story() -> (Daemon, Client, Client, Client, String) {
    let daemon = Daemon::start();
    let phone = daemon.login("bob", "phone");
    let laptop = daemon.login("bob", "laptop");
    let mut alice = daemon.login("alice", "phone");
    let id = alice.send_many(&peer("bob"), 1..=5)[0].conversation_id.clone();
    (daemon, phone, laptop, alice, id)
}

#[track_caller]
fn group(client: &mut Client, users: &[&str]) -> String {
    let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
    let request = CreateGroup { client_request_id: 1000, user_ids, ..Default::default() };
    expect!(GroupCreated, client.call(Body::CreateGroup(request))).conversation_id
}

#[test]
fn marked_as_unread_is_told_at_once_and_ends_with_the_next_mark() {
    let (_daemon, mut phone, mut laptop, _alice, id) = story();
    mark(&mut phone, &id, 5, false);
    let seq = done(&mut phone, mark_unread(&id));
    assert_eq!(seq, 7, "after five messages and a marker, however soon");
    assert_eq!(done(&mut phone, mark_unread(&id)), 0, "a repeat changes nothing");
    laptop.synced(7);
    let marked = ReadMarker { conversation_id: id.clone(), read_seq: 5, marked_unread: true };
    assert_eq!(markers(&laptop).last(), Some(&marked));
    assert_eq!(phone.unread_total(), 0, "it is a flag, not a number");
    assert!(phone.recents()[0].marked_unread);
    let request = GetUnread { conversation_ids: vec![id.clone()], explain: false };
    assert!(expect!(Unread, phone.call(Body::GetUnread(request))).conversations[0].marked_unread);

    assert_eq!(mark(&mut laptop, &id, 4, false).read_seq, 5);
    assert!(phone.recents()[0].marked_unread, "a mark behind the marker says nothing");
    mark(&mut laptop, &id, 5, false);
    assert!(!phone.recents()[0].marked_unread);
    phone.synced(8);
    let unmarked = ReadMarker { marked_unread: false, ..marked };
    assert_eq!(markers(&phone).last(), Some(&unmarked));
    mark(&mut laptop, &id, 5, false);
    phone.settle();
    assert_eq!(phone.seq, 8, "a repeat makes no entry");
}

#[test]
fn marked_as_unread_outlives_the_process() {
    let (mut daemon, mut phone, laptop, _alice, id) = story();
    let at = laptop.bye();
    done(&mut phone, mark_unread(&id));
    daemon.crash();
    let mut laptop = daemon.resume("bob", "laptop", at);
    laptop.caught_up();
    assert!(markers(&laptop).last().unwrap().marked_unread);
    assert!(laptop.recents()[0].marked_unread);
    laptop.refused(ErrorCode::NotFound, mark_unread("nowhere"));
}

#[test]
fn the_peer_sees_what_it_may_see_and_nothing_else() {
    let (_daemon, mut phone, mut laptop, mut alice, id) = story();
    mark(&mut phone, &id, 2, false);
    alice.settle();
    assert_eq!(receipts(&alice), [], "a mark that is not for the peer");
    mark(&mut phone, &id, 1, true);
    alice.wait("a receipt", |alice| (!receipts(alice).is_empty()).then_some(()));
    let receipt = PeerRead { conversation_id: id.clone(), user_id: "bob".into(), read_seq: 1 };
    assert_eq!(receipts(&alice), [receipt], "no more than was marked for it");
    mark(&mut phone, &id, 1, true);
    alice.settle();
    assert_eq!(receipts(&alice).len(), 1, "a repeat");
    laptop.settle();
    assert_eq!(receipts(&laptop), [], "not to one's own devices");
    assert_eq!(receipts(&phone), []);
}

/// As with one's own devices: one now, the last one later.
#[test]
fn receipts_are_told_once_in_two_seconds() {
    let (_daemon, mut phone, _, mut alice, id) = story();
    let start = time(&mut phone);
    for seq in 1..=5 {
        mark(&mut phone, &id, seq, true);
    }
    alice.settle();
    let quick = time(&mut phone) < start + 2000;
    let last = |alice: &mut Client| receipts(alice).iter().any(|it| it.read_seq == 5).then_some(());
    alice.wait("the last receipt", last);
    let seqs: Vec<u64> = receipts(&alice).iter().map(|it| it.read_seq).collect();
    if quick {
        assert_eq!(seqs, [1, 5]);
    }
    assert!(seqs.len() <= 5);
}

/// A receipt that is held back is told after all: by a drain, and after a crash when the reader is
/// back.
#[test]
fn a_receipt_held_back_is_not_lost() {
    for crash in [false, true] {
        let (mut daemon, mut phone, _, alice, id) = story();
        let (at, alice_at) = (phone.position(), alice.bye());
        mark(&mut phone, &id, 1, true);
        mark(&mut phone, &id, 4, true);
        if crash {
            daemon.crash();
        } else {
            daemon.restart();
        }
        let mut alice = daemon.resume("alice", "phone", alice_at);
        alice.caught_up();
        if crash {
            assert_eq!(receipts(&alice).last().map(|it| it.read_seq), Some(1));
            daemon.resume("bob", "phone", at).caught_up();
        }
        let last =
            |alice: &mut Client| receipts(alice).iter().any(|it| it.read_seq == 4).then_some(());
        alice.wait("the last receipt", last);
    }
}

#[test]
fn there_are_no_receipts_in_groups_and_to_oneself() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob"]);
    alice.send(conversation(&id), 1, "hello");
    mark(&mut bob, &id, 1, true);
    let own = bob.send(peer("bob"), 1, "note").conversation_id;
    mark(&mut bob, &own, 1, true);
    alice.settle();
    bob.settle();
    assert_eq!((receipts(&alice), receipts(&bob)), (vec![], vec![]));
}

#[test]
fn preferences_are_changed_one_by_one_and_told_whole() {
    let (daemon, mut phone, mut laptop, alice, id) = story();
    let pin = Preferences { pinned: Some(true), ..Default::default() };
    assert_eq!(done(&mut phone, set(&id, pin.clone())), 6);
    assert_eq!(done(&mut phone, set(&id, pin)), 0, "a repeat");
    laptop.synced(6);
    let whole = |pinned, muted, draft: &str| Preferences {
        conversation_id: id.clone(),
        pinned: Some(pinned),
        muted: Some(muted),
        hidden: Some(false),
        draft: Some(draft.to_owned().into()),
    };
    assert_eq!(preferences(&laptop), [whole(true, false, "")]);
    // The next ones come within two seconds: durable at once, told together.
    let muted = Preferences { muted: Some(true), ..Default::default() };
    phone.call(set(&id, muted));
    phone.call(draft(&id, "so"));
    phone.call(draft(&id, "so far"));
    let expected = whole(true, true, "so far");
    let listed = |client: &mut Client| client.recents()[0].preferences.clone().unwrap();
    let unnamed = Preferences { conversation_id: String::new(), ..expected.clone() };
    let now = listed(&mut laptop);
    assert_eq!(Preferences { conversation_id: String::new(), ..now }, unnamed);
    laptop.wait("the rest", |it| preferences(it).contains(&expected).then_some(()));
    // Nobody else's business.
    let mut alice = alice;
    alice.settle();
    assert_eq!(preferences(&alice), []);
    assert_eq!(listed(&mut alice).pinned, Some(false));
    alice.refused(ErrorCode::NotFound, draft("nowhere", "?"));
    drop(daemon);
}

/// Typing must not push messages out of the inbox.
#[test]
fn fifty_states_of_a_draft_are_few_entries_and_the_last_one_arrives() {
    let (_daemon, mut phone, mut laptop, _alice, id) = story();
    let start = time(&mut phone);
    for length in 1..=50 {
        expect!(Done, phone.call(draft(&id, &"x".repeat(length))));
    }
    let spent = time(&mut phone) - start;
    let last = "x".repeat(50);
    laptop.wait("the last draft", |laptop| drafts(laptop).contains(&last).then_some(()));
    laptop.settle();
    let most = 2 + spent / 2000;
    assert!(drafts(&laptop).len() as u64 <= most, "{} entries", drafts(&laptop).len());
    assert_eq!(laptop.recents()[0].preferences.as_ref().unwrap().draft(), last.as_bytes());
}

/// A change whose entry is held back is told after all: by a drain, and after a crash.
#[test]
fn a_draft_held_back_is_not_lost() {
    for crash in [false, true] {
        let (mut daemon, mut phone, laptop, _alice, id) = story();
        let at = laptop.bye();
        phone.call(draft(&id, "first"));
        phone.call(draft(&id, "second"));
        if crash {
            daemon.crash();
        } else {
            daemon.restart();
        }
        let mut laptop = daemon.resume("bob", "laptop", at);
        laptop.caught_up();
        // A pointer, joined when it is read: the first entry shows the second draft as well.
        assert_eq!(drafts(&laptop), ["second", "second"], "crash: {crash}");
        // Told is told.
        let at = laptop.bye();
        let mut laptop = daemon.resume("bob", "laptop", at);
        laptop.caught_up();
        assert_eq!(drafts(&laptop), [] as [&str; 0]);
    }
}

#[test]
fn whoever_has_left_keeps_its_preferences_and_may_change_them() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let id = group(&mut alice, &["bob"]);
    alice.send(conversation(&id), 1, "hello");
    let leave = LeaveGroup { conversation_id: id.clone() };
    expect!(Done, bob.call(Body::LeaveGroup(leave)));
    let hide = Preferences { hidden: Some(true), ..Default::default() };
    assert!(done(&mut bob, set(&id, hide)) > 0);
    assert!(done(&mut bob, mark_unread(&id)) > 0);
    assert_eq!(
        mark(&mut bob, &id, 1, true),
        MarkReadReply { read_seq: 1, unread: 0, unread_total: 0 }
    );
    let shown = &bob.recents()[0];
    assert!(shown.left && !shown.marked_unread);
    assert_eq!(shown.preferences.as_ref().unwrap().hidden, Some(true));
}

/// With more preferences than are looked at together, each conversation still has its own.
#[test]
fn many_conversations_have_their_own_preferences() {
    let daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut ids = Vec::new();
    for number in 1..=300u64 {
        let id = bob.send(peer(&format!("user{number}")), number, "hi").conversation_id;
        bob.call(draft(&id, &number.to_string()));
        ids.push(id);
    }
    let request = GetConversations { conversation_ids: ids[100..].to_vec() };
    let items = expect!(ConversationItems, bob.call(Body::GetConversations(request))).items;
    for (number, item) in (101u64..).zip(items) {
        let preferences = item.conversation.unwrap().preferences.unwrap();
        assert_eq!(preferences.draft(), number.to_string().as_bytes());
    }
    bob.call(draft(&ids[0], ""));
    let request = GetConversations { conversation_ids: ids[..2].to_vec() };
    let items = expect!(ConversationItems, bob.call(Body::GetConversations(request))).items;
    let drafts: Vec<_> = items
        .into_iter()
        .map(|it| it.conversation.unwrap().preferences.unwrap().draft.unwrap())
        .collect();
    assert_eq!(drafts, ["", "2"]);
}

#[track_caller]
fn readers(client: &mut Client, id: &str, history_seq: u64, limit: u32) -> (Vec<String>, u32) {
    let (mut all, mut page_token) = (Vec::new(), Default::default());
    loop {
        let request = asking(id, history_seq, limit);
        let request = GetReaders { page_token, ..request };
        let ReaderPage { user_ids, reader_count, next_page_token, complete } =
            expect!(ReaderPage, client.call(Body::GetReaders(request)));
        assert!(user_ids.len() <= limit as usize && complete == next_page_token.is_empty());
        all.extend(user_ids);
        page_token = next_page_token;
        if complete {
            return (all, reader_count);
        }
    }
}

fn asking(id: &str, history_seq: u64, limit: u32) -> GetReaders {
    GetReaders { conversation_id: id.into(), history_seq, limit, ..Default::default() }
}

#[test]
fn readers_are_those_whose_marker_has_passed_the_message() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    // Ids of several lengths: the order of pages is that of the ids.
    let names = ["b", "cc", "ddd", "aaaaa", "zz", "y"];
    let id = group(&mut alice, &names);
    alice.send_many(&conversation(&id), 1..=3);
    let mut clients: Vec<Client> = names.iter().map(|name| daemon.login(name, "phone")).collect();
    assert_eq!(readers(&mut alice, &id, 1, 2), (vec![], 0), "nobody, and not its sender");
    for (number, client) in clients.iter_mut().enumerate() {
        mark(client, &id, number as u64 % 4, false);
    }
    // Markers: b 0, cc 1, ddd 2, aaaaa 3, zz 0, y 1.
    let expected = ["aaaaa", "cc", "ddd", "y"];
    for limit in [1, 2, 3, 4, 1000] {
        let (users, count) = readers(&mut alice, &id, 1, limit);
        assert_eq!((users.as_slice(), count), (&expected.map(String::from)[..], 4), "{limit}");
    }
    assert_eq!(readers(&mut clients[0], &id, 3, 10), (vec!["aaaaa".into()], 1));
    // Whoever answers has read; whoever has left is no reader any more.
    clients[0].send(conversation(&id), 1, "answer");
    let remove = RemoveMembers { conversation_id: id.clone(), user_ids: vec!["ddd".into()] };
    expect!(MemberItems, alice.call(Body::RemoveMembers(remove)));
    let expected = ["aaaaa", "b", "cc", "y"].map(String::from);
    assert_eq!(readers(&mut alice, &id, 1, 1000), (expected.to_vec(), 4));
    assert_eq!(readers(&mut alice, &id, 4, 10), (vec![], 0));
}

#[test]
fn readers_are_told_to_members_who_see_the_message_and_to_nobody_else() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let mut eve = daemon.login("eve", "phone");
    let id = group(&mut alice, &["bob"]);
    alice.send(conversation(&id), 1, "hello");
    let get = |seq| Body::GetReaders(asking(&id, seq, 10));
    eve.refused(ErrorCode::NotFound, get(1));
    alice.refused(ErrorCode::NotFound, get(2));
    let token = GetReaders { page_token: vec![0xff].into(), ..asking(&id, 1, 10) };
    alice.refused(ErrorCode::BadToken, Body::GetReaders(token));
    let leave = LeaveGroup { conversation_id: id.clone() };
    expect!(Done, bob.call(Body::LeaveGroup(leave)));
    bob.refused(ErrorCode::NotFound, get(1));
    let direct = alice.send(peer("bob"), 2, "hello").conversation_id;
    alice.refused(ErrorCode::Forbidden, Body::GetReaders(asking(&direct, 1, 10)));
    eve.refused(ErrorCode::NotFound, Body::GetReaders(asking(&direct, 1, 10)));
}
