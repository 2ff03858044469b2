//! The daemon as a process: started, watched, killed.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a start, a stop or a command may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Last lines of the daemon's log that a failure shows.
const LOG_LINES: usize = 60;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The data directory.
    pub data: PathBuf,
    /// Settings, as environment variables.
    pub env: Vec<(&'static str, String)>,
    /// A program to run the daemon under, with its arguments.
    pub under: Vec<OsString>,
}

impl Launch {
    /// With a store so small that memory is moved to the trees, and segments are filled and given
    /// back, many times a second.
    pub fn small_store(data: &Path) -> Self {
        let env = [
            ("ROAMD_STORE__MEMORY_BYTES", "64KiB"),
            ("ROAMD_STORE__SEGMENT_BYTES", "256KiB"),
            ("ROAMD_STORE__CACHE_BYTES", "8MiB"),
            ("ROAMD_STORE__CHECKPOINT_INTERVAL", "100ms"),
            // Trims all the time, and still holds all of one round.
            ("ROAMD_LIMITS__INBOX_ENTRIES", "2500"),
            // The load is faster than people are.
            ("ROAMD_LIMITS__SENDS_PER_SECOND", "0"),
            ("ROAMD_LIMITS__WAITING_TIME", "1h"),
            ("ROAMD_LIMITS__SESSIONS_PER_SECOND", "0"),
        ];
        let env = env.map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { data: data.to_owned(), env, under: Vec::new() }
    }

    /// With so much memory that nothing is moved to the trees in one life: the journal alone keeps
    /// what was acked, over many segments.
    pub fn rarely_checkpoint(&mut self) {
        self.env.retain(|(name, _)| !name.contains("MEMORY") && !name.contains("CHECKPOINT"));
        self.env.push(("ROAMD_STORE__MEMORY_BYTES", "64MiB".to_owned()));
        self.env.push(("ROAMD_STORE__CHECKPOINT_INTERVAL", "1h".to_owned()));
    }

    fn command(&self, under: &[OsString]) -> Command {
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
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the daemon. It may not be ready yet, nor ever be.
    pub fn spawn(&self) -> Roamd {
        let mut command = self.command(&self.under);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(&self.data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("roamd can be started");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (ready, address) = mpsc::channel();
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once(" listens on ")
                    && let Ok(address) = address.trim().parse()
                {
                    let _ = ready.send(address);
                }
                let mut lines = lines.lock().expect("no panic while locked");
                if lines.len() == LOG_LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        });
        Roamd { child, address, log, reader: Some(reader), started: Instant::now() }
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(&self) -> Result<(Roamd, SocketAddr), String> {
        let mut roamd = self.spawn();
        match roamd.ready(PATIENCE) {
            Some(address) => Ok((roamd, address)),
            None => Err(roamd.obituary("roamd does not start")),
        }
    }

    /// A token for all devices of a user.
    pub fn mint(&self, user: &str) -> Result<String, String> {
        let mut command = self.command(&[]);
        command.args(["token", "mint", "--ttl", "30d", "--user", user, "--data"]).arg(&self.data);
        Ok(run(&mut command)?.trim().to_owned())
    }

    /// The daemon's own check of the data directory, whose daemon has been stopped or killed.
    pub fn verify(&self) -> Result<String, String> {
        let tools = self.tool(&["store", "--help"])?;
        match tools.lines().any(|line| line.trim_start().starts_with("verify")) {
            true => self.tool(&["store", "verify"]),
            false => Ok("SKIPPED: this roamd has no `store verify`".to_owned()),
        }
    }

    /// Runs another command of roamd on the data directory and returns what it prints.
    pub fn tool(&self, arguments: &[&str]) -> Result<String, String> {
        run(self.command(&[]).args(arguments).arg("--data").arg(&self.data))
    }
}

/// Runs a command to its end; stdout, or what went wrong.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, complaint.trim()))
}

/// A running daemon. Killed when dropped.
pub struct Roamd {
    child: Child,
    address: Receiver<SocketAddr>,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
    /// When it was started.
    pub started: Instant,
}

impl Roamd {
    /// Where it listens; none when it has ended, or has not said so in time.
    pub fn ready(&mut self, patience: Duration) -> Option<SocketAddr> {
        self.address.recv_timeout(patience).ok()
    }

    /// Lets so much time pass, or less if it becomes ready.
    pub fn startup(&mut self, time: Duration) {
        match self.address.recv_timeout(time) {
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    /// kill -9.
    pub fn kill(&mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.reap()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args([&format!("-{name}"), &pid]).status();
    }

    /// Stops it from running, and waits until it does not.
    pub fn freeze(&self) -> Result<(), String> {
        let id = self.child.id().to_string();
        run(Command::new("kill").args(["-STOP", &id]))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
            let stat = stat.map_err(|error| error.to_string())?;
            let state = stat.rsplit(')').next().unwrap_or_default();
            if state.trim_start().starts_with('T') {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{id} does not stand still: {stat}"));
            }
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        let _ = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status();
    }

    /// Waits for its end.
    pub fn reap(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("a child can be waited for");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// Its end, or its last words when it does not come in time. Kills it then.
    pub fn reap_in_time(&mut self) -> Result<ExitStatus, String> {
        // stderr closes when the process is gone.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.address.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(self.reap()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.obituary("roamd does not end"));
                }
            }
        }
    }

    /// What it logged last.
    pub fn last_words(&self) -> String {
        let lines = self.log.lock().expect("no panic while locked");
        lines.iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Whether a line of its log says this.
    pub fn said(&self, text: &str) -> bool {
        self.log.lock().expect("no panic while locked").iter().any(|line| line.contains(text))
    }

    /// Ends it and tells how it ended.
    pub fn obituary(&mut self, what: &str) -> String {
        let by_itself = self.ended().is_some();
        let status = self.kill();
        let end = match (by_itself, status.code(), status.signal()) {
            (false, ..) => "did not end by itself".to_owned(),
            (true, Some(code), _) => format!("exit status {code}"),
            (true, None, signal) => format!("signal {signal:?}"),
        };
        format!("{what} ({end}); its last words:{}", self.last_words())
    }
}

impl Drop for Roamd {
    fn drop(&mut self) {
        self.kill();
    }
}
