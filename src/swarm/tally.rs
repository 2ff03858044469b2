//! What all bots of a run count and measure together.
//!
//! Times are microseconds since the swarm was made ([`Tally::now_us`]); latencies count from the moment
//! a send was due, not from when it went out. What was due outside of the measured time is counted in
//! the samples only.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    check::{Broken, Violation},
    record::Latency,
};

/// Violations that are told one by one; of more there is only the count.
pub const VIOLATIONS_MAX: usize = 50;

/// A latency that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// From when a send was due to its ack.
    SendToAck,
    /// From when a send was due to a device that was there then.
    SendToDelivery,
    /// From Hello to CaughtUp.
    ConnectToCaughtUp,
    /// From the loss of a session to CaughtUp of the next, with the pauses in between.
    LostToCaughtUp,
}

impl Span {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::SendToAck, Self::SendToDelivery, Self::ConnectToCaughtUp, Self::LostToCaughtUp];
}

/// Counts that only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sends that were due.
    pub offered: AtomicU64,
    /// Sends that were handed to the client library.
    pub sent: AtomicU64,
    /// Sends that were acked.
    pub acked: AtomicU64,
    /// Requests of any kind that wait for their answer ... began.
    pub begun: AtomicU64,
    /// ... and that have it.
    pub answered: AtomicU64,
    /// Messages that came to a device that was there.
    pub delivered: AtomicU64,
    /// Messages that came to a device that had been away or cut off when they were due.
    pub delivered_later: AtomicU64,
    /// Requests that were refused (and made again).
    pub refused: AtomicU64,
    /// Sends that were due and never made, because too many waited already.
    pub shed: AtomicU64,
    /// Connections after the first of a device.
    pub reconnects: AtomicU64,
    /// Sessions that ended with an error.
    pub lost: AtomicU64,
    /// Connections that came to no session, of devices that had none.
    pub attempts_failed: AtomicU64,
    /// Snapshots that were taken because the inbox did not go back far enough.
    pub snapshots: AtomicU64,
    /// Messages fetched from histories after that.
    pub fetched: AtomicU64,
    /// Anything at all that came: whoever waits sees that it goes on.
    pub progress: AtomicU64,
    /// Devices that have caught up.
    pub live: AtomicU64,
    /// Groups that were made.
    pub created: AtomicU64,
    /// Devices that have everything and were compared.
    pub settled: AtomicU64,
    /// Bots that are gone.
    pub ended: AtomicU64,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Tally {
    base: Instant,
    from_us: AtomicU64,
    to_us: AtomicU64,
    /// See [`Counters`].
    pub counters: Counters,
    window: Mutex<Histogram<u64>>,
    spans: Mutex<[Histogram<u64>; Span::ALL.len()]>,
    measured: Mutex<BTreeMap<&'static str, u64>>,
    ack_batches: Mutex<BTreeMap<u64, u64>>,
    violations: Mutex<Vec<Violation>>,
    violated: AtomicU64,
    /// Something of what is waited for has changed.
    pub changed: Notify,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            base: Instant::now(),
            from_us: AtomicU64::new(u64::MAX),
            to_us: AtomicU64::new(u64::MAX),
            counters: Counters::default(),
            window: Mutex::new(Latency::recorder()),
            spans: Mutex::new(Span::ALL.map(|_| Latency::recorder())),
            measured: Mutex::default(),
            ack_batches: Mutex::default(),
            violations: Mutex::default(),
            violated: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment of a time.
    #[must_use]
    pub fn instant(&self, at_us: u64) -> Instant {
        self.base + std::time::Duration::from_micros(at_us)
    }

    /// What is due from here up to there is measured.
    pub fn measure(&self, from_us: u64, to_us: u64) {
        self.from_us.store(from_us, Relaxed);
        self.to_us.store(to_us, Relaxed);
    }

    fn is_measured(&self, at_us: u64) -> bool {
        (self.from_us.load(Relaxed)..self.to_us.load(Relaxed)).contains(&at_us)
    }

    /// Something took from `since_us` until now. It belongs to the moment it began, or was due.
    pub fn took(&self, span: Span, since_us: u64) {
        let took = self.now_us().saturating_sub(since_us);
        if span == Span::SendToAck {
            // Recorders grow as they need, up to values of 300,000 years.
            let _ = self.window.lock().record(took);
        }
        if self.is_measured(since_us)
            && let Some(histogram) = self.spans.lock().get_mut(span as usize)
        {
            let _ = histogram.record(took);
        }
    }

    /// So many times something that was due then; only what is measured is counted.
    pub fn count(&self, name: &'static str, due_us: u64, times: u64) {
        if self.is_measured(due_us) {
            *self.measured.lock().entry(name).or_default() += times;
        }
    }

    /// One ack covers so many entries.
    pub fn ack_covers(&self, entries: u64) {
        if self.is_measured(self.now_us()) {
            *self.ack_batches.lock().entry(entries).or_default() += 1;
        }
    }

    /// A guarantee is broken.
    pub fn violated(&self, violation: Violation) {
        self.violated.fetch_add(1, Relaxed);
        let mut violations = self.violations.lock();
        // Of one device in one conversation the first tells what the others follow from.
        let same = |it: &Violation| (it.bot, it.talk) == (violation.bot, violation.talk);
        if violations.len() < VIOLATIONS_MAX && !violations.iter().any(same) {
            violations.push(violation);
        }
    }

    /// The same for what is about a device and no message.
    pub fn broken(&self, bot: u32, talk: Option<u32>, broken: Broken) {
        self.violated(Violation { bot, talk, broken });
    }

    /// How many guarantees are broken, and the first of them.
    #[must_use]
    pub fn violations(&self) -> (u64, Vec<Violation>) {
        (self.violated.load(Relaxed), self.violations.lock().clone())
    }

    /// Latencies of acks since the last call: median and 99th percentile.
    #[must_use]
    pub fn take_window(&self) -> Option<(u64, u64)> {
        let mut window = self.window.lock();
        if window.is_empty() {
            return None;
        }
        let both = (window.value_at_quantile(0.5), window.value_at_quantile(0.99));
        window.reset();
        Some(both)
    }

    /// A latency so far.
    #[must_use]
    pub fn latency(&self, span: Span) -> Latency {
        self.spans.lock().get(span as usize).map(Latency::of).unwrap_or_default()
    }

    /// The counts of the measured time so far.
    #[must_use]
    pub fn measured(&self) -> BTreeMap<&'static str, u64> {
        self.measured.lock().clone()
    }

    /// How many entries an ack covered, how often.
    #[must_use]
    pub fn ack_batches(&self) -> BTreeMap<u64, u64> {
        self.ack_batches.lock().clone()
    }
}

/// One more.
pub fn more(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_measured_time_is_measured() {
        let tally = Tally::new();
        tally.took(Span::SendToAck, 0);
        assert_eq!(tally.latency(Span::SendToAck).count, 0);
        assert!(tally.take_window().is_some() && tally.take_window().is_none());
        tally.measure(10, 20);
        for due in [9, 10, 19, 20] {
            tally.took(Span::SendToDelivery, due);
            tally.count("sends", due, 1);
        }
        assert_eq!(tally.latency(Span::SendToDelivery).count, 2);
        assert_eq!(tally.latency(Span::SendToAck).count, 0);
        assert_eq!(tally.measured().get("sends"), Some(&2));
    }

    #[test]
    fn violations_are_all_counted_and_the_first_are_told() {
        let tally = Tally::new();
        for bot in 0..100 {
            for talk in [None, Some(1), Some(1)] {
                tally.broken(bot, talk, Broken::Damaged { seq: 1 });
            }
        }
        let (count, told) = tally.violations();
        assert_eq!((count, told.len()), (300, VIOLATIONS_MAX));
    }
}
