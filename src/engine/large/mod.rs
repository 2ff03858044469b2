//! Large conversations: those with more members than the fan-out limit. Their messages and changes
//! go to no inbox. The conversation's own logs are what a device reads from: while it is live its
//! session is told how far they go, and otherwise it is told when it has caught up.
//!
//! Which way messages go is decided with every change of members, in the same commit, and the change
//! of it is an entry in every member's inbox ([`EntryKind::Mode`]).
//!
//! To tell those who are online, and nobody else, the engine keeps for each large conversation who of
//! its members has a session. That is memory only: sessions end with the process.

mod totals;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use hashbrown::{HashMap, HashSet};

use self::totals::Totals;
use super::{
    Caller, Engine, Now, counts::UserCounts, effects::LargeSign, open::Open, watched::Changed,
};
use crate::{
    conversation::Conversation,
    id::{ConversationId, SessionId, UserId},
    inbox,
    message::{ConversationKind, Entry, EntryKind},
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, StoreError,
        catalogue::{LogKey, first_id, second_id},
    },
};

/// Who is online, as far as large conversations are concerned.
#[derive(Debug, Default)]
pub(super) struct Large {
    users: HashMap<UserId, User>,
    /// The members of each large conversation that are online.
    listeners: HashMap<ConversationId, Arc<HashSet<UserId>>>,
    /// Users whose total may have moved, in the order in which they are to be told.
    dirty: VecDeque<(Instant, UserId)>,
}

/// A user with sessions.
#[derive(Debug, Default)]
struct User {
    sessions: Vec<SessionId>,
    /// None: the user is in no large conversation, as most users are.
    own: Option<Box<Own>>,
}

/// What is kept of a user in large conversations.
#[derive(Debug, Default)]
struct Own {
    /// Which; never empty.
    large: HashSet<ConversationId>,
    totals: Totals,
}

impl Large {
    fn enter(&mut self, user: &UserId, id: &ConversationId) -> bool {
        let Some(there) = self.users.get_mut(user) else { return false };
        if !there.own.get_or_insert_default().large.insert(id.clone()) {
            return false;
        }
        Arc::make_mut(self.listeners.entry(id.clone()).or_default()).insert(user.clone());
        true
    }

    fn leave(&mut self, user: &UserId, id: &ConversationId) -> bool {
        let there = self.users.get_mut(user).is_some_and(|user| {
            let Some(own) = &mut user.own else { return false };
            let there = own.large.remove(id);
            if own.large.is_empty() {
                // From here on nobody watches what the user's total is made of.
                user.own = None;
            }
            there
        });
        if there {
            self.forget(user, id);
        }
        there
    }

    /// The user no longer hears of the conversation.
    fn forget(&mut self, user: &UserId, id: &ConversationId) {
        if let Some(listeners) = self.listeners.get_mut(id) {
            let left = Arc::make_mut(listeners);
            left.remove(user);
            if left.is_empty() {
                self.listeners.remove(id);
            }
        }
    }
}

impl Engine {
    /// Whether a group of so many members is large.
    pub(super) fn is_large_with(&self, kind: ConversationKind, members: usize) -> bool {
        kind == ConversationKind::Group && members > self.limits.fanout_members
    }

    /// A session of the user begins.
    pub(super) fn listen(&mut self, caller: &Caller) -> Result<(), StoreError> {
        if let Some(user) = self.large.users.get_mut(&caller.user) {
            if !user.sessions.contains(&caller.session) {
                user.sessions.push(caller.session);
            }
            return Ok(());
        }
        let large = self.counted(&caller.user, UserCounts::large)?;
        let user = User { sessions: vec![caller.session], ..User::default() };
        self.large.users.insert(caller.user.clone(), user);
        for id in large {
            self.large.enter(&caller.user, &id);
        }
        Ok(())
    }

    /// A session of the user is over.
    pub(super) fn listen_no_more(&mut self, caller: &Caller) {
        let Some(user) = self.large.users.get_mut(&caller.user) else { return };
        user.sessions.retain(|session| *session != caller.session);
        if user.sessions.is_empty() {
            for id in user.own.take().map(|own| own.large).into_iter().flatten() {
                self.large.forget(&caller.user, &id);
            }
            self.large.users.remove(&caller.user);
        }
    }

    /// Whether the user has a session.
    pub(super) fn hears(&self, user: &UserId) -> bool {
        self.large.users.contains_key(user)
    }

    /// Whether the user has a session, and is in a large conversation.
    pub(super) fn hears_of_large(&self, user: &UserId) -> bool {
        self.large.users.get(user).is_some_and(|user| user.own.is_some())
    }

    /// The members of a large conversation that are online; none when there is nobody.
    pub(super) fn listeners(&self, id: &ConversationId) -> Option<Arc<HashSet<UserId>>> {
        self.large.listeners.get(id).map(Arc::clone)
    }

    /// The ends of the large conversations of a user with a session.
    pub(super) fn large_ends(&mut self, user: &UserId) -> Result<Vec<LargeCursor>, StoreError> {
        let Some(there) = self.large.users.get(user) else { return Ok(Vec::new()) };
        let large = there.own.iter().flat_map(|own| &own.large);
        let ids: Vec<ConversationId> = large.cloned().collect();
        let mut ends = Vec::with_capacity(ids.len());
        for id in ids {
            match self.large_end(&id) {
                Ok(end) => ends.push(end),
                Err(StoreError::Damaged(error)) => {
                    tracing::error!(error, %id, "its end is unknown")
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ends)
    }

    fn large_end(&mut self, id: &ConversationId) -> Result<LargeCursor, StoreError> {
        let tip = self.cache.tip(&self.writer, id)?;
        let version = self.cache.open(&self.writer, id)?.map_or(0, |open| open.row.version);
        let conversation = id.clone();
        Ok(LargeCursor { conversation, history: tip.head, mutation: tip.mutation, version })
    }

    /// Tells those who are online of what was staged since this was last done.
    ///
    /// # Errors
    /// When the store fails. Of what is damaged those who are online hear nothing until they catch
    /// up or ask.
    pub(super) fn tell_changes(&mut self, now: Now) -> Result<(), StoreError> {
        let changed = self.writer.take_changed();
        match self.note_changes(&changed) {
            // What cannot be noted is not kept.
            Err(StoreError::Damaged(error)) => {
                tracing::error!(error, "a change is not told");
                self.counts.begin_anew();
            }
            noted => noted?,
        }
        if self.large.listeners.is_empty() {
            return Ok(());
        }
        for changed in changed {
            match self.tell_change(now, changed) {
                Err(StoreError::Damaged(error)) => tracing::error!(error, "a change is not told"),
                told => told?,
            }
        }
        Ok(())
    }

    fn tell_change(&mut self, now: Now, changed: Changed) -> Result<(), StoreError> {
        match changed {
            Changed::Conversation(key) => {
                let Some(id) = first_id::<ConversationId>(&key) else { return Ok(()) };
                if let Some(listeners) = self.listeners(&id) {
                    let end = self.large_end(&id)?;
                    self.effects.large_grew(&listeners, end);
                    self.touch_all(now, &listeners, &id);
                }
            }
            Changed::OfUser(key) => {
                if let (Some(user), Some(id)) = (first_id(&key), second_id(&key)) {
                    self.touch(now, &user, &id);
                }
            }
        }
        Ok(())
    }

    /// Members have come or gone, or the group is another: who of those online hears of it from now
    /// on, and who no longer. `before` is none for a new group.
    pub(super) fn large_members_changed(
        &mut self,
        id: &ConversationId,
        before: Option<&Open>,
        after: &Open,
    ) -> Result<(), StoreError> {
        let was = before.is_some_and(|before| before.row.large);
        if !was && !after.row.large {
            return Ok(());
        }
        if was != after.row.large {
            // Also those who are not there.
            after.members.iter().for_each(|(user, _)| self.counts.touch(user, id));
        }
        let end = LargeCursor { version: after.row.version, ..self.large_end(id)? };
        if was {
            let before = before.map_or(&[][..], |before| &before.members);
            for (user, _) in before {
                let stays = after.row.large && after.member(user).is_some();
                if !stays && self.large.leave(user, id) {
                    self.effects.large(user, LargeSign::Closed(end.clone()));
                }
            }
        }
        if after.row.large {
            for (user, _) in &after.members {
                if self.large.enter(user, id) {
                    let log = LogKey::inbox(user);
                    let inbox = InboxSeq::new(self.writer.bounds(&log)?.last);
                    self.effects.large(user, LargeSign::Opened(end.clone(), inbox));
                }
            }
        }
        Ok(())
    }
}

/// Adds the entry that tells these inboxes which way the messages of a group go from `from` on.
pub(super) fn tell_mode(
    commit: &mut Commit,
    now: Now,
    id: &ConversationId,
    row: &Conversation,
    from: HistorySeq,
    inboxes: Arc<[LogKey]>,
) {
    let kind = EntryKind::Mode { conversation: id.clone(), large: row.large, from };
    commit.append_each(inboxes, inbox::encode(&Entry { time: now.wall, kind }));
}
