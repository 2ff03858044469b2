//! What a client's task and its handles share: the state, and how they wake each other.

use std::{sync::Arc, time::Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};

use super::{
    config::{ClientConfig, Inbox},
    error::ClientError,
    event::{Event, Link, Status},
    large::Large,
    outbox::Outbox,
    queue::{Given, Queue},
    replica::{Adopted, Position, Replica},
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) replica: Replica,
    pub(super) outbox: Outbox,
    pub(super) queue: Queue,
    pub(super) large: Large,
    given: Given,
    /// The application is in the background.
    pub(super) background: bool,
    /// A snapshot is dealt with: say Resume.
    pub(super) resume: Option<Position>,
    /// The session follows a position that is no longer the device's.
    pub(super) replace: bool,
    pub(super) closing: bool,
    pub(super) end: Option<ClientError>,
    pub(super) link: Link,
    pub(super) head: u64,
    pub(super) batches: u64,
    pub(super) acks: u64,
    pub(super) last_batch: (u64, u64),
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the task.
    pub(super) wake: Notify,
    /// Wakes the consumer of events.
    pub(super) events: Notify,
    /// Requests that may still be made.
    pub(super) permits: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(config: &ClientConfig) -> Arc<Self> {
        let resume = match config.inbox {
            Inbox::Follow(resume) => resume,
            Inbox::Ignore => None,
        };
        let state = State {
            replica: Replica::new(resume, config.ack),
            outbox: Outbox::default(),
            queue: Queue::default(),
            large: Large::new(resume.map(|at| at.epoch), &config.large),
            given: Given::default(),
            background: config.background,
            resume: None,
            replace: false,
            closing: false,
            end: None,
            link: Link::Connecting,
            head: 0,
            batches: 0,
            acks: 0,
            last_batch: (0, 0),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            events: Notify::new(),
            permits: Arc::new(Semaphore::new(config.in_flight.clamp(1, Semaphore::MAX_PERMITS))),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The next event, if one waits; what was given before is dealt with.
    pub(super) fn take_event(&self, now: Instant) -> Result<Option<Event>, ClientError> {
        let mut state = self.settle(now);
        let state = &mut *state;
        let event = state.take();
        match (event, &state.end) {
            (None, Some(end)) => Err(end.clone()),
            (Some(event), _) => {
                self.hurry(now, state);
                Ok(Some(event))
            }
            (None, None) => Ok(None),
        }
    }

    /// Appends the events that wait, at most `most`; what was given before is dealt with.
    pub(super) fn take_events(
        &self,
        now: Instant,
        events: &mut Vec<Event>,
        most: usize,
    ) -> Result<usize, ClientError> {
        let mut state = self.settle(now);
        let state = &mut *state;
        let before = events.len();
        while events.len() - before < most
            && let Some(event) = state.take()
        {
            events.push(event);
        }
        match (events.len() - before, &state.end) {
            (0, Some(end)) => Err(end.clone()),
            (count, _) => {
                self.hurry(now, state);
                Ok(count)
            }
        }
    }

    /// Ends the session in good order: what was given is dealt with.
    pub(super) fn close(&self, now: Instant) {
        self.settle(now).closing = true;
        self.permits.close();
        self.wake.notify_one();
    }

    /// Gives up the connection, if there is one.
    pub(super) fn reconnect(&self) {
        let mut state = self.lock();
        if state.link == Link::Open {
            state.replace = true;
            self.wake.notify_one();
        }
    }

    /// Over for good. Only the first reason counts.
    pub(super) fn end(&self, error: ClientError) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.outbox.end(&error);
            state.end = Some(error);
            state.link = Link::Ended;
            self.permits.close();
            self.events.notify_one();
        }
    }

    /// Why nothing more can be asked for.
    pub(super) fn why_closed(&self) -> ClientError {
        self.lock().end.clone().unwrap_or(ClientError::Closed)
    }

    /// After [`Shared::close`]: whether the end was a good one.
    pub(super) fn how_it_ended(&self) -> Result<(), ClientError> {
        match self.lock().end.clone() {
            None | Some(ClientError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        Status {
            link: state.link.clone(),
            position: state.replica.position(),
            received: state.replica.received(),
            head: state.head.max(state.replica.received()),
            acked: state.replica.acked(),
            ack_due: state.replica.ack_deadline(),
            events_waiting: state.queue.len(),
            large_behind: state.large.behind(),
            in_flight: state.outbox.len(),
            batches: state.batches,
            acks: state.acks,
            last_batch_entries: state.last_batch.0,
            last_batch_bytes: state.last_batch.1,
        }
    }

    /// What was given is dealt with: it may be acked, a snapshot adopted.
    fn settle(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let given = std::mem::take(&mut state.given);
        if given.entries == 0 && given.snapshot.is_none() && !given.caught_up {
            return state;
        }
        let mut wake = false;
        if given.entries > 0 {
            wake |= state.replica.store(now, given.seq, given.entries, given.bytes);
        }
        if given.caught_up {
            wake |= state.demand(now);
        }
        if let Some(position) = given.snapshot {
            match state.replica.adopt(position) {
                Adopted::Resume => state.resume = Some(position),
                Adopted::Reconnect => {
                    // What came meanwhile follows another position, and comes again.
                    state.queue.forget_stream();
                    state.large.discard();
                    state.replace = true;
                }
                Adopted::Later => {}
            }
            wake = true;
        }
        if wake {
            self.wake.notify_one();
        }
        state
    }

    /// CaughtUp that was given right after all before it were dealt with is acked at once. Where there
    /// is room again, what is missing of large conversations is fetched.
    fn hurry(&self, now: Instant, state: &mut State) {
        let ack = state.given.caught_up && state.given.entries == 0 && state.demand(now);
        if ack || (state.large.wants() && state.queue.has_room()) {
            self.wake.notify_one();
        }
    }

    /// From now on sessions are in this state. On the way to the background what waits is acked.
    pub(super) fn set_background(&self, now: Instant, background: bool) {
        let mut state = self.lock();
        state.background = background;
        if background {
            let _ = state.demand(now);
        }
    }
}

impl State {
    /// The next of the inbox, in its order.
    pub(super) fn next(&mut self, event: Event, bytes: u64) {
        if self.large.has_snapshot() {
            self.queue.forget_snapshots();
        }
        let queue = &mut self.queue;
        self.large.next(event, bytes, &mut |event, bytes| queue.push_sized(event, bytes));
    }

    fn take(&mut self) -> Option<Event> {
        let mut event = self.queue.take(&mut self.given);
        if let Some(Event::Snapshot(snapshot)) = &mut event {
            self.large.adopt(snapshot);
        }
        event
    }

    fn demand(&mut self, now: Instant) -> bool {
        let before = self.replica.ack_deadline();
        self.replica.demand(now);
        before != self.replica.ack_deadline()
    }
}
