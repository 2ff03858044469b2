//! Entries held back: what happens often, such as reading and typing, is durable at once, and told
//! to devices at most once in two seconds, so that it cannot push messages out of an inbox.
//!
//! A row says by itself whether its last change was told, so nothing kept here needs to survive: what
//! a crash kept from being written is made up for when the user's next device connects.

use std::{collections::VecDeque, time::Instant};

use hashbrown::HashMap;

use crate::{
    id::{ConversationId, UserId},
    limits::READ_ENTRY_INTERVAL,
};

/// What an entry that may be held back tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// The read marker, to the user's own devices.
    Read,
    /// How far the user has read, to the other user of a direct conversation.
    PeerRead,
    /// The user's preferences, to its own devices.
    Preferences,
}

/// Whose state of which conversation.
pub(super) type Topic = (UserId, ConversationId, About);

#[derive(Debug)]
struct Silence {
    until: Instant,
    /// An entry waits for its end.
    waiting: bool,
}

/// When the next entry about a topic may be written, and whether one is waiting.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    silences: HashMap<Topic, Silence>,
    /// The same in the order in which silences end (all are equally long). A silence that began
    /// anew stands here twice; the later place counts.
    order: VecDeque<(Instant, Topic)>,
}

impl HeldBack {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Whether an entry has to wait; it is then asked for when its time has come.
    pub(super) fn must_wait(&mut self, topic: &Topic) -> bool {
        match self.silences.get_mut(topic) {
            Some(silence) => {
                silence.waiting = true;
                true
            }
            None => false,
        }
    }

    pub(super) fn is_silent(&self, topic: &Topic) -> bool {
        self.silences.contains_key(topic)
    }

    /// An entry was just written: no other for a while.
    pub(super) fn told(&mut self, now: Instant, topic: Topic) {
        let until = now + READ_ENTRY_INTERVAL;
        self.order.push_back((until, topic.clone()));
        self.silences.insert(topic, Silence { until, waiting: false });
    }

    /// It could not be written: it waits for as long again.
    pub(super) fn put_back(&mut self, now: Instant, topic: Topic) {
        self.told(now, topic.clone());
        self.must_wait(&topic);
    }

    /// Those whose time has come and that are waiting for it, longest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Topic> {
        let mut due = Vec::new();
        while let Some((until, topic)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            if self.silences.get(&topic).is_some_and(|silence| silence.until == until)
                && self.silences.remove(&topic).is_some_and(|silence| silence.waiting)
            {
                due.push(topic);
            }
        }
        due
    }

    /// Everything that waits, longest first.
    pub(super) fn take_all(&mut self) -> Vec<Topic> {
        let waits = |(until, topic): &(Instant, Topic)| {
            self.silences.get(topic).is_some_and(|silence| silence.until == *until)
                && self.silences.remove(topic).is_some_and(|silence| silence.waiting)
        };
        self.order.drain(..).filter(waits).map(|(_, topic)| topic).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(about: About) -> Topic {
        (UserId::new("u").unwrap(), ConversationId::new("c").unwrap(), about)
    }

    #[test]
    fn one_entry_in_a_silence_and_the_last_one_at_its_end() {
        let (start, mut held) = (Instant::now(), HeldBack::default());
        let (read, peer) = (topic(About::Read), topic(About::PeerRead));
        assert!(!held.must_wait(&read));
        held.told(start, read.clone());
        assert!(held.must_wait(&read) && held.must_wait(&read));
        assert!(!held.must_wait(&peer), "another topic");
        let end = held.deadline().unwrap();
        assert_eq!(end, start + READ_ENTRY_INTERVAL);
        assert!(held.take_due(start).is_empty());
        assert_eq!(held.take_due(end), std::slice::from_ref(&read));
        assert!(!held.must_wait(&read) && held.deadline().is_none());
    }

    #[test]
    fn a_silence_that_begins_anew_lasts_its_time() {
        let (start, mut held) = (Instant::now(), HeldBack::default());
        let read = topic(About::Read);
        held.told(start, read.clone());
        let again = start + READ_ENTRY_INTERVAL / 2;
        held.told(again, read.clone());
        assert!(held.take_due(start + READ_ENTRY_INTERVAL).is_empty());
        assert!(held.must_wait(&read), "still");
        assert_eq!(held.take_due(again + READ_ENTRY_INTERVAL), std::slice::from_ref(&read));
        assert!(held.deadline().is_none());
    }

    #[test]
    fn a_silence_that_began_anew_stands_behind_the_others() {
        let (start, mut held) = (Instant::now(), HeldBack::default());
        let (read, wanted) = (topic(About::Read), topic(About::Preferences));
        held.told(start, read.clone());
        held.told(start, wanted.clone());
        held.told(start + READ_ENTRY_INTERVAL / 2, read.clone());
        assert!(held.must_wait(&read) && held.must_wait(&wanted));
        assert_eq!(held.take_all(), [wanted, read]);
    }

    #[test]
    fn a_drain_waits_for_nothing() {
        let (start, mut held) = (Instant::now(), HeldBack::default());
        let (read, wanted) = (topic(About::Read), topic(About::Preferences));
        held.told(start, read.clone());
        held.told(start, wanted.clone());
        assert!(held.must_wait(&wanted));
        assert_eq!(held.take_all(), [wanted]);
        assert!(!held.is_silent(&read) && held.deadline().is_none());
    }
}
