//! The scenarios: what issue trackers and users ask for, each with its figure.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use roamd::wire::proto::server_frame::Body;
use tokio::task::{JoinSet, LocalSet};

use crate::{Server, wire::Link};

type Run<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
type Scenario = fn(&Server, Duration, Duration) -> Run<'_>;

const CONTENT_BYTES: usize = 200;

/// Every scenario by name.
pub const ALL: &[(&str, Scenario)] = &[
    ("one-pair-one-in-flight", |s, l, f| Box::pin(pairs(s, l, f, 1, 1))),
    ("100-pairs-1-in-flight", |s, l, f| Box::pin(pairs(s, l, f, 100, 1))),
    ("100-pairs-32-in-flight", |s, l, f| Box::pin(pairs(s, l, f, 100, 32))),
    ("store-for-200-offline", |s, l, f| Box::pin(offline(s, l, f))),
    ("catch-up-1000", |s, _, f| Box::pin(catch_up(s, f))),
    ("idle-5000", |s, _, _| Box::pin(idle(s, 5000, false))),
    ("idle-tls-5000", |s, _, _| Box::pin(idle(s, 5000, true))),
];

#[derive(Default)]
struct Tally {
    acked: Cell<u64>,
    delivered: Cell<u64>,
    stop: Cell<bool>,
}

/// `count` senders with `window` in flight, each to its own online peer.
async fn pairs(server: &Server, length: Duration, floor: Duration, count: usize, window: usize) {
    let tally = Rc::new(Tally::default());
    let latency = Rc::new(std::cell::RefCell::new(Histogram::<u64>::new(3).expect("a histogram")));
    let cpu = Cell::new(0.0);
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut tasks = JoinSet::new();
            for pair in 0..count {
                let receiver = Link::adopt(server, &format!("r{pair}"), "d").await;
                tasks.spawn_local(receive(receiver, Rc::clone(&tally)));
                let sender = Link::adopt(server, &format!("s{pair}"), "d").await;
                tasks.spawn_local(send(
                    sender,
                    format!("r{pair}"),
                    window,
                    Rc::clone(&tally),
                    Rc::clone(&latency),
                ));
            }
            // Let it run in, then measure.
            tokio::time::sleep(length / 4).await;
            latency.borrow_mut().reset();
            let (acked, delivered) = (tally.acked.get(), tally.delivered.get());
            let start = Instant::now();
            cpu.set(server.cpu());
            tokio::time::sleep(length).await;
            let spent = start.elapsed().as_secs_f64();
            let rate = (tally.acked.get() - acked) as f64 / spent;
            let deliveries = (tally.delivered.get() - delivered) as f64 / spent;
            let cpu = server.cpu() - cpu.get();
            tally.stop.set(true);
            tasks.abort_all();
            let latency = latency.borrow();
            let micros = |q| latency.value_at_quantile(q) as f64 / 1e3;
            println!(
                "  {rate:>9.0} msg/s durable  {deliveries:>9.0} deliveries/s  send-to-ack p50 {:.0} us = {:.2} x fdatasync, p99 {:.0} us  daemon cpu {:.1} us/msg",
                micros(0.5),
                micros(0.5) / (floor.as_secs_f64() * 1e6),
                micros(0.99),
                cpu * 1e6 / (rate * spent),
            );
        })
        .await;
}

async fn send(
    mut link: Link,
    peer: String,
    window: usize,
    tally: Rc<Tally>,
    latency: Rc<std::cell::RefCell<Histogram<u64>>>,
) {
    let content = Bytes::from(vec![b'x'; CONTENT_BYTES]);
    let mut sent_at = std::collections::VecDeque::new();
    let mut id = 0;
    while !tally.stop.get() {
        while sent_at.len() < window {
            id += 1;
            link.send(&peer, id, &content);
            sent_at.push_back(Instant::now());
        }
        link.ack(64);
        link.flush().await;
        link.fill().await;
        while let Some(frame) = link.ready() {
            match frame.body {
                Some(Body::SendAck(_)) => {
                    let start = sent_at.pop_front().expect("an ack belongs to a send");
                    let _ = latency.borrow_mut().record(start.elapsed().as_nanos() as u64);
                    tally.acked.set(tally.acked.get() + 1);
                }
                Some(Body::Error(error)) => panic!("{error:?}"),
                _ => {}
            }
        }
    }
}

async fn receive(mut link: Link, tally: Rc<Tally>) {
    while !tally.stop.get() {
        link.fill().await;
        while let Some(frame) = link.ready() {
            if let Some(Body::SyncBatch(batch)) = frame.body {
                tally.delivered.set(tally.delivered.get() + batch.entries.len() as u64);
            }
        }
        link.ack(64);
        link.flush().await;
    }
}

/// Ten senders, 64 in flight each, to 200 users who are not there.
async fn offline(server: &Server, length: Duration, floor: Duration) {
    let tally = Rc::new(Tally::default());
    let latency = Rc::new(std::cell::RefCell::new(Histogram::<u64>::new(3).expect("a histogram")));
    LocalSet::new()
        .run_until(async {
            let mut tasks = JoinSet::new();
            for sender in 0..200 {
                let link = Link::adopt(server, &format!("s{sender}"), "d").await;
                let peer = format!("off{sender}");
                tasks.spawn_local(send(link, peer, 32, Rc::clone(&tally), Rc::clone(&latency)));
            }
            tokio::time::sleep(length / 4).await;
            let (acked, cpu, start) = (tally.acked.get(), server.cpu(), Instant::now());
            tokio::time::sleep(length).await;
            let spent = start.elapsed().as_secs_f64();
            let done = (tally.acked.get() - acked) as f64;
            tally.stop.set(true);
            tasks.abort_all();
            println!(
                "  {:>9.0} msg/s durable  daemon cpu {:.1} us/msg  (fdatasync {:.0} us)",
                done / spent,
                (server.cpu() - cpu) * 1e6 / done,
                floor.as_secs_f64() * 1e6
            );
        })
        .await;
}

/// A device that has missed 1,000 entries: from Hello to CaughtUp.
async fn catch_up(server: &Server, floor: Duration) {
    const ENTRIES: u64 = 1000;
    let content = Bytes::from(vec![b'x'; CONTENT_BYTES]);
    let reader = Link::adopt(server, "reader", "d").await;
    let (epoch, from) = (reader.epoch, reader.last_seq);
    drop(reader);
    let mut writer = Link::adopt(server, "writer", "d").await;
    for id in 1..=ENTRIES {
        writer.send("reader", id, &content);
        if id % 100 == 0 {
            writer.flush().await;
            while writer.last_seq < id {
                writer.next().await;
            }
            writer.ack(1);
        }
    }
    let token = server.token("reader");
    let mut times = Histogram::<u64>::new(3).expect("a histogram");
    for _ in 0..200 {
        let start = Instant::now();
        let mut link = Link::open(server, &token, "d", Some(from), epoch).await;
        loop {
            match link.next().await.body {
                Some(Body::CaughtUp(_)) => break,
                Some(Body::SyncBatch(_)) => {
                    link.ack(64);
                    link.flush().await;
                }
                other => panic!("{other:?}"),
            }
        }
        let _ = times.record(start.elapsed().as_nanos() as u64);
        assert_eq!(link.last_seq, from + ENTRIES);
    }
    let millis = |q| times.value_at_quantile(q) as f64 / 1e6;
    println!(
        "  connect, token, compare and 1,000 entries: p50 {:.2} ms, p99 {:.2} ms ({:.0} x fdatasync)",
        millis(0.5),
        millis(0.99),
        millis(0.5) / (floor.as_secs_f64() * 1e3)
    );
}

/// Sessions that do nothing: memory of each, and how fast they come.
async fn idle(server: &Server, count: usize, tls: bool) {
    let cpu = server.cpu();
    let before = server.resident();
    let start = Instant::now();
    let mut links = Vec::with_capacity(count);
    for index in 0..count {
        let user = format!("idle{index}");
        links.push(match tls {
            false => Link::adopt(server, &user, "d").await,
            true => Link::adopt_tls(server, &user, "d").await,
        });
    }
    let spent = start.elapsed();
    let cpu = (server.cpu() - cpu) * 1e6 / count as f64;
    for link in &mut links {
        while !matches!(link.next().await.body, Some(Body::CaughtUp(_))) {}
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (server.resident() - before) / count as u64;
    println!(
        "  {count} sessions: {:.1} KiB resident each; {:.0} connects/s with token, compare and adoption, one after the other; {cpu:.0} us of the daemon's processor time each",
        each as f64 / 1024.0,
        count as f64 / spent.as_secs_f64()
    );
}
