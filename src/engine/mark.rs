//! Read markers. The marker is durable at once; the entry that tells the user's other devices is
//! held back so that there is at most one per conversation in two seconds, and reading cannot push
//! messages out of the inbox.

use std::{collections::VecDeque, time::Instant};

use hashbrown::HashMap;

use super::{Answer, Caller, Engine, Now, Stop, not_found, open};
use crate::{
    conversation::Membership,
    history,
    id::{ConversationId, UserId},
    inbox,
    limits::READ_ENTRY_INTERVAL,
    message::{Entry, EntryKind},
    reply::Reply,
    seq::HistorySeq,
    store::{
        Commit, StoreError,
        catalogue::{LogKey, Table, membership_key, second_id, user_prefix},
    },
};

/// When the READ entry of a (user, conversation) may next be written, and whether one is waiting.
#[derive(Debug, Default)]
pub(super) struct ReadEntries {
    /// Those for whom a silence has begun, and whether an entry waits for its end.
    silent: HashMap<(UserId, ConversationId), bool>,
    /// The same, in the order in which the silences end (all are equally long).
    order: VecDeque<(Instant, (UserId, ConversationId))>,
}

impl ReadEntries {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Everything that waits may be written now.
    pub(super) fn hurry(&mut self, now: Instant) {
        for (until, _) in &mut self.order {
            *until = (*until).min(now);
        }
    }

    /// No entry for a while: one was just written.
    fn quiet(&mut self, now: Instant, user: UserId, id: ConversationId) {
        let until = now + READ_ENTRY_INTERVAL;
        self.order.push_back((until, (user.clone(), id.clone())));
        self.silent.insert((user, id), false);
    }

    /// Those whose time has come and that are waiting for it, longest first.
    fn take_due(&mut self, now: Instant) -> Vec<(UserId, ConversationId)> {
        let mut due = Vec::new();
        while let Some((_, key)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            if self.silent.remove(&key) == Some(true) {
                due.push(key);
            }
        }
        due
    }
}

impl Engine {
    pub(super) fn mark_read(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        wanted: HistorySeq,
        _peer_visible: bool,
    ) -> Result<Answer, Stop> {
        let mut own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
        let tip = self.cache.tip(&self.writer, id)?;
        let seq = wanted.min(own.hull(tip.head).last);
        if seq > own.read_seq {
            let ordinal = if seq == tip.head { tip.ordinal } else { self.ordinal_at(id, seq)? };
            own.mark_read(seq, ordinal);
            let key = (caller.user.clone(), id.clone());
            match self.read_entries.silent.get_mut(&key) {
                Some(waiting) => {
                    *waiting = true;
                    self.write_membership(&caller.user, id, &own)?;
                }
                None => {
                    self.announce(now, &caller.user, id, own.clone())?;
                }
            }
        }
        Ok(Answer::Reply(Reply::MarkRead {
            read_seq: own.read_seq,
            unread: own.unread(tip.ordinal),
            unread_total: self.unread_of_all(&caller.user)?.0,
        }))
    }

    pub(super) fn mark_unread(
        &mut self,
        _now: Now,
        _caller: &Caller,
        _id: &ConversationId,
    ) -> Result<Answer, Stop> {
        Err(super::off("mark_unread"))
    }

    fn ordinal_at(&self, id: &ConversationId, seq: HistorySeq) -> Result<u64, StoreError> {
        let log = LogKey::history(id);
        // A damaged row does not lose the count: the row before it has it, but for one.
        for at in (1..=seq.number()).rev().take(64) {
            if let Some(entry) = self.writer.entry(&log, at)?
                && let Some(message) = history::parse(entry).1
            {
                return Ok(message.ordinal);
            }
        }
        Ok(0)
    }

    fn write_membership(
        &mut self,
        user: &UserId,
        id: &ConversationId,
        own: &Membership,
    ) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        commit.put(Table::Membership, membership_key(user, id), own.encode());
        self.writer.stage(&commit)
    }

    /// Writes the marker and the entry that tells of it; the next one has to wait.
    fn announce(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        mut own: Membership,
    ) -> Result<(), StoreError> {
        own.announced_seq = own.read_seq;
        let mut commit = Commit::new();
        commit.put(Table::Membership, membership_key(user, id), own.encode());
        let kind = EntryKind::Read {
            conversation: id.clone(),
            read_seq: own.read_seq,
            marked_unread: own.marked_unread,
        };
        commit.append(LogKey::inbox(user), inbox::encode(&Entry { time: now.wall, kind }));
        self.writer.stage(&commit)?;
        self.effects.inboxes.insert(user.clone());
        self.read_entries.quiet(now.mono, user.clone(), id.clone());
        Ok(())
    }

    pub(super) fn write_read_entries(&mut self, now: Now) -> Result<(), StoreError> {
        for (user, id) in self.read_entries.take_due(now.mono) {
            if let Some(own) = open::membership(&self.writer, &user, &id)?
                && own.announced_seq < own.read_seq
            {
                self.announce(now, &user, &id, own)?;
            }
        }
        Ok(())
    }

    /// Makes up for entries that a crash kept from being written.
    pub(super) fn announce_reads(&mut self, now: Now, user: &UserId) -> Result<(), StoreError> {
        let rows = self.writer.rows(Table::Membership, &user_prefix(user), &[], usize::MAX)?;
        for (key, row) in rows {
            let own = Membership::decode(row)?;
            let Some(id) = second_id::<ConversationId>(&key) else { continue };
            if own.announced_seq < own.read_seq
                && !self.read_entries.silent.contains_key(&(user.clone(), id.clone()))
            {
                self.announce(now, user, &id, own)?;
            }
        }
        Ok(())
    }
}
