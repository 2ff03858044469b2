//! Hours of everything: sessions that come, talk, stall, vanish and come again. What the daemon holds
//! goes back to where it was, every time.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roamd::wire::proto::{Position, send::To, server_frame::Body as Said};
use tokio::{io::AsyncWriteExt, task::JoinSet};

use crate::{
    alone, count, full,
    link::Link,
    run,
    server::{Mint, Server, until},
};

/// What a daemon holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident: u64,
}

impl Held {
    /// By a daemon that nobody is connected to.
    fn of(server: &Server, descriptors: usize) -> Self {
        until("every connection to be gone", || {
            (server.descriptors() <= descriptors).then_some(())
        });
        // What waits for a timer is written, and what was moved is given back.
        let mut before = server.cpu();
        until("the daemon to rest", || {
            thread::park_timeout(Duration::from_millis(300));
            let now = server.cpu();
            let spent = now.saturating_sub(std::mem::replace(&mut before, now));
            (spent <= Duration::from_millis(10)).then_some(())
        });
        Self {
            descriptors: server.descriptors(),
            threads: server.threads(),
            resident: server.resident(),
        }
    }
}

/// One device for a while: it comes, catches up, writes to others, and goes as devices do.
async fn visit(server: std::net::SocketAddr, token: String, number: u64, round: u64) {
    let from = Ipv4Addr::LOCALHOST.into();
    let mut link = Link::connect_from(from, server).await.expect("a connection");
    if number.is_multiple_of(10) {
        // Says nothing, or the beginning of something.
        if number.is_multiple_of(20) {
            let _ = link.stream.write_all(&[100, 0x7a]).await;
        }
        return;
    }
    link.greet(&token, "phone", None).await.expect("a session");
    link.adopt_head().await;
    link.caught_up().await.expect("a session");
    let content = Bytes::from(vec![b'x'; 100 + (number % 50) as usize * 100]);
    let sends = 1 + number % 7;
    for id in 1..=sends {
        let to = To::Peer(format!("user{}", (number * 7 + id) % 400));
        link.send(to, round * 10 + id, &content);
    }
    link.flush().await.expect("a connection");
    if number.is_multiple_of(3) {
        // Goes without waiting for what it has asked for.
        return;
    }
    let mut acked = 0;
    while acked < sends {
        match link.next().await.expect("a frame").body {
            Some(Said::SendAck(_)) => acked += 1,
            Some(Said::Error(error)) => panic!("{error:?}"),
            _ => {}
        }
        link.ack(1);
        link.flush().await.expect("a connection");
    }
    // Comes back from further behind, reads nothing of it, and goes.
    if number.is_multiple_of(4) {
        let at = Position { seq: link.seq.saturating_sub(20), ..link.position() };
        let mut again = Link::connect_from(from, server).await.expect("a connection");
        let _ = again.greet(&token, "phone", Some(at)).await;
    }
}

#[test]
fn what_is_held_goes_back() {
    let _alone = alone();
    let seconds = std::env::var("SCALE_SOAK_SECONDS").ok().and_then(|it| it.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(count(120, 6) as u64));
    let server = Server::start(&[
        // Small enough that all of it is used soon, and growth beyond it shows.
        ("store.memory_bytes", "4MiB"),
        ("store.cache_bytes", "16MiB"),
        ("store.segment_bytes", "1MiB"),
        ("store.checkpoint_interval", "200ms"),
        ("limits.inbox_entries", "200"),
        ("limits.write_stall", "2s"),
    ]);
    let mint = Mint::open(&server.data());
    let devices = count(400, 100) as u64;
    let free = server.descriptors() + 5;
    let start = Instant::now();
    let (mut round, mut visits) = (0, 0);
    let mut held: Vec<Held> = Vec::new();
    let mut cycle = || {
        run(async {
            let mut tasks = JoinSet::new();
            for number in 0..devices {
                let token = mint.token(&format!("user{number}"));
                tasks.spawn_local(visit(server.address, token, number, round));
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
                visits += 1;
            }
        });
        round += 1;
    };
    while start.elapsed() < length || held.len() < 3 {
        let until = start.elapsed() + length / 10;
        cycle();
        while start.elapsed() < until {
            cycle();
        }
        held.push(Held::of(&server, free));
    }
    let (first, last) = (held[held.len() / 3], held[held.len() - 1]);
    println!(
        "{visits} visits in {} rounds, {:.0} s: after a third {first:?}, at the end {last:?}",
        round,
        start.elapsed().as_secs_f64(),
    );
    assert!(last.descriptors <= free && last.threads <= first.threads + 2, "{held:?}");
    // The allocator keeps some, the store's caches fill up to their bounds.
    let allowed = if full() { 32 << 20 } else { 64 << 20 };
    assert!(last.resident <= first.resident + allowed, "{held:?}");
    let log = server.log();
    let bad = log.lines().find(|line| line.contains("ERROR") || line.contains("panicked"));
    assert_eq!(bad, None);
}
