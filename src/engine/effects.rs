//! What those who are online want to know after a flush, beyond their answers.

use hashbrown::{HashMap, HashSet};

use crate::{
    id::{DeviceId, SessionId, UserId},
    push::Job,
    reply::{DevicePresence, GoAwayReason, Reply},
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
