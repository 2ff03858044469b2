//! Totals for those who are online and in large conversations, whose messages come as no entries
//! that a client could count.
//!
//! A total is derived as always, without a look at all of a user's conversations
//! ([`crate::engine::counts`]). Whoever was
//! touched by a large conversation is told within [`UNREAD_PUSH_DELAY`], or at once when
//! [`UNREAD_PUSH_USERS`] wait, but never twice within that time.

use std::{sync::Arc, time::Instant};

use hashbrown::HashSet;

use super::Own;
use crate::{
    engine::{Engine, Now, counts::UserCounts},
    id::{ConversationId, UserId},
    limits::{UNREAD_PUSH_DELAY, UNREAD_PUSH_USERS},
    seq::InboxSeq,
    store::{StoreError, catalogue::LogKey},
};

/// What is known of a user's unread.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Total and position that every session was told last, if none was told anything else since.
    told: Option<(u64, InboxSeq)>,
    told_at: Option<Instant>,
    /// Waits to be told.
    waiting: bool,
}

impl Engine {
    /// What is kept of a user in large conversations who has a session.
    fn own(&mut self, user: &UserId) -> Option<&mut Own> {
        self.large.users.get_mut(user)?.own.as_deref_mut()
    }

    /// One of the user's sessions may be told a total as an answer.
    pub(in crate::engine) fn may_tell_total(&mut self, user: &UserId) {
        if let Some(own) = self.own(user) {
            own.totals.told = None;
        }
    }

    /// Something that counts has changed for a user in a conversation, which may be a large one.
    pub(super) fn touch(&mut self, now: Now, user: &UserId, id: &ConversationId) {
        let Some(own) = self.own(user) else { return };
        if !own.large.contains(id) || std::mem::replace(&mut own.totals.waiting, true) {
            return;
        }
        self.large.dirty.push_back((now.mono, user.clone()));
    }

    /// The same for everybody who listens to a large conversation.
    pub(super) fn touch_all(
        &mut self,
        now: Now,
        users: &Arc<HashSet<UserId>>,
        id: &ConversationId,
    ) {
        users.iter().for_each(|user| self.touch(now, user, id));
    }

    /// When the next users are to be told.
    pub(in crate::engine) fn totals_deadline(&self) -> Option<Instant> {
        let (since, user) = self.large.dirty.front()?;
        if self.large.dirty.len() < UNREAD_PUSH_USERS {
            return Some(*since + UNREAD_PUSH_DELAY);
        }
        let own = self.large.users.get(user).and_then(|user| user.own.as_deref());
        let told = own.and_then(|own| own.totals.told_at);
        Some(told.map_or(*since, |at| (at + UNREAD_PUSH_DELAY).max(*since)))
    }

    /// Tells those whose time has come, at most [`UNREAD_PUSH_USERS`] at once.
    pub(in crate::engine) fn tell_totals(&mut self, now: Now) -> Result<(), StoreError> {
        for _ in 0..UNREAD_PUSH_USERS {
            if self.totals_deadline().is_none_or(|deadline| deadline > now.mono) {
                break;
            }
            let Some((_, user)) = self.large.dirty.pop_front() else { break };
            match self.tell_total(now, &user) {
                // Whoever asks for it is told that it cannot be known.
                Err(StoreError::Damaged(error)) => {
                    tracing::error!(error, %user, "a total cannot be derived");
                }
                told => told?,
            }
        }
        Ok(())
    }

    fn tell_total(&mut self, now: Now, user: &UserId) -> Result<(), StoreError> {
        let Some(there) = self.large.users.get_mut(user) else { return Ok(()) };
        if let Some(own) = there.own.as_deref_mut() {
            own.totals.waiting = false;
        }
        let total = self.counted(user, UserCounts::total)?;
        let position = InboxSeq::new(self.writer.bounds(&LogKey::inbox(user))?.last);
        let told = Some((total, position));
        // Who has just left the last one is told as well.
        let before = self.own(user).and_then(|own| {
            own.totals.told_at = Some(now.mono);
            std::mem::replace(&mut own.totals.told, told)
        });
        if before != told {
            self.effects.totals.insert(user.clone(), (total, position));
        }
        Ok(())
    }
}
