//! kill -9 while jobs wait: none is lost.

use std::collections::HashMap;

use crate::{World, mark, model::Dice, recall, support::peer};

/// Rounds of messages, reads, recalls and kills. After each the hook opens, and every device that is
/// away must have heard of the newest unread message of every conversation, or of nothing at all if
/// there is none.
fn rounds(seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::start();
    let users = ["bob", "carol", "dave"];
    for user in users {
        world.away(user, "phone");
    }
    let mut number = 0;
    // By user: the conversation with alice, and its newest message that is neither read nor gone.
    let mut state: HashMap<&str, (String, Vec<u64>)> = HashMap::new();
    for _ in 0..4 {
        world.hook.close();
        let mut alice = world.daemon.open(world.daemon.greeting("alice", "phone"));
        for _ in 0..10 {
            let user = users[dice.roll(3) as usize];
            match dice.roll(6) {
                0 if state.contains_key(user) => {
                    let (id, unread) = state.get_mut(user).unwrap();
                    let mut laptop = world.daemon.open(world.daemon.greeting(user, "laptop"));
                    let seq = unread.first().copied().unwrap_or(1);
                    mark(&mut laptop, id, seq);
                    unread.retain(|other| *other > seq);
                }
                1 if state.get(user).is_some_and(|(_, unread)| !unread.is_empty()) => {
                    let (id, unread) = state.get_mut(user).unwrap();
                    let seq = unread.pop().unwrap();
                    recall(&mut alice, id, seq);
                }
                _ => {
                    number += 1;
                    let ack = alice.send(peer(user), number, "x");
                    let entry = state.entry(user).or_default();
                    entry.0 = ack.conversation_id;
                    entry.1.push(ack.history_seq);
                }
            }
        }
        drop(alice);
        world.daemon.crash();
        world.forget_sessions();
        world.hook.open();
        world.until_now();
        // What is shown now, by the last word that was taken.
        for (user, (_, unread)) in &state {
            number += 1;
            let mut alice = world.daemon.open(world.daemon.greeting("alice", "phone"));
            let ack = alice.send(peer(user), number, "y");
            let job = world.hook.taken((user, "phone", "MESSAGE", ack.history_seq));
            assert_eq!(job.number("badge"), unread.len() as u64 + 1, "seed {seed}, {user}");
            recall(&mut alice, &ack.conversation_id, ack.history_seq);
            world.hook.taken((user, "phone", "RECALLED", ack.history_seq));
        }
        world.hook.forget();
    }
    sound(world);
}

/// Everything in the data directory agrees.
fn sound(mut world: World) {
    world.daemon.terminate();
    assert!(world.daemon.ended().success());
    let verify = world.daemon.run(&["store", "verify"]);
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

#[test]
fn badges_and_jobs_survive_kills() {
    for seed in 1..=2 {
        rounds(seed);
    }
}

/// Jobs that wait are told by the next process, the newest of each conversation.
/// `ROAMD_PUSH_KILLS=100` makes it so many rounds.
#[test]
fn what_waits_is_told_after_a_kill() {
    let kills = std::env::var("ROAMD_PUSH_KILLS").map_or(3, |count| count.parse().unwrap());
    for seed in 1..=kills {
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let mut world = World::start();
        let users = ["bob", "carol", "dave", "erin"];
        for user in users {
            world.away(user, "phone");
        }
        world.hook.close();
        let mut newest = HashMap::new();
        let mut alice = world.daemon.login("alice", "phone");
        for number in 1..=20 + dice.roll(20) {
            let user = users[dice.roll(4) as usize];
            newest.insert(user, alice.send(peer(user), number, "x").history_seq);
            if dice.roll(8) == 0 {
                world.daemon.crash();
                alice = world.daemon.open(world.daemon.greeting("alice", "phone"));
            }
        }
        world.daemon.crash();
        world.forget_sessions();
        world.hook.open();
        for (user, seq) in &newest {
            let job = world.hook.taken((user, "phone", "MESSAGE", *seq));
            assert_eq!(job.number("badge"), *seq, "seed {seed}");
        }
        sound(world);
    }
}

/// The process ends while a device is there that has not acked: it is told.
#[test]
fn a_device_that_was_there_is_told_after_a_kill() {
    let mut world = World::start();
    let mut alice = world.daemon.login("alice", "phone");
    let mut phone = world.registered("bob", "phone");
    let mut carol = world.registered("carol", "phone");
    alice.send(peer("bob"), 1, "1");
    alice.send(peer("carol"), 2, "2");
    phone.synced(1);
    carol.synced(1);
    carol.ack(1);
    carol.settle();
    // The cursor is on disk when the device has another session.
    carol.bye();
    let carol = world.daemon.open(world.daemon.greeting("carol", "phone"));
    world.came(&[]);
    world.daemon.crash();
    drop((alice, phone, carol));
    world.forget_sessions();
    world.hook.taken(("bob", "phone", "MESSAGE", 1));
    world.daemon.terminate();
    assert!(world.daemon.ended().success());
    world.daemon.relaunch();
    let all = world.until_now();
    assert!(all.iter().all(|job| job.text("user") == "bob" && job.status < 300), "{all:?}");
    // The daemon may have ended before it knew that the job was taken. Then it is posted once more,
    // and says so: the same job, another attempt.
    for (attempt, job) in (1..).zip(&all) {
        assert_eq!(job.number("id"), all[0].number("id"), "{all:?}");
        assert_eq!(job.number("attempt"), attempt, "{all:?}");
    }
    assert!(all.len() <= 2, "{all:?}");
}
