//! Who gets in: Hello, tokens, versions.

use std::{
    io::Write,
    thread,
    time::{Duration, Instant, SystemTime},
};

use roamd::{
    auth::Scope,
    limits::{CLIENT_FRAME_BYTES_MAX, HELLO_TIMEOUT},
    refusal::ErrorCode,
    wire::proto::{
        self, Ack, Feature, Hello, Ping, Retry, Verdict, client_frame::Body, server_frame,
    },
};

use crate::{
    expect,
    support::{DEADLINE, Daemon, daemon::until, peer, text},
};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn welcome_says_who_and_what() {
    let daemon = Daemon::with(&[
        ("limits.inbox_entries", "77"),
        ("limits.heartbeat_interval", "45s"),
        ("limits.content_bytes", "2KiB"),
    ]);
    let client = daemon.open(Hello {
        limits: Some(proto::ClientLimits {
            max_unacked_entries: 5,
            max_batch_bytes: 10_000,
            ..Default::default()
        }),
        ..daemon.greeting("alice", "phone")
    });
    let welcome = &client.welcome;
    assert_eq!((welcome.protocol, welcome.user_id.as_str()), (1, "alice"));
    assert_eq!((welcome.head_seq, welcome.first_seq, welcome.device_cursor), (0, 1, 0));
    assert_eq!((welcome.unread_total, welcome.last_client_message_id), (0, 0));
    assert_eq!(welcome.verdict(), Verdict::TooLong);
    assert_eq!(welcome.heartbeat_interval_ms, 45_000);
    assert_eq!(welcome.server, concat!("roamd/", env!("CARGO_PKG_VERSION")));
    assert!(welcome.epoch != 0 && welcome.session_id != 0);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!(clock.abs_diff(u128::from(welcome.server_time_ms)) < DEADLINE.as_millis());
    let limits = welcome.limits.unwrap();
    assert_eq!(limits.max_frame_bytes as usize, CLIENT_FRAME_BYTES_MAX);
    assert_eq!((limits.max_content_bytes, limits.inbox_entries), (2048, 77));
    assert_eq!((limits.max_unacked_entries, limits.max_batch_bytes), (5, 10_000));
    assert_eq!(limits.max_unacked_bytes, 1 << 20);
}

#[test]
fn every_session_has_an_id_of_its_own_and_the_epoch_stays() {
    let mut daemon = Daemon::start();
    let first = daemon.login("alice", "phone").welcome;
    let second = daemon.login("alice", "phone").welcome;
    daemon.restart();
    let third = daemon.login("alice", "phone").welcome;
    assert_eq!((first.epoch, first.epoch), (second.epoch, third.epoch));
    assert!(first.session_id != second.session_id && second.session_id != third.session_id);
}

#[track_caller]
fn turned_away(daemon: &Daemon, hello: Hello, code: ErrorCode) -> proto::Error {
    let mut client = daemon.connect();
    let error = expect!(Error, client.call(Body::Hello(hello)));
    client.end().fatally(code);
    assert_eq!(error.code, code.number());
    error
}

#[test]
fn only_good_tokens_open_the_door() {
    let daemon = Daemon::start();
    let with = |token: String| Hello { token, ..daemon.greeting("alice", "phone") };
    let now = SystemTime::now();
    let good = daemon.token("alice");

    for bad in ["".to_owned(), "token".into(), good[..good.len() - 1].into(), format!("{good}A")] {
        let error = turned_away(&daemon, with(bad), ErrorCode::Unauthenticated);
        assert_eq!(error.retry(), Retry::Reauth);
        assert_eq!(error.detail, "the token is not valid");
    }
    let mut parts: Vec<&str> = good.split('.').collect();
    parts[1] = "eyJzdWIiOiJib2IiLCJzY29wZSI6ImNsaWVudCIsImV4cCI6OTk5OTk5OTk5OX0";
    turned_away(&daemon, with(parts.join(".")), ErrorCode::Unauthenticated);
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    turned_away(&daemon, with(unsigned), ErrorCode::Unauthenticated);
    let other = Daemon::start();
    turned_away(&daemon, with(other.token("alice")), ErrorCode::Unauthenticated);

    let expired = daemon.mint("alice", None, &[Scope::Client], HOUR, now - 2 * HOUR);
    let error = turned_away(&daemon, with(expired), ErrorCode::TokenExpired);
    assert_eq!(error.retry(), Retry::Reauth);
    let admin = daemon.mint("alice", None, &[Scope::Admin, Scope::Push], HOUR, now);
    turned_away(&daemon, with(admin), ErrorCode::ForbiddenScope);

    let other_device = daemon.mint("alice", Some("tablet"), &[Scope::Client], HOUR, now);
    turned_away(&daemon, with(other_device), ErrorCode::Unauthenticated);
    let this_device = daemon.mint("alice", Some("phone"), &[Scope::Client], HOUR, now);
    assert_eq!(daemon.open(with(this_device)).welcome.user_id, "alice");

    let log = daemon.log();
    assert!(!log.contains(&good[..20]), "a token in the log");
}

#[test]
fn a_token_from_the_command_line_is_good() {
    let daemon = Daemon::start();
    let minted = daemon.run(&["token", "mint", "--user", "carol"]);
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
    let hello = Hello { token, ..daemon.greeting("alice", "phone") };
    assert_eq!(daemon.open(hello).welcome.user_id, "carol");
}

#[test]
fn a_session_ends_with_its_token() {
    let daemon = Daemon::start();
    let issued = SystemTime::now();
    let ttl = Duration::from_secs(3);
    let token = daemon.mint("alice", None, &[Scope::Client], ttl, issued);
    let mut client = daemon.open(Hello { token, ..daemon.greeting("alice", "phone") });
    client.end().gone(proto::GoAwayReason::TokenExpired);
    assert!(issued.elapsed().unwrap() >= ttl, "too early");
}

#[test]
fn a_skew_of_versions_names_the_older_side() {
    let daemon = Daemon::start();
    let speaks = |protocol_min, protocol_max| Hello {
        protocol_min,
        protocol_max,
        ..daemon.greeting("alice", "phone")
    };
    let error = turned_away(&daemon, speaks(2, 7), ErrorCode::ServerTooOld);
    assert!(error.detail.contains("the server is older"), "{}", error.detail);
    assert_eq!(error.retry(), Retry::Never);
    // Nobody can be too old for version 1, so the other side's name cannot be heard over a socket
    // yet; a range that reaches down to 1 is served at 1.
    assert_eq!(daemon.open(speaks(1, 9)).welcome.protocol, 1);
}

#[test]
fn features_nobody_knows_are_passed_over() {
    let daemon = Daemon::start();
    let features = vec![Feature::LargeGroups as i32, Feature::Push as i32, 4711];
    let client = daemon.open(Hello { features, ..daemon.greeting("alice", "phone") });
    assert_eq!(client.welcome.features, [Feature::LargeGroups as i32, Feature::Push as i32]);
}

#[test]
fn the_first_frame_is_hello_and_the_only_one() {
    let daemon = Daemon::start();
    let first = |body| {
        let mut client = daemon.connect();
        client.post(body);
        let end = client.end();
        end.fatally(ErrorCode::HelloExpected);
    };
    first(Body::Ping(Ping { client_time_ms: 1 }));
    first(Body::Ack(Ack { seq: 1 }));
    first(text(peer("bob"), 1, "hi"));
    first(Body::Bye(proto::Bye {}));

    let mut client = daemon.login("alice", "phone");
    client.post(Body::Hello(daemon.greeting("alice", "phone")));
    client.end().fatally(ErrorCode::WrongState);
}

#[test]
fn requests_may_follow_hello_without_waiting() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let hello = client.post(Body::Hello(daemon.greeting("alice", "phone")));
    let large = text(peer("bob"), 1, &"x".repeat(60_000));
    let (send, ping) = (client.post(large), client.post(Body::Ping(Ping { client_time_ms: 9 })));
    expect!(Welcome, client.reply(hello));
    expect!(SendAck, client.reply(send));
    let server_frame::Body::Pong(pong) = client.reply(ping) else { panic!("no pong") };
    assert_eq!(pong.client_time_ms, 9);
}

/// The one test that takes its time: the limit is not configurable, and nothing must extend it.
#[test]
fn a_hello_that_does_not_come_is_not_waited_for() {
    let daemon = Daemon::start();
    let start = Instant::now();
    let mut silent = daemon.connect();
    let mut dripping = daemon.connect();
    let mut drips = dripping.writer();
    // A frame of 100 bytes that comes byte by byte.
    drips.write_all(&[100]).unwrap();
    let drip = thread::spawn(move || {
        while drips.write_all(&[0x7a]).is_ok() && start.elapsed() < 2 * HELLO_TIMEOUT {
            thread::park_timeout(Duration::from_millis(500));
        }
    });
    silent.end().fatally(ErrorCode::HelloTimeout);
    dripping.end().fatally(ErrorCode::HelloTimeout);
    let took = start.elapsed();
    assert!(took >= HELLO_TIMEOUT && took < HELLO_TIMEOUT + Duration::from_secs(8), "{took:?}");
    drop(dripping);
    drip.join().unwrap();
    daemon.login("alice", "phone");
}

#[test]
fn a_user_has_so_many_devices() {
    let daemon = Daemon::with(&[("limits.devices_per_user", "2")]);
    daemon.login("alice", "one");
    daemon.login("alice", "two");
    let error = turned_away(&daemon, daemon.greeting("alice", "three"), ErrorCode::TooManyDevices);
    assert_eq!(error.retry(), Retry::Never);
    daemon.login("alice", "one");
    daemon.login("bob", "three");
}

#[test]
fn beyond_the_connections_configured_one_is_told_so() {
    let daemon = Daemon::with(&[("limits.connections", "2")]);
    let one = daemon.login("alice", "phone");
    let _two = daemon.login("bob", "phone");
    daemon.connect().end().fatally(ErrorCode::Overloaded);
    one.bye();
    until("a free place", || {
        let mut client = daemon.connect();
        let posted = client.post(Body::Hello(daemon.greeting("carol", "phone")));
        let reply = client.reply_or_end(posted)?;
        matches!(reply, server_frame::Body::Welcome(_)).then_some(())
    });
}
