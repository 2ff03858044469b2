//! Being away: catch-up, resume, redelivery, snapshot, back-pressure.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use roamd::{
    client::{Client, ClientConfig, Event, Position, Recipient, Trace, Tracer},
    limits::Limits,
    wire::proto,
};

use crate::daemon::{Server, catch_up, entries, within};

async fn send(from: &Client, to: &str, texts: std::ops::Range<u32>) {
    let mut acks = Vec::new();
    for number in texts {
        let send = proto::Send {
            to: Some(Recipient::user(to).into()),
            content_type: "text/plain".into(),
            content: number.to_string().into(),
            ..Default::default()
        };
        acks.push(from.begin_send(send).await.unwrap());
    }
    for ack in acks {
        within(ack).await.unwrap();
    }
}

fn position(client: &Client) -> Position {
    client.status().position.unwrap()
}

#[tokio::test]
async fn what_was_missed_comes_once_and_in_order() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut bob).await;
    send(&alice, "bob", 0..10).await;
    assert_eq!(entries(&mut bob, 10).await.len(), 10);
    bob.close().await.unwrap();

    send(&alice, "bob", 10..900).await;
    let epoch = alice.status().position;
    assert_eq!(epoch, None, "who takes no events has no copy");

    // Closing said that the tenth is dealt with, and the server remembers it.
    let probe = Client::connect(server.config("bob", "phone")).await.unwrap();
    let welcome = connected(probe).await;
    assert_eq!((welcome.device_cursor, welcome.head_seq), (10, 900));

    let resume = Position { epoch: welcome.epoch, seq: 10 };
    let mut bob = Client::connect(server.config("bob", "phone").resume(resume)).await.unwrap();
    let (missed, snapshot) = catch_up(&mut bob).await;
    assert!(snapshot.is_none());
    assert!(missed.iter().map(|(seq, _)| *seq).eq(11..=900));
    assert!(missed.iter().map(|(_, text)| text.parse::<u64>().unwrap() + 1).eq(11..=900));
    bob.close().await.unwrap();
    server.stop().await;
}

async fn connected(mut client: Client) -> proto::Welcome {
    loop {
        if let Event::Connected(welcome) = within(client.next_event()).await.unwrap() {
            return *welcome;
        }
    }
}

#[tokio::test]
async fn an_event_that_was_not_dealt_with_comes_again() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut bob).await;
    send(&alice, "bob", 0..5).await;
    assert_eq!(entries(&mut bob, 3).await.len(), 3);
    // Killed while the third is being stored: two are.
    let stored = position(&bob);
    assert_eq!(stored.seq, 2);
    drop(bob);

    let mut bob = Client::connect(server.config("bob", "phone").resume(stored)).await.unwrap();
    let (again, _) = catch_up(&mut bob).await;
    assert!(again.iter().map(|(seq, _)| *seq).eq(3..=5));
    server.stop().await;
}

#[tokio::test]
async fn a_position_past_retention_leads_over_a_snapshot() {
    let limits = Limits { inbox_entries: 20, ..Limits::default() };
    let mut server = Server::start(limits);
    let alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut bob).await;
    send(&alice, "bob", 0..5).await;
    entries(&mut bob, 5).await;
    bob.ping().await.unwrap();
    let old = position(&bob);
    drop(bob);

    for peer in 0..300 {
        let group = proto::CreateGroup {
            title: format!("group {peer}"),
            user_ids: vec!["bob".into()],
            ..Default::default()
        };
        alice.create_group(group).await.unwrap();
    }
    send(&alice, "bob", 5..10).await;
    let mut bob = Client::connect(server.config("bob", "phone").resume(old)).await.unwrap();
    let (missed, snapshot) = catch_up(&mut bob).await;
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.reason, proto::TooLongReason::Trimmed);
    assert_eq!(snapshot.conversations.len(), 301, "more than one page");
    assert_eq!(snapshot.unread_total, 10);
    assert_eq!(snapshot.position.seq, 310);
    assert_eq!((missed, position(&bob)), (Vec::new(), snapshot.position));
    send(&alice, "bob", 10..11).await;
    assert_eq!(entries(&mut bob, 1).await, [(311, "10".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn a_position_of_another_data_set_or_ahead_of_the_server_is_never_up_to_date() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    send(&alice, "bob", 0..3).await;
    let welcome = connected(server.connect("bob", "phone").await).await;
    let foreign = Position { epoch: welcome.epoch ^ 1, seq: 3 };
    let ahead = Position { epoch: welcome.epoch, seq: 4 };
    for (wrong, reason) in
        [(foreign, proto::TooLongReason::Epoch), (ahead, proto::TooLongReason::Ahead)]
    {
        let mut bob = Client::connect(server.config("bob", "phone").resume(wrong)).await.unwrap();
        let (_, snapshot) = catch_up(&mut bob).await;
        let snapshot = snapshot.unwrap();
        assert_eq!((snapshot.reason, snapshot.position.seq), (reason, 3));
        assert_eq!(position(&bob), Position { epoch: welcome.epoch, seq: 3 });
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_acked_or_queued_without_end_while_nobody_takes_events() {
    let limits = Limits { inbox_entries: 10_000, ..Limits::default() };
    let mut server = Server::start(limits);
    let alice = server.connect("alice", "laptop").await;
    let acked = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&acked);
    let tracer = Tracer::new(move |trace| {
        if let Trace::Ack { seq, .. } = trace {
            seen.store(*seq, Ordering::Relaxed);
        }
    });
    let config = ClientConfig {
        limits: proto::ClientLimits { max_unacked_entries: 100, ..Default::default() },
        tracer: Some(tracer),
        ..server.config("bob", "phone")
    };
    let mut bob = Client::connect(config).await.unwrap();
    catch_up(&mut bob).await;
    send(&alice, "bob", 0..1000).await;
    // Replies are not held up by events that wait.
    bob.ping().await.unwrap();
    let status = bob.status();
    assert_eq!((status.received, status.acked), (100, 0));
    assert!(status.events_waiting <= 200, "{}", status.events_waiting);
    assert_eq!(acked.load(Ordering::Relaxed), 0);

    let got = entries(&mut bob, 1000).await;
    assert!(got.iter().map(|(seq, _)| *seq).eq(1..=1000));
    bob.close().await.unwrap();
    assert_eq!(acked.load(Ordering::Relaxed), 1000);
    server.stop().await;
}

#[tokio::test]
async fn many_events_can_be_taken_at_once() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut bob).await;
    send(&alice, "bob", 0..500).await;
    let (mut events, mut given) = (Vec::new(), 0);
    while given < 500 {
        within(bob.next_events(&mut events, 70)).await.unwrap();
        assert_eq!(position(&bob).seq, given, "what was given before is dealt with");
        given = events.iter().filter(|event| matches!(event, Event::Entry { .. })).count() as u64;
    }
    let seqs = events.iter().filter_map(|event| match event {
        Event::Entry { seq, .. } => Some(*seq),
        _ => None,
    });
    assert!(seqs.eq(1..=500));
    server.stop().await;
}

#[tokio::test]
async fn who_only_asks_gets_no_inbox() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    send(&alice, "bob", 0..3).await;
    let config =
        ClientConfig { inbox: roamd::client::Inbox::Ignore, ..server.config("bob", "asks") };
    let bob = Client::connect(config).await.unwrap();
    assert_eq!(bob.unread(Vec::new(), false).await.unwrap().unread_total, 3);
    assert_eq!(bob.status().received, 0);
    bob.close().await.unwrap();
    server.stop().await;
}
