//! What becomes of messages afterwards, for everybody: recalled, edited, deleted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use roamd::{
    engine::{Caller, Now},
    id::{ConversationId, UserId},
    limits::EDITS_PER_MESSAGE_MAX,
    message::{ConversationKind, EntryKind, Message, MutationRef, Role},
    refusal::ErrorCode,
    seq::{HistorySeq, MutationSeq},
};

use super::{Change, Model, Mutation, Outcome, Talk, done, nothing, refused};

impl Model {
    pub(super) fn recall(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        row: u64,
    ) -> Outcome {
        let (talk, message) = match self.changeable(caller, id, row) {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        let manages = manages(talk, caller);
        if message.sender != caller.user && !manages {
            return refused(ErrorCode::Forbidden);
        }
        if talk.is_gone(row) {
            return nothing();
        }
        if !manages && is_over(now, message, self.limits.recall_window) {
            return refused(ErrorCode::WindowClosed);
        }
        self.mutate(now, caller, id, row, Change::Recalled)
    }

    pub(super) fn edit(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        row: u64,
        (content_type, content): (Arc<str>, Bytes),
        base_revision: Option<u32>,
    ) -> Outcome {
        let (talk, message) = match self.changeable(caller, id, row) {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        if message.sender != caller.user {
            return refused(ErrorCode::Forbidden);
        }
        if talk.is_gone(row) {
            return refused(ErrorCode::Gone);
        }
        let edits = talk.mutations.iter().filter(|mutation| mutation.row == row);
        let revision = edits.clone().count() as u32;
        let (now_type, now_content) = match edits.last().map(|last| &last.change) {
            Some(Change::Edited(content_type, content)) => (content_type, content),
            _ => (&message.draft.content_type, &message.draft.content),
        };
        if (now_type, now_content) == (&content_type, &content) {
            return nothing();
        }
        if content.len() > self.limits.content_bytes {
            return refused(ErrorCode::ContentTooLarge);
        }
        if is_over(now, message, self.limits.edit_window) || revision >= EDITS_PER_MESSAGE_MAX {
            return refused(ErrorCode::WindowClosed);
        }
        if base_revision.is_some_and(|base| base != revision) {
            return refused(ErrorCode::Conflict);
        }
        self.mutate(now, caller, id, row, Change::Edited(content_type, content))
    }

    pub(super) fn delete_for_all(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        row: u64,
    ) -> Outcome {
        let (talk, _) = match self.changeable(caller, id, row) {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        if !manages(talk, caller) {
            return refused(ErrorCode::Forbidden);
        }
        if talk.is_gone(row) {
            return nothing();
        }
        self.mutate(now, caller, id, row, Change::Deleted)
    }

    /// A message that the caller may see, in a conversation that it is in.
    fn changeable(
        &self,
        caller: &Caller,
        id: &ConversationId,
        row: u64,
    ) -> Result<(&Talk, &Message), Outcome> {
        let missing = || refused(ErrorCode::NotFound);
        let talk = self.talks.get(id).ok_or_else(missing)?;
        if !talk.members.contains_key(&caller.user) {
            return Err(missing());
        }
        if !self.visible(&caller.user, id).contains(&row) {
            return Err(missing());
        }
        if talk.disbanded {
            return Err(refused(ErrorCode::Gone));
        }
        Ok((talk, &talk.rows[row as usize - 1]))
    }

    fn mutate(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        row: u64,
        change: Change,
    ) -> Outcome {
        let Some(talk) = self.talks.get_mut(id) else { return refused(ErrorCode::NotFound) };
        let shown = |user: &&UserId| talk.places[*user].was_shown(row);
        let told: BTreeSet<UserId> = talk.members.keys().filter(shown).cloned().collect();
        let for_whom = told.clone();
        talk.mutations.push(Mutation { row, time: now.wall, change: change.clone(), for_whom });
        if talk.large {
            return nothing();
        }
        let named = MutationRef {
            conversation: id.clone(),
            seq: HistorySeq::new(row),
            mutation: MutationSeq::new(talk.last_mutation()),
            by: caller.user.clone(),
        };
        let entry = match change {
            Change::Recalled => EntryKind::Recalled(named),
            Change::Edited(..) => EntryKind::Edited(named),
            Change::Deleted => EntryKind::Deleted(named),
        };
        for user in told {
            self.deliver(now, &user, entry.clone());
        }
        done(self.head(&caller.user))
    }
}

/// Owner and admins of a group; a direct conversation has none.
fn manages(talk: &Talk, caller: &Caller) -> bool {
    let role = talk.members.get(&caller.user).map(|member| member.role);
    talk.kind == ConversationKind::Group && role.is_some_and(|role| role > Role::Member)
}

fn is_over(now: Now, message: &Message, window: Duration) -> bool {
    now.wall >= message.time.plus(window)
}
