//! A disk that stands still: every sync takes seconds. What waits is bounded, more is refused with
//! when to come back, and who asks for nothing that has to be written is answered.

use std::time::{Duration, Instant};

use roamd::{
    refusal::ErrorCode,
    wire::proto::{Ping, Retry, client_frame::Body, server_frame::Body as Reply},
};

use crate::{
    expect,
    support::{Daemon, daemon::until, peer, text},
    tools::{ONE_AT_A_TIME, Tracer, kib, may_trace},
};

/// Together more than may wait (64 Ki) and what is in the hands of the writer.
const SENDERS: usize = 90;
const SENDS: u64 = 1024;
/// What a sync takes.
const SYNC_MICROSECONDS: &str = "delay_enter=20000000";
/// An answer that needs no disk must come within this.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn stalled_disk_bounds_what_waits_and_pings_are_answered() {
    let _turn = ONE_AT_A_TIME.lock();
    if !may_trace() {
        return;
    }
    let daemon = Daemon::with(&[
        ("limits.outstanding_requests", "1024"),
        ("limits.sends_per_second", "0"),
        ("limits.inbox_entries", "200000"),
    ]);
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let mut senders: Vec<_> =
        (0..SENDERS).map(|number| daemon.login(&format!("sender-{number}"), "phone")).collect();
    senders[0].send(peer("bob"), 1, "before");
    bob.synced(1);
    let before = kib(daemon.pid(), "VmRSS");

    let stall = Tracer::attach(daemon.pid(), "fdatasync", SYNC_MICROSECONDS);
    let mut posted: Vec<Vec<u64>> = Vec::new();
    for sender in &mut senders {
        posted.push((2..2 + SENDS).map(|id| sender.post(text(peer("bob"), id, "x"))).collect());
    }
    // Who comes when all that may wait does is told so at once: before the answer to a ping, which
    // comes as ever.
    let mut accepted = Vec::new();
    let refused = until("the queue to be full", || {
        let number = 1 + accepted.len() as u64;
        let send = alice.post(text(peer("bob"), number, "x"));
        expect!(Pong, alice.call(Body::Ping(Ping { client_time_ms: 1 })));
        match alice.came_to(send) {
            None => accepted.push(send),
            Some(reply) => return Some((number, expect!(Error, reply))),
        }
        None
    });
    let (refused_id, refused) = refused;
    assert_eq!((refused.code, refused.fatal), (ErrorCode::Overloaded.number(), false));
    assert_eq!(refused.retry(), Retry::AfterDelay);
    assert!(refused.retry_after_ms > 0, "{refused:?}");
    let asked = Instant::now();
    expect!(Pong, bob.call(Body::Ping(Ping { client_time_ms: 1 })));
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    let grown = kib(daemon.pid(), "VmRSS").saturating_sub(before);
    assert!(grown < 256 << 10, "{grown} KiB for what waits");
    stall.detach();

    // Everybody gets one answer to each, and what was acked is there.
    let (mut acked, mut overloaded) = (1, 1);
    for send in accepted {
        expect!(SendAck, alice.reply(send));
        acked += 1;
    }
    for (sender, posted) in senders.iter_mut().zip(posted) {
        for number in posted {
            match sender.reply(number) {
                Reply::SendAck(_) => acked += 1,
                Reply::Error(error) => {
                    assert_eq!(error.code, ErrorCode::Overloaded.number(), "{error:?}");
                    overloaded += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    println!("{acked} acked, {overloaded} refused, {grown} KiB more meanwhile");
    assert_eq!(bob.unread_total(), acked);
    // The refused one is taken now.
    let again = alice.send(peer("bob"), refused_id, "x");
    assert!(!again.duplicate);
}
