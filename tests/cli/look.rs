//! Asking: history, conversations, unread, groups, the version compare.

use serde_json::{Value, json};

use super::{Desk, texts};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn lines(count: u32) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

#[test]
fn history_is_paged_both_ways() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines(450));
    let history = |args: &[&str]| {
        texts(&desk.says("bob", &[&["history", "@alice", "-o", "jsonl"], args].concat()))
    };
    let numbers = |range: std::ops::RangeInclusive<u32>| range.map(|n| n.to_string()).collect();
    let expected: Vec<Vec<String>> = vec![
        numbers(431..=450),
        numbers(201..=450),
        numbers(80..=99),
        numbers(101..=120),
        numbers(1..=5),
        numbers(449..=450),
        numbers(1..=450),
    ];
    let got = [
        history(&[]),
        history(&["-n", "250"]),
        history(&["--before", "100"]),
        history(&["--after", "100"]),
        history(&["--before", "6"]),
        history(&["--after", "448"]),
        history(&["--all"]),
    ];
    assert_eq!(got.as_slice(), expected.as_slice());
}

#[test]
fn unread_is_explained_and_reading_moves_it() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines(7));
    let unread = json(&desk.says("bob", &["unread", "--explain", "-o", "json"]));
    assert_eq!(unread["unread_total"], 7);
    let one = &unread["conversations"][0];
    let number = |name: &str| one[name].as_i64().unwrap();
    assert_eq!(number("last_ordinal") - number("read_ordinal") - number("removed"), 7);

    let read = json(&desk.says("bob", &["read", "@alice", "3", "-o", "json"]));
    assert_eq!((&read["read_seq"], &read["unread_total"]), (&json!(3), &json!(4)));
    let read = json(&desk.says("bob", &["read", "@alice", "-o", "json"]));
    assert_eq!((&read["read_seq"], &read["unread_total"]), (&json!(7), &json!(0)));
    let convs = json(&desk.says("bob", &["convs", "-o", "json"]));
    assert_eq!((&convs[0]["name"], &convs[0]["unread"]), (&json!("alice"), &json!(0)));
    assert_eq!(json(&desk.says("bob", &["convs", "--since", "1d", "-o", "json"])), convs);
    assert_eq!(desk.says("bob", &["convs", "--since", "4000000000000", "-o", "json"]), "[]\n");
}

#[test]
fn groups_from_the_command_line() {
    let desk = Desk::new(&["alice", "bob", "carol"]);
    let created = json(&desk.says("alice", &["group", "create", "lunch", "bob", "-o", "json"]));
    let id = created["conversation"].as_str().unwrap();
    let added = json(&desk.says("alice", &["group", "add", id, "carol", "bob", "-o", "json"]));
    assert_eq!(
        (&added[0]["outcome"], &added[1]["outcome"]),
        (&json!("changed"), &json!("unchanged"))
    );
    desk.says("carol", &["send", id, "pizza?"]);
    let members = json(&desk.says("bob", &["group", "members", id, "-o", "json"]));
    let users: Vec<_> = members.as_array().unwrap().iter().map(|it| it["user"].clone()).collect();
    assert_eq!(users.len(), 3);
    desk.says("carol", &["group", "leave", id]);
    desk.says("alice", &["group", "remove", id, "bob"]);
    assert_eq!(desk.run("bob", &["send", id, "late"]).status.code(), Some(5));
}

#[test]
fn the_same_id_is_sent_once() {
    let desk = Desk::new(&["alice", "bob"]);
    let send = || json(&desk.says("alice", &["send", "@bob", "--id", "77", "once", "-o", "json"]));
    let (first, again) = (send(), send());
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["history_seq"], again["history_seq"]);
    let other = desk.run("alice", &["send", "@bob", "--id", "77", "twice"]);
    assert_eq!(other.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&other.stderr).contains("IDEMPOTENCY_CONFLICT"));
}

#[test]
fn sync_shows_the_version_compare_and_moves_nothing() {
    let desk = Desk::with(&["alice", "bob"], &[("limits.inbox_entries", "20")]);
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines(3));
    desk.says("bob", &["recv"]);
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines(5));
    for _ in 0..2 {
        let trace = desk.says("bob", &["sync", "--trace"]);
        let steps: Vec<_> = trace.lines().take(5).map(|line| line.split_at(12)).collect();
        let words: Vec<_> = steps.iter().map(|(step, _)| step.trim()).collect();
        assert_eq!(words[..4], ["> Hello", "< Welcome", "< SyncBatch", "< CaughtUp"], "{trace}");
        assert!(steps[0].1.contains("device version 3"), "{trace}");
        assert!(steps[1].1.contains("server version 8, keeps from 1: CATCH_UP"), "{trace}");
        assert!(steps[2].1.contains("4..=8 of 8"), "{trace}");
        assert!(trace.contains("> Ack        8"), "{trace}");
    }
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines(50));
    let sync = json(&desk.says("bob", &["sync", "-o", "json"]));
    assert_eq!((&sync["verdict"], &sync["entries"]), (&json!("TOO_LONG"), &json!(0)));
    let sync = json(&desk.says("bob", &["sync", "--from", "50", "-o", "json"]));
    assert_eq!((&sync["verdict"], &sync["entries"]), (&json!("CATCH_UP"), &json!(8)));
    let steps = desk.says("bob", &["sync", "--from", "58", "--trace", "-o", "jsonl"]);
    assert!(steps.lines().all(|line| json(line).is_object()));
    assert_eq!(texts(&desk.says("bob", &["recv", "-o", "jsonl"])).len(), 55);
}
