//! How long a command that came now would wait for the writer, judged by what waits and by what the
//! writer did lately. Whoever would wait for too long is told at once: how long those have waited that
//! are done now says too little, because what came since waits behind them, much of it when there is
//! much too much.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A batch counts in the means by its commands, up to so many ...
const COUNTS_MAX: u64 = 64;
/// ... of so many.
const MEMORY: u64 = 512;
/// Commands come one by one while no more than so many, in thousandths, make a batch.
const LONE_MAX: u64 = 2000;

/// Told by whoever makes a batch, asked by all others.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How long what is done now has waited, in milliseconds.
    waited: AtomicU64,
    /// What a command takes in nanoseconds, its answer included: a moving mean.
    command: AtomicU64,
    /// The same of a flush that is not a command's own.
    flush: AtomicU64,
    /// Commands to a batch, in thousandths: the same.
    batch: AtomicU64,
}

impl Pace {
    /// What is done now has waited for so long.
    pub(super) fn waited(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.waited.store(millis, Ordering::Relaxed);
    }

    /// A batch is done. One that was closed by a bound of batches says what more commands would
    /// have cost, the flush included; the flush of another one had taken more for nothing.
    pub(super) fn did(&self, commands: usize, bound: bool, work: Duration, flush: Duration) {
        let commands = u64::try_from(commands).unwrap_or(u64::MAX).max(1);
        let own = if bound { work + flush } else { work };
        let weight = commands.min(COUNTS_MAX);
        let cost = u64::try_from(own.as_nanos()).unwrap_or(u64::MAX) / commands;
        move_mean(&self.command, cost, weight);
        // One flush is as good as another: a disk that stood still is soon forgotten.
        move_mean(&self.flush, u64::try_from(flush.as_nanos()).unwrap_or(u64::MAX), COUNTS_MAX);
        move_mean(&self.batch, commands.saturating_mul(1000), COUNTS_MAX);
    }

    /// Whether commands come one by one: where they come together a batch of one makes the others wait.
    pub(super) fn is_lone(&self) -> bool {
        self.batch.load(Ordering::Relaxed) <= LONE_MAX
    }

    /// How long flushes take.
    pub(super) fn flush(&self) -> Duration {
        Duration::from_nanos(self.flush.load(Ordering::Relaxed))
    }

    /// How long a command waits that comes when so many are there.
    pub(super) fn wait(&self, waiting: usize) -> Duration {
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
        let commands = waiting.saturating_mul(self.command.load(Ordering::Relaxed));
        let nanos = commands.saturating_add(self.flush.load(Ordering::Relaxed));
        let expected = if waiting == 0 { Duration::ZERO } else { Duration::from_nanos(nanos) };
        expected.max(Duration::from_millis(self.waited.load(Ordering::Relaxed)))
    }
}

/// Only one writes at a time.
fn move_mean(mean: &AtomicU64, new: u64, weight: u64) {
    let old = mean.load(Ordering::Relaxed);
    let moved = old.saturating_mul(MEMORY - weight).saturating_add(new.saturating_mul(weight));
    mean.store(moved / MEMORY, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Cause: a queue that grows five times as fast as it is done was let in until its head had waited
    /// for a second; its end then waited for five. Fix: what waits counts, by what it takes.
    #[test]
    fn what_waits_counts_before_it_has_waited() {
        let pace = Pace::default();
        for _ in 0..100 {
            pace.did(1000, false, 1000 * MILLI, 20 * MILLI);
        }
        let wait = pace.wait(500).as_millis();
        assert!((515..=520).contains(&wait), "{wait}");
        assert_eq!(pace.wait(0), Duration::ZERO, "it is idle");
    }

    #[test]
    fn the_flush_of_a_batch_that_was_full_is_its_commands() {
        let (full, free) = (Pace::default(), Pace::default());
        for _ in 0..100 {
            full.did(100, true, 100 * MILLI, 100 * MILLI);
            free.did(100, false, 100 * MILLI, 100 * MILLI);
        }
        assert!(full.wait(1000) > free.wait(1000) + 800 * MILLI);
    }

    #[test]
    fn one_slow_command_is_no_overload() {
        let pace = Pace::default();
        pace.did(1, false, 500 * MILLI, 500 * MILLI);
        assert!(pace.wait(100) < 200 * MILLI, "{:?}", pace.wait(100));
    }

    #[test]
    fn a_disk_that_stood_still_is_soon_forgotten() {
        let pace = Pace::default();
        (0..5).for_each(|_| pace.did(100, false, MILLI, 5000 * MILLI));
        assert!(pace.wait(1) > 1000 * MILLI);
        (0..20).for_each(|_| pace.did(1, false, MILLI, MILLI));
        assert!(pace.wait(1) < 200 * MILLI, "{:?}", pace.wait(1));
    }

    #[test]
    fn what_comes_together_is_not_lone_until_it_comes_one_by_one() {
        let pace = Pace::default();
        assert!(pace.is_lone());
        pace.did(20, false, MILLI, MILLI);
        assert!(!pace.is_lone());
        (0..20).for_each(|_| pace.did(1, false, MILLI, MILLI));
        assert!(pace.is_lone());
    }

    #[test]
    fn who_waits_already_is_not_forgotten() {
        let pace = Pace::default();
        pace.waited(2 * MILLI);
        assert_eq!(pace.wait(0), 2 * MILLI);
        pace.waited(Duration::ZERO);
        assert_eq!(pace.wait(0), Duration::ZERO);
    }
}
