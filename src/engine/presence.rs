//! Who is there: sessions that begin and end, those who follow them, and what is never stored.
//!
//! A change is told to the sessions that follow the user, as far as the two share a conversation at
//! that moment. What waits for a session is the newest state of each device, so however fast a
//! device comes and goes and however slowly a follower reads, its last word arrives.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{Answer, Caller, Engine, Now, Sign, Stop, not_found, refuse};
use crate::{
    conversation::Membership,
    id::{ConversationId, SessionId, UserId},
    limits::{MultiLogin, SUBSCRIPTIONS_MAX},
    planted::{self, Bug},
    presence::Online,
    refusal::ErrorCode,
    reply::{DevicePresence, Ephemeral, GoAwayReason, PresenceState, Reply},
    seq::InboxSeq,
    store::{
        StoreError,
        catalogue::{Table, member_key, second_id, user_prefix},
    },
};

/// Memberships read at once while two users' conversations are compared.
const COMPARED_AT_ONCE: usize = 128;

impl Engine {
    /// A session begins. Those that must give way to it end.
    pub(super) fn begin_session(
        &mut self,
        now: Now,
        caller: &Caller,
        platform: &Arc<str>,
        background: bool,
    ) -> Result<(), StoreError> {
        let new = Online {
            device: caller.device.clone(),
            session: caller.session,
            platform: Arc::clone(platform),
            background,
            since: now.wall,
        };
        let crowded_out: Vec<SessionId> = self
            .presence
            .sessions(&caller.user)
            .iter()
            .filter(|other| other.device != new.device)
            .filter(|other| match self.limits.multi_login {
                MultiLogin::Many => false,
                MultiLogin::OnePerPlatform => kind(&other.platform) == kind(platform),
                MultiLogin::One => true,
            })
            .map(|other| other.session)
            .collect();
        let seen = new.seen(&caller.user);
        let old = self.presence.attach(&caller.user, new);
        if old.is_none_or(|old| old.state() != seen.state) {
            self.tell_presence(seen)?;
        }
        for session in crowded_out {
            self.end_session(now, &caller.user, session, GoAwayReason::Replaced)?;
        }
        self.push_attendance(now, &caller.user, &caller.device)
    }

    /// A session is over.
    pub(super) fn detach(&mut self, now: Now, caller: &Caller) -> Result<(), StoreError> {
        match self.presence.detach(&caller.user, caller.session) {
            Some(gone) => self.went(now, &caller.user, gone),
            None => Ok(()),
        }
    }

    /// Ends a session that goes on as far as its connection knows.
    pub(super) fn end_session(
        &mut self,
        now: Now,
        user: &UserId,
        session: SessionId,
        reason: GoAwayReason,
    ) -> Result<(), StoreError> {
        let Some(gone) = self.presence.end(user, session) else { return Ok(()) };
        self.effects.signs.push(Sign::End(user.clone(), session, reason));
        self.went(now, user, gone)
    }

    fn went(&mut self, now: Now, user: &UserId, gone: Online) -> Result<(), StoreError> {
        self.note_seen(now, user, &gone.device);
        if planted::is(Bug::PresenceStays) {
            return Ok(());
        }
        let state = PresenceState::Offline;
        self.tell_presence(DevicePresence { state, since: now.wall, ..gone.seen(user) })?;
        self.push_attendance(now, user, &gone.device)
    }

    pub(super) fn set_presence(
        &mut self,
        now: Now,
        caller: &Caller,
        background: bool,
    ) -> Result<Answer, Stop> {
        let (user, session) = (&caller.user, caller.session);
        match self.presence.set_background(user, session, background, now.wall) {
            None => return Err(over()),
            Some(false) => {}
            Some(true) => {
                if let Some(online) = self.presence.session(user, &caller.device) {
                    self.tell_presence(online.seen(user))?;
                }
                self.push_attendance(now, user, &caller.device)?;
            }
        }
        Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }))
    }

    pub(super) fn subscribe_presence(
        &mut self,
        caller: &Caller,
        users: &[UserId],
        unsubscribe: bool,
    ) -> Result<Answer, Stop> {
        if !self.presence.is_current(&caller.user, caller.session) {
            return Err(over());
        }
        if unsubscribe {
            for user in users {
                if self.presence.follows.unfollow(caller.session, user) {
                    self.effects.unfollow(&caller.user, caller.session, user);
                }
            }
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        if self.presence.follows.count_with(caller.session, users) > SUBSCRIPTIONS_MAX {
            return Err(refuse(
                ErrorCode::TooManyItems,
                format!("a session follows at most {SUBSCRIPTIONS_MAX} users"),
            ));
        }
        let mut snapshot = Vec::new();
        for user in users.iter().collect::<BTreeSet<_>>() {
            let shared = self.shared(&caller.user, user, None)?;
            if shared.is_some() || caller.user == *user {
                snapshot.extend(self.presence.sessions(user).iter().map(|o| o.seen(user)));
            }
            self.presence.follows.follow(&caller.user, caller.session, user, shared);
        }
        Ok(Answer::Reply(Reply::PresenceSnapshot(snapshot)))
    }

    pub(super) fn send_ephemeral(
        &mut self,
        caller: &Caller,
        id: &ConversationId,
        content_type: &Arc<str>,
        content: &Bytes,
    ) -> Result<Answer, Stop> {
        // Typing in a crowd is noise, and its members are not looked up for it.
        if self.cache.is_large(&self.writer, id)? {
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        let open = self.cache.open(&self.writer, id)?.ok_or_else(not_found)?;
        if open.row.disbanded {
            return Err(refuse(ErrorCode::Gone, "the group was disbanded"));
        }
        let members = open.members.iter().map(|(user, _)| user);
        let there = members.filter(|user| self.presence.is_online(user)).cloned().collect();
        let push = Reply::EphemeralPush(Arc::new(Ephemeral {
            conversation: id.clone(),
            sender: caller.user.clone(),
            device: caller.device.clone(),
            content_type: Arc::clone(content_type),
            content: content.clone(),
        }));
        self.effects.signs.push(Sign::Spread(there, caller.session, push));
        Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }))
    }

    /// Tells a change to those who follow the user and may see it.
    fn tell_presence(&mut self, change: DevicePresence) -> Result<(), StoreError> {
        for follower in self.presence.follows.followers(&change.user) {
            if follower.user != change.user {
                let known = follower.shared.as_ref();
                let shared = match self.shared(&follower.user, &change.user, known) {
                    Ok(shared) => shared,
                    // One damaged record hides what it concerns and stops nobody.
                    Err(error @ StoreError::Damaged(_)) => {
                        tracing::error!(%error, user = %follower.user, "presence is not told");
                        None
                    }
                    Err(error) => return Err(error),
                };
                let visible = shared.is_some();
                if shared != follower.shared {
                    let (by, user) = (&follower.user, &change.user);
                    self.presence.follows.follow(by, follower.session, user, shared);
                }
                if !visible {
                    continue;
                }
            }
            self.effects.presence(&follower.user, follower.session, change.clone());
        }
        Ok(())
    }

    /// A conversation that both users are in now. `known` is looked at first.
    ///
    /// Costs two look-ups when it still holds, and at most as much as reading the conversations of
    /// the one who has fewer.
    fn shared(
        &self,
        a: &UserId,
        b: &UserId,
        known: Option<&ConversationId>,
    ) -> Result<Option<ConversationId>, StoreError> {
        if a == b {
            return Ok(None);
        }
        let is_in = |id: &ConversationId, user: &UserId| -> Result<bool, StoreError> {
            Ok(self.writer.row(Table::Member, &member_key(id, user))?.is_some())
        };
        let direct = ConversationId::direct(a, b);
        for id in known.into_iter().chain([&direct]) {
            if is_in(id, a)? && is_in(id, b)? {
                return Ok(Some(id.clone()));
            }
        }
        let mut places = [(user_prefix(a), Bytes::new(), b), (user_prefix(b), Bytes::new(), a)];
        loop {
            for (prefix, after, other) in &mut places {
                let rows = self.writer.rows(Table::Membership, prefix, after, COMPARED_AT_ONCE)?;
                let more = rows.len() == COMPARED_AT_ONCE;
                for (key, row) in rows {
                    if let Some(id) = second_id(&key)
                        && Membership::decode(row)?.is_member()
                        && is_in(&id, other)?
                    {
                        return Ok(Some(id));
                    }
                    *after = key;
                }
                if !more {
                    return Ok(None);
                }
            }
        }
    }
}

/// What kind of platform a device says it is: "ios 19" and "ios 18" are both ios.
fn kind(platform: &str) -> Option<String> {
    platform.split_whitespace().next().map(str::to_lowercase)
}

/// A newer session of the device has come, or somebody has ended this one.
pub(super) fn over() -> Stop {
    refuse(ErrorCode::WrongState, "this session is over")
}
