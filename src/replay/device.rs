//! One device of a replay: follows its inbox, keeps how far it has every channel, and complains.
//!
//! A device's storage outlives its sessions: position in the inbox, and per channel the next message
//! it expects. Every message must be exactly that one. Only what a snapshot already brought may come
//! again by the stream, once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle};

use super::world::{World, fingerprint};
use crate::{
    client::{Client, ClientConfig, ClientError, Event, Page, Position, Requests, Snapshot},
    id::UserId,
    wire::proto::{CaughtUp, Entry, Message, TooLongReason, entry::Kind},
};

/// What a device has, between and during its sessions.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) position: Option<Position>,
    /// Per channel of the world: the next message to come; 0 = not told of the channel yet.
    pub(super) next: Vec<u64>,
    /// Per channel: up to here a snapshot has brought what the stream may bring again.
    brought: Vec<u64>,
    pub(super) tally: Tally,
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) streamed: u64,
    pub(super) fetched: u64,
    pub(super) repeated: u64,
    pub(super) catch_ups: u64,
    pub(super) overflows: u64,
    pub(super) reconnects: u64,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) user: usize,
    pub(super) name: String,
    pub(super) storage: Arc<Mutex<Storage>>,
    online: Option<Online>,
}

#[derive(Debug)]
struct Online {
    requests: Requests,
    stop: oneshot::Sender<End>,
    task: JoinHandle<()>,
}

/// How a device goes offline.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Ack, Bye.
    Proper,
    /// The connection is just gone.
    Sudden,
}

impl Device {
    pub(super) fn new(user: usize, name: String, channels: usize) -> Self {
        let storage =
            Storage { next: vec![0; channels], brought: vec![0; channels], ..Storage::default() };
        Self { user, name, storage: Arc::new(Mutex::new(storage)), online: None }
    }

    pub(super) fn requests(&self) -> Option<&Requests> {
        self.online.as_ref().map(|online| &online.requests)
    }

    /// Connects and starts to follow the inbox.
    pub(super) async fn connect(
        &mut self,
        world: &Arc<World>,
        id: &UserId,
        token: String,
    ) -> Result<(), ClientError> {
        if self.online.is_some() {
            return Ok(());
        }
        let mut config = ClientConfig::new(world.address.to_string(), token, self.name.as_str());
        if let Some(position) = self.storage.lock().position {
            config = config.resume(position);
        }
        config.platform = "replay".into();
        let client = Client::start(config);
        let requests = client.requests();
        let (stop, stopped) = oneshot::channel();
        let follower = Follower {
            world: Arc::clone(world),
            name: format!("{id}/{}", self.name),
            storage: Arc::clone(&self.storage),
            live: false,
        };
        let task = tokio::spawn(follower.follow(client, stopped));
        self.online = Some(Online { requests, stop, task });
        Ok(())
    }

    /// Goes offline, and returns when it is.
    pub(super) async fn disconnect(&mut self, end: End) {
        if let Some(online) = self.online.take() {
            let _ = online.stop.send(end);
            let _ = online.task.await;
        }
    }
}

struct Follower {
    world: Arc<World>,
    name: String,
    storage: Arc<Mutex<Storage>>,
    live: bool,
}

impl Follower {
    async fn follow(mut self, mut client: Client, mut stopped: oneshot::Receiver<End>) {
        loop {
            let event = tokio::select! {
                event = client.next_event() => event,
                end = &mut stopped => {
                    if let Ok(End::Proper) = end {
                        // A daemon that is being killed cannot be told; that is no violation.
                        let _ = tokio::time::timeout(Duration::from_secs(5), client.close()).await;
                    }
                    return;
                }
            };
            match event {
                Ok(event) => self.take(&client, event).await,
                Err(error) => return self.complain(format!("ended: {error}")),
            }
        }
    }

    async fn take(&mut self, client: &Client, event: Event) {
        match event {
            Event::Entry { seq, entry } => self.entry(seq, entry),
            Event::CaughtUp(state) => self.caught_up(&state),
            Event::Snapshot(snapshot) => self.snapshot(client, snapshot).await,
            Event::Connected(welcome) => {
                if let Some(position) = &mut self.storage.lock().position
                    && position.epoch != welcome.epoch
                {
                    self.world.complain(&self.name, "the epoch has changed".into());
                }
            }
            Event::Disconnected { .. } => {
                self.live = false;
                self.storage.lock().tally.reconnects += 1;
            }
            Event::Push(_) => {}
        }
    }

    fn caught_up(&mut self, state: &CaughtUp) {
        self.live = true;
        let mut storage = self.storage.lock();
        storage.tally.catch_ups += 1;
        if storage.position.is_none_or(|position| position.seq != state.seq) {
            let text = format!("CaughtUp at {} with {:?} stored", state.seq, storage.position);
            drop(storage);
            self.complain(text);
        }
    }

    fn entry(&mut self, seq: u64, entry: Entry) {
        let mut storage = self.storage.lock();
        let storage = &mut *storage;
        let Some(position) = &mut storage.position else {
            return self.world.complain(&self.name, format!("entry {seq} without a position"));
        };
        if seq != position.seq + 1 {
            let text = format!("entry {seq} after {}", position.seq);
            self.world.complain(&self.name, text);
        }
        position.seq = seq;
        storage.tally.streamed += 1;
        match entry.kind {
            Some(Kind::Message(message)) => {
                let Some(channel) = self.world.channel(&message.conversation_id) else {
                    let text = format!("a message of {}", message.conversation_id);
                    return self.world.complain(&self.name, text);
                };
                if self.live {
                    self.world.delivered(channel, message.history_seq, Instant::now());
                }
                let next = storage.next[channel].max(1);
                if message.history_seq < next && message.history_seq <= storage.brought[channel] {
                    storage.tally.repeated += 1;
                    return;
                }
                if let Err(text) = self.check(channel, next, &message) {
                    self.world.complain(&self.name, format!("entry {seq}: {text}"));
                }
                storage.next[channel] = message.history_seq + 1;
            }
            Some(Kind::Hole(hole)) => {
                self.world.complain(&self.name, format!("entry {seq} is a hole: {}", hole.detail));
            }
            _ => {}
        }
    }

    /// The one message that may come next.
    fn check(&self, channel: usize, next: u64, message: &Message) -> Result<(), String> {
        let name = &message.conversation_id;
        if message.history_seq != next {
            return Err(format!("{name}: message {} where {next} is due", message.history_seq));
        }
        match self.world.expected(channel, next) {
            Some(expected) if expected == fingerprint(message) => Ok(()),
            Some(_) => Err(format!("{name}: message {next} is not what was sent")),
            None => Err(format!("{name}: message {next} was never sent")),
        }
    }

    /// The message index instead of the inbox: adopts the position and fetches what is missing.
    async fn snapshot(&mut self, client: &Client, snapshot: Snapshot) {
        if snapshot.reason != TooLongReason::NewDevice {
            self.storage.lock().tally.overflows += 1;
        }
        for conversation in &snapshot.conversations {
            let Some(channel) = self.world.channel(&conversation.conversation_id) else { continue };
            let last = conversation.visible_last_seq;
            loop {
                let next = self.storage.lock().next[channel].max(1);
                if next > last {
                    break;
                }
                let anchor = Page::Newer(next - 1);
                match client.history(conversation.conversation_id.as_str(), anchor, 200).await {
                    Ok(page) => {
                        let mut storage = self.storage.lock();
                        if page.messages.is_empty() {
                            drop(storage);
                            return self.complain(format!("an empty page after {}", next - 1));
                        }
                        for message in page.messages.iter().filter(|m| m.history_seq <= last) {
                            let next = storage.next[channel].max(1);
                            if let Err(text) = self.check(channel, next, message) {
                                self.world.complain(&self.name, format!("history: {text}"));
                            }
                            storage.next[channel] = message.history_seq + 1;
                            storage.tally.fetched += 1;
                        }
                    }
                    // The connection or the daemon went away: it will come back.
                    Err(ClientError::Closed) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            self.storage.lock().brought[channel] = last;
        }
        self.storage.lock().position = Some(snapshot.position);
    }

    fn complain(&self, text: String) {
        self.world.complain(&self.name, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::world::fingerprint_of;

    fn message(seq: u64, text: &'static str) -> Message {
        Message {
            conversation_id: "g".into(),
            history_seq: seq,
            sender: "a".into(),
            content_type: "t".into(),
            content: text.into(),
            ..Message::default()
        }
    }

    /// What a device complains of when these entries come after each other.
    fn complaints(entries: &[(u64, Message)]) -> Vec<String> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let world = Arc::new(World::new(address, &["g".to_owned()]));
        for text in ["one", "two", "three"] {
            world.sends(0, fingerprint_of("a", "t", text.as_bytes()));
        }
        let storage = Storage {
            position: Some(Position { epoch: 1, seq: 0 }),
            next: vec![0],
            brought: vec![0],
            ..Storage::default()
        };
        let storage = Arc::new(Mutex::new(storage));
        let mut follower =
            Follower { world: Arc::clone(&world), name: "d".into(), storage, live: false };
        for (seq, message) in entries {
            let kind = Some(Kind::Message(message.clone()));
            follower.entry(*seq, Entry { kind, ..Entry::default() });
        }
        world.violations().1
    }

    #[test]
    fn a_device_sees_what_is_lost_repeated_reordered_or_changed() {
        let (one, two, three) = (message(1, "one"), message(2, "two"), message(3, "three"));
        assert!(complaints(&[(1, one.clone()), (2, two.clone()), (3, three.clone())]).is_empty());
        let cases = [
            ("lost", vec![(1, one.clone()), (2, three.clone())]),
            ("repeated", vec![(1, one.clone()), (2, one.clone())]),
            ("reordered", vec![(1, two.clone()), (2, one.clone())]),
            ("changed", vec![(1, message(1, "uno"))]),
            ("never sent", vec![(1, one.clone()), (2, two), (3, three), (4, message(4, "four"))]),
            ("a gap in the inbox", vec![(2, one)]),
        ];
        for (what, entries) in cases {
            assert!(!complaints(&entries).is_empty(), "{what}");
        }
    }
}
