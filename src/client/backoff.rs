//! How long to wait before the next attempt: exponential with full jitter.

use std::time::Duration;

use super::config::Backoff;

/// Counts attempts in a row. Randomness is an argument.
#[derive(Debug)]
pub(super) struct Attempts {
    config: Backoff,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(config: Backoff) -> Self {
        Self { config, failed: 0 }
    }

    /// A session has lasted: the next pause is a short one again.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// One more has failed: how long to wait, at least `least`. `random` is in `0.0..1.0`.
    pub(super) fn pause(&mut self, least: Duration, random: f64) -> Duration {
        let factor = 1u32.checked_shl(self.failed).unwrap_or(u32::MAX);
        let window = self.config.first.saturating_mul(factor).min(self.config.most);
        self.failed = self.failed.saturating_add(1).min(31);
        least + window.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let millis = Duration::from_millis;
        let mut attempts = Attempts::new(Backoff { first: millis(100), most: millis(10_000) });
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(attempts.pause(Duration::ZERO, 1.0).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..100 {
            assert_eq!(attempts.pause(Duration::ZERO, 0.5), millis(5000));
        }
        attempts.reset();
        assert_eq!(attempts.pause(millis(300), 0.5), millis(350));
        assert_eq!(attempts.pause(millis(300), 0.0), millis(300));
    }
}
