//! Large groups, notices and push from the command line.

use serde_json::Value;

use super::{Desk, texts};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn send(desk: &Desk, group: &str, range: std::ops::RangeInclusive<u32>) {
    let lines: String = numbers(range).iter().map(|line| format!("{line}\n")).collect();
    desk.told("alice", &["send", group, "-", "--lines", "-q"], &lines);
}

/// The texts of messages; not what else `recv` prints.
fn messages(jsonl: &str) -> Vec<String> {
    let message = |line: &&str| line.contains(r#""kind":"message""#) || !line.contains(r#""kind""#);
    texts(&jsonl.lines().filter(message).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_group_that_grows_and_shrinks_gives_every_message_once() {
    let desk = Desk::with(&["alice", "bob"], &[("limits.fanout_members", "3")]);
    let created = desk.says("alice", &["group", "create", "crowd", "bob", "carol", "-o", "json"]);
    let group = lines(&created)[0]["conversation"].as_str().unwrap().to_owned();
    let recv = || messages(&desk.says("bob", &["recv", "-o", "jsonl"]));
    assert!(recv().is_empty());
    send(&desk, &group, 1..=5);
    desk.says("alice", &["group", "add", &group, "dave"]);
    send(&desk, &group, 6..=300);
    assert_eq!(recv(), numbers(1..=300));
    send(&desk, &group, 301..=310);
    desk.says("alice", &["edit", &group, "7", "seven"]);
    let got = desk.says("bob", &["recv", "-o", "jsonl"]);
    assert_eq!(messages(&got), numbers(301..=310));
    let changed = lines(&got).into_iter().find(|it| it["kind"] == "changed").unwrap();
    assert_eq!((&changed["history_seq"], &changed["text"]), (&7.into(), &"seven".into()));
    let convs = lines(&desk.says("bob", &["convs", "-o", "jsonl"]));
    assert_eq!(convs[0]["marks"], serde_json::json!(["large"]));

    send(&desk, &group, 311..=320);
    desk.says("alice", &["group", "remove", &group, "dave"]);
    send(&desk, &group, 321..=325);
    desk.says("alice", &["group", "add", &group, "erin"]);
    send(&desk, &group, 326..=330);
    let trace = desk.says("bob", &["sync", "--trace"]);
    assert!(trace.contains("> Fetch ") && trace.contains("a large group from #326 on"), "{trace}");
    assert_eq!(recv(), numbers(311..=330));
    assert!(recv().is_empty());
    let other = desk.says("bob", &["recv", "-o", "jsonl", "--device", "pi"]);
    assert_eq!(messages(&other).len(), 330, "a new device has what is unread");
    let unread = lines(&desk.says("bob", &["unread", "--explain", "-o", "json"]));
    assert_eq!(unread[0]["unread_total"], 330);
}

#[test]
fn a_notice_reaches_everyone_once() {
    let desk = Desk::new(&["alice", "bob"]);
    for user in ["alice", "bob"] {
        desk.says(user, &["recv"]);
    }
    let minted = desk.daemon.run(&["token", "mint", "--user", "ops", "--scope", "client admin"]);
    let token = String::from_utf8(minted.stdout).unwrap();
    let server = desk.daemon.address().to_string();
    let add = ["profile", "add", "ops", "--server", &server, "--token", token.trim()];
    assert!(desk.command(&add).status().unwrap().success());

    let refused = desk.run("alice", &["admin", "notice", "--everyone", "buy"]);
    assert_eq!(refused.status.code(), Some(5));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("FORBIDDEN_SCOPE") && stderr.contains("--scope"), "{stderr}");
    for _ in 0..2 {
        desk.says("ops", &["admin", "notice", "--everyone", "--id", "7", "down", "at 23:00"]);
    }
    desk.says("ops", &["admin", "notice", "--to", "@bob", "hello bob"]);
    let got = desk.says("bob", &["recv"]);
    assert_eq!(got.matches("SYSTEM NOTICE").count(), 2, "{got}");
    assert!(got.contains("down at 23:00") && got.contains("hello bob"), "{got}");
    let got = lines(&desk.says("alice", &["recv", "-o", "jsonl"]));
    assert_eq!(
        (got.len(), &got[0]["kind"], &got[0]["text"]),
        (1, &"notice".into(), &"down at 23:00".into())
    );
}

#[test]
fn a_device_registers_for_push() {
    let desk = Desk::new(&["bob"]);
    let pushes = || {
        let devices = desk.says("bob", &["devices", "-o", "jsonl"]);
        let own = lines(&devices).into_iter().find(|it| it["device"] == "roam");
        own.is_some_and(|it| it["push"] == true)
    };
    let said = desk.says("bob", &["devices", "push", "apns", "0a1b2c"]);
    assert!(said.starts_with("the push hook may reach roam"), "{said}");
    assert!(pushes());
    desk.says("bob", &["devices", "push", "--off"]);
    assert!(!pushes());
}
