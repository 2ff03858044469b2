//! Readers that never read: the daemon keeps nothing for them, and nobody else notices.
//!
//! Two daemons with the same traffic, one of them with the readers. What is measured is measured on both
//! in turns.

use std::{
    cell::RefCell,
    net::Ipv4Addr,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roamd::wire::proto::{send::To, server_frame::Body as Said};
use tokio::task::JoinSet;

use crate::{
    alone, count, full,
    link::Link,
    quantile, run,
    server::{Mint, Server, until},
};

/// Members of each group of readers.
const GROUP: usize = 100;
/// Content of what the readers do not read. So many of it are more than a session may be sent un-acked.
const CONTENT_BYTES: usize = 30_000;
const MESSAGES: u64 = 50;

const SETTINGS: &[(&str, &str)] = &[
    // What is measured is the readers, not memory that the store may use.
    ("store.memory_bytes", "4MiB"),
    ("store.cache_bytes", "16MiB"),
    // They stay for the whole run.
    ("limits.write_stall", "1h"),
    ("limits.heartbeat_interval", "1h"),
];

async fn create(link: &mut Link, group: usize) -> To {
    let id = format!("group{group}");
    link.create(&id, (0..GROUP).map(|member| format!("reader{group}x{member}"))).await;
    To::ConversationId(id)
}

/// Sends and waits for each ack; how long each took.
async fn send(
    link: &mut Link,
    to: &To,
    ids: std::ops::Range<u64>,
    content: &Bytes,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for id in ids {
        let start = Instant::now();
        link.send(to.clone(), id, content);
        link.ack(16);
        link.flush().await.unwrap();
        loop {
            match link.next().await.unwrap().body {
                Some(Said::SendAck(_)) => break,
                Some(Said::Error(error)) => panic!("{error:?}"),
                _ => {}
            }
        }
        times.push(start.elapsed());
    }
    times
}

/// Until the daemon has nothing to do any more.
fn settled(server: &Server) {
    let mut before = server.cpu();
    until("the daemon to rest", || {
        thread::park_timeout(Duration::from_millis(300));
        let now = server.cpu();
        let spent = now.saturating_sub(std::mem::replace(&mut before, now));
        (spent <= Duration::from_millis(10)).then_some(())
    });
}

/// People who talk to each other, on one daemon.
struct Talk {
    links: Vec<Rc<RefCell<Link>>>,
    next: u64,
}

impl Talk {
    async fn start(server: &Server, mint: &Mint, pairs: usize) -> Self {
        let mut links = Vec::new();
        for pair in 0..pairs {
            let token = mint.token(&format!("talker{pair}"));
            links.push(Rc::new(RefCell::new(Link::adopt(server.address, &token, "phone").await)));
        }
        Self { links, next: 1 }
    }

    /// All at once, `each` messages one after the other.
    #[allow(clippy::await_holding_refcell_ref, reason = "each link has one task")]
    async fn go_on(&mut self, each: u64, times: &mut Vec<Duration>) {
        let content = Bytes::from_static(&[b'x'; 200]);
        let ids = self.next..self.next + each;
        self.next += each;
        let mut tasks = JoinSet::new();
        for (pair, link) in self.links.iter().enumerate() {
            let (link, ids, content) = (Rc::clone(link), ids.clone(), content.clone());
            let to = To::Peer(format!("listener{pair}"));
            tasks
                .spawn_local(async move { send(&mut link.borrow_mut(), &to, ids, &content).await });
        }
        while let Some(done) = tasks.join_next().await {
            times.extend(done.unwrap());
        }
    }
}

#[test]
fn readers_that_never_read_cost_nobody_anything() {
    let _alone = alone();
    let groups = count(10, 1);
    let servers = [Server::start(SETTINGS), Server::start(SETTINGS)];
    let mints = servers.each_ref().map(|server| Mint::open(&server.data()));
    run(async {
        let content = Bytes::from(vec![b'x'; CONTENT_BYTES]);
        let mut readers = Vec::new();
        let mut grown = Vec::new();
        for (with_readers, (server, mint)) in servers.iter().zip(&mints).enumerate() {
            let mut senders = Vec::new();
            for group in 0..groups {
                let token = mint.token(&format!("sender{group}"));
                let mut sender = Link::adopt(server.address, &token, "phone").await;
                let to = create(&mut sender, group).await;
                for member in 0..if with_readers == 1 { GROUP } else { 0 } {
                    let from = Ipv4Addr::LOCALHOST.into();
                    let mut link = Link::connect_from(from, server.address).await.unwrap();
                    let token = mint.token(&format!("reader{group}x{member}"));
                    link.greet(&token, "phone", None).await.unwrap();
                    link.adopt_head().await;
                    link.caught_up().await.unwrap();
                    readers.push(link);
                }
                senders.push((sender, to));
            }
            settled(server);
            let before = server.resident();
            for (sender, to) in &mut senders {
                send(sender, to, 2..2 + MESSAGES, &content).await;
            }
            settled(server);
            grown.push(server.resident().saturating_sub(before));
        }
        let stalled = readers.len() as u64;
        let growth = grown[1].saturating_sub(grown[0]);
        println!(
            "{stalled} readers that never read, {} MB for them: the daemon grew by {} KiB more than \
             without them ({} KiB)",
            stalled * MESSAGES * CONTENT_BYTES as u64 / 1_000_000,
            growth / 1024,
            grown[0] / 1024,
        );
        // 64 MiB for a thousand.
        assert!(growth <= (64 << 20) / 1000 * stalled.max(250), "{growth} bytes for {stalled}");

        let mut talks = Vec::new();
        for (server, mint) in servers.iter().zip(&mints) {
            talks.push(Talk::start(server, mint, 20).await);
        }
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..count(60, 4) {
            // Whoever is first has no advantage.
            for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                talks[at].go_on(40, &mut times[at]).await;
            }
        }
        let [alone, beside] = times.each_mut().map(|times| quantile(times, 0.99));
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        println!("send to ack p99 {beside:?} beside them, {alone:?} without: {ratio:.2} x");
        if full() {
            assert!(ratio <= 1.1, "{ratio:.2}");
        }
        // Nobody was let go for it, and each gets all that is owed when it reads again.
        for mut link in readers.drain(..).step_by(50) {
            let owed = link.seq + MESSAGES;
            while link.seq < owed {
                link.next().await.expect("the session goes on");
                link.ack(1);
                link.flush().await.unwrap();
            }
        }
    });
}
