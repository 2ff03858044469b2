//! Exit statuses, and what is said with them.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, process::Output, process::Stdio};

use super::Desk;

#[track_caller]
fn check(output: &Output, status: i32, says: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(stderr.contains(says), "{stderr}");
    assert!(output.stdout.is_empty(), "only data goes to stdout: {output:?}");
}

#[test]
fn each_kind_of_failure_has_its_status_and_a_hint() {
    let desk = Desk::new(&["alice"]);
    check(&desk.run("alice", &["send"]), 2, "Usage");
    check(&desk.run("alice", &["ping", "--lines"]), 2, "Usage");
    check(&desk.run("nobody", &["ping"]), 3, "roam profile ls");
    check(&desk.run("alice", &["ping", "--user", "bob"]), 3, "the token is alice's, not bob's");
    check(&desk.run("alice", &["ping", "--token", "x"]), 3, "not a token");
    check(&desk.run("alice", &["ping", "--server", "127.0.0.1:1"]), 4, "is roamd running there?");
    check(&desk.run("alice", &["history", "nowhere"]), 5, "NOT_FOUND");
    let forged = format!("{}x", desk.daemon.token("alice"));
    check(&desk.run("alice", &["ping", "--token", &forged]), 5, "UNAUTHENTICATED");
    let large = "x".repeat(70_000);
    let output = desk.command(&["send", "@bob", &large, "--profile", "alice"]).output().unwrap();
    check(&output, 5, "CONTENT_TOO_LARGE");
}

#[test]
fn a_server_that_says_nothing_is_a_timeout() {
    let desk = Desk::new(&["alice"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for command in [&["ping"][..], &["recv"], &["send", "@bob", "hi"]] {
        let args = [command, &["--server", &address, "--timeout", "150ms"]].concat();
        check(&desk.run("alice", &args), 6, "--timeout gives it longer");
    }
}

#[test]
fn no_token_is_said_with_the_way_to_one() {
    let desk = Desk::new(&[]);
    let output = desk.command(&["recv"]).output().unwrap();
    check(&output, 3, "roamd token mint");
}

#[test]
fn profiles_are_private_and_do_not_show_tokens() {
    let desk = Desk::new(&["alice", "bob"]);
    let file = desk.config().join("profiles.toml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let list = desk.says("alice", &["profile", "ls", "-o", "json"]);
    let profiles: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(profiles[0]["user"], "alice");
    assert_eq!(profiles[1]["current"], true, "the last one added is used");
    assert!(!list.contains("ey"), "no token is shown: {list}");

    let who = |desk: &Desk| {
        let output = desk.command(&["ping", "-o", "json"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["user"].clone()
    };
    assert_eq!(who(&desk), "bob");
    assert!(desk.command(&["profile", "use", "alice"]).status().unwrap().success());
    assert_eq!(who(&desk), "alice");
    assert!(desk.command(&["profile", "rm", "alice"]).status().unwrap().success());
    assert_eq!(desk.command(&["ping"]).stderr(Stdio::null()).status().unwrap().code(), Some(3));
    std::fs::write(&file, "current = 7").unwrap();
    let output = desk.command(&["ping"]).output().unwrap();
    check(&output, 3, "profiles.toml");
}

#[test]
fn a_token_can_come_from_a_file_or_stdin() {
    let desk = Desk::new(&[]);
    let file = desk.config().join("token.txt");
    std::fs::write(&file, format!("{}\n", desk.daemon.token("carol"))).unwrap();
    let server = desk.daemon.address().to_string();
    let add = ["profile", "add", "c", "--server", &server, "--token-file"];
    assert!(desk.command(&add).arg(&file).status().unwrap().success());
    assert!(desk.says("c", &["ping", "-o", "json"]).contains(r#""user":"carol""#));
}

#[test]
fn every_command_teaches_by_example() {
    let desk = Desk::new(&[]);
    let help = |args: &[&str]| {
        let output = desk.command(&[args, &["--help"]].concat()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help(&[]).contains("Exit status: 0 ok"));
    let commands = [
        "ping",
        "send",
        "recv",
        "sync",
        "history",
        "convs",
        "unread",
        "read",
        "mark-unread",
        "recall",
        "edit",
        "delete",
        "cancel",
        "clear",
        "prefs",
        "readers",
        "mutations",
        "presence",
        "typing",
        "devices",
    ];
    for command in commands {
        assert!(help(&[command]).contains("Examples:"), "{command}");
    }
    assert!(help(&["group", "create"]).contains("Examples:"));
    assert!(help(&["group", "role"]).contains("Examples:"));
    assert!(help(&["devices", "revoke"]).contains("Examples:"));
    assert!(help(&["admin", "notice"]).contains("Examples:"));
    assert!(help(&["profile", "add"]).contains("Examples:"));
}
