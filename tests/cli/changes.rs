//! Recall, edit, delete, cancel, own state, roles, presence, devices, notices from the command line.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::{Desk, support::daemon::until};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

/// A command that goes on, and the objects it prints.
struct Going {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Going {
    fn start(desk: &Desk, user: &str, args: &[&str]) -> Self {
        let mut command = desk.command(args);
        command.args(["-o", "jsonl", "--profile", user]).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next object of this kind.
    fn next(&mut self, field: &str, value: &str) -> Value {
        loop {
            let line = json(&self.lines.next().expect("it goes on").unwrap());
            if line[field] == value {
                return line;
            }
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_message_is_edited_recalled_and_deleted() {
    let desk = Desk::new(&["alice", "bob"]);
    for text in ["one", "two", "three"] {
        desk.says("alice", &["send", "@bob", text]);
    }
    desk.says("bob", &["recv"]);
    let said = desk.says("alice", &["edit", "@bob", "1", "--base", "0", "uno"]);
    assert!(said.starts_with("#1 in d.") && said.contains("is edited (entry "), "{said}");
    let late = desk.run("alice", &["edit", "@bob", "1", "--base", "0", "eins"]);
    assert_eq!(late.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&late.stderr).contains("CONFLICT"), "{late:?}");
    desk.says("alice", &["recall", "@bob", "2"]);
    desk.says("alice", &["recall", "@bob", "2"]);
    assert_eq!(desk.run("bob", &["recall", "@alice", "1"]).status.code(), Some(5), "not his");
    desk.says("bob", &["delete", "@alice", "3"]);

    let got = lines(&desk.says("bob", &["recv", "-o", "jsonl"]));
    let kinds: Vec<_> = got.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["edited", "recalled"]);
    assert_eq!((&got[0]["text"], &got[0]["revision"]), (&json!("uno"), &json!(1)));
    let history = lines(&desk.says("bob", &["history", "@alice", "-o", "jsonl"]));
    let states: Vec<_> = history.iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["normal", "recalled", "hidden"]);
    assert_eq!(history[1]["text"], "");
    let history = desk.says("alice", &["history", "@bob"]);
    assert!(history.contains("uno (edited)") && history.contains("(recalled)"), "{history}");
    assert!(history.contains("three"), "{history}");

    let changes = lines(&desk.says("alice", &["mutations", "@bob", "-o", "jsonl"]));
    let of: Vec<_> = changes.iter().map(|it| it["history_seq"].as_u64().unwrap()).collect();
    assert_eq!(of, [1, 2]);
    let after = desk.says("alice", &["mutations", "@bob", "--after", "1", "-o", "jsonl"]);
    assert_eq!(lines(&after).len(), 1);
    let trace = desk.says("bob", &["sync", "--trace", "--from", "0"]);
    assert!(trace.contains("#2  recalled by alice"), "{trace}");
}

#[test]
fn a_send_of_unknown_outcome_is_cancelled() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.says("alice", &["send", "@bob", "--id", "70", "hello"]);
    let said = desk.says("alice", &["cancel", "70"]);
    assert!(said.contains("is recalled"), "{said}");
    let said = desk.says("alice", &["cancel", "71"]);
    assert!(said.contains("used up"), "{said}");
    let late = desk.run("alice", &["send", "@bob", "--id", "71", "late"]);
    assert!(String::from_utf8_lossy(&late.stderr).contains("GONE"), "{late:?}");
    assert_eq!(lines(&desk.says("bob", &["history", "@alice", "-o", "jsonl"])).len(), 1);
}

#[test]
fn own_state_of_a_conversation() {
    let desk = Desk::new(&["alice", "bob"]);
    for text in ["one", "two", "three"] {
        desk.says("alice", &["send", "@bob", text]);
    }
    desk.says("alice", &["recv"]);
    let mut alice = Going::start(&desk, "alice", &["recv", "-fa"]);
    desk.says("bob", &["read", "@alice", "2", "--tell"]);
    assert_eq!(alice.next("kind", "peer_read")["read_seq"], 2);
    desk.says("bob", &["mark-unread", "@alice"]);
    let convs = json(&desk.says("bob", &["convs", "-o", "json"]));
    assert_eq!((&convs[0]["unread"], &convs[0]["marks"]), (&json!(1), &json!(["unread"])));

    let set = ["prefs", "@alice", "--pin", "--mute", "--draft", "dear alice", "-o", "json"];
    let prefs = json(&desk.says("bob", &set));
    assert_eq!((&prefs["pinned"], &prefs["draft"]), (&json!(true), &json!("dear alice")));
    let prefs =
        json(&desk.says("bob", &["prefs", "@alice", "--unpin", "--no-draft", "-o", "json"]));
    let values = (&prefs["pinned"], &prefs["muted"], &prefs["draft"]);
    assert_eq!(values, (&json!(false), &json!(true), &json!("")));
    assert_eq!(desk.run("bob", &["prefs", "nowhere"]).status.code(), Some(5));

    desk.says("bob", &["clear", "@alice", "2"]);
    let history = lines(&desk.says("bob", &["history", "@alice", "-o", "jsonl"]));
    assert_eq!(history.len(), 1);
    assert_eq!(lines(&desk.says("alice", &["history", "@bob", "-o", "jsonl"])).len(), 3);

    desk.says("alice", &["typing", "@bob"]);
    let got = lines(&desk.says("bob", &["recv", "-a", "--no-history", "-o", "jsonl"]));
    assert!(got.iter().all(|it| it["kind"] != "ephemeral"), "never kept: {got:?}");
    desk.says("bob", &["typing", "@alice"]);
    let senders = [(); 2].map(|()| alice.next("kind", "ephemeral")["sender"].clone());
    assert_eq!(senders, ["alice", "bob"], "the own devices, too");
}

#[test]
fn unread_is_explained_to_the_last_digit() {
    let desk = Desk::new(&["alice", "bob", "carol"]);
    for text in ["one", "two", "three"] {
        desk.says("alice", &["send", "@bob", text]);
    }
    desk.says("carol", &["send", "@bob", "hi"]);
    desk.says("bob", &["read", "@alice", "1"]);
    desk.says("alice", &["recall", "@bob", "2"]);
    let text = desk.says("bob", &["unread", "--explain"]);
    assert!(text.contains(": 1 = 3 - 1 - 1\n"), "{text}");
    assert!(text.contains("The sum of 2 conversation(s) is 2, the total is 2"), "{text}");
    let unread = json(&desk.says("bob", &["unread", "--explain", "-o", "json"]));
    assert_eq!((&unread["sum"], &unread["unread_total"]), (&json!(2), &json!(2)));
    assert_eq!(unread["complete"], true);
}

#[test]
fn roles_titles_readers_and_the_end_of_a_group() {
    let desk = Desk::new(&["alice", "bob", "carol"]);
    let created = desk.says("alice", &["group", "create", "lunch", "bob", "carol", "-o", "json"]);
    let created = json(&created);
    let id = created["conversation"].as_str().unwrap();
    desk.says("carol", &["recv"]);
    assert_eq!(desk.run("bob", &["group", "title", id, "dinner"]).status.code(), Some(5));
    let said = desk.says("alice", &["group", "role", id, "bob", "admin"]);
    assert!(said.starts_with(&format!("bob is an admin of {id}")), "{said}");
    desk.says("bob", &["group", "title", id, "dinner"]);
    desk.says("alice", &["send", id, "pizza?"]);
    desk.says("carol", &["read", id]);
    let readers = json(&desk.says("alice", &["readers", id, "1", "-o", "json"]));
    assert_eq!((&readers["reader_count"], &readers["readers"]), (&json!(1), &json!(["carol"])));
    desk.says("bob", &["delete", id, "1", "--for-all"]);
    desk.says("alice", &["group", "disband", id]);
    let late = desk.run("carol", &["send", id, "late"]);
    assert!(String::from_utf8_lossy(&late.stderr).contains("GONE"), "{late:?}");

    let got = desk.says("carol", &["recv", "-a"]);
    for part in ["alice role bob admin", "bob title", "\"dinner\"", "alice disbanded"] {
        assert!(got.contains(part), "{part}: {got}");
    }
    let history = lines(&desk.says("carol", &["history", id, "-o", "jsonl"]));
    assert_eq!(history[0]["state"], "deleted");
}

#[test]
fn presence_and_devices() {
    let desk = Desk::new(&["alice", "bob", "eve"]);
    desk.says("alice", &["send", "@bob", "hi"]);
    let offline = json(&desk.says("alice", &["presence", "bob", "-o", "json"]));
    assert_eq!((&offline[0]["state"], offline.as_array().unwrap().len()), (&json!("offline"), 1));

    let mut watch = Going::start(&desk, "alice", &["presence", "bob", "--follow"]);
    watch.next("state", "offline");
    let bob = Going::start(&desk, "bob", &["recv", "-f", "--background", "--device", "phone"]);
    let there = watch.next("device", "phone");
    assert_eq!(there["state"], "background");
    let hidden = json(&desk.says("eve", &["presence", "bob", "-o", "json"]));
    assert_eq!(hidden[0]["state"], "offline", "eve shares nothing with bob");

    let devices = json(&desk.says("bob", &["devices", "-o", "json"]));
    let phone = devices.as_array().unwrap().iter().find(|it| it["device"] == "phone").unwrap();
    assert_eq!((&phone["state"], &phone["push"]), (&json!("background"), &json!(false)));
    desk.says("bob", &["devices", "kick", "phone"]);
    watch.next("state", "offline");
    drop(bob);
    let said = desk.says("bob", &["devices", "revoke", "phone"]);
    assert!(said.starts_with("phone is locked out"), "{said}");
    let locked_out = desk.run("bob", &["recv", "--device", "phone"]);
    assert_eq!(locked_out.status.code(), Some(5), "{locked_out:?}");
    assert_eq!(desk.run("bob", &["devices", "kick", "nothing"]).status.code(), Some(5));
    until("bob's other devices stay", || {
        let output = desk.run("bob", &["ping"]);
        output.status.success().then_some(())
    });
}
