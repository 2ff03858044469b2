//! The writer's thread: takes what waits, applies it, flushes once, then lets the answers go.
//!
//! While one batch is flushed the next gathers, so the batch grows with the load. Nothing that rests
//! on a commit leaves before the flush: answers and heads are handed out after it.
//!
//! On a full disk the engine refuses what would write and answers the rest; nobody waits here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};

use super::{
    directory::Directory,
    feed::{Feed, Wakes},
    pace::Pace,
    queue::{self, Giver, Next, Taker},
};
use crate::{
    clock::Clock,
    engine::{Answer, Caller, Command, Engine, LargeNotice, Sign},
    inbox,
    limits::Limits,
    planted::{self, Bug},
    push::{Job, Outcome, Verdict},
    reply::{GoAwayReason, Reply},
    request::Request,
    seq::InboxSeq,
    store::{Reader, StoreError, Writer, catalogue::LogKey},
};

/// Commands that may wait. More: OVERLOADED.
const WAITING_MAX: usize = 64 * 1024;
/// Bytes of content that may wait. More: OVERLOADED.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// A batch is closed at so many commands ...
const BATCH_COMMANDS_MAX: usize = 4096;
/// ... or so many bytes to write.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How long to wait before a full disk is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Task {
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

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Submitter {
    tasks: Giver<Task>,
    waiting_bytes: Arc<AtomicUsize>,
    pace: Arc<Pace>,
    waiting_time: Duration,
}

/// Too much waits.
#[derive(Debug)]
pub(super) struct Overloaded;

impl Submitter {
    pub(super) fn submit(
        &self,
        feed: &Arc<Feed>,
        number: u64,
        caller: Caller,
        command: Command,
    ) -> Result<(), Overloaded> {
        let bytes = match &command {
            Command::Request(Request::Send { draft, .. }) => draft.content.len(),
            Command::Request(Request::Edit { content, .. }) => content.len(),
            _ => 0,
        };
        // A session that opens, or goes on, is let through: it costs little.
        let request = matches!(command, Command::Request(_));
        if request && self.pace.wait(self.tasks.len()) > self.waiting_time {
            return Err(Overloaded);
        }
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            return Err(Overloaded);
        }
        let feed = Arc::clone(feed);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let since = Instant::now();
        self.tasks.try_give(Task::Do { feed, number, caller, command, bytes, since }).map_err(
            |queue::Full| {
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                Overloaded
            },
        )
    }

    /// A session is over. Never refused: this must not be lost, and there are no more than sessions.
    pub(super) fn detach(&self, caller: Caller) {
        self.tasks.give(Task::Detach(caller));
    }

    /// What became of a push job. Never refused: there are no more than jobs that are out.
    pub(super) fn settle(&self, outcome: Outcome) {
        self.tasks.give(Task::Settle(outcome));
    }

    /// From now on these are the limits.
    pub(super) fn limit(&self, limits: Limits) {
        self.tasks.give(Task::Limit(Box::new(limits)));
    }

    /// Everything before this is done, written and answered; then the thread ends.
    pub(super) fn finish(&self) {
        self.tasks.give(Task::Finish);
    }
}

/// Starts the thread. It returns the store's writer when told to finish, or the error that ended
/// it, after calling `on_end`.
pub(super) fn start(
    engine: Engine,
    reader: Reader,
    clock: Clock,
    hook: Sender<Job>,
    waiting_time: Duration,
    on_end: impl FnOnce() + Send + 'static,
) -> std::io::Result<(Submitter, JoinHandle<Result<Writer, StoreError>>)> {
    let (tasks, mut waiting) = queue::bounded(WAITING_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let pace = Arc::new(Pace::default());
    let (in_bytes, in_time) = (Arc::clone(&waiting_bytes), Arc::clone(&pace));
    let submitter = Submitter { tasks, waiting_bytes: in_bytes, pace: in_time, waiting_time };
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
        let directory = Directory::default();
        let mut thread = Thread {
            engine,
            reader,
            clock,
            directory,
            hook,
            waiting_bytes,
            pace,
            dropped_pushes: 0,
        };
        // Also when it panics: the daemon must not go on without its writer.
        let _ended = OnEnd(Some(on_end));
        let outcome = thread.run(&mut waiting);
        if thread.dropped_pushes > 0 {
            tracing::info!(
                dropped = thread.dropped_pushes,
                "ephemeral pushes gave way to newer ones"
            );
        }
        outcome.map(|()| {
            tracing::info!(operations = thread.engine.operations(), "the engine has ended");
            thread.engine.into_writer()
        })
    })?;
    Ok((submitter, thread))
}

struct OnEnd<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnEnd<F> {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

struct Thread {
    engine: Engine,
    reader: Reader,
    clock: Clock,
    directory: Directory,
    /// Takes everything the engine has out at once.
    hook: Sender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    pace: Arc<Pace>,
    /// Pushes that gave way to newer ones.
    dropped_pushes: u64,
}

/// What waits for the flush.
enum Due {
    Answer(Arc<Feed>, u64, Answer),
    /// What was to be told of large conversations before the next answer.
    Large(Vec<LargeNotice>),
}

/// What waits for the flush, in order. Its room is used again: a batch is bounded.
#[derive(Default)]
struct Held {
    due: Vec<Due>,
    displaced: Vec<Arc<Feed>>,
    finish: bool,
}

impl Thread {
    fn run(&mut self, waiting: &mut Taker<Task>) -> Result<(), StoreError> {
        let mut held = Held::default();
        loop {
            let first = self.first(waiting);
            let (began, timer) = (Instant::now(), first.is_none());
            match first {
                Some(task) => self.task(task, &mut held)?,
                None if !self.engine.healthy() => return Err(StoreError::Poisoned),
                None => {}
            }
            let mut count = 1;
            while count < BATCH_COMMANDS_MAX
                && self.engine.staged_bytes() < BATCH_BYTES_MAX
                && !held.finish
                && let Some(task) = waiting.try_take()
            {
                self.task(task, &mut held)?;
                count += 1;
            }
            let bound =
                count >= BATCH_COMMANDS_MAX || self.engine.staged_bytes() >= BATCH_BYTES_MAX;
            let now = self.clock.now();
            if held.finish {
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
            let flush = self.publish(&mut held)?;
            if held.finish {
                return Ok(());
            }
            if !timer {
                self.pace.did(count, bound, began.elapsed().saturating_sub(flush), flush);
            }
        }
    }

    /// The next task; none when a timer is due first.
    fn first(&self, waiting: &mut Taker<Task>) -> Option<Task> {
        let idle = Duration::from_secs(1);
        let wait = match self.engine.deadline() {
            Some(deadline) => deadline.saturating_duration_since(self.clock.now().mono).min(idle),
            None => idle,
        };
        if waiting.is_empty() {
            self.pace.waited(Duration::ZERO);
        }
        match waiting.take(wait) {
            Next::Task(task) => Some(task),
            Next::Nothing => None,
            Next::Over => Some(Task::Finish),
        }
    }

    fn task(&mut self, task: Task, held: &mut Held) -> Result<(), StoreError> {
        match task {
            Task::Do { feed, number, caller, command, bytes, since } => {
                let now = self.clock.now();
                self.pace.waited(now.mono.saturating_duration_since(since));
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if let Command::CaughtUp = command {
                    // What the answer tells is newer.
                    held.due.push(Due::Large(self.engine.take_large()));
                }
                let answer = self.engine.apply(now, &caller, &command)?;
                if let Answer::Attached(_) = answer {
                    held.displaced.extend(self.directory.attach(&caller, Arc::clone(&feed)));
                }
                if !matches!(answer, Answer::Nothing) {
                    held.due.push(Due::Answer(feed, number, answer));
                }
            }
            Task::Detach(caller) => {
                self.engine.apply(self.clock.now(), &caller, &Command::Detach)?;
                self.directory.detach(&caller);
            }
            Task::Settle(outcome) => self.engine.settle_push(self.clock.now(), &outcome)?,
            Task::Limit(limits) => self.engine.set_limits(*limits),
            Task::Finish => held.finish = true,
        }
        Ok(())
    }

    /// Flushes, then hands out what rests on it; returns how long the flush took.
    fn publish(&mut self, held: &mut Held) -> Result<Duration, StoreError> {
        if planted::is(Bug::AckBeforeSync) {
            self.hand_out(&mut Wakes::default(), &mut held.due);
        }
        let began = Instant::now();
        let effects = loop {
            match self.engine.flush() {
                Ok(effects) => break effects,
                Err(StoreError::NoSpace) => {
                    // Room was made sure of before anything was staged, and is gone again.
                    tracing::error!("the disk takes back space it had given: everything waits");
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                Err(error) => return Err(error),
            }
        };
        let flush = began.elapsed();
        let wakes = &mut Wakes::default();
        for feed in held.displaced.drain(..) {
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
        self.hand_out(wakes, &mut held.due);
        // Before the inboxes: what came from a large conversation goes before the entry that it no
        // longer is one.
        self.tell_large(wakes, effects.large);
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

    fn hand_out(&self, wakes: &mut Wakes, due: &mut Vec<Due>) {
        for due in due.drain(..) {
            match due {
                Due::Answer(feed, number, answer) => feed.answer(wakes, number, answer),
                Due::Large(notices) => self.tell_large(wakes, notices),
            }
        }
    }

    fn tell_large(&self, wakes: &mut Wakes, notices: Vec<LargeNotice>) {
        for notice in notices {
            match notice {
                LargeNotice::User(user, sign) => {
                    self.directory.feeds(&user).for_each(|feed| feed.large(wakes, &sign));
                }
                LargeNotice::All(users, sign) => {
                    for user in users.iter() {
                        self.directory.feeds(user).for_each(|feed| feed.large(wakes, &sign));
                    }
                }
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
