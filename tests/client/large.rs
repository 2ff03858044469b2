//! Large groups: every message once and in order, whatever happens to the connection, the members and
//! the consumer.

use std::{collections::BTreeMap, time::Duration};

use roamd::{
    client::{Backoff, Client, ClientConfig, Event, LargeNews, Position, Recipient},
    limits::Limits,
    wire::proto::{self, ConversationCursor, entry::Kind},
};

use crate::daemon::{Server, catch_up, within};

/// Groups with more than three members are large.
fn limits() -> Limits {
    Limits { fanout_members: 3, inbox_entries: 10_000, ..Limits::default() }
}

async fn group(owner: &Client, members: &[&str]) -> String {
    let create = proto::CreateGroup {
        title: "crowd".into(),
        user_ids: members.iter().map(|member| (*member).to_owned()).collect(),
        ..Default::default()
    };
    owner.create_group(create).await.unwrap().conversation_id
}

async fn send(from: &Client, group: &str, texts: std::ops::Range<u64>) {
    for number in texts {
        let to = Recipient::conversation(group);
        let ack = from.send(to, "text/plain", number.to_string()).await.unwrap();
        assert_eq!(ack.history_seq, number);
    }
}

/// What a device has stored: where it is, and the texts of the one group in these tests.
#[derive(Default)]
struct Device {
    position: Option<Position>,
    epoch: u64,
    cursors: BTreeMap<String, ConversationCursor>,
    last: u64,
    texts: BTreeMap<u64, String>,
    begins: u32,
    ends: u32,
    total: u64,
}

impl Device {
    fn config(&self, config: ClientConfig) -> ClientConfig {
        let config = ClientConfig {
            large: self.cursors.values().cloned().collect(),
            reconnect: Some(Backoff {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            }),
            ..config
        };
        match self.position {
            Some(position) => config.resume(position),
            None => config,
        }
    }

    fn message(&mut self, message: &proto::Message) {
        assert_eq!(message.history_seq, self.last + 1, "no gap and nothing twice");
        self.last = message.history_seq;
        self.show(message);
    }

    fn show(&mut self, message: &proto::Message) {
        assert!(message.history_seq <= self.last);
        let text = match message.state() {
            proto::MessageState::Normal => String::from_utf8_lossy(&message.content).into_owned(),
            state => state.as_str_name().to_owned(),
        };
        self.texts.insert(message.history_seq, text);
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected(welcome) => self.epoch = welcome.epoch,
            Event::Entry { seq, entry } => {
                match entry.kind {
                    Some(Kind::Message(message)) => self.message(&message),
                    Some(Kind::Edited(edited)) => self.show(&edited.message.unwrap()),
                    _ => {}
                }
                self.position = Some(Position { epoch: self.epoch, seq });
            }
            Event::Snapshot(snapshot) => {
                self.position = Some(snapshot.position);
                let cursors = snapshot.large.into_iter();
                self.cursors = cursors.map(|it| (it.conversation_id.clone(), it)).collect();
            }
            Event::Large(event) => {
                let id = event.cursor.conversation_id.clone();
                match &event.news {
                    LargeNews::Message(message) => self.message(message),
                    LargeNews::Changed(message) => self.show(message),
                    LargeNews::Begins => self.begins += 1,
                    LargeNews::Version => {}
                    LargeNews::Ends => {
                        self.ends += 1;
                        self.cursors.remove(&id);
                        return;
                    }
                }
                self.cursors.insert(id, event.cursor);
            }
            Event::Unread(push) => self.total = push.unread_total,
            _ => {}
        }
    }

    /// Takes events until it has so many messages.
    async fn upto(&mut self, client: &mut Client, last: u64) {
        self.until(client, |device| device.last >= last).await;
    }

    async fn until(&mut self, client: &mut Client, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let event = within(client.next_event()).await.unwrap();
            self.take(event);
        }
    }
}

#[tokio::test]
async fn live_or_away_every_message_comes_once() {
    let mut server = Server::start(limits());
    let alice = server.connect("alice", "laptop").await;
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let group = group(&alice, &["bob", "carol", "dave"]).await;
    send(&alice, &group, 1..51).await;
    device.upto(&mut bob, 50).await;
    assert_eq!(device.begins, 1);
    device.until(&mut bob, |device| device.total == 50).await;
    bob.close().await.unwrap();

    send(&alice, &group, 51..501).await;
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.upto(&mut bob, 500).await;
    send(&alice, &group, 501..511).await;
    device.upto(&mut bob, 510).await;
    assert!(device.texts.iter().all(|(seq, text)| *text == seq.to_string()));
    let inbox = bob.pull(0, 0).await.unwrap().entries;
    assert!(inbox.iter().all(|entry| !matches!(entry.kind, Some(Kind::Message(_)))));
    server.stop().await;
}

#[tokio::test]
async fn changes_of_messages_reach_who_is_there_and_who_was_away() {
    let mut server = Server::start(limits());
    let alice = server.connect("alice", "laptop").await;
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let group = group(&alice, &["bob", "carol", "dave"]).await;
    send(&alice, &group, 1..6).await;
    device.upto(&mut bob, 5).await;
    alice.edit(&group, 2, "text/plain", "two", None).await.unwrap();
    device.until(&mut bob, |device| device.texts[&2] == "two").await;
    bob.close().await.unwrap();
    alice.recall(&group, 3).await.unwrap();
    send(&alice, &group, 6..8).await;
    alice.edit(&group, 7, "text/plain", "seven", None).await.unwrap();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device
        .until(&mut bob, |device| {
            device.texts[&3] == "MESSAGE_STATE_RECALLED"
                && device.texts.get(&7).is_some_and(|text| text == "seven")
        })
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_consumer_that_takes_nothing_loses_nothing_and_costs_no_memory() {
    let mut server = Server::start(limits());
    let alice = server.connect("alice", "laptop").await;
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let group = group(&alice, &["bob", "carol", "dave"]).await;
    let sends = (1..=2500u64).map(|number| proto::Send {
        to: Some(Recipient::conversation(&group).into()),
        content_type: "text/plain".into(),
        content: number.to_string().into(),
        ..Default::default()
    });
    let mut acks = Vec::new();
    for send in sends {
        acks.push(alice.begin_send(send).await.unwrap());
    }
    for ack in acks {
        within(ack).await.unwrap();
    }
    bob.ping().await.unwrap();
    let waiting = bob.status().events_waiting;
    assert!(waiting <= 1300, "{waiting}");
    device.upto(&mut bob, 2500).await;
    assert_eq!(bob.status().large_behind, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_group_that_grows_and_shrinks_under_traffic_has_no_gap() {
    let mut server = Server::start(limits());
    let alice = server.connect("alice", "laptop").await;
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let group = group(&alice, &["bob", "carol"]).await;

    let (members, id) = (alice.requests(), group.clone());
    let sending = tokio::spawn(async move {
        for round in 0..12u64 {
            let dave = vec!["dave".to_owned()];
            if round % 2 == 0 {
                members.add_members(&id, dave).await.unwrap();
            } else {
                members.remove_members(&id, dave).await.unwrap();
            }
            for _ in 0..20 {
                let to = Recipient::conversation(&id);
                members.send(to, "text/plain", "x").await.unwrap();
            }
        }
    });
    // Killed and started again all the time.
    let mut runs = 0;
    while device.last < 240 {
        let stop = device.last + 17;
        device.upto(&mut bob, stop.min(240)).await;
        drop(bob);
        runs += 1;
        bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    }
    within(sending).await.unwrap();
    device.until(&mut bob, |device| device.cursors.is_empty()).await;
    assert!(runs >= 14 && device.ends >= 1, "{runs} {}", device.ends);
    server.stop().await;
}

#[tokio::test]
async fn who_leaves_has_everything_up_to_then() {
    let mut server = Server::start(limits());
    let alice = server.connect("alice", "laptop").await;
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let group = group(&alice, &["bob", "carol", "dave", "erin"]).await;
    device.until(&mut bob, |device| device.begins == 1).await;
    bob.close().await.unwrap();
    send(&alice, &group, 1..301).await;
    alice.remove_members(&group, vec!["bob".into()]).await.unwrap();
    send(&alice, &group, 301..305).await;
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.ends == 1).await;
    assert_eq!((device.last, device.cursors.len()), (300, 0));
    // A new member sees from then on.
    let mut frank = Client::connect(server.config("frank", "phone")).await.unwrap();
    catch_up(&mut frank).await;
    alice.add_members(&group, vec!["frank".into()]).await.unwrap();
    send(&alice, &group, 305..307).await;
    let mut new = Device { last: 304, ..Device::default() };
    new.upto(&mut frank, 306).await;
    server.stop().await;
}

#[tokio::test]
async fn restarts_of_the_daemon_under_traffic_lose_and_repeat_nothing() {
    let mut server = Server::start(limits());
    let mut device = Device::default();
    let mut bob = Client::connect(device.config(server.config("bob", "phone"))).await.unwrap();
    device.until(&mut bob, |device| device.position.is_some()).await;
    let config = Device::default().config(server.config("alice", "laptop"));
    let alice = Client::connect(config).await.unwrap();
    let group = group(&alice, &["bob", "carol", "dave"]).await;
    let (sender, id) = (alice.requests(), group.clone());
    let sending = tokio::spawn(async move {
        let mut acks = Vec::new();
        for number in 1..=1500u64 {
            let send = proto::Send {
                to: Some(Recipient::conversation(&id).into()),
                content_type: "text/plain".into(),
                content: number.to_string().into(),
                ..Default::default()
            };
            acks.push(sender.begin_send(send).await.unwrap());
        }
        for ack in acks {
            within(ack).await.unwrap();
        }
    });
    for round in 1..=3 {
        device.upto(&mut bob, round * 200).await;
        server.stop().await;
        server.resume();
    }
    device.upto(&mut bob, 1500).await;
    within(sending).await.unwrap();
    assert!(device.texts.iter().all(|(seq, text)| *text == seq.to_string()));
    server.stop().await;
}
