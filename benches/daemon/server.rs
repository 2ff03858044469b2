//! The daemon as a child process, and what a driver must know to reach it.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use roamd::{
    auth::{KeyRing, Scopes},
    id::UserId,
    time::Timestamp,
};

use crate::link;

/// Something that speaks the protocol.
pub struct Target {
    pub address: SocketAddr,
    pub tls: Option<(SocketAddr, Arc<rustls::ClientConfig>)>,
    /// None: any text is a token, and names the user.
    pub keys: Option<KeyRing>,
}

impl Target {
    pub fn token(&self, user: &str) -> String {
        let Some(keys) = &self.keys else { return user.to_owned() };
        let user = UserId::new(user).expect("an id");
        let scopes = "client".parse::<Scopes>().expect("a scope");
        let day = Duration::from_secs(86_400);
        keys.mint(&user, None, scopes, day, now()).expect("a token")
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as u64)
}

/// The daemon, killed at the end.
pub struct Server {
    child: Child,
    pub target: Rc<Target>,
    pub dir: PathBuf,
    /// From the start of the process until it listened.
    pub opened_in: Duration,
}

/// `ROAMD_BENCH_DAEMON` = another binary than the one that was built with this one.
fn binary() -> OsString {
    env::var_os("ROAMD_BENCH_DAEMON").unwrap_or_else(|| env!("CARGO_BIN_EXE_roamd").into())
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        if !dir.join("tls").exists() {
            let made = Command::new(binary()).args(["cert", "dev", "--data"]).arg(dir).output();
            let made = made.expect("a certificate");
            assert!(made.status.success(), "{made:?}");
        }
        let any = "127.0.0.1:0";
        let start = Instant::now();
        let mut child = Command::new(binary())
            .args(["serve", "--listen", any, "--tls-listen", any, "--log", "error", "--data"])
            .arg(dir)
            // The driver is more than one person.
            .envs(["SENDS", "SESSIONS"].map(|of| (format!("ROAMD_LIMITS__{of}_PER_SECOND"), "0")))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
        let first = lines.next().expect("a first line").expect("text");
        let opened_in = start.elapsed();
        let address = first.rsplit(' ').next().expect("an address").parse().expect(&first);
        let second = lines.next().expect("a second line").expect("text");
        let tls = second.split_whitespace().nth(1).expect("an address").parse().expect(&second);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let keys = KeyRing::open(dir, None, now()).expect("the daemon has made keys");
        let trusts = link::trusting(&dir.join("tls/ca.pem"));
        let target = Rc::new(Target { address, tls: Some((tls, trusts)), keys: Some(keys) });
        Self { child, target, dir: dir.to_owned(), opened_in }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Most that was ever resident, in bytes.
    pub fn resident_most(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kibibytes.unwrap_or(0) * 1024
    }

    /// An orderly stop: everything is in the trees.
    pub fn stop(mut self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill").success());
        let ended = self.child.wait().expect("a child");
        assert!(ended.success(), "the daemon stops in order: {ended}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
