//! Who is there, who follows whom, and what is told of it; a user's devices.

use std::collections::{BTreeMap, BTreeSet};

use roamd::{
    engine::{Caller, Now},
    id::{ConversationId, DeviceId, SessionId, UserId},
    limits::{MultiLogin, SUBSCRIPTIONS_MAX},
    refusal::ErrorCode,
    reply::{DevicePresence, DeviceView, Ephemeral, GoAwayReason, PresenceState, Reply},
    seq::InboxSeq,
    time::Timestamp,
};

use super::{Device, Model, Outcome, nothing, refused};

/// A session of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Online {
    pub session: SessionId,
    platform: String,
    pub background: bool,
    since: Timestamp,
}

/// Whose, and which.
pub type Session = (UserId, SessionId);

/// What those who are online are told after a flush, beyond answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    pub ends: BTreeMap<Session, String>,
    /// To whom, but not to which session, and what; in order.
    pub spread: Vec<(BTreeSet<UserId>, SessionId, Reply)>,
    pub presence: BTreeMap<Session, BTreeMap<(UserId, DeviceId), DevicePresence>>,
    pub unfollowed: Vec<(Session, UserId)>,
}

/// Everything about sessions: nothing of it outlives the process.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    pub online: BTreeMap<(UserId, DeviceId), Online>,
    /// Ended, and the connection has yet to go.
    over: BTreeSet<SessionId>,
    follows: BTreeMap<Session, BTreeSet<UserId>>,
    /// Whose connection has not gone, whatever became of the session.
    connected: BTreeSet<Session>,
}

impl Online {
    fn seen(&self, (user, device): &(UserId, DeviceId)) -> DevicePresence {
        let state = if self.background { PresenceState::Background } else { PresenceState::Online };
        let (user, device) = (user.clone(), device.clone());
        DevicePresence { user, device, state, since: self.since }
    }
}

impl Model {
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        caller: &Caller,
        platform: &str,
        background: bool,
    ) {
        self.sessions.connected.insert((caller.user.clone(), caller.session));
        let device = (caller.user.clone(), caller.device.clone());
        let platform = platform.to_owned();
        let mut new = Online { session: caller.session, platform, background, since: now.wall };
        let kind = |platform: &str| platform.split_whitespace().next().map(str::to_lowercase);
        let gives_way = |(other, online): &(&(UserId, DeviceId), &Online)| {
            other.0 == device.0
                && other.1 != device.1
                && match self.limits.multi_login {
                    MultiLogin::Many => false,
                    MultiLogin::OnePerPlatform => kind(&online.platform) == kind(&new.platform),
                    MultiLogin::One => true,
                }
        };
        let crowded_out: Vec<_> = self
            .sessions
            .online
            .iter()
            .filter(gives_way)
            .map(|(device, _)| device.clone())
            .collect();
        let old = self.sessions.online.get(&device).cloned();
        let same = old.as_ref().is_some_and(|old| old.background == background);
        if let Some(old) = old {
            if same {
                new.since = old.since;
            }
            self.sessions.follows.remove(&(caller.user.clone(), old.session));
        }
        let seen = new.seen(&device);
        self.sessions.online.insert(device, new);
        if !same {
            self.tell_presence(&seen);
        }
        for device in crowded_out {
            self.end_session(now, &device, GoAwayReason::Replaced);
        }
    }

    /// The connection is gone.
    pub(super) fn detach(&mut self, now: Now, caller: &Caller) -> Outcome {
        self.sessions.connected.remove(&(caller.user.clone(), caller.session));
        self.sessions.over.remove(&caller.session);
        self.sessions.follows.remove(&(caller.user.clone(), caller.session));
        let device = self.device_of(caller);
        if let Some(device) = device {
            self.went(now, &device);
        }
        Outcome::Nothing
    }

    /// The device whose session this is now.
    fn device_of(&self, caller: &Caller) -> Option<(UserId, DeviceId)> {
        let mut online = self.sessions.online.iter();
        let of = |(device, online): &(&(UserId, DeviceId), &Online)| {
            device.0 == caller.user && online.session == caller.session
        };
        online.find(of).map(|(device, _)| device.clone())
    }

    fn end_session(&mut self, now: Now, device: &(UserId, DeviceId), reason: GoAwayReason) {
        let Some(online) = self.sessions.online.get(device) else { return };
        let session = (device.0.clone(), online.session);
        self.sessions.follows.remove(&session);
        self.sessions.over.insert(session.1);
        self.news.ends.insert(session, format!("{reason:?}"));
        self.went(now, device);
    }

    fn went(&mut self, now: Now, device: &(UserId, DeviceId)) {
        let Some(gone) = self.sessions.online.remove(device) else { return };
        self.note_seen(now, device);
        let state = PresenceState::Offline;
        self.tell_presence(&DevicePresence { state, since: now.wall, ..gone.seen(device) });
    }

    /// Whether any connection of the user is there.
    pub(super) fn is_connected(&self, user: &UserId) -> bool {
        self.sessions.connected.iter().any(|session| session.0 == *user)
    }

    /// Whether the session was ended by somebody.
    pub(super) fn is_over(&self, caller: &Caller) -> bool {
        self.sessions.over.contains(&caller.session)
    }

    /// Whether they may know of each other.
    fn share(&self, a: &UserId, b: &UserId) -> bool {
        let both =
            |talk: &super::Talk| talk.members.contains_key(a) && talk.members.contains_key(b);
        a == b || self.talks.values().any(both)
    }

    fn tell_presence(&mut self, change: &DevicePresence) {
        for (follower, users) in &self.sessions.follows {
            if users.contains(&change.user) && self.share(&follower.0, &change.user) {
                let told = self.news.presence.entry(follower.clone()).or_default();
                told.insert((change.user.clone(), change.device.clone()), change.clone());
            }
        }
    }

    pub(super) fn set_presence(&mut self, now: Now, caller: &Caller, background: bool) -> Outcome {
        let Some(device) = self.device_of(caller) else { return refused(ErrorCode::WrongState) };
        let Some(online) = self.sessions.online.get_mut(&device) else { unreachable!() };
        if online.background != background {
            online.background = background;
            online.since = now.wall;
            let seen = online.seen(&device);
            self.tell_presence(&seen);
        }
        nothing()
    }

    pub(super) fn subscribe(
        &mut self,
        caller: &Caller,
        users: &[UserId],
        unsubscribe: bool,
    ) -> Outcome {
        if self.device_of(caller).is_none() {
            return refused(ErrorCode::WrongState);
        }
        let session = (caller.user.clone(), caller.session);
        let mut follows = self.sessions.follows.get(&session).cloned().unwrap_or_default();
        if unsubscribe {
            for user in users {
                if follows.remove(user) {
                    if let Some(told) = self.news.presence.get_mut(&session) {
                        told.retain(|(of, _), _| of != user);
                    }
                    self.news.unfollowed.push((session.clone(), user.clone()));
                }
            }
            self.sessions.follows.insert(session, follows);
            return nothing();
        }
        follows.extend(users.iter().cloned());
        if follows.len() > SUBSCRIPTIONS_MAX {
            return refused(ErrorCode::TooManyItems);
        }
        self.sessions.follows.insert(session, follows);
        let wanted: BTreeSet<&UserId> = users.iter().collect();
        let online = self.sessions.online.iter();
        let seen = online.filter(|(device, _)| {
            wanted.contains(&device.0) && self.share(&caller.user, &device.0)
        });
        let snapshot = seen.map(|(device, online)| online.seen(device)).collect();
        Outcome::Reply(Reply::PresenceSnapshot(snapshot))
    }

    pub(super) fn ephemeral(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        content_type: &std::sync::Arc<str>,
        content: &bytes::Bytes,
    ) -> Outcome {
        let talk = self.talks.get(id).filter(|talk| talk.members.contains_key(&caller.user));
        let Some(talk) = talk else { return refused(ErrorCode::NotFound) };
        if talk.large {
            return nothing();
        }
        if talk.disbanded {
            return refused(ErrorCode::Gone);
        }
        let there = |user: &&UserId| self.sessions.online.keys().any(|device| device.0 == **user);
        let to = talk.members.keys().filter(there).cloned().collect();
        let push = Reply::EphemeralPush(std::sync::Arc::new(Ephemeral {
            conversation: id.clone(),
            sender: caller.user.clone(),
            device: caller.device.clone(),
            content_type: content_type.clone(),
            content: content.clone(),
        }));
        self.news.spread.push((to, caller.session, push));
        nothing()
    }

    pub(super) fn list_devices(&self, user: &UserId) -> Outcome {
        let own = self.devices.iter().filter(|(device, _)| device.0 == *user);
        let view = |(device, row): (&(UserId, DeviceId), &Device)| {
            let online = self.sessions.online.get(device);
            let waiting = self.cursors.get(device).copied().unwrap_or(0);
            DeviceView {
                device: device.1.clone(),
                platform: row.platform.as_str().into(),
                state: online.map_or(PresenceState::Offline, |online| online.seen(device).state),
                first_seen: row.first_seen,
                last_seen: row.last_seen.max(self.seen.get(device).copied().unwrap_or_default()),
                cursor: InboxSeq::new(row.cursor.max(waiting)),
                push_registered: self.push_targets.contains_key(device),
            }
        };
        let mut views: Vec<_> = own.map(view).collect();
        views.sort_by_key(|view| (view.device.as_str().len(), view.device.clone()));
        Outcome::Reply(Reply::DevicePage(views))
    }

    pub(super) fn kick(&mut self, now: Now, caller: &Caller, device: &DeviceId) -> Outcome {
        let device = (caller.user.clone(), device.clone());
        if !self.devices.contains_key(&device) {
            return refused(ErrorCode::NotFound);
        }
        self.end_session(now, &device, GoAwayReason::Kicked);
        nothing()
    }

    pub(super) fn revoke(&mut self, now: Now, caller: &Caller, device: &DeviceId) -> Outcome {
        let device = (caller.user.clone(), device.clone());
        if !self.devices.contains_key(&device) && !self.revoked.contains_key(&device) {
            return refused(ErrorCode::NotFound);
        }
        let until = self.revoked.entry(device.clone()).or_default();
        // A clock that goes back opens no door.
        *until = (*until).max(now.wall);
        self.devices.remove(&device);
        self.unwritten.remove(&device);
        self.push_targets.remove(&device);
        self.end_session(now, &device, GoAwayReason::Revoked);
        self.cursors.remove(&device);
        self.seen.remove(&device);
        nothing()
    }

    /// Whether a token of then no longer opens this door.
    pub(super) fn is_revoked(&self, caller: &Caller, issued: Timestamp) -> bool {
        let device = (caller.user.clone(), caller.device.clone());
        let second = |at: Timestamp| at.millis() / 1000;
        self.revoked.get(&device).is_some_and(|until| second(issued) <= second(*until))
    }
}
