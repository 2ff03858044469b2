//! What the daemon has used, as the kernel counts it: processor time and wake-ups by thread, bytes
//! given to the disk, and system calls if asked for.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::{figures::Outcome, server::Server};

/// System calls that are counted by name; all others together are `other`.
const CALLS: [&str; 8] = [
    "sendto",
    "recvfrom",
    "futex",
    "epoll_wait",
    "fdatasync",
    "pwrite64",
    "sched_yield",
    "mprotect",
];

#[derive(Clone, Copy, Default)]
struct Thread {
    nanos: u64,
    wakes: u64,
}

#[derive(Default)]
struct Snapshot {
    threads: BTreeMap<String, Thread>,
    written: u64,
}

/// The number behind `name` in a text of lines `name: number`.
fn number(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').trim().parse().ok())
        .unwrap_or(0)
}

impl Snapshot {
    fn take(server: &Server) -> Self {
        let mut snapshot = Self::default();
        let dir = format!("/proc/{}", server.id());
        for task in fs::read_dir(format!("{dir}/task")).into_iter().flatten().flatten() {
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let name = match read("comm").trim() {
                name if name.starts_with("tokio") => "connections".to_owned(),
                name if name.starts_with("sled") => "sled".to_owned(),
                "roamd" => "accept".to_owned(),
                name => name.to_owned(),
            };
            let nanos = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok());
            let thread = snapshot.threads.entry(name).or_default();
            thread.nanos += nanos.unwrap_or(0);
            thread.wakes += number(&read("status"), "voluntary_ctxt_switches");
        }
        let io = fs::read_to_string(format!("{dir}/io")).unwrap_or_default();
        snapshot.written = number(&io, "write_bytes");
        snapshot
    }
}

/// A stretch of time in which the daemon is watched.
pub struct Window<'a> {
    server: &'a Server,
    start: Instant,
    before: Snapshot,
    calls: Option<Child>,
}

impl<'a> Window<'a> {
    /// With `calls`, system calls are counted too, which needs `perf` and costs a little.
    pub fn open(server: &'a Server, calls: bool) -> Self {
        let calls = calls.then(|| {
            let events = CALLS.map(|call| format!("syscalls:sys_enter_{call}")).join(",");
            Command::new("perf")
                .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-e", &events, "-p"])
                .arg(server.id().to_string())
                .stderr(Stdio::piped())
                .spawn()
                .expect("--syscalls needs perf")
        });
        Self { server, start: Instant::now(), before: Snapshot::take(server), calls }
    }

    pub fn close(self) -> Spent {
        let seconds = self.start.elapsed().as_secs_f64();
        let after = Snapshot::take(self.server);
        let calls = self.calls.map(counted).unwrap_or_default();
        let mut threads = BTreeMap::new();
        for (name, now) in &after.threads {
            let then = self.before.threads.get(name).copied().unwrap_or_default();
            let used = Thread {
                nanos: now.nanos.saturating_sub(then.nanos),
                wakes: now.wakes.saturating_sub(then.wakes),
            };
            threads.insert(name.clone(), used);
        }
        Spent {
            seconds,
            threads,
            written: after.written.saturating_sub(self.before.written),
            calls,
        }
    }
}

fn counted(mut perf: Child) -> Vec<(String, f64)> {
    let stop = Command::new("kill").args(["-INT", &perf.id().to_string()]).status();
    assert!(stop.expect("kill").success());
    let mut text = String::new();
    if let Some(mut output) = perf.stderr.take() {
        std::io::Read::read_to_string(&mut output, &mut text).expect("what perf says");
    }
    perf.wait().expect("a child");
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse().ok()?;
        let name = fields.nth(1)?.rsplit("sys_enter").next()?.trim_start_matches('_');
        Some((if name.is_empty() { "all" } else { name }.to_owned(), count))
    });
    counts.collect()
}

/// What was used in a [`Window`].
pub struct Spent {
    pub seconds: f64,
    threads: BTreeMap<String, Thread>,
    written: u64,
    calls: Vec<(String, f64)>,
}

impl Spent {
    /// Processor time of all threads, in microseconds.
    pub fn micros(&self) -> f64 {
        self.threads.values().map(|thread| thread.nanos as f64 / 1e3).sum()
    }

    /// Processor time of the threads that lie on the way to an answer: not of what is moved to the trees
    /// behind them.
    pub fn micros_to_answer(&self) -> f64 {
        ["writer", "connections"]
            .iter()
            .filter_map(|name| self.threads.get(*name))
            .map(|thread| thread.nanos as f64 / 1e3)
            .sum()
    }

    /// What each of so many operations took.
    pub fn per(&self, operations: f64, what: &str, outcome: &mut Outcome) {
        outcome.add(&format!("processor time / {what}"), self.micros() / operations, "us");
        for (name, thread) in &self.threads {
            let micros = thread.nanos as f64 / 1e3 / operations;
            if micros >= 0.05 {
                outcome.add(&format!("  {name}"), micros, "us");
            }
        }
        let wakes: u64 = self.threads.values().map(|thread| thread.wakes).sum();
        outcome.add(&format!("wake-ups / {what}"), wakes as f64 / operations, "");
        if self.written > 0 {
            let written = self.written as f64 / operations;
            outcome.add(&format!("bytes to the disk / {what}"), written, "B");
        }
        for (name, count) in &self.calls {
            if count / operations >= 0.005 {
                let name = if name == "all" {
                    format!("system calls / {what}")
                } else {
                    format!("  {name}")
                };
                outcome.add(&name, count / operations, "");
            }
        }
    }
}
