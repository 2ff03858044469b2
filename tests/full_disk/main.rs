//! The disk fills up under the shipped daemon: what would write is refused at once, everything else
//! goes on, and when there is space again writes are taken, without a restart and without loss.
//!
//! ```text
//! cargo test --test full_disk
//! ```
//! Needs root and a mount namespace; says SKIPPED and why otherwise. The data directory lies on a
//! small tmpfs that ends with the namespace. A file without holes fills it to the last byte.
//!
//! A daemon meets the end of the disk in two places, and each has its test: the **journal** cannot
//! make another segment, or **memory** is full because nothing can be moved to the trees.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        Direction, ListDevices, ListMembers, MarkRead, Ping, Recall, Retry, SyncPull,
        client_frame::Body, server_frame::Body as Reply,
    },
};
use support::{Client, Daemon, conversation, daemon::until, peer, text};

/// Set in the process that runs in its own mount namespace.
const INSIDE: &str = "FULL_DISK_INSIDE";
/// A refusal, or an answer, must come within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Writes must be taken again within this: a second, on a machine that has other work.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn memory_is_full_and_cannot_be_moved() {
    if inside("memory_is_full_and_cannot_be_moved") {
        fills_up(&[("store.memory_bytes", "64KiB"), ("store.segment_bytes", "256KiB")]);
    }
}

#[test]
fn the_journal_cannot_grow() {
    if inside("the_journal_cannot_grow") {
        fills_up(&[("store.segment_bytes", "256KiB")]);
    }
}

/// True in the process that does the work. Otherwise starts that process, or says why not.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("SKIPPED: only root can mount a small disk");
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size=64m tmpfs \"$TMPDIR\" && {then}"));
        command.env("TMPDIR", dir.path()).env(INSIDE, "1");
        command
    };
    if !mount("true").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no tmpfs can be mounted in a mount namespace");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let mut command = mount("exec \"$0\" \"$@\"");
    command.arg(own).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    assert!(command.status().unwrap().success(), "see above");
    false
}

/// Takes every byte that is left.
fn fill(daemon: &Daemon) -> PathBuf {
    let path = daemon.data().parent().unwrap().join("ballast");
    let mut file = File::options().append(true).create(true).open(&path).unwrap();
    for piece in [1 << 20, 4096] {
        let piece = vec![1; piece];
        while file.write_all(&piece).is_ok() {}
    }
    path
}

fn fills_up(settings: &[(&str, &str)]) {
    let body = "x".repeat(2000);
    let daemon = &mut Daemon::with(settings);
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let id = alice.send(peer("bob"), 1, "first").conversation_id;
    let ballast = fill(daemon);

    let mut acked = 1;
    let refused = loop {
        let asked = Instant::now();
        let reply = alice.call(text(peer("bob"), acked + 1, &body));
        assert!(asked.elapsed() < AT_ONCE, "{:?} for {reply:?}", asked.elapsed());
        match reply {
            Reply::SendAck(ack) => {
                acked += 1;
                assert_eq!(ack.history_seq, acked);
            }
            Reply::Error(error) => break error,
            other => panic!("{other:?}"),
        }
        assert!(acked < 100_000, "the disk does not fill up");
        // The journal has spares; whatever else is freed is taken.
        if acked % 64 == 0 {
            fill(daemon);
        }
    };
    assert_eq!(refused.code, ErrorCode::StorageFull.number(), "{refused:?}");
    assert_eq!(refused.retry(), Retry::AfterDelay);
    assert!(refused.retry_after_ms > 0 && !refused.fatal);
    println!("{acked} messages acked, then {}", refused.detail);
    goes_on(&mut alice, &mut bob, &id, acked);

    // Devices that come: one that is known and was behind, and a new one.
    bob.ack(acked);
    let at = bob.bye();
    let mut bob = daemon.resume("bob", "phone", at);
    bob.caught_up();
    let mut tablet = daemon.login("bob", "tablet");
    goes_on(&mut alice, &mut tablet, &id, acked);
    let devices = Body::ListDevices(ListDevices::default());
    assert_eq!(expect!(DevicePage, bob.call(devices)).devices.len(), 2);

    // Space is back.
    fs::remove_file(&ballast).unwrap();
    let since = Instant::now();
    let mut ack = until("space to be seen", || {
        let reply = alice.call(text(peer("bob"), acked + 1, &body));
        match reply {
            Reply::SendAck(ack) => Some(ack),
            Reply::Error(error) if error.code == ErrorCode::StorageFull.number() => None,
            other => panic!("{other:?}"),
        }
    });
    println!("writes are taken again after {:?}", since.elapsed());
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    acked += 1;
    assert_eq!((ack.history_seq, ack.duplicate), (acked, false), "nothing is skipped");
    let again = alice.send(peer("bob"), acked, &body);
    ack.duplicate = true;
    assert_eq!(again, ack, "the retry is the same message");
    for client in [&mut bob, &mut tablet] {
        client.synced(acked);
    }
    let mark = MarkRead { conversation_id: id.clone(), read_seq: 2, ..Default::default() };
    assert_eq!(expect!(MarkReadReply, bob.call(Body::MarkRead(mark))).unread, acked - 2);
    is_whole(&mut bob, &id, acked, &body);

    // Full again, and killed. Opening on the full disk may be refused, and does no harm.
    let ballast = fill(daemon);
    acked = full_again(daemon, &mut alice, acked, &body);
    daemon.kill();
    let opened = daemon.run(&["store", "stat"]);
    println!("opened on the full disk: {}", opened.status);
    starts(daemon);
    fs::remove_file(&ballast).unwrap();
    daemon.relaunch();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    is_whole(&mut bob, &id, acked, &body);
    acked += 1;
    let ack = alice.send(peer("bob"), acked, &body);
    assert_eq!((ack.history_seq, ack.duplicate), (acked, false));
    bob.synced(ack.inbox_seq);
    is_whole(&mut bob, &id, acked, &body);

    // A drain on a full disk is in order as well, and says who is forgotten.
    let ballast = fill(daemon);
    full_again(daemon, &mut alice, acked, &body);
    daemon.login("bob", "watch");
    daemon.terminate();
    let status = daemon.ended();
    assert!(status.success(), "a drain ends with {status}");
    // The log is read by a thread of its own.
    let warned = until("the devices that are forgotten", || {
        let log = daemon.log();
        log.lines().find(|line| line.contains("no space left at the end")).map(str::to_owned)
    });
    assert!(warned.contains("WARN") && warned.contains("devices=3"), "{warned}");
    fs::remove_file(ballast).unwrap();
    let verified = daemon.run(&["store", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}

/// Sends until the disk is full; returns how many messages are acked by then.
#[track_caller]
fn full_again(daemon: &Daemon, alice: &mut Client, mut acked: u64, body: &str) -> u64 {
    let refused = loop {
        match alice.call(text(peer("bob"), acked + 1, body)) {
            Reply::SendAck(_) => acked += 1,
            Reply::Error(error) => break error,
            other => panic!("{other:?}"),
        }
        fill(daemon);
    };
    assert_eq!(refused.code, ErrorCode::StorageFull.number(), "{refused:?}");
    acked
}

/// A start on a full disk: it serves, or says what is in the way, with the status for that.
fn starts(daemon: &Daemon) {
    let mut roamd = Command::new("timeout");
    roamd.args(["--signal=TERM", "2", env!("CARGO_BIN_EXE_roamd")]);
    roamd.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(daemon.data());
    let output = roamd.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("started on the full disk: {}: {said}", output.status);
    assert!(!said.contains("panicked"), "{said}");
    match output.status.code() {
        // Stopped by its time.
        Some(124) => assert!(said.contains(" listens on "), "{said}"),
        Some(9) => assert!(said.to_lowercase().contains("no space"), "{said}"),
        _ => panic!("{}: {said}", output.status),
    }
}

/// On a full disk: what writes is refused, everything else is answered, all of it at once.
#[track_caller]
fn goes_on(alice: &mut Client, bob: &mut Client, id: &str, acked: u64) {
    let since = Instant::now();
    let mark = MarkRead { conversation_id: id.into(), read_seq: 2, ..Default::default() };
    bob.refused(ErrorCode::StorageFull, Body::MarkRead(mark));
    let recall = Recall { conversation_id: id.into(), history_seq: acked };
    alice.refused(ErrorCode::StorageFull, Body::Recall(recall));
    alice.refused(ErrorCode::StorageFull, text(conversation(id), acked + 1, "no room"));
    assert!(alice.send(peer("bob"), 1, "first").duplicate, "what is done is done");
    bob.synced(acked);
    assert_eq!(bob.unread_total(), acked);
    let page = bob.history(id, Direction::Newest, 0, 1);
    assert_eq!(page.messages[0].history_seq, acked);
    assert_eq!(bob.recents().len(), 1);
    let members = ListMembers { conversation_id: id.into(), limit: 10, ..Default::default() };
    assert_eq!(expect!(MemberPage, bob.call(Body::ListMembers(members))).members.len(), 2);
    let pull = SyncPull { after_seq: acked - 1, limit: 10 };
    assert_eq!(expect!(Pulled, bob.call(Body::SyncPull(pull))).entries.len(), 1);
    expect!(Pong, bob.call(Body::Ping(Ping { client_time_ms: 1 })));
    assert!(since.elapsed() < 5 * AT_ONCE, "{:?}", since.elapsed());
}

/// Every acked message is in the history, once and in order.
#[track_caller]
fn is_whole(client: &mut Client, id: &str, acked: u64, body: &str) {
    let mut next = 1;
    while next <= acked {
        let page = client.history(id, Direction::Newer, next - 1, 50);
        assert!(!page.messages.is_empty(), "the history ends before {next} of {acked}");
        for message in &page.messages {
            assert_eq!((message.history_seq, message.client_message_id), (next, next));
            let wanted = if next == 1 { "first" } else { body };
            assert_eq!(support::client::content(message), wanted);
            next += 1;
        }
    }
    assert_eq!(next, acked + 1, "a message that nobody was acked");
}
