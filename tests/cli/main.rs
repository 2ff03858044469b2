//! `roam` as people and scripts use it: the shipped program against the shipped daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod large;
mod look;
mod receive;
mod statuses;
mod terminal;
mod tls;

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use support::Daemon;
use tempfile::TempDir;

/// A daemon and a folder with profiles for its users.
struct Desk {
    daemon: Daemon,
    folder: TempDir,
}

impl Desk {
    fn new(users: &[&str]) -> Self {
        Self::with(users, &[])
    }

    /// With settings of the daemon.
    fn with(users: &[&str], settings: &[(&str, &str)]) -> Self {
        let desk = Self { daemon: Daemon::with(settings), folder: tempfile::tempdir().unwrap() };
        for user in users {
            let server = desk.daemon.address().to_string();
            let token = desk.daemon.token(user);
            let add = ["profile", "add", user, "--server", &server, "--token", &token];
            let added = desk.command(&add).output().unwrap();
            assert!(added.status.success(), "{added:?}");
        }
        desk
    }

    fn config(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roam"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROAM_") {
                command.env_remove(name);
            }
        }
        command.args(args).env("ROAM_CONFIG", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command as a user.
    fn run(&self, user: &str, args: &[&str]) -> Output {
        self.command(args).args(["--profile", user]).output().unwrap()
    }

    /// What a command prints, which must succeed.
    #[track_caller]
    fn says(&self, user: &str, args: &[&str]) -> String {
        printed(self.run(user, args))
    }

    /// The same, with something on stdin.
    #[track_caller]
    fn told(&self, user: &str, args: &[&str], stdin: &str) -> String {
        let mut command = self.command(args);
        command.args(["--profile", user]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        printed(child.wait_with_output().unwrap())
    }
}

#[track_caller]
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The texts of messages printed with `-o jsonl`.
fn texts(jsonl: &str) -> Vec<String> {
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["text"].as_str().unwrap_or_default().to_owned()
    };
    jsonl.lines().map(text).collect()
}
