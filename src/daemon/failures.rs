//! Which addresses have shown tokens that are not good, and how long they have to wait for it.
//!
//! A failure is a debt that time pays off. Who owes a minute is not listened to: neither guessing nor the
//! work of looking at bad tokens goes faster than the limit. What a bad token was wrong about is never
//! said, so trying teaches nothing.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::admission::Place;

/// What a place may owe.
const CREDIT: Duration = Duration::from_secs(60);
/// Places with debts. More: those that have paid are forgotten, if need be all; whoever has so many
/// addresses is not held up by a limit of each.
const PLACES_MAX: usize = 16 * 1024;

/// See the head of this module.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When each has paid.
    debts: HashMap<Place, Instant>,
}

impl Failures {
    /// Whether the place may try, or how long it has to wait.
    pub(super) fn check(&self, most: u32, place: Place, now: Instant) -> Result<(), Duration> {
        let Some(each) = CREDIT.checked_div(most) else { return Ok(()) };
        let paid = self.debts.get(&place).copied().unwrap_or(now);
        let owed = paid.saturating_duration_since(now) + each;
        if owed > CREDIT { Err(owed - CREDIT) } else { Ok(()) }
    }

    /// The place has failed once more.
    pub(super) fn add(&mut self, most: u32, place: Place, now: Instant) {
        let Some(each) = CREDIT.checked_div(most) else { return };
        if self.debts.len() >= PLACES_MAX && !self.debts.contains_key(&place) {
            self.debts.retain(|_, paid| *paid > now);
            if self.debts.len() > PLACES_MAX / 2 {
                self.debts.clear();
            }
        }
        let paid = self.debts.entry(place).or_insert(now);
        *paid = (*paid).max(now) + each;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn place(number: u32) -> Place {
        Place::of(Ipv4Addr::from(number).into())
    }

    #[test]
    fn so_many_in_a_minute_and_then_one_at_a_time() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for _ in 0..6 {
            assert_eq!(failures.check(6, place(1), start), Ok(()));
            failures.add(6, place(1), start);
        }
        let wait = failures.check(6, place(1), start).unwrap_err();
        assert_eq!(wait, Duration::from_secs(10));
        assert_eq!(failures.check(6, place(2), start), Ok(()), "each on its own");
        assert_eq!(failures.check(0, place(1), start), Ok(()), "no limit");
        // Whoever waits as told is listened to, once.
        let later = start + wait;
        assert_eq!(failures.check(6, place(1), later), Ok(()));
        failures.add(6, place(1), later);
        assert!(failures.check(6, place(1), later).is_err());
        // Everything is paid after a minute.
        let end = later + CREDIT;
        for _ in 0..6 {
            assert_eq!(failures.check(6, place(1), end), Ok(()));
            failures.add(6, place(1), end);
        }
        assert!(failures.check(6, place(1), end).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for number in 0..100_000 {
            failures.add(60, place(number), start);
        }
        assert!(failures.debts.len() <= PLACES_MAX);
        // Those who have paid go first.
        let mut failures = Failures::default();
        let late = start + CREDIT * 2;
        failures.debts.extend((1..PLACES_MAX as u32).map(|number| (place(number), start)));
        failures.add(1, place(0), late);
        failures.add(1, place(200_000), late);
        assert_eq!(failures.debts.len(), 2);
        assert!(failures.check(1, place(0), late).is_err());
    }
}
