//! TLS: the same protocol behind a handshake, on an address of its own. What is true of plain
//! connections is true here by `ROAMD_TEST_TLS=1`, which puts TLS in front of every test.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Output,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use roamd::{
    client::{Client as Library, ClientConfig, ClientError, Event, Recipient, Tls},
    limits::HELLO_TIMEOUT,
    refusal::ErrorCode,
    wire::proto::{Direction, GoAwayReason, Ping, client_frame::Body},
};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::{
    expect,
    support::{Client, DEADLINE, Daemon, peer, tls},
};

/// A session over TLS that has just caught up.
fn login(daemon: &Daemon, user: &str, device: &str) -> Client {
    let mut client = daemon.connect_tls();
    client.greet(daemon.greeting(user, device));
    let too_long = client.too_long();
    client.adopt(&too_long);
    client.caught_up();
    client
}

/// Takes everything up to this entry, with an ack from time to time.
fn take(client: &mut Client, upto: u64) {
    while client.seq < upto {
        client.synced((client.seq + 10).min(upto));
        client.ack(client.seq);
    }
}

fn plain(daemon: &Daemon) -> Client {
    Client::new(TcpStream::connect(daemon.address()).unwrap())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn both_addresses_lead_to_the_same() {
    let mut daemon = Daemon::with_tls(&[]);
    let mut alice = plain(&daemon);
    alice.greet(daemon.greeting("alice", "laptop"));
    let mut bob = login(&daemon, "bob", "phone");
    // Larger than a record of TLS, and many of them on their way.
    let text = "x".repeat(60_000);
    for number in 1..=40 {
        alice.send(peer("bob"), number, &text);
    }
    take(&mut bob, 40);
    let id = bob.recents()[0].conversation_id.clone();
    let page = bob.history(&id, Direction::Newest, 0, 5);
    assert!(page.messages.iter().all(|message| message.content == text.as_bytes()));
    bob.send(peer("alice"), 1, "over TLS");
    daemon.terminate();
    bob.end().gone(GoAwayReason::Draining);
    alice.end().gone(GoAwayReason::Draining);
    assert!(daemon.ended().success());
    daemon.relaunch();
    assert_eq!(login(&daemon, "bob", "phone").welcome.head_seq, 41);
}

#[test]
fn tls_can_be_the_only_way_in() {
    let mut daemon = Daemon::with_tls(&[]);
    let address = daemon.address();
    daemon.terminate();
    assert!(daemon.ended().success());
    daemon.only_tls();
    daemon.relaunch();
    assert_eq!(daemon.address(), daemon.tls_address());
    assert!(TcpStream::connect(address).is_err(), "the plain address is still there");
    login(&daemon, "bob", "phone").bye();
}

#[test]
fn versions_and_tickets() {
    let mut daemon = Daemon::with_tls(&[]);
    for (version, named) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = tls::trusting_by(&daemon.authority(), &[version]);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let relay = tls::relay(daemon.tls_address(), &config);
            let shaken = relay.shaken().unwrap();
            assert_eq!(shaken.version, named);
            kinds.push(shaken.kind);
            let mut client = Client::new(relay.near);
            client.greet(daemon.greeting("alice", "phone"));
            client.bye();
        }
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed], "{named:?}");
        // A ticket of an earlier life is worth nothing, and does no harm.
        daemon.restart();
        let relay = tls::relay(daemon.tls_address(), &config);
        assert_ne!(relay.shaken().unwrap().kind, resumed);
    }
}

#[test]
fn the_library_comes_back_by_itself() {
    let mut daemon = Daemon::with_tls(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tls = Tls::authorities_in(&daemon.authority()).unwrap();
    let config = |daemon: &Daemon, user: &str, tls: &Tls| ClientConfig {
        tls: Some(tls.clone()),
        ..ClientConfig::new(daemon.tls_address().to_string(), daemon.token(user), "phone")
    };
    let mut bob = runtime.block_on(Library::connect(config(&daemon, "bob", &tls))).unwrap();
    let mut texts = Vec::new();
    for round in 0..3 {
        let text = round.to_string();
        // By name as well as by address.
        let named = tls.clone().server_name("localhost").unwrap();
        let alice = runtime.block_on(Library::connect(config(&daemon, "alice", &named))).unwrap();
        let sent = alice.send(Recipient::user("bob"), "text/plain", text.clone());
        runtime.block_on(async { tokio::time::timeout(DEADLINE, sent).await }).unwrap().unwrap();
        runtime.block_on(alice.close()).unwrap();
        while texts.len() <= round {
            let next = async { tokio::time::timeout(DEADLINE, bob.next_event()).await };
            match runtime.block_on(next).expect("an event").unwrap() {
                Event::Entry { entry, .. } => {
                    if let Some(roamd::wire::proto::entry::Kind::Message(message)) = entry.kind {
                        texts.push(String::from_utf8(message.content.to_vec()).unwrap());
                    }
                }
                Event::Snapshot(_) if round == 0 => {}
                _ => {}
            }
        }
        daemon.crash();
    }
    assert_eq!(texts, ["0", "1", "2"]);

    // Nobody is trusted who is not to be.
    let other = Daemon::with_tls(&[]);
    for wrong in [
        Tls::authorities_in(&other.authority()).unwrap(),
        Tls::public().unwrap(),
        tls.server_name("elsewhere.test").unwrap(),
    ] {
        let error = runtime.block_on(Library::connect(config(&daemon, "bob", &wrong))).unwrap_err();
        let ClientError::Connect { source, .. } = &error else { panic!("{error}") };
        assert!(source.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()), "{error}");
    }
}

/// Neither side waits for the other, whatever the mistake.
#[test]
fn the_wrong_mode_ends_at_once() {
    let daemon = Daemon::with_tls(&[]);
    let mut talks_plain = TcpStream::connect(daemon.tls_address()).unwrap();
    talks_plain.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut client = Client::new(talks_plain.try_clone().unwrap());
    client.post(Body::Hello(daemon.greeting("alice", "phone")));
    let mut answer = Vec::new();
    talks_plain.read_to_end(&mut answer).unwrap();
    // An alert of TLS, and the end.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    let talks_tls = tls::relay(daemon.address(), &tls::trusting(&daemon.authority()));
    talks_tls.shaken().unwrap_err();
    login(&daemon, "alice", "phone").bye();
}

/// The one test here that takes its time: the limit is the one of Hello, and nothing extends it.
#[test]
fn a_handshake_is_part_of_the_greeting() {
    let daemon = Daemon::with_tls(&[]);
    let start = Instant::now();
    let connect = || {
        let socket = TcpStream::connect(daemon.tls_address()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let (silent, dripping) = (connect(), connect());
    let mut drips = dripping.try_clone().unwrap();
    // A handshake record of 200 bytes that comes byte by byte.
    drips.write_all(&[22, 3, 1, 0, 200, 1, 0, 0, 196]).unwrap();
    let drip = thread::spawn(move || {
        while drips.write_all(&[3]).is_ok() && start.elapsed() < 2 * HELLO_TIMEOUT {
            thread::park_timeout(Duration::from_millis(500));
        }
    });
    // Who has shaken hands hears why.
    let mut shaken = daemon.connect_tls();
    shaken.end().fatally(ErrorCode::HelloTimeout);
    for mut socket in [silent, dripping] {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        let took = start.elapsed();
        assert!(took >= HELLO_TIMEOUT && took < HELLO_TIMEOUT + Duration::from_secs(8), "{took:?}");
        let _ = socket.shutdown(Shutdown::Both);
    }
    drip.join().unwrap();
    login(&daemon, "alice", "phone").bye();
}

#[test]
fn handshakes_take_places_of_the_greeting() {
    let daemon = Daemon::with_tls(&[("limits.greeting_connections", "2")]);
    let sockets: Vec<_> =
        (0..8).map(|_| TcpStream::connect(daemon.tls_address()).unwrap()).collect();
    // Somebody who speaks gets in all the same ...
    login(&daemon, "alice", "phone").bye();
    // ... because silence gives way: all but two are closed, long before their time is over.
    let start = Instant::now();
    let mut open = sockets.len();
    for mut socket in sockets {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        match socket.read(&mut [0; 64]) {
            Ok(0) => open -= 1,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => open -= 1,
            _ => break,
        }
        if open <= 2 {
            break;
        }
    }
    assert!(open <= 2 && start.elapsed() < HELLO_TIMEOUT, "{open} are left");
}

/// A reader that takes nothing keeps what is for it on the disk; when it reads, everything is there.
#[test]
fn a_slow_reader_misses_nothing() {
    let daemon = Daemon::with_tls(&[]);
    let mut bob = login(&daemon, "bob", "phone");
    let mut alice = login(&daemon, "alice", "laptop");
    let text = "y".repeat(30_000);
    for number in 1..=300 {
        alice.send(peer("bob"), number, &text);
    }
    // 9 MB went by while bob took nothing: more than he is sent without an ack.
    take(&mut bob, 300);
    let pong = expect!(Pong, bob.call(Body::Ping(Ping { client_time_ms: 5 })));
    assert_eq!(pong.client_time_ms, 5);
    bob.bye();
}

/// Bytes that are no TLS, in the middle of it: an alert, the end, and nobody else notices.
#[test]
fn a_damaged_record_ends_its_connection_only() {
    let daemon = Daemon::with_tls(&[]);
    let mut alice = login(&daemon, "alice", "phone");
    let config = tls::trusting(&daemon.authority());
    let name = rustls::pki_types::ServerName::IpAddress(daemon.tls_address().ip().into());
    let mut tls = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
    let mut socket = TcpStream::connect(daemon.tls_address()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).unwrap();
    }
    socket.write_all(&[23, 3, 3, 0, 32]).unwrap();
    socket.write_all(&[7; 32]).unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(!daemon.log().contains("panicked"));
    alice.send(peer("bob"), 1, "still here");
}

#[test]
fn certificates_that_cannot_be_used_are_named_at_the_start() {
    let daemon = Daemon::with_tls(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8], mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let own = |name: &str| fs::read(daemon.data().join("tls").join(name)).unwrap();
    let other = Daemon::with_tls(&[]);
    let foreign = fs::read(other.data().join("tls/key.pem")).unwrap();
    let chain = file("cert.pem", &own("cert.pem"), 0o644);
    let key = file("key.pem", &own("key.pem"), 0o600);
    let no_pem = &[b'x'; 64];
    for (chain, key, reason) in [
        (chain.clone(), file("foreign.pem", &foreign, 0o600), "cannot be used with its key"),
        (chain.clone(), file("open.pem", &own("key.pem"), 0o644), "is open to others"),
        (chain.clone(), file("noise.pem", no_pem, 0o600), "no private key in PEM form"),
        (file("text.pem", no_pem, 0o644), key.clone(), "no certificate in PEM form"),
        ("/nowhere/cert.pem".into(), key.clone(), "cannot read /nowhere/cert.pem"),
    ] {
        let refused = daemon.run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--tls-listen",
            "127.0.0.1:0",
            "--tls-cert",
            &chain,
            "--tls-key",
            &key,
        ]);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(said(&refused).contains(reason), "{reason}: {}", said(&refused));
        assert!(said(&refused).contains("roamd cert dev"), "{}", said(&refused));
    }
    let again = daemon.run(&["cert", "dev"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(said(&again).contains("--replace"), "{}", said(&again));
    let mode = fs::metadata(daemon.data().join("tls/key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
