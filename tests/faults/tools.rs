//! What the faults are made with, and whether it is there.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
};

use tempfile::TempDir;

use crate::witness::Complaints;

/// Tests with much traffic take turns: there are two cores.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether the whole of something is wanted, and not its slice.
pub fn full() -> bool {
    std::env::var_os("FAULT_FULL").is_some_and(|value| value == "1")
}

/// Runs a command that must succeed for a test to be possible; says why it is skipped.
pub fn possible(program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => true,
        Ok(Output { status, stderr, .. }) => {
            let why = String::from_utf8_lossy(&stderr);
            println!("SKIPPED: {program} does not do its work here: {status} {why}");
            false
        }
        Err(error) => {
            println!("SKIPPED: {program} cannot be started: {error}");
            false
        }
    }
}

/// Whether strace may do its work.
pub fn may_trace() -> bool {
    possible("strace", &["-f", "--seccomp-bpf", "-qq", "-e", "trace=none", "true"])
}

pub fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        println!("SKIPPED: only root can do that");
    }
    root
}

/// A program to start the daemon under, so that strace changes these calls of it. The daemon is our
/// child, strace is not.
pub fn strace(calls: &str, change: &str) -> Vec<String> {
    let words = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    // Faster, but a signal that is injected so does not arrive.
    if !change.starts_with("signal") {
        words.push("--seccomp-bpf".into());
    }
    words.extend(["-e".into(), format!("trace={calls}")]);
    words.extend(["-e".into(), format!("inject={calls}:{change}")]);
    words
}

/// A strace that looks at a process from now on.
pub struct Tracer(Child);

impl Tracer {
    /// Attaches to all threads of a process; done when this returns.
    pub fn attach(pid: u32, calls: &str, change: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-p", &pid.to_string()]);
        command.args(["-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{change}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().expect("strace");
        let mut lines = BufReader::new(strace.stderr.take().expect("stderr")).lines();
        let attached = lines.by_ref().map_while(Result::ok).any(|line| line.contains("attached"));
        assert!(attached, "strace does not attach");
        // So that it is never blocked by what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self(strace)
    }

    /// Lets the process go on as it is.
    pub fn detach(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.end();
    }
}

/// A directory for one run; kept when there is something to see in it.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("roamd-faults-").tempdir().unwrap()
}

/// Fails with all of it, and how to do it again.
pub fn none(complaints: &Complaints, what: &str, again: &str, dir: &mut Option<TempDir>) {
    if complaints.is_empty() {
        return;
    }
    let kept = dir.take().map(TempDir::keep);
    let list = complaints.iter().take(20).map(|text| format!("\n- {text}")).collect::<String>();
    panic!(
        "{what}: {} complaints{list}\ndata directory: {kept:?}\nagain: {again}",
        complaints.len()
    );
}

/// A figure of a process, in KiB, as `/proc/PID/status` has it.
pub fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
