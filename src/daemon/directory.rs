//! Who is online: the sessions of every user. Owned by whoever drives the engine, who alone knows the
//! order of attaching, displacing and committing.

use std::sync::Arc;

use hashbrown::HashMap;

use super::feed::Feed;
use crate::{
    engine::Caller,
    id::{DeviceId, SessionId, UserId},
    planted::{self, Bug},
};

#[derive(Debug)]
struct Online {
    device: DeviceId,
    session: SessionId,
    feed: Arc<Feed>,
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    users: HashMap<UserId, Vec<Online>>,
}

impl Directory {
    /// The caller's session is the device's newest; returns the one it displaces.
    pub(super) fn attach(&mut self, caller: &Caller, feed: Arc<Feed>) -> Option<Arc<Feed>> {
        let online = self.users.entry(caller.user.clone()).or_default();
        let new = Online { device: caller.device.clone(), session: caller.session, feed };
        match online.iter_mut().find(|other| other.device == caller.device) {
            Some(old) => {
                let displaced = std::mem::replace(old, new).feed;
                (!planted::is(Bug::SessionNotFenced)).then_some(displaced)
            }
            None => {
                // Most users have one device.
                online.reserve_exact(1);
                online.push(new);
                None
            }
        }
    }

    /// The session is over. An older one of a device cannot remove a newer one.
    pub(super) fn detach(&mut self, caller: &Caller) {
        if let Some(online) = self.users.get_mut(&caller.user) {
            online.retain(|other| other.session != caller.session);
            if online.is_empty() {
                self.users.remove(&caller.user);
            }
        }
    }

    pub(super) fn feeds(&self, user: &UserId) -> impl Iterator<Item = &Arc<Feed>> {
        self.users.get(user).into_iter().flatten().map(|online| &online.feed)
    }

    /// All of a user's sessions but this one.
    pub(super) fn feeds_but(
        &self,
        user: &UserId,
        but: SessionId,
    ) -> impl Iterator<Item = &Arc<Feed>> {
        let online = self.users.get(user).into_iter().flatten();
        online.filter(move |online| online.session != but).map(|online| &online.feed)
    }

    /// One session of a user, if it is still there.
    pub(super) fn session(
        &self,
        user: &UserId,
        session: SessionId,
    ) -> impl Iterator<Item = &Arc<Feed>> {
        let online = self.users.get(user).into_iter().flatten();
        online.filter(move |online| online.session == session).map(|online| &online.feed)
    }
}
