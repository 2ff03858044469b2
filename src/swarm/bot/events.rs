//! What comes to a bot, and is checked.

use std::time::Duration;

use super::Bot;
use crate::{
    client::{Client, ClientError, Event, LargeEvent, LargeNews, Page, Position, Snapshot},
    limits::HISTORY_PAGE_MAX,
    swarm::{
        check::{Broken, Way},
        tally::{Span, more},
    },
    wire::proto::{self, entry::Kind},
};
use std::sync::atomic::Ordering::Relaxed;

/// The pause before a history is asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a page of a history is asked for.
const TRIES_MAX: usize = 100;

impl Bot {
    /// Takes events, in order.
    pub(super) async fn take(&mut self, client: &Option<Client>, events: &mut Vec<Event>) {
        self.shared.tally.counters.progress.fetch_add(events.len() as u64, Relaxed);
        for event in events.drain(..) {
            match event {
                Event::Connected(welcome) => {
                    self.epoch = welcome.epoch;
                    self.sessions += 1;
                    if self.sessions > 1 {
                        more(&self.shared.tally.counters.reconnects);
                    }
                }
                Event::Entry { seq, entry } => self.entry(seq, entry),
                Event::Large(event) => self.large(*event),
                Event::CaughtUp(_) => self.caught_up(),
                Event::Snapshot(snapshot) => self.snapshot(client, snapshot).await,
                Event::Disconnected { error, .. } => self.lost(&error),
                Event::Presence(_) | Event::Ephemeral(_) | Event::Unread(_) => {}
            }
        }
        if events.capacity() > 64 {
            *events = Vec::new();
        }
    }

    fn entry(&mut self, seq: u64, entry: proto::Entry) {
        if let Err(violation) = self.mirror.entry(seq) {
            self.shared.tally.violated(violation);
        }
        self.position = Some(Position { epoch: self.epoch, seq });
        match entry.kind {
            Some(Kind::Message(message)) => self.message(&message, Way::Stream),
            Some(Kind::Recalled(_) | Kind::Deleted(_)) => self.changed("a message was taken back"),
            Some(Kind::Edited(_)) => self.changed("a message was edited"),
            Some(Kind::Hidden(_) | Kind::Cleared(_)) => self.changed("a message was hidden"),
            Some(Kind::Hole(_)) => self.changed("an entry is damaged"),
            _ => {}
        }
    }

    fn changed(&self, what: &str) {
        self.shared.tally.broken(self.bot, None, Broken::Changed { what: what.into() });
    }

    fn message(&mut self, message: &proto::Message, way: Way) {
        let shared = &self.shared;
        let known = (shared.run, shared.issued.load(Relaxed));
        let tag = match self.mirror.message(&shared.world, known, message, way) {
            Ok(Some(tag)) => tag,
            Ok(None) => return,
            Err(violation) => return shared.tally.violated(violation),
        };
        // The device that sent it has it from the ack.
        if tag.bot == self.bot {
            return;
        }
        let counters = &shared.tally.counters;
        if way == Way::Stream && self.live_since.is_some_and(|since| since <= tag.due_us) {
            more(&counters.delivered);
            shared.tally.took(Span::SendToDelivery, tag.due_us);
            shared.tally.count("deliveries", tag.due_us, 1);
        } else {
            more(&counters.delivered_later);
            shared.tally.count("deliveries to devices that had been away", tag.due_us, 1);
        }
    }

    fn large(&mut self, event: LargeEvent) {
        let LargeEvent { cursor, news } = event;
        let place = self.cursors.iter().position(|it| it.conversation_id == cursor.conversation_id);
        match (place, &news) {
            (Some(place), LargeNews::Ends) => drop(self.cursors.swap_remove(place)),
            (None, LargeNews::Ends) => {}
            (Some(place), _) => self.cursors[place] = cursor,
            (None, _) => self.cursors.push(cursor),
        }
        match news {
            LargeNews::Message(message) => self.message(&message, Way::Stream),
            // It may be told once more as it was; that it is another one, nobody has asked for.
            LargeNews::Changed(message) if message.revision > 0 || message.content.is_empty() => {
                self.changed("a message was changed");
            }
            LargeNews::Changed(_) | LargeNews::Begins | LargeNews::Ends | LargeNews::Version => {}
        }
    }

    fn caught_up(&mut self) {
        let tally = &self.shared.tally;
        let now_us = tally.now_us();
        if self.live_since.is_none() {
            self.live_since = Some(now_us);
            more(&tally.counters.live);
        }
        let hello_us = self.probe.hello_us.swap(0, Relaxed);
        if hello_us > 0 {
            tally.took(Span::ConnectToCaughtUp, hello_us);
        }
        if let Some(lost_at) = self.lost_at.take() {
            tally.took(Span::LostToCaughtUp, lost_at);
        }
        self.opening = None;
        tally.changed.notify_one();
    }

    fn lost(&mut self, error: &ClientError) {
        self.not_live();
        let tally = &self.shared.tally;
        if self.lost_at.is_some() || self.sessions == 0 {
            more(&tally.counters.attempts_failed);
        }
        if self.lost_at.is_none() && self.sessions > 0 {
            self.lost_at = Some(tally.now_us());
            more(&tally.counters.lost);
        }
        if matches!(
            error,
            ClientError::Stream(_)
                | ClientError::Frame(_)
                | ClientError::Malformed(_)
                | ClientError::UnexpectedReply(_)
        ) {
            tally.broken(self.bot, None, Broken::Protocol { why: error.to_string() });
        }
    }

    /// Starts over from a snapshot: what it lacks is in the histories.
    async fn snapshot(&mut self, client: &Option<Client>, snapshot: Snapshot) {
        use proto::TooLongReason::{Ahead, Epoch};
        if matches!(snapshot.reason, Epoch | Ahead) {
            let why = "the daemon has other data than it had, or less".to_owned();
            self.shared.tally.broken(self.bot, None, Broken::Protocol { why });
        }
        if self.position.is_some() {
            more(&self.shared.tally.counters.snapshots);
        }
        self.position = Some(snapshot.position);
        self.epoch = snapshot.position.epoch;
        self.mirror.adopt(snapshot.position.seq);
        let Some(client) = client else { return };
        for conversation in &snapshot.conversations {
            let id = conversation.conversation_id.as_str();
            let cursor = snapshot.large.iter().find(|cursor| cursor.conversation_id == id);
            let until = cursor.map_or(conversation.visible_last_seq, |cursor| cursor.history_seq);
            self.fetch(client, id, until).await;
        }
        self.cursors = snapshot.large;
    }

    /// Fetches what is missing of a history, up to there and no further.
    async fn fetch(&mut self, client: &Client, id: &str, until: u64) {
        let Some(talk) = self.shared.world.talk(id) else { return };
        let mut tries = 0;
        loop {
            let last = self.mirror.last(&self.shared.world, talk);
            if last >= until {
                return;
            }
            let limit = u32::try_from(until - last).unwrap_or(u32::MAX).min(HISTORY_PAGE_MAX);
            let page = match client.history(id, Page::Newer(last), limit).await {
                Ok(page) if !page.messages.is_empty() => page,
                Ok(_) => {
                    let broken = Broken::Missing { last, acked: until };
                    return self.shared.tally.broken(self.bot, Some(talk), broken);
                }
                Err(error) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(error.retry_after().max(PAUSE)).await;
                    continue;
                }
                Err(error) => return self.refused(format!("no page of a history: {error}")),
            };
            for message in &page.messages {
                more(&self.shared.tally.counters.fetched);
                self.message(message, Way::History);
            }
            if self.mirror.last(&self.shared.world, talk) == last {
                return;
            }
        }
    }
}
