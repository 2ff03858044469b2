//! Devices that have missed 1,000 entries come back: from connect to CaughtUp.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::{JoinSet, LocalSet};

use super::Bench;
use crate::{
    figures::Outcome,
    link::Link,
    load::{self, Round, adopt_all, content},
    relay,
    server::Target,
};

/// As many as an inbox keeps.
const MISSED: u64 = 1000;

struct Device {
    token: String,
    epoch: u64,
}

fn name(user: usize) -> String {
    format!("{}{user}", relay::MISSED)
}

/// Comes back with an empty copy and follows until it is live.
async fn come_back(target: &Target, device: &Device) {
    let mut link = Link::open(target, &device.token, "d", Some(0), device.epoch).await;
    link.caught_up().await;
    assert_eq!(link.last_seq, MISSED, "every entry has come");
}

/// So many users with a full inbox each.
async fn missed(target: &Rc<Target>, count: usize) -> Vec<Device> {
    let senders = adopt_all(target, (0..count).map(|user| format!("s{user}"))).await;
    let epoch = senders.first().map_or(0, |link| link.epoch);
    let to = |user| Round::peer(&name(user), &content(user as u64));
    load::fill(senders, 32, MISSED, to).await;
    devices(target, count, epoch)
}

fn devices(target: &Target, count: usize, epoch: u64) -> Vec<Device> {
    let token = |user| target.token(&name(user));
    (0..count).map(|user| Device { token: token(user), epoch }).collect()
}

/// One after the other: the median of a device's time, in milliseconds.
async fn each(target: &Target, device: &Device, times: usize) -> f64 {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        come_back(target, device).await;
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took[times / 2]
}

pub async fn one(bench: &Bench) -> Outcome {
    const TIMES: usize = 200;
    let mut outcome = Outcome::default();
    let relay = bench.relay();
    let floor = each(&relay.target, &devices(&relay.target, 1, 0)[0], TIMES).await;
    let server = bench.server();
    LocalSet::new()
        .run_until(async {
            let devices = missed(&server.target, 1).await;
            let window = bench.watch(&server);
            let took = each(&server.target, &devices[0], TIMES).await;
            let spent = window.close();
            outcome.add("p50", took, "ms");
            outcome.add("relay p50", floor, "ms");
            outcome.add("p50 / relay", took / floor, "x");
            spent.per((TIMES as u64 * MISSED) as f64, "entry", &mut outcome);
        })
        .await;
    outcome
}

/// All of them at once, again and again for this long: entries per second, and how many.
async fn together(target: &Rc<Target>, devices: Vec<Device>, length: Duration) -> (f64, f64) {
    let devices = Rc::new(devices);
    let start = Instant::now();
    let mut entries = 0;
    while start.elapsed() < length {
        let mut tasks = JoinSet::new();
        for index in 0..devices.len() {
            let (target, devices) = (Rc::clone(target), Rc::clone(&devices));
            tasks.spawn_local(async move { come_back(&target, &devices[index]).await });
        }
        tasks.join_all().await;
        entries += devices.len() as u64 * MISSED;
    }
    (entries as f64 / start.elapsed().as_secs_f64(), entries as f64)
}

pub async fn many(bench: &Bench) -> Outcome {
    const DEVICES: usize = 200;
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            bench.step("the relay");
            let relay = bench.relay();
            let known = devices(&relay.target, DEVICES, 0);
            let (floor, _) = together(&relay.target, known, bench.length / 2).await;
            drop(relay);
            let server = bench.server();
            bench.step("200 inboxes of 1,000");
            let known = missed(&server.target, DEVICES).await;
            bench.step("200 devices come back");
            let window = bench.watch(&server);
            let (rate, entries) = together(&server.target, known, bench.length).await;
            let spent = window.close();
            outcome.add("entries/s", rate, "");
            outcome.add("relay entries/s", floor, "");
            outcome.add("of the relay", rate / floor * 100.0, "%");
            spent.per(entries, "entry", &mut outcome);
        })
        .await;
    outcome
}
