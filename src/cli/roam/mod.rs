//! `roam`: the client's command line.

mod admin;
mod change;
mod device_state;
mod devices;
mod entries;
mod failure;
mod group;
mod login;
mod look;
mod own;
mod presence;
mod profile;
mod recv;
mod send;
mod show;
mod swarm;
mod sync;
mod unread;

use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Parser, Subcommand};

use self::{failure::Failure, login::Login};
use super::{
    exit::Exit,
    output::{Format, Output},
    replay::{self, ReplayArgs},
};

const EXAMPLES: &str = "\
First steps, with roamd running on this machine:
  roam profile add alice --token \"$(roamd token mint --user alice)\"
  roam profile add bob --token \"$(roamd token mint --user bob)\"
  roam send --profile alice @bob hi bob
  roam recv --profile bob -f

Data goes to stdout, everything else to stderr. Flags come before ROAM_* variables, these before the
profile.

Exit status: 0 ok, 1 failed, 2 usage, 3 configuration, 4 cannot connect, 5 the server refused,
6 timeout, 7 a guarantee was broken, 8 an objective was missed, 130 interrupted.";

/// Client of roamd: send, receive, look, check.
#[derive(Debug, Parser)]
#[command(name = "roam", version, after_help = EXAMPLES)]
struct Roam {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args)]
struct Global {
    /// HOST:PORT [default: that of the profile, else 127.0.0.1:7100].
    #[arg(long, global = true, value_name = "ADDRESS", env = "ROAM_SERVER")]
    server: Option<String>,
    /// Speak TLS [default: that of the profile]. --ca and --server-name imply it.
    #[arg(long, global = true, env = "ROAM_TLS", value_parser = clap::builder::BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "yes|no")]
    tls: Option<bool>,
    /// Trust these authorities (PEM) instead of the public ones.
    #[arg(long, global = true, value_name = "FILE", env = "ROAM_CA")]
    ca: Option<PathBuf>,
    /// The name that the server's certificate must be for [default: the host of --server].
    #[arg(long, global = true, value_name = "NAME", env = "ROAM_SERVER_NAME")]
    server_name: Option<String>,
    /// Who this is; only to be sure that the token is not somebody else's.
    #[arg(long, global = true, value_name = "USER", env = "ROAM_USER")]
    user: Option<String>,
    /// A token by `roamd token mint`. Others on this machine can see command lines: better ROAM_TOKEN
    /// or a profile.
    #[arg(long, global = true, value_name = "TOKEN", env = "ROAM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The name of this installation [default: roam for recv, roam-ask for commands that only ask].
    #[arg(long, global = true, value_name = "DEVICE", env = "ROAM_DEVICE")]
    device: Option<String>,
    /// The profile to use [default: see `roam profile use`].
    #[arg(long, global = true, value_name = "NAME", env = "ROAM_PROFILE")]
    profile: Option<String>,
    /// How long to wait for the server, such as 500ms or 1m.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", env = "ROAM_TIMEOUT",
        value_parser = crate::config::parse_duration)]
    timeout: Duration,
    /// How data is printed.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl std::fmt::Debug for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token, which is a secret.
        f.debug_struct("Global").field("server", &self.server).finish_non_exhaustive()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Remember servers and tokens by name.
    #[command(subcommand)]
    Profile(profile::ProfileCommand),
    /// Is the server there, and how fast does it answer?
    Ping(look::PingArgs),
    /// Send a message.
    Send(send::SendArgs),
    /// Receive: every message once.
    Recv(recv::RecvArgs),
    /// Compare versions and catch up, and show how.
    Sync(sync::SyncArgs),
    /// Show messages of a conversation.
    History(look::HistoryArgs),
    /// List conversations, the newest first.
    Convs(look::ConvsArgs),
    /// What is unread, and why.
    Unread(unread::UnreadArgs),
    /// Mark as read.
    Read(own::ReadArgs),
    /// Show as unread until it is read again.
    MarkUnread(own::MarkUnreadArgs),
    /// Take a message back, for everyone.
    Recall(change::RecallArgs),
    /// Give a message another text.
    Edit(change::EditArgs),
    /// Delete messages, for yourself or for everybody.
    Delete(change::DeleteArgs),
    /// Make sure that a send of unknown outcome is not there.
    Cancel(change::CancelArgs),
    /// Hide everything up to now from yourself, for good.
    Clear(own::ClearArgs),
    /// Pin, mute, hide, keep a draft.
    Prefs(own::PrefsArgs),
    /// Who has read a message of a group?
    Readers(look::ReadersArgs),
    /// What changed in messages that were sent before?
    Mutations(look::MutationsArgs),
    /// Groups and their members.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Who is there?
    Presence(presence::PresenceArgs),
    /// Say that you are typing, to those who are there.
    Typing(presence::TypingArgs),
    /// Your devices: list them, end their sessions, lock them out.
    Devices(devices::DevicesArgs),
    /// What needs a token with the scope "admin".
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Load a daemon with scripted devices, and check it.
    #[command(subcommand)]
    Swarm(swarm::SwarmCommand),
    /// Replay chat logs through a daemon, and check every device.
    Replay(ReplayArgs),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> Exit {
    let Roam { global, command } = Roam::parse();
    if let Command::Replay(args) = &command {
        return replay::run(args);
    }
    if let Command::Swarm(command) = &command {
        return swarm::run(&global, command);
    }
    match dispatch(&global, command) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.tell(),
    }
}

fn dispatch(global: &Global, command: Command) -> Result<(), Failure> {
    let output = Output::new(global.output);
    if let Command::Profile(command) = &command {
        return profile::run(global, command, output);
    }
    let login = Login::find(global)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}"), ""))?;
    let outcome = runtime.block_on(perform(global, &login, command, output));
    // Somebody may still be waiting for stdin or a lock: nobody waits for them.
    runtime.shutdown_background();
    outcome
}

async fn perform(
    global: &Global,
    login: &Login,
    command: Command,
    output: Output,
) -> Result<(), Failure> {
    let soon = Some(global.timeout);
    match command {
        Command::Recv(args) => recv::run(login, &args, output).await,
        Command::Send(args) => within(None, send::run(login, &args, output)).await,
        Command::Presence(args) if args.follow => presence::presence(login, &args, output).await,
        command => within(soon, ask(login, command, output)).await,
    }
}

/// Commands that ask once.
async fn ask(login: &Login, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Unread(args) => unread::unread(login, &args, output).await,
        Command::Read(args) => own::read(login, &args, output).await,
        Command::MarkUnread(args) => own::mark_unread(login, &args, output).await,
        Command::Recall(args) => change::recall(login, &args, output).await,
        Command::Edit(args) => change::edit(login, &args, output).await,
        Command::Delete(args) => change::delete(login, &args, output).await,
        Command::Cancel(args) => change::cancel(login, &args, output).await,
        Command::Clear(args) => own::clear(login, &args, output).await,
        Command::Prefs(args) => own::prefs(login, &args, output).await,
        Command::Readers(args) => look::readers(login, &args, output).await,
        Command::Mutations(args) => look::mutations(login, &args, output).await,
        Command::Group(command) => group::run(login, &command, output).await,
        Command::Presence(args) => presence::presence(login, &args, output).await,
        Command::Typing(args) => presence::typing(login, &args, output).await,
        Command::Devices(args) => devices::run(login, &args, output).await,
        Command::Admin(command) => admin::run(login, &command, output).await,
        Command::Ping(args) => look::ping(login, &args, output).await,
        Command::Sync(args) => sync::run(login, &args, output).await,
        Command::History(args) => look::history(login, &args, output).await,
        Command::Convs(args) => look::convs(login, &args, output).await,
        Command::Recv(_) | Command::Send(_) | Command::Profile(_) => Ok(()),
        Command::Replay(_) | Command::Swarm(_) => Ok(()),
    }
}

/// The outcome of a command, unless the time is over or somebody interrupts.
async fn within(
    most: Option<Duration>,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let time_over = async {
        match most {
            Some(most) => tokio::time::sleep(most).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = command => outcome,
        () = time_over => Err(no_answer()),
        () = interrupted() => Err(Failure::new(Exit::Interrupted, "", "")),
    }
}

fn no_answer() -> Failure {
    let text = "the server has not answered in time";
    Failure::new(Exit::Timeout, text, "--timeout gives it longer")
}

/// Waits for Ctrl-C or SIGTERM, so that what is temporary is cleared away after either.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let ended = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = ended => {}
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
