//! Sessions: how fast they come, and what they cost when they do nothing.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::LocalSet;

use super::Bench;
use crate::{figures::Outcome, link::Link, load::adopt_all, server::Target, visit};

/// Connections that are being opened at the same time.
const TOGETHER: usize = 64;
/// Devices that come back in turn.
const DEVICES: usize = 2048;
/// The daemon is looked at so long after something has happened: its rows are in the trees then.
const SETTLED: Duration = Duration::from_secs(6);
/// Sessions that are there before: what the first one and the first row cost is not a session's.
const EARLIER: usize = 200;

/// Devices come back in turn for this long: connects per second, and how many.
async fn come_back(target: &Rc<Target>, length: Duration) -> (f64, f64) {
    let names = || (0..DEVICES).map(|user| format!("u{user}"));
    let mut hellos = Vec::with_capacity(DEVICES);
    for (link, name) in adopt_all(target, names()).await.iter().zip(names()) {
        hellos.push(visit::hello(&target.token(&name), link.last_seq, link.epoch));
    }
    let (count, seconds) = visit::come_back(target.address, &hellos, TOGETHER, length);
    (count as f64 / seconds, count as f64)
}

pub async fn connects(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            bench.step("the relay");
            let relay = bench.relay();
            let (floor, _) = come_back(&relay.target, bench.length / 2).await;
            drop(relay);
            bench.step("the daemon");
            let server = bench.server();
            let window = bench.watch(&server);
            let (rate, count) = come_back(&server.target, bench.length).await;
            let spent = window.close();
            outcome.add("connects/s", rate, "");
            outcome.add("relay connects/s", floor, "");
            outcome.add("of the relay", rate / floor * 100.0, "%");
            // The first visit of each is in it, which is less than a tenth on most machines.
            spent.per(count + DEVICES as f64, "connect", &mut outcome);
        })
        .await;
    outcome
}

pub async fn idle(bench: &Bench, count: usize, tls: bool) -> Outcome {
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            let server = bench.server();
            let earlier = (0..EARLIER).map(|user| format!("earlier{user}"));
            let earlier = adopt_all(&server.target, earlier).await;
            tokio::time::sleep(SETTLED).await;
            let before = server.resident();
            bench.step(&format!("{count} sessions"));
            let start = Instant::now();
            let names = (0..count).map(|user| format!("idle{user}"));
            let links = match tls {
                false => adopt_all(&server.target, names).await,
                true => {
                    let mut links = Vec::with_capacity(count);
                    for name in names {
                        let mut link = Link::adopt_tls(&server.target, &name, "d").await;
                        link.caught_up().await;
                        links.push(link);
                    }
                    links
                }
            };
            let spent = start.elapsed().as_secs_f64();
            tokio::time::sleep(SETTLED).await;
            let each = (server.resident() - before) as f64 / count as f64 / 1024.0;
            outcome.add("resident / session", each, "KiB");
            outcome.add("resident before them", before as f64 / 1024.0 / 1024.0, "MiB");
            outcome.add("new devices/s", count as f64 / spent, "");
            let window = bench.watch(&server);
            tokio::time::sleep(bench.length).await;
            let second = window.close();
            let idle = second.micros() / second.seconds / count as f64;
            outcome.add("processor time / idle session and second", idle, "us");
            drop((links, earlier));
        })
        .await;
    outcome
}
