//! The push hook's outboxes: what happens to them when messages come, are read or recalled, and when
//! devices come and go. The rules themselves are in [`crate::push`].
//!
//! An outbox changes in the commit of what changes it. When something is due it is decided again
//! with everything known by then ([`due`]), handed out after the flush, and its outcome comes back as
//! an input. Memory holds who is due when ([`schedule`]) and what is in flight; both bounded, and
//! both made anew from the rows ([`sweep`]) after a start and whenever they were too small. Members
//! of large conversations are told pass by pass ([`rounds`]).
//!
//! Users without a registered device cost one look at a map on the way of a message, and nothing at
//! all while nobody has registered one.

mod due;
mod news;
mod rounds;
mod schedule;
mod sweep;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use self::{due::Flight, schedule::Schedule, sweep::Sweep};
use super::{Answer, Caller, Engine, Now, Stop};
use crate::{
    id::{ConversationId, DeviceId, UserId},
    inbox::Device,
    limits::PUSHES_IN_FLIGHT_MAX,
    planted::{self, Bug},
    push::{Outbox, Place, Round, Settings, Target},
    reply::Reply,
    seq::InboxSeq,
    store::{
        Commit, StoreError,
        catalogue::{Table, device_key, second_id, user_prefix},
    },
    time::Timestamp,
};

/// Outboxes whose time is known to memory. More: they are found by the next sweep.
const SCHEDULED_MAX: usize = 1 << 16;
/// Users whose registered devices are known to memory; beyond, this starts anew.
const USERS_KNOWN_MAX: usize = 1 << 17;
/// Devices that have just lost their session. More: the oldest are told of things without delay.
const QUIET_MAX: usize = 1 << 16;

/// The registered devices of one user; none = it has none.
type Targets = Option<Arc<[(DeviceId, Target)]>>;

/// What the engine knows of the hook beyond the rows.
#[derive(Debug)]
pub(super) struct Pushes {
    /// None = no hook.
    settings: Option<Settings>,
    /// One moment on both clocks, which run alike.
    started: Option<Now>,
    /// There may be a registered device.
    any: bool,
    users: HashMap<UserId, Targets>,
    quiet: HashMap<(UserId, DeviceId), Timestamp>,
    /// The same, in order of time.
    quiet_order: VecDeque<(Timestamp, (UserId, DeviceId))>,
    schedule: Schedule<Place>,
    in_flight: HashMap<Place, Flight>,
    rounds: HashMap<ConversationId, Round>,
    round_times: Schedule<ConversationId>,
    sweep: Sweep,
}

impl Default for Pushes {
    fn default() -> Self {
        Self {
            settings: None,
            started: None,
            any: false,
            users: HashMap::new(),
            quiet: HashMap::new(),
            quiet_order: VecDeque::new(),
            schedule: Schedule::new(SCHEDULED_MAX),
            in_flight: HashMap::new(),
            rounds: HashMap::new(),
            round_times: Schedule::new(usize::MAX),
            sweep: Sweep::default(),
        }
    }
}

impl Pushes {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let started = self.started?;
        let outbox = self.schedule.first().filter(|_| self.in_flight.len() < PUSHES_IN_FLIGHT_MAX);
        let due = [outbox, self.round_times.first(), self.sweep.due(&self.schedule)];
        let due = due.into_iter().flatten().min()?;
        let from_start = due.millis().saturating_sub(started.wall.millis());
        started.mono.checked_add(Duration::from_millis(from_start))
    }

    /// What is cached may be out of date.
    pub(super) fn look_again(&mut self) {
        self.users.clear();
    }

    /// Until when a device that has lost its session is left alone.
    fn quiet_until(&self, user: &UserId, device: &DeviceId) -> Timestamp {
        let (Some(settings), Some(started)) = (&self.settings, self.started) else {
            return Timestamp::default();
        };
        // A daemon that begins has lost all sessions just now.
        let all = started.wall.plus(settings.delay);
        let one = self.quiet.get(&(user.clone(), device.clone())).copied().unwrap_or_default();
        all.max(one)
    }

    fn keep_quiet(&mut self, now: Now, user: &UserId, device: &DeviceId) {
        let Some(settings) = &self.settings else { return };
        let key = (user.clone(), device.clone());
        let until = now.wall.plus(settings.delay);
        self.quiet_order.push_back((until, key.clone()));
        self.quiet.insert(key, until);
        while self.quiet_order.len() > QUIET_MAX
            || self.quiet_order.front().is_some_and(|(until, _)| *until <= now.wall)
        {
            let Some((until, key)) = self.quiet_order.pop_front() else { break };
            if self.quiet.get(&key) == Some(&until) {
                self.quiet.remove(&key);
            }
        }
    }
}

impl Engine {
    /// There is a hook from now on: jobs come out of [`Engine::flush`] and their outcomes go into
    /// [`Engine::settle_push`]. At most [`PUSHES_IN_FLIGHT_MAX`] are out at once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn set_push_hook(&mut self, settings: Settings, now: Now) -> Result<(), StoreError> {
        let first = self.writer.rows_and_holes(Table::PushTarget, &[], &[], 1)?;
        self.pushes.any = !first.is_empty();
        self.pushes.settings = Some(settings);
        self.pushes.started = Some(now);
        if !planted::is(Bug::PushJobLost) {
            self.pushes.sweep.begin();
        }
        self.load_rounds()
    }

    pub(super) fn register_push(
        &mut self,
        now: Now,
        caller: &Caller,
        provider: &Arc<str>,
        token: &Arc<str>,
    ) -> Result<Answer, Stop> {
        let (user, device) = (&caller.user, &caller.device);
        let mut commit = Commit::new();
        if token.is_empty() {
            self.forget_pushes(user, device, &mut commit)?;
        } else {
            let key = device_key(user, device);
            let old = self.writer.row(Table::PushTarget, &key)?.map(Target::decode);
            let same = |old: &Target| old.provider == *provider && old.token == *token;
            if old.and_then(Result::ok).as_ref().is_some_and(same) {
                return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
            }
            let target = Target {
                provider: Arc::clone(provider),
                token: Arc::clone(token),
                registered: now.wall,
                attended: self.presence.foreground(user, device),
            };
            commit.put(Table::PushTarget, key, target.encode());
            self.pushes.any = true;
        }
        self.writer.stage(&commit)?;
        self.pushes.users.remove(user);
        Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }))
    }

    /// The hook no longer knows the device.
    pub(super) fn forget_pushes(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let key = device_key(user, device);
        for (job, _) in self.writer.rows_and_holes(Table::PushJob, &key, &[], usize::MAX)? {
            if let Some(place) = Place::of_key(&job) {
                self.pushes.schedule.remove(&place);
            }
            commit.delete(Table::PushJob, job);
        }
        commit.delete(Table::PushTarget, key);
        self.pushes.users.remove(user);
        Ok(())
    }

    /// A device has a session in the foreground now, or has none any more. What it has not acked
    /// when it goes is turned into jobs.
    pub(super) fn push_attendance(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<(), StoreError> {
        let done = self.note_attendance(now, user, device);
        if let Err(StoreError::NoSpace) = done {
            self.full.attendance.insert((user.clone(), device.clone()));
            return Ok(());
        }
        self.spared(done)
    }

    fn note_attendance(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<(), StoreError> {
        let attended = self.presence.foreground(user, device);
        let Some(targets) = self.push_targets(user)? else { return Ok(()) };
        let Some((_, target)) = targets.iter().find(|(other, _)| other == device) else {
            return Ok(());
        };
        if target.attended == attended {
            return Ok(());
        }
        let mut commit = Commit::new();
        let target = Target { attended, ..target.clone() };
        commit.put(Table::PushTarget, device_key(user, device), target.encode());
        if !attended {
            self.pushes.keep_quiet(now, user, device);
            self.push_missed(now, user, device, &mut commit)?;
        }
        self.writer.stage(&commit)?;
        self.pushes.users.remove(user);
        Ok(())
    }

    /// Commits were refused for want of room: what memory knows of rows is made anew from them.
    pub(super) fn pushes_again(&mut self) -> Result<(), StoreError> {
        if self.pushes.settings.is_none() {
            return Ok(());
        }
        self.pushes.look_again();
        self.pushes.sweep.begin();
        self.pushes.rounds.clear();
        self.pushes.round_times = Schedule::new(usize::MAX);
        self.load_rounds()
    }

    /// The user's registered devices. Costs nothing when there is no hook.
    fn push_targets(&mut self, user: &UserId) -> Result<Targets, StoreError> {
        if self.pushes.settings.is_none() || !self.pushes.any {
            return Ok(None);
        }
        if let Some(known) = self.pushes.users.get(user) {
            return Ok(known.clone());
        }
        let mut targets = Vec::new();
        let prefix = user_prefix(user);
        for (key, row) in self.writer.rows_and_holes(Table::PushTarget, &prefix, &[], usize::MAX)? {
            // Where a damaged row says to reach a device nobody knows; the device will say it again.
            if let (Some(device), Some(Ok(target))) = (second_id(&key), row.map(Target::decode)) {
                targets.push((device, target));
            }
        }
        let targets = if targets.is_empty() { None } else { Some(targets.into()) };
        if self.pushes.users.len() >= USERS_KNOWN_MAX {
            self.pushes.users.clear();
        }
        self.pushes.users.insert(user.clone(), Option::clone(&targets));
        Ok(targets)
    }

    fn push_target(&mut self, place: &Place) -> Result<Option<Target>, StoreError> {
        let targets = self.push_targets(&place.user)?;
        let mut targets = targets.iter().flat_map(|targets| targets.iter());
        Ok(targets.find(|(device, _)| *device == place.device).map(|(_, target)| target.clone()))
    }

    fn push_outbox(&self, place: &Place) -> Result<Outbox, StoreError> {
        let row = match self.writer.row(Table::PushJob, &place.key()) {
            Err(StoreError::Damaged(_)) => None,
            row => row?,
        };
        // Nothing is known of a damaged one; what comes next makes a new one.
        Ok(row.and_then(|row| Outbox::decode(row).ok()).unwrap_or_default())
    }

    /// The outbox as it is now becomes part of a commit, and what it wants is done in time.
    fn put_outbox(&mut self, place: Place, outbox: &Outbox, commit: &mut Commit) {
        let key = place.key();
        if outbox.is_empty() {
            commit.delete(Table::PushJob, key);
        } else {
            commit.put(Table::PushJob, key, outbox.encode());
        }
        match outbox.wanted {
            // What is in flight is looked at again when its outcome is known.
            Some(_) if self.pushes.in_flight.contains_key(&place) => {}
            Some(wanted) => {
                self.pushes.schedule.set(place, wanted.due);
            }
            None => self.pushes.schedule.remove(&place),
        }
    }

    /// What a device has stored, by its own word.
    fn cursor_of(&self, user: &UserId, device: &DeviceId) -> Result<InboxSeq, StoreError> {
        let row = match self.writer.row(Table::Device, &device_key(user, device))? {
            Some(row) => Device::decode(row)?.cursor,
            None => InboxSeq::ZERO,
        };
        let name = (user.clone(), device.clone());
        let waiting = self.cursors.get(&name).copied();
        let arrived = self.full.arrived.get(&name).map(|device| device.cursor);
        Ok(row.max(waiting.unwrap_or_default()).max(arrived.unwrap_or_default()))
    }

    /// What is damaged, or finds no room, costs a notification, not the request that called for it.
    fn spared(&mut self, done: Result<(), StoreError>) -> Result<(), StoreError> {
        match done {
            Err(StoreError::NoSpace) => {
                tracing::warn!("a notification is not taken back: no space left");
                self.abandon_ids();
                Ok(())
            }
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(%error, "devices are not told by the push hook");
                self.abandon_ids();
                Ok(())
            }
            done => done,
        }
    }

    /// The commit that reserved ids may be the one that was not staged.
    fn abandon_ids(&mut self) {
        self.reserved_ids = self.next_id;
    }
}
