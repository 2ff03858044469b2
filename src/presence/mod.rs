//! Who is there, and who follows whom: the sessions of all users, in memory.
//!
//! Begins empty with the process, as the sessions do, so a restart has nothing to repair. A device
//! has at most one session, its newest. A session that was ended for a reason (kicked, revoked,
//! crowded out by another one) is over at once, although its connection takes a moment to hear it:
//! until it has, [`Presence::is_over`] knows it. Rules about who may see whom are the engine's.

mod follow;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

pub use self::follow::{Follower, Follows};
use crate::{
    id::{DeviceId, SessionId, UserId},
    planted::{self, Bug},
    reply::{DevicePresence, PresenceState},
    time::Timestamp,
};

/// A device with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Online {
    /// Which device.
    pub device: DeviceId,
    /// Its session.
    pub session: SessionId,
    /// Free text from Hello.
    pub platform: Arc<str>,
    /// The application is in the background.
    pub background: bool,
    /// Since when it is there in this way.
    pub since: Timestamp,
}

impl Online {
    /// In the foreground or in the background.
    #[must_use]
    pub fn state(&self) -> PresenceState {
        if self.background { PresenceState::Background } else { PresenceState::Online }
    }

    /// As others see it.
    #[must_use]
    pub fn seen(&self, user: &UserId) -> DevicePresence {
        DevicePresence {
            user: user.clone(),
            device: self.device.clone(),
            state: self.state(),
            since: self.since,
        }
    }
}

/// See the head of this module.
#[derive(Debug, Default)]
pub struct Presence {
    users: HashMap<UserId, Vec<Online>>,
    over: HashSet<SessionId>,
    /// Who follows whom.
    pub follows: Follows,
}

impl Presence {
    /// A session begins; returns the one of the same device whose place it takes.
    pub fn attach(&mut self, user: &UserId, mut new: Online) -> Option<Online> {
        let online = self.users.entry(user.clone()).or_default();
        match online.iter_mut().find(|other| other.device == new.device) {
            Some(old) => {
                if old.background == new.background {
                    new.since = old.since;
                }
                self.follows.end(old.session);
                Some(std::mem::replace(old, new))
            }
            None => {
                // Most users have one device.
                online.reserve_exact(1);
                online.push(new);
                None
            }
        }
    }

    /// The connection of a session is gone; returns what the device was until now. None when the
    /// session was over before, or never began.
    pub fn detach(&mut self, user: &UserId, session: SessionId) -> Option<Online> {
        self.over.remove(&session);
        self.take(user, session)
    }

    /// Ends a session whose connection has yet to hear of it; returns what the device was.
    pub fn end(&mut self, user: &UserId, session: SessionId) -> Option<Online> {
        let ended = self.take(user, session)?;
        self.over.insert(session);
        Some(ended)
    }

    fn take(&mut self, user: &UserId, session: SessionId) -> Option<Online> {
        self.follows.end(session);
        let online = self.users.get_mut(user)?;
        let index = online.iter().position(|online| online.session == session)?;
        let gone = online.swap_remove(index);
        if online.is_empty() {
            self.users.remove(user);
        }
        Some(gone)
    }

    /// Notes foreground or background; says whether that is a change, none without such a session.
    pub fn set_background(
        &mut self,
        user: &UserId,
        session: SessionId,
        background: bool,
        now: Timestamp,
    ) -> Option<bool> {
        let online = self.users.get_mut(user)?.iter_mut().find(|o| o.session == session)?;
        let changes = online.background != background;
        if changes {
            online.background = background;
            online.since = now;
        }
        Some(changes)
    }

    /// The user's devices with a session; in no order.
    #[must_use]
    pub fn sessions(&self, user: &UserId) -> &[Online] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// Whether any device of the user has a session.
    #[must_use]
    pub fn is_online(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// The session of a device.
    #[must_use]
    pub fn session(&self, user: &UserId, device: &DeviceId) -> Option<&Online> {
        self.sessions(user).iter().find(|online| online.device == *device)
    }

    /// Whether the device has a session in the foreground.
    #[must_use]
    pub fn foreground(&self, user: &UserId, device: &DeviceId) -> bool {
        self.session(user, device).is_some_and(|online| !online.background)
    }

    /// Whether this is a session of the user now.
    #[must_use]
    pub fn is_current(&self, user: &UserId, session: SessionId) -> bool {
        self.sessions(user).iter().any(|online| online.session == session)
    }

    /// Whether the session was ended and its connection has not gone yet.
    #[must_use]
    pub fn is_over(&self, session: SessionId) -> bool {
        self.over.contains(&session) && !planted::is(Bug::SessionNotFenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserId {
        UserId::new("u").unwrap()
    }

    fn online(device: &str, session: u64, background: bool, since: u64) -> Online {
        Online {
            device: DeviceId::new(device).unwrap(),
            session: SessionId::new(session),
            platform: "test".into(),
            background,
            since: Timestamp::from_millis(since),
        }
    }

    #[test]
    fn an_older_session_cannot_take_a_newer_one_away() {
        let (mut presence, user) = (Presence::default(), user());
        assert_eq!(presence.attach(&user, online("phone", 1, false, 10)), None);
        let old = presence.attach(&user, online("phone", 2, false, 20)).unwrap();
        assert_eq!(old.session, SessionId::new(1));
        assert_eq!(presence.detach(&user, SessionId::new(1)), None);
        let phone = DeviceId::new("phone").unwrap();
        assert!(presence.foreground(&user, &phone));
        // It has been there all the time.
        assert_eq!(presence.sessions(&user)[0].since, Timestamp::from_millis(10));
        assert!(presence.detach(&user, SessionId::new(2)).is_some());
        assert!(!presence.is_online(&user) && presence.sessions(&user).is_empty());
    }

    #[test]
    fn what_was_ended_is_over_until_its_connection_is_gone() {
        let (mut presence, user, session) = (Presence::default(), user(), SessionId::new(1));
        presence.attach(&user, online("phone", 1, false, 10));
        assert!(presence.end(&user, session).is_some());
        assert!(presence.end(&user, session).is_none());
        assert!(presence.is_over(session) && !presence.is_online(&user));
        assert_eq!(presence.detach(&user, session), None);
        assert!(!presence.is_over(session));
    }

    #[test]
    fn only_a_change_of_state_has_a_time() {
        let (mut presence, user, session) = (Presence::default(), user(), SessionId::new(1));
        presence.attach(&user, online("phone", 1, false, 10));
        let set = |presence: &mut Presence, background, now| {
            presence.set_background(&user, session, background, Timestamp::from_millis(now))
        };
        assert_eq!(set(&mut presence, false, 20), Some(false));
        assert_eq!(set(&mut presence, true, 30), Some(true));
        assert_eq!(presence.sessions(&user)[0].since, Timestamp::from_millis(30));
        assert!(!presence.foreground(&user, &DeviceId::new("phone").unwrap()));
        presence.end(&user, session);
        assert_eq!(set(&mut presence, true, 40), None);
    }
}
