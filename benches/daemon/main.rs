//! Load on the shipped daemon: `cargo bench --bench daemon [-- SCENARIO…]`.
//!
//! Starts the real binary on a temporary data directory and drives it over loopback from one thread.
//! Every ack it counts is durable: one fdatasync of the journal lies before it. Each scenario prints
//! its figure beside a floor measured in the same run, so that the noise of the machine cancels.
//! `ROAMD_BENCH_DIR` chooses the disk, `ROAMD_BENCH_SECONDS` the length.

#![allow(
    missing_docs,
    clippy::panic,
    reason = "a program of its own, which stops at the first surprise"
)]

mod floor;
mod scenarios;
mod wire;

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use roamd::{
    auth::{KeyRing, Scopes},
    id::UserId,
    time::Timestamp,
};

/// The daemon as a child process, killed at the end.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub tls: SocketAddr,
    pub trusts: Arc<rustls::ClientConfig>,
    pub dir: PathBuf,
    keys: KeyRing,
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        let roamd = || Command::new(env!("CARGO_BIN_EXE_roamd"));
        let made =
            roamd().args(["cert", "dev", "--data"]).arg(dir).output().expect("a certificate");
        assert!(made.status.success(), "{made:?}");
        let any = "127.0.0.1:0";
        let mut child = roamd()
            .args(["serve", "--listen", any, "--tls-listen", any, "--log", "error", "--data"])
            .arg(dir)
            // The driver is more than one person.
            .envs(["SENDS", "SESSIONS"].map(|of| (format!("ROAMD_LIMITS__{of}_PER_SECOND"), "0")))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        let first = lines.next().expect("a first line").expect("text");
        let address = first.rsplit(' ').next().expect("an address").parse().expect(&first);
        let second = lines.next().expect("a second line").expect("text");
        let tls = second.split_whitespace().nth(1).expect("an address").parse().expect(&second);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let keys = KeyRing::open(dir, None, now()).expect("the daemon has made keys");
        let trusts = wire::trusting(&dir.join("tls/ca.pem"));
        Self { child, address, tls, trusts, dir: dir.to_owned(), keys }
    }

    pub fn token(&self, user: &str) -> String {
        let user = UserId::new(user).expect("an id");
        let scopes = "client".parse::<Scopes>().expect("a scope");
        let day = Duration::from_secs(86_400);
        self.keys.mint(&user, None, scopes, day, now()).expect("a token")
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Processor time used, in seconds.
    pub fn cpu(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let text = text.unwrap_or_default();
        let fields = text.rsplit(") ").next().unwrap_or("").split(' ').collect::<Vec<_>>();
        let ticks =
            |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as u64)
}

fn main() {
    let wanted: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let seconds = env::var("ROAMD_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let length = Duration::from_secs(seconds);
    let parent = env::var_os("ROAMD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _ = rlimit::increase_nofile_limit(20_000);
    for (name, scenario) in scenarios::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let dir = tempfile::Builder::new()
            .prefix("roamd-bench")
            .tempdir_in(&parent)
            .expect("a directory");
        let floor = floor::fdatasync_p50(dir.path());
        let server = Server::start(&dir.path().join("data"));
        println!("{name} (fdatasync p50 {:.0} us)", floor.as_secs_f64() * 1e6);
        runtime.block_on(scenario(&server, length, floor));
    }
}
