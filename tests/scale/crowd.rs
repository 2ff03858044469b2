//! Connections that say nothing, or say Hello one byte at a time for ever, and come again at once when
//! they are closed: whoever speaks gets in as if they were not there.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};

use crate::{
    DEADLINE, alone, count, full,
    link::{Failed, Link, hint},
    quantile, run,
    server::{Mint, Server, until},
};

/// What the crowd has done.
#[derive(Default)]
struct Crowd {
    stop: AtomicBool,
    /// Connections that are open now.
    open: AtomicUsize,
    /// Connections that were closed by the server.
    closed: AtomicUsize,
}

/// One member of the crowd.
async fn loiter(crowd: Arc<Crowd>, from: IpAddr, to: SocketAddr, drips: bool) {
    while !crowd.stop.load(Ordering::Relaxed) {
        let Ok(mut link) = Link::connect_from(from, to).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        crowd.open.fetch_add(1, Ordering::Relaxed);
        if drips {
            // A Hello of a hundred bytes, if it ever came to its end.
            let _ = link.stream.write_all(&[100]).await;
            while timeout(Duration::from_millis(200), link.fill()).await.is_err() {
                if link.stream.write_all(&[0x7a]).await.is_err() {
                    break;
                }
            }
        }
        link.end().await;
        crowd.open.fetch_sub(1, Ordering::Relaxed);
        crowd.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Opens sessions one after the other; how long each took from the first attempt to Welcome.
async fn honest(server: &Server, mint: &Mint, sessions: usize) -> (Vec<Duration>, usize) {
    let refused = Rc::new(Cell::new(0));
    let mut times = Vec::new();
    for number in 0..sessions {
        let token = mint.token(&format!("honest{number}"));
        let start = Instant::now();
        let link = loop {
            assert!(start.elapsed() < DEADLINE, "no place for an honest session");
            match Link::open(server.address, &token, "phone", None).await {
                Ok(link) => break link,
                Err(Failed::Refused(error)) => {
                    refused.set(refused.get() + 1);
                    sleep(hint(&error).expect("a refusal says when to come back")).await;
                }
                Err(other) => panic!("{other:?}"),
            }
        };
        times.push(start.elapsed());
        drop(link);
        sleep(Duration::from_millis(10)).await;
    }
    (times, refused.get())
}

/// A crowd of `size` from `addresses` different addresses.
fn stand_against(size: usize, addresses: usize, settings: &[(&str, &str)]) {
    let server = Server::start(settings);
    let mint = Mint::open(&server.data());
    let before = server.resident();
    let (mut calm, _) = run(honest(&server, &mint, count(50, 10)));
    let crowd = Arc::new(Crowd::default());
    let (shared, to) = (Arc::clone(&crowd), server.address);
    let flood = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let mut members = JoinSet::new();
            for number in 0..size {
                let at = u8::try_from(2 + number % addresses).expect("few addresses");
                let from = Ipv4Addr::new(127, 0, 0, at).into();
                members.spawn_local(loiter(Arc::clone(&shared), from, to, number % 2 == 0));
            }
            while !shared.stop.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(50)).await;
            }
            members.abort_all();
        });
    });
    until("the crowd to be there", || {
        let there = crowd.open.load(Ordering::Relaxed) + crowd.closed.load(Ordering::Relaxed);
        (there >= size).then_some(())
    });
    let (mut times, refused) = run(honest(&server, &mint, count(500, 15)));
    let grown = server.resident().saturating_sub(before);
    let (open, closed) = (crowd.open.load(Ordering::Relaxed), crowd.closed.load(Ordering::Relaxed));
    crowd.stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let p99 = quantile(&mut times, 0.99);
    println!(
        "{size} silent or dripping from {addresses} addresses ({open} open at the end, {closed} closed \
         meanwhile): an honest session p50 {:?}, p99 {p99:?} (without them p99 {:?}), {refused} \
         refused at first; the daemon grew by {} KiB",
        quantile(&mut times, 0.5),
        quantile(&mut calm, 0.99),
        grown / 1024,
    );
    assert!(closed > 0, "nobody had to give way: the crowd was too small");
    if full() {
        assert!(p99 <= Duration::from_secs(1), "p99 {p99:?}");
        assert!(grown <= 64 << 20, "the daemon grew by {grown} bytes");
    }
    // When they are gone everything is as before.
    let idle = server.descriptors();
    until("the crowd's places to be free", || {
        (server.descriptors() <= idle.min(100)).then_some(())
    });
}

#[test]
fn silence_keeps_nobody_out() {
    let _alone = alone();
    let settings = [("limits.greeting_connections", "100")];
    stand_against(count(10_000, 300), 1, if full() { &[] } else { &settings });
}

/// The crowd is of a few addresses; whoever comes from another is never displaced by it.
#[test]
fn a_crowd_displaces_its_own() {
    let _alone = alone();
    let settings = [("limits.greeting_connections", "100")];
    stand_against(count(10_000, 300), 100, if full() { &[] } else { &settings });
}
