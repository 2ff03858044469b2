//! What administrators tell, and where the push hook reaches devices.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use roamd::{
    engine::{Caller, Now},
    id::{ClientMessageId, ConversationId, UserId},
    message::{EntryKind, MessageState},
    push::{Job, Kind},
    refusal::ErrorCode,
    reply::NoticeView,
    request::NoticeTo,
    seq::{InboxSeq, NoticeSeq},
};

use super::{Chosen, Model, Outcome, messages::Payload, nothing, refused};
use crate::driver::Found;

impl Model {
    pub(super) fn notice(
        &mut self,
        now: Now,
        caller: &Caller,
        to: &NoticeTo,
        client_id: ClientMessageId,
        (content_type, content): (Arc<str>, Bytes),
        chosen: &Chosen,
    ) -> Outcome {
        if !caller.admin {
            return refused(ErrorCode::ForbiddenScope);
        }
        let payload = Payload::Notice(to.clone(), content_type.clone(), content.clone());
        if let Some(outcome) = self.accepted_before(caller, client_id, &payload, chosen) {
            return outcome;
        }
        if content.len() > self.limits.content_bytes {
            return refused(ErrorCode::ContentTooLarge);
        }
        let users: BTreeSet<UserId> = match to {
            NoticeTo::User(user) => BTreeSet::from([user.clone()]),
            NoticeTo::Conversation(id) => match self.talks.get(id) {
                Some(talk) => talk.members.keys().cloned().collect(),
                None => return refused(ErrorCode::NotFound),
            },
            NoticeTo::Everyone => self.devices.keys().map(|device| device.0.clone()).collect(),
        };
        let notice = NoticeSeq::new(self.notices.len() as u64 + 1);
        let conversation = match to {
            NoticeTo::Conversation(id) => Some(id.clone()),
            _ => None,
        };
        self.notices.push(NoticeView { notice, content_type, content, conversation });
        for user in &users {
            self.deliver(now, user, EntryKind::Notice { notice });
        }
        let own = users.contains(&caller.user);
        let inbox_seq = if own { self.head(&caller.user) } else { InboxSeq::ZERO };
        let reply = roamd::reply::Reply::Done { inbox_seq };
        self.accept(now, caller, client_id, payload, reply)
    }

    pub(super) fn register_push(
        &mut self,
        caller: &Caller,
        provider: &Arc<str>,
        token: &Arc<str>,
    ) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        if token.is_empty() {
            self.push_targets.remove(&device);
        } else {
            self.push_targets.insert(device, (provider.clone(), token.clone()));
        }
        nothing()
    }

    /// The token of a device reaches nobody.
    pub fn push_rejected(&mut self, job: &Job) {
        let device = (job.place.user.clone(), job.place.device.clone());
        let target = (job.provider.clone(), job.token.clone());
        if self.push_targets.get(&device) == Some(&target) {
            self.push_targets.remove(&device);
        }
    }

    /// Whether a job tells the truth, to whom it may be told.
    pub fn check_job(&self, job: &Job) -> Result<(), Found> {
        let (user, id, row) = (&job.place.user, &job.place.conversation, job.seq.number());
        let device = (user.clone(), job.place.device.clone());
        let wrong = |what: &str| Err(format!("{what}: {job:?}"));
        if self.push_targets.get(&device) != Some(&(job.provider.clone(), job.token.clone())) {
            return wrong("a job for a device that is not registered so");
        }
        if (job.badge, job.position) != (self.unread_total(user), self.head(user)) {
            return wrong(&format!("the badge is {}", self.unread_total(user)));
        }
        let Some(place) = self.talks.get(id).and_then(|talk| talk.places.get(user)) else {
            return wrong("a job about a foreign conversation");
        };
        if job.kind != Kind::Message {
            return match job.message {
                None => Ok(()),
                Some(_) => wrong("what is taken back is told"),
            };
        }
        if self.sessions.online.get(&device).is_some_and(|online| !online.background) {
            return wrong("a job for a device in the foreground");
        }
        if place.preferences.muted || place.read.contains(&row) {
            return wrong("a job about what is muted or read");
        }
        let shown = self.show(user, id, row);
        let Some(message) = shown.message.filter(|_| shown.state == MessageState::Normal) else {
            return wrong("a job about a message that is gone");
        };
        let flags = message.draft.flags;
        if !place.sees(row) || message.sender == *user || flags.no_push || flags.uncounted {
            return wrong("a job about a message that nobody is to be told of");
        }
        if self.cursor_of(&device) >= self.entry_of(user, id, row) {
            return wrong("a job about a message that the device has stored");
        }
        let Some(told) = &job.message else { return wrong("a job about nothing") };
        let content = (message.draft.content_type, message.draft.content);
        if told.sender != message.sender
            || told.content.as_ref().is_some_and(|told| *told != content)
        {
            return wrong("a job that tells something else");
        }
        Ok(())
    }

    fn cursor_of(&self, device: &(UserId, roamd::id::DeviceId)) -> u64 {
        let stored = self.devices.get(device).map_or(0, |row| row.cursor);
        stored.max(self.cursors.get(device).copied().unwrap_or(0))
    }

    /// The place of a message in an inbox; beyond all when it has none.
    fn entry_of(&self, user: &UserId, id: &ConversationId, row: u64) -> u64 {
        let seq = roamd::seq::HistorySeq::new(row);
        let wanted = EntryKind::Message { conversation: id.clone(), seq };
        let entries = self.inboxes.get(user).into_iter().flat_map(|inbox| &inbox.entries);
        let mut numbered = (1..).zip(entries);
        numbered.find(|(_, (_, kind))| *kind == wanted).map_or(u64::MAX, |(number, _)| number)
    }
}
