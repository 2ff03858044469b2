//! Events that wait for the consumer.
//!
//! Bounded: entries by what was agreed to be sent without an ack, large conversations by
//! [`Queue::has_room`] (what does not fit is fetched later), snapshots and totals to the newest one,
//! presence to the newest of each device, and all others to [`SIGNS_MAX`], of which the oldest are
//! dropped.

use std::collections::VecDeque;

use super::{event::Event, replica::Position};
use crate::wire::proto;

/// Most waiting events that are neither entries nor snapshots.
const SIGNS_MAX: usize = 64;
/// Most waiting events of large conversations, apart from one page for each that is being fetched.
const LARGE_MAX: usize = 1000;
/// ... and about how many bytes of the wire.
const LARGE_BYTES_MAX: u64 = 1024 * 1024;
/// A queue that once was longer gives its memory back when it is empty.
const IDLE_CAPACITY: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Waiting>,
    signs: usize,
    large: usize,
    large_bytes: u64,
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

    /// Whether more of large conversations may be put in.
    pub(super) fn has_room(&self) -> bool {
        self.large < LARGE_MAX && self.large_bytes < LARGE_BYTES_MAX
    }

    pub(super) fn push(&mut self, event: Event) {
        self.push_sized(event, 0);
    }

    /// An event that is about so many bytes of the wire.
    pub(super) fn push_sized(&mut self, event: Event, bytes: u64) {
        match &event {
            Event::Entry { .. } => {}
            Event::Large(_) => {
                self.large += 1;
                self.large_bytes += bytes;
            }
            Event::Snapshot(_) => {}
            Event::Presence(devices) => {
                let waiting = self.events.iter_mut().find_map(|waiting| match &mut waiting.event {
                    Event::Presence(waiting) => Some(waiting),
                    _ => None,
                });
                if let Some(waiting) = waiting {
                    waiting.retain(|old| !devices.iter().any(|new| is_same_device(old, new)));
                    return waiting.extend_from_slice(devices);
                }
            }
            Event::Unread(_) => {
                self.events.retain(|waiting| !matches!(waiting.event, Event::Unread(_)));
            }
            _ if self.signs < SIGNS_MAX => self.signs += 1,
            _ => {
                if let Some(oldest) = self.events.iter().position(|it| is_sign(&it.event)) {
                    self.events.remove(oldest);
                }
            }
        }
        self.events.push_back(Waiting { event, bytes });
    }

    /// Snapshots that wait are of no more use.
    pub(super) fn forget_snapshots(&mut self) {
        self.events.retain(|waiting| !matches!(waiting.event, Event::Snapshot(_)));
    }

    /// What waits of the inbox is of no more use: the stream starts over elsewhere.
    pub(super) fn forget_stream(&mut self) {
        let stream = |event: &Event| {
            matches!(event, Event::Entry { .. } | Event::Snapshot(_) | Event::CaughtUp(_))
        };
        self.events.retain(|waiting| {
            self.signs -= usize::from(stream(&waiting.event) && is_sign(&waiting.event));
            !stream(&waiting.event)
        });
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
            Event::Large(_) => {
                self.large -= 1;
                self.large_bytes -= bytes;
            }
            _ => {}
        }
        if self.events.is_empty() && self.events.capacity() > IDLE_CAPACITY {
            self.events = VecDeque::new();
        }
        Some(event)
    }
}

/// Only tells the state, and may be dropped.
fn is_sign(event: &Event) -> bool {
    matches!(
        event,
        Event::Connected(_) | Event::CaughtUp(_) | Event::Disconnected { .. } | Event::Ephemeral(_)
    )
}

fn is_same_device(one: &proto::DevicePresence, other: &proto::DevicePresence) -> bool {
    one.user_id == other.user_id && one.device_id == other.device_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{LargeEvent, LargeNews, Snapshot};

    fn caught_up(seq: u64) -> Event {
        Event::CaughtUp(Box::new(proto::CaughtUp { seq, ..Default::default() }))
    }

    fn snapshot(seq: u64) -> Event {
        Event::Snapshot(Snapshot {
            position: Position { epoch: 1, seq },
            reason: proto::TooLongReason::NewDevice,
            conversations: Vec::new(),
            unread_total: 0,
            large: Vec::new(),
        })
    }

    #[test]
    fn signs_are_bounded_and_entries_are_not_dropped() {
        let mut queue = Queue::default();
        for seq in 1..=1000 {
            queue.push_sized(Event::Entry { seq, entry: proto::Entry::default() }, 10);
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
    fn a_snapshot_ends_a_round_and_can_be_forgotten() {
        let mut queue = Queue::default();
        queue.push(snapshot(1));
        queue.forget_snapshots();
        queue.push(snapshot(2));
        queue.push(caught_up(3));
        let mut given = Given::default();
        assert!(matches!(queue.take(&mut given), Some(Event::Snapshot(s)) if s.position.seq == 2));
        assert!(queue.take(&mut given).is_none());
        queue.push(Event::Unread(proto::UnreadPush::default()));
        queue.forget_stream();
        assert!(matches!(queue.take(&mut Given::default()), Some(Event::Unread(_))));
        assert_eq!((queue.len(), queue.signs), (0, 0));
    }

    #[test]
    fn presence_is_never_lost_and_takes_one_place_per_device() {
        let at = |device: &str, since_ms| proto::DevicePresence {
            user_id: "bob".into(),
            device_id: device.into(),
            since_ms,
            ..Default::default()
        };
        let mut queue = Queue::default();
        queue.push(Event::Presence(vec![at("phone", 1), at("laptop", 1)]));
        queue.push(Event::Unread(proto::UnreadPush { unread_total: 1, position: 1 }));
        for since in 2..1000 {
            queue.push(Event::Presence(vec![at("phone", since)]));
            queue.push(caught_up(since));
            queue.push(Event::Unread(proto::UnreadPush { unread_total: since, position: 1 }));
        }
        let mut given = Given::default();
        let Some(Event::Presence(devices)) = queue.take(&mut given) else { panic!("dropped") };
        assert_eq!(devices, [at("laptop", 1), at("phone", 999)]);
        let rest: Vec<_> = std::iter::from_fn(|| queue.take(&mut given)).collect();
        assert!(matches!(rest.last(), Some(Event::Unread(push)) if push.unread_total == 999));
        assert_eq!(rest.len(), SIGNS_MAX + 1);
    }

    #[test]
    fn large_conversations_fill_their_room_and_empty_it() {
        let large = || {
            let cursor = proto::ConversationCursor::default();
            Event::Large(Box::new(LargeEvent { cursor, news: LargeNews::Begins }))
        };
        let mut queue = Queue::default();
        for _ in 0..LARGE_MAX {
            assert!(queue.has_room());
            queue.push_sized(large(), 10);
        }
        assert!(!queue.has_room());
        queue.take(&mut Given::default());
        assert!(queue.has_room());
        queue.push_sized(large(), LARGE_BYTES_MAX);
        while queue.len() > 0 {
            assert!(!queue.has_room());
            queue.take(&mut Given::default());
        }
        assert!(queue.has_room());
    }
}
