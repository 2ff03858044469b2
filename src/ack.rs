//! Delayed acks: coalesce what was received until a threshold or a deadline, then say it once.
//!
//! [`DelayedAck`] decides only *when* to speak. What the ack says (a cumulative sequence on the
//! client, a set of dirty devices on the server) stays with the caller, who counts something into
//! [`DelayedAck::receive`] once and reads its own state when the ack goes out.
//!
//! Invariants: there is a deadline exactly when something is un-acked; it is never later than
//! `delay_max` after the oldest un-acked item; from the moment a threshold is reached it has passed;
//! it only moves earlier until [`DelayedAck::take`] clears it. Time is an argument.
//!
//! ```
//! use std::time::Instant;
//! use roamd::ack::{AckConfig, DelayedAck};
//!
//! let start = Instant::now();
//! let mut ack = DelayedAck::new(AckConfig::CLIENT);
//! ack.receive(start, 1, 200);
//! assert_eq!(ack.deadline(), Some(start + AckConfig::CLIENT.delay_max));
//! ack.receive(start, 63, 63 * 200);
//! assert!(ack.due(start));
//! assert!(ack.take());
//! assert_eq!(ack.deadline(), None);
//! ```

use std::time::{Duration, Instant};

use crate::limits;

/// When an ack must go out: whichever bound is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckConfig {
    /// At once when so many items are un-acked. 0 and 1 mean every item.
    pub count_max: u64,
    /// At once when so many bytes are un-acked. [`u64::MAX`] = bytes do not matter.
    pub bytes_max: u64,
    /// At the latest this long after the oldest un-acked item. More than the clock can hold = at once.
    pub delay_max: Duration,
}

impl AckConfig {
    /// A client's acks of inbox entries.
    pub const CLIENT: Self = Self {
        count_max: limits::CLIENT_ACK_ENTRIES,
        bytes_max: limits::CLIENT_ACK_BYTES,
        delay_max: limits::CLIENT_ACK_DELAY_MAX,
    };

    /// The server's cursor writes; an item is a device that was clean before.
    pub const CURSORS: Self = Self {
        count_max: limits::CURSOR_FLUSH_DEVICES,
        bytes_max: u64::MAX,
        delay_max: limits::CURSOR_FLUSH_DELAY_MAX,
    };
}

/// Decides when an ack goes out. One per session on the client, one per writer on the server.
#[derive(Clone, Debug)]
pub struct DelayedAck {
    config: AckConfig,
    count: u64,
    bytes: u64,
    deadline: Option<Instant>,
}

impl DelayedAck {
    /// Nothing received yet.
    #[must_use]
    pub const fn new(config: AckConfig) -> Self {
        Self { config, count: 0, bytes: 0, deadline: None }
    }

    /// `count` items of together `bytes` bytes were stored and wait for their ack.
    ///
    /// Nothing happens when both are 0.
    pub fn receive(&mut self, now: Instant, count: u64, bytes: u64) {
        if count == 0 && bytes == 0 {
            return;
        }
        self.count = self.count.saturating_add(count);
        self.bytes = self.bytes.saturating_add(bytes);
        let full = self.count >= self.config.count_max || self.bytes >= self.config.bytes_max;
        let delay = if full { Duration::ZERO } else { self.config.delay_max };
        self.not_later_than(now.checked_add(delay).unwrap_or(now));
    }

    /// What waits must be acked at once: caught up, going to the background, saying Bye, draining.
    ///
    /// Nothing happens when nothing waits, since the last ack already said everything.
    pub fn demand(&mut self, now: Instant) {
        if self.deadline.is_some() {
            self.not_later_than(now);
        }
    }

    /// When the ack must go out; in the past or now = at once; none = nothing waits.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the ack must go out now.
    #[must_use]
    pub fn due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// An ack goes out now, alone or on a frame that goes out anyway: starts over.
    ///
    /// False = nothing waited, so the caller has nothing new to say.
    #[must_use = "false means that there is nothing to ack"]
    pub fn take(&mut self) -> bool {
        let waited = self.deadline.is_some();
        *self = Self::new(self.config);
        waited
    }

    fn not_later_than(&mut self, limit: Instant) {
        self.deadline = Some(self.deadline.map_or(limit, |deadline| deadline.min(limit)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u64),
        Receive(u64, u64),
        Demand,
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u64..120).prop_map(Step::Wait),
            5 => (0u64..6, 0u64..400).prop_map(|(count, bytes)| Step::Receive(count, bytes)),
            1 => Just(Step::Demand),
            1 => Just(Step::Take),
        ];
        prop::collection::vec(step, 0..80)
    }

    const CONFIG: AckConfig =
        AckConfig { count_max: 10, bytes_max: 1000, delay_max: Duration::from_millis(100) };

    /// Remembers everything that waits and derives the deadline anew each time.
    #[derive(Default)]
    struct Model {
        waiting: Vec<(Instant, u64, u64)>,
        demanded: Option<Instant>,
    }

    impl Model {
        fn deadline(&self) -> Option<Instant> {
            let (oldest, ..) = *self.waiting.first()?;
            let (mut count, mut bytes) = (0, 0);
            let full = self.waiting.iter().find_map(|(at, c, b)| {
                count += c;
                bytes += b;
                (count >= CONFIG.count_max || bytes >= CONFIG.bytes_max).then_some(*at)
            });
            [Some(oldest + CONFIG.delay_max), full, self.demanded].into_iter().flatten().min()
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(steps in steps()) {
            let mut now = Instant::now();
            let (mut ack, mut model) = (DelayedAck::new(CONFIG), Model::default());
            for step in steps {
                match step {
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Receive(count, bytes) => {
                        ack.receive(now, count, bytes);
                        if count + bytes > 0 {
                            model.waiting.push((now, count, bytes));
                        }
                    }
                    Step::Demand => {
                        ack.demand(now);
                        if !model.waiting.is_empty() {
                            model.demanded.get_or_insert(now);
                        }
                    }
                    Step::Take => {
                        prop_assert_eq!(ack.take(), !model.waiting.is_empty());
                        model = Model::default();
                        prop_assert!(!ack.take());
                    }
                }
                prop_assert_eq!(ack.deadline(), model.deadline());
                prop_assert_eq!(ack.due(now), model.deadline().is_some_and(|at| at <= now));
            }
        }

        /// A caller that wakes at every deadline: each ack has its reason, and none is late.
        #[test]
        fn acks_in_time_and_not_too_often(steps in steps()) {
            let start = Instant::now();
            let mut now = start;
            let mut ack = DelayedAck::new(CONFIG);
            let (mut count, mut bytes, mut oldest, mut demanded) = (0, 0, None, false);
            let (mut acks, mut count_total, mut bytes_total, mut demands) = (0, 0, 0, 0);
            for step in steps {
                let until = if let Step::Wait(millis) = step {
                    now + Duration::from_millis(millis)
                } else {
                    now
                };
                match step {
                    Step::Receive(c, b) => {
                        ack.receive(now, c, b);
                        (count, bytes) = (count + c, bytes + b);
                        (count_total, bytes_total) = (count_total + c, bytes_total + b);
                        if c + b > 0 {
                            oldest.get_or_insert(now);
                        }
                    }
                    Step::Demand => {
                        ack.demand(now);
                        demanded = oldest.is_some();
                        demands += 1;
                    }
                    Step::Wait(_) | Step::Take => {}
                }
                while let Some(at) = ack.deadline().filter(|at| *at <= until) {
                    now = now.max(at);
                    let waited = now - oldest.unwrap();
                    prop_assert!(waited <= CONFIG.delay_max);
                    let full = count >= CONFIG.count_max || bytes >= CONFIG.bytes_max;
                    prop_assert!(full || demanded || waited == CONFIG.delay_max);
                    prop_assert!(ack.take());
                    acks += 1;
                    (count, bytes, oldest, demanded) = (0, 0, None, false);
                }
                now = until;
                prop_assert!(count < CONFIG.count_max && bytes < CONFIG.bytes_max);
            }
            let windows = (now - start).as_millis() / CONFIG.delay_max.as_millis();
            let most = count_total / CONFIG.count_max
                + bytes_total / CONFIG.bytes_max
                + demands
                + u64::try_from(windows).unwrap();
            prop_assert!(acks <= most, "{acks} acks, at most {most}");
        }
    }

    #[test]
    fn demand_needs_something_to_say() {
        let now = Instant::now();
        let mut ack = DelayedAck::new(AckConfig::CLIENT);
        ack.demand(now);
        assert_eq!(ack.deadline(), None);
        ack.receive(now, 1, 1);
        assert!(!ack.due(now));
        ack.demand(now);
        assert!(ack.due(now));
    }

    #[test]
    fn extremes_are_due_at_once() {
        let now = Instant::now();
        let forever = AckConfig { delay_max: Duration::MAX, ..AckConfig::CLIENT };
        let mut ack = DelayedAck::new(forever);
        ack.receive(now, 1, 1);
        assert!(ack.due(now), "a delay that no clock can hold is no delay");

        let mut ack = DelayedAck::new(AckConfig::CURSORS);
        ack.receive(now, 1, u64::MAX - 1);
        assert!(!ack.due(now));
        ack.receive(now, u64::MAX, 2);
        assert!(ack.due(now));
    }
}
