//! When what is due: a bounded queue by time in which everything stands once.

use std::{collections::BTreeSet, hash::Hash};

use hashbrown::HashMap;

use crate::time::Timestamp;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    due: HashMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
    most: usize,
    /// Something found no room since this was last asked.
    overflowed: bool,
}

impl<K: Clone + Eq + Hash + Ord> Schedule<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { due: HashMap::new(), order: BTreeSet::new(), most, overflowed: false }
    }

    /// It is due then and no more when it was. False when there is no room for it.
    pub(super) fn set(&mut self, key: K, due: Timestamp) -> bool {
        self.remove(&key);
        if self.due.len() >= self.most {
            self.overflowed = true;
            return false;
        }
        self.due.insert(key.clone(), due);
        self.order.insert((due, key));
        true
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((key, due)) = self.due.remove_entry(key) {
            self.order.remove(&(due, key));
        }
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the first one out if its time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<K> {
        if self.first()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some(key)
    }

    /// At most half of it is used.
    pub(super) fn has_room(&self) -> bool {
        self.due.len() <= self.most / 2
    }

    /// Whether something found no room; asking forgets it.
    pub(super) fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_first_comes_first_and_everything_stands_once() {
        let mut schedule = Schedule::new(10);
        assert!(schedule.set("a", at(5)) && schedule.set("b", at(3)) && schedule.set("a", at(2)));
        assert_eq!(schedule.first(), Some(at(2)));
        assert_eq!(schedule.take_due(at(1)), None);
        assert_eq!(schedule.take_due(at(9)), Some("a"));
        assert_eq!(schedule.take_due(at(9)), Some("b"));
        assert_eq!((schedule.take_due(at(9)), schedule.first()), (None, None));
        assert!(schedule.due.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_noticed() {
        let mut schedule = Schedule::new(2);
        assert!(schedule.set(1, at(1)) && schedule.set(2, at(1)) && schedule.set(2, at(7)));
        assert!(!schedule.has_overflowed() && !schedule.has_room());
        assert!(!schedule.set(3, at(0)));
        schedule.remove(&1);
        assert!(schedule.has_room() && schedule.take_overflowed() && !schedule.has_overflowed());
        assert!(schedule.set(3, at(0)));
    }
}
