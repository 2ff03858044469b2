//! The wall clock is set between lives: three days back, ten years ahead, and right again.
//!
//! Order and numbers know nothing of it. What was there before a jump is kept as if it were of the
//! moment of the jump (`docs/decisions/0018-ages-count-from-a-jump-of-the-clock.md`; the times after
//! that are tested inside, `src/engine/clock.rs`).

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use roamd::{
    auth::Scope,
    wire::proto::{Direction, Hello, Position, SendAck},
};

use crate::{
    support::{Client, Daemon, peer},
    tools::possible,
};

const DAY: u64 = 24 * 3600;
/// Enough that the memory of a device's sends is looked through for old ones (every 256).
const BATCH: u64 = 300;

/// How far a life's clock is off.
#[derive(Clone, Copy, Debug)]
struct Off(i64);

impl Off {
    fn now(self) -> SystemTime {
        let by = Duration::from_secs(DAY * self.0.unsigned_abs());
        if self.0 < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

/// A daemon whose next life has this clock. faketime itself would stay between us and the daemon.
fn live(daemon: &mut Daemon, off: Off, library: &str) {
    let preload = format!("LD_PRELOAD={library}");
    let days = format!("FAKETIME={:+}d", off.0);
    // The monotonic clock goes on as it does.
    daemon.under(&["env", &preload, &days, "FAKETIME_DONT_FAKE_MONOTONIC=1"]);
    daemon.relaunch();
}

/// The library that changes what a program sees of the clock.
fn library() -> String {
    let asked = ["-m", "-f", "+1d", "printenv", "LD_PRELOAD"];
    let output = Command::new("faketime").args(asked).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn open(daemon: &Daemon, user: &str, off: Off, resume: Option<Position>) -> Client {
    let hour = Duration::from_secs(3600);
    let token = daemon.mint(user, None, &[Scope::Client], hour, off.now());
    let mut client = daemon.open(Hello { token, resume, ..daemon.greeting(user, "phone") });
    if resume.is_none() {
        let too_long = client.too_long();
        client.adopt(&too_long);
    }
    client.caught_up();
    client
}

#[test]
fn clock_jumps_change_no_order_and_expire_nothing_at_once() {
    if !possible("faketime", &["-f", "+1d", "true"]) {
        return;
    }
    let library = library();
    let mut daemon = Daemon::with(&[
        ("limits.inbox_entries", "10000"),
        // Bob acks nothing.
        ("limits.unacked_entries", "10000"),
        ("limits.unacked_bytes", "16MiB"),
        ("limits.sends_per_second", "0"),
    ]);
    let mut acks: Vec<SendAck> = Vec::new();
    let bob = daemon.login("bob", "phone").bye();
    let mut alice = daemon.login("alice", "phone");
    acks.extend(alice.send_many(&peer("bob"), 1..=BATCH));
    alice.bye();
    let id = acks[0].conversation_id.clone();
    // Each of them is more than a day from the one before.
    for off in [Off(3653), Off(0), Off(-3), Off(0), Off(3653), Off(-3)] {
        daemon.terminate();
        assert!(daemon.ended().success());
        live(&mut daemon, off, &library);
        let mut alice = open(&daemon, "alice", off, None);
        let next = acks.len() as u64 + 1;
        let all = next..=next + BATCH - 1;
        let new = alice.send_many(&peer("bob"), all.clone());
        for (ack, number) in new.iter().zip(all) {
            assert_eq!((ack.history_seq, ack.duplicate), (number, false), "{off:?}");
        }
        acks.extend(new);
        // A retry of the oldest, and of some others, is what it was.
        for number in (1..=acks.len() as u64).step_by(97) {
            let before = &acks[number as usize - 1];
            let again = alice.send(peer("bob"), number, &number.to_string());
            assert_eq!(again, SendAck { duplicate: true, ..before.clone() }, "{off:?}: {number}");
        }
        // A device that has been away since the beginning misses nothing, in order.
        let mut bob = open(&daemon, "bob", off, Some(bob));
        bob.synced(acks.len() as u64);
        let numbers = bob.messages().map(|message| message.history_seq);
        assert!(numbers.eq(1..=acks.len() as u64), "{off:?}");
        let newest = bob.history(&id, Direction::Newest, 0, 1).messages.remove(0);
        assert_eq!(newest.history_seq, acks.len() as u64, "{off:?}");
    }
    let jumps = daemon.log().matches("the wall clock is more than a day").count();
    assert_eq!(jumps, 6, "{}", daemon.log());
    daemon.terminate();
    assert!(daemon.ended().success());
    let verified = daemon.run(&["store", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}
