//! Wall-clock time as a value. Nothing below the shell reads a clock.

use std::{fmt, time::Duration};

use crate::limits::CLOCK_JUMP_MIN;

/// Unix time in milliseconds. Shown to people and used for retention, never for ordering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From unix milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// This much earlier; stops at 1970.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// How old things are by a wall clock that may have been set between two lives of the daemon.
///
/// What is older than the last jump of the clock, or lies in the future because the clock was ahead
/// before, has an age that nobody knows: it counts from the jump, so that nothing goes too early.
///
/// ```
/// use std::time::Duration;
/// use roamd::time::{Ages, Timestamp};
/// let (week, year) = (Duration::from_secs(7 * 86_400), Duration::from_secs(365 * 86_400));
/// let old = Timestamp::from_millis(1_700_000_000_000);
/// let jump = old.plus(year);
/// assert!(!Ages { now: jump.plus(week), jump }.is_over(old, week));
/// assert!(Ages { now: jump.plus(week + Duration::from_secs(1)), jump }.is_over(old, week));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// The time.
    pub now: Timestamp,
    /// When the wall clock was last found to have been set; 1970 = never.
    pub jump: Timestamp,
}

impl Ages {
    /// Whether something of this time is older than the age it may reach.
    #[must_use]
    pub fn is_over(&self, time: Timestamp, age_max: Duration) -> bool {
        let ahead = self.jump > Timestamp::default() && time > self.now.plus(CLOCK_JUMP_MIN);
        let counts_from = if ahead { self.jump } else { time.max(self.jump) };
        counts_from < self.now.minus(age_max)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
