//! System notices: whom they reach, once each, through the same inbox, and who may send them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use roamd::{
    auth::Scope,
    id::UserId,
    inspect::{self, log_page},
    message::EntryKind,
    refusal::ErrorCode,
    seq::InboxSeq,
    store::{Store, StoreConfig},
    wire::proto::{
        AddMembers, CreateGroup, Hello, LeaveGroup, Notice, SendNotice, client_frame::Body,
        entry::Kind, send_notice::To,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, peer, text},
};

fn notice(to: To, number: u64, content: &str) -> Body {
    Body::SendNotice(SendNotice {
        to: Some(to),
        client_request_id: number,
        content_type: "text/plain".into(),
        content: content.to_owned().into(),
    })
}

fn user(user: &str) -> To {
    To::UserId(user.into())
}

/// A Hello of somebody who may send notices.
fn admin_greeting(daemon: &Daemon) -> Hello {
    let (ttl, now) = (Duration::from_secs(3600), SystemTime::now());
    let token = daemon.mint("ops", None, &[Scope::Client, Scope::Admin], ttl, now);
    Hello { token, ..daemon.greeting("ops", "console") }
}

fn admin(daemon: &Daemon) -> Client {
    let mut client = daemon.open(admin_greeting(daemon));
    let too_long = client.too_long();
    client.adopt(&too_long);
    client.caught_up();
    client
}

#[track_caller]
fn tell(admin: &mut Client, to: To, number: u64, content: &str) -> u64 {
    expect!(Done, admin.call(notice(to, number, content))).inbox_seq
}

/// The notices among what a device has received.
fn notices(client: &Client) -> Vec<&Notice> {
    let kinds = client.inbox.iter().filter_map(|(_, entry)| entry.kind.as_ref());
    kinds
        .filter_map(|kind| match kind {
            Kind::Notice(notice) => Some(notice),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn group(client: &mut Client, number: u64, id: &str, users: Vec<String>) {
    let first = users.len().min(1000);
    let request = CreateGroup {
        client_request_id: number,
        conversation_id: id.into(),
        title: "t".into(),
        user_ids: users[..first].to_vec(),
        ..CreateGroup::default()
    };
    expect!(GroupCreated, client.call(Body::CreateGroup(request)));
    for more in users[first..].chunks(1000) {
        let add = AddMembers { conversation_id: id.into(), user_ids: more.to_vec() };
        expect!(MemberItems, client.call(Body::AddMembers(add)));
    }
}

#[test]
fn one_user_is_told_there_or_not() {
    let daemon = Daemon::start();
    let mut ops = admin(&daemon);
    let mut phone = daemon.login("bob", "phone");
    let mut tablet = daemon.login("bob", "tablet");
    let mut carol = daemon.login("carol", "phone");
    assert_eq!(tell(&mut ops, user("bob"), 1, "hello"), 0);
    for client in [&mut phone, &mut tablet] {
        client.synced(1);
        let told = notices(client);
        let notice = told[0];
        assert_eq!((notice.notice_id, &*notice.content_type), (1, "text/plain"));
        assert_eq!((&notice.content[..], &*notice.conversation_id), (&b"hello"[..], ""));
    }
    // It counts as nothing, and nobody else has it, the sender included.
    assert_eq!(phone.unread_total(), 0);
    carol.settle();
    ops.settle();
    assert_eq!((carol.seq, ops.seq), (0, 0));
    // To oneself: the own entry is named.
    assert_eq!(tell(&mut ops, user("ops"), 2, "note"), 1);
    ops.synced(1);

    // Somebody who has never been here finds it at the first login, by the message index: what was
    // before is not streamed, what comes later is.
    tell(&mut ops, user("dave"), 3, "before");
    let mut dave = daemon.login("dave", "phone");
    assert_eq!(dave.seq, 1);
    tell(&mut ops, user("dave"), 4, "after");
    dave.synced(2);
    assert_eq!(notices(&dave)[0].notice_id, 4);
    // Away and back: it waits in the inbox as everything does.
    let at = dave.bye();
    tell(&mut ops, user("dave"), 5, "away");
    let mut dave = daemon.resume("dave", "phone", at);
    dave.caught_up();
    assert_eq!(notices(&dave)[0].content, "away");
}

#[test]
fn who_may_send_notices_and_what_may_be_in_them() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut ops = admin(&daemon);
    for to in [user("bob"), To::ConversationId("nowhere".into()), To::Everyone(true)] {
        alice.refused(ErrorCode::ForbiddenScope, notice(to, 1, "x"));
    }
    ops.refused(ErrorCode::NotFound, notice(To::ConversationId("nowhere".into()), 1, "x"));
    ops.refused(ErrorCode::InvalidArgument, notice(To::Everyone(false), 1, "x"));
    ops.refused(ErrorCode::InvalidArgument, notice(user("bob"), 0, "x"));
    let large = "x".repeat(64 * 1024 + 1);
    ops.refused(ErrorCode::ContentTooLarge, notice(user("bob"), 1, &large));
    // A refusal uses no number up.
    tell(&mut ops, user("bob"), 1, &large[1..]);
    let mut bob = daemon.open(daemon.greeting("bob", "phone"));
    assert_eq!(bob.welcome.head_seq, 1);
    bob.settle();
    // Only the scope admin alone opens no session.
    let (ttl, now) = (Duration::from_secs(3600), SystemTime::now());
    let token = daemon.mint("ops", None, &[Scope::Admin], ttl, now);
    let mut bare = daemon.connect();
    bare.post(Body::Hello(Hello { token, ..daemon.greeting("ops", "bare") }));
    bare.end().fatally(ErrorCode::ForbiddenScope);
}

#[test]
fn a_token_from_the_command_line_may_send_notices() {
    let daemon = Daemon::start();
    let minted = daemon.run(&["token", "mint", "--user", "ops", "--scope", "client,admin"]);
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let mut ops = daemon.open(Hello { token, ..daemon.greeting("ops", "console") });
    tell(&mut ops, user("bob"), 1, "hello");
}

#[test]
fn a_retry_is_the_same_notice() {
    let mut daemon = Daemon::start();
    let mut ops = admin(&daemon);
    let mut bob = daemon.login("bob", "phone");
    assert_eq!(tell(&mut ops, user("ops"), 7, "hello"), 1);
    tell(&mut ops, user("bob"), 8, "hello");
    tell(&mut ops, user("bob"), 6, "out of order");
    let (at, bob_at) = (ops.position(), bob.position());
    daemon.crash();
    let mut ops = daemon.open(Hello { resume: Some(at), ..admin_greeting(&daemon) });
    assert_eq!(ops.welcome.last_client_message_id, 8);
    assert_eq!(tell(&mut ops, user("ops"), 7, "hello"), 1);
    tell(&mut ops, user("bob"), 8, "hello");
    tell(&mut ops, user("bob"), 6, "out of order");
    for (to, content) in
        [(user("bob"), "other"), (user("carol"), "hello"), (To::Everyone(true), "hello")]
    {
        ops.refused(ErrorCode::IdempotencyConflict, notice(to, 8, content));
    }
    // The number space is that of sends.
    ops.refused(ErrorCode::IdempotencyConflict, text(peer("bob"), 8, "hello"));
    ops.send(peer("bob"), 9, "hi");
    ops.refused(ErrorCode::IdempotencyConflict, notice(user("bob"), 9, "hi"));
    bob = daemon.resume("bob", "phone", bob_at);
    bob.synced(3);
    let told: Vec<_> = notices(&bob).iter().map(|notice| notice.content.clone()).collect();
    assert_eq!(told, ["hello", "out of order"]);
}

#[test]
fn members_are_told_and_those_who_have_left_are_not() {
    let daemon = Daemon::start();
    let mut ops = admin(&daemon);
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let mut carol = daemon.login("carol", "phone");
    group(&mut alice, 1, "team", vec!["bob".into(), "carol".into()]);
    expect!(Done, carol.call(Body::LeaveGroup(LeaveGroup { conversation_id: "team".into() })));
    tell(&mut ops, To::ConversationId("team".into()), 1, "to the team");
    for client in [&mut alice, &mut bob] {
        client.synced(3);
        assert_eq!(notices(client)[0].conversation_id, "team");
    }
    carol.settle();
    ops.settle();
    assert_eq!((notices(&carol).len(), ops.seq), (0, 0), "an administrator need not be a member");
    // A direct conversation has members as well.
    let id = alice.send(peer("bob"), 2, "hi").conversation_id;
    tell(&mut ops, To::ConversationId(id.clone()), 2, "to both");
    bob.synced(5);
    assert_eq!(notices(&bob)[1].conversation_id, id);
}

#[test]
fn everyone_is_who_has_ever_been_here() {
    let daemon = Daemon::start();
    let mut ops = admin(&daemon);
    let mut phone = daemon.login("bob", "phone");
    daemon.login("bob", "tablet");
    let mut carol = daemon.login("carol", "phone");
    phone.send(peer("unknown"), 1, "hi");
    assert_eq!(tell(&mut ops, To::Everyone(true), 1, "to all"), 1);
    ops.synced(1);
    carol.synced(1);
    phone.synced(2);
    for client in [&ops, &carol, &phone] {
        let told = notices(client);
        assert_eq!((told.len(), &*told[0].conversation_id), (1, ""));
    }
    let unknown = daemon.open(daemon.greeting("unknown", "phone"));
    assert_eq!(unknown.welcome.head_seq, 1, "only the message");
}

/// How often each notice stands in each inbox: by the data directory of a daemon that has stopped.
fn counted(daemon: &Daemon, users: &[String]) -> BTreeMap<u64, Vec<usize>> {
    let (store, writer) = Store::open(&StoreConfig::new(daemon.data())).unwrap();
    let report = inspect::verify(&store, &mut |_| {});
    assert!(report.is_sound(), "{:?}", report.findings);
    let mut all = BTreeMap::<u64, Vec<usize>>::new();
    for (index, user) in users.iter().enumerate() {
        let user = UserId::new(user).unwrap();
        let page = log_page(&store.reader(), &user, InboxSeq::ZERO, usize::MAX).unwrap();
        for (_, entry) in page.entries {
            if let EntryKind::Notice { notice } = entry.unwrap().kind {
                let counts = all.entry(notice.number()).or_insert_with(|| vec![0; users.len()]);
                counts[index] += 1;
            }
        }
    }
    store.close(writer).unwrap();
    all
}

const ON_THEIR_WAY: &str = "notices that were on their way go on";

/// Sends notices to so many that each takes several commits, and kills the daemon right after each
/// answer. However far they were, everybody has each of them once in the end.
fn each_has_it_once(to: To, users: &[String], mut daemon: Daemon) {
    let mut number = 0;
    // Until the daemon has died with a notice on its way, twice.
    while daemon.log().matches(ON_THEIR_WAY).count() < 2 {
        number += 1;
        assert!(number < 100, "it never died on the way");
        let mut ops = daemon.open(admin_greeting(&daemon));
        tell(&mut ops, to.clone(), number, &number.to_string());
        daemon.crash();
        // A retry makes nothing new, on its way or not.
        let mut ops = daemon.open(admin_greeting(&daemon));
        tell(&mut ops, to.clone(), number, &number.to_string());
    }
    // The last one has reached its last one when the round says so.
    let last = format!("notice={number}");
    crate::support::daemon::until("the end of the rounds", || {
        let log = daemon.log();
        let mut ends = log.lines().filter(|line| line.contains("a notice has reached everybody"));
        ends.any(|line| line.contains(&last)).then_some(())
    });
    daemon.terminate();
    assert!(daemon.ended().success());
    let counts = counted(&daemon, users);
    assert_eq!(counts.len() as u64, number, "{:?}", counts.keys());
    for (notice, counts) in counts {
        let wrong = counts.iter().filter(|count| **count != 1).count();
        assert_eq!(wrong, 0, "notice {notice} is not once in {wrong} inboxes");
    }
}

#[test]
fn a_notice_for_a_crowd_reaches_each_member_once_whatever_happens() {
    let daemon = Daemon::start();
    let users: Vec<String> = (0..3000).map(|n| format!("member{n}")).collect();
    let mut owner = daemon.login("owner", "laptop");
    group(&mut owner, 1, "crowd", users.clone());
    each_has_it_once(To::ConversationId("crowd".into()), &users, daemon);
}

#[test]
fn a_notice_for_everyone_reaches_each_user_once_whatever_happens() {
    let daemon = Daemon::start();
    let mut users: Vec<String> = (0..900).map(|n| format!("user{n}")).collect();
    for user in &users {
        // Some have more than one device, so that slices end between devices of one user.
        for device in ["phone", "tablet"].iter().take(1 + user.len() % 2) {
            daemon.open(daemon.greeting(user, device));
        }
    }
    daemon.open(admin_greeting(&daemon));
    users.push("ops".into());
    each_has_it_once(To::Everyone(true), &users, daemon);
}
