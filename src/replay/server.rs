//! The daemon that is replayed to: one of our own as a child process, or one that runs already.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    auth::{KeyError, KeyRing, Scope, Scopes},
    clock::Clock,
    id::UserId,
};

/// Why there is no daemon to replay to.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program cannot be started.
    #[error("cannot start {0}: {1}")]
    Start(PathBuf, io::Error),
    /// The program has started and says nothing of where it listens.
    #[error("{0} does not say where it listens; its last words: {1}")]
    Silent(PathBuf, String),
    /// Its keys cannot be read, so there are no tokens.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A daemon to replay to.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    keys: KeyRing,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: PathBuf,
    data: PathBuf,
    inbox_entries: Option<u64>,
    child: Child,
}

impl Server {
    /// One that runs already, on a data directory whose keys we may read.
    ///
    /// # Errors
    /// [`ServerError::Keys`].
    pub fn running(address: SocketAddr, data: &Path) -> Result<Self, ServerError> {
        Ok(Self { address, keys: keys(data)?, own: None })
    }

    /// Starts one of our own on a data directory.
    ///
    /// # Errors
    /// [`ServerError`] says why not.
    pub fn start(
        program: &Path,
        data: &Path,
        inbox_entries: Option<u64>,
    ) -> Result<Self, ServerError> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, address) = spawn(program, data, inbox_entries, any)?;
        let own = Own { program: program.into(), data: data.into(), inbox_entries, child };
        Ok(Self { address, keys: keys(data)?, own: Some(own) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is ours to kill.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Kills our own daemon (SIGKILL) and starts it again on the same port.
    ///
    /// # Errors
    /// [`ServerError`] when it does not come back.
    pub fn crash(&mut self) -> Result<(), ServerError> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let _ = own.child.kill();
        let _ = own.child.wait();
        let (child, _) = spawn(&own.program, &own.data, own.inbox_entries, self.address)?;
        own.child = child;
        Ok(())
    }

    /// A token of a user, for a day.
    ///
    /// # Errors
    /// [`ServerError::Keys`].
    pub fn token(&self, user: &UserId) -> Result<String, ServerError> {
        let day = Duration::from_secs(86_400);
        let now = Clock::start().now().wall;
        Ok(self.keys.mint(user, None, Scopes::of(&[Scope::Client]), day, now)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}

fn keys(data: &Path) -> Result<KeyRing, ServerError> {
    Ok(KeyRing::open(data, None, Clock::start().now().wall)?)
}

fn spawn(
    program: &Path,
    data: &Path,
    inbox_entries: Option<u64>,
    listen: SocketAddr,
) -> Result<(Child, SocketAddr), ServerError> {
    let mut command = Command::new(program);
    command.args(["serve", "--log", "warn", "--listen", &listen.to_string(), "--data"]).arg(data);
    // A replay may be slower than life: who may change a message does not depend on it. Every group
    // goes to inboxes, so that every device's stream has every message. Days pass in seconds: there are no rates.
    command.env("ROAMD_LIMITS__RECALL_WINDOW", "365d");
    command.env("ROAMD_LIMITS__EDIT_WINDOW", "365d");
    command.env("ROAMD_LIMITS__FANOUT_MEMBERS", "100000");
    command.env("ROAMD_LIMITS__SENDS_PER_SECOND", "0");
    command.env("ROAMD_LIMITS__WAITING_TIME", "1h");
    command.env("ROAMD_LIMITS__SESSIONS_PER_SECOND", "0");
    if let Some(entries) = inbox_entries {
        command.env("ROAMD_LIMITS__INBOX_ENTRIES", entries.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| ServerError::Start(program.into(), error))?;
    let mut said = String::new();
    let stderr = child.stderr.take();
    let mut lines = BufReader::new(
        stderr
            .into_iter()
            .next()
            .ok_or_else(|| ServerError::Silent(program.into(), said.clone()))?,
    )
    .lines()
    .map_while(Result::ok);
    for line in lines.by_ref() {
        let address = line.split(" listens on ").nth(1).and_then(|text| text.trim().parse().ok());
        if let Some(address) = address {
            // Its log goes on to where ours goes.
            std::thread::spawn(move || {
                lines.filter(|line| line.contains("ERROR")).for_each(|line| eprintln!("{line}"));
            });
            return Ok((child, address));
        }
        said = line;
    }
    let _ = child.wait();
    Err(ServerError::Silent(program.into(), said))
}
