//! What drives a target: devices that send with so many in flight, and devices that receive.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use prost::Message as _;
use roamd::wire::proto::{ErrorCode, ServerFrame, send::To, server_frame::Body};
use tokio::task::JoinSet;

use crate::{
    link::{Link, Template},
    scan::Said,
    server::Target,
};

/// Bytes of content of every message.
pub const CONTENT_BYTES: usize = 200;

/// How long a sender waits after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Contents that a sender of [`Round::varied`] has.
const VARIED: u64 = 64;

/// Content that does not compress, the same in every run.
pub fn content(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..CONTENT_BYTES).map(|_| byte()).collect()
}

/// What all devices of a load have done.
pub struct Tally {
    pub acked: Cell<u64>,
    pub delivered: Cell<u64>,
    /// Sends that were refused because the daemon had too much to do.
    pub refused: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
}

impl Tally {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            acked: Cell::new(0),
            delivered: Cell::new(0),
            refused: Cell::new(0),
            latency: RefCell::new(Histogram::new(3).expect("a histogram")),
        })
    }

    /// What was sent then is acked now.
    pub fn ack(&self, sent: Instant) {
        let _ = self.latency.borrow_mut().record(sent.elapsed().as_nanos() as u64);
        bump(&self.acked, 1);
    }

    /// Send-to-ack in microseconds, of what was sent since [`Tally::reset`].
    pub fn micros(&self, quantile: f64) -> f64 {
        self.latency.borrow().value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn reset(&self) {
        self.latency.borrow_mut().reset();
        self.acked.set(0);
        self.delivered.set(0);
        self.refused.set(0);
    }
}

fn bump(cell: &Cell<u64>, by: u64) {
    cell.set(cell.get() + by);
}

/// To whom a device sends next.
pub struct Round {
    to: Vec<Template>,
    next: usize,
}

impl Round {
    pub fn one(to: To, content: &Bytes) -> Self {
        Self { to: vec![Template::new(to, content)], next: 0 }
    }

    pub fn peer(name: &str, content: &Bytes) -> Self {
        Self::one(To::Peer(name.to_owned()), content)
    }

    pub fn peers(names: impl Iterator<Item = String>, content: &Bytes) -> Self {
        Self { to: names.map(|name| Template::new(To::Peer(name), content)).collect(), next: 0 }
    }

    /// To one, with content that does not come again soon.
    pub fn varied(name: &str, seed: u64) -> Self {
        let template =
            |one| Template::new(To::Peer(name.to_owned()), &content(seed * VARIED + one + 1));
        Self { to: (0..VARIED).map(template).collect(), next: 0 }
    }

    fn next(&mut self) -> &Template {
        let next = self.next;
        self.next = (next + 1) % self.to.len();
        &self.to[next]
    }
}

/// Sends with `window` in flight until `most` are acked, if given, and takes what comes as well. What
/// is refused because the daemon has too much to do is made good by another message.
pub async fn send(
    mut link: Link,
    mut to: Round,
    window: usize,
    most: Option<u64>,
    tally: Rc<Tally>,
) -> Link {
    let mut sent_at = VecDeque::new();
    let (mut sent, mut wanted) = (0, most.unwrap_or(u64::MAX));
    // A device that comes again goes on above what it has used.
    let first = link.first_message_id;
    while sent < wanted || !sent_at.is_empty() {
        while sent_at.len() < window && sent < wanted {
            sent += 1;
            link.send(to.next(), first + sent);
            sent_at.push_back(Instant::now());
        }
        link.ack(64);
        link.flush().await;
        link.fill().await;
        let mut refused = 0;
        while let Some(said) = link.ready() {
            match said {
                Said::SendAck => {
                    tally.ack(sent_at.pop_front().expect("an ack belongs to a send"));
                }
                Said::Batch { first, last } => bump(&tally.delivered, last + 1 - first),
                Said::Push => bump(&tally.delivered, 1),
                Said::Other(frame) => {
                    let frame = ServerFrame::decode(frame).expect("a server frame");
                    if let Some(Body::Error(error)) = frame.body {
                        assert_eq!(error.code(), ErrorCode::Overloaded, "{error:?}");
                        sent_at.pop_front();
                        refused += 1;
                    }
                }
                _ => {}
            }
        }
        if refused > 0 {
            bump(&tally.refused, refused);
            wanted = wanted.saturating_add(refused);
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }
    link.first_message_id = first + sent;
    link
}

/// Takes what comes, for ever.
pub async fn receive(mut link: Link, tally: Rc<Tally>) {
    loop {
        link.fill().await;
        while let Some(said) = link.ready() {
            match said {
                Said::Batch { first, last } => bump(&tally.delivered, last + 1 - first),
                Said::Push => bump(&tally.delivered, 1),
                _ => {}
            }
        }
        link.ack(64);
        link.flush().await;
    }
}

/// Devices with these names, opened many at a time, in their order.
pub async fn adopt_all(target: &Rc<Target>, names: impl Iterator<Item = String>) -> Vec<Link> {
    let names: Vec<String> = names.collect();
    let mut links = Vec::with_capacity(names.len());
    for some in names.chunks(64) {
        let mut opening = JoinSet::new();
        for (index, name) in some.iter().cloned().enumerate() {
            let target = Rc::clone(target);
            opening.spawn_local(async move {
                let mut link = Link::adopt(&target, &name, "d").await;
                link.caught_up().await;
                (index, link)
            });
        }
        let mut opened = opening.join_all().await;
        opened.sort_by_key(|(index, _)| *index);
        links.extend(opened.into_iter().map(|(_, link)| link));
    }
    links
}

/// Lets a load run in, then counts for this long: seconds that it took.
pub async fn measure(length: Duration, tally: &Tally) -> f64 {
    tally.reset();
    let start = Instant::now();
    tokio::time::sleep(length).await;
    start.elapsed().as_secs_f64()
}

/// Sends one message to each of these many times, from a device each, and waits for every ack.
pub async fn fill(
    senders: Vec<Link>,
    window: usize,
    each: u64,
    to: impl Fn(usize) -> Round,
) -> Vec<Link> {
    let tally = Tally::new();
    let mut tasks = JoinSet::new();
    for (index, link) in senders.into_iter().enumerate() {
        let sending = send(link, to(index), window, Some(each), Rc::clone(&tally));
        tasks.spawn_local(async move { (index, sending.await) });
    }
    let mut links = tasks.join_all().await;
    links.sort_by_key(|(index, _)| *index);
    links.into_iter().map(|(_, link)| link).collect()
}
