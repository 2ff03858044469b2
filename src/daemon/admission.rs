//! Who may have a connection: how many there are, how many of one address, and which of those that have
//! not said who they are must go when there are too many.
//!
//! Silence takes no place from those who speak. When all places of the greeting are in use, the oldest
//! connection of the address with the most of them gives way, so that whoever opens many displaces
//! himself. A connection keeps its place for [`GRACE`], in which a Hello comes over any network; until
//! then the next one waits in the kernel's queue, which costs this process nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use super::{failures::Failures, feed::Feed};
use crate::{
    id::SessionId,
    limits::Limits,
    refusal::{ErrorCode, Refusal},
};

/// How long a connection that says nothing keeps its place when others want it.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// The same for one that shakes hands, from when the server has done its part: what is left takes a turn on
/// the network, and work of a client that may be one of thousands on its machine.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// Whoever is behind one of these is taken for one: an IPv4 address, or the 64 bits of an IPv6 address
/// that a network gives to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(IpAddr);

impl Place {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

#[derive(Debug)]
struct Open {
    feed: Arc<Feed>,
    place: Place,
}

/// The connections of one place.
#[derive(Debug, Default)]
struct Here {
    open: usize,
    /// Those that have not said Hello, and until when they keep their places.
    greeting: BTreeMap<SessionId, Instant>,
    /// The same, the first to go first.
    order: BTreeSet<(Instant, SessionId)>,
}

impl Here {
    fn keep(&mut self, id: SessionId, until: Instant) {
        if let Some(before) = self.greeting.insert(id, until) {
            self.order.remove(&(before, id));
        }
        self.order.insert((until, id));
    }
}

/// What becomes of a connection that asks for a place.
#[derive(Debug)]
pub(super) enum Entry {
    /// It has one.
    In(Arc<Feed>),
    /// There may be one at this time, or when another connection has ended or said Hello.
    NotBefore(Instant),
    /// There is none.
    Refused(Refusal),
}

/// See the head of this module.
#[derive(Debug, Default)]
pub(super) struct Admission {
    open: HashMap<SessionId, Open>,
    places: HashMap<Place, Here>,
    /// How many of each place are greeting, the most last.
    crowds: BTreeSet<(usize, Place)>,
    greeting: usize,
    failures: Failures,
}

impl Admission {
    /// Gives a new connection a place, if need be that of one that has said nothing for [`GRACE`].
    pub(super) fn enter(
        &mut self,
        limits: &Limits,
        id: SessionId,
        address: IpAddr,
        now: Instant,
    ) -> Entry {
        let place = Place::of(address);
        let of_place = self.places.get(&place).map_or(0, |here| here.open);
        if limits.connections_per_address > 0 && of_place >= limits.connections_per_address {
            return Entry::Refused(Refusal::fatal(
                ErrorCode::RateLimited,
                "this address has all the connections of limits.connections_per_address",
            ));
        }
        let full = self.open.len() >= limits.connections;
        if full || self.greeting >= limits.greeting_connections {
            match self.oldest() {
                Some((until, oldest)) if until <= now => self.evict(oldest),
                Some((until, _)) => return Entry::NotBefore(until),
                None => {
                    return Entry::Refused(Refusal::fatal(
                        ErrorCode::Overloaded,
                        "the server has all of limits.connections in use",
                    ));
                }
            }
        }
        let feed = Feed::new();
        self.open.insert(id, Open { feed: Arc::clone(&feed), place });
        let here = self.places.entry(place).or_default();
        here.open += 1;
        here.keep(id, now + GRACE);
        self.crowd(place, here_count(&self.places, place) - 1);
        self.greeting += 1;
        Entry::In(feed)
    }

    /// The connection has said who it is: it is no longer one of those that give way.
    pub(super) fn greeted(&mut self, id: SessionId) {
        if let Some(open) = self.open.get(&id) {
            let place = open.place;
            self.no_longer_greeting(id, place);
        }
    }

    /// The server has done its part of the handshake.
    pub(super) fn shakes_hands(&mut self, id: SessionId, now: Instant) {
        if let Some(open) = self.open.get(&id)
            && let Some(here) = self.places.get_mut(&open.place)
            && here.greeting.contains_key(&id)
        {
            here.keep(id, now + HANDSHAKE_GRACE);
        }
    }

    /// Whether the connection's address may show a token, or how long it has to wait.
    pub(super) fn may_try(
        &self,
        limits: &Limits,
        id: SessionId,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(open) = self.open.get(&id) else { return Ok(()) };
        self.failures.check(limits.auth_failures_per_minute, open.place, now)
    }

    /// The connection's address has shown a token that is not good.
    pub(super) fn denied(&mut self, limits: &Limits, id: SessionId, now: Instant) {
        if let Some(open) = self.open.get(&id) {
            self.failures.add(limits.auth_failures_per_minute, open.place, now);
        }
    }

    /// The connection is over.
    pub(super) fn leave(&mut self, id: SessionId) {
        let Some(open) = self.open.remove(&id) else { return };
        self.no_longer_greeting(id, open.place);
        if let Some(here) = self.places.get_mut(&open.place) {
            here.open -= 1;
            if here.open == 0 {
                self.places.remove(&open.place);
            }
        }
    }

    /// Every connection that has a place.
    pub(super) fn feeds(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.open.values().map(|open| &open.feed)
    }

    /// Whether nobody is left.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The greeting connection that is the first to go, of the place that has the most.
    fn oldest(&self) -> Option<(Instant, SessionId)> {
        let (_, place) = self.crowds.last()?;
        self.places.get(place)?.order.first().copied()
    }

    /// Takes its place at once; it is told, and ends when it gets to it.
    fn evict(&mut self, id: SessionId) {
        if let Some(open) = self.open.get(&id) {
            open.feed.give_way();
        }
        self.leave(id);
    }

    fn no_longer_greeting(&mut self, id: SessionId, place: Place) {
        let Some(here) = self.places.get_mut(&place) else { return };
        if let Some(until) = here.greeting.remove(&id) {
            here.order.remove(&(until, id));
            let count = here.greeting.len();
            self.greeting -= 1;
            self.crowd(place, count + 1);
        }
    }

    /// The number of a place's greeting connections was `before`.
    fn crowd(&mut self, place: Place, before: usize) {
        self.crowds.remove(&(before, place));
        let count = here_count(&self.places, place);
        if count > 0 {
            self.crowds.insert((count, place));
        }
    }
}

fn here_count(places: &HashMap<Place, Here>, place: Place) -> usize {
    places.get(&place).map_or(0, |here| here.greeting.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(connections: usize, greeting: usize, of_address: usize) -> Limits {
        Limits {
            connections,
            greeting_connections: greeting,
            connections_per_address: of_address,
            ..Limits::default()
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_in(entry: &Entry) -> bool {
        matches!(entry, Entry::In(_))
    }

    #[test]
    fn whoever_opens_many_displaces_himself() {
        let (limits, start) = (limits(100, 4, 0), Instant::now());
        let mut admission = Admission::default();
        let enter = |admission: &mut Admission, id: u64, last, now| {
            admission.enter(&limits, SessionId::new(id), address(last), now)
        };
        let Entry::In(honest) = enter(&mut admission, 1, 1, start) else { panic!("no place") };
        let crowd: Vec<_> = (2..5).map(|id| enter(&mut admission, id, 9, start)).collect();
        assert!(crowd.iter().all(is_in));
        let Entry::NotBefore(at) = enter(&mut admission, 5, 9, start) else { panic!("no wait") };
        assert_eq!(at, start + GRACE);
        for id in 5..50 {
            let now = start + GRACE * u32::try_from(id).unwrap();
            assert!(is_in(&enter(&mut admission, id, 9, now)), "{id}");
        }
        assert!(!honest.take(true).give_way);
        for entry in crowd {
            let Entry::In(feed) = entry else { panic!("no place") };
            assert!(feed.take(true).give_way);
        }
        assert_eq!((admission.open.len(), admission.greeting), (4, 4));
    }

    #[test]
    fn whoever_shakes_hands_has_longer() {
        let (limits, start) = (limits(100, 2, 0), Instant::now());
        let mut admission = Admission::default();
        let enter = |admission: &mut Admission, id, now| {
            admission.enter(&limits, SessionId::new(id), address(1), now)
        };
        assert!(is_in(&enter(&mut admission, 1, start)) && is_in(&enter(&mut admission, 2, start)));
        admission.shakes_hands(SessionId::new(1), start);
        // The second, which says nothing, goes; then nobody does until the first has had its time.
        assert!(is_in(&enter(&mut admission, 3, start + GRACE)));
        admission.shakes_hands(SessionId::new(2), start + GRACE);
        admission.shakes_hands(SessionId::new(3), start + GRACE);
        let Entry::NotBefore(at) = enter(&mut admission, 4, start + GRACE * 2) else {
            panic!("no wait")
        };
        assert_eq!(at, start + HANDSHAKE_GRACE);
        admission.greeted(SessionId::new(3));
        assert!(is_in(&enter(&mut admission, 4, start + GRACE * 2)));
        assert!(is_in(&enter(&mut admission, 5, start + HANDSHAKE_GRACE)));
        assert_eq!((admission.open.len(), admission.greeting), (3, 2));
    }

    #[test]
    fn those_who_have_said_who_they_are_do_not_give_way() {
        let (limits, start) = (limits(2, 2, 0), Instant::now());
        let mut admission = Admission::default();
        for id in 1..3 {
            assert!(is_in(&admission.enter(&limits, SessionId::new(id), address(1), start)));
            admission.greeted(SessionId::new(id));
        }
        let late = start + GRACE * 100;
        let Entry::Refused(refusal) = admission.enter(&limits, SessionId::new(3), address(1), late)
        else {
            panic!("not refused")
        };
        assert_eq!((refusal.code, refusal.fatal), (ErrorCode::Overloaded, true));
        assert!(refusal.detail.contains("limits.connections"), "{}", refusal.detail);
        admission.leave(SessionId::new(1));
        assert!(is_in(&admission.enter(&limits, SessionId::new(3), address(1), late)));
        // The one that says nothing is the one that goes, for somebody from anywhere.
        let later = late + GRACE;
        assert!(is_in(&admission.enter(&limits, SessionId::new(4), address(2), later)));
    }

    #[test]
    fn an_address_has_so_many() {
        let (limits, now) = (limits(100, 100, 2), Instant::now());
        let mut admission = Admission::default();
        let mut enter = |id, from| admission.enter(&limits, SessionId::new(id), from, now);
        let net = |end| IpAddr::from([0x2001, 0xdb8, 1, 2, 3, 4, 5, end]);
        assert!(is_in(&enter(1, address(1))) && is_in(&enter(2, address(1))));
        let mapped = address(1).to_string();
        let mapped = format!("::ffff:{mapped}").parse().unwrap();
        for from in [address(1), mapped] {
            let Entry::Refused(refusal) = enter(3, from) else { panic!("not refused") };
            assert_eq!((refusal.code, refusal.fatal), (ErrorCode::RateLimited, true));
            assert!(refusal.detail.contains("limits.connections_per_address"));
        }
        assert!(
            is_in(&enter(4, address(2))) && is_in(&enter(5, net(1))) && is_in(&enter(6, net(2)))
        );
        assert!(matches!(enter(7, net(3)), Entry::Refused(_)));
    }

    proptest! {
        /// The counts agree with what is there, whatever happens.
        #[test]
        fn counts_are_right(steps in proptest::collection::vec((0u8..5, 0u8..5, 0u64..30), 1..200)) {
            let (limits, mut now) = (limits(12, 6, 8), Instant::now());
            let mut admission = Admission::default();
            let mut next = 0;
            for (what, from, which) in steps {
                now += Duration::from_millis(u64::from(from) * 20);
                match what {
                    0 | 1 => {
                        next += 1;
                        let _ = admission.enter(&limits, SessionId::new(next), address(from), now);
                    }
                    2 => admission.greeted(SessionId::new(which)),
                    3 => admission.shakes_hands(SessionId::new(which), now),
                    _ => admission.leave(SessionId::new(which)),
                }
                let greeting: usize = admission.places.values().map(|p| p.greeting.len()).sum();
                let open: usize = admission.places.values().map(|p| p.open).sum();
                prop_assert_eq!((open, greeting), (admission.open.len(), admission.greeting));
                prop_assert!(open <= 12 && greeting <= 6);
                let crowds: BTreeSet<_> = admission.places.iter()
                    .filter(|(_, here)| !here.greeting.is_empty())
                    .map(|(place, here)| (here.greeting.len(), *place)).collect();
                prop_assert_eq!(&crowds, &admission.crowds);
                for here in admission.places.values() {
                    let order = here.greeting.iter().map(|(id, until)| (*until, *id)).collect();
                    prop_assert_eq!(&here.order, &order);
                }
                prop_assert!(admission.places.values().all(|here| here.open <= 8 && here.open > 0));
            }
        }
    }
}
