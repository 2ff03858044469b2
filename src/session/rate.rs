//! How often a session may ask for something. Time is an argument.

use std::time::{Duration, Instant};

use crate::{
    limits::{EPHEMERALS_BURST, EPHEMERALS_PER_SECOND, Limits},
    request::Request,
};

/// The rates of one session.
#[derive(Debug)]
pub(super) struct Rates {
    sends: Rate,
    ephemerals: Rate,
}

impl Rates {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            sends: Rate::new(limits.sends_per_second, limits.sends_burst, now),
            ephemerals: Rate::new(EPHEMERALS_PER_SECOND, EPHEMERALS_BURST, now),
        }
    }

    /// Counts the request, or says how long to wait.
    pub(super) fn take(&mut self, now: Instant, request: &Request) -> Result<(), Duration> {
        match request {
            // What goes to everybody costs as much as a message.
            Request::Send { .. }
            | Request::Edit { .. }
            | Request::Recall { .. }
            | Request::DeleteForAll { .. }
            | Request::CancelSend { .. } => self.sends.take(now),
            Request::SendEphemeral { .. } => self.ephemerals.take(now),
            _ => Ok(()),
        }
    }
}

/// A token bucket: a sustained rate with a burst on top.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    /// `per_second` sustained, `burst` at once; 0 per second = no limit.
    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second), burst, left: burst, at: now }
    }

    /// Takes one, or says how long to wait.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + since * self.per_second).min(self.burst);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            per_second in 1u32..100,
            burst in 1u32..20,
            steps in proptest::collection::vec(0u64..200, 1..200),
        ) {
            let start = Instant::now();
            let mut rate = Rate::new(per_second, burst, start);
            let (mut now, mut taken) = (start, 0u32);
            for millis in steps {
                now += Duration::from_millis(millis);
                match rate.take(now) {
                    Ok(()) => taken += 1,
                    // Whoever waits as told is served.
                    Err(wait) => {
                        now += wait + Duration::from_micros(1);
                        prop_assert!(rate.take(now).is_ok());
                        taken += 1;
                    }
                }
                let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(per_second);
                prop_assert!(f64::from(taken) <= most + 1e-6);
            }
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let start = Instant::now();
        let mut rate = Rate::new(0, 0, start);
        assert!((0..1000).all(|_| rate.take(start).is_ok()));
    }
}
