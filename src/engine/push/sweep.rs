//! Going over all rows of the push hook, a slice at a time: after a start, when memory was too small
//! for all that waits, and now and then to forget what is old.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{Engine, Now},
    schedule::Schedule,
};
use crate::{
    limits::PUSH_SWEEP_ROWS,
    push::{Outbox, Place, Target},
    store::{
        Commit, StoreError,
        catalogue::{Table, first_id, second_id},
    },
    time::Timestamp,
};

/// A sweep that nothing else calls for.
const INTERVAL: Duration = Duration::from_secs(3600);

#[derive(Debug)]
enum Part {
    /// Devices that had a session when the process before this one ended; after this key.
    Targets(Bytes),
    /// Outboxes; after this key.
    Outboxes(Bytes),
    /// Nothing before this time.
    Rest(Timestamp),
}

/// How far it is.
#[derive(Debug)]
pub(super) struct Sweep(Part);

impl Default for Sweep {
    fn default() -> Self {
        Self(Part::Rest(Timestamp::from_millis(u64::MAX)))
    }
}

impl Sweep {
    pub(super) fn begin(&mut self) {
        self.0 = Part::Targets(Bytes::new());
    }

    /// When there is something to do.
    pub(super) fn due(&self, schedule: &Schedule<Place>) -> Option<Timestamp> {
        let now = Timestamp::default();
        match &self.0 {
            Part::Targets(_) => Some(now),
            Part::Outboxes(_) => schedule.has_room().then_some(now),
            Part::Rest(_) if schedule.has_overflowed() => schedule.has_room().then_some(now),
            Part::Rest(until) => Some(*until),
        }
    }
}

impl Engine {
    /// One slice, if it is time.
    pub(super) fn push_sweep(&mut self, now: Now) -> Result<(), StoreError> {
        let due = self.pushes.sweep.due(&self.pushes.schedule);
        if due.is_none_or(|due| due > now.wall) {
            return Ok(());
        }
        let sweep = std::mem::take(&mut self.pushes.sweep);
        self.pushes.sweep = Sweep(match sweep.0 {
            Part::Targets(after) => match self.sweep_targets(now, &after)? {
                Some(after) => Part::Targets(after),
                None => Part::Outboxes(Bytes::new()),
            },
            Part::Outboxes(after) => match self.sweep_outboxes(now, &after)? {
                Some(after) => Part::Outboxes(after),
                None => Part::Rest(now.wall.plus(INTERVAL)),
            },
            Part::Rest(_) => {
                self.pushes.schedule.take_overflowed();
                Part::Outboxes(Bytes::new())
            }
        });
        Ok(())
    }

    fn sweep_targets(&mut self, now: Now, after: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let table = Table::PushTarget;
        let rows = self.writer.rows_and_holes(table, &[], after, PUSH_SWEEP_ROWS)?;
        let more = rows.len() == PUSH_SWEEP_ROWS;
        let mut last = None;
        for (key, row) in rows {
            let row = row.and_then(|row| Target::decode(row).ok());
            if let (Some(user), Some(device)) = (first_id(&key), second_id(&key))
                && row.is_none_or(|row| row.attended)
            {
                self.push_attendance(now, &user, &device)?;
            }
            last = Some(key);
        }
        Ok(last.filter(|_| more))
    }

    fn sweep_outboxes(&mut self, now: Now, after: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let Some(settings) = self.pushes.settings.clone() else { return Ok(None) };
        // A clock that was set back must not make anything wait for long.
        let latest = now.wall.plus(settings.retry_max.max(settings.delay));
        let table = Table::PushJob;
        let rows = self.writer.rows_and_holes(table, &[], after, PUSH_SWEEP_ROWS)?;
        let more = rows.len() == PUSH_SWEEP_ROWS;
        let mut last = None;
        let mut commit = Commit::new();
        for (key, row) in rows {
            let outbox = row.and_then(|row| Outbox::decode(row).ok());
            let (Some(place), Some(mut outbox)) = (Place::of_key(&key), outbox) else {
                tracing::error!(key = %key.escape_ascii(), "an outbox is damaged and dropped");
                commit.delete(table, key.clone());
                last = Some(key);
                continue;
            };
            if self.pushes.in_flight.contains_key(&place) {
                last = Some(key);
                continue;
            }
            let mut changed = outbox.forget(settings.expiry, now.wall);
            if let Some(wanted) = &mut outbox.wanted
                && wanted.due > latest
            {
                (wanted.due, changed) = (latest, true);
            }
            if changed {
                self.put_outbox(place, &outbox, &mut commit);
            } else if let Some(wanted) = outbox.wanted
                && !self.pushes.schedule.set(place, wanted.due)
            {
                self.pushes.schedule.take_overflowed();
                self.writer.stage(&commit)?;
                // From here on again when there is room.
                return Ok(Some(last.unwrap_or_else(|| after.clone())));
            }
            last = Some(key);
        }
        self.writer.stage(&commit)?;
        Ok(last.filter(|_| more))
    }
}
