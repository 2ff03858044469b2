//! How often a session and its user may ask for something. Time is an argument.
//!
//! What one session does to those who are online is counted by the session. What costs the store is
//! counted by user, over all devices and sessions ([`Quotas`]): a new connection is no new allowance.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::{
    id::UserId,
    limits::{EPHEMERALS_BURST, EPHEMERALS_PER_SECOND, Limits},
    request::Request,
};

/// Users remembered before those are forgotten who have done nothing for a while.
const USERS_FIRST: usize = 1024;

/// The rates of all users.
#[derive(Debug, Default)]
pub struct Quotas {
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    rates: HashMap<UserId, Arc<Mutex<UserRates>>>,
    /// At how many the idle ones are looked for: so that it costs little for each.
    sweep_at: usize,
}

/// The rates of one user.
#[derive(Debug)]
struct UserRates {
    sends: Rate,
    sessions: Rate,
}

impl UserRates {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            sends: Rate::new(limits.sends_per_second, limits.sends_burst, now),
            sessions: Rate::new(limits.sessions_per_second, limits.sessions_burst, now),
        }
    }
}

impl UserRates {
    /// The limits may be others than when the user came first.
    fn follow(&mut self, limits: &Limits) {
        self.sends.change(limits.sends_per_second, limits.sends_burst);
        self.sessions.change(limits.sessions_per_second, limits.sessions_burst);
    }
}

impl Quotas {
    fn of(&self, user: &UserId, limits: &Limits, now: Instant) -> Arc<Mutex<UserRates>> {
        let mut users = self.users.lock();
        if let Some(rates) = users.rates.get(user) {
            rates.lock().follow(limits);
            return Arc::clone(rates);
        }
        if users.rates.len() >= users.sweep_at.max(USERS_FIRST) {
            // Whose allowance is whole again is as new.
            users.rates.retain(|_, rates| {
                let own = rates.lock();
                Arc::strong_count(rates) > 1
                    || !(own.sends.is_whole(now) && own.sessions.is_whole(now))
            });
            users.sweep_at = users.rates.len() * 2;
        }
        let rates = Arc::new(Mutex::new(UserRates::new(limits, now)));
        users.rates.insert(user.clone(), Arc::clone(&rates));
        rates
    }
}

/// Too much was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooFast {
    /// When it may be asked for again.
    pub(super) wait: Duration,
    /// For people: which limit.
    pub(super) detail: &'static str,
}

/// The rates of one session.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// None until it is known who speaks, and when a user has no limits.
    user: Option<Arc<Mutex<UserRates>>>,
    /// None before the first: most sessions send none.
    ephemerals: Option<Box<Rate>>,
}

impl Rates {
    /// A user opens this session, or says how long to wait.
    pub(super) fn open(
        &mut self,
        quotas: &Quotas,
        limits: &Limits,
        user: &UserId,
        now: Instant,
    ) -> Result<(), TooFast> {
        if limits.sends_per_second == 0 && limits.sessions_per_second == 0 {
            return Ok(());
        }
        let rates = quotas.of(user, limits, now);
        let taken = rates.lock().sessions.take(now);
        self.user = Some(rates);
        let detail = "this user opens sessions faster than limits.sessions_per_second allows";
        taken.map_err(|wait| TooFast { wait, detail })
    }

    /// Counts the request, or says how long to wait.
    pub(super) fn take(&mut self, now: Instant, request: &Request) -> Result<(), TooFast> {
        let (taken, detail) = match request {
            // What goes to everybody costs as much as a message.
            Request::Send { .. }
            | Request::Edit { .. }
            | Request::Recall { .. }
            | Request::DeleteForAll { .. }
            | Request::CancelSend { .. } => (
                self.user.as_ref().map_or(Ok(()), |user| user.lock().sends.take(now)),
                "this user sends faster than limits.sends_per_second allows",
            ),
            Request::SendEphemeral { .. } => {
                let new = || Box::new(Rate::new(EPHEMERALS_PER_SECOND, EPHEMERALS_BURST, now));
                let taken = self.ephemerals.get_or_insert_with(new).take(now);
                (taken, "this session sends ephemerals faster than it may")
            }
            _ => return Ok(()),
        };
        taken.map_err(|wait| TooFast { wait, detail })
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

    /// Another rate from now on.
    fn change(&mut self, per_second: u32, burst: u32) {
        (self.per_second, self.burst) = (f64::from(per_second), f64::from(burst.max(1)));
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

    /// Whether everything may be taken that could ever be.
    fn is_whole(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left + since * self.per_second >= self.burst || self.per_second == 0.0
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

    fn limits(sends: u32, sessions: u32) -> Limits {
        Limits {
            sends_per_second: sends,
            sends_burst: 3,
            sessions_per_second: sessions,
            sessions_burst: 2,
            ..Limits::default()
        }
    }

    fn user(number: usize) -> UserId {
        UserId::new(&format!("user{number}")).unwrap()
    }

    /// A new session, also of another device, is no new allowance; another user has his own.
    #[test]
    fn a_user_has_one_allowance() {
        let (quotas, limits, now) = (Quotas::default(), limits(1, 0), Instant::now());
        let cancel = Request::CancelSend { client_id: crate::id::ClientMessageId::new(1) };
        let mut taken = 0;
        for _ in 0..5 {
            let mut rates = Rates::default();
            rates.open(&quotas, &limits, &user(1), now).unwrap();
            taken += usize::from(rates.take(now, &cancel).is_ok());
            assert_eq!(rates.take(now, &Request::ListDevices), Ok(()));
        }
        assert_eq!(taken, 3);
        let mut other = Rates::default();
        other.open(&quotas, &limits, &user(2), now).unwrap();
        assert!(other.take(now, &cancel).is_ok());
    }

    #[test]
    fn sessions_are_counted_as_well() {
        let (quotas, limits, now) = (Quotas::default(), limits(0, 1), Instant::now());
        let open = |at| Rates::default().open(&quotas, &limits, &user(1), at);
        assert!(open(now).is_ok() && open(now).is_ok());
        let refused = open(now).unwrap_err();
        assert!(refused.detail.contains("limits.sessions_per_second"));
        assert!(open(now + refused.wait).is_ok());
    }

    /// However many users come and go, only those are remembered whose allowance is not whole.
    #[test]
    fn users_are_forgotten() {
        let (quotas, limits, mut now) = (Quotas::default(), limits(100, 100), Instant::now());
        let mut most = 0;
        for number in 0..50_000 {
            now += Duration::from_millis(1);
            Rates::default().open(&quotas, &limits, &user(number), now).unwrap();
            most = most.max(quotas.users.lock().rates.len());
        }
        assert!(most <= 2 * USERS_FIRST, "{most}");
    }
}
