//! The daemon as a process, that can be killed and started again on its port.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use roamd::{
    auth::{KeyRing, Scope, Scopes},
    id::UserId,
    time::Timestamp,
};
use tempfile::TempDir;

use crate::DEADLINE;

pub struct Server {
    folder: TempDir,
    settings: Vec<(String, String)>,
    tls: bool,
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// With some settings changed: `("limits.inbox_entries", "10")`. Rates are those of one person, and
    /// one driver here is many, so there are none.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, false)
    }

    /// With TLS and nothing else on its port.
    pub fn start_tls(settings: &[(&str, &str)]) -> Self {
        Self::with(settings, true)
    }

    fn with(settings: &[(&str, &str)], tls: bool) -> Self {
        let own = [
            ("limits.sends_per_second", "0"),
            ("limits.sessions_per_second", "0"),
            ("log.level", "info"),
        ];
        let name = |key: &str| format!("ROAMD_{}", key.replace('.', "__").to_uppercase());
        let settings: Vec<_> = own
            .iter()
            .chain(settings)
            .map(|(key, value)| (name(key), (*value).to_owned()))
            .collect();
        let folder = tempfile::tempdir().expect("a directory");
        if tls {
            let made = roamd().args(["cert", "dev", "--data"]).arg(folder.path()).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        let log = Arc::default();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, address) = launch(folder.path(), &settings, any, tls, &log);
        Self { folder, settings, tls, child, address, log }
    }

    /// The certificate of its authority, when it speaks TLS.
    pub fn authority(&self) -> Option<PathBuf> {
        self.tls.then(|| self.folder.path().join("tls/ca.pem"))
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// A new process on the same data and port.
    pub fn relaunch(&mut self) {
        let address = self.address;
        (self.child, self.address) =
            launch(self.folder.path(), &self.settings, address, self.tls, &self.log);
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let text = fs::read_to_string(self.proc("statm")).expect("the daemon runs");
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the daemon runs").count()
    }

    pub fn threads(&self) -> usize {
        fs::read_dir(self.proc("task")).expect("the daemon runs").count()
    }

    /// Processor time used.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(self.proc("stat")).expect("the daemon runs");
        let fields: Vec<_> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the end of the daemon's log ---\n{}\n---", last.join("\n"));
        }
    }
}

/// Makes tokens by a daemon's key.
pub struct Mint(KeyRing);

impl Mint {
    pub fn open(data: &Path) -> Self {
        Self(KeyRing::open(data, None, now()).expect("the daemon has made keys"))
    }

    pub fn token(&self, user: &str) -> String {
        let user = UserId::new(user).expect("an id");
        let day = Duration::from_secs(86_400);
        self.0.mint(&user, None, Scopes::of(&[Scope::Client]), day, now()).expect("a token")
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as u64)
}

/// The program, with nothing set.
fn roamd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roamd"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROAMD_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1");
    command
}

fn launch(
    data: &Path,
    settings: &[(String, String)],
    listen: SocketAddr,
    tls: bool,
    log: &Arc<Mutex<String>>,
) -> (Child, SocketAddr) {
    let listen = listen.to_string();
    let listens: &[&str] =
        if tls { &["--listen", "off", "--tls-listen", &listen] } else { &["--listen", &listen] };
    let mut child = roamd()
        .envs(settings.iter().cloned())
        .arg("serve")
        .args(listens)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let (found, address) = mpsc::channel();
    let kept = Arc::clone(log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((_, address)) = line.split_once(" listens on ") {
                let address = address.split(' ').next().unwrap_or_default();
                let _ = found.send(address.parse());
            }
            let mut log = kept.lock().expect("log");
            log.push_str(&line);
            log.push('\n');
        }
    });
    match address.recv_timeout(DEADLINE) {
        Ok(address) => (child, address.expect("an address")),
        Err(_) => {
            let _ = child.kill();
            panic!("the daemon does not listen: {}", log.lock().expect("log"));
        }
    }
}

/// Looks again and again, with a pause, until there is something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(it) = look() {
            return it;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}
