//! A group goes from 499 members to 501 and back, again and again, while its members write and
//! devices come and go. Every device has every message once and in order; those that stayed had to
//! fetch nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::wire::proto::{
    AddMembers, ClientLimits, Direction, Hello, RemoveMembers, client_frame::Body,
};

use crate::{
    expect, group,
    support::{Client, Daemon, conversation, follow::Copy, text},
    verify,
};

const MEMBERS: usize = 499;
const ROUNDS: u64 = 8;
/// Each round has so many messages of each writer, before and after the change.
const MESSAGES: u64 = 6;
const WRITERS: usize = 3;
const STAYING: usize = 6;
const MOVING: usize = 6;
const LAST: &str = "the last message";

/// Takes what comes until there is enough, acking as it goes.
fn follow(client: &mut Client, copy: &mut Copy, until: impl Fn(&Copy) -> bool) {
    let mut acked = client.seq;
    client.wait("messages", |client| {
        copy.follow(client);
        if client.seq > acked {
            acked = client.seq;
            client.ack(acked);
        }
        until(copy).then_some(())
    });
}

fn is_over(copy: &Copy) -> bool {
    copy.messages.last().is_some_and(|(_, content)| content == LAST)
}

/// A device that is there all the time.
fn stay(mut client: Client, mut copy: Copy) -> Copy {
    while !is_over(&copy) {
        let next = copy.history_seq + 1;
        follow(&mut client, &mut copy, |copy| copy.history_seq >= next);
    }
    assert_eq!((copy.dropped, copy.fetched), (0, 0), "{} {}", copy.by_inbox, copy.by_push);
    copy
}

/// A device that connects, takes a few messages and is gone, sometimes without a word. Some take so
/// few entries without an ack that they fall behind while they are live.
fn come_and_go(daemon: &Daemon, user: &str, mut copy: Copy, client: Client, seed: u64) -> Copy {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = Some(client);
    let mut at = client.as_ref().map(Client::position).unwrap_or_default();
    while !is_over(&copy) {
        let mut session = client.take().unwrap_or_else(|| {
            let hello = daemon.greeting(user, "phone");
            let conversation_cursors = vec![copy.cursor()];
            let max_unacked_entries = [0, 1, 3][(seed % 3) as usize];
            let limits = Some(ClientLimits { max_unacked_entries, ..Default::default() });
            daemon.open(Hello { resume: Some(at), conversation_cursors, limits, ..hello })
        });
        let next = copy.history_seq + random.random_range(1..12);
        follow(&mut session, &mut copy, |copy| copy.history_seq >= next || is_over(copy));
        at = session.position();
        match random.random_range(0..3) {
            0 => drop(session),
            1 => {
                // What still comes is not heard: the device ends where it stood.
                session.post(Body::Bye(Default::default()));
                session.end();
            }
            _ => client = Some(session),
        }
    }
    copy
}

/// Writes one message after the other until it is told to stop; says how many.
fn write(mut client: Client, id: &str, stop: &AtomicBool, pace: Duration) -> u64 {
    let mut number = 100;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let content = format!("{} {number}", client.welcome.user_id);
        client.send(conversation(id), number, &content);
        client.ack(client.seq);
        due += pace;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
    }
    number - 100
}

#[test]
fn from_499_members_to_501_and_back_under_traffic() {
    let _alone = crate::alone();
    let mut daemon = Daemon::start();
    let users: Vec<String> = (1..MEMBERS).map(|number| format!("u{number:03}")).collect();
    let mut owner = daemon.login("u000", "phone");
    let mut devices: Vec<(String, Client)> = users[..WRITERS + STAYING + MOVING]
        .iter()
        .map(|user| (user.clone(), daemon.login(user, "phone")))
        .collect();
    let id = group(&mut owner, 1, &users);
    let moving = devices.split_off(WRITERS + STAYING);
    let staying = devices.split_off(WRITERS);
    let stop = Arc::new(AtomicBool::new(false));

    let (copies, written) = thread::scope(|scope| {
        let new = || Copy::new(&id, 0);
        let mut following = Vec::new();
        for (_, client) in staying {
            let copy = new();
            following.push(scope.spawn(move || stay(client, copy)));
        }
        for (seed, (user, client)) in (0..).zip(moving) {
            let (daemon, copy) = (&daemon, new());
            following.push(scope.spawn(move || come_and_go(daemon, &user, copy, client, seed)));
        }
        let mut writing = Vec::new();
        for (_, client) in devices {
            let (id, stop) = (&id, &stop);
            let pace = Duration::from_millis(25);
            writing.push(scope.spawn(move || write(client, id, stop, pace)));
        }
        let two = vec!["x1".to_owned(), "x2".to_owned()];
        let mut mine = new();
        let mut number = 1;
        for _ in 0..ROUNDS {
            for large in [true, false] {
                let next = mine.history_seq + MESSAGES * WRITERS as u64;
                follow(&mut owner, &mut mine, |copy| copy.history_seq >= next);
                let (conversation_id, user_ids) = (id.clone(), two.clone());
                let change = match large {
                    true => Body::AddMembers(AddMembers { conversation_id, user_ids }),
                    false => Body::RemoveMembers(RemoveMembers { conversation_id, user_ids }),
                };
                // Close to the change on both sides: all of it in one commit of the daemon, perhaps.
                let mut post = |owner: &mut Client, change: Option<Body>| {
                    number += 1;
                    let content = format!("owner {number}");
                    owner.post(change.unwrap_or_else(|| text(conversation(&id), number, &content)))
                };
                let [_, _, changed, ..] =
                    [None, None, Some(change), None, None].map(|change| post(&mut owner, change));
                let items = expect!(MemberItems, owner.reply(changed));
                assert_eq!(items.member_count as usize, if large { 501 } else { MEMBERS });
            }
        }
        stop.store(true, Ordering::Relaxed);
        let written: u64 = writing.into_iter().map(|writer| writer.join().unwrap()).sum();
        owner.send(conversation(&id), number + 1, LAST);
        let copies: Vec<Copy> =
            following.into_iter().map(|device| device.join().unwrap()).collect();
        (copies, written + 2 * ROUNDS * 4 + 1)
    });
    // What the history says is what every device has.
    let mut expected = Vec::new();
    while (expected.len() as u64) < written {
        let page = owner.history(&id, Direction::Newer, expected.len() as u64, 200);
        expected.extend(page.messages.into_iter().map(|message| {
            (message.history_seq, String::from_utf8_lossy(&message.content).into_owned())
        }));
    }
    assert_eq!(expected.len() as u64, written);
    let (mut by_inbox, mut by_push, mut fetched) = (0, 0, 0);
    for copy in &copies {
        assert_eq!(copy.messages, expected);
        by_inbox += copy.by_inbox;
        by_push += copy.by_push;
        fetched += copy.fetched;
    }
    println!(
        "{written} messages, {} devices: {by_inbox} came by the inbox, {by_push} by push, {fetched} were fetched",
        copies.len()
    );
    assert!(by_inbox > 0 && by_push > 0);
    verify(&mut daemon);
}
