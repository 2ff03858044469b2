//! Messages from one to one: to who is there, to who is not, to very many.

use std::{rc::Rc, time::Duration};

use tokio::task::{JoinSet, LocalSet};

use super::Bench;
use crate::{
    figures::Outcome,
    load::{self, Round, Tally, adopt_all, content, measure},
    redis::Redis,
    server::{Server, Target},
};

/// What a load on this target came to.
struct Came {
    acked: f64,
    delivered: f64,
    seconds: f64,
    tally: Rc<Tally>,
}

impl Came {
    fn rate(&self) -> f64 {
        self.acked / self.seconds
    }
}

/// `count` senders with `window` in flight, each to its own peer, who is online or not. With a server,
/// what it has used per message goes to the outcome.
async fn load(
    bench: &Bench,
    target: &Rc<Target>,
    server: Option<(&Server, &mut Outcome)>,
    (count, window, online): Shape,
    length: Duration,
) -> Came {
    let tally = Tally::new();
    let mut tasks = JoinSet::new();
    if online {
        for link in adopt_all(target, (0..count).map(|pair| format!("r{pair}"))).await {
            tasks.spawn_local(load::receive(link, Rc::clone(&tally)));
        }
    }
    let senders = adopt_all(target, (0..count).map(|pair| format!("s{pair}"))).await;
    for (pair, link) in senders.into_iter().enumerate() {
        let to = Round::peer(&format!("r{pair}"), &content(pair as u64));
        let tally = Rc::clone(&tally);
        tasks.spawn_local(async move { drop(load::send(link, to, window, None, tally).await) });
    }
    tokio::time::sleep(length / 4).await;
    let window = server.as_ref().map(|(server, _)| bench.watch(server));
    let seconds = measure(length, &tally).await;
    let (acked, delivered) = (tally.acked.get() as f64, tally.delivered.get() as f64);
    if let (Some(window), Some((_, outcome))) = (window, server) {
        window.close().per(acked, "message", outcome);
    }
    tasks.abort_all();
    Came { acked, delivered, seconds, tally }
}

/// The shape of a load.
type Shape = (usize, usize, bool);

/// The same on Redis, if it is installed.
async fn redis(bench: &Bench, (count, window, online): Shape, length: Duration) -> Option<Came> {
    let redis = Redis::start(&bench.dir)?;
    bench.step("Redis");
    let run = async {
        let tally = Tally::new();
        let mut tasks = JoinSet::new();
        for pair in (0..count).filter(|_| online) {
            tasks.spawn_local(redis.receive(pair, Rc::clone(&tally)).await);
        }
        for pair in 0..count {
            tasks.spawn_local(redis.send(pair, window, Rc::clone(&tally)).await);
        }
        tokio::time::sleep(length / 4).await;
        let seconds = measure(length, &tally).await;
        let (acked, delivered) = (tally.acked.get() as f64, tally.delivered.get() as f64);
        tasks.abort_all();
        Came { acked, delivered, seconds, tally }
    };
    Some(LocalSet::new().run_until(run).await)
}

/// What Redis does, and the daemon beside it.
fn beside_redis(came: &Came, redis: Option<&Came>, outcome: &mut Outcome) {
    let Some(redis) = redis else { return };
    outcome.add("Redis, fsync always: messages/s", redis.rate(), "");
    outcome.add("Redis, fsync always: p50", redis.tally.micros(0.5), "us");
    outcome.add("rate / Redis", came.rate() / redis.rate(), "x");
}

async fn beside_relay(bench: &Bench, shape: Shape) -> (Outcome, Came, Came) {
    let mut outcome = Outcome::default();
    bench.step("the relay");
    let relay = bench.relay();
    let floor =
        LocalSet::new().run_until(load(bench, &relay.target, None, shape, bench.length / 2)).await;
    drop(relay);
    bench.step("the daemon");
    let server = bench.server();
    let came = LocalSet::new()
        .run_until(load(bench, &server.target, Some((&server, &mut outcome)), shape, bench.length))
        .await;
    (outcome, came, floor)
}

pub async fn pairs(bench: &Bench, count: usize, window: usize) -> Outcome {
    let shape = (count, window, true);
    let (used, came, floor) = beside_relay(bench, shape).await;
    let redis = redis(bench, shape, bench.length).await;
    let mut outcome = Outcome::default();
    outcome.add("messages/s", came.rate(), "");
    outcome.add("deliveries/s, own copy included", came.delivered / came.seconds, "");
    outcome.add("relay messages/s", floor.rate(), "");
    outcome.add("of the relay", came.rate() / floor.rate() * 100.0, "%");
    beside_redis(&came, redis.as_ref(), &mut outcome);
    outcome.add("send to ack p50", came.tally.micros(0.5), "us");
    outcome.add("send to ack p99", came.tally.micros(0.99), "us");
    outcome.add("fdatasync p50", bench.sync_micros(), "us");
    outcome.add("p50 / fdatasync", came.tally.micros(0.5) / bench.sync_micros(), "x");
    refused(&came.tally, &mut outcome);
    outcome.append(used);
    outcome
}

pub async fn offline(bench: &Bench) -> Outcome {
    let shape = (200, 32, false);
    let (used, came, floor) = beside_relay(bench, shape).await;
    let redis = redis(bench, shape, bench.length).await;
    let mut outcome = Outcome::default();
    outcome.add("messages/s", came.rate(), "");
    outcome.add("relay messages/s", floor.rate(), "");
    outcome.add("of the relay", came.rate() / floor.rate() * 100.0, "%");
    beside_redis(&came, redis.as_ref(), &mut outcome);
    outcome.add("fdatasync p50", bench.sync_micros(), "us");
    refused(&came.tally, &mut outcome);
    outcome.append(used);
    outcome
}

fn refused(tally: &Tally, outcome: &mut Outcome) {
    if tally.refused.get() > 0 {
        outcome.add("refused: OVERLOADED", tally.refused.get() as f64, "");
    }
}

/// Users of the scenario, and senders that share them.
const USERS: usize = 100_000;
const SENDERS: usize = 200;

pub async fn spread(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    let server = bench.server();
    let each = USERS / SENDERS;
    let round = |sender: usize| {
        let names = (sender * each..(sender + 1) * each).map(|user| format!("cold{user}"));
        Round::peers(names, &content(sender as u64))
    };
    LocalSet::new()
        .run_until(async {
            let senders = adopt_all(&server.target, (0..SENDERS).map(|n| format!("s{n}"))).await;
            bench.step("the first message to each of 100,000");
            let start = std::time::Instant::now();
            let senders = load::fill(senders, 32, each as u64, round).await;
            outcome.add("first messages/s", USERS as f64 / start.elapsed().as_secs_f64(), "");
            // Issue 5 asks for a minute.
            let length = if bench.full { Duration::from_secs(60) } else { bench.length * 2 };
            bench.step(&format!("one after the other for {} s", length.as_secs()));
            let tally = Tally::new();
            let mut tasks = JoinSet::new();
            for (sender, link) in senders.into_iter().enumerate() {
                let (to, tally) = (round(sender), Rc::clone(&tally));
                tasks.spawn_local(async move { drop(load::send(link, to, 32, None, tally).await) });
            }
            let window = bench.watch(&server);
            let seconds = measure(length, &tally).await;
            let acked = tally.acked.get() as f64;
            let spent = window.close();
            outcome.add("messages/s", acked / seconds, "");
            outcome.add("send to ack p99", tally.micros(0.99), "us");
            refused(&tally, &mut outcome);
            spent.per(acked, "message", &mut outcome);
            tasks.abort_all();
        })
        .await;
    outcome
}
