//! Events that wait for the consumer.
//!
//! Bounded: entries by what was agreed to be sent without an ack, snapshots to the newest one, and all
//! others to [`SIGNS_MAX`], of which the oldest are dropped.

use std::collections::VecDeque;

use super::{event::Event, replica::Position};

/// Most waiting events that are neither entries nor snapshots.
const SIGNS_MAX: usize = 64;
/// A queue that once was longer gives its memory back when it is empty.
const IDLE_CAPACITY: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Waiting>,
    signs: usize,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    /// About how many bytes of the wire it is.
    bytes: u64,
}

/// What the consumer was given and has not yet dealt with.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// The last entry.
    pub(super) seq: u64,
    /// How many entries.
    pub(super) entries: u64,
    /// About how many bytes of the wire they are.
    pub(super) bytes: u64,
    /// The position of a snapshot, after the entries.
    pub(super) snapshot: Option<Position>,
    /// CaughtUp was among them.
    pub(super) caught_up: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn push_entries(
        &mut self,
        bytes: u64,
        entries: impl Iterator<Item = (u64, crate::wire::proto::Entry)>,
    ) {
        self.events.extend(
            entries.map(|(seq, entry)| Waiting { event: Event::Entry { seq, entry }, bytes }),
        );
    }

    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::Entry { .. } => {}
            Event::Snapshot(_) => {
                self.events.retain(|waiting| !matches!(waiting.event, Event::Snapshot(_)));
            }
            _ if self.signs < SIGNS_MAX => self.signs += 1,
            _ => {
                if let Some(oldest) = self.events.iter().position(|it| is_sign(&it.event)) {
                    self.events.remove(oldest);
                }
            }
        }
        self.events.push_back(Waiting { event, bytes: 0 });
    }

    /// The next event, noted in `given`. None also when a snapshot was given: what it leads to comes
    /// first.
    pub(super) fn take(&mut self, given: &mut Given) -> Option<Event> {
        if given.snapshot.is_some() {
            return None;
        }
        let Waiting { event, bytes } = self.events.pop_front()?;
        self.signs -= usize::from(is_sign(&event));
        match &event {
            Event::Entry { seq, .. } => {
                given.seq = *seq;
                given.entries += 1;
                given.bytes += bytes;
            }
            Event::Snapshot(snapshot) => given.snapshot = Some(snapshot.position),
            Event::CaughtUp(_) => given.caught_up = true,
            _ => {}
        }
        if self.events.is_empty() && self.events.capacity() > IDLE_CAPACITY {
            self.events = VecDeque::new();
        }
        Some(event)
    }
}

fn is_sign(event: &Event) -> bool {
    !matches!(event, Event::Entry { .. } | Event::Snapshot(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Snapshot, wire::proto};

    fn caught_up(seq: u64) -> Event {
        Event::CaughtUp(Box::new(proto::CaughtUp { seq, ..Default::default() }))
    }

    fn snapshot(seq: u64) -> Event {
        Event::Snapshot(Snapshot {
            position: Position { epoch: 1, seq },
            reason: proto::TooLongReason::NewDevice,
            conversations: Vec::new(),
            unread_total: 0,
        })
    }

    #[test]
    fn signs_are_bounded_and_entries_are_not_dropped() {
        let mut queue = Queue::default();
        for seq in 1..=1000 {
            queue.push_entries(10, std::iter::once((seq, proto::Entry::default())));
            queue.push(caught_up(seq));
        }
        assert_eq!(queue.len(), 1000 + SIGNS_MAX);
        let mut given = Given::default();
        let mut signs = Vec::new();
        let mut next = 1;
        while let Some(event) = queue.take(&mut given) {
            match event {
                Event::Entry { seq, .. } => {
                    assert_eq!(seq, next);
                    next += 1;
                }
                Event::CaughtUp(state) => signs.push(state.seq),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((given.seq, given.entries, given.bytes), (1000, 1000, 10_000));
        assert!(signs.iter().copied().eq(1000 - SIGNS_MAX as u64 + 1..=1000));
        queue.push(caught_up(1));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_newer_snapshot_takes_the_place_of_an_older_one_and_ends_a_round() {
        let mut queue = Queue::default();
        queue.push(snapshot(1));
        queue.push(snapshot(2));
        queue.push(caught_up(3));
        let mut given = Given::default();
        assert!(matches!(queue.take(&mut given), Some(Event::Snapshot(s)) if s.position.seq == 2));
        assert!(queue.take(&mut given).is_none());
        assert!(queue.take(&mut Given::default()).is_some());
    }
}
