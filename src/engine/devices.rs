//! A user's devices: the list, ending a session, revoking.

use std::collections::BTreeMap;

use super::{Answer, Caller, Engine, Now, Stop, attach::later, refuse};
use crate::{
    id::{DeviceId, UserId},
    inbox::{Device, Revocation},
    refusal::ErrorCode,
    reply::{DeviceView, GoAwayReason, PresenceState, Reply},
    seq::InboxSeq,
    store::{
        Commit, StoreError,
        catalogue::{Table, device_key, second_id, user_prefix},
    },
    time::Timestamp,
};

impl Engine {
    pub(super) fn list_devices(&mut self, caller: &Caller) -> Result<Answer, Stop> {
        let user = &caller.user;
        let most = self.limits.devices_per_user;
        let mut devices = Vec::new();
        let mut rows = BTreeMap::new();
        for (key, row) in self.writer.rows(Table::Device, &user_prefix(user), &[], most)? {
            let Some(id) = second_id::<DeviceId>(&key) else { continue };
            rows.insert(key, (id, Device::decode(row)?));
        }
        // Who came while the disk was full, again or for the first time.
        for ((_, id), waiting) in self.full.arrived.iter().filter(|((of, _), _)| of == user) {
            let key = device_key(user, id);
            let row = match rows.remove(&key) {
                Some((_, stored)) => later(stored, waiting.clone()),
                None => waiting.clone(),
            };
            rows.insert(key, (id.clone(), row));
        }
        for (key, (id, row)) in rows {
            let push = self.writer.row(Table::PushTarget, &key)?;
            let device = (user.clone(), id.clone());
            devices.push(DeviceView {
                platform: row.platform,
                state: self
                    .presence
                    .session(user, &id)
                    .map_or(PresenceState::Offline, |o| o.state()),
                first_seen: row.first_seen,
                last_seen: row.last_seen.max(self.seen.get(&device).copied().unwrap_or_default()),
                cursor: row.cursor.max(self.cursors.get(&device).copied().unwrap_or_default()),
                push_registered: push.is_some(),
                device: id,
            });
        }
        Ok(Answer::Reply(Reply::DevicePage(devices)))
    }

    pub(super) fn kick_device(
        &mut self,
        now: Now,
        caller: &Caller,
        device: &DeviceId,
    ) -> Result<Answer, Stop> {
        if !self.is_known(&caller.user, device)? {
            return Err(no_such_device());
        }
        self.end_device(now, &caller.user, device, GoAwayReason::Kicked)?;
        Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }))
    }

    /// What the device has sent stays, and so does the memory of it: only the door is closed.
    pub(super) fn revoke_device(
        &mut self,
        now: Now,
        caller: &Caller,
        device: &DeviceId,
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        let key = device_key(user, device);
        let old = match self.writer.row(Table::Revocation, &key)? {
            Some(row) => Some(Revocation::decode(row)?),
            None => None,
        };
        if old.is_none() && !self.is_known(user, device)? {
            return Err(no_such_device());
        }
        // A clock that was set back opens no door.
        let time = old.map_or(now.wall, |old| old.time.max(now.wall));
        let mut commit = Commit::new();
        commit.put(Table::Revocation, key.clone(), Revocation { time }.encode());
        commit.delete(Table::Device, key);
        self.forget_pushes(user, device, &mut commit)?;
        self.writer.stage(&commit)?;
        self.end_device(now, user, device, GoAwayReason::Revoked)?;
        self.cursors.remove(&(user.clone(), device.clone()));
        self.seen.remove(&(user.clone(), device.clone()));
        self.full.arrived.remove(&(user.clone(), device.clone()));
        Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }))
    }

    /// Refuses a token that is included in a revocation of the device.
    pub(super) fn check_revocation(&self, caller: &Caller, issued: Timestamp) -> Result<(), Stop> {
        match self.writer.row(Table::Revocation, &device_key(&caller.user, &caller.device))? {
            Some(row) if Revocation::decode(row.clone())?.includes(issued) => {
                Err(refuse(ErrorCode::Unauthenticated, "the token is not valid"))
            }
            _ => Ok(()),
        }
    }

    fn end_device(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
        reason: GoAwayReason,
    ) -> Result<(), StoreError> {
        match self.presence.session(user, device).map(|online| online.session) {
            Some(session) => self.end_session(now, user, session, reason),
            None => Ok(()),
        }
    }
}

fn no_such_device() -> Stop {
    refuse(ErrorCode::NotFound, "no such device")
}
