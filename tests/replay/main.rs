//! `roam replay` as a user runs it: real conversations through the shipped daemon, every device
//! checked, also with inboxes so small that most overflow and with the daemon killed on the way.
//!
//! `ROAMD_REPLAY_LOGS` names a folder of more IRC logs to replay as well.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::{Command, Output};

fn replay(args: &[&str]) -> Output {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replay/sample.txt");
    let mut command = Command::new(env!("CARGO_BIN_EXE_roam"));
    command.args(["replay", "--json", sample]).args(args);
    if let Some(folder) = std::env::var_os("ROAMD_REPLAY_LOGS") {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        command.args(files.filter(|file| file.extension().is_some_and(|ext| ext == "txt")));
    }
    command.output().unwrap()
}

#[track_caller]
fn check(output: &Output) -> serde_json::Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["violations"], 0);
    assert!(report["messages"].as_u64() > Some(100), "{report}");
    // What people do beside writing has happened, and has reached devices.
    for what in ["recalled", "edited", "deleted", "hidden", "joined_late", "left", "marked_read"] {
        assert!(report[what].as_u64() > Some(0), "{what}: {report}");
    }
    assert!(report["changes_delivered"].as_u64() > Some(100), "{report}");
    report
}

#[test]
fn every_device_ends_with_every_message_once_and_in_order() {
    let report = check(&replay(&["--seed", "1"]));
    assert!(report["catch_ups"].as_u64() > Some(100), "{report}");
    assert!(report["send_to_delivery"]["count"].as_u64() > Some(100), "{report}");
}

#[test]
fn small_inboxes_overflow_and_lose_nothing() {
    let report = check(&replay(&["--seed", "2", "--inbox-entries", "20"]));
    assert!(report["overflow_fallbacks"].as_u64() > Some(10), "{report}");
}

#[test]
fn a_killed_daemon_loses_nothing() {
    let report = check(&replay(&["--seed", "3", "--chaos", "3", "--inbox-entries", "50"]));
    assert_eq!(report["crashes"], 3);
    assert!(report["reconnects"].as_u64() > Some(10), "{report}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let output = Command::new(env!("CARGO_BIN_EXE_roam"))
        .args(["replay", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/replay/README.md")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no message in these files"));
}
