//! The way to the engine, and who drives it: the writer's thread, or for a lone short command the
//! connection that brought it.
//!
//! Everything goes through one queue. Whoever holds the state takes from its front, makes a batch, lets
//! the answers go (`batch.rs`), and looks again after it has let the state go: so what was given while
//! somebody held it is never left. While the thread flushes one batch the next gathers, so the batch grows
//! with the load.
//!
//! A connection drives ([`Submitter::drive`]) only if nobody else does, for one batch of few short commands,
//! and only while commands come one by one and flushes are fast ([`FLUSH_MAX`]): a worker of the runtime is held for that long, and with
//! one worker never. That spares a message on its own two wake-ups. All else is the thread's: timers, long
//! commands, what a full disk holds up, the end. Decision 0022.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::{
    batch::{Batches, Held, Task},
    directory::Directory,
    feed::Feed,
    pace::Pace,
    queue::{self, Giver, Next, Sleeper},
};
use crate::{
    clock::Clock,
    engine::{Caller, Command, Engine},
    limits::Limits,
    push::{Job, Outcome},
    request::Request,
    store::{Reader, StoreError, Writer},
};

/// Commands that may wait. More: OVERLOADED.
const WAITING_MAX: usize = 64 * 1024;
/// Bytes of content that may wait. More: OVERLOADED.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// Connections drive only while flushes took no longer than this of late.
const FLUSH_MAX: Duration = Duration::from_millis(1);

/// What one at a time drives.
struct State {
    /// None once the thread has ended.
    batches: Option<Batches>,
    /// Nobody drives any more, and the thread ends with this. Stands there while somebody drives, in case
    /// that ends in a panic.
    failed: Option<StoreError>,
    /// Until when the thread sleeps, if it is not awake or called already.
    sleeps_until: Instant,
}

/// The way in. Cheap to clone.
#[derive(Clone)]
pub(super) struct Submitter {
    tasks: Giver<Task>,
    state: Arc<Mutex<State>>,
    waiting_bytes: Arc<AtomicUsize>,
    pace: Arc<Pace>,
    waiting_time: Duration,
    /// Connections may drive.
    shares: bool,
}

impl std::fmt::Debug for Submitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter").field("waiting", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// Too much waits.
#[derive(Debug)]
pub(super) struct Overloaded;

impl Submitter {
    /// True when the thread has not been told: after the last of some commands the caller is to say
    /// [`Submitter::drive`] then, whatever happens.
    pub(super) fn submit(
        &self,
        feed: &Arc<Feed>,
        number: u64,
        caller: Caller,
        command: Command,
    ) -> Result<bool, Overloaded> {
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
        let lone = self.pace.is_lone() && self.pace.flush() <= FLUSH_MAX;
        let quietly = self.shares && command.is_short() && lone;
        let feed = Arc::clone(feed);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let since = Instant::now();
        let task = Task::Do { feed, number, caller, command, bytes, since };
        match self.tasks.try_give(task, quietly) {
            Ok(()) => Ok(quietly),
            Err(queue::Full) => {
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(Overloaded)
            }
        }
    }

    /// Makes a batch of what waits if nobody else is at it and it is few and short; what is left then is
    /// left to the thread.
    pub(super) fn drive(&self) {
        let called = {
            // Whoever holds it looks again afterwards.
            let Some(mut state) = self.state.try_lock() else { return };
            self.pace.flush() <= FLUSH_MAX && drive(&mut state)
        };
        if called || self.tasks.is_left() {
            self.tasks.call();
        }
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

/// One batch by a connection. True when the thread is wanted.
fn drive(state: &mut State) -> bool {
    let State { batches: Some(batches), failed: failed @ None, sleeps_until } = state else {
        return false;
    };
    *failed = Some(StoreError::Poisoned);
    // A panic here is as one in the thread: the daemon must not go on without its writer.
    let outcome = catch_unwind(AssertUnwindSafe(|| batches.short_batch()));
    *failed = outcome.unwrap_or(Err(StoreError::Poisoned)).err();
    let wanted = failed.is_some() || batches.is_due_before(*sleeps_until);
    if wanted {
        // Once is enough.
        *sleeps_until = Instant::now();
    }
    wanted
}

/// Everything but the thread.
fn prepare(
    engine: Engine,
    reader: Reader,
    clock: Clock,
    hook: Sender<Job>,
    waiting_time: Duration,
    shares: bool,
) -> (Submitter, Sleeper<Task>) {
    let (tasks, waiting, sleeper) = queue::bounded(WAITING_MAX);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let pace = Arc::new(Pace::default());
    let batches = Batches {
        engine,
        waiting,
        reader,
        clock,
        directory: Directory::default(),
        hook,
        waiting_bytes: Arc::clone(&waiting_bytes),
        pace: Arc::clone(&pace),
        dropped_pushes: 0,
        held: Held::default(),
    };
    let state = State { batches: Some(batches), failed: None, sleeps_until: Instant::now() };
    let state = Arc::new(Mutex::new(state));
    (Submitter { tasks, state, waiting_bytes, pace, waiting_time, shares }, sleeper)
}

/// Starts the thread. It returns the store's writer when told to finish, or the error that ended
/// it, after calling `on_end`. With `shares`, connections do some of its work.
pub(super) fn start(
    engine: Engine,
    reader: Reader,
    clock: Clock,
    hook: Sender<Job>,
    waiting_time: Duration,
    shares: bool,
    on_end: impl FnOnce() + Send + 'static,
) -> std::io::Result<(Submitter, JoinHandle<Result<Writer, StoreError>>)> {
    let (submitter, sleeper) = prepare(engine, reader, clock, hook, waiting_time, shares);
    let ends = Ends(Arc::clone(&submitter.state));
    let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
        // Also when it panics: the daemon must not go on without its writer.
        let _ended = OnEnd(Some(on_end));
        let outcome = run(&ends.0, &sleeper);
        let Some(batches) = ends.0.lock().batches.take() else {
            return Err(StoreError::Poisoned);
        };
        if batches.dropped_pushes > 0 {
            tracing::info!(
                dropped = batches.dropped_pushes,
                "ephemeral pushes gave way to newer ones"
            );
        }
        outcome.map(|()| {
            tracing::info!(operations = batches.engine.operations(), "the engine has ended");
            batches.engine.into_writer()
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

/// Whatever ends the thread, nobody drives after it.
struct Ends(Arc<Mutex<State>>);

impl Drop for Ends {
    fn drop(&mut self) {
        let batches = self.0.lock().batches.take();
        drop(batches);
    }
}

/// The thread's life.
fn run(state: &Mutex<State>, sleeper: &Sleeper<Task>) -> Result<(), StoreError> {
    let mut over = false;
    loop {
        let until = {
            let mut state = state.lock();
            let State { batches: Some(batches), failed, sleeps_until } = &mut *state else {
                return Err(StoreError::Poisoned);
            };
            // Stays there unless this goes on.
            if let Some(error) = failed.replace(StoreError::Poisoned) {
                return Err(error);
            }
            if over {
                batches.finish();
            }
            loop {
                if !batches.batch()? {
                    return Ok(());
                }
                if batches.waiting.is_empty() {
                    break;
                }
            }
            *failed = None;
            *sleeps_until = batches.rest();
            *sleeps_until
        };
        over = sleeper.sleep(until) == Next::Over;
    }
}

#[cfg(test)]
mod tests;
