//! A device opens a session: the version compare, and the cursor it leaves behind.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashSet;

use super::{
    Answer, Caller, Compared, Engine, Now, Stop, counts::UserCounts, full::when_there_is_room,
    refuse,
};
use crate::{
    id::{DeviceId, UserId},
    inbox::{self, Device},
    limits::CAUGHT_UP_CONVERSATIONS_MAX,
    planted::{self, Bug},
    refusal::ErrorCode,
    reply::{TooLongReason, Verdict},
    request::Position,
    sent,
    seq::InboxSeq,
    store::{
        Commit, StoreError,
        catalogue::{LogKey, Table, device_key, user_prefix},
    },
    time::Timestamp,
};

impl Engine {
    pub(super) fn attach(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_entries: u32,
        platform: &Arc<str>,
        issued: Timestamp,
        background: bool,
    ) -> Result<Answer, Stop> {
        self.check_revocation(caller, issued)?;
        let key = device_key(&caller.user, &caller.device);
        let name = (caller.user.clone(), caller.device.clone());
        let waiting = self.full.arrived.get(&name).cloned();
        let stored = match self.writer.row(Table::Device, &key)? {
            Some(row) => Some(Device::decode(row)?),
            None => None,
        };
        let known = match stored.into_iter().chain(waiting).reduce(later) {
            Some(known) => Some(known),
            None => {
                let most = self.limits.devices_per_user;
                let prefix = user_prefix(&caller.user);
                let there = self.writer.rows(Table::Device, &prefix, &[], most)?.len();
                // Who came while the disk was full, and has no row yet.
                let mut waiting = 0;
                for (user, device) in self.full.arrived.keys() {
                    if *user == caller.user {
                        let row = self.writer.row(Table::Device, &device_key(user, device))?;
                        waiting += usize::from(row.is_none());
                    }
                }
                if there + waiting >= most {
                    return Err(refuse(
                        ErrorCode::TooManyDevices,
                        format!("this user already has {most} devices"),
                    ));
                }
                None
            }
        };
        let mut device = Device {
            cursor: known.as_ref().map_or(InboxSeq::ZERO, |known| known.cursor),
            first_seen: known.as_ref().map_or(now.wall, |known| known.first_seen),
            last_seen: now.wall,
            platform: Arc::clone(platform),
        };
        if let Some(waiting) = self.cursors.get(&name) {
            device.cursor = device.cursor.max(*waiting);
        }
        when_there_is_room(self.make_up_for(now, &caller.user))?;
        let compared = self.compare(now, caller, resume, missed_entries, device.cursor)?;
        if let (Some(position), Verdict::UpToDate | Verdict::CatchUp) = (resume, compared.verdict) {
            device.cursor = device.cursor.max(position.seq);
        }
        let mut commit = Commit::new();
        commit.put(Table::Device, key, device.encode());
        let record = self.clock.record(now, &mut commit);
        match self.writer.stage(&commit) {
            Ok(()) => {
                self.clock.recorded(record);
                self.full.arrived.remove(&name);
            }
            Err(StoreError::NoSpace) => {
                self.full.arrived.insert(name, device);
                self.cursor_timer.receive(now.mono, 1, 0);
            }
            Err(error) => return Err(error.into()),
        }
        self.listen(caller)?;
        self.begin_session(now, caller, platform, background)?;
        Ok(Answer::Attached(Box::new(compared)))
    }

    pub(super) fn resume(
        &mut self,
        now: Now,
        caller: &Caller,
        position: Position,
    ) -> Result<Answer, Stop> {
        let compared = self.compare(now, caller, Some(position), 0, InboxSeq::ZERO)?;
        Ok(Answer::Resumed(Box::new(compared)))
    }

    /// Compares the device's version with the user's latest.
    fn compare(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_entries: u32,
        cursor: InboxSeq,
    ) -> Result<Compared, Stop> {
        let log = LogKey::inbox(&caller.user);
        let (kept, head) = inbox::kept(self.writer.bounds(&log)?, self.limits.inbox_entries);
        let ages = self.clock.ages(now);
        let first = inbox::expire(&self.writer, &log, kept, ages, self.limits.inbox_age)?;
        if first > kept {
            let mut commit = Commit::new();
            commit.trim(log, first.number());
            when_there_is_room(self.writer.stage(&commit))?;
        }
        let too_long = |reason| Verdict::TooLong(reason);
        let verdict = match resume {
            None => too_long(TooLongReason::NewDevice),
            Some(at) if at.epoch != self.epoch => too_long(TooLongReason::Epoch),
            Some(at) if at.seq > head => {
                tracing::error!(user = %caller.user, device = %caller.device, has = at.seq.number(),
                    head = head.number(), "a device is ahead of the server: data has been lost");
                too_long(TooLongReason::Ahead)
            }
            Some(at) if at.seq.next() < first && !planted::is(Bug::TooLongNotSaid) => {
                too_long(TooLongReason::Trimmed)
            }
            Some(at) if at.seq == head => Verdict::UpToDate,
            Some(at) if missed_entries > 0 && head.since(at.seq) > u64::from(missed_entries) => {
                too_long(TooLongReason::ClientLimit)
            }
            Some(_) => Verdict::CatchUp,
        };
        Ok(Compared {
            epoch: self.epoch,
            head,
            first,
            cursor,
            verdict,
            snapshot: Bytes::copy_from_slice(&head.number().to_be_bytes()),
            unread_total: self.counted(&caller.user, UserCounts::total)?,
            last_client_id: sent::last_client_id(&self.writer, &caller.user, &caller.device)?,
        })
    }

    /// The state at the head of the inbox, for CaughtUp.
    pub(super) fn caught_up(&mut self, caller: &Caller) -> Result<Answer, Stop> {
        let (unread_total, changed, complete) = self.counted(&caller.user, |counted| {
            let unread = counted.unread();
            let complete = unread.len() <= CAUGHT_UP_CONVERSATIONS_MAX;
            let newest = unread.take(CAUGHT_UP_CONVERSATIONS_MAX).cloned().collect();
            (counted.total(), newest, complete)
        })?;
        Ok(Answer::CaughtUp {
            seq: self.position(caller)?,
            unread_total,
            changed,
            complete,
            large: self.large_ends(&caller.user)?,
        })
    }

    /// The newest entry of the caller's inbox: the position every answer names.
    pub(super) fn position(&self, caller: &Caller) -> Result<InboxSeq, StoreError> {
        Ok(InboxSeq::new(self.writer.bounds(&LogKey::inbox(&caller.user))?.last))
    }

    /// Notes a device's cursor; written with others by timer and count.
    pub(super) fn cursor(
        &mut self,
        now: Now,
        caller: &Caller,
        seq: InboxSeq,
    ) -> Result<Answer, Stop> {
        let device = (caller.user.clone(), caller.device.clone());
        let fresh = !self.cursors.contains_key(&device);
        let waiting = self.cursors.entry(device).or_insert(seq);
        *waiting = match planted::is(Bug::CursorBackwards) {
            true => seq,
            false => seq.max(*waiting),
        };
        if fresh {
            self.cursor_timer.receive(now.mono, 1, 0);
        }
        Ok(Answer::Nothing)
    }

    /// Notes that a device was there until now; written with the cursors.
    pub(super) fn note_seen(&mut self, now: Now, user: &UserId, device: &DeviceId) {
        if self.seen.insert((user.clone(), device.clone()), now.wall).is_none() {
            self.cursor_timer.receive(now.mono, 1, 0);
        }
    }

    /// Devices of which something waits to be written.
    pub(super) fn waiting_devices(&self) -> HashSet<(UserId, DeviceId)> {
        let arrived = self.full.arrived.keys();
        self.cursors.keys().chain(self.seen.keys()).chain(arrived).cloned().collect()
    }

    pub(super) fn write_cursors(&mut self, now: Now) -> Result<(), StoreError> {
        let _ = self.cursor_timer.take();
        let devices = self.waiting_devices();
        let cursors = std::mem::take(&mut self.cursors);
        let seen = std::mem::take(&mut self.seen);
        let arrived = std::mem::take(&mut self.full.arrived);
        let mut commit = Commit::new();
        for device in &devices {
            let key = device_key(&device.0, &device.1);
            let old = match self.writer.row(Table::Device, &key)? {
                Some(row) => Some(Device::decode(row)?),
                None => None,
            };
            let rows = old.clone().into_iter().chain(arrived.get(device).cloned());
            let Some(row) = rows.reduce(later) else { continue };
            let cursor = cursors.get(device).copied();
            let row = Device {
                cursor: match cursor {
                    Some(cursor) if planted::is(Bug::CursorBackwards) => cursor,
                    _ => row.cursor.max(cursor.unwrap_or_default()),
                },
                last_seen: row.last_seen.max(seen.get(device).copied().unwrap_or_default()),
                ..row
            };
            if old.as_ref() != Some(&row) {
                commit.put(Table::Device, key, row.encode());
            }
        }
        let record = self.clock.record(now, &mut commit);
        let written = self.writer.stage(&commit);
        if written.is_ok() {
            self.clock.recorded(record);
        }
        if let Err(StoreError::NoSpace) = written {
            let waiting = cursors.len() + seen.len() + arrived.len();
            (self.cursors, self.seen, self.full.arrived) = (cursors, seen, arrived);
            self.cursor_timer.receive(now.mono, waiting as u64, 0);
        }
        written
    }
}

/// A device's row, and what is newer of it and waits to be written.
pub(super) fn later(stored: Device, waiting: Device) -> Device {
    Device {
        cursor: stored.cursor.max(waiting.cursor),
        first_seen: stored.first_seen.min(waiting.first_seen),
        last_seen: stored.last_seen.max(waiting.last_seen),
        platform: waiting.platform,
    }
}
