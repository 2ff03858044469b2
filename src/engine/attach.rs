//! A device opens a session: the version compare, and the cursor it leaves behind.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Caller, Compared, Engine, Now, Stop, refuse};
use crate::{
    inbox::{self, Device},
    limits::CAUGHT_UP_CONVERSATIONS_MAX,
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
        _issued: Timestamp,
        _background: bool,
    ) -> Result<Answer, Stop> {
        let key = device_key(&caller.user, &caller.device);
        let known = match self.writer.row(Table::Device, &key)? {
            Some(row) => Some(Device::decode(row)?),
            None => {
                let most = self.limits.devices_per_user;
                let prefix = user_prefix(&caller.user);
                if self.writer.rows(Table::Device, &prefix, &[], most)?.len() >= most {
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
        if let Some(waiting) = self.cursors.get(&(caller.user.clone(), caller.device.clone())) {
            device.cursor = device.cursor.max(*waiting);
        }
        self.announce_reads(now, &caller.user)?;
        let compared = self.compare(now, caller, resume, missed_entries, device.cursor)?;
        if let (Some(position), Verdict::UpToDate | Verdict::CatchUp) = (resume, compared.verdict) {
            device.cursor = device.cursor.max(position.seq);
        }
        let mut commit = Commit::new();
        commit.put(Table::Device, key, device.encode());
        self.writer.stage(&commit)?;
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
        let first = inbox::expire(&self.writer, &log, kept, now.wall, self.limits.inbox_age)?;
        if first > kept {
            let mut commit = Commit::new();
            commit.trim(log, first.number());
            self.writer.stage(&commit)?;
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
            Some(at) if at.seq.next() < first => too_long(TooLongReason::Trimmed),
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
            unread_total: self.unread_of_all(&caller.user)?.0,
            last_client_id: sent::last_client_id(&self.writer, &caller.user, &caller.device)?,
        })
    }

    /// The state at the head of the inbox, for CaughtUp.
    pub(super) fn caught_up(&mut self, caller: &Caller) -> Result<Answer, Stop> {
        let (unread_total, mut changed) = self.unread_of_all(&caller.user)?;
        let complete = changed.len() <= CAUGHT_UP_CONVERSATIONS_MAX;
        changed.truncate(CAUGHT_UP_CONVERSATIONS_MAX);
        Ok(Answer::CaughtUp {
            seq: self.position(caller)?,
            unread_total,
            changed,
            complete,
            large: Vec::new(),
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
        *waiting = (*waiting).max(seq);
        if fresh {
            self.cursor_timer.receive(now.mono, 1, 0);
        }
        Ok(Answer::Nothing)
    }

    pub(super) fn write_cursors(&mut self) -> Result<(), StoreError> {
        let _ = self.cursor_timer.take();
        let mut commit = Commit::new();
        for ((user, device), seq) in self.cursors.drain() {
            let key = device_key(&user, &device);
            let Some(row) = self.writer.row(Table::Device, &key)? else { continue };
            let mut row = Device::decode(row)?;
            if seq > row.cursor {
                row.cursor = seq;
                commit.put(Table::Device, key, row.encode());
            }
        }
        if commit.is_empty() { Ok(()) } else { self.writer.stage(&commit) }
    }
}
