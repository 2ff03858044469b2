//! `roam replay`: real conversations through a daemon, with a check of every device.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::exit::Exit;
use crate::replay::{
    self, Options, ReplayError, Report,
    server::{Mint, Server},
};

/// Replay IRC logs: every nick a user, half of them offline at any time; check every device.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam replay logs/*.txt                    start a daemon of its own, replay, check\n  \
    roam replay --inbox-entries 50 logs/*.txt the same with small inboxes, so that many overflow\n  \
    roam replay --chaos logs/*.txt            the same, and kill -9 the daemon in the middle\n  \
    roam replay --speed 3600 logs/*.txt       an hour of talk in a second\n\n\
    Exit status: 0 when every guarantee held, 7 when one was broken.")]
pub struct ReplayArgs {
    /// IRC logs: `[12:34] <nick> text`, `[12:34]  * nick acts`, `=== notice`.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Everything random is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many times as fast as it was; without it, as fast as the acks allow.
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// Entries that the daemon keeps per inbox (only for a daemon of its own).
    #[arg(long, value_name = "N")]
    inbox_entries: Option<u64>,
    /// Kill the daemon (SIGKILL) in the middle, or so many times, and start it again.
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "1", default_value_t = 0)]
    chaos: u32,
    /// Replay only so many messages of each file.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// How long the last catch-up may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Use a daemon that runs already on this address ...
    #[arg(long, value_name = "ADDRESS", requires = "daemon_data")]
    daemon_address: Option<SocketAddr>,
    /// ... whose data directory, with its keys, is this.
    #[arg(long, value_name = "DIR", requires = "daemon_address", conflicts_with_all = ["chaos", "inbox_entries"])]
    daemon_data: Option<PathBuf>,
    /// The program to start [default: roamd beside this program].
    #[arg(long, value_name = "PROGRAM")]
    daemon: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
#[must_use]
pub fn run(args: &ReplayArgs) -> Exit {
    if args.speed.is_some_and(|speed| speed.is_nan() || speed <= 0.0) {
        eprintln!("roam: --speed must be above 0");
        return Exit::Usage;
    }
    // Every device needs a connection on both sides.
    let _ = rlimit::increase_nofile_limit(20_000);
    match replay(args) {
        Ok(report) => {
            if args.json {
                println!("{:#}", report.to_json());
            } else {
                print!("{report}");
            }
            if report.violations == 0 { Exit::Ok } else { Exit::Violated }
        }
        Err(error) => {
            eprintln!("roam: {error}");
            match error {
                ReplayError::Server(_) => Exit::Unreachable,
                ReplayError::Client { .. } | ReplayError::Read(..) | ReplayError::Empty => {
                    Exit::Failed
                }
            }
        }
    }
}

fn replay(args: &ReplayArgs) -> Result<Report, ReplayError> {
    let mut channels = replay::read(&args.files)?;
    for channel in &mut channels {
        channel.lines.truncate(args.lines.unwrap_or(usize::MAX));
    }
    let temporary = std::env::temp_dir().join(format!("roam-replay-{}", std::process::id()));
    let (mut server, data) = match (&args.daemon_address, &args.daemon_data) {
        (Some(address), Some(data)) => (Server::running(*address), data),
        _ => {
            let beside = || Some(std::env::current_exe().ok()?.with_file_name("roamd"));
            let program = args.daemon.clone().or_else(beside).unwrap_or_else(|| "roamd".into());
            let settings = replay::settings(args.inbox_entries);
            (Server::start(&program, &temporary, settings)?, &temporary)
        }
    };
    let mint = Mint::of_data(data)?;
    let options = Options {
        seed: args.seed,
        speed: args.speed,
        crashes: args.chaos,
        patience: Duration::from_secs(args.patience),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ReplayError::Read(args.files[0].clone(), error))?;
    let progress = progress();
    let outcome =
        runtime.block_on(replay::run(&channels, (&mut server, &mint), &options, &progress));
    progress.finish_and_clear();
    if server.is_own() {
        drop(server);
        let _ = std::fs::remove_dir_all(&temporary);
    }
    outcome
}

/// On stderr, and only when that is a terminal.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{msg:24!} {wide_bar} {pos}/{len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
