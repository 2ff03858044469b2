//! `roamd`: the daemon, its configuration, its tokens, its data directory.

/// As `eprintln!`, which panics when stderr cannot be written, as a log file on a full disk: what
/// cannot be said is left out.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod archive;
mod cert;
mod key;
mod log;
mod reload;
mod repair;
mod serve;
mod settings;
mod store;
mod token;

use std::{path::PathBuf, process};

use clap::{Args, Parser, Subcommand};

use super::exit::Exit;
use crate::config::{Config, ConfigError, Effective, Overrides};

const EXAMPLES: &str = "\
Examples:
  roamd                                    serve on 127.0.0.1:7100, data in ./roamd-data
  roamd serve --dev                        the same with data that is thrown away at the end
  roamd token mint --user alice            a token for alice's devices
  roamd serve --dev --tls-listen 127.0.0.1:7101
                                           the same, and TLS with a certificate made for it
  roamd store verify                       check the data directory (daemon stopped)
  roamd store backup /backups/monday       a copy of everything, while the daemon serves
  ROAMD_LIMITS__INBOX_ENTRIES=50 roamd     any setting by environment variable

Exit status: 0 ok, 1 failed, 2 usage, 3 configuration, 9 the data directory failed or is damaged.";

/// Message roaming and offline sync daemon.
#[derive(Debug, Parser)]
#[command(name = "roamd", version, after_help = EXAMPLES)]
struct Roamd {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    serve: serve::ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Configuration file (TOML); see `roamd config doc`.
    #[arg(short = 'c', long, global = true, value_name = "FILE", env = "ROAMD_CONFIG")]
    config: Option<PathBuf>,
    /// The data directory [default: ./roamd-data].
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// error, warn, info, debug or trace [default: info].
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// text or json [default: text].
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients (what `roamd` alone does).
    Serve(serve::ServeArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(settings::ConfigCommand),
    /// Make and check tokens with the keys of the data directory.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The keys that sign tokens: list, add, delete.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Make a certificate for development.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Look into a data directory, back it up, restore, export, import and compact it.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print the version.
    Version,
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> Exit {
    let Roamd { common, serve, command } = Roamd::parse();
    match command.unwrap_or(Command::Serve(serve)) {
        Command::Serve(args) => serve::run(&common, &args),
        Command::Config(command) => settings::run(&common, &command),
        Command::Token(command) => with(&common, |config| token::run(config, &command)),
        Command::Key(command) => with(&common, |config| key::run(config, &command)),
        Command::Cert(command) => with(&common, |config| cert::run(config, &command)),
        Command::Store(command) => with(&common, |config| store::run(config, &command)),
        Command::Version => {
            println!("roamd {}", env!("CARGO_PKG_VERSION"));
            Exit::Ok
        }
    }
}

impl Common {
    fn overrides(&self) -> Overrides {
        let mut flags = Overrides::none();
        if let Some(dir) = &self.data {
            flags.set("data.dir", "--data", dir.to_string_lossy());
        }
        if let Some(level) = &self.log {
            flags.set("log.level", "--log", level);
        }
        if let Some(format) = &self.log_format {
            flags.set("log.format", "--log-format", format);
        }
        flags
    }

    fn load(&self, flags: &Overrides) -> Result<Effective, ConfigError> {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != "ROAMD_CONFIG");
        Config::load(self.config.as_deref(), env, flags)
    }
}

fn with(common: &Common, command: impl FnOnce(&Config) -> Exit) -> Exit {
    match common.load(&common.overrides()) {
        Ok(effective) => command(&effective.config),
        Err(error) => fail(Exit::Configuration, &error, "see `roamd config doc` for every setting"),
    }
}

/// Says what went wrong and what to do, and gives the status back.
fn fail(exit: Exit, error: &dyn std::error::Error, hint: &str) -> Exit {
    say!("roamd: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        say!("  because: {cause}");
        source = cause.source();
    }
    if !hint.is_empty() {
        say!("  hint: {hint}");
    }
    exit
}

/// Prints to stdout; a closed pipe ends the process as a success.
fn print(text: &str) {
    use std::io::Write;
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        process::exit(0);
    }
}
