//! Changes of messages that everybody sees: recall, edit, delete for all; and the feed of them.
//!
//! The history row stays as it was written. A change is one record of the conversation's mutation
//! log, one row that names the message's latest change, and one entry for every member who may see
//! the message; all in one commit, which relies on the end of the mutation log and on the members.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Answer, Caller, Engine, MutationGrant, Now, Stop,
    command::Tip,
    not_found,
    open::{self, Open},
    refuse,
    send::stale,
};
use crate::{
    history::{self, Change, Mutated, Mutation},
    id::{ClientMessageId, ConversationId, UserId},
    inbox,
    limits::EDITS_PER_MESSAGE_MAX,
    message::{Entry, EntryKind, Message, MutationRef, Role},
    planted::{self, Bug},
    refusal::ErrorCode,
    reply::Reply,
    sent::{self, Known, Remembered},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    store::{
        Commit, Condition, StoreError,
        catalogue::{LogKey, Table, mutated_key},
    },
};

/// A message that the caller, a member, sees.
struct Target {
    open: Arc<Open>,
    tip: Tip,
    seq: HistorySeq,
    /// As it was written.
    message: Message,
    /// Its latest change.
    latest: Option<(MutationSeq, Mutation)>,
    role: Role,
}

impl Target {
    fn is_gone(&self) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|(_, latest)| !matches!(latest.change, Change::Edited { .. }))
    }

    /// Revision, content type and content that everybody sees now.
    fn current(&self) -> (u32, &str, &Bytes) {
        match &self.latest {
            Some((
                _,
                Mutation { change: Change::Edited { revision, content_type, content }, .. },
            )) => (*revision, content_type, content),
            _ => (0, &self.message.draft.content_type, &self.message.draft.content),
        }
    }
}

fn done(inbox_seq: InboxSeq) -> Answer {
    Answer::Reply(Reply::Done { inbox_seq })
}

impl Engine {
    pub(super) fn recall(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<Answer, Stop> {
        let target = self.target(caller, id, seq)?;
        let manages = target.role >= Role::Admin;
        if !manages && target.message.sender != caller.user {
            return Err(refuse(ErrorCode::Forbidden, "only its sender may recall a message"));
        }
        if target.is_gone() {
            return Ok(done(InboxSeq::ZERO));
        }
        let until = target.message.time.plus(self.limits.recall_window);
        if !manages && now.wall >= until {
            return Err(refuse(ErrorCode::WindowClosed, "it is too late to recall this message"));
        }
        self.mutate(now, caller, id, &target, Change::Recalled)
    }

    pub(super) fn edit(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        seq: HistorySeq,
        content_type: &Arc<str>,
        content: &Bytes,
        base_revision: Option<u32>,
    ) -> Result<Answer, Stop> {
        let target = self.target(caller, id, seq)?;
        if target.message.sender != caller.user {
            return Err(refuse(ErrorCode::Forbidden, "only its sender may edit a message"));
        }
        if target.is_gone() {
            return Err(refuse(ErrorCode::Gone, "the message was recalled or deleted"));
        }
        let (revision, current_type, current) = target.current();
        // Whoever repeats an edit, because the answer was lost, has what it wants.
        if current_type == &**content_type && current == content {
            return Ok(done(InboxSeq::ZERO));
        }
        if content.len() > self.limits.content_bytes {
            return Err(self.content_too_large(content.len()));
        }
        if now.wall >= target.message.time.plus(self.limits.edit_window) {
            return Err(refuse(ErrorCode::WindowClosed, "it is too late to edit this message"));
        }
        if revision >= EDITS_PER_MESSAGE_MAX {
            return Err(refuse(
                ErrorCode::WindowClosed,
                format!("a message is edited at most {EDITS_PER_MESSAGE_MAX} times"),
            ));
        }
        if base_revision.is_some_and(|base| base != revision) {
            return Err(refuse(ErrorCode::Conflict, format!("the revision is {revision}")));
        }
        let change = Change::Edited {
            revision: revision + 1,
            content_type: Arc::clone(content_type),
            content: content.clone(),
        };
        self.mutate(now, caller, id, &target, change)
    }

    pub(super) fn delete_for_all(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<Answer, Stop> {
        let target = self.target(caller, id, seq)?;
        if target.role < Role::Admin {
            return Err(refuse(
                ErrorCode::Forbidden,
                "only the owner and admins of a group delete for all",
            ));
        }
        if target.is_gone() {
            return Ok(done(InboxSeq::ZERO));
        }
        self.mutate(now, caller, id, &target, Change::Deleted)
    }

    pub(super) fn cancel_send(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
    ) -> Result<Answer, Stop> {
        let known = sent::look_up(&self.writer, &caller.user, &caller.device, client_id)?;
        let out_of_order = match known {
            Known::Notice(_) => return Err(no_message()),
            Known::Accepted(sent) if sent.seq == HistorySeq::ZERO => return Err(no_message()),
            Known::Accepted(sent) => return self.recall(now, caller, &sent.conversation, sent.seq),
            Known::UsedUp => return Ok(done(InboxSeq::ZERO)),
            Known::Stale => return Err(stale()),
            Known::New => false,
            Known::NewOutOfOrder => true,
        };
        let mut commit = Commit::new();
        let what = Remembered::UsedUp { client_id, time: now.wall };
        self.remember(now, caller, &what, out_of_order, &mut commit)?;
        self.writer.stage(&commit)?;
        Ok(done(InboxSeq::ZERO))
    }

    pub(super) fn fetch_mutations(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        after: MutationSeq,
        limit: u32,
    ) -> Result<Answer, Stop> {
        let own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
        let upto = match own.is_member() {
            true => self.cache.tip(&self.writer, id)?.mutation,
            false => own.left_mutation,
        };
        Ok(Answer::Mutations(MutationGrant { conversation: id.clone(), after, upto, limit }))
    }

    pub(super) fn fetch_messages(
        &mut self,
        caller: &Caller,
        refs: &[(ConversationId, HistorySeq)],
    ) -> Result<Answer, Stop> {
        let mut places = Vec::with_capacity(refs.len());
        for (id, seq) in refs {
            let own = open::membership(&self.writer, &caller.user, id)?;
            let there = match own {
                Some(own) if own.sees(*seq) => *seq <= self.cache.tip(&self.writer, id)?.head,
                _ => false,
            };
            places.push(there.then(|| (id.clone(), *seq)));
        }
        Ok(Answer::Messages(places))
    }

    /// The message to be changed. What the caller may not see is not there.
    fn target(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<Target, Stop> {
        let (open, role) = self.as_member(caller, id)?;
        let own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
        let tip = self.cache.tip(&self.writer, id)?;
        if !own.sees(seq) || seq > tip.head {
            return Err(not_found());
        }
        if open.row.disbanded {
            return Err(refuse(ErrorCode::Gone, "the group was disbanded"));
        }
        let damaged = |what: &str| StoreError::Damaged(format!("{what} of {id} {seq}"));
        let row = self.writer.entry(&open.history, seq.number())?;
        let message = row.and_then(|row| history::parse(row).1);
        let message = message.ok_or_else(|| damaged("the message"))?;
        let latest = match self.writer.row(Table::Mutated, &mutated_key(id, seq))? {
            None => None,
            Some(row) => {
                let at = Mutated::decode(row)?.mutation;
                let entry = self.writer.entry(&LogKey::mutations(id), at.number())?;
                let record = entry.and_then(|entry| entry.record);
                let record = record.ok_or_else(|| damaged("the latest change"))?;
                Some((at, Mutation::decode(record)?))
            }
        };
        Ok(Target { open, tip, seq, message, latest, role })
    }

    /// One change, in one commit.
    fn mutate(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        target: &Target,
        change: Change,
    ) -> Result<Answer, Stop> {
        let Target { open, tip, seq, message, latest, .. } = target;
        let at = tip.mutation.next();
        let gone = !matches!(change, Change::Edited { .. });
        let counted = !message.draft.flags.uncounted;
        let by = caller.user.clone();
        let reference = MutationRef { conversation: id.clone(), seq: *seq, mutation: at, by };
        let kind = match &change {
            Change::Recalled => EntryKind::Recalled(reference),
            Change::Edited { .. } => EntryKind::Edited(reference),
            Change::Deleted => EntryKind::Deleted(reference),
        };
        let mutation = Mutation {
            seq: *seq,
            previous: latest.as_ref().map_or(MutationSeq::ZERO, |(latest, _)| *latest),
            time: now.wall,
            by: caller.user.clone(),
            change,
        };
        let log = LogKey::mutations(id);
        let mut commit = Commit::new();
        commit.require(open.unchanged(id));
        commit.require(Condition::Head(log.clone(), tip.mutation.number()));
        commit.append(log, mutation.encode());
        let row = Mutated { mutation: at, gone, counted };
        commit.put(Table::Mutated, mutated_key(id, *seq), row.encode());
        // Members of a large conversation find it in the mutation log, as they find its messages.
        let told = if open.row.large { Vec::new() } else { self.shown_to(id, open, *seq)? };
        let inbox_seq = match told.contains(&caller.user) {
            true => self.next_inbox_seq(&caller.user)?,
            false => InboxSeq::ZERO,
        };
        let inboxes = match told.len() == open.members.len() {
            true => Arc::clone(&open.inboxes),
            false => told.iter().map(LogKey::inbox).collect(),
        };
        if !planted::is(Bug::InstructionLost) {
            commit.append_each(inboxes, inbox::encode(&Entry { time: now.wall, kind }));
        }
        self.writer.stage(&commit)?;
        self.cache.set_tip(id, Tip { mutation: at, ..*tip });
        if gone && counted {
            self.cache.add_gone(id, *seq);
        }
        self.effects.inboxes.extend(told);
        if gone {
            self.push_gone(now, id, open, *seq)?;
        }
        Ok(done(inbox_seq))
    }

    /// The members who may see a message, or could before they cleared it away.
    fn shown_to(
        &self,
        id: &ConversationId,
        open: &Open,
        seq: HistorySeq,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut users = Vec::with_capacity(open.members.len());
        for (user, member) in &open.members {
            // Who joined before it was written was shown it; only of others more must be known.
            let shown = member.joined_seq <= seq
                || open::membership(&self.writer, user, id)?.is_some_and(|own| own.was_shown(seq));
            if shown {
                users.push(user.clone());
            }
        }
        Ok(users)
    }
}

fn no_message() -> Stop {
    refuse(
        ErrorCode::IdempotencyConflict,
        "this client id was used for something that is no message",
    )
}
