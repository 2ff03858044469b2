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

    /// Date and time of day in UTC, for people.
    ///
    /// ```
    /// # use roamd::time::Timestamp;
    /// assert_eq!(Timestamp::from_millis(951_782_400_000).utc(), "2000-02-29 00:00:00");
    /// ```
    #[must_use]
    pub fn utc(self) -> String {
        let (days, second) = (self.0 / 86_400_000, self.0 / 1000 % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
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

/// The date so many days after 1970-01-01: years are counted from 1 March of year 0, so that a leap
/// day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_999, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_767_225_600_000, "2026-01-01 00:00:00"),
            (1_798_761_599_999, "2026-12-31 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).utc(), text);
        }
    }
}
