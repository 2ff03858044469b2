//! Lost connections: coming back, sending again, giving up.

use std::time::Duration;

use roamd::{
    client::{Backoff, Client, ClientConfig, ClientError, Event, Link, Recipient},
    limits::Limits,
    wire::proto,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::daemon::{Server, catch_up, entries, within};

fn quick() -> Option<Backoff> {
    Some(Backoff { first: Duration::from_millis(5), most: Duration::from_millis(50) })
}

/// Nobody is away for so long that a snapshot is needed.
fn roomy() -> Limits {
    Limits { inbox_entries: 100_000, ..Limits::default() }
}

fn text(number: u32) -> proto::Send {
    proto::Send {
        to: Some(Recipient::user("bob").into()),
        content_type: "text/plain".into(),
        content: number.to_string().into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_restart_of_the_daemon_costs_nothing_and_repeats_nothing() {
    let mut server = Server::start(roomy());
    let config = ClientConfig { reconnect: quick(), ..server.config("bob", "phone") };
    let mut bob = Client::connect(config).await.unwrap();
    catch_up(&mut bob).await;
    let config = ClientConfig { reconnect: quick(), ..server.config("alice", "laptop") };
    let alice = Client::connect(config).await.unwrap();

    let sender = alice.requests();
    let sending = tokio::spawn(async move {
        let mut acks = Vec::new();
        for number in 0..3000 {
            acks.push(sender.begin_send(text(number)).await.unwrap());
        }
        let mut seqs = Vec::new();
        for ack in acks {
            seqs.push(ack.await.unwrap().history_seq);
        }
        seqs
    });
    let mut got = Vec::new();
    for _ in 0..3 {
        got.extend(entries(&mut bob, 300).await);
        server.stop().await;
        server.resume();
    }
    got.extend(entries(&mut bob, 2100).await);
    assert!(got.iter().map(|(seq, _)| *seq).eq(1..=3000));
    assert!(got.iter().map(|(_, text)| text.parse::<u32>().unwrap()).eq(0..3000));
    assert!(within(sending).await.unwrap().into_iter().eq(1..=3000));
    server.stop().await;
}

/// Passes bytes on until it is told to cut all connections.
async fn relay(to: String) -> (String, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (to, mut cuts) = (to.clone(), cuts.clone());
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test]
async fn connections_that_break_at_any_moment_lose_and_repeat_nothing() {
    let mut server = Server::start(roomy());
    let (address, cut) = relay(server.address()).await;
    let through = |user: &str, device: &str| ClientConfig {
        address: address.clone(),
        reconnect: quick(),
        ..server.config(user, device)
    };
    let mut bob = Client::connect(through("bob", "phone")).await.unwrap();
    catch_up(&mut bob).await;
    let alice = Client::connect(through("alice", "laptop")).await.unwrap();
    let sender = alice.requests();
    let sending = tokio::spawn(async move {
        let mut acks = Vec::new();
        for number in 0..2000 {
            acks.push(sender.begin_send(text(number)).await.unwrap());
        }
        for ack in acks {
            ack.await.unwrap();
        }
    });
    let (mut got, mut disconnects) = (Vec::new(), 0);
    while got.len() < 2000 {
        match within(bob.next_event()).await.unwrap() {
            Event::Entry { seq, entry } => {
                got.push((seq, entry));
                if got.len() % 150 == 0 {
                    cut.send_modify(|cuts| *cuts += 1);
                }
            }
            Event::Disconnected { error, .. } => {
                assert!(matches!(error, ClientError::Lost(_)), "{error}");
                disconnects += 1;
            }
            _ => {}
        }
    }
    within(sending).await.unwrap();
    assert!(got.iter().map(|(seq, _)| *seq).eq(1..=2000));
    let texts = got.iter().map(|(_, entry)| match &entry.kind {
        Some(proto::entry::Kind::Message(message)) => message.content.clone(),
        other => panic!("{other:?}"),
    });
    assert!(texts.eq((0..2000).map(|number: u32| bytes::Bytes::from(number.to_string()))));
    assert!(disconnects > 0, "{disconnects}");
    server.stop().await;
}

#[tokio::test]
async fn a_displaced_device_does_not_come_back() {
    let mut server = Server::start(Limits::default());
    let mut old = server.connect("bob", "phone").await;
    catch_up(&mut old).await;
    let mut new = server.connect("bob", "phone").await;
    catch_up(&mut new).await;
    let error = within(old.next_event()).await.unwrap_err();
    let ClientError::GoAway(bye) = &error else { panic!("{error}") };
    assert_eq!(bye.reason(), proto::GoAwayReason::Replaced);
    assert_eq!(old.status().link, Link::Ended);
    assert!(old.ping().await.is_err());
    assert!(old.next_event().await.is_err(), "the same again");
    new.ping().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_starts_first_waits_for_the_daemon() {
    let mut server = Server::start(Limits::default());
    let config = ClientConfig { reconnect: quick(), ..server.config("alice", "laptop") };
    server.stop().await;
    let mut alice = Client::start(config);
    assert!(matches!(within(alice.next_event()).await, Ok(Event::Disconnected { .. })));
    let requests = alice.requests();
    let ping = tokio::spawn(async move { requests.ping().await });
    server.resume();
    within(ping).await.unwrap().unwrap();
    alice.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_same_number_is_the_same_message() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let id = alice.next_client_message_id();
    let to = || Recipient::user("bob");
    let first = alice.send_with_id(id, to(), "text/plain", "once").await.unwrap();
    let again = alice.send_with_id(id, to(), "text/plain", "once").await.unwrap();
    assert_eq!((again.history_seq, again.duplicate), (first.history_seq, true));
    alice.close().await.unwrap();
    // A device whose counter is gone goes on above what the server knows.
    let alice = server.connect("alice", "laptop").await;
    assert!(alice.next_client_message_id() > id);
    server.stop().await;
}

#[tokio::test]
async fn closing_waits_for_replies_that_are_due() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let mut acks = Vec::new();
    for number in 0..200 {
        acks.push(alice.begin_send(text(number)).await.unwrap());
    }
    let requests = alice.requests();
    within(alice.close()).await.unwrap();
    for ack in acks {
        within(ack).await.unwrap();
    }
    assert!(matches!(requests.ping().await, Err(ClientError::Closed)));
    server.stop().await;
}
