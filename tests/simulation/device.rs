//! A device: the client library as it is, an application that keeps what it is given, and a disk that
//! outlives both. What comes out of the client is held against the rules a consumer relies on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use roamd::{
    client::{
        ClientConfig, ClientError, Event, Inbox, LargeEvent, LargeNews, Position, Snapshot,
        simulated::{Answer, SimulatedClient, Time},
    },
    id::{ConversationId, DeviceId, UserId},
    refusal::Retry,
    reply::Reply,
    seq::{HistorySeq, MutationSeq},
    wire::{
        self, FrameDecoder,
        proto::{self, MessageState, client_frame::Body, entry::Kind, server_frame},
    },
};

use crate::{compare::same, driver::Found, model::Model};

/// Stored by the application, event by event.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub position: Option<Position>,
    pub large: BTreeMap<String, proto::ConversationCursor>,
    rows: BTreeMap<String, BTreeMap<u64, proto::Message>>,
    /// Rows up to here may be missing: they were not fetched after a snapshot.
    from: BTreeMap<String, u64>,
}

/// The running application.
pub struct App {
    pub client: SimulatedClient,
    pub link: Option<u64>,
    /// When it connects again.
    pub retry_at: Option<Instant>,
    failed: u32,
    answers: Vec<(bool, Answer)>,
    /// Takes no events until then.
    pub asleep_until: Option<Instant>,
}

pub struct Device {
    pub user: UserId,
    pub device: DeviceId,
    pub disk: Disk,
    pub app: Option<App>,
    /// Lets only a few entries come without an ack.
    pub narrow: bool,
    pub entries: u64,
    pub acked_sends: u64,
}

fn config(device: &Device) -> ClientConfig {
    let config = ClientConfig::new("", "", device.device.as_str());
    let large = device.disk.large.values().cloned().collect();
    ClientConfig { inbox: Inbox::Follow(device.disk.position), large, ..config }
}

impl Device {
    pub fn new(user: UserId, device: DeviceId) -> Self {
        let disk = Disk::default();
        Self { user, device, disk, app: None, narrow: false, entries: 0, acked_sends: 0 }
    }

    /// The application is started, if it does not run.
    pub fn start(&mut self, now: Instant, limits: proto::ClientLimits) {
        if self.app.is_none() {
            self.narrow = limits.max_unacked_entries > 0 || limits.max_unacked_bytes > 0;
            let config = ClientConfig { limits, ..config(self) };
            self.app = Some(App {
                client: SimulatedClient::new(config),
                link: None,
                retry_at: Some(now),
                failed: 0,
                answers: Vec::new(),
                asleep_until: None,
            });
        }
    }

    /// When it has something to do, apart from what arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let app = self.app.as_ref()?;
        [app.client.deadline(), app.retry_at, app.asleep_until].into_iter().flatten().min()
    }

    pub fn ask(&mut self, body: Body) {
        if let Some(app) = &mut self.app {
            let sends = matches!(body, Body::Send(_));
            if let Some(answer) = app.client.request(body) {
                app.answers.push((sends, answer));
            }
        }
    }

    /// The connection is over; says whether the server wants nothing more of this device.
    pub fn lose(&mut self, now: Instant, error: &ClientError, luck: u64) -> Result<(), Found> {
        match error {
            ClientError::Stream(_)
            | ClientError::Frame(_)
            | ClientError::Malformed(_)
            | ClientError::UnexpectedReply(_) => {
                return Err(format!("{} {}: {error}", self.user, self.device));
            }
            _ => {}
        }
        let Some(app) = &mut self.app else { return Ok(()) };
        app.client.lost(error);
        app.link = None;
        if error.retry() == Retry::Never {
            self.app = None;
            return Ok(());
        }
        let least = error.retry_after();
        let window = Duration::from_millis(100 << app.failed.min(6)).min(Duration::from_secs(10));
        app.failed += 1;
        app.retry_at = Some(now + least + window.mul_f64((luck % 1000) as f64 / 1000.0));
        Ok(())
    }

    /// Takes the events that wait, unless it sleeps. True = something happened.
    pub fn take_events(&mut self, model: &Model, time: Time) -> Result<bool, Found> {
        let mut some = false;
        for _ in 0..100_000 {
            let Some(app) = &mut self.app else { return Ok(some) };
            if app.asleep_until.is_some_and(|until| until > time.mono) {
                return Ok(some);
            }
            app.asleep_until = None;
            let Some(event) = app.client.next_event(time) else { return Ok(some) };
            some = true;
            let who = format!("{} {}", self.user, self.device);
            self.event(model, event).map_err(|found| format!("{who}: {found}"))?;
        }
        Err("events without end".into())
    }

    fn event(&mut self, model: &Model, event: Event) -> Result<(), Found> {
        match event {
            Event::Connected(welcome) => {
                if let Some(app) = &mut self.app {
                    app.failed = 0;
                }
                same("who is welcome", &welcome.user_id.as_str(), &self.user.as_str())
            }
            Event::Entry { seq, entry } => {
                let Some(position) = &mut self.disk.position else {
                    return Err(format!("I6: entry {seq} before there is a copy"));
                };
                if seq != position.seq + 1 {
                    return Err(format!("I6: entry {seq} after {}", position.seq));
                }
                position.seq = seq;
                self.entries += 1;
                self.entry(entry);
                Ok(())
            }
            Event::CaughtUp(state) => {
                let at = self.disk.position.map(|at| at.seq);
                same("I6: where the device is at CaughtUp", &at, &Some(state.seq))
            }
            Event::Snapshot(snapshot) => self.snapshot(model, &snapshot),
            Event::Large(event) => self.large(*event),
            _ => Ok(()),
        }
    }

    fn snapshot(&mut self, model: &Model, snapshot: &Snapshot) -> Result<(), Found> {
        // Every conversation once.
        let ids: BTreeSet<_> = snapshot.conversations.iter().map(|c| &c.conversation_id).collect();
        same("I10: conversations of the snapshot", &ids.len(), &snapshot.conversations.len())?;
        same("I10: epoch of the snapshot", &snapshot.position.epoch, &model.epoch.number())?;
        self.disk.position = Some(snapshot.position);
        self.disk.rows.clear();
        self.disk.from.clear();
        for conversation in &snapshot.conversations {
            let id = conversation.conversation_id.clone();
            self.disk.from.insert(id, conversation.visible_last_seq);
        }
        self.disk.large.clear();
        for cursor in &snapshot.large {
            let id = cursor.conversation_id.clone();
            let from = self.disk.from.entry(id.clone()).or_default();
            *from = (*from).max(cursor.history_seq);
            self.disk.large.insert(id, cursor.clone());
        }
        Ok(())
    }

    fn large(&mut self, event: LargeEvent) -> Result<(), Found> {
        let LargeEvent { cursor, news } = event;
        let id = cursor.conversation_id.clone();
        let before = self.disk.large.get(&id).map_or(0, |cursor| cursor.history_seq);
        match news {
            LargeNews::Begins => {
                // What was before is in the history, and was not given.
                let from = self.disk.from.entry(id.clone()).or_default();
                if !self.disk.rows.contains_key(&id) && *from == 0 {
                    *from = cursor.history_seq;
                }
            }
            LargeNews::Message(message) => {
                if message.history_seq <= before {
                    let seq = message.history_seq;
                    return Err(format!("I6: {id} {seq} came after {before}"));
                }
                self.put(message);
            }
            LargeNews::Changed(message) => self.put(message),
            LargeNews::Version => {}
            LargeNews::Ends => {
                self.disk.large.remove(&id);
                return Ok(());
            }
        }
        self.disk.large.insert(id, cursor);
        Ok(())
    }

    fn put(&mut self, message: proto::Message) {
        let rows = self.disk.rows.entry(message.conversation_id.clone()).or_default();
        rows.insert(message.history_seq, message);
    }

    fn blank(&mut self, id: &str, row: u64, state: MessageState) {
        if let Some(message) = self.disk.rows.get_mut(id).and_then(|rows| rows.get_mut(&row))
            && message.state() != MessageState::Hidden
        {
            message.set_state(state);
            message.content.clear();
        }
    }

    fn entry(&mut self, entry: proto::Entry) {
        match entry.kind {
            Some(Kind::Message(message)) => self.put(message),
            Some(Kind::Edited(edited)) => {
                if let Some(message) = edited.message {
                    self.put(message);
                }
            }
            Some(Kind::Recalled(it)) => {
                self.blank(&it.conversation_id, it.history_seq, MessageState::Recalled);
            }
            Some(Kind::Deleted(it)) => {
                self.blank(&it.conversation_id, it.history_seq, MessageState::Deleted);
            }
            Some(Kind::Hidden(it)) => {
                for seq in it.history_seqs {
                    self.blank(&it.conversation_id, seq, MessageState::Hidden);
                }
            }
            Some(Kind::Cleared(it)) => {
                if let Some(rows) = self.disk.rows.get_mut(&it.conversation_id) {
                    rows.retain(|row, _| *row > it.cleared_to_seq);
                }
            }
            _ => {}
        }
    }

    /// Looks at the answers that have come. Whatever was acked is in the durable model.
    pub fn take_answers(&mut self, durable: &Model) -> Result<(), Found> {
        let Some(app) = &mut self.app else { return Ok(()) };
        let mut acks = Vec::new();
        app.answers.retain_mut(|(sends, answer)| match answer.try_recv() {
            Ok(Ok(server_frame::Body::SendAck(ack))) if *sends => {
                acks.push(ack);
                false
            }
            Ok(_) | Err(tokio::sync::oneshot::error::TryRecvError::Closed) => false,
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => true,
        });
        for ack in acks {
            self.acked_sends += 1;
            let id = ConversationId::new(&ack.conversation_id).map_err(|e| e.to_string())?;
            let row = durable.talks.get(&id).and_then(|t| t.rows.get(ack.history_seq as usize - 1));
            let there = row.is_some_and(|row| {
                row.id.number() == ack.message_id
                    && row.sender == self.user
                    && row.device == self.device
            });
            if !there {
                return Err(format!("I1: {ack:?} is not in the history: {row:?}"));
            }
        }
        Ok(())
    }

    /// Everything is well again: the device has what it should.
    pub fn settled(&self, model: &Model) -> Result<(), Found> {
        let Some(app) = &self.app else { return Ok(()) };
        let who = format!("{} {}", self.user, self.device);
        let status = app.client.status();
        if !app.client.is_connected() || !app.answers.is_empty() || status.large_behind > 0 {
            return Err(format!("I11: {who} is not up to date: {status:?}"));
        }
        let at = self.disk.position.map_or(0, |at| at.seq);
        same(&format!("I11: where {who} is"), &at, &model.head(&self.user).number())?;
        let empty = BTreeMap::new();
        for (id, talk) in &model.talks {
            let Some(place) = talk.places.get(&self.user) else { continue };
            let rows = self.disk.rows.get(id.as_str()).unwrap_or(&empty);
            let from = self.disk.from.get(id.as_str()).copied().unwrap_or(0);
            for row in (1..=talk.head()).filter(|row| place.sees(*row)) {
                let Some(copy) = rows.get(&row) else {
                    if row > from && talk.written_for[row as usize - 1].contains(&self.user) {
                        return Err(format!(
                            "I8: {id} {row} never came to {who}: large {}, stays {:?}, from {from}, \
                             cursor {:?}, has {:?}",
                            talk.large,
                            place.stays,
                            self.disk.large.get(id.as_str()),
                            rows.keys()
                        ));
                    }
                    continue;
                };
                let mut changes = talk.mutations.iter().filter(|change| change.row == row);
                let member = talk.members.contains_key(&self.user);
                if member && changes.all(|change| change.for_whom.contains(&self.user)) {
                    let shown = shown(model, &self.user, id, row)?;
                    let what = format!("I8: {id} {row} on {who}");
                    same(&what, &of(copy), &of(&shown))?;
                }
            }
        }
        Ok(())
    }
}

/// What matters of a message on a device.
fn of(message: &proto::Message) -> (MessageState, &str, &[u8], u64) {
    let kept = message.state() == MessageState::Normal;
    let content_type = if kept { message.content_type.as_str() } else { "" };
    (message.state(), content_type, &message.content, message.message_id)
}

/// A message of the model as it would come.
fn shown(
    model: &Model,
    user: &UserId,
    id: &ConversationId,
    row: u64,
) -> Result<proto::Message, Found> {
    let page = Reply::HistoryPage {
        messages: vec![model.show(user, id, row)],
        visible_first: HistorySeq::new(1),
        visible_last: HistorySeq::new(row),
        mutation: MutationSeq::new(0),
        complete: true,
    };
    let mut bytes = BytesMut::new();
    wire::encode_server(1, &page, &mut bytes);
    let frame = FrameDecoder::new(1 << 20).next_frame(&mut bytes).map_err(|e| e.to_string())?;
    let frame = wire::decode_server(frame.unwrap_or_default()).map_err(|e| e.to_string())?;
    match frame.body {
        Some(server_frame::Body::HistoryPage(page)) => {
            page.messages.into_iter().next().ok_or_else(|| "an empty page".into())
        }
        other => Err(format!("{other:?}")),
    }
}
