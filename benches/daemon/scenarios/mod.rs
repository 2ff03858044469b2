//! The scenarios: what issue trackers and users ask for, each with its figures.

mod catch_up;
mod connect;
mod group;
mod growth;
mod page;
mod pairs;
mod rest;

use std::{path::PathBuf, pin::Pin, time::Duration};

use crate::{counts::Window, figures::Outcome, relay::Relay, server::Server};

/// What a scenario is given: the same for all rounds.
pub struct Bench {
    /// A new directory for each round.
    pub dir: PathBuf,
    pub length: Duration,
    /// The sizes of docs/performance.md, which take longer.
    pub full: bool,
    /// Another size of `at-rest`.
    pub messages: Option<u64>,
    /// Count system calls.
    pub calls: bool,
    /// fdatasync of this round.
    pub floor: Duration,
}

impl Bench {
    pub fn server(&self) -> Server {
        Server::start(&self.dir.join("data"))
    }

    pub fn relay(&self) -> Relay {
        Relay::start()
    }

    pub fn watch<'a>(&self, server: &'a Server) -> Window<'a> {
        Window::open(server, self.calls)
    }

    /// Says what is being done.
    pub fn step(&self, what: &str) {
        eprintln!("    {what} ...");
    }

    pub fn sync_micros(&self) -> f64 {
        self.floor.as_secs_f64() * 1e6
    }
}

pub type Run<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// A load with a name.
pub struct Scenario {
    pub name: &'static str,
    /// What is measured, and what is certain when it counts.
    pub says: &'static str,
    pub run: fn(&Bench) -> Run<'_>,
}

/// Every scenario.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "one-pair",
        says: "one sender, one in flight, its peer online; an ack is durable: one fdatasync lies before it",
        run: |bench| Box::pin(pairs::pairs(bench, 1, 1)),
    },
    Scenario {
        name: "100-pairs-x1",
        says: "100 senders, one in flight each, to peers that are online; acks are durable",
        run: |bench| Box::pin(pairs::pairs(bench, 100, 1)),
    },
    Scenario {
        name: "100-pairs-x32",
        says: "100 senders, 32 in flight each, to peers that are online; acks are durable",
        run: |bench| Box::pin(pairs::pairs(bench, 100, 32)),
    },
    Scenario {
        name: "store-offline",
        says: "200 senders, 32 in flight each, to 200 users who are not there; acks are durable",
        run: |bench| Box::pin(pairs::offline(bench)),
    },
    Scenario {
        name: "spread-cold",
        says: "the same to 100,000 users in turn, each with a conversation of its own; acks are durable",
        run: |bench| Box::pin(pairs::spread(bench)),
    },
    Scenario {
        name: "catch-up-one",
        says: "a device that missed 1,000 entries: connect, token, compare, every entry once and in order, CaughtUp",
        run: |bench| Box::pin(catch_up::one(bench)),
    },
    Scenario {
        name: "catch-up-200",
        says: "200 devices at once, each as above",
        run: |bench| Box::pin(catch_up::many(bench)),
    },
    Scenario {
        name: "history-page",
        says: "pages of 50 in one conversation of 100,000 messages (1,000,000 with --full): newest, anywhere, oldest",
        run: |bench| Box::pin(page::page(bench)),
    },
    Scenario {
        name: "group-200",
        says: "200 members online, 10 of them write; acks are durable, each member's entries come once and in order",
        run: |bench| Box::pin(group::small(bench)),
    },
    Scenario {
        name: "group-10000",
        says: "10,000 members, 1,000 online, 10 write; acks are durable; then what a message costs with 1,000 and 10,000 members",
        run: |bench| Box::pin(group::large(bench)),
    },
    Scenario {
        name: "connects",
        says: "known devices come back, 64 at a time: token checked, positions compared, live (CaughtUp)",
        run: |bench| Box::pin(connect::connects(bench)),
    },
    Scenario {
        name: "idle",
        says: "10,000 live sessions that do nothing, beside 200",
        run: |bench| Box::pin(connect::idle(bench, 10_000, false)),
    },
    Scenario {
        name: "idle-tls",
        says: "5,000 live sessions through TLS that do nothing",
        run: |bench| Box::pin(connect::idle(bench, 5000, true)),
    },
    Scenario {
        name: "at-rest",
        says: "1,000,000 messages (5,000,000 with --full) after an orderly stop: bytes on disk, time to open them again, memory",
        run: |bench| Box::pin(rest::rest(bench)),
    },
    Scenario {
        name: "growth",
        says: "processor time of one operation when users, conversations or a history double",
        run: |bench| Box::pin(growth::growth(bench)),
    },
];
