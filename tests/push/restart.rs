//! An orderly stop while jobs are being posted.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    World,
    support::{Client, peer},
};

/// How long a stop is seen to wait: far below what it waits at most.
const HELD: Duration = Duration::from_millis(200);

/// A daemon whose one post is with a hook that answers when what is returned last is dropped.
fn post_in_hand() -> (World, Client, u64, mpsc::Sender<()>) {
    let world = World::start();
    world.away("bob", "phone");
    let (came, coming) = mpsc::channel();
    let (answer, held) = mpsc::channel::<()>();
    world.hook.answer(move |_| {
        let _ = came.send(());
        // Also when the test is over.
        let _ = held.recv();
        (204, "", "")
    });
    let mut alice = world.daemon.login("alice", "phone");
    let seq = alice.send(peer("bob"), 1, "x").history_seq;
    coming.recv_timeout(crate::support::DEADLINE).expect("a post");
    (world, alice, seq, answer)
}

/// Cause: a drain did not wait for the hook, so that what was taken in that moment was posted again
/// after the restart, and people were notified twice. Fix: posts in hand are waited for.
#[test]
fn a_restart_does_not_notify_twice() {
    let (mut world, mut alice, seq, answer) = post_in_hand();
    world.daemon.terminate();
    alice.end();
    // Nothing else is waited for.
    drop(alice);
    let since = Instant::now();
    while since.elapsed() < HELD {
        assert!(world.daemon.runs(), "it did not wait for the post");
        thread::park_timeout(Duration::from_millis(5));
    }
    drop(answer);
    assert!(world.daemon.ended().success());
    world.hook.taken(("bob", "phone", "MESSAGE", seq));
    world.hook.forget();
    world.hook.open();
    world.daemon.relaunch();
    world.forget_sessions();
    world.came(&[]);
}

/// A receiver that does not answer holds nobody up for long, and what it had is posted again.
#[test]
fn a_stop_does_not_wait_for_a_hook_that_does_not_answer() {
    let (mut world, _alice, seq, answer) = post_in_hand();
    world.daemon.terminate();
    assert!(world.daemon.ended().success());
    world.daemon.wait_log("the next start posts it again");
    drop(answer);
    world.hook.taken(("bob", "phone", "MESSAGE", seq));
    world.hook.forget();
    world.hook.open();
    world.daemon.relaunch();
    world.forget_sessions();
    let job = world.hook.taken(("bob", "phone", "MESSAGE", seq));
    assert_eq!(job.number("attempt"), 2);
}
