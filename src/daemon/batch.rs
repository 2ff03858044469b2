//! Batches: commands are applied one by one, flushed once, and then their answers go.
//!
//! Nothing that rests on a commit leaves before the flush: answers and heads are handed out after it. Who
//! drives this, one at a time, is the business of `writer.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};

use super::{
    directory::Directory,
    feed::{Feed, Wakes},
    pace::Pace,
    queue::Taker,
};
use crate::{
    clock::Clock,
    engine::{Answer, Caller, Command, Engine, LargeNotice, Sign},
    inbox,
    limits::Limits,
    planted::{self, Bug},
    push::{Job, Outcome, Verdict},
    reply::{GoAwayReason, Reply},
    seq::InboxSeq,
    store::{Reader, StoreError, catalogue::LogKey},
};

/// A batch is closed at so many commands ...
const COMMANDS_MAX: usize = 4096;
/// ... or so many bytes to write.
const BYTES_MAX: usize = 4 << 20;
/// How long to wait before a full disk is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);
/// The thread looks at the engine at least this often.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// The same of a batch that a connection makes: when more waits it is left to the thread.
const SHORT_COMMANDS_MAX: usize = 16;
const SHORT_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub(super) enum Task {
    Do {
        feed: Arc<Feed>,
        number: u64,
        caller: Caller,
        command: Command,
        bytes: usize,
        since: Instant,
    },
    Detach(Caller),
    Settle(Outcome),
    Limit(Box<Limits>),
    Finish,
}

impl Task {
    /// Whether it is done in a moment, whatever is stored.
    fn is_short(&self) -> bool {
        matches!(self, Self::Do { command, .. } if command.is_short())
    }
}

/// The engine, what waits for it, and who is to hear of what it does.
pub(super) struct Batches {
    pub(super) engine: Engine,
    pub(super) waiting: Taker<Task>,
    pub(super) reader: Reader,
    pub(super) clock: Clock,
    pub(super) directory: Directory,
    /// Takes everything the engine has out at once.
    pub(super) hook: Sender<Job>,
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    pub(super) pace: Arc<Pace>,
    /// Pushes that gave way to newer ones.
    pub(super) dropped_pushes: u64,
    pub(super) held: Held,
}

/// What waits for the flush.
enum Due {
    Answer(Arc<Feed>, u64, Answer),
    /// What was to be told of large conversations before the next answer.
    Large(Vec<LargeNotice>),
}

/// What waits for the flush, in order. Its room is used again: a batch is bounded.
#[derive(Default)]
pub(super) struct Held {
    due: Vec<Due>,
    displaced: Vec<Arc<Feed>>,
    finish: bool,
    /// It was applied and there was no room to write it.
    stuck: bool,
}

impl Batches {
    /// One batch of everything that waits, up to a bound, and of what is due by time. False after the
    /// last: everything is written and answered.
    ///
    /// # Errors
    /// When the store fails: final.
    pub(super) fn batch(&mut self) -> Result<bool, StoreError> {
        if self.held.stuck {
            self.publish(true)?;
        }
        let began = Instant::now();
        let mut commands = 0;
        while commands < COMMANDS_MAX
            && self.engine.staged_bytes() < BYTES_MAX
            && !self.held.finish
            && let Some(task) = self.waiting.try_take()
        {
            self.task(task)?;
            commands += 1;
        }
        if commands == 0 && !self.engine.healthy() {
            return Err(StoreError::Poisoned);
        }
        let bound = commands >= COMMANDS_MAX || self.engine.staged_bytes() >= BYTES_MAX;
        let now = self.clock.now();
        if self.held.finish {
            let devices = self.engine.finish(now)?;
            if devices > 0 {
                tracing::warn!(
                    devices,
                    "no space left at the end: how far these devices are is forgotten; they \
                     are given again what they had acked"
                );
            }
        } else if self.engine.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.engine.on_timer(now)?;
        }
        let flush = self.publish(true)?;
        if commands > 0 {
            self.pace.did(commands, bound, began.elapsed().saturating_sub(flush), flush);
        }
        Ok(!self.held.finish)
    }

    /// One batch of the commands that wait and are done in a moment, up to the first that is not. Does
    /// nothing when it could wait for more than its one flush, and never sleeps on a full disk.
    ///
    /// # Errors
    /// As [`Batches::batch`].
    pub(super) fn short_batch(&mut self) -> Result<(), StoreError> {
        let few = self.waiting.len() <= SHORT_COMMANDS_MAX;
        if !few || self.held.stuck || !self.engine.is_at_ease(4 * SHORT_BYTES_MAX) {
            return Ok(());
        }
        let began = Instant::now();
        let mut commands = 0;
        while commands < SHORT_COMMANDS_MAX
            && self.engine.staged_bytes() < SHORT_BYTES_MAX
            && let Some(task) = self.waiting.try_take_if(Task::is_short)
        {
            self.task(task)?;
            commands += 1;
        }
        if commands == 0 {
            return Ok(());
        }
        let flush = self.publish(false)?;
        self.pace.did(commands, false, began.elapsed().saturating_sub(flush), flush);
        Ok(())
    }

    /// The next batch is the last.
    pub(super) fn finish(&mut self) {
        self.held.finish = true;
    }

    /// Whether it is the thread's turn before this time, though nothing may have come.
    pub(super) fn is_due_before(&self, time: Instant) -> bool {
        self.held.stuck || self.engine.deadline().is_some_and(|deadline| deadline < time)
    }

    /// Nothing waits. Returns until when the thread may sleep.
    pub(super) fn rest(&self) -> Instant {
        self.pace.waited(Duration::ZERO);
        let idle = self.clock.now().mono + IDLE_MAX;
        self.engine.deadline().map_or(idle, |deadline| deadline.min(idle))
    }

    fn task(&mut self, task: Task) -> Result<(), StoreError> {
        match task {
            Task::Do { feed, number, caller, command, bytes, since } => {
                let now = self.clock.now();
                self.pace.waited(now.mono.saturating_duration_since(since));
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if let Command::CaughtUp = command {
                    // What the answer tells is newer.
                    self.held.due.push(Due::Large(self.engine.take_large()));
                }
                let answer = self.engine.apply(now, &caller, &command)?;
                if let Answer::Attached(_) = answer {
                    self.held.displaced.extend(self.directory.attach(&caller, Arc::clone(&feed)));
                }
                if !matches!(answer, Answer::Nothing) {
                    self.held.due.push(Due::Answer(feed, number, answer));
                }
            }
            Task::Detach(caller) => {
                self.engine.apply(self.clock.now(), &caller, &Command::Detach)?;
                self.directory.detach(&caller);
            }
            Task::Settle(outcome) => self.engine.settle_push(self.clock.now(), &outcome)?,
            Task::Limit(limits) => self.engine.set_limits(*limits),
            Task::Finish => self.held.finish = true,
        }
        Ok(())
    }

    /// Flushes, then hands out what rests on it; returns how long the flush took. Only who is patient
    /// waits for a disk that is full.
    fn publish(&mut self, patient: bool) -> Result<Duration, StoreError> {
        if planted::is(Bug::AckBeforeSync) {
            self.hand_out(&mut Wakes::default());
        }
        let began = Instant::now();
        let effects = loop {
            match self.engine.flush() {
                Ok(effects) => break effects,
                Err(StoreError::NoSpace) => {
                    self.held.stuck = true;
                    if !patient {
                        return Ok(began.elapsed());
                    }
                    // Room was made sure of before anything was staged, and is gone again.
                    tracing::error!("the disk takes back space it had given: everything waits");
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        self.held.stuck = false;
        let flush = began.elapsed();
        let wakes = &mut Wakes::default();
        for feed in self.held.displaced.drain(..) {
            feed.end(wakes, GoAwayReason::Replaced);
        }
        for (user, session, followed) in effects.unfollowed {
            self.directory.session(&user, session).for_each(|feed| feed.unfollow(&followed));
        }
        for sign in &effects.signs {
            // Whoever hears that a session was ended finds that it reads nothing any more.
            if let Sign::End(user, session, _) = sign {
                self.directory.session(user, *session).for_each(|feed| feed.bar());
            }
        }
        self.hand_out(wakes);
        // Before the inboxes: what came from a large conversation goes before the entry that it no
        // longer is one.
        tell_large(&self.directory, wakes, effects.large);
        for (user, (total, position)) in effects.totals {
            self.directory.feeds(&user).for_each(|feed| feed.total(wakes, total, position));
        }
        for sign in effects.signs {
            self.sign(wakes, sign);
        }
        for ((user, session), changes) in effects.presence {
            if let Some(feed) = self.directory.session(&user, session).next() {
                feed.presence(wakes, changes);
            }
        }
        for job in effects.jobs {
            if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) =
                self.hook.try_send(job)
            {
                let verdict = Verdict::Failed(Duration::ZERO);
                let outcome = Outcome { place: job.place, id: job.id, verdict };
                self.engine.settle_push(self.clock.now(), &outcome)?;
            }
        }
        for user in effects.inboxes {
            let mut online = self.directory.feeds(&user).peekable();
            if online.peek().is_none() {
                continue;
            }
            let bounds = self.reader.bounds(&LogKey::inbox(&user))?;
            let (_, head) = inbox::kept(bounds, u64::MAX);
            online.for_each(|feed| feed.grow(wakes, InboxSeq::new(head.number())));
        }
        Ok(flush)
    }

    fn hand_out(&mut self, wakes: &mut Wakes) {
        for due in self.held.due.drain(..) {
            match due {
                Due::Answer(feed, number, answer) => feed.answer(wakes, number, answer),
                Due::Large(notices) => tell_large(&self.directory, wakes, notices),
            }
        }
    }

    fn sign(&mut self, wakes: &mut Wakes, sign: Sign) {
        let mut dropped = 0;
        let mut push = |wakes: &mut Wakes, feed: &Arc<Feed>, push: &Reply| {
            dropped += u64::from(feed.push(wakes, push.clone()));
        };
        match sign {
            Sign::End(user, session, reason) => {
                self.directory.session(&user, session).for_each(|feed| feed.end(wakes, reason));
            }
            Sign::Push(user, Some(session), reply) => {
                let online = self.directory.session(&user, session);
                online.for_each(|feed| push(wakes, feed, &reply));
            }
            Sign::Push(user, None, reply) => {
                self.directory.feeds(&user).for_each(|feed| push(wakes, feed, &reply));
            }
            Sign::Spread(users, but, reply) => {
                for user in users {
                    let online = self.directory.feeds_but(&user, but);
                    online.for_each(|feed| push(wakes, feed, &reply));
                }
            }
        }
        self.dropped_pushes += dropped;
    }
}

fn tell_large(directory: &Directory, wakes: &mut Wakes, notices: Vec<LargeNotice>) {
    for notice in notices {
        match notice {
            LargeNotice::User(user, sign) => {
                directory.feeds(&user).for_each(|feed| feed.large(wakes, &sign));
            }
            LargeNotice::All(users, sign) => {
                for user in users.iter() {
                    directory.feeds(user).for_each(|feed| feed.large(wakes, &sign));
                }
            }
        }
    }
}
