//! What waits for the writer, in order.
//!
//! The writer takes everything that waits at once, and sleeps at once when nothing does: it shares its
//! processors with those it waits for. Nobody else waits here, for the lock is held for moments only.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Room that is kept when nothing waits.
const ROOM_KEPT: usize = 1024;

#[derive(Debug)]
struct Queue<T> {
    tasks: Mutex<VecDeque<T>>,
    came: Condvar,
    /// Also those that the taker has taken and not yet given out.
    waiting: AtomicUsize,
    givers: AtomicUsize,
    /// There is still somebody to take them.
    open: AtomicBool,
    most: usize,
}

/// The way in. Cheap to clone.
#[derive(Debug)]
pub(super) struct Giver<T>(Arc<Queue<T>>);

/// The way out. There is one.
#[derive(Debug)]
pub(super) struct Taker<T> {
    queue: Arc<Queue<T>>,
    taken: VecDeque<T>,
}

/// Too much waits, or nobody takes it any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What a taker that waits gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Task(T),
    /// Nothing has come in time.
    Nothing,
    /// Nothing can come any more.
    Over,
}

/// A queue of at most so many.
pub(super) fn bounded<T>(most: usize) -> (Giver<T>, Taker<T>) {
    let queue = Arc::new(Queue {
        tasks: Mutex::default(),
        came: Condvar::new(),
        waiting: AtomicUsize::new(0),
        givers: AtomicUsize::new(1),
        open: AtomicBool::new(true),
        most,
    });
    (Giver(Arc::clone(&queue)), Taker { queue, taken: VecDeque::new() })
}

impl<T> Clone for Giver<T> {
    fn clone(&self) -> Self {
        self.0.givers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        if self.0.givers.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock, for the taker looks before it sleeps.
            let _tasks = self.0.tasks.lock();
            self.0.came.notify_one();
        }
    }
}

impl<T> Giver<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn try_give(&self, task: T) -> Result<(), Full> {
        if self.len() >= self.0.most || !self.0.open.load(Ordering::Acquire) {
            return Err(Full);
        }
        self.give(task);
        Ok(())
    }

    /// Also when there is no room: for what must not be lost, and is bounded by something else.
    pub(super) fn give(&self, task: T) {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.lock().push_back(task);
        self.0.came.notify_one();
    }
}

impl<T> Taker<T> {
    /// The next, if there is one.
    pub(super) fn try_take(&mut self) -> Option<T> {
        if self.taken.is_empty() {
            if self.taken.capacity() > ROOM_KEPT {
                self.taken = VecDeque::new();
            }
            std::mem::swap(&mut self.taken, &mut *self.queue.tasks.lock());
        }
        let task = self.taken.pop_front()?;
        self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(task)
    }

    /// The next; waits for it so long.
    pub(super) fn take(&mut self, patience: Duration) -> Next<T> {
        let until = Instant::now() + patience;
        loop {
            if let Some(task) = self.try_take() {
                return Next::Task(task);
            }
            let mut tasks = self.queue.tasks.lock();
            if !tasks.is_empty() {
                continue;
            }
            if self.queue.givers.load(Ordering::Acquire) == 0 {
                return Next::Over;
            }
            if self.queue.came.wait_until(&mut tasks, until).timed_out() && tasks.is_empty() {
                return Next::Nothing;
            }
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.waiting.load(Ordering::Relaxed) == 0
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        self.queue.open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_given_is_taken_in_order() {
        let (giver, mut taker) = bounded(100);
        giver.give(1);
        giver.give(2);
        assert_eq!(taker.try_take(), Some(1));
        giver.give(3);
        assert_eq!((giver.len(), taker.is_empty()), (2, false));
        assert_eq!(taker.take(LONG), Next::Task(2));
        assert_eq!(taker.take(LONG), Next::Task(3));
        assert_eq!((taker.try_take(), taker.is_empty()), (None, true));
        assert_eq!(taker.take(Duration::ZERO), Next::Nothing);
    }

    #[test]
    fn what_was_taken_and_not_given_out_counts() {
        let (giver, mut taker) = bounded(2);
        assert_eq!(giver.try_give(1), Ok(()));
        assert_eq!(giver.try_give(2), Ok(()));
        assert_eq!(giver.try_give(3), Err(Full));
        assert_eq!(taker.try_take(), Some(1));
        assert_eq!(giver.try_give(4), Ok(()));
        assert_eq!(giver.try_give(5), Err(Full));
        giver.give(6);
        assert_eq!(giver.len(), 3, "what must not be lost is not");
    }

    #[test]
    fn either_end_hears_that_the_other_is_gone() {
        let (giver, mut taker) = bounded(2);
        giver.clone().give(1);
        drop(giver);
        assert_eq!(taker.take(LONG), Next::Task(1));
        assert_eq!(taker.take(LONG), Next::Over);
        let (giver, taker) = bounded(2);
        drop(taker);
        assert_eq!(giver.try_give(1), Err(Full));
    }

    #[test]
    fn a_taker_that_sleeps_is_woken() {
        let (giver, mut taker) = bounded(1000);
        let taking = std::thread::spawn(move || {
            let mut sum = 0;
            while let Next::Task(some) = taker.take(LONG) {
                sum += some;
            }
            sum
        });
        let giving: Vec<_> = (0..4)
            .map(|_| {
                let giver = giver.clone();
                std::thread::spawn(move || (1..=1000).for_each(|some| giver.give(some)))
            })
            .collect();
        giving.into_iter().for_each(|giving| giving.join().unwrap());
        giver.give(0);
        drop(giver);
        assert_eq!(taking.join().unwrap(), 4 * 500_500);
    }
}
