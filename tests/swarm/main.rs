//! The swarm as people run it: the shipped program, with a daemon of its own or against one that runs.
//!
//! No time is judged here: `--no-objectives`, or objectives that no machine can reach.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

#[path = "../support/mod.rs"]
mod support;

mod proxy;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use proxy::Proxy;
use support::Daemon;

fn roam(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roam"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROAM") {
            command.env_remove(name);
        }
    }
    command.args(["swarm"]).args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, status: i32) {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn count(record: &serde_json::Value, name: &str) -> u64 {
    record["counts"][name].as_u64().unwrap()
}

/// A scenario, small, with the record of it.
#[track_caller]
fn small(name: &str) -> serde_json::Value {
    let args = ["--users", "20", "--duration", "2s", "--no-objectives", "-o", "json"];
    let output = roam(&[&["run", name], &args[..]].concat());
    ends_with(&output, 0);
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(record["violations"].as_array().unwrap().len(), 0);
    assert_eq!(count(&record, "devices compared"), count(&record, "devices"));
    assert_eq!(count(&record, "sends acked"), count(&record, "sends due"));
    record
}

#[test]
fn chat() {
    let record = small("chat");
    assert!(count(&record, "deliveries") > 0);
    let acks = &record["latencies"]["send-to-ack"];
    assert_eq!(acks["count"].as_u64(), Some(count(&record, "sends acked")));
}

#[test]
fn big_group() {
    small("big-group-10k");
}

#[test]
fn reconnect_storm() {
    // The daemon was killed: everybody lost it.
    assert!(count(&small("reconnect-storm"), "sessions lost") >= 20);
}

#[test]
fn cold_sync() {
    let record = small("cold-sync-1000");
    assert!(count(&record, "deliveries to devices that had been away") > 0);
}

#[test]
fn multi_device() {
    small("multi-device");
}

#[test]
fn flaky_net() {
    assert!(count(&small("flaky-net"), "reconnects") > 0);
}

#[test]
fn mixed_day() {
    small("mixed-day");
}

#[test]
fn every_scenario_that_is_built_in_has_a_test() {
    let listed = roam(&["scenarios", "-o", "json"]);
    ends_with(&listed, 0);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let this = include_str!("main.rs");
    for scenario in listed.as_array().unwrap() {
        let name = scenario["name"].as_str().unwrap();
        assert!(this.contains(&format!("small({name:?})")), "{name}");
        let printed = roam(&["scenarios", name]);
        assert!(text(&printed.stdout).contains("description"));
    }
}

fn file(folder: &Path, text: &str) -> String {
    let path = folder.join("mine.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const MINE: &str = "description = \"mine\"\nusers = 4\nrate = 20.0\nduration = \"1s\"\n\
                    patience = \"10s\"\ndirect = { pairs = 3 }\n";

#[test]
fn a_missed_objective_is_status_8() {
    let folder = tempfile::tempdir().unwrap();
    let name = file(folder.path(), &format!("{MINE}[objectives]\ndeliveries = 1e9\n"));
    let output = roam(&["run", &name]);
    ends_with(&output, 8);
    assert!(text(&output.stdout).contains("every guarantee was kept"));
    ends_with(&roam(&["run", &name, "--no-objectives"]), 0);
}

#[test]
fn a_wrong_scenario_is_refused_with_the_name_of_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for (wrong, key) in [
        (format!("{MINE}colour = \"red\"\n"), "colour"),
        (format!("{MINE}[faults]\nabsent = 7.0\n"), "faults.absent"),
        (MINE.replace("20.0", "1e12"), "rate"),
    ] {
        let output = roam(&["run", &file(folder.path(), &wrong)]);
        ends_with(&output, 3);
        assert!(text(&output.stderr).contains(key), "{output:?}");
    }
    ends_with(&roam(&["run", "no-such-scenario"]), 2);
    ends_with(&roam(&["run", "chat", "--users", "0"]), 3);
    ends_with(&roam(&["capacity", "--slo", "p99=soon"]), 2);
    ends_with(&roam(&["run", "chat", "--server", "127.0.0.1:1"]), 2);
    ends_with(&roam(&["run", "chat", "--roamd", "/no/such/program"]), 4);
}

/// A swarm against a daemon behind a proxy that changes one byte of one content on its way to a device.
#[test]
fn more_devices_than_files_are_refused_before_they_wait_for_ever() {
    let limited = "ulimit -n 300 && exec \"$0\" swarm run chat --users 1000";
    let output = Command::new("sh").args(["-c", limited, env!("CARGO_BIN_EXE_roam")]).output();
    let output = output.unwrap();
    ends_with(&output, 3);
    let told = text(&output.stderr);
    assert!(told.contains("1000 devices need 1256 open files, and 300 are allowed"), "{told}");
}

#[test]
fn a_broken_guarantee_is_status_7_and_says_where() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let name = file(folder.path(), MINE);
    let run = |address: &str| {
        let key = daemon.data().to_str().unwrap().to_owned();
        roam(&["run", &name, "--server", address, "--key", &key, "--seed", "42"])
    };
    // The same daemon takes a second swarm.
    ends_with(&run(&daemon.address().to_string()), 0);
    let proxy = Proxy::start(daemon.address());
    let output = run(&proxy.address().to_string());
    ends_with(&output, 7);
    let said = text(&output.stdout);
    for part in ["violated: user ", "device d0", "conversation d.", "that nobody sent", "seed 42"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_daemon_with_tls_is_loaded_and_must_prove_its_name() {
    let daemon = Daemon::with_tls(&[]);
    let folder = tempfile::tempdir().unwrap();
    let name = file(folder.path(), MINE);
    let (address, authority) = (daemon.tls_address().to_string(), daemon.authority());
    let key = daemon.data().to_str().unwrap().to_owned();
    let args = ["run", &name, "--server", &address, "--key", &key];
    let trusting = ["--ca", authority.to_str().unwrap()];
    let output = roam(&[&args[..], &trusting].concat());
    ends_with(&output, 0);
    assert!(text(&output.stdout).contains("every guarantee was kept"));
    ends_with(&roam(&["run", &name, "--tls"]), 2);
}

#[test]
fn reports_of_two_runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let name = file(folder.path(), MINE);
    let [first, second] =
        ["first", "second"].map(|it| folder.path().join(it).to_str().unwrap().to_owned());
    for report in [&first, &second] {
        ends_with(&roam(&["run", &name, "--report", report]), 0);
        for part in ["report.json", "summary.md", "index.html", "latency.hgrm", "environment.json"]
        {
            assert!(Path::new(report).join(part).metadata().unwrap().len() > 0, "{part}");
        }
    }
    let compared = roam(&["compare", &first, &second, "-o", "json"]);
    ends_with(&compared, 0);
    let rows: serde_json::Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert!(rows.as_array().unwrap().len() > 5, "{rows}");
    ends_with(&roam(&["compare", &first, "/no/such/report"]), 1);
}

#[test]
fn a_run_that_is_ended_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let name = file(folder.path(), &MINE.replace("\"1s\"", "\"60s\""));
    let mut child = Command::new(env!("CARGO_BIN_EXE_roam"))
        .args(["swarm", "run", &name, "--progress"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    // A line of progress: it is under way.
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(left(), 2, "{line}");
    let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left(), 1);
}
