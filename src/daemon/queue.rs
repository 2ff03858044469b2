//! What waits for the writer, in order.
//!
//! Whoever takes gets everything that waits at once, and the writer's thread sleeps at once when nothing does: it
//! shares its processors with those it waits for. Nobody else waits here, for the lock is held for moments
//! only.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

/// Room that is kept when nothing waits.
const ROOM_KEPT: usize = 1024;

#[derive(Debug)]
struct Queue<T> {
    tasks: Mutex<Tasks<T>>,
    came: Condvar,
    /// Also those that the taker has taken and not yet given out.
    waiting: AtomicUsize,
    givers: AtomicUsize,
    /// There is still somebody to take them.
    open: AtomicBool,
    most: usize,
}

#[derive(Debug)]
struct Tasks<T> {
    tasks: VecDeque<T>,
    /// The sleeper is to wake though nothing may wait.
    called: bool,
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

/// Where the thread waits that takes what nobody else does. There is one.
#[derive(Debug)]
pub(super) struct Sleeper<T>(Arc<Queue<T>>);

/// Too much waits, or nobody takes it any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Why a sleeper wakes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Something waits, or it was called.
    Came,
    /// Nothing has come in time.
    Nothing,
    /// Nothing can come any more.
    Over,
}

/// A queue of at most so many.
pub(super) fn bounded<T>(most: usize) -> (Giver<T>, Taker<T>, Sleeper<T>) {
    let queue = Arc::new(Queue {
        tasks: Mutex::new(Tasks { tasks: VecDeque::new(), called: false }),
        came: Condvar::new(),
        waiting: AtomicUsize::new(0),
        givers: AtomicUsize::new(1),
        open: AtomicBool::new(true),
        most,
    });
    let taker = Taker { queue: Arc::clone(&queue), taken: VecDeque::new() };
    (Giver(Arc::clone(&queue)), taker, Sleeper(queue))
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

    /// Quietly = somebody else than the sleeper will look.
    pub(super) fn try_give(&self, task: T, quietly: bool) -> Result<(), Full> {
        if self.len() >= self.0.most || !self.0.open.load(Ordering::Acquire) {
            return Err(Full);
        }
        self.put(task, quietly);
        Ok(())
    }

    /// Also when there is no room: for what must not be lost, and is bounded by something else.
    pub(super) fn give(&self, task: T) {
        self.put(task, false);
    }

    fn put(&self, task: T, quietly: bool) {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        self.0.tasks.lock().tasks.push_back(task);
        if !quietly {
            self.0.came.notify_one();
        }
    }

    /// Whether there is something that nobody has taken. What was given before is seen.
    pub(super) fn is_left(&self) -> bool {
        !self.0.tasks.lock().tasks.is_empty()
    }

    /// The sleeper is to look, if it has not been called already.
    pub(super) fn call(&self) {
        if !std::mem::replace(&mut self.0.tasks.lock().called, true) {
            self.0.came.notify_one();
        }
    }
}

impl<T> Taker<T> {
    /// The next, if there is one.
    pub(super) fn try_take(&mut self) -> Option<T> {
        if self.taken.is_empty() {
            if self.taken.capacity() > ROOM_KEPT {
                self.taken = VecDeque::new();
            }
            std::mem::swap(&mut self.taken, &mut self.queue.tasks.lock().tasks);
        }
        let task = self.taken.pop_front();
        self.took(task)
    }

    /// The next, if it is such a one.
    pub(super) fn try_take_if(&mut self, is: impl FnOnce(&T) -> bool) -> Option<T> {
        if !self.taken.is_empty() {
            return None;
        }
        let task = self.queue.tasks.lock().tasks.pop_front_if(|task| is(task));
        self.took(task)
    }

    fn took(&self, task: Option<T>) -> Option<T> {
        if task.is_some() {
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        task
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queue.waiting.load(Ordering::Relaxed)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Sleeper<T> {
    /// Until something waits, but no longer than this.
    pub(super) fn sleep(&self, until: Instant) -> Next {
        let mut tasks = self.0.tasks.lock();
        loop {
            if std::mem::take(&mut tasks.called) || !tasks.tasks.is_empty() {
                return Next::Came;
            }
            if self.0.givers.load(Ordering::Acquire) == 0 {
                return Next::Over;
            }
            if self.0.came.wait_until(&mut tasks, until).timed_out()
                && !tasks.called
                && tasks.tasks.is_empty()
            {
                return Next::Nothing;
            }
        }
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        self.queue.open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn long() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn what_was_given_is_taken_in_order() {
        let (giver, mut taker, sleeper) = bounded(100);
        giver.give(1);
        giver.give(2);
        assert_eq!(sleeper.sleep(long()), Next::Came);
        assert_eq!(taker.try_take(), Some(1));
        giver.give(3);
        assert_eq!((giver.len(), taker.is_empty()), (2, false));
        assert_eq!(taker.try_take(), Some(2));
        assert_eq!(taker.try_take(), Some(3));
        assert_eq!((taker.try_take(), taker.is_empty()), (None, true));
        assert_eq!(sleeper.sleep(Instant::now()), Next::Nothing);
    }

    /// Who takes only some never passes over what came before them.
    #[test]
    fn only_the_first_is_taken_if_it_is_such_a_one() {
        let (giver, mut taker, _sleeper) = bounded(100);
        (1..=4).for_each(|some| giver.try_give(some, true).unwrap());
        assert_eq!(taker.try_take_if(|some| *some == 2), None);
        assert_eq!(taker.try_take_if(|some| *some == 1), Some(1));
        assert_eq!(taker.len(), 3);
        assert_eq!(taker.try_take(), Some(2));
        giver.give(5);
        assert_eq!(taker.try_take_if(|_| true), None, "3 was taken before");
        assert_eq!((taker.try_take(), taker.try_take()), (Some(3), Some(4)));
        assert_eq!(taker.try_take_if(|_| true), Some(5));
        assert!(taker.is_empty() && !giver.is_left());
    }

    #[test]
    fn what_was_taken_and_not_given_out_counts() {
        let (giver, mut taker, _sleeper) = bounded(2);
        assert_eq!(giver.try_give(1, false), Ok(()));
        assert_eq!(giver.try_give(2, true), Ok(()));
        assert_eq!(giver.try_give(3, false), Err(Full));
        assert_eq!(taker.try_take(), Some(1));
        assert_eq!(giver.try_give(4, false), Ok(()));
        assert_eq!(giver.try_give(5, true), Err(Full));
        giver.give(6);
        assert_eq!(giver.len(), 3, "what must not be lost is not");
    }

    #[test]
    fn either_end_hears_that_the_other_is_gone() {
        let (giver, mut taker, sleeper) = bounded(2);
        giver.clone().give(1);
        drop(giver);
        assert_eq!((sleeper.sleep(long()), taker.try_take()), (Next::Came, Some(1)));
        assert_eq!(sleeper.sleep(long()), Next::Over);
        let (giver, taker, _sleeper) = bounded(2);
        drop(taker);
        assert_eq!(giver.try_give(1, false), Err(Full));
    }

    #[test]
    fn a_call_wakes_once_though_nothing_waits() {
        let (giver, _taker, sleeper) = bounded::<u8>(2);
        giver.call();
        giver.call();
        assert_eq!(sleeper.sleep(long()), Next::Came);
        assert_eq!(sleeper.sleep(Instant::now()), Next::Nothing);
    }

    #[test]
    fn a_sleeper_is_woken() {
        let (giver, mut taker, sleeper) = bounded(1000);
        let taking = std::thread::spawn(move || {
            let mut sum = 0;
            while sleeper.sleep(long()) == Next::Came {
                while let Some(some) = taker.try_take() {
                    sum += some;
                }
            }
            sum
        });
        let giving: Vec<_> = (0..4)
            .map(|_| {
                let giver = giver.clone();
                std::thread::spawn(move || {
                    for some in 1..=1000 {
                        giver.put(some, some % 2 == 0);
                        if some % 2 == 0 {
                            giver.call();
                        }
                    }
                })
            })
            .collect();
        giving.into_iter().for_each(|giving| giving.join().unwrap());
        drop(giver);
        assert_eq!(taking.join().unwrap(), 4 * 500_500);
    }
}
