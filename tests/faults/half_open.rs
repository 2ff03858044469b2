//! A peer that is gone without a word, as behind a NAT that forgot it: no FIN, no RST, nothing.
//!
//! Everything happens in a network namespace of its own, in which a packet filter drops what goes
//! from and to the port of one client.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use roamd::wire::proto::{Ping, PresenceState, SubscribePresence, client_frame::Body};

use crate::{
    expect,
    support::{Client, Daemon, daemon::until, peer},
    tools::{full, is_root, possible},
};

/// Set in the process that runs in its own network namespace.
const INSIDE: &str = "FAULTS_INSIDE";
/// What a busy machine may take longer.
const SLACK: Duration = Duration::from_secs(5);

/// True in the process that does the work. Otherwise starts that process, or says why not.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let probe = "ip link set lo up && nft add table inet probe";
    if !is_root() || !possible("unshare", &["--net", "sh", "-c", probe]) {
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    assert!(command.status().unwrap().success(), "see above");
    false
}

/// From now on nothing goes from or to the client.
fn cut(client: &Client) {
    let port = client.writer().local_addr().unwrap().port();
    let rules = format!(
        "table inet cut {{ chain out {{ type filter hook output priority 0; \
         tcp sport {port} drop; tcp dport {port} drop; }}; }}"
    );
    let status = Command::new("nft").arg(rules).status().unwrap();
    assert!(status.success());
}

/// Until the kernel has heard that the client has everything.
fn nothing_waits(daemon: &Daemon, client: &Client) {
    let port = client.writer().local_addr().unwrap().port();
    let ends = [format!("sport = :{}", daemon.address().port()), format!("dport = :{port}")];
    until("the last acknowledgement", || {
        let output = Command::new("ss").args(["-Htn"]).args(&ends).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        (line.split_whitespace().nth(2) == Some("0")).then_some(())
    });
}

/// Bob's phone is away for carol within this time.
#[track_caller]
fn is_missed(carol: &mut Client, time_max: Duration) {
    let since = Instant::now();
    loop {
        expect!(Pong, carol.call(Body::Ping(Ping { client_time_ms: 1 })));
        let last = carol.presence.iter().rfind(|device| device.user_id == "bob");
        if last.is_some_and(|device| device.state() == PresenceState::Offline) {
            println!("missed after {:?}", since.elapsed());
            return;
        }
        assert!(since.elapsed() < time_max, "still there after {:?}", since.elapsed());
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn followed(daemon: &Daemon) -> Client {
    let mut carol = daemon.login("carol", "phone");
    let follow = SubscribePresence { user_ids: vec!["bob".into()], unsubscribe: false };
    let snapshot = expect!(PresenceSnapshot, carol.call(Body::SubscribePresence(follow)));
    assert_eq!(snapshot.devices[0].state(), PresenceState::Online, "{snapshot:?}");
    carol
}

/// Cause: bytes for a peer that is gone went into the kernel's buffer and were sent again for a
/// quarter of an hour, so that it was online all that time. Fix: TCP_USER_TIMEOUT.
#[test]
fn half_open_peer_with_data_pending_is_missed_within_write_stall() {
    if !inside("half_open::half_open_peer_with_data_pending_is_missed_within_write_stall") {
        return;
    }
    // By their silence peers are missed after 90 s.
    let stall = if full() { "30s" } else { "2s" };
    let stall_time = Duration::from_secs(if full() { 30 } else { 2 });
    let daemon = Daemon::with(&[("limits.write_stall", stall)]);
    let mut alice = daemon.login("alice", "phone");
    alice.send(peer("bob"), 1, "so that all know each other");
    alice.send(peer("carol"), 2, "");
    let mut bob = daemon.login("bob", "phone");
    let mut carol_to_bob = daemon.login("carol", "tablet");
    carol_to_bob.send(peer("bob"), 1, "");
    bob.synced(2);
    bob.ack(2);
    let at = bob.position();
    let mut carol = followed(&daemon);
    cut(&bob);
    let ack = alice.send(peer("bob"), 3, "into nothing");
    is_missed(&mut carol, stall_time + SLACK);
    // The device comes back by another way, and has missed nothing.
    let mut bob = daemon.resume("bob", "phone", at);
    bob.caught_up();
    assert!(bob.texts().contains(&"into nothing".to_owned()), "{:?}", bob.texts());
    assert_eq!(bob.messages().last().unwrap().history_seq, ack.history_seq);
}

/// A peer for which nothing waits is asked after a heartbeat's silence, and missed when it does not
/// answer: long before its silence alone would end it.
#[test]
fn half_open_peer_that_is_silent_is_missed_after_a_heartbeat() {
    if !inside("half_open::half_open_peer_that_is_silent_is_missed_after_a_heartbeat") {
        return;
    }
    let (stall, heartbeat) = if full() { (30, 30) } else { (2, 6) };
    let daemon = Daemon::with(&[
        ("limits.write_stall", &format!("{stall}s")),
        ("limits.heartbeat_interval", &format!("{heartbeat}s")),
        ("log.level", "debug"),
    ]);
    let mut bob = daemon.login("bob", "phone");
    let mut carol = daemon.login("carol", "phone");
    carol.send(peer("bob"), 1, "");
    bob.synced(1);
    let mut carol = followed(&daemon);
    nothing_waits(&daemon, &bob);
    cut(&bob);
    is_missed(&mut carol, Duration::from_secs(stall + 2 * heartbeat) + SLACK);
    // It is not its silence that ended it.
    daemon.wait_log("timed out");
}
