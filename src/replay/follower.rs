//! Follows the inbox of one device of a replay, keeps its copy of every channel, and complains.
//!
//! A new message must be exactly the next one its user may see; only what a snapshot already brought
//! may come again by the stream, once. What changes later is applied to what is there: by entries, or,
//! when the inbox could not help, by the mutation feed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    copy::{Copy, Storage},
    device::End,
    world::{Kept, World},
};
use crate::{
    client::{Client, ClientError, Event, Page, Snapshot},
    wire::proto::{
        self, CaughtUp, Conversation, Entry, Message, TooLongReason, client_frame::Body,
        entry::Kind, server_frame::Body as Said,
    },
};

/// Follows the inbox for as long as the device is online.
pub(super) struct Follower {
    pub(super) world: Arc<World>,
    pub(super) user: String,
    /// Before the first session began. Later sessions of the same follower began later.
    pub(super) since: Instant,
    pub(super) name: String,
    pub(super) storage: Arc<Mutex<Storage>>,
    pub(super) live: bool,
}

impl Follower {
    pub(super) async fn follow(mut self, mut client: Client, mut stopped: oneshot::Receiver<End>) {
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
            Event::Large(_) | Event::Presence(_) | Event::Ephemeral(_) | Event::Unread(_) => {}
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
        if let Err(text) = self.apply(storage, entry.kind) {
            self.world.complain(&self.name, format!("entry {seq}: {text}"));
        }
    }

    /// What an entry does to the copy.
    fn apply(&self, storage: &mut Storage, kind: Option<Kind>) -> Result<(), String> {
        let Some(kind) = kind else { return Ok(()) };
        let id = match &kind {
            Kind::Message(message) => &message.conversation_id,
            Kind::Recalled(gone) => &gone.conversation_id,
            Kind::Deleted(gone) => &gone.conversation_id,
            Kind::Edited(edited) => match &edited.message {
                Some(message) => &message.conversation_id,
                None => return Err("an edit without its message".into()),
            },
            Kind::Hidden(hidden) => &hidden.conversation_id,
            Kind::Read(read) => &read.conversation_id,
            Kind::Hole(hole) => return Err(format!("is a hole: {}", hole.detail)),
            Kind::Mode(mode) => return Err(format!("{} is large", mode.conversation_id)),
            _ => return Ok(()),
        };
        let Some(channel) = self.world.channel(id) else {
            return Err(format!("something of {id}"));
        };
        let (world, user) = (&self.world, self.user.as_str());
        let copy = &mut storage.channels[channel];
        match kind {
            Kind::Message(message) => {
                if self.live {
                    world.delivered(channel, message.history_seq, Instant::now());
                }
                if message.history_seq <= copy.last && message.history_seq <= copy.brought {
                    storage.tally.repeated += 1;
                    copy.keep(
                        message.history_seq,
                        world.judge(channel, user, &message, self.since)?,
                    );
                    return Ok(());
                }
                self.next(channel, copy, &message)
            }
            Kind::Edited(edited) => {
                storage.tally.changed += 1;
                copy.mutation = copy.mutation.max(edited.mutation_seq);
                let message = edited.message.unwrap_or_default();
                expect_known(copy, message.history_seq)?;
                copy.keep(message.history_seq, world.judge(channel, user, &message, self.since)?);
                Ok(())
            }
            Kind::Recalled(gone) => {
                self.blank(channel, storage, gone.history_seq, gone.mutation_seq)
            }
            Kind::Deleted(gone) => {
                self.blank(channel, storage, gone.history_seq, gone.mutation_seq)
            }
            Kind::Hidden(hidden) => {
                storage.tally.changed += 1;
                copy.hidden_count += hidden.history_seqs.len() as u64;
                for seq in hidden.history_seqs {
                    expect_known(copy, seq)?;
                    copy.keep(seq, Kept::Blank);
                }
                Ok(())
            }
            Kind::Read(read) => {
                copy.read = copy.read.max(read.read_seq);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A message is gone for everybody.
    fn blank(
        &self,
        channel: usize,
        storage: &mut Storage,
        seq: u64,
        mutation: u64,
    ) -> Result<(), String> {
        storage.tally.changed += 1;
        let copy = &mut storage.channels[channel];
        copy.mutation = copy.mutation.max(mutation);
        expect_known(copy, seq)?;
        copy.keep(seq, Kept::Blank);
        if self.world.is_gone(channel, seq) {
            Ok(())
        } else {
            Err(format!("message {seq} of channel {channel} was taken away by nobody"))
        }
    }

    /// The one message that may come next.
    fn next(&self, channel: usize, copy: &mut Copy, message: &Message) -> Result<(), String> {
        let seq = message.history_seq;
        let due = self.world.next_visible(channel, &self.user, copy.last);
        let kept = self.world.judge(channel, &self.user, message, self.since)?;
        copy.keep(seq, kept);
        copy.last = copy.last.max(seq);
        if message.sender == self.user {
            copy.read = copy.read.max(seq);
        }
        if due == Some(seq) {
            return Ok(());
        }
        Err(format!("{}: message {seq} where {due:?} is due", message.conversation_id))
    }

    /// The message index instead of the inbox: brings every copy up to date, then adopts the position.
    async fn snapshot(&mut self, client: &Client, snapshot: Snapshot) {
        if snapshot.reason != TooLongReason::NewDevice {
            self.storage.lock().tally.overflows += 1;
        }
        for conversation in &snapshot.conversations {
            let Some(channel) = self.world.channel(&conversation.conversation_id) else { continue };
            let hidden_more = {
                let copy = &mut self.storage.lock().channels[channel];
                copy.read = copy.read.max(conversation.read_seq);
                copy.last > 0 && copy.hidden_count != conversation.hidden_count
            };
            if hidden_more && !self.pages(client, channel, conversation, true).await {
                return;
            }
            if !self.mutations(client, channel, conversation).await
                || !self.pages(client, channel, conversation, false).await
            {
                return;
            }
            let copy = &mut self.storage.lock().channels[channel];
            copy.brought = conversation.visible_last_seq;
            copy.hidden_count = conversation.hidden_count;
        }
        self.storage.lock().position = Some(snapshot.position);
    }

    /// Fetches what is missing up to the end, or everything again. False = the client is over.
    async fn pages(
        &self,
        client: &Client,
        channel: usize,
        conversation: &Conversation,
        again: bool,
    ) -> bool {
        let last = conversation.visible_last_seq;
        let mut after = if again { 0 } else { self.storage.lock().channels[channel].last };
        loop {
            let due = self.world.next_visible(channel, &self.user, after);
            if due.is_none_or(|due| due > last) {
                return true;
            }
            let anchor = Page::Newer(after.max(conversation.visible_first_seq.saturating_sub(1)));
            match client.history(conversation.conversation_id.as_str(), anchor, 200).await {
                Ok(page) => {
                    let mut storage = self.storage.lock();
                    let storage = &mut *storage;
                    let copy = &mut storage.channels[channel];
                    // The feed goes on from what the first page ever fetched reflects.
                    if copy.last == 0 {
                        copy.mutation = page.mutation_seq;
                    }
                    if page.messages.is_empty() {
                        self.world.complain(&self.name, format!("an empty page after {after}"));
                        return false;
                    }
                    for message in page.messages.iter().filter(|m| m.history_seq <= last) {
                        let seq = message.history_seq;
                        let taken = if seq <= copy.last {
                            let kept = self.world.judge(channel, &self.user, message, self.since);
                            kept.map(|kept| copy.keep(seq, kept))
                        } else {
                            self.next(channel, copy, message)
                        };
                        if let Err(text) = taken {
                            self.world.complain(&self.name, format!("history: {text}"));
                        }
                        storage.tally.fetched += 1;
                    }
                    after = page.last_seq.max(after + 1);
                }
                // The connection or the daemon went away: it will come back.
                Err(ClientError::Closed) => return false,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// What changed in messages that are here already. False = the client is over.
    async fn mutations(
        &self,
        client: &Client,
        channel: usize,
        conversation: &Conversation,
    ) -> bool {
        loop {
            let (known, last) = {
                let copy = &self.storage.lock().channels[channel];
                (copy.mutation, copy.last)
            };
            if last == 0 || known >= conversation.mutation_seq {
                return true;
            }
            let fetch = proto::FetchMutations {
                conversation_id: conversation.conversation_id.clone(),
                after_mutation_seq: known,
                limit: 0,
            };
            match client.request(Body::FetchMutations(fetch)).await {
                Ok(Said::MutationPage(page)) => {
                    let mut storage = self.storage.lock();
                    let storage = &mut *storage;
                    let copy = &mut storage.channels[channel];
                    for mutation in page.mutations {
                        let message = mutation.message.unwrap_or_default();
                        storage.tally.changed += 1;
                        if message.history_seq > copy.last {
                            continue;
                        }
                        match self.world.judge(channel, &self.user, &message, self.since) {
                            Ok(kept) => copy.keep(message.history_seq, kept),
                            Err(text) => {
                                self.world.complain(&self.name, format!("mutations: {text}"));
                            }
                        }
                    }
                    copy.mutation = copy.mutation.max(page.last_mutation_seq);
                    if page.complete {
                        return true;
                    }
                }
                Err(ClientError::Closed) => return false,
                Ok(_) => {
                    self.complain("mutations were answered by something else".into());
                    return false;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn complain(&self, text: String) {
        self.world.complain(&self.name, text);
    }
}

/// An operation comes after the message it is about.
fn expect_known(copy: &Copy, seq: u64) -> Result<(), String> {
    match copy.kept(seq) {
        Kept::Nothing => Err(format!("an operation on message {seq}, which is not here")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Position;
    use crate::replay::world::fingerprint_of;

    fn message(seq: u64, text: &'static str) -> Message {
        Message {
            conversation_id: "g".into(),
            history_seq: seq,
            sender: "a".into(),
            content_type: "t".into(),
            content: text.into(),
            state: proto::MessageState::Normal.into(),
            ..Message::default()
        }
    }

    fn world() -> Arc<World> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let world = Arc::new(World::new(address, &["g".to_owned()]));
        world.joins(0, "d");
        for text in ["one", "two", "three"] {
            world.sends(0, fingerprint_of("a", "t", text.as_bytes()));
        }
        world
    }

    /// What a device complains of when these entries come after each other.
    fn complaints(world: &Arc<World>, entries: &[(u64, Kind)]) -> Vec<String> {
        let storage = Storage {
            position: Some(Position { epoch: 1, seq: 0 }),
            channels: vec![Copy::default()],
            ..Storage::default()
        };
        let mut follower = Follower {
            world: Arc::clone(world),
            user: "d".into(),
            since: Instant::now(),
            name: "d/first".into(),
            storage: Arc::new(Mutex::new(storage)),
            live: false,
        };
        for (seq, kind) in entries {
            follower.entry(*seq, Entry { kind: Some(kind.clone()), ..Entry::default() });
        }
        world.violations().1
    }

    #[test]
    fn a_device_sees_what_is_lost_repeated_reordered_or_changed() {
        let message = |seq, text| Kind::Message(message(seq, text));
        let (one, two, three) = (message(1, "one"), message(2, "two"), message(3, "three"));
        let all = [(1, one.clone()), (2, two.clone()), (3, three.clone())];
        assert!(complaints(&world(), &all).is_empty());
        let cases = [
            ("lost", vec![(1, one.clone()), (2, three.clone())]),
            ("repeated", vec![(1, one.clone()), (2, one.clone())]),
            ("reordered", vec![(1, two.clone()), (2, one.clone())]),
            ("changed", vec![(1, message(1, "uno"))]),
            ("never sent", vec![(1, one.clone()), (2, two), (3, three), (4, message(4, "four"))]),
            ("a gap in the inbox", vec![(2, one)]),
        ];
        for (what, entries) in cases {
            assert!(!complaints(&world(), &entries).is_empty(), "{what}");
        }
    }

    #[test]
    fn a_device_sees_what_is_changed_or_shown_without_right() {
        let one = Kind::Message(message(1, "one"));
        let recalled = |seq| {
            Kind::Recalled(proto::MessageRecalled {
                conversation_id: "g".into(),
                history_seq: seq,
                mutation_seq: 1,
                by: "a".into(),
            })
        };
        let edited = |revision, text| {
            let message = Some(Message { revision, ..message(1, text) });
            Kind::Edited(proto::MessageEdited { message, mutation_seq: 1 })
        };
        let stub = Message { state: proto::MessageState::Recalled.into(), ..message(1, "") };

        let told = world();
        told.edits(0, 1, fingerprint_of("a", "t", b"uno"));
        told.takes(0, 2, true);
        let stub_of_two = Kind::Message(Message { history_seq: 2, ..stub.clone() });
        let fine = [(1, one.clone()), (2, edited(1, "uno")), (3, stub_of_two), (4, recalled(2))];
        assert!(complaints(&told, &fine).is_empty(), "{:?}", told.violations());

        assert!(!complaints(&world(), &[(1, recalled(1))]).is_empty(), "before its message");
        assert!(
            !complaints(&world(), &[(1, one.clone()), (2, recalled(1))]).is_empty(),
            "by nobody"
        );
        assert!(!complaints(&world(), &[(1, Kind::Message(stub))]).is_empty(), "gone by nobody");
        let old = [(1, one.clone()), (2, edited(1, "dos"))];
        assert!(!complaints(&world(), &old).is_empty(), "an edit nobody made");
        let gone = world();
        gone.takes(0, 1, true);
        assert!(!complaints(&gone, &[(1, one.clone())]).is_empty(), "content after its recall");
        let left = world();
        left.leaves(0, "d");
        left.edits(0, 1, fingerprint_of("a", "t", b"uno"));
        assert!(!complaints(&left, &[(1, one.clone()), (2, edited(1, "uno"))]).is_empty(), "later");
        let late = world();
        late.leaves(0, "d");
        late.sends(0, fingerprint_of("a", "t", b"four"));
        let four = Kind::Message(message(4, "four"));
        let all = [(1, one), (2, Kind::Message(message(2, "two")))];
        let all = [&all[..], &[(3, Kind::Message(message(3, "three"))), (4, four)]].concat();
        assert!(!complaints(&late, &all).is_empty(), "a message after leaving");
    }
}
