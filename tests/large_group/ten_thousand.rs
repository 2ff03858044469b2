//! A group of 10,000 members, 200 of them online, 10 of these writing 100 messages a second in all.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use roamd::wire::proto::{
    GetUnread, Ping, SyncPull, client_frame::Body, entry::Kind, server_frame::Body as ReplyBody,
};

use crate::{
    expect, group,
    support::{Client, Daemon, conversation, follow::Copy, peer},
    verify,
};

const MEMBERS: usize = 10_000;
const ONLINE: usize = 200;
const WRITERS: usize = 10;
/// Of each writer.
const MESSAGES: u64 = 60;
const ALL: u64 = WRITERS as u64 * MESSAGES;
/// Of each writer.
const PACE: Duration = Duration::from_millis(100);
/// How long a total may take that was moved by a message.
const TOTAL_TIME_MAX: Duration = Duration::from_millis(500);
/// Written one moment before the daemon is killed.
const UNTIL_KILLED: u64 = 50;

fn user(number: usize) -> String {
    format!("u{number:05}")
}

/// When the last message was acked, and when each device had the total that it makes.
#[derive(Default)]
struct Times {
    acked: Mutex<Option<Instant>>,
    told: Mutex<Vec<Instant>>,
}

/// Follows the group until everything is there, and the total that follows from it.
fn read(mut client: Client, id: &str, times: &Times) -> Copy {
    let mut copy = Copy::new(id, 0);
    copy.large = true;
    while copy.history_seq < ALL {
        let next = copy.history_seq + 1;
        client.wait("messages", |client| {
            copy.follow(client);
            (copy.history_seq >= next).then_some(())
        });
    }
    client.wait("the total", |client| {
        let last = client.totals.last()?;
        (last.unread_total == ALL + 1).then_some(())
    });
    times.told.lock().unwrap().push(Instant::now());
    let totals: Vec<u64> = client.totals.iter().map(|total| total.unread_total).collect();
    assert!(totals.is_sorted() && totals.iter().all(|total| (1..=ALL + 1).contains(total)));
    assert_eq!(client.unread_total(), ALL + 1);
    copy
}

/// Writes its share, and follows as well.
fn write(mut client: Client, id: &str, index: u64, times: &Times) -> Copy {
    let mut copy = Copy::new(id, 0);
    copy.large = true;
    let start = Instant::now() + PACE / WRITERS as u32 * index as u32;
    for number in 1..=MESSAGES {
        let due = start + PACE * number as u32;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        let content = format!("{} {number}", client.welcome.user_id);
        let ack = client.send(conversation(id), number, &content);
        assert_eq!(ack.inbox_seq, 0);
        if ack.history_seq == ALL {
            *times.acked.lock().unwrap() = Some(Instant::now());
        }
    }
    client.wait("messages", |client| {
        copy.follow(client);
        (copy.history_seq >= ALL).then_some(())
    });
    copy
}

/// The longest that the daemon took to answer while the others were at work: how busy the machine is.
fn probe(mut client: Client, stop: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 1 })));
        expect!(Unread, client.call(Body::GetUnread(GetUnread::default())));
        longest = longest.max(start.elapsed());
        thread::park_timeout(Duration::from_millis(20));
    }
    longest
}

fn operations(daemon: &Daemon) -> u64 {
    let log = daemon.log();
    let line = log.lines().rfind(|line| line.contains("the engine has ended")).expect("the count");
    let (_, count) = line.split_once("operations=").expect("a count");
    count.trim().parse().expect("a number")
}

/// Everybody's unread is exact, and the group has left nothing in anybody's inbox.
#[track_caller]
fn check_members(daemon: &Daemon, id: &str, members: &[usize], messages: u64) {
    for number in members {
        let mut client = daemon.open(daemon.greeting(&user(*number), "checker"));
        let unread = expect!(Unread, client.call(Body::GetUnread(GetUnread::default())));
        assert_eq!(unread.unread_total, messages + 1, "member {number}");
        let sum: u64 = unread.conversations.iter().map(|one| one.unread).sum();
        assert_eq!(sum, unread.unread_total);
        let group = unread.conversations.iter().find(|one| one.conversation_id == id).unwrap();
        assert_eq!((group.unread, group.visible_last_seq), (messages, messages));
        let pull = SyncPull { after_seq: 0, limit: 1000 };
        let ReplyBody::Pulled(batch) = client.call(Body::SyncPull(pull)) else { panic!() };
        let kinds: Vec<_> = batch
            .entries
            .iter()
            .map(|entry| match &entry.kind {
                Some(Kind::Message(message)) => {
                    assert_ne!(message.conversation_id, id);
                    "message"
                }
                Some(Kind::Membership(_)) => "membership",
                Some(Kind::Mode(_)) => "mode",
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, ["message", "membership", "mode"], "member {number}");
    }
}

#[test]
fn ten_thousand_members() {
    let _alone = crate::alone();
    let start = Instant::now();
    let mut daemon = Daemon::start();
    let mut owner = daemon.login(&user(0), "phone");
    let users: Vec<String> = (1..MEMBERS).map(user).collect();
    // Everybody who is looked at has something of its own in its inbox already.
    let offline: Vec<usize> = (ONLINE + 1..MEMBERS).step_by(331).collect();
    let readers: Vec<usize> = (WRITERS + 1..=ONLINE).collect();
    for (index, number) in readers.iter().chain(&offline).enumerate() {
        owner.send(peer(&user(*number)), 100 + index as u64, "just for you");
    }
    let id = group(&mut owner, 1, &users);
    println!("{:?}: a group of {MEMBERS}", start.elapsed());
    drop(owner);
    daemon.restart();

    let writers: Vec<Client> = (1..=WRITERS).map(|at| daemon.login(&user(at), "phone")).collect();
    let readers: Vec<Client> = readers.iter().map(|at| daemon.login(&user(*at), "phone")).collect();
    let prober = daemon.login("somebody", "phone");
    println!("{:?}: {ONLINE} are online", start.elapsed());
    let (times, stop) = (Times::default(), AtomicBool::new(false));
    let (copies, longest) = thread::scope(|scope| {
        let (id, times, stop) = (&id[..], &times, &stop);
        let probing = scope.spawn(move || probe(prober, stop));
        let reading: Vec<_> = readers
            .into_iter()
            .map(|client| scope.spawn(move || read(client, id, times)))
            .collect();
        let writing: Vec<_> = (0..)
            .zip(writers)
            .map(|(index, client)| scope.spawn(move || write(client, id, index, times)))
            .collect();
        let devices = reading.into_iter().chain(writing);
        let ended: Vec<_> = devices.map(|device| device.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let copies: Vec<Copy> = ended.into_iter().map(Result::unwrap).collect();
        (copies, probing.join().unwrap())
    });
    assert_eq!(copies.len(), ONLINE);
    for copy in &copies {
        assert_eq!(copy.messages, copies[0].messages);
        // Each was pushed, once and in order.
        assert_eq!(
            (copy.by_push as u64, copy.by_inbox, copy.fetched, copy.dropped),
            (ALL, 0, 0, 0)
        );
    }
    let acked = times.acked.lock().unwrap().expect("the last ack");
    let told = times.told.lock().unwrap();
    let slowest = told.iter().map(|told| told.saturating_duration_since(acked)).max().unwrap();
    println!(
        "{:?}: {ALL} messages; totals right after {slowest:?}, an answer took up to {longest:?}",
        start.elapsed()
    );
    assert!(slowest < TOTAL_TIME_MAX + longest, "totals came after {slowest:?}");

    // The message, the memory of the retry, the sender's marker. Sessions write a row each at their
    // beginning and their end.
    daemon.restart();
    let count = operations(&daemon);
    println!("{:?}: {count} operations of the store", start.elapsed());
    assert!((3 * ALL..=3 * ALL + 4 * ONLINE as u64 + 20).contains(&count), "{count} operations");

    check_members(&daemon, &id, &offline, ALL);
    let mut writer = daemon.login(&user(1), "phone");
    let numbers = 1000..1000 + UNTIL_KILLED;
    writer.send_many(&conversation(&id), numbers.start..=numbers.end - 1);
    daemon.crash();
    check_members(&daemon, &id, &offline, ALL + UNTIL_KILLED);
    println!("{:?}: unread is exact after kill -9", start.elapsed());
    verify(&mut daemon);
    println!("{:?}: verified", start.elapsed());
}
