//! Groups: who is in them, what everybody concerned is told, and what each may see.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        AddMembers, CreateGroup, Direction, FetchHistory, GroupCreated, HistoryPolicy, LeaveGroup,
        ListMembers, Member, MemberItems, MemberOutcome as Outcome, MembershipAction as Action,
        MembershipChange, RemoveMembers, Role, client_frame::Body, entry::Kind,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, conversation, peer, text},
};

pub fn names(users: &[&str]) -> Vec<String> {
    users.iter().map(|user| (*user).to_owned()).collect()
}

pub fn create(client_request_id: u64, users: &[&str]) -> CreateGroup {
    let (title, user_ids) = ("lunch".into(), names(users));
    CreateGroup { client_request_id, title, user_ids, ..Default::default() }
}

#[track_caller]
pub fn created(client: &mut Client, request: CreateGroup) -> GroupCreated {
    expect!(GroupCreated, client.call(Body::CreateGroup(request)))
}

pub fn add_body(id: &str, users: &[&str]) -> Body {
    Body::AddMembers(AddMembers { conversation_id: id.into(), user_ids: names(users) })
}

pub fn remove_body(id: &str, users: &[&str]) -> Body {
    Body::RemoveMembers(RemoveMembers { conversation_id: id.into(), user_ids: names(users) })
}

#[track_caller]
pub fn add(client: &mut Client, id: &str, users: &[&str]) -> MemberItems {
    expect!(MemberItems, client.call(add_body(id, users)))
}

#[track_caller]
pub fn remove(client: &mut Client, id: &str, users: &[&str]) -> MemberItems {
    expect!(MemberItems, client.call(remove_body(id, users)))
}

pub fn leave_body(id: &str) -> Body {
    Body::LeaveGroup(LeaveGroup { conversation_id: id.into() })
}

pub fn outcomes(items: &MemberItems) -> Vec<Outcome> {
    items.outcomes().collect()
}

#[track_caller]
pub fn members(client: &mut Client, id: &str) -> Vec<Member> {
    let (mut all, mut page_token) = (Vec::new(), Default::default());
    loop {
        let request = ListMembers { conversation_id: id.into(), page_token, limit: 2 };
        let page = expect!(MemberPage, client.call(Body::ListMembers(request)));
        all.extend(page.members);
        page_token = page.next_page_token;
        if page.complete {
            assert_eq!(page.member_count as usize, all.len());
            return all;
        }
        assert!(!page_token.is_empty());
    }
}

pub fn roles(members: &[Member]) -> Vec<(&str, Role)> {
    members.iter().map(|member| (member.user_id.as_str(), member.role())).collect()
}

/// The last change of members that has come.
#[track_caller]
pub fn told(client: &mut Client) -> MembershipChange {
    client.settle();
    let change = client.inbox.iter().rev().find_map(|(_, entry)| match &entry.kind {
        Some(Kind::Membership(change)) => Some(change.clone()),
        _ => None,
    });
    change.expect("told of a change")
}

pub fn team(daemon: &Daemon) -> [Client; 3] {
    ["alice", "bob", "carol"].map(|user| daemon.login(user, "phone"))
}

#[test]
fn everybody_in_a_new_group_is_told() {
    let daemon = Daemon::start();
    let mut all = team(&daemon);
    let group = created(&mut all[0], create(1, &["bob", "carol", "alice", "bob"]));
    assert_eq!((group.member_count, group.inbox_seq, group.duplicate), (3, 1, false));
    let id = &group.conversation_id;
    assert!(id.starts_with("g."), "{id}");
    for client in &mut all {
        let change = told(client);
        assert_eq!(client.seq, 1);
        assert_eq!((change.action(), change.by.as_str()), (Action::Created, "alice"));
        assert_eq!(change.users, names(&["alice", "bob", "carol"]));
        assert_eq!((change.user_count, change.member_count, change.history_seq), (3, 3, 0));
        assert_eq!((change.conversation_id.as_str(), change.title.as_str()), (&**id, "lunch"));
    }
    let known = all[1].recents();
    assert_eq!((known[0].title.as_str(), known[0].member_count), ("lunch", 3));
    assert_eq!(known[0].role(), Role::Member);
    assert!(known[0].last_message.is_none() && !known[0].left);
    let roles_now = members(&mut all[2], id);
    let expected = [("alice", Role::Owner), ("bob", Role::Member), ("carol", Role::Member)];
    assert_eq!(roles(&roles_now), expected);
}

#[test]
fn creating_again_is_the_same_group() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let at = alice.position();
    let first = created(&mut alice, create(1, &["bob"]));
    let again = GroupCreated { duplicate: true, ..first.clone() };
    assert_eq!(created(&mut alice, create(1, &["bob"])), again);
    daemon.crash();
    let mut alice = daemon.resume("alice", "phone", at);
    assert_eq!(created(&mut alice, create(1, &["bob"])), again);
    alice.refused(ErrorCode::IdempotencyConflict, Body::CreateGroup(create(1, &["carol"])));
    // One space of numbers for messages and groups.
    alice.refused(ErrorCode::IdempotencyConflict, text(peer("bob"), 1, "x"));
    let second = created(&mut alice, create(2, &["bob"]));
    assert_ne!(second.conversation_id, first.conversation_id);
}

#[test]
fn an_id_of_ones_choice_is_taken_once() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let chosen = |number| CreateGroup { conversation_id: "team-1".into(), ..create(number, &[]) };
    assert_eq!(created(&mut alice, chosen(1)).conversation_id, "team-1");
    assert!(created(&mut alice, chosen(1)).duplicate);
    alice.refused(ErrorCode::AlreadyExists, Body::CreateGroup(chosen(2)));
    bob.refused(ErrorCode::AlreadyExists, Body::CreateGroup(chosen(1)));
    let direct = bob.send(peer("carol"), 2, "x").conversation_id;
    for reserved in [direct.as_str(), "g.0000000000001", "d.x", "g."] {
        let reserved = CreateGroup { conversation_id: reserved.into(), ..create(9, &[]) };
        alice.refused(ErrorCode::InvalidArgument, Body::CreateGroup(reserved));
    }
    // The refusals have used no number up.
    assert!(!created(&mut alice, create(2, &[])).duplicate);
}

#[test]
fn a_message_reaches_every_member_once() {
    let daemon = Daemon::start();
    let users: Vec<String> = (0..12).map(|n| format!("user{n:02}")).collect();
    let mut online: Vec<Client> = users.iter().map(|user| daemon.login(user, "phone")).collect();
    let refs: Vec<&str> = users.iter().map(String::as_str).collect();
    let offline = daemon.login("offline", "phone").bye();
    let id = created(&mut online[0], create(1, &[&refs[..], &["offline"]].concat()));
    for (number, sender) in (2..).zip([0, 5, 11]) {
        let content = format!("from {sender}");
        online[sender].send(conversation(&id.conversation_id), number, &content);
    }
    let expected = ["from 0", "from 5", "from 11"];
    for client in &mut online {
        client.synced(4);
        client.settle();
        assert_eq!(client.texts(), expected);
    }
    assert_eq!([0, 5, 11, 7].map(|at: usize| online[at].unread_total()), [2, 1, 0, 3]);
    let mut offline = daemon.resume("offline", "phone", offline);
    assert_eq!(offline.caught_up().unread_total, 3);
    assert_eq!(offline.texts(), expected);
}

#[test]
fn an_entry_names_at_most_32_users() {
    let daemon = Daemon::start();
    let users: Vec<String> = (0..40).map(|n| format!("user{n:02}")).collect();
    let refs: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut alice = daemon.login("alice", "phone");
    let id = created(&mut alice, create(1, &refs)).conversation_id;
    let change = told(&mut alice);
    assert_eq!((change.users.len(), change.user_count, change.member_count), (32, 41, 41));
    assert_eq!(members(&mut alice, &id).len(), 41);
}

#[test]
fn whoever_is_added_sees_from_then_on() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob"])).conversation_id;
    alice.send(conversation(&id), 2, "before");
    carol.refused(ErrorCode::NotFound, text(conversation(&id), 1, "?"));

    let added = add(&mut alice, &id, &["carol", "bob", "carol"]);
    assert_eq!(outcomes(&added), [Outcome::Changed, Outcome::Unchanged, Outcome::Unchanged]);
    assert_eq!((added.member_count, added.inbox_seq), (3, 3));
    for client in [&mut alice, &mut bob, &mut carol] {
        let change = told(client);
        assert_eq!((change.action(), change.by.as_str()), (Action::Added, "alice"));
        assert_eq!((change.users, change.user_count), (names(&["carol"]), 1));
        assert_eq!((change.member_count, change.history_seq), (3, 1));
    }
    let again = add(&mut alice, &id, &["carol"]);
    assert_eq!(outcomes(&again), [Outcome::Unchanged]);
    assert_eq!((again.member_count, again.inbox_seq), (3, 0), "a repeat does nothing");

    // Nothing of before is to be seen, on no way.
    let page = carol.history(&id, Direction::Newest, 0, 10);
    assert!(page.messages.is_empty() && page.complete);
    assert_eq!((page.visible_first_seq, page.visible_last_seq), (2, 1));
    let known = &carol.recents()[0];
    assert!(known.last_message.is_none());
    assert_eq!((known.unread, carol.unread_total()), (0, 0));
    bob.send(conversation(&id), 1, "after");
    carol.synced(2);
    assert_eq!(carol.texts(), ["after"]);
    let page = carol.history(&id, Direction::Newest, 0, 10);
    assert_eq!((page.first_seq, page.last_seq, page.visible_first_seq), (2, 2, 2));
    let below = Body::FetchHistory(FetchHistory {
        conversation_id: id.clone(),
        direction: Direction::Older.into(),
        anchor_seq: 1,
        ..Default::default()
    });
    let error = carol.refused(ErrorCode::BelowFloor, below);
    assert!(error.detail.contains('2'), "{}", error.detail);
    assert_eq!(carol.recents()[0].unread, 1);
    let joined: Vec<_> = members(&mut carol, &id).iter().map(|m| m.joined_seq).collect();
    assert_eq!(joined, [1, 1, 2]);
}

#[test]
fn whoever_is_removed_sees_up_to_then() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob", "carol"])).conversation_id;
    alice.send(conversation(&id), 2, "one");
    let removed = remove(&mut alice, &id, &["carol", "nobody", "carol", "alice"]);
    assert_eq!(
        outcomes(&removed),
        [Outcome::Changed, Outcome::Unchanged, Outcome::Unchanged, Outcome::Forbidden]
    );
    assert_eq!(removed.member_count, 2);
    for client in [&mut alice, &mut bob, &mut carol] {
        let change = told(client);
        assert_eq!((change.action(), change.users), (Action::Removed, names(&["carol"])));
        assert_eq!((change.member_count, change.history_seq), (2, 1));
    }
    alice.send(conversation(&id), 3, "two");
    bob.synced(4);
    carol.settle();
    assert_eq!(carol.seq, 3, "nothing more for carol");
    assert_eq!(carol.texts(), ["one"]);
    carol.refused(ErrorCode::NotFound, text(conversation(&id), 1, "?"));
    carol.refused(ErrorCode::NotFound, add_body(&id, &["carol"]));
    let list = ListMembers { conversation_id: id.clone(), ..Default::default() };
    carol.refused(ErrorCode::NotFound, Body::ListMembers(list));
    let page = carol.history(&id, Direction::Newest, 0, 10);
    assert_eq!((page.first_seq, page.last_seq, page.visible_last_seq), (1, 1, 1));
    let known = &carol.recents()[0];
    assert!(known.left);
    assert_eq!((known.role(), known.visible_last_seq), (Role::Unspecified, 1));
    assert_eq!((known.unread, carol.unread_total()), (1, 1));
}

/// Between two stays nothing is to be seen, and no page spans the hole.
#[test]
fn what_was_said_between_two_stays_stays_unseen() {
    let daemon = Daemon::start();
    let [mut alice, _, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["carol"])).conversation_id;
    let to = conversation(&id);
    alice.send_many(&to, 2..=4);
    remove(&mut alice, &id, &["carol"]);
    alice.send_many(&to, 5..=9);
    add(&mut alice, &id, &["carol"]);
    alice.send_many(&to, 10..=12);
    // 1..=3 and 9..=11 are carol's.
    let rows = |carol: &mut Client, direction, anchor, limit| {
        let page = carol.history(&id, direction, anchor, limit);
        let rows: Vec<_> = page.messages.iter().map(|message| message.history_seq).collect();
        assert_eq!((page.visible_first_seq, page.visible_last_seq), (1, 11));
        (rows, page.complete)
    };
    assert_eq!(rows(&mut carol, Direction::Newest, 0, 10), (vec![9, 10, 11], false));
    assert_eq!(rows(&mut carol, Direction::Older, 9, 10), (vec![1, 2, 3], true));
    assert_eq!(rows(&mut carol, Direction::Older, 6, 2), (vec![2, 3], false));
    assert_eq!(rows(&mut carol, Direction::Newer, 0, 10), (vec![1, 2, 3], false));
    assert_eq!(rows(&mut carol, Direction::Newer, 3, 10), (vec![9, 10, 11], true));
    assert_eq!(rows(&mut carol, Direction::Newer, 5, 2), (vec![9, 10], false));
    carol.synced(9);
    assert_eq!(carol.texts(), ["2", "3", "4", "10", "11", "12"]);
    assert_eq!(carol.unread_total(), 3, "what was said between does not count");
}

#[test]
fn a_policy_may_show_what_was_before() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut number = 0;
    for (policy, last_n, first) in [
        (HistoryPolicy::Unspecified, 0, 6),
        (HistoryPolicy::SinceJoin, 0, 6),
        (HistoryPolicy::LastN, 2, 4),
        (HistoryPolicy::LastN, 100, 1),
        (HistoryPolicy::Full, 0, 1),
    ] {
        number += 10;
        let request = CreateGroup {
            history_policy: policy.into(),
            history_last_n: last_n,
            ..create(number, &[])
        };
        let id = created(&mut alice, request).conversation_id;
        alice.send_many(&conversation(&id), number + 1..=number + 5);
        let newcomer = format!("newcomer{number}");
        add(&mut alice, &id, &[&newcomer]);
        let mut newcomer = daemon.login(&newcomer, "phone");
        let page = newcomer.history(&id, Direction::Newest, 0, 10);
        assert_eq!(page.visible_first_seq, first, "{policy:?} {last_n}");
        assert_eq!(page.messages.len() as u64, 6 - first);
        assert_eq!(newcomer.unread_total(), 0, "what was before is not unread");
    }
}

#[test]
fn leaving_is_told_and_an_owner_has_an_heir() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["carol"])).conversation_id;
    alice.send(conversation(&id), 2, "x");
    add(&mut alice, &id, &["bob"]);

    let done = expect!(Done, alice.call(leave_body(&id)));
    assert_eq!(done.inbox_seq, 4);
    for client in [&mut alice, &mut bob, &mut carol] {
        let change = told(client);
        assert_eq!((change.action(), change.by.as_str()), (Action::Left, "alice"));
        assert_eq!((change.users, change.member_count), (names(&["alice"]), 2));
    }
    let again = expect!(Done, alice.call(leave_body(&id)));
    assert_eq!(again.inbox_seq, 0, "a repeat does nothing");
    alice.refused(ErrorCode::NotFound, text(conversation(&id), 3, "?"));
    // Carol was there before bob.
    let now = members(&mut bob, &id);
    assert_eq!(roles(&now), [("bob", Role::Member), ("carol", Role::Owner)]);
    assert_eq!(carol.recents()[0].role(), Role::Owner);
    assert_eq!(outcomes(&add(&mut carol, &id, &["dave"])), [Outcome::Changed]);
    expect!(Done, bob.call(leave_body(&id)));
    // The last one turns off the light; nobody can come back into what nobody owns.
    remove(&mut carol, &id, &["dave"]);
    expect!(Done, carol.call(leave_body(&id)));
    carol.refused(ErrorCode::NotFound, add_body(&id, &["carol"]));
    assert!(carol.recents()[0].left);
}

#[test]
fn members_do_not_manage_and_strangers_do_not_know() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut eve] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob"])).conversation_id;
    bob.refused(ErrorCode::Forbidden, add_body(&id, &["dave"]));
    bob.refused(ErrorCode::Forbidden, remove_body(&id, &["alice"]));
    let missing = "g.zzzzzzzzzzzzz";
    for id in [id.as_str(), missing] {
        let list = ListMembers { conversation_id: id.into(), ..Default::default() };
        let history = FetchHistory {
            conversation_id: id.into(),
            direction: Direction::Newest.into(),
            ..Default::default()
        };
        let refusals = [
            add_body(id, &["eve"]),
            remove_body(id, &["bob"]),
            leave_body(id),
            Body::ListMembers(list),
            Body::FetchHistory(history),
        ]
        .map(|body| eve.refused(ErrorCode::NotFound, body).detail);
        assert!(refusals.iter().all(|detail| detail == "no such conversation"), "{refusals:?}");
    }
    let direct = alice.send(peer("bob"), 2, "x").conversation_id;
    for body in [add_body(&direct, &["eve"]), remove_body(&direct, &["bob"]), leave_body(&direct)] {
        alice.refused(ErrorCode::Forbidden, body);
    }
    assert_eq!(members(&mut alice, &direct).len(), 2);
}

#[test]
fn groups_and_users_have_room_for_so_many() {
    let daemon =
        Daemon::with(&[("limits.members_per_group", "3"), ("limits.conversations_per_user", "2")]);
    let mut alice = daemon.login("alice", "phone");
    let large = create(1, &["b", "c", "d"]);
    alice.refused(ErrorCode::TooManyMembers, Body::CreateGroup(large));
    let id = created(&mut alice, create(1, &["b"])).conversation_id;
    let items = add(&mut alice, &id, &["c", "d"]);
    assert_eq!(outcomes(&items), [Outcome::Changed, Outcome::Limit]);
    assert_eq!(items.member_count, 3);
    created(&mut alice, create(2, &["b"]));
    alice.refused(ErrorCode::Forbidden, Body::CreateGroup(create(3, &["c"])));
    alice.refused(ErrorCode::Forbidden, text(peer("c"), 4, "x"));
    // The one who is full is not the one who asks.
    let mut eve = daemon.login("eve", "phone");
    let id = created(&mut eve, create(1, &[])).conversation_id;
    assert_eq!(outcomes(&add(&mut eve, &id, &["b", "c"])), [Outcome::Limit, Outcome::Changed]);
}
