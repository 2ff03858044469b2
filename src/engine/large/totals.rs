//! Totals for those who are online and in large conversations, whose messages come as no entries
//! that a client could count.
//!
//! A total is derived as always. So that a busy conversation does not cost a look at all of a user's
//! conversations, what was derived is kept per conversation, and only what has changed since is
//! derived again: every staged change goes by here ([`super::Engine::tell_changes`]). Whoever was
//! touched by a large conversation is told within [`UNREAD_PUSH_DELAY`], or at once when
//! [`UNREAD_PUSH_USERS`] wait, but never twice within that time.

use std::{sync::Arc, time::Instant};

use hashbrown::{HashMap, HashSet};

use super::Own;
use crate::{
    engine::{Engine, Now, open},
    id::{ConversationId, UserId},
    limits::{UNREAD_PUSH_DELAY, UNREAD_PUSH_USERS},
    reply::ConversationUnread,
    seq::InboxSeq,
    store::{StoreError, catalogue::LogKey},
};

/// What is known of a user's unread.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// None: not asked for yet.
    derived: Option<Derived>,
    /// Total and position that every session was told last, if none was told anything else since.
    told: Option<(u64, InboxSeq)>,
    told_at: Option<Instant>,
    /// Waits to be told.
    waiting: bool,
}

#[derive(Debug, Default)]
struct Derived {
    /// Conversations with anything unread.
    counts: HashMap<ConversationId, u64>,
    /// The sum.
    total: u64,
    /// To be derived again.
    stale: HashSet<ConversationId>,
}

impl Derived {
    fn new(counts: &[ConversationUnread]) -> Self {
        let of = |count: &ConversationUnread| (count.conversation.clone(), count.unread);
        Self {
            total: counts.iter().map(|count| count.unread).sum(),
            counts: counts.iter().map(of).collect(),
            // Once: which of them the user has left shows then.
            stale: counts.iter().map(|count| count.conversation.clone()).collect(),
        }
    }

    fn set(&mut self, id: ConversationId, unread: u64) {
        let before = match unread {
            0 => self.counts.remove(&id),
            _ => self.counts.insert(id, unread),
        };
        self.total = self.total + unread - before.unwrap_or(0);
    }
}

impl Engine {
    /// All counts of a user, none of which is zero, were derived just now.
    pub(in crate::engine) fn note_counts(&mut self, user: &UserId, counts: &[ConversationUnread]) {
        if let Some(own) = self.own(user) {
            own.totals.derived = Some(Derived::new(counts));
        }
    }

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

    /// Something that counts has changed for a user in a conversation.
    pub(super) fn touch(&mut self, now: Now, user: &UserId, id: &ConversationId) {
        let Some(own) = self.own(user) else { return };
        if let Some(derived) = &mut own.totals.derived {
            derived.stale.insert(id.clone());
        }
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

    /// A conversation that is not large has changed. Its members learn that from their inboxes; only
    /// what was derived before is no longer true.
    pub(super) fn touch_members(&mut self, id: &ConversationId) -> Result<(), StoreError> {
        let Some(open) = self.cache.open(&self.writer, id)? else { return Ok(()) };
        for (user, _) in &open.members {
            let user = self.large.users.get_mut(user);
            if let Some(own) = user.and_then(|user| user.own.as_deref_mut())
                && let Some(derived) = &mut own.totals.derived
            {
                derived.stale.insert(id.clone());
            }
        }
        Ok(())
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
        let derived = there.own.as_deref_mut().and_then(|own| {
            own.totals.waiting = false;
            own.totals.derived.take()
        });
        let total = match derived {
            None => {
                let (total, counts) = self.unread_of_all(user)?;
                self.note_counts(user, &counts);
                total
            }
            Some(mut derived) => {
                for id in std::mem::take(&mut derived.stale) {
                    let own = open::membership(&self.writer, user, &id)?;
                    let unread = match &own {
                        Some(own) => {
                            let tip = self.cache.tip(&self.writer, &id)?;
                            self.count(user, &id, own, tip)?.unread
                        }
                        None => 0,
                    };
                    if unread > 0 && own.is_some_and(|own| !own.is_member()) {
                        // Nobody tells whoever has left that a message was recalled.
                        derived.stale.insert(id.clone());
                    }
                    derived.set(id, unread);
                }
                let total = derived.total;
                if let Some(own) = self.own(user) {
                    own.totals.derived = Some(derived);
                }
                total
            }
        };
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
