//! Large conversations: who is named is told at once, the others once in a while.

use std::time::{Duration, Instant};

use roamd::wire::proto::{CreateGroup, client_frame::Body};

use crate::{
    World, expect, mark, recall, special,
    support::{Client, conversation},
};

/// A group of the caller and these users; returns its id.
#[track_caller]
pub(crate) fn group(client: &mut Client, number: u64, users: &[&str]) -> String {
    let request = CreateGroup {
        client_request_id: number,
        title: "t".into(),
        user_ids: users.iter().map(|user| (*user).to_owned()).collect(),
        ..CreateGroup::default()
    };
    expect!(GroupCreated, client.call(Body::CreateGroup(request))).conversation_id
}

/// Alice, bob, carol and dave in a large group; alice is there, the phones of the others are not.
fn story(interval: &str) -> (World, Client, String) {
    let world = World::with(&[("limits.fanout_members", "2"), ("push.large_interval", interval)]);
    for user in ["bob", "carol", "dave"] {
        world.away(user, "phone");
    }
    let mut alice = world.daemon.login("alice", "phone");
    let id = group(&mut alice, 1, &["bob", "carol", "dave"]);
    (world, alice, id)
}

#[test]
fn those_who_are_named_are_told_at_once_and_the_others_once_per_interval() {
    let interval = Duration::from_secs(3);
    let (world, mut alice, id) = story("3s");
    let mut laptop = world.registered("bob", "laptop");
    let start = Instant::now();
    alice.send(conversation(&id), 2, "1");
    for user in ["bob", "carol", "dave"] {
        let job = world.hook.taken((user, "phone", "MESSAGE", 1));
        assert_eq!((job.number("badge"), job.body["mention"].as_bool()), (1, Some(false)));
    }
    for number in 3..=6 {
        alice.send(conversation(&id), number, "more");
    }
    let body = special(conversation(&id), 7, |send| send.mentions = vec!["carol".into()]);
    expect!(SendAck, alice.call(body));
    let job = world.hook.taken(("carol", "phone", "MESSAGE", 6));
    assert_eq!((job.number("badge"), job.body["mention"].as_bool()), (6, Some(true)));
    alice.send(conversation(&id), 8, "last");
    let quick = start.elapsed() < interval;
    for user in ["bob", "carol", "dave"] {
        let job = world.hook.taken((user, "phone", "MESSAGE", 7));
        assert_eq!(job.number("badge"), 7);
    }
    let all = world.hook.all();
    assert!(all.iter().all(|job| job.text("device") == "phone"), "a live one was told: {all:?}");
    let of = |user| all.iter().filter(|job| job.text("user") == user).count();
    assert!(!quick || (of("bob"), of("carol"), of("dave")) == (2, 3, 2), "{all:?}");
    assert!(all.iter().all(|job| job.text("user") != "alice"));
    assert_eq!(laptop.unread_total(), 7);
}

#[test]
fn what_is_read_or_recalled_is_taken_back() {
    let (mut world, mut alice, id) = story("1s");
    let mut laptop = world.daemon.login("dave", "laptop");
    alice.send(conversation(&id), 2, "1");
    for user in ["bob", "carol", "dave"] {
        world.hook.taken((user, "phone", "MESSAGE", 1));
    }
    mark(&mut laptop, &id, 1);
    world.hook.taken(("dave", "phone", "READ", 1));
    recall(&mut alice, &id, 1);
    for user in ["bob", "carol"] {
        let job = world.hook.taken((user, "phone", "RECALLED", 1));
        assert_eq!(job.number("badge"), 0);
    }
    world.until_now();
    world.hook.forget();
    // A message that is recalled before its round gives way to the one before.
    for number in 3..=5 {
        alice.send(conversation(&id), number, "more");
    }
    recall(&mut alice, &id, 4);
    world.hook.wait("the round", |jobs| {
        let of = |user| jobs.iter().rev().find(|job| job.text("user") == user);
        let told = |user| of(user).is_some_and(|job| job.number("history_seq") == 3);
        // On a slow machine 4 was told, and is taken back.
        let late = |user| of(user).is_some_and(|job| job.text("kind") == "RECALLED");
        let done = |user| told(user) || late(user);
        (done("bob") && done("carol") && done("dave")).then_some(())
    });
}

/// A round goes on after kill -9; each device is told once.
#[test]
fn a_round_survives_a_kill() {
    let mut world = World::with(&[("limits.fanout_members", "2")]);
    let names: Vec<String> = (0..700).map(|number| format!("u{number:03}")).collect();
    let registered: Vec<&str> = names.iter().step_by(70).map(String::as_str).collect();
    for user in &registered {
        world.away(user, "phone");
    }
    let mut alice = world.daemon.login("alice", "phone");
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = group(&mut alice, 1, &users);
    world.hook.close();
    alice.send(conversation(&id), 2, "1");
    world.daemon.crash();
    world.forget_sessions();
    world.hook.open();
    for user in &registered {
        world.hook.taken((user, "phone", "MESSAGE", 1));
    }
    let taken: Vec<_> = world.until_now().into_iter().filter(|job| job.status < 300).collect();
    assert_eq!(taken.len(), registered.len(), "{taken:?}");
}
