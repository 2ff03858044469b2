//! Every message once: across runs, kills, retention, and beside other commands.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{Desk, support::daemon::until, texts};

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn send(desk: &Desk, range: std::ops::Range<u32>) {
    let lines: String = numbers(range).iter().map(|line| format!("{line}\n")).collect();
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines);
}

/// The inbox_seq up to which bob's device has given everything.
fn remembered(desk: &Desk) -> u64 {
    let mut path: PathBuf = desk.config().join("state");
    path.push(desk.daemon.address().to_string().replace(':', "%3A"));
    path.push("bob/roam.json");
    let Ok(text) = fs::read_to_string(path) else { return 0 };
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["seq"].as_u64().unwrap()
}

fn follow(desk: &Desk) -> Child {
    let mut command = desk.command(&["recv", "-f", "-o", "jsonl", "--profile", "bob"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn every_message_is_given_once_across_runs() {
    let desk = Desk::new(&["alice", "bob"]);
    let recv = || texts(&desk.says("bob", &["recv", "-o", "jsonl"]));
    send(&desk, 0..3);
    assert_eq!(recv(), numbers(0..3), "a new device gets what is unread");
    assert_eq!(recv(), numbers(0..0));
    send(&desk, 3..200);
    assert_eq!(recv(), numbers(3..200));
    assert_eq!(recv(), numbers(0..0));
    let other = desk.says("bob", &["recv", "-o", "jsonl", "--device", "pi"]);
    assert_eq!(texts(&other), numbers(0..200), "another device has its own position");
}

/// What was given of another data set says nothing of this one, though its conversations have the same
/// names: it kept the second message here from being given.
#[test]
fn a_new_data_set_is_given_from_the_start() {
    let desk = Desk::new(&["alice", "bob"]);
    let recv = || texts(&desk.says("bob", &["recv", "-o", "jsonl"]));
    send(&desk, 0..1);
    assert_eq!(recv(), numbers(0..1));
    let path = desk.config().join("state");
    let path =
        path.join(desk.daemon.address().to_string().replace(':', "%3A")).join("bob/roam.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["epoch"] = 1.into();
    for last in state["conversations"].as_object_mut().unwrap().values_mut() {
        *last = 2.into();
    }
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(recv(), numbers(0..1));
    send(&desk, 1..2);
    assert_eq!(recv(), numbers(1..2));
}

#[test]
fn a_kill_loses_nothing_and_repeats_nothing_that_was_remembered() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.says("bob", &["recv"]);
    let mut got = Vec::new();
    for round in 0..5 {
        let mut bob = follow(&desk);
        send(&desk, round * 100..(round + 1) * 100);
        let upto = u64::from(round + 1) * 100;
        until("the position", || (remembered(&desk) == upto).then_some(()));
        bob.kill().unwrap();
        bob.wait().unwrap();
        let lines = BufReader::new(bob.stdout.take().unwrap()).lines();
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        got.extend(texts(&lines.join("\n")));
    }
    got.extend(texts(&desk.says("bob", &["recv", "-o", "jsonl"])));
    assert_eq!(got, numbers(0..500));
}

#[test]
fn who_was_away_for_too_long_gets_the_rest_from_the_history() {
    let desk = Desk::with(&["alice", "bob"], &[("limits.inbox_entries", "10")]);
    let recv = |more: &[&str]| texts(&desk.says("bob", &[&["recv", "-o", "jsonl"], more].concat()));
    send(&desk, 0..50);
    assert_eq!(recv(&[]), numbers(0..50));
    send(&desk, 50..300);
    assert_eq!(recv(&[]), numbers(50..300));
    send(&desk, 300..305);
    assert_eq!(recv(&[]), numbers(300..305));
    send(&desk, 305..400);
    assert_eq!(recv(&["--no-history"]), numbers(0..0));
    send(&desk, 400..402);
    assert_eq!(recv(&[]), numbers(400..402));
}

#[test]
fn commands_beside_a_receiver_do_not_end_it() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.says("bob", &["recv"]);
    let mut bob = follow(&desk);
    let senders: Vec<_> = (0..8)
        .map(|number| {
            let text = number.to_string();
            let args = ["send", "@alice", &text, "-q", "--profile", "bob"];
            desk.command(&args).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for sender in senders {
        let output = sender.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    desk.says("bob", &["sync"]);
    send(&desk, 0..1);
    // The eight he sent himself, and the one for him.
    let mut lines = BufReader::new(bob.stdout.take().unwrap()).lines();
    for _ in 0..9 {
        lines.next().unwrap().unwrap();
    }
    let second = desk.run("bob", &["recv"]);
    assert_eq!(second.status.code(), Some(1), "one receiver per device: {second:?}");

    let interrupt = Command::new("kill").args(["-INT", &bob.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(bob.wait().unwrap().code(), Some(130));
    assert_eq!(desk.says("bob", &["recv"]), "");
}

#[test]
fn a_receiver_outlives_the_daemon() {
    let mut desk = Desk::with(&["alice", "bob"], &[]);
    desk.says("bob", &["recv"]);
    send(&desk, 0..2);
    let mut bob = follow(&desk);
    until("the position", || (remembered(&desk) == 2).then_some(()));
    desk.daemon.terminate();
    assert!(desk.daemon.ended().success());
    let mut errors = BufReader::new(bob.stderr.take().unwrap()).lines();
    let notice = errors.next().unwrap().unwrap();
    assert!(notice.contains("trying again in"), "{notice}");
    bob.kill().unwrap();
    bob.wait().unwrap();
}
