//! The process's clock: wall time that does not jump while the process runs.
//!
//! The wall clock is read once; from then on time goes by the monotonic clock. So a clock set
//! forward does not expire every inbox at once, and one set back reorders nothing.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::{engine::Now, time::Timestamp};

/// Reads both clocks as one value.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: Timestamp,
}

impl Clock {
    /// Reads the wall clock, once.
    #[must_use]
    pub fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { started: Instant::now(), wall: Timestamp::from_millis(millis) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let mono = Instant::now();
        Now { wall: self.wall.plus(mono.duration_since(self.started)), mono }
    }
}
