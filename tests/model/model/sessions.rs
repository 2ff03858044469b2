//! Devices connect; time passes; the process ends.

use std::time::Instant;

use roamd::{
    engine::{Caller, Compared, Now},
    id::{ClientMessageId, DeviceId, UserId},
    limits::CURSOR_FLUSH_DELAY_MAX,
    refusal::ErrorCode,
    reply::{TooLongReason, Verdict},
    request::Position,
    seq::InboxSeq,
};

use super::{Device, Model, Outcome, refused};

impl Model {
    pub(super) fn attach(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_max: u64,
        (platform, background): (&str, bool),
        waits: bool,
    ) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        let have = self.devices.keys().filter(|(user, _)| *user == caller.user).count();
        if !self.devices.contains_key(&device) && have >= self.limits.devices_per_user {
            return refused(ErrorCode::TooManyDevices);
        }
        self.make_up(now, &caller.user);
        let known = self.devices.get(&device).cloned();
        let stored = known.as_ref().map_or(0, |known| known.cursor);
        let mut cursor = stored.max(self.cursors.get(&device).copied().unwrap_or(0));
        let compared = self.compare(now, caller, resume, missed_max, cursor);
        if let (Some(at), Verdict::UpToDate | Verdict::CatchUp) = (resume, compared.verdict) {
            cursor = cursor.max(at.seq.number());
        }
        let row = Device {
            cursor,
            platform: platform.into(),
            first_seen: known.map_or(now.wall, |known| known.first_seen),
            last_seen: now.wall,
        };
        let old = self.devices.insert(device.clone(), row);
        match waits {
            true => drop(self.unwritten.entry(device).or_insert(old)),
            false => drop(self.unwritten.remove(&device)),
        }
        self.begin_session(now, caller, platform, background);
        Outcome::Attached(compared)
    }

    pub(super) fn compare(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_max: u64,
        cursor: u64,
    ) -> Compared {
        let oldest = now.wall.minus(self.limits.inbox_age);
        if let Some(inbox) = self.inboxes.get_mut(&caller.user) {
            while inbox.entries.get(inbox.trimmed as usize).is_some_and(|entry| entry.0 < oldest) {
                inbox.trimmed += 1;
            }
        }
        let (first, head) = (self.first(&caller.user), self.head(&caller.user));
        let too_long = match resume {
            None => Some(TooLongReason::NewDevice),
            Some(at) if at.epoch != self.epoch => Some(TooLongReason::Epoch),
            Some(at) if at.seq > head => Some(TooLongReason::Ahead),
            Some(at) if at.seq.number() + 1 < first.number() => Some(TooLongReason::Trimmed),
            Some(at) if missed_max > 0 && head.since(at.seq) > missed_max => {
                Some(TooLongReason::ClientLimit)
            }
            Some(_) => None,
        };
        let verdict = match too_long {
            Some(reason) => Verdict::TooLong(reason),
            None if resume.is_some_and(|at| at.seq == head) => Verdict::UpToDate,
            None => Verdict::CatchUp,
        };
        Compared {
            epoch: self.epoch,
            head,
            first,
            cursor: InboxSeq::new(cursor),
            verdict,
            snapshot: Default::default(),
            unread_total: self.unread_total(&caller.user),
            last_client_id: ClientMessageId::new(self.last_client_id(caller)),
        }
    }

    pub(super) fn caught_up(&self, caller: &Caller) -> Outcome {
        Outcome::CaughtUp {
            seq: self.head(&caller.user),
            unread_total: self.unread_total(&caller.user),
            changed: self.unread_items(&caller.user),
            complete: true,
            large: match self.is_connected(&caller.user) {
                true => self.large_of(&caller.user),
                // Nobody is there to be told.
                false => Vec::new(),
            },
        }
    }

    pub(super) fn cursor(&mut self, now: Now, caller: &Caller, seq: InboxSeq) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        let waiting = self.cursors.entry(device).or_default();
        *waiting = (*waiting).max(seq.number());
        self.cursors_due.get_or_insert(now.mono + CURSOR_FLUSH_DELAY_MAX);
        Outcome::Nothing
    }

    /// When [`Model::on_timer`] next has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        [self.silences_end(), self.cursors_due].into_iter().flatten().min()
    }

    /// When cursors that wait are written.
    #[allow(dead_code, reason = "the live model looks at it")]
    pub fn cursors_due(&self) -> Option<Instant> {
        self.cursors_due
    }

    pub fn on_timer(&mut self, now: Now) {
        if self.cursors_due.is_some_and(|due| due <= now.mono) {
            self.write_cursors();
        }
        self.end_silences(now);
    }

    /// Writes the cursors that wait.
    pub fn write_cursors(&mut self) {
        self.cursors_due = None;
        self.unwritten.clear();
        for (device, seq) in std::mem::take(&mut self.cursors) {
            if let Some(row) = self.devices.get_mut(&device) {
                row.cursor = row.cursor.max(seq);
            }
        }
        for (device, at) in std::mem::take(&mut self.seen) {
            if let Some(row) = self.devices.get_mut(&device) {
                row.last_seen = row.last_seen.max(at);
            }
        }
    }

    /// A full disk has put off when cursors are written: whoever writes them knows.
    #[allow(dead_code, reason = "only the simulation has full disks")]
    pub fn put_off_cursors(&mut self) {
        self.cursors_due = None;
    }

    /// A device was there until now; written with the cursors.
    pub(super) fn note_seen(&mut self, now: Now, device: &(UserId, DeviceId)) {
        self.seen.insert(device.clone(), now.wall);
        self.cursors_due.get_or_insert(now.mono + CURSOR_FLUSH_DELAY_MAX);
    }

    /// An orderly stop writes what waits.
    pub fn finish(&mut self, now: Now) {
        self.write_cursors();
        self.hurry(now);
    }

    /// What a process loses when it ends.
    pub fn restart(&mut self) {
        self.sessions = Default::default();
        self.news = Default::default();
        self.seen.clear();
        self.cursors.clear();
        self.cursors_due = None;
        for (device, stored) in std::mem::take(&mut self.unwritten) {
            match stored {
                Some(stored) => drop(self.devices.insert(device, stored)),
                None => drop(self.devices.remove(&device)),
            }
        }
        self.quiet.clear();
        self.grown.clear();
    }
}
