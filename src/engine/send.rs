//! Sending: one history row, one pointer in every member's inbox (none in a large group), one memory
//! of the retry; all in one commit.

use std::sync::Arc;

use super::{
    Answer, Caller, Engine, Now, Stop,
    command::Tip,
    gate::Right,
    not_found,
    open::{self, Open},
    refuse,
};
use crate::{
    conversation::{Conversation, Member, Membership},
    history,
    id::{ClientMessageId, ConversationId, MessageId, UserId},
    inbox,
    message::{ConversationKind, Draft, Entry, EntryKind, HistoryPolicy, Message, Role},
    planted::{self, Bug},
    refusal::ErrorCode,
    reply::Reply,
    request::Destination,
    sent::{self, Known, Remembered, Sent},
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, Condition, StoreError, Writer,
        catalogue::{LogKey, MESSAGE_IDS, Table, conversation_key, membership_key},
        codec::{put_varint, read_varint},
    },
};

/// Message ids are reserved in blocks, so that a crash costs numbers and never repeats one.
const ID_BLOCK: u64 = 1 << 16;

/// Ids below this are taken.
pub(super) fn stored_ids(writer: &Writer) -> Result<u64, StoreError> {
    match writer.row(Table::Counter, MESSAGE_IDS)? {
        None => Ok(1),
        Some(mut row) => Ok(read_varint(&mut row)?),
    }
}

impl Engine {
    pub(super) fn send(
        &mut self,
        now: Now,
        caller: &Caller,
        to: &Destination,
        client_id: ClientMessageId,
        draft: &Draft,
    ) -> Result<Answer, Stop> {
        let conversation = match to {
            Destination::Conversation(id) => id.clone(),
            Destination::Peer(peer) => ConversationId::direct(&caller.user, peer),
        };
        let payload_hash = sent::payload_hash(&conversation, draft);
        let out_of_order = match self.known(caller, client_id, payload_hash)? {
            Ok(out_of_order) => out_of_order,
            Err(sent) => return Ok(Answer::Reply(send_ack(&sent, true))),
        };
        if draft.content.len() > self.limits.content_bytes {
            return Err(self.content_too_large(draft.content.len()));
        }
        // Row and log; message, pointers, memory of the retry and own row, and now and then one more.
        let mut commit = Commit::with_room(2, 5);
        let mut fresh = false;
        let (open, tip) = match self.cache.open(&self.writer, &conversation)? {
            Some(open) => {
                self.permit(caller, Right::Write(&conversation))?;
                commit.require(open.unchanged(&conversation));
                (open, self.cache.tip(&self.writer, &conversation)?)
            }
            None => match to {
                Destination::Conversation(_) => return Err(not_found()),
                Destination::Peer(peer) => {
                    fresh = true;
                    self.start_direct(now, caller, peer, &conversation, &mut commit)?
                }
            },
        };
        if draft.reply_to > tip.head {
            return Err(refuse(ErrorCode::InvalidArgument, "reply_to_seq is not a message yet"));
        }

        let seq = tip.head.next();
        let ordinal = tip.ordinal + u64::from(!draft.flags.uncounted);
        let message = Message {
            id: MessageId::new(self.take_id(&mut commit)),
            sender: caller.user.clone(),
            device: caller.device.clone(),
            client_id,
            time: now.wall,
            ordinal,
            draft: draft.clone(),
        };
        let sent = Sent {
            client_id,
            payload_hash,
            time: now.wall,
            conversation: conversation.clone(),
            seq,
            id: message.id,
            inbox_seq: match open.row.large {
                true => InboxSeq::ZERO,
                false => match open.inbox(&caller.user) {
                    Some(inbox) => InboxSeq::new(self.writer.bounds(inbox)?.last).next(),
                    None => self.next_inbox_seq(&caller.user)?,
                },
            },
        };
        commit.require(Condition::Head(open.history.clone(), tip.head.number()));
        commit.append(open.history.clone(), history::encode(&message));
        // Of a large conversation there are no inboxes here: the history is what is read.
        let pointer = EntryKind::Message { conversation: conversation.clone(), seq };
        let mut inboxes = Arc::clone(&open.inboxes);
        if planted::is(Bug::HalfFanOut) {
            inboxes = inboxes.iter().take(inboxes.len().div_ceil(2)).cloned().collect();
        }
        if planted::is(Bug::LargeFanOut) {
            inboxes = open.members.iter().map(|(user, _)| LogKey::inbox(user)).collect();
        }
        commit.append_each(inboxes, inbox::encode(&Entry { time: now.wall, kind: pointer }));
        let ack = send_ack(&sent, false);
        self.remember(now, caller, &sent.into(), out_of_order, &mut commit)?;
        self.note_mentions(now, &conversation, &open, seq, &message, &mut commit)?;
        // A sender has read what it writes, and its devices know that from the message itself.
        let own = open::membership(&self.writer, &caller.user, &conversation)?;
        let mut own = own.unwrap_or_else(|| self.first_membership(now));
        own.mark_read(seq, ordinal);
        own.announced_seq = own.read_seq;
        self.forget_mentions(&caller.user, &conversation, &mut own, &mut commit)?;
        commit.put(Table::Membership, membership_key(&caller.user, &conversation), own.encode());
        self.push_message(now, &caller.user, &conversation, &open, seq, draft, &mut commit)?;

        self.writer.stage(&commit)?;
        if fresh {
            open.members.iter().for_each(|(user, _)| self.cache.has_one_more(user));
        }
        self.cache.set_tip(&conversation, Tip { head: seq, ordinal, time: now.wall, ..tip });
        if !open.row.large && !planted::is(Bug::GrowthNotTold) {
            self.effects.inboxes.extend(open.members.iter().map(|(user, _)| user.clone()));
        }
        self.cache.insert_new(&conversation, open);
        self.push_read(now, &caller.user, &conversation, seq)?;
        Ok(Answer::Reply(ack))
    }

    pub(super) fn content_too_large(&self, bytes: usize) -> Stop {
        let most = self.limits.content_bytes;
        refuse(
            ErrorCode::ContentTooLarge,
            format!("content has {bytes} bytes, at most {most} are taken"),
        )
    }

    /// Whether a client id was accepted before: `Err` holds what was answered then, `Ok` says
    /// whether the id comes out of order.
    pub(super) fn known(
        &self,
        caller: &Caller,
        client_id: ClientMessageId,
        payload_hash: u64,
    ) -> Result<Result<bool, Sent>, Stop> {
        match sent::look_up(&self.writer, &caller.user, &caller.device, client_id)? {
            Known::New => Ok(Ok(false)),
            Known::NewOutOfOrder => Ok(Ok(true)),
            Known::Accepted(_) if planted::is(Bug::RetryMakesTwo) => Ok(Ok(true)),
            Known::Accepted(sent)
                if sent.payload_hash == payload_hash || planted::is(Bug::PayloadIgnored) =>
            {
                Ok(Err(sent))
            }
            Known::Accepted(_) | Known::Notice(_) => Err(refuse(
                ErrorCode::IdempotencyConflict,
                "this client id was used for something else",
            )),
            Known::UsedUp => Err(refuse(ErrorCode::Gone, "this client id was cancelled")),
            Known::Stale => Err(stale()),
        }
    }

    /// Adds what is to be remembered to the device's log, and forgets what is past the window.
    pub(super) fn remember(
        &self,
        now: Now,
        caller: &Caller,
        what: &Remembered,
        out_of_order: bool,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        sent::remember(commit, &caller.user, &caller.device, what, out_of_order);
        let log = LogKey::sent(&caller.user, &caller.device);
        let bounds = self.writer.bounds(&log)?;
        let window = self.limits.idempotency_window;
        if let Some(first) =
            sent::trim_to(&self.writer, &log, bounds, self.clock.ages(now), window)?
        {
            commit.trim(log, first);
        }
        Ok(())
    }

    pub(super) fn next_inbox_seq(&self, user: &UserId) -> Result<InboxSeq, StoreError> {
        Ok(InboxSeq::new(self.writer.bounds(&LogKey::inbox(user))?.last).next())
    }

    pub(super) fn take_id(&mut self, commit: &mut Commit) -> u64 {
        if self.next_id >= self.reserved_ids {
            self.reserved_ids = self.next_id + ID_BLOCK;
            let mut row = bytes::BytesMut::new();
            put_varint(&mut row, self.reserved_ids);
            commit.put(Table::Counter, bytes::Bytes::from_static(MESSAGE_IDS), row.freeze());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// The rows of a direct conversation that its first message makes.
    fn start_direct(
        &mut self,
        now: Now,
        caller: &Caller,
        peer: &UserId,
        id: &ConversationId,
        commit: &mut Commit,
    ) -> Result<(Arc<Open>, Tip), Stop> {
        let mut users = vec![caller.user.clone(), peer.clone()];
        users.dedup();
        for user in &users {
            if self.has_too_many_conversations(user)? {
                return Err(refuse(ErrorCode::Forbidden, "no more conversations can be started"));
            }
        }
        let member =
            Member { role: Role::Member, joined_seq: HistorySeq::new(1), joined: now.wall };
        let row = Conversation {
            version: 1,
            kind: ConversationKind::Direct,
            title: "".into(),
            created: now.wall,
            creator: caller.user.clone(),
            policy: HistoryPolicy::SinceJoin,
            member_count: users.len() as u32,
            large: false,
            disbanded: false,
        };
        let stored = row.encode();
        let key = conversation_key(id);
        commit.require(Condition::Row(Table::Conversation, key.clone(), None));
        commit.put(Table::Conversation, key, stored.clone());
        for user in &users {
            open::put_member(commit, id, user, member, &self.first_membership(now));
        }
        let mut open = Open {
            row,
            stored,
            members: Vec::new(),
            inboxes: Arc::new([]),
            history: LogKey::history(id),
        };
        open.set_members(users.into_iter().map(|user| (user, member)).collect());
        Ok((Arc::new(open), Tip::new(now.wall)))
    }

    pub(super) fn first_membership(&self, now: Now) -> Membership {
        let policy = HistoryPolicy::SinceJoin;
        Membership::join(Role::Member, policy, HistorySeq::ZERO, 0, now.wall)
    }

    pub(super) fn has_too_many_conversations(&mut self, user: &UserId) -> Result<bool, StoreError> {
        let count = self.cache.conversations_of(&self.writer, user)?;
        Ok(count >= self.limits.conversations_per_user)
    }
}

pub(super) fn stale() -> Stop {
    refuse(ErrorCode::Stale, "this client id is older than what is remembered; nothing was done")
}

fn send_ack(sent: &Sent, duplicate: bool) -> Reply {
    Reply::SendAck {
        id: sent.id,
        conversation: sent.conversation.clone(),
        seq: sent.seq,
        inbox_seq: sent.inbox_seq,
        time: sent.time,
        duplicate,
    }
}
