//! The real daemon: started, killed, stopped and started again on one temporary data directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use roamd::{
    auth::{KeyRing, Scope, Scopes},
    id::{DeviceId, UserId},
    time::Timestamp,
    wire::proto::{Hello, Position},
};
use tempfile::TempDir;

use super::{Client, DEADLINE, tls};

/// The variable of the address for TLS.
const TLS_ADDRESS: &str = "ROAMD_TLS__ADDRESS";

/// A daemon. Killed when dropped; its log is printed when the test has failed.
pub struct Daemon {
    dir: TempDir,
    listen: &'static str,
    settings: Vec<(String, String)>,
    /// A program that lives are started under, with its arguments.
    under: Vec<String>,
    child: Child,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// With the default settings, but for a small journal, and no
    /// rates: tests are faster than people, and machines that test are slower.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With some settings changed: `("limits.inbox_entries", "10")`.
    #[track_caller]
    pub fn with(settings: &[(&str, &str)]) -> Self {
        if tls::everywhere() {
            return Self::with_tls(settings);
        }
        Self::launch_in(tempfile::tempdir().expect("temporary directory"), settings)
    }

    /// The same, with TLS on an address of its own, by a certificate for development.
    #[track_caller]
    pub fn with_tls(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let made = command(&[]).args(["cert", "dev", "--data"]).arg(dir.path()).output();
        let made = made.expect("run");
        assert!(made.status.success(), "{made:?}");
        let with = [settings, &[("tls.address", "127.0.0.1:0")]].concat();
        let mut daemon = Self::launch_in(dir, &with);
        // The same port after a restart.
        let address = daemon.tls_address().to_string();
        for (name, value) in &mut daemon.settings {
            if name == TLS_ADDRESS {
                value.clone_from(&address);
            }
        }
        daemon
    }

    #[track_caller]
    fn launch_in(dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let small = [
            ("store.segment_bytes", "1MiB"),
            ("store.cache_bytes", "16MiB"),
            ("limits.sends_per_second", "0"),
            ("limits.waiting_time", "1h"),
            ("limits.sessions_per_second", "0"),
        ];
        let settings: Vec<_> = small
            .iter()
            .chain(settings)
            .map(|(key, value)| {
                let name = format!("ROAMD_{}", key.replace('.', "__").to_uppercase());
                (name, (*value).to_owned())
            })
            .collect();
        let log = Arc::default();
        let listen = "127.0.0.1:0";
        let (child, address, tls_address) = launch(dir.path(), listen, &settings, &[], &log);
        let under = Vec::new();
        Self { dir, listen, settings, under, child, address, tls_address, log }
    }

    /// SIGKILL, then a new process on the same data.
    #[track_caller]
    pub fn crash(&mut self) {
        self.kill();
        self.relaunch();
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM, the end of the process, then a new one on the same data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.terminate();
        let status = self.ended();
        assert!(status.success(), "a drain ends with {status}");
        self.relaunch();
    }

    /// A new process on the same data; the one before has ended.
    #[track_caller]
    pub fn relaunch(&mut self) {
        let (dir, settings, under) = (self.dir.path(), &self.settings, &self.under);
        (self.child, self.address, self.tls_address) =
            launch(dir, self.listen, settings, under, &self.log);
    }

    /// Lives that begin from now on are started under this program, which becomes the daemon; empty =
    /// under none.
    pub fn under(&mut self, program: &[&str]) {
        self.under = program.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Makes it read keys, limits and certificate again, and waits until it has.
    #[track_caller]
    pub fn reload(&self) {
        let count = || self.log().matches(" reloaded: ").count();
        let before = count();
        self.signal("HUP");
        until("the reload", || (count() > before).then_some(()));
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
        assert!(sent.success(), "SIG{name} was not sent");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for its end, and until all it has logged is here.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = until("the end of the daemon", || child.try_wait().expect("wait"));
        // The thread that reads it has a share as long as something may come.
        until("the end of the log", || (Arc::strong_count(&self.log) == 1).then_some(()));
        status
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for TLS.
    #[track_caller]
    pub fn tls_address(&self) -> SocketAddr {
        self.tls_address.expect("a daemon with TLS")
    }

    /// The authority of its development certificate.
    pub fn authority(&self) -> PathBuf {
        self.data().join("tls/ca.pem")
    }

    /// A connection through TLS on which nothing has been said.
    #[track_caller]
    pub fn connect_tls(&self) -> Client {
        let relay = tls::relay(self.tls_address(), &tls::trusting(&self.authority()));
        // So that connections come to the server in the order in which they were made.
        let _ = relay.shaken();
        Client::new(relay.near)
    }

    pub fn data(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").clone()
    }

    /// Waits until it has logged this: what it logs comes a moment after what it answers.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        until(&format!("the log to say {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// A connection on which nothing has been said.
    #[track_caller]
    pub fn connect(&self) -> Client {
        if tls::everywhere() {
            return self.connect_tls();
        }
        Client::new(TcpStream::connect(self.address).expect("connect"))
    }

    /// A good token of the user for any device.
    pub fn token(&self, user: &str) -> String {
        self.mint(user, None, &[Scope::Client], Duration::from_secs(3600), SystemTime::now())
    }

    /// Any token by this daemon's key.
    pub fn mint(
        &self,
        user: &str,
        device: Option<&str>,
        scopes: &[Scope],
        ttl: Duration,
        now: SystemTime,
    ) -> String {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let now = Timestamp::from_millis(since.as_millis() as u64);
        let ring = KeyRing::open(self.dir.path(), None, now).expect("keys");
        let user = UserId::new(user).expect("user");
        let device = device.map(|device| DeviceId::new(device).expect("device"));
        ring.mint(&user, device.as_ref(), Scopes::of(scopes), ttl, now).expect("token")
    }

    /// A Hello with this token.
    pub fn greeting_by(&self, token: impl Into<String>, device: &str) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.into(),
            device_id: device.into(),
            platform: "test".into(),
            client: "end_to_end/1".into(),
            ..Hello::default()
        }
    }

    /// From the next launch on there is no plain address.
    pub fn only_tls(&mut self) {
        self.listen = "off";
    }

    /// A Hello that will be welcome.
    pub fn greeting(&self, user: &str, device: &str) -> Hello {
        self.greeting_by(self.token(user), device)
    }

    /// A session that has just been welcomed.
    #[track_caller]
    pub fn open(&self, hello: Hello) -> Client {
        let mut client = self.connect();
        client.greet(hello);
        client
    }

    /// A session that continues at a position; nothing is waited for after Welcome.
    #[track_caller]
    pub fn resume(&self, user: &str, device: &str, at: Position) -> Client {
        self.open(Hello { resume: Some(at), ..self.greeting(user, device) })
    }

    /// A session of a new device: Hello, TooLong, Resume at the head, CaughtUp.
    #[track_caller]
    pub fn login(&self, user: &str, device: &str) -> Client {
        let mut client = self.open(self.greeting(user, device));
        let too_long = client.too_long();
        client.adopt(&too_long);
        client.caught_up();
        client
    }

    /// Runs a command of the same binary on the same data, and waits for its end.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = command(&self.settings);
        if self.tls_address.is_some() {
            // The address is in use; another process shall fail for its own reasons.
            command.env(TLS_ADDRESS, "127.0.0.1:0");
        }
        command.args(args).arg("--data").arg(self.data()).output().expect("run")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the daemon's log ---\n{}---", self.log());
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
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn command(settings: &[(String, String)]) -> Command {
    command_under(&[], settings)
}

fn command_under(under: &[String], settings: &[(String, String)]) -> Command {
    let roamd = env!("CARGO_BIN_EXE_roamd");
    let mut command = match under.split_first() {
        None => Command::new(roamd),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(roamd);
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROAMD_") {
            command.env_remove(name);
        }
    }
    command.envs(settings.iter().cloned()).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Starts a process and waits until it says where it listens.
#[track_caller]
fn launch(
    data: &Path,
    listen: &str,
    settings: &[(String, String)],
    under: &[String],
    log: &Arc<Mutex<String>>,
) -> (Child, SocketAddr, Option<SocketAddr>) {
    fs::create_dir_all(data).expect("data directory");
    let mut child = command_under(under, settings)
        .args(["serve", "--listen", listen, "--data"])
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let (found, address) = mpsc::channel();
    let log = Arc::clone(log);
    let kept = Arc::clone(&log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let at = line.split_once(" listens on ").map(|(_, at)| at);
            if let Some(at) = at.or_else(|| line.strip_prefix("  tls        ")) {
                let at = at.split_whitespace().next().unwrap_or_default();
                let _ = found.send(at.parse::<SocketAddr>());
            }
            let mut log = kept.lock().expect("log");
            log.push_str(&line);
            log.push('\n');
        }
    });
    let mut next = || match address.recv_timeout(DEADLINE) {
        Ok(address) => address.expect("an address"),
        Err(_) => {
            let _ = child.kill();
            panic!("the daemon does not listen: {}", log.lock().expect("log"));
        }
    };
    let first = next();
    let tls = settings.iter().any(|(name, _)| name == TLS_ADDRESS).then(&mut next);
    (child, first, tls)
}
