//! Everybody comes back at once: sessions in two client processes lose the daemon by kill -9, and are
//! all synced soon after it listens again.

use std::{
    cell::Cell,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use roamd::wire::proto::{Position, send::To, server_frame::Body as Said};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use crate::{
    DEADLINE, alone, count, full,
    link::{Failed, Link, hint},
    run,
    server::{Mint, Server},
};

/// What a client process is told: where the daemon is, where its keys are, which sessions are its own.
const ROLE: &str = "SCALE_CLIENTS";

/// Sessions that open at the same time at the beginning. In the storm there is no such bound.
const OPENING: usize = 100;

fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64
}

/// What the sessions of a process have come to.
#[derive(Default)]
struct Tally {
    /// Sessions that are synced.
    synced: Cell<usize>,
    /// When the last of them was.
    last: Cell<u64>,
    /// Refused on the way, and how many of those without being told when to come back.
    refused: Cell<usize>,
    unhinted: Cell<usize>,
    changed: Notify,
}

/// One session: opens, and opens again whenever it is lost.
async fn session(
    to: SocketAddr,
    user: String,
    token: String,
    opening: Rc<Semaphore>,
    tally: Rc<Tally>,
    tls: Option<TlsConnector>,
) {
    // Everyone has a rhythm of its own.
    let mut random = user.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut pause = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_millis(100 + random % 400)
    };
    let mut at: Option<Position> = None;
    loop {
        let permit = match at {
            None => Some(opening.acquire().await.expect("open")),
            Some(_) => None,
        };
        let opened = async {
            let mut link = match &tls {
                None => Link::connect(to).await?,
                Some(tls) => Link::connect_tls(to, tls).await?,
            };
            link.greet(&token, "phone", at).await.map(|()| link)
        };
        let mut link = match opened.await {
            Ok(link) => link,
            Err(failed) => {
                let wait = match failed {
                    Failed::Lost => pause(),
                    Failed::Refused(error) => {
                        tally.refused.set(tally.refused.get() + 1);
                        let hinted = hint(&error);
                        tally.unhinted.set(tally.unhinted.get() + usize::from(hinted.is_none()));
                        hinted.unwrap_or_else(&mut pause)
                    }
                    Failed::GoAway(bye) => Duration::from_millis(bye.retry_after_ms.into()),
                };
                sleep(wait).await;
                continue;
            }
        };
        if at.is_none() {
            link.adopt_head().await;
        }
        if link.caught_up().await.is_err() {
            continue;
        }
        drop(permit);
        tally.synced.set(tally.synced.get() + 1);
        tally.last.set(tally.last.get().max(micros()));
        tally.changed.notify_one();
        // Nothing is acked: what has come since is not lost with the connection.
        at = Some(link.position());
        link.end().await;
        tally.synced.set(tally.synced.get() - 1);
        sleep(pause()).await;
    }
}

/// One device's: its tickets are worth nothing to another.
fn connector(authority: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(1);
    TlsConnector::from(Arc::new(config))
}

/// In a client process: does as it is told line by line, and tells in lines.
fn clients(role: &str) {
    let _ = rlimit::increase_nofile_limit(60_000);
    let mut words = role.split(' ');
    let mut word = || words.next().expect("a role has four words or five");
    let to: SocketAddr = word().parse().unwrap();
    let mint = Mint::open(Path::new(word()));
    let (first, count): (usize, usize) = (word().parse().unwrap(), word().parse().unwrap());
    let authority = words.next().map(|path| std::fs::read(path).expect("a certificate"));
    let tally = Rc::new(Tally::default());
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    let say = |what: &str| {
        println!("{ROLE} {what}");
        let _ = std::io::stdout().flush();
    };
    run(async {
        let opening = Rc::new(Semaphore::new(OPENING));
        let mut sessions = JoinSet::new();
        for number in first..first + count {
            let user = format!("user{number}");
            let token = mint.token(&user);
            let (opening, tally) = (Rc::clone(&opening), Rc::clone(&tally));
            let tls = authority.as_deref().map(connector);
            sessions.spawn_local(session(to, user, token, opening, tally, tls));
        }
        loop {
            while tally.synced.get() < count {
                tally.changed.notified().await;
            }
            let Tally { last, refused, unhinted, .. } = &*tally;
            say(&format!("synced {} {} {}", last.get(), refused.get(), unhinted.get()));
            // The next storm begins when it is told, after the daemon is gone.
            match heard.recv().await.as_deref() {
                Some("again") => {
                    tally.last.set(0);
                    while tally.synced.get() == count {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
                _ => return,
            }
        }
    });
}

/// Does nothing in a test run: [`Clients`] starts it in a process of its own.
#[test]
fn client_process() {
    if let Ok(role) = std::env::var(ROLE) {
        clients(&role);
    }
}

/// What a client process says when all its sessions are synced.
struct Synced {
    last: u64,
    refused: usize,
    unhinted: usize,
}

struct Clients {
    child: Child,
    told: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Clients {
    fn start(server: &Server, first: usize, count: usize) -> Self {
        let mut role = format!("{} {} {first} {count}", server.address, server.data().display());
        if let Some(authority) = server.authority() {
            role = format!("{role} {}", authority.display());
        }
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["storm::client_process", "--exact", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a client process");
        let told = child.stdin.take().expect("stdin");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let (line, said) = mpsc::channel();
        thread::spawn(move || {
            for found in lines.map_while(Result::ok) {
                if let Some((_, what)) = found.split_once(&format!("{ROLE} ")) {
                    let _ = line.send(what.to_owned());
                }
            }
        });
        Self { child, told, said }
    }

    fn synced(&self) -> Synced {
        let said = self.said.recv_timeout(DEADLINE * 2).expect("the sessions are synced in time");
        let numbers: Vec<u64> =
            said.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect();
        let [last, refused, unhinted] = numbers[..] else { panic!("{said}") };
        Synced { last, refused: refused as usize, unhinted: unhinted as usize }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something for some of them to catch up with.
fn write_to_some(server: &Server, mint: &Mint, sessions: usize, id: u64) {
    run(async {
        let token = mint.token("writer");
        let mut link = match server.authority() {
            None => Link::connect(server.address).await.unwrap(),
            Some(authority) => {
                let tls = connector(&std::fs::read(authority).unwrap());
                Link::connect_tls(server.address, &tls).await.unwrap()
            }
        };
        link.greet(&token, "phone", None).await.expect("a session");
        link.adopt_head().await;
        let content = Bytes::from_static(b"while you were away");
        let mut due = 0;
        for user in (0..sessions).step_by(10) {
            link.send(To::Peer(format!("user{user}")), id + user as u64, &content);
            due += 1;
        }
        link.flush().await.unwrap();
        while due > 0 {
            match link.next().await.unwrap().body {
                Some(Said::SendAck(_)) => due -= 1,
                Some(Said::Error(error)) => panic!("{error:?}"),
                _ => {}
            }
            link.ack(64);
            link.flush().await.unwrap();
        }
    });
}

#[test]
fn everybody_comes_back_at_once() {
    let _alone = alone();
    come_back(Server::start(&[]), count(10_000, 400), Duration::from_secs(3));
}

/// The daemon that comes back knows no tickets: every handshake is a whole one.
#[test]
fn everybody_comes_back_at_once_through_tls() {
    let _alone = alone();
    come_back(Server::start_tls(&[]), count(10_000, 100), Duration::from_secs(8));
}

fn come_back(mut server: Server, sessions: usize, promised: Duration) {
    let mint = Mint::open(&server.data());
    let start = Instant::now();
    let mut processes = [0, sessions / 2].map(|first| Clients::start(&server, first, sessions / 2));
    for clients in &processes {
        let _ = clients.synced();
    }
    println!(
        "{sessions} sessions in two processes, opened in {:.1} s; the daemon has {} MiB",
        start.elapsed().as_secs_f64(),
        server.resident() >> 20,
    );
    let mut best = Duration::MAX;
    for round in 0..count(3, 1) {
        write_to_some(&server, &mint, sessions, (1 + round * sessions) as u64);
        server.kill();
        for clients in &mut processes {
            clients.told.write_all(b"again\n").unwrap();
        }
        server.relaunch();
        let (listens, cpu) = (micros(), server.cpu());
        let synced = processes.each_ref().map(Clients::synced);
        let last = synced.iter().map(|synced| synced.last).max().unwrap();
        let took = Duration::from_micros(last.saturating_sub(listens));
        let refused: usize = synced.iter().map(|synced| synced.refused).sum();
        let unhinted: usize = synced.iter().map(|synced| synced.unhinted).sum();
        println!(
            "all {sessions} synced {took:?} after it listened; {refused} refused on the way; {} us of \
             the daemon's processors for each",
            (server.cpu() - cpu).as_micros() / sessions as u128,
        );
        assert_eq!(unhinted, 0, "refused without being told when to come back");
        best = best.min(took);
    }
    if full() {
        assert!(best <= promised, "{best:?}");
    }
}
