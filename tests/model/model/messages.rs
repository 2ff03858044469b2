//! Messages go in, and what was sent under a number stays what it is.

use std::sync::Arc;

use bytes::Bytes;
use roamd::{
    engine::{Caller, Now},
    id::{ClientMessageId, ConversationId},
    message::{ConversationKind, Draft, EntryKind, HistoryPolicy, Message, Role},
    refusal::ErrorCode,
    reply::Reply,
    request::{Destination, NoticeTo},
    seq::HistorySeq,
    time::Timestamp,
};

use super::{Chosen, Model, Outcome, members::Creation, nothing, refused};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    Message(ConversationId, Draft),
    Group(Creation),
    Notice(NoticeTo, Arc<str>, Bytes),
    /// The number is used up.
    Cancelled,
}

/// A request that was accepted under a number of its device.
#[derive(Clone, Debug)]
pub struct Accepted {
    payload: Payload,
    reply: Reply,
    time: Timestamp,
}

impl Model {
    pub(super) fn send(
        &mut self,
        now: Now,
        caller: &Caller,
        to: &Destination,
        client_id: ClientMessageId,
        draft: &Draft,
        chosen: &Chosen,
    ) -> Outcome {
        let id = match to {
            Destination::Conversation(id) => id.clone(),
            Destination::Peer(peer) => ConversationId::direct(&caller.user, peer),
        };
        let payload = Payload::Message(id.clone(), draft.clone());
        if let Some(outcome) = self.accepted_before(caller, client_id, &payload, chosen) {
            return outcome;
        }
        if draft.content.len() > self.limits.content_bytes {
            return refused(ErrorCode::ContentTooLarge);
        }
        let mut talk = match (self.talks.get(&id), to) {
            (Some(talk), _) if talk.members.contains_key(&caller.user) => talk.clone(),
            (None, Destination::Peer(peer)) => {
                if self.is_full(&caller.user) || self.is_full(peer) {
                    return refused(ErrorCode::Forbidden);
                }
                let mut talk = self.empty(ConversationKind::Direct, "", HistoryPolicy::SinceJoin);
                talk.created = now.wall;
                talk.join(&caller.user, Role::Member, now);
                talk.join(peer, Role::Member, now);
                talk
            }
            _ => return refused(ErrorCode::NotFound),
        };
        if talk.disbanded {
            return refused(ErrorCode::Gone);
        }
        if draft.reply_to.number() > talk.head() {
            return refused(ErrorCode::InvalidArgument);
        }
        let Some(message_id) = chosen.message else { return refused(ErrorCode::Unauthenticated) };
        assert!(self.message_ids.insert(message_id), "message id {message_id} was given before");
        let seq = talk.head() + 1;
        let before = talk.rows.iter().filter(|row| !row.draft.flags.uncounted).count() as u64;
        talk.rows.push(Message {
            id: message_id,
            sender: caller.user.clone(),
            device: caller.device.clone(),
            client_id,
            time: now.wall,
            ordinal: before + u64::from(!draft.flags.uncounted),
            draft: draft.clone(),
        });
        talk.written_for.push(talk.everybody());
        if let Some(place) = talk.places.get_mut(&caller.user) {
            // A sender has read what it writes; the message itself says so to its devices.
            place.read_up_to(seq);
            place.told = seq;
        }
        let pointer = EntryKind::Message { conversation: id.clone(), seq: HistorySeq::new(seq) };
        let large = talk.large;
        let members: Vec<_> = talk.members.keys().cloned().collect();
        self.talks.insert(id.clone(), talk);
        let mut inbox_seq = roamd::seq::InboxSeq::ZERO;
        if !large {
            for user in &members {
                self.deliver(now, user, pointer.clone());
            }
            inbox_seq = self.head(&caller.user);
        }
        let seq = HistorySeq::new(seq);
        let reply = Reply::SendAck {
            id: message_id,
            conversation: id,
            seq,
            inbox_seq,
            time: now.wall,
            duplicate: false,
        };
        self.accept(now, caller, client_id, payload, reply)
    }

    /// Makes sure that what was or was not sent under this number is not there.
    pub(super) fn cancel(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        chosen: &Chosen,
    ) -> Outcome {
        match self.remembered(caller, client_id, chosen) {
            Err(outcome) => outcome,
            Ok(None) => {
                let Outcome::Reply(reply) = nothing() else { unreachable!() };
                self.accept(now, caller, client_id, Payload::Cancelled, reply);
                nothing()
            }
            Ok(Some(Accepted { payload: Payload::Cancelled, .. })) => nothing(),
            Ok(Some(Accepted { payload: Payload::Group(_) | Payload::Notice(..), .. })) => {
                refused(ErrorCode::IdempotencyConflict)
            }
            Ok(Some(Accepted { reply: Reply::SendAck { conversation, seq, .. }, .. })) => {
                self.recall(now, caller, &conversation, seq.number())
            }
            Ok(Some(other)) => unreachable!("{other:?}"),
        }
    }

    /// The answer to an id that was used before.
    pub(super) fn accepted_before(
        &self,
        caller: &Caller,
        client_id: ClientMessageId,
        payload: &Payload,
        chosen: &Chosen,
    ) -> Option<Outcome> {
        match self.remembered(caller, client_id, chosen) {
            Err(outcome) => Some(outcome),
            Ok(None) => None,
            Ok(Some(Accepted { payload: Payload::Cancelled, .. })) => {
                Some(refused(ErrorCode::Gone))
            }
            Ok(Some(known)) if known.payload != *payload => {
                Some(refused(ErrorCode::IdempotencyConflict))
            }
            Ok(Some(known)) => {
                let mut reply = known.reply;
                if let Reply::SendAck { duplicate, .. } | Reply::GroupCreated { duplicate, .. } =
                    &mut reply
                {
                    *duplicate = true;
                }
                Some(Outcome::Reply(reply))
            }
        }
    }

    /// What was accepted under this number, unless the server has forgotten it, and may have.
    fn remembered(
        &self,
        caller: &Caller,
        client_id: ClientMessageId,
        chosen: &Chosen,
    ) -> Result<Option<Accepted>, Outcome> {
        let device = (caller.user.clone(), caller.device.clone());
        let Some(accepted) = self.accepted.get(&device) else { return Ok(None) };
        let old = |known: &Accepted| known.time < self.latest.minus(self.limits.idempotency_window);
        match accepted.get(&client_id.number()) {
            Some(known) if chosen.stale && old(known) => Err(refused(ErrorCode::Stale)),
            Some(known) => Ok(Some(known.clone())),
            // Once something is forgotten, nobody can say of an id below whether it was it.
            None if chosen.stale
                && accepted.values().any(old)
                && accepted.keys().any(|id| *id > client_id.number()) =>
            {
                Err(refused(ErrorCode::Stale))
            }
            None => Ok(None),
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        payload: Payload,
        reply: Reply,
    ) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        let accepted = Accepted { payload, reply: reply.clone(), time: now.wall };
        self.accepted.entry(device).or_default().insert(client_id.number(), accepted);
        Outcome::Reply(reply)
    }

    pub fn last_client_id(&self, caller: &Caller) -> u64 {
        let device = (caller.user.clone(), caller.device.clone());
        let last = self.accepted.get(&device).and_then(|ids| ids.keys().last());
        last.copied().unwrap_or(0)
    }
}
