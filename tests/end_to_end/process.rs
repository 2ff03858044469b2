//! The process: one per data directory, exit statuses, what it says and what it never says.

use std::{net::TcpListener, process::Output};

use roamd::wire::proto::{Direction, GoAwayReason};

use crate::support::{Daemon, peer};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_data_directory_has_one_daemon() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let second = daemon.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let text = said(&second);
    assert!(text.contains("hint: stop the other roamd"), "{text}");
    assert!(!text.contains("listens on"), "{text}");
    // The first one has not noticed.
    alice.send(peer("bob"), 1, "still here");
}

#[test]
fn a_busy_data_directory_is_not_looked_into() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    alice.send_many(&peer("bob"), 1..=7);
    let busy = daemon.run(&["store", "stat"]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    assert!(busy.stdout.is_empty());
    assert!(said(&busy).contains("hint: stop the daemon first"), "{}", said(&busy));
    alice.send(peer("bob"), 8, "still here");

    daemon.terminate();
    assert!(daemon.ended().success());
    let stat = daemon.run(&["store", "stat"]);
    assert!(stat.status.success(), "{stat:?}");
    let figures = String::from_utf8(stat.stdout).unwrap();
    let has = |tree: &str, logs: &str, entries: &str| {
        let mut lines = figures.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.first() == Some(&tree)).unwrap_or_default();
        assert!(line.get(1) == Some(&logs) && line.contains(&entries), "{tree}: {figures}");
    };
    // Eight messages in one history, and a pointer to each in two inboxes.
    has("history", "1", "8");
    has("inbox", "2", "16");
    // Looking has changed nothing.
    daemon.relaunch();
    let mut bob = daemon.login("bob", "phone");
    let id = bob.recents()[0].conversation_id.clone();
    assert_eq!(bob.history(&id, Direction::Newest, 0, 50).messages.len(), 8);
}

#[test]
fn an_address_in_use_is_said() {
    let daemon = Daemon::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = daemon.run(&["serve", "--listen", &address]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("choose another --listen"), "{}", said(&refused));
}

#[test]
fn a_wrong_setting_has_its_own_exit_status() {
    let daemon = Daemon::start();
    let wrong = daemon.run(&["serve", "--listen", "nowhere"]);
    assert_eq!(wrong.status.code(), Some(3), "{wrong:?}");
    let usage = daemon.run(&["dance"]);
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

#[test]
fn a_stop_without_work_is_quick_and_orderly() {
    let mut daemon = Daemon::start();
    let mut idle = daemon.login("alice", "phone");
    let mut greeting = daemon.connect();
    // The connection is the daemon's when it has answered a later one.
    daemon.login("bob", "phone");
    daemon.terminate();
    idle.end().gone(GoAwayReason::Draining);
    greeting.end().gone(GoAwayReason::Draining);
    assert!(daemon.ended().success());
}

/// Neither what people write nor what opens the door is ever logged.
#[test]
fn bodies_and_tokens_stay_out_of_the_log() {
    let mut daemon = Daemon::with(&[("log.level", "trace")]);
    let mut bob = daemon.login("bob", "phone");
    let mut alice = daemon.login("alice", "laptop");
    let token = daemon.greeting("alice", "laptop").token;
    alice.send(peer("bob"), 1, "canary-body-4711");
    bob.synced(1);
    let id = bob.recents()[0].conversation_id.clone();
    bob.history(&id, Direction::Newest, 0, 1);
    bob.bye();
    let mut bad = daemon.connect();
    bad.write(b"\x10canary-garbage-4711");
    bad.end();
    daemon.terminate();
    assert!(daemon.ended().success());
    let log = daemon.log();
    assert!(log.contains("stopped"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature) && !log.contains("BEGIN PRIVATE"), "{log}");
}
