//! What a terminal, a pipe and a hostile sender may do.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use super::Desk;

#[test]
fn nobody_writes_into_anothers_terminal() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.told("alice", &["send", "@bob", "-"], "\x1b]0;owned\x07\x1b[2Jhi\r\nthere");
    desk.says("alice", &["group", "create", "\u{202e}title", "bob"]);
    for args in [&["recv", "-a"][..], &["history", "@alice"], &["convs"]] {
        let text = desk.says("bob", args);
        let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(harmful), "{text:?}");
        assert!(text.contains("hi"), "{text:?}");
    }
    let json = desk.says("bob", &["history", "@alice", "-o", "jsonl"]);
    assert!(json.contains(r"\u001b"), "programs get what was sent: {json}");
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn a_closed_pipe_is_a_success() {
    let desk = Desk::new(&["alice", "bob"]);
    let lines: String = (0..2000).map(|number| format!("{number} {}\n", "x".repeat(90))).collect();
    desk.told("alice", &["send", "@bob", "-", "--lines", "-q"], &lines);
    let mut command = desk.command(&["history", "@bob", "--all", "--profile", "alice"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_receiver_whose_pipe_is_closed_has_not_given_what_it_could_not_print() {
    let desk = Desk::new(&["alice", "bob"]);
    desk.says("bob", &["recv"]);
    let mut command = desk.command(&["recv", "-f", "--profile", "bob"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    desk.says("alice", &["send", "@bob", "still there?"]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(desk.says("bob", &["recv"]).contains("still there?"));
}

#[test]
fn what_is_no_text_arrives_whole() {
    let desk = Desk::new(&["alice", "bob"]);
    let text = "grüß 你好\n";
    desk.told("alice", &["send", "@bob", "-", "--content-type", "text/markdown"], text);
    let json = desk.says("bob", &["recv", "-o", "jsonl"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (value["text"].as_str(), &value["content_type"]),
        (Some(text), &"text/markdown".into())
    );
}

/// The log had colours wherever it went: nobody had asked whether stderr is a terminal.
#[test]
fn a_log_that_is_no_terminal_has_no_colours() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_roamd"))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .env_remove("NO_COLOR")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("listens on") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    log.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(text.contains("draining") && !text.contains('\x1b'), "{text}");
}
