//! The daemon that is replayed to, or loaded by a swarm: one of our own as a child process, or one that
//! runs already.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    auth::{Key, KeyError, KeyRing, Scope, Scopes},
    clock::Clock,
    id::UserId,
};

/// A setting of a daemon of our own: its key in the configuration, such as `limits.sends_per_second`, and
/// the value.
pub type Setting = (&'static str, String);

/// Why there is no daemon.
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
    /// There is no token for somebody of this name.
    #[error("{0:?} is no name of a user")]
    Name(String),
    /// A key cannot be read.
    #[error("cannot read the key {0}: {1}")]
    Key(PathBuf, io::Error),
}

/// Makes tokens that a daemon takes.
#[derive(Debug)]
pub struct Mint {
    keys: KeyRing,
}

/// A daemon.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    program: PathBuf,
    data: PathBuf,
    settings: Vec<Setting>,
    child: Child,
}

impl Mint {
    /// With the keys of a data directory.
    ///
    /// # Errors
    /// [`ServerError::Keys`].
    pub fn of_data(data: &Path) -> Result<Self, ServerError> {
        Ok(Self { keys: KeyRing::open(data, None, Clock::start().now().wall)? })
    }

    /// With one key in a file named after it, such as `data/keys/NAME.pem`.
    ///
    /// # Errors
    /// [`ServerError::Key`] and [`ServerError::Keys`].
    pub fn of_file(file: &Path) -> Result<Self, ServerError> {
        let pem = std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|error| ServerError::Key(file.into(), error))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { keys: KeyRing::new([Key::ed25519(&name, &pem)?])? })
    }

    /// A token of a user, for a day.
    ///
    /// # Errors
    /// [`ServerError::Keys`] and [`ServerError::Name`].
    pub fn token(&self, user: &str) -> Result<String, ServerError> {
        let user = UserId::new(user).map_err(|_| ServerError::Name(user.into()))?;
        let day = Duration::from_secs(86_400);
        let now = Clock::start().now().wall;
        Ok(self.keys.mint(&user, None, Scopes::of(&[Scope::Client]), day, now)?)
    }
}

impl Server {
    /// One that runs already.
    #[must_use]
    pub fn running(address: SocketAddr) -> Self {
        Self { address, own: None }
    }

    /// Starts one of our own on a data directory.
    ///
    /// # Errors
    /// [`ServerError`] says why not.
    pub fn start(program: &Path, data: &Path, settings: Vec<Setting>) -> Result<Self, ServerError> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, address) = spawn(program, data, &settings, any)?;
        let own = Own { program: program.into(), data: data.into(), settings, child };
        Ok(Self { address, own: Some(own) })
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
        let (child, _) = spawn(&own.program, &own.data, &own.settings, self.address)?;
        own.child = child;
        Ok(())
    }

    /// The process, if it is our own.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.child.id())
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

fn spawn(
    program: &Path,
    data: &Path,
    settings: &[Setting],
    listen: SocketAddr,
) -> Result<(Child, SocketAddr), ServerError> {
    let mut command = Command::new(program);
    command.args(["serve", "--log", "warn", "--listen", &listen.to_string(), "--data"]).arg(data);
    for (key, value) in settings {
        command.env(format!("ROAMD_{}", key.replace('.', "__").to_uppercase()), value);
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
