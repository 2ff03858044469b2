//! What those who are online want to know after a flush, beyond their answers.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::{
    id::{ConversationId, DeviceId, SessionId, UserId},
    push::Job,
    reply::{DevicePresence, GoAwayReason, Reply},
    request::LargeCursor,
    seq::InboxSeq,
};

/// Gathered while commands are applied, handed out after the flush they rest on.
#[derive(Debug, Default)]
pub struct Effects {
    /// Users whose inbox grew.
    pub inboxes: HashSet<UserId>,
    /// Everything else, in order.
    pub signs: Vec<Sign>,
    /// What sessions that follow others are told: the newest state of each device.
    pub presence: HashMap<(UserId, SessionId), PresenceChanges>,
    /// What the push hook is to say. Each one's outcome comes back to [`super::Engine::settle_push`].
    pub jobs: Vec<Job>,
    /// Users that a session has ceased to follow: what waits for it is void. To be heeded before
    /// any answer is handed out.
    pub unfollowed: Vec<(UserId, SessionId, UserId)>,
    /// What those in large conversations are told, in order.
    pub large: Vec<LargeNotice>,
    /// Where in `large` a conversation was last said to have grown, if nothing else was said since.
    grown: HashMap<ConversationId, usize>,
    /// The unread total of users and the inbox_seq it reflects, moved by large conversations.
    pub totals: HashMap<UserId, (u64, InboxSeq)>,
}

/// Something of a large conversation, and for whom.
#[derive(Clone, Debug)]
pub enum LargeNotice {
    /// For the sessions of one user.
    User(UserId, LargeSign),
    /// For those of all these users.
    All(Arc<HashSet<UserId>>, LargeSign),
}

/// Something of a large conversation: none of it is ever passed over, but for steps on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LargeSign {
    /// From here on its messages reach the user by its logs alone. An entry of the user's inbox, or
    /// one before it, tells of that, and goes first.
    Opened(LargeCursor, InboxSeq),
    /// It goes up to here now.
    Grown(LargeCursor),
    /// Up to here its messages reached the user by its logs, and no longer.
    Closed(LargeCursor),
}

impl LargeSign {
    /// Of which conversation, and where.
    #[must_use]
    pub fn at(&self) -> &LargeCursor {
        match self {
            Self::Opened(at, _) | Self::Grown(at) | Self::Closed(at) => at,
        }
    }
}

/// The newest state of each device that has changed.
pub type PresenceChanges = HashMap<(UserId, DeviceId), DevicePresence>;

/// One thing for some sessions.
#[derive(Clone, Debug)]
pub enum Sign {
    /// This session of the user is over.
    End(UserId, SessionId, GoAwayReason),
    /// A push for one session of the user, or for all; may be dropped when too many wait.
    Push(UserId, Option<SessionId>, Reply),
    /// The same for all sessions of these users but one.
    Spread(Vec<UserId>, SessionId, Reply),
}

impl Effects {
    /// A user is told of a large conversation.
    pub(super) fn large(&mut self, user: &UserId, sign: LargeSign) {
        self.grown.remove(&sign.at().conversation);
        self.large.push(LargeNotice::User(user.clone(), sign));
    }

    /// All these users are told how far a large conversation goes.
    pub(super) fn large_grew(&mut self, users: &Arc<HashSet<UserId>>, at: LargeCursor) {
        let place = self.grown.get(&at.conversation).copied();
        let id = at.conversation.clone();
        let notice = LargeNotice::All(Arc::clone(users), LargeSign::Grown(at));
        match place.and_then(|place| self.large.get_mut(place)) {
            Some(earlier) => *earlier = notice,
            None => {
                self.grown.insert(id, self.large.len());
                self.large.push(notice);
            }
        }
    }

    pub(super) fn take_large(&mut self) -> Vec<LargeNotice> {
        self.grown.clear();
        std::mem::take(&mut self.large)
    }

    /// A session is told of a device.
    pub(super) fn presence(&mut self, user: &UserId, session: SessionId, change: DevicePresence) {
        let changes = self.presence.entry((user.clone(), session)).or_default();
        changes.insert((change.user.clone(), change.device.clone()), change);
    }

    /// A session is no longer told of a user.
    pub(super) fn unfollow(&mut self, by: &UserId, session: SessionId, user: &UserId) {
        if let Some(changes) = self.presence.get_mut(&(by.clone(), session)) {
            changes.retain(|(of, _), _| of != user);
        }
        self.unfollowed.push((by.clone(), session, user.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reply::PresenceState, time::Timestamp};

    /// A state that waited when the user was unfollowed would come after the snapshot of whoever
    /// follows it again, and be older.
    #[test]
    fn nothing_waits_of_a_user_that_is_no_longer_followed() {
        let user = |name| UserId::new(name).unwrap();
        let change = |of, state| DevicePresence {
            user: user(of),
            device: DeviceId::new("phone").unwrap(),
            state,
            since: Timestamp::from_millis(1),
        };
        let (session, mut effects) = (SessionId::new(1), Effects::default());
        effects.presence(&user("a"), session, change("b", PresenceState::Online));
        effects.presence(&user("a"), session, change("c", PresenceState::Online));
        effects.presence(&user("a"), session, change("c", PresenceState::Background));
        effects.unfollow(&user("a"), session, &user("b"));
        assert_eq!(effects.unfollowed, [(user("a"), session, user("b"))]);
        let waiting: Vec<_> = effects.presence.into_values().flatten().map(|(_, of)| of).collect();
        assert_eq!(waiting, [change("c", PresenceState::Background)]);
    }
}
