//! Roles, the title and the end of a group: who may change them, and what everybody is told.

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        Direction, DisbandGroup, GetUnread, MarkRead, MemberOutcome as Outcome,
        MembershipAction as Action, Role, SetRole, SetTitle, client_frame::Body,
    },
};

use crate::{
    expect,
    groups::{
        add_body, create, created, leave_body, members, names, outcomes, remove, remove_body,
        roles, team, told,
    },
    support::{Client, Daemon, conversation, peer, text},
};

fn role_body(id: &str, user: &str, role: Role) -> Body {
    let role = role.into();
    Body::SetRole(SetRole { conversation_id: id.into(), user_id: user.into(), role })
}

fn title_body(id: &str, title: &str) -> Body {
    Body::SetTitle(SetTitle { conversation_id: id.into(), title: title.into() })
}

fn disband_body(id: &str) -> Body {
    Body::DisbandGroup(DisbandGroup { conversation_id: id.into() })
}

#[track_caller]
fn done(client: &mut Client, body: Body) -> u64 {
    expect!(Done, client.call(body)).inbox_seq
}

#[test]
fn an_owner_gives_roles_and_takes_them() {
    let mut daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob", "carol"])).conversation_id;
    assert_eq!(done(&mut alice, role_body(&id, "bob", Role::Admin)), 2);
    for client in [&mut alice, &mut bob, &mut carol] {
        let change = told(client);
        assert_eq!((change.action(), change.role()), (Action::Role, Role::Admin));
        assert_eq!((change.by.as_str(), change.users), ("alice", names(&["bob"])));
        assert_eq!((change.user_count, change.member_count), (1, 3));
    }
    assert_eq!(done(&mut alice, role_body(&id, "bob", Role::Admin)), 0, "a repeat does nothing");
    // An admin removes members, and gives no roles.
    bob.refused(ErrorCode::Forbidden, role_body(&id, "carol", Role::Admin));
    carol.refused(ErrorCode::Forbidden, role_body(&id, "carol", Role::Owner));
    alice.refused(ErrorCode::NotFound, role_body(&id, "dave", Role::Admin));
    alice.refused(ErrorCode::Forbidden, role_body(&id, "alice", Role::Member));
    assert_eq!(outcomes(&remove(&mut bob, &id, &["carol"])), [Outcome::Changed]);
    carol.refused(ErrorCode::NotFound, role_body(&id, "bob", Role::Member));
    let version = bob.recents()[0].version;
    daemon.crash();
    let mut bob = daemon.login("bob", "tablet");
    assert_eq!(bob.recents()[0].version, version);
    assert_eq!(bob.recents()[0].role(), Role::Admin);
    let mut alice = daemon.login("alice", "tablet");
    assert!(done(&mut alice, role_body(&id, "bob", Role::Member)) > 0);
    bob.refused(ErrorCode::Forbidden, remove_body(&id, &["alice"]));
}

#[test]
fn whoever_hands_a_group_over_stays_as_an_admin() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob", "carol"])).conversation_id;
    done(&mut alice, role_body(&id, "bob", Role::Owner));
    let change = told(&mut carol);
    assert_eq!((change.role(), change.users), (Role::Owner, names(&["bob"])));
    let now = members(&mut carol, &id);
    let expected = [("alice", Role::Admin), ("bob", Role::Owner), ("carol", Role::Member)];
    assert_eq!(roles(&now), expected);
    assert_eq!((alice.recents()[0].role(), bob.recents()[0].role()), (Role::Admin, Role::Owner));
    alice.refused(ErrorCode::Forbidden, role_body(&id, "carol", Role::Admin));
    assert!(done(&mut bob, role_body(&id, "alice", Role::Member)) > 0);
}

#[test]
fn a_title_is_told() {
    let daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob"])).conversation_id;
    assert_eq!(done(&mut alice, title_body(&id, "dinner")), 2);
    for client in [&mut alice, &mut bob] {
        let change = told(client);
        assert_eq!((change.action(), change.title.as_str()), (Action::Title, "dinner"));
        assert_eq!((change.user_count, client.recents()[0].title.as_str()), (0, "dinner"));
    }
    assert_eq!(done(&mut alice, title_body(&id, "dinner")), 0);
    bob.refused(ErrorCode::Forbidden, title_body(&id, "x"));
    carol.refused(ErrorCode::NotFound, title_body(&id, "x"));
    let direct = alice.send(peer("bob"), 2, "x").conversation_id;
    alice.refused(ErrorCode::Forbidden, title_body(&direct, "x"));
    alice.refused(ErrorCode::Forbidden, disband_body(&direct));
}

#[test]
fn a_closed_group_can_be_read_and_left() {
    let mut daemon = Daemon::start();
    let [mut alice, mut bob, mut carol] = team(&daemon);
    let id = created(&mut alice, create(1, &["bob"])).conversation_id;
    alice.send(conversation(&id), 2, "last words");
    bob.refused(ErrorCode::Forbidden, disband_body(&id));
    carol.refused(ErrorCode::NotFound, disband_body(&id));
    assert_eq!(done(&mut alice, disband_body(&id)), 3);
    assert_eq!(told(&mut bob).action(), Action::Disbanded);
    assert_eq!(done(&mut alice, disband_body(&id)), 0, "a repeat does nothing");
    daemon.crash();

    let mut alice = daemon.login("alice", "tablet");
    let mut bob = daemon.login("bob", "tablet");
    let known = &bob.recents()[0];
    assert!(known.disbanded && !known.left);
    assert_eq!((known.unread, known.member_count), (1, 2));
    for body in [
        text(conversation(&id), 3, "?"),
        add_body(&id, &["carol"]),
        remove_body(&id, &["bob"]),
        role_body(&id, "bob", Role::Admin),
        title_body(&id, "x"),
    ] {
        alice.refused(ErrorCode::Gone, body);
    }
    let mut carol = daemon.login("carol", "tablet");
    carol.refused(ErrorCode::NotFound, text(conversation(&id), 3, "?"));
    let page = bob.history(&id, Direction::Newest, 0, 10);
    assert_eq!(page.messages.len(), 1);
    let mark = MarkRead { conversation_id: id.clone(), read_seq: 1, peer_visible: false };
    expect!(MarkReadReply, bob.call(Body::MarkRead(mark)));
    assert_eq!(expect!(Unread, bob.call(Body::GetUnread(GetUnread::default()))).unread_total, 0);
    assert!(done(&mut alice, leave_body(&id)) > 0);
    let now = members(&mut bob, &id);
    assert_eq!(roles(&now), [("bob", Role::Owner)]);
    assert_eq!(done(&mut bob, disband_body(&id)), 0);
    assert!(done(&mut bob, leave_body(&id)) > 0);
}
