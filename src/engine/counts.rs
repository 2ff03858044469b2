//! What is unread of all of a user's conversations, kept for those for whom it would cost much to derive
//! anew: who has many conversations, or hears of large ones.
//!
//! Nothing here is counted up or down. A count is derived as always ([`super::unread`]), and once more
//! when something has changed that it rests on: every staged change goes by here, be it of the
//! conversation or of what the user has to do with it. Two things nobody tells: to whoever has left, that a
//! message was recalled, and to whoever has no session, what happens in a large conversation. These
//! are derived whenever they are asked for. A cache: it ends with the process, begins anew when there is too
//! much of it, and the store is the truth.

use std::{cmp::Reverse, collections::BTreeMap, mem};

use hashbrown::{HashMap, HashSet};

use super::{Engine, mark, open, watched::Changed};
use crate::{
    conversation::Membership,
    id::{ConversationId, UserId},
    planted::{self, Bug},
    reply::ConversationUnread,
    store::{
        StoreError,
        catalogue::{first_id, second_id},
    },
    time::Timestamp,
};

/// From so many conversations on a user's counts are kept, if nothing else is said.
const MANY: usize = 32;
/// Conversations in what is kept, and a few for each user, beyond which it begins anew.
const KEPT_MAX: usize = 1 << 19;
/// What a user takes, in conversations.
const USER_WEIGHT: usize = 4;

/// Newest first; what is equally old by id.
type Order = (Reverse<Timestamp>, ConversationId);

/// What is known of one user.
#[derive(Debug, Default)]
pub(super) struct UserCounts {
    /// Conversations with anything unread.
    unread: BTreeMap<Order, ConversationUnread>,
    times: HashMap<ConversationId, Reverse<Timestamp>>,
    total: u64,
    /// Large conversations that the user is a member of.
    large: HashSet<ConversationId>,
    /// Conversations of which the user's own state may not have been told to its devices.
    untold: HashSet<ConversationId>,
    /// To be derived again.
    stale: HashSet<ConversationId>,
    /// How many conversations there were.
    conversations: usize,
}

impl UserCounts {
    /// The sum of all conversations.
    pub(super) fn total(&self) -> u64 {
        let cheat = planted::is(Bug::TotalIsNoSum) && self.unread.len() > 1;
        self.total - u64::from(cheat)
    }

    /// Those that are not zero, most recent first.
    pub(super) fn unread(&self) -> impl ExactSizeIterator<Item = &ConversationUnread> {
        self.unread.values()
    }

    /// Large conversations of the user, in the order of its rows.
    pub(super) fn large(&self) -> Vec<ConversationId> {
        in_order(&self.large)
    }

    /// Conversations of which there may be something to tell, in the order of the user's rows.
    pub(super) fn untold(&self) -> Vec<ConversationId> {
        in_order(&self.untold)
    }

    fn forget(&mut self, id: &ConversationId) {
        self.large.remove(id);
        self.untold.remove(id);
        if let Some(time) = self.times.remove(id) {
            let count = self.unread.remove(&(time, id.clone()));
            self.total -= count.map_or(0, |count| count.unread);
        }
    }

    fn weight(&self) -> usize {
        USER_WEIGHT + self.unread.len() + self.large.len() + self.untold.len() + self.stale.len()
    }
}

/// As the keys of rows are ordered: by length first.
fn in_order(ids: &HashSet<ConversationId>) -> Vec<ConversationId> {
    let mut ids: Vec<_> = ids.iter().cloned().collect();
    ids.sort_unstable_by(|one, other| {
        (one.as_bytes().len(), one).cmp(&(other.as_bytes().len(), other))
    });
    ids
}

/// See the head of this module.
#[derive(Debug)]
pub(super) struct Counts {
    /// From so many conversations on a user's counts are kept.
    many: usize,
    users: HashMap<UserId, Box<UserCounts>>,
    weight: usize,
    /// Who was asked about last, as long as nothing has changed since.
    recent: Option<(UserId, Box<UserCounts>)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { many: MANY, users: HashMap::new(), weight: 0, recent: None }
    }
}

impl Counts {
    /// Forgets everything.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { many: self.many, ..Self::default() };
    }

    /// Something that counts has changed for a user in a conversation.
    pub(super) fn touch(&mut self, user: &UserId, id: &ConversationId) {
        if let Some(counted) = self.users.get_mut(user)
            && counted.stale.insert(id.clone())
        {
            self.weight += 1;
        }
    }

    fn take(&mut self, user: &UserId) -> Option<Box<UserCounts>> {
        if let Some((_, counted)) = self.recent.take_if(|(of, _)| of == user) {
            return Some(counted);
        }
        let counted = self.users.remove(user)?;
        self.weight -= counted.weight();
        Some(counted)
    }

    fn keep(&mut self, user: &UserId, counted: Box<UserCounts>) {
        if self.weight > KEPT_MAX {
            self.begin_anew();
        }
        self.weight += counted.weight();
        self.users.insert(user.clone(), counted);
    }
}

impl Engine {
    /// Counts are kept of users with so many conversations; tests say fewer than there are with many.
    pub fn keep_counts_from(&mut self, conversations: usize) {
        self.counts.many = conversations;
    }

    /// What is unread of all of a user's conversations.
    pub(super) fn counted<T>(
        &mut self,
        user: &UserId,
        tell: impl FnOnce(&UserCounts) -> T,
    ) -> Result<T, StoreError> {
        // What this command has staged is not told yet.
        let changed = self.writer.take_changed();
        let noted = self.note_changes(&changed);
        self.writer.put_back(changed);
        noted?;
        let mut counted = match self.counts.take(user) {
            Some(counted) => counted,
            None => self.count_all(user)?,
        };
        if !self.hears(user) {
            counted.stale.extend(counted.large.iter().cloned());
        }
        for id in mem::take(&mut counted.stale) {
            let own = open::membership(&self.writer, user, &id)?;
            self.count_again(user, id, own.as_ref(), &mut counted)?;
        }
        let told = tell(&counted);
        if counted.conversations >= self.counts.many || self.hears_of_large(user) {
            self.counts.keep(user, counted);
        } else {
            self.counts.recent = Some((user.clone(), counted));
        }
        Ok(told)
    }

    fn count_all(&mut self, user: &UserId) -> Result<Box<UserCounts>, StoreError> {
        let mut counted = Box::<UserCounts>::default();
        let memberships = self.memberships(user)?;
        counted.conversations = memberships.len();
        for (id, own) in memberships {
            self.count_again(user, id, Some(&own), &mut counted)?;
        }
        Ok(counted)
    }

    fn count_again(
        &mut self,
        user: &UserId,
        id: ConversationId,
        own: Option<&Membership>,
        counted: &mut UserCounts,
    ) -> Result<(), StoreError> {
        counted.forget(&id);
        let Some(own) = own else { return Ok(()) };
        let here = own.is_member();
        if here && !id.is_direct() {
            match self.cache.is_large(&self.writer, &id) {
                Ok(true) => drop(counted.large.insert(id.clone())),
                Ok(false) => {}
                // One damaged row does not keep a user out of everything else.
                Err(StoreError::Damaged(error)) => tracing::error!(error, %id, "not listened to"),
                Err(error) => return Err(error),
            }
        }
        if mark::has_untold(own) {
            counted.untold.insert(id.clone());
        }
        let tip = self.cache.tip(&self.writer, &id)?;
        let count = self.count(user, &id, own, tip)?;
        if count.unread > 0 {
            if !here {
                // Nobody tells whoever has left that a message was recalled.
                counted.stale.insert(id.clone());
            }
            // Of what the user may see: the newest message may be one written after it left.
            let time = Reverse(self.activity(&id, own)?);
            counted.total += count.unread;
            counted.times.insert(id.clone(), time);
            counted.unread.insert((time, id), count);
        }
        Ok(())
    }

    /// What was derived before from what has changed is no longer true.
    pub(super) fn note_changes(&mut self, changed: &[Changed]) -> Result<(), StoreError> {
        if !changed.is_empty() {
            self.counts.recent = None;
        }
        if self.counts.users.is_empty() {
            return Ok(());
        }
        for changed in changed {
            match changed {
                Changed::Conversation(key) => {
                    if let Some(id) = first_id(key) {
                        self.touch_members(&id)?;
                    }
                }
                Changed::OfUser(key) => {
                    if let (Some(user), Some(id)) = (first_id(key), second_id(key)) {
                        self.counts.touch(&user, &id);
                    }
                }
            }
        }
        Ok(())
    }

    fn touch_members(&mut self, id: &ConversationId) -> Result<(), StoreError> {
        if let Some(listeners) = self.listeners(id) {
            // Of a large one: whoever does not listen looks anew in any case.
            listeners.iter().for_each(|user| self.counts.touch(user, id));
            return Ok(());
        }
        let Some(open) = self.cache.open(&self.writer, id)? else { return Ok(()) };
        if !open.row.large {
            open.members.iter().for_each(|(user, _)| self.counts.touch(user, id));
        }
        Ok(())
    }
}
