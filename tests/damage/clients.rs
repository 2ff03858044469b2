//! Real devices, the real daemon, real damage: after a repair every device is told that it is another
//! data set, starts over, ends in what is there now, and goes on.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use rand::{SeedableRng, rngs::StdRng};
use roamd::{
    client::{Client, ClientConfig, Event, LargeNews, Page, Position, Recipient},
    wire::proto::{self, entry::Kind},
};

use crate::{damages::damage, place::copy, support::Daemon};

/// Nothing takes long unless it never comes.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it never came")
}

/// Messages by place; none = a hole.
type Messages = BTreeMap<(String, u64), Option<Vec<u8>>>;

struct Device {
    client: Client,
    position: Position,
    reason: Option<proto::TooLongReason>,
    messages: Messages,
    unread: u64,
}

impl Device {
    async fn connect(daemon: &Daemon, user: &str, name: &str, at: Option<Position>) -> Self {
        let config = ClientConfig::new(daemon.address().to_string(), daemon.token(user), name);
        let config = match at {
            Some(at) => config.resume(at),
            None => config,
        };
        let client = within(Client::connect(config)).await.unwrap();
        let position = at.unwrap_or(Position { epoch: 0, seq: 0 });
        let (messages, reason) = (Messages::new(), None);
        let mut device = Self { client, position, reason, messages, unread: 0 };
        let mut listed = Vec::new();
        loop {
            match within(device.client.next_event()).await.unwrap() {
                Event::CaughtUp(state) => {
                    device.unread = state.unread_total;
                    break;
                }
                Event::Snapshot(snapshot) => {
                    device.reason = Some(snapshot.reason);
                    device.position = snapshot.position;
                    device.messages.clear();
                    listed = snapshot.conversations;
                }
                event => device.take(event),
            }
        }
        for conversation in listed {
            device.fetch(&conversation.conversation_id).await;
        }
        device
    }

    async fn fetch(&mut self, conversation: &str) {
        let mut after = 0;
        loop {
            let page = self.client.history(conversation, Page::Newer(after), 50);
            let page = within(page).await.unwrap();
            let Some(last) = page.messages.last() else { return };
            after = last.history_seq;
            page.messages.into_iter().for_each(|message| self.keep(message));
        }
    }

    fn keep(&mut self, message: proto::Message) {
        let whole = !message.sender.is_empty();
        let place = (message.conversation_id, message.history_seq);
        self.messages.insert(place, whole.then(|| message.content.to_vec()));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Entry { seq, entry } => {
                self.position.seq = seq;
                if let Some(Kind::Message(message)) = entry.kind {
                    self.keep(message);
                }
            }
            Event::Large(large) => {
                if let LargeNews::Message(message) = large.news {
                    self.keep(message);
                }
            }
            _ => {}
        }
    }

    /// Takes events until this message is there.
    async fn until(&mut self, content: &str) {
        let is_there = |messages: &Messages| {
            messages.values().flatten().any(|found| found == content.as_bytes())
        };
        while !is_there(&self.messages) {
            let event = within(self.client.next_event()).await.unwrap();
            self.take(event);
        }
    }

    async fn say(&self, to: &Recipient, text: String) {
        within(self.client.send(to.clone(), "text/plain", text)).await.unwrap();
    }
}

fn remove_data(dir: &Path) {
    for name in ["trees", "journal"] {
        fs::remove_dir_all(dir.join(name)).unwrap();
    }
    fs::remove_file(dir.join("ROAMD")).unwrap();
}

/// The first damage by which a repair would lose some messages and not all.
fn damage_of_messages(daemon: &Daemon) -> String {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..300 {
        let dir = folder.path().join(seed.to_string());
        for name in ["trees", "journal"] {
            copy(&daemon.data().join(name), &dir.join(name));
        }
        fs::copy(daemon.data().join("ROAMD"), dir.join("ROAMD")).unwrap();
        let what = damage(&mut StdRng::seed_from_u64(seed), &dir);
        let mut roamd = std::process::Command::new(env!("CARGO_BIN_EXE_roamd"));
        roamd.args(["store", "repair", "--dry-run", "--data"]).arg(&dir);
        let (status, text) = crate::child::run(&mut roamd).unwrap();
        if status == Some(7)
            && text.contains("lost: message")
            && !text.contains(" 0 messages are there")
        {
            remove_data(daemon.data());
            for name in ["trees", "journal"] {
                copy(&dir.join(name), &daemon.data().join(name));
            }
            if dir.join("ROAMD").exists() {
                fs::copy(dir.join("ROAMD"), daemon.data().join("ROAMD")).unwrap();
            }
            return format!("seed {seed}: {what}");
        }
    }
    panic!("no damage loses messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_start_over_and_end_in_what_was_repaired() {
    let mut daemon = Daemon::with(&[
        ("limits.fanout_members", "6"),
        ("store.segment_bytes", "64KiB"),
        ("store.checkpoint_interval", "100ms"),
    ]);
    let alice = Device::connect(&daemon, "alice", "laptop", None).await;
    let mut bob = Device::connect(&daemon, "bob", "phone", None).await;
    let group = |id: &str, users: Vec<String>| proto::CreateGroup {
        client_request_id: if id == "team" { 1_000_001 } else { 1_000_002 },
        conversation_id: id.into(),
        title: id.into(),
        user_ids: users,
        ..proto::CreateGroup::default()
    };
    let crowd = (0..7).map(|n| format!("u{n}")).chain(["bob".to_owned()]).collect();
    for (id, users) in [("team", vec!["bob".to_owned()]), ("crowd", crowd)] {
        within(alice.client.create_group(group(id, users))).await.unwrap();
    }
    let recipients =
        [Recipient::user("bob"), Recipient::conversation("team"), Recipient::conversation("crowd")];
    for number in 0..150 {
        let to = &recipients[number % 3];
        alice.say(to, format!("message {number} {}", "words ".repeat(400))).await;
    }
    for number in 147..150 {
        bob.until(&format!("message {number} {}", "words ".repeat(400))).await;
    }
    let before = bob.messages.clone();
    let (of_alice, of_bob) = (alice.position, bob.position);
    assert!(before.len() >= 150 && before.values().all(Option::is_some));
    drop((alice, bob));
    daemon.terminate();
    assert!(daemon.ended().success());

    let what = damage_of_messages(&daemon);
    println!("{what}");
    let repaired = daemon.run(&["store", "repair"]);
    let text = String::from_utf8_lossy(&repaired.stdout).into_owned();
    assert_eq!(repaired.status.code(), Some(7), "{text}");
    let verified = daemon.run(&["store", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    daemon.relaunch();

    let mut bob = Device::connect(&daemon, "bob", "phone", Some(of_bob)).await;
    assert_eq!(bob.reason, Some(proto::TooLongReason::Epoch));
    assert_ne!(bob.position.epoch, of_bob.epoch);
    let fresh = Device::connect(&daemon, "bob", "tablet", None).await;
    assert_eq!(fresh.reason, Some(proto::TooLongReason::NewDevice));
    assert_eq!(bob.messages, fresh.messages, "{what}\n{text}");
    assert_eq!(bob.unread, fresh.unread);
    let mut holes = 0;
    for (place, message) in &bob.messages {
        match message {
            Some(message) => assert_eq!(before[place].as_ref(), Some(message), "{place:?}"),
            None => holes += 1,
        }
    }
    println!(
        "{} of {} messages are there, {holes} holes",
        bob.messages.len() - holes,
        before.len()
    );

    // It goes on: the same devices, the same conversations.
    let mut alice = Device::connect(&daemon, "alice", "laptop", Some(of_alice)).await;
    assert_eq!(alice.reason, Some(proto::TooLongReason::Epoch));
    alice.say(&recipients[0], "after the repair".into()).await;
    bob.until("after the repair").await;
    bob.say(&Recipient::user("alice"), "so it goes".into()).await;
    alice.until("so it goes").await;
    daemon.terminate();
    assert!(daemon.ended().success());
}
