//! SIGHUP: keys, limits, log level and certificate change while the daemon runs; what cannot be read
//! stays as it is, and nothing ends but sessions whose key is gone.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use roamd::{
    refusal::ErrorCode,
    wire::proto::{GoAwayReason, Ping, Retry, client_frame::Body},
};

use crate::{
    expect,
    support::{Client, Daemon, peer, text, tls},
};

/// A daemon whose settings stand in a file, which can be written anew.
fn with_file(content: &str, more: &[(&str, &str)]) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roamd.toml");
    fs::write(&path, content).unwrap();
    let file = path.display().to_string();
    let settings = [&[("config", &*file)], more].concat();
    (Daemon::with_tls(&settings), folder)
}

#[track_caller]
fn alive(client: &mut Client) {
    expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 1 })));
}

#[track_caller]
fn refused(daemon: &Daemon, token: &str, code: ErrorCode) {
    let mut client = daemon.connect();
    client.post(Body::Hello(daemon.greeting_by(token, "phone")));
    client.end().fatally(code);
}

/// The names of the keys, the one that signs last.
fn kids(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.run(&["key", "ls"]);
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn keys_are_rotated_without_an_end() {
    let daemon = Daemon::start();
    let old = daemon.token("alice");
    let mut by_old = daemon.open(daemon.greeting_by(&*old, "phone"));
    let mut waits = daemon.connect();

    let made = daemon.run(&["key", "new"]);
    assert!(made.status.success(), "{made:?}");
    let new = daemon.token("alice");
    refused(&daemon, &new, ErrorCode::Unauthenticated);
    daemon.reload();

    // Both are good, and nobody was disturbed.
    alive(&mut by_old);
    let mut by_new = daemon.open(daemon.greeting_by(&*new, "tablet"));
    daemon.open(daemon.greeting_by(&*old, "watch")).bye();
    let [first, second] = &kids(&daemon)[..] else { panic!("two keys") };
    assert_eq!(*second, String::from_utf8(made.stdout).unwrap().trim());

    let removed = daemon.run(&["key", "rm", first]);
    assert!(removed.status.success(), "{removed:?}");
    alive(&mut by_old);
    daemon.reload();
    by_old.end().gone(GoAwayReason::Revoked);
    refused(&daemon, &old, ErrorCode::Unauthenticated);
    alive(&mut by_new);
    // A connection that was there before, and says Hello only now.
    waits.post(Body::Hello(daemon.greeting_by(&*old, "phone")));
    waits.end().fatally(ErrorCode::Unauthenticated);
    alive(&mut by_new);
    assert_eq!(kids(&daemon), [second.as_str()]);
    assert_eq!(daemon.run(&["key", "rm", "nobody"]).status.code(), Some(1));
}

#[test]
fn a_shared_secret_is_replaced_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let write = |text: &str| {
        fs::write(&secret, text).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let token = |secret: &str| {
        let key = roamd::auth::Key::hs256(secret.as_bytes()).unwrap();
        let ring = roamd::auth::KeyRing::new([key]).unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let (user, now) = ("alice".parse().unwrap(), roamd::time::Timestamp::from_millis(now));
        let scopes = roamd::auth::Scopes::of(&[roamd::auth::Scope::Client]);
        ring.mint(&user, None, scopes, std::time::Duration::from_secs(60), now).unwrap()
    };
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    write(&one);
    let daemon = Daemon::with(&[("auth.hs256_secret_file", secret.to_str().unwrap())]);
    let mut by_one = daemon.open(daemon.greeting_by(token(&one), "phone"));
    let mut by_key = daemon.login("bob", "phone");
    write(&two);
    daemon.reload();
    by_one.end().gone(GoAwayReason::Revoked);
    refused(&daemon, &token(&one), ErrorCode::Unauthenticated);
    daemon.open(daemon.greeting_by(token(&two), "phone")).bye();
    alive(&mut by_key);
}

#[test]
fn limits_and_log_level_change() {
    let (daemon, folder) = with_file("[limits]\ncontent_bytes = \"1KiB\"\n", &[]);
    let path = folder.path().join("roamd.toml");
    let mut alice = daemon.login("alice", "phone");
    let large = |number| text(peer("bob"), number, &"x".repeat(2000));
    alice.refused(ErrorCode::ContentTooLarge, large(1));
    let debug = || daemon.log().matches("DEBUG").count();
    daemon.connect().write(&[0]);
    assert_eq!(debug(), 0);

    let settings = "[limits]\ncontent_bytes = \"4KiB\"\ninbox_entries = 7\nconnections = 1\n\
                    [log]\nlevel = \"debug\"\n[store]\ncache_bytes = \"32MiB\"\n";
    fs::write(&path, settings).unwrap();
    daemon.reload();
    // The old session goes on, and the new limits hold for it where they are the engine's.
    expect!(SendAck, alice.call(large(2)));
    assert_eq!(alice.welcome.limits.unwrap().max_content_bytes, 1024);
    let log = daemon.log();
    assert!(log.contains("at the next start only: limits.inbox_entries"), "{log}");
    assert!(!log.contains("cache_bytes,") && !log.contains("ERROR"), "{log}");
    daemon.connect().end().fatally(ErrorCode::Overloaded);
    alice.bye();
    crate::support::daemon::until("lines of DEBUG", || (debug() > 0).then_some(()));

    fs::write(&path, "[log]\nlevel = \"info\"\n").unwrap();
    daemon.reload();
    let before = debug();
    let welcome = daemon.login("alice", "phone").welcome.limits.unwrap();
    assert_eq!(welcome.max_content_bytes, 64 * 1024);
    assert_eq!(welcome.inbox_entries, 1000, "what only a start changes");
    daemon.connect().write(&[0]);
    alive(&mut daemon.login("alice", "phone"));
    assert_eq!(debug(), before);
}

#[test]
fn a_certificate_is_replaced() {
    let daemon = Daemon::with_tls(&[]);
    let before = tls::trusting(&daemon.authority());
    let mut alice = daemon.connect_tls();
    alice.greet(daemon.greeting("alice", "phone"));
    let made = daemon.run(&["cert", "dev", "--replace", "--name", "chat.test"]);
    assert!(made.status.success(), "{made:?}");
    let after = tls::trusting(&daemon.authority());
    let shake = |config| tls::relay(daemon.tls_address(), config).shaken();
    assert!(shake(&before).is_ok() && shake(&after).is_err(), "not before SIGHUP");
    daemon.reload();
    let fresh = tls::trusting(&daemon.authority());
    assert!(shake(&fresh).is_ok());
    alive(&mut alice);
}

#[test]
fn what_cannot_be_read_stays_as_it_is() {
    let good = "[limits]\ncontent_bytes = \"1KiB\"\n";
    let (daemon, folder) = with_file(good, &[]);
    let file = folder.path().join("roamd.toml");
    let mut alice = daemon.login("alice", "phone");
    let old = tls::trusting(&daemon.authority());
    let key = fs::read_dir(daemon.data().join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "pem"))
        .unwrap();
    let certificate = daemon.data().join("tls/cert.pem");
    let private = daemon.data().join("tls/key.pem");
    let token = daemon.token("alice");

    let mut check = |path: &Path, content: &[u8], mode: u32, reason: &str| {
        let (was, mode_was) =
            (fs::read(path).unwrap(), fs::metadata(path).unwrap().permissions().mode());
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        daemon.reload();
        let log = daemon.log();
        let line = log.lines().rfind(|line| line.contains("ERROR")).unwrap_or_default();
        assert!(line.contains("cannot reload") && line.contains(reason), "{reason}: {log}");
        // Everything is as it was.
        alive(&mut alice);
        let large = text(peer("bob"), 1, &"x".repeat(2000));
        alice.refused(ErrorCode::ContentTooLarge, large);
        daemon.open(daemon.greeting_by(&*token, "tablet")).bye();
        assert!(tls::relay(daemon.tls_address(), &old).shaken().is_ok());
        fs::write(path, was).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode_was)).unwrap();
    };
    check(&file, b"[limits]\ncontent_bytes = \"1 apple\"\n", 0o644, "limits.content_bytes");
    check(&file, b"[limits\n", 0o644, "roamd.toml");
    check(&key, b"no key", 0o600, "Ed25519");
    let own = fs::read(&key).unwrap();
    check(&key, &own, 0o644, "open to others");
    check(&certificate, b"no certificate", 0o644, "certificate");
    let own = fs::read(&private).unwrap();
    check(&private, &own, 0o666, "open to others");

    // A daemon without any key would let nobody in.
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).unwrap();
    daemon.reload();
    daemon.wait_log("there is no key");
    alive(&mut alice);
    fs::rename(&aside, &key).unwrap();
    let errors = daemon.log().matches("ERROR").count();
    daemon.reload();
    assert_eq!(daemon.log().matches("ERROR").count(), errors, "all is right again");
}

/// Guessing is not listened to, and teaches nothing.
#[test]
fn bad_tokens_cost_their_address_time() {
    let daemon = Daemon::with(&[("limits.auth_failures_per_minute", "4")]);
    let mut alice = daemon.login("alice", "phone");
    let good = daemon.token("alice");
    let other = Daemon::start();
    let for_tablet = daemon.run(&["token", "mint", "--user", "alice", "--device", "tablet"]);
    let for_tablet = String::from_utf8(for_tablet.stdout).unwrap().trim().to_owned();
    let mut details = Vec::new();
    for bad in ["guess".to_owned(), format!("{good}A"), other.token("alice"), for_tablet] {
        let mut client = daemon.connect();
        client.post(Body::Hello(daemon.greeting_by(bad, "phone")));
        let end = client.end();
        details.push(end.fatally(ErrorCode::Unauthenticated).detail.clone());
    }
    details.dedup();
    assert_eq!(details, ["the token is not valid"]);
    let mut client = daemon.connect();
    client.post(Body::Hello(daemon.greeting("alice", "laptop")));
    let end = client.end();
    let error = end.fatally(ErrorCode::RateLimited);
    assert_eq!(error.retry(), Retry::AfterDelay);
    assert!((1..=60_000).contains(&error.retry_after_ms), "{error:?}");
    // Whoever is in stays in.
    alive(&mut alice);
}
