//! Load on the shipped daemon: `cargo bench --bench daemon [-- OPTIONS] [NAME...]`.
//!
//! Starts the real binary on a temporary data directory and drives it over loopback from one thread (devices
//! that come back: from one for each that is on its way).
//! Each scenario prints its figures beside a floor of the same round: fdatasync of the same disk, and
//! a relay in memory behind the same driver, so that the noise of the machine cancels.
//!
//! ```text
//! --list        names, and what is certain when a figure counts
//! --rounds N    median (least, greatest) of N rounds; 1 if not said, 5 with --targets
//! --seconds N   length of a load; 5 if not said
//! --full        the sizes of docs/performance.md
//! --messages N  messages of the scenario `at-rest`, instead of its own sizes
//! --syscalls    count system calls (needs perf)
//! --targets     every target, met or missed
//! --plot FILE   the scenario `growth` as a picture (SVG)
//! ```
//!
//! `ROAMD_BENCH_DIR` chooses the disk; `ROAMD_BENCH_DAEMON` another binary, to compare two. If
//! `redis-server` is installed (or named by `ROAMD_BENCH_REDIS`), pairs and stores are also run on it.

#![allow(
    missing_docs,
    clippy::panic,
    reason = "a program of its own, which stops at the first surprise"
)]

mod counts;
mod figures;
mod floor;
mod link;
mod load;
mod plot;
mod redis;
mod relay;
mod scan;
mod scenarios;
mod server;
mod targets;
mod visit;

use std::{collections::HashMap, env, path::PathBuf, time::Duration};

use clap::Parser;
use scenarios::{Bench, Scenario};

/// Load on the shipped daemon.
#[derive(Parser)]
struct Options {
    /// Scenarios whose name contains one of these; all if none is said.
    names: Vec<String>,
    /// Say what there is.
    #[arg(long)]
    list: bool,
    /// Rounds of each scenario.
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of a load, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The sizes of docs/performance.md.
    #[arg(long)]
    full: bool,
    /// Messages of the scenario `at-rest`.
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Count system calls.
    #[arg(long)]
    syscalls: bool,
    /// Every target, met or missed.
    #[arg(long)]
    targets: bool,
    /// Write the scenario `growth` as a picture (SVG) to this file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let named = |wanted: &String| name.contains(wanted.as_str());
        (self.names.is_empty() || self.names.iter().any(named))
            && (!self.targets || targets::need(name))
    }
}

fn round(scenario: &Scenario, options: &Options) -> figures::Outcome {
    let parent = env::var_os("ROAMD_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("roamd-bench").tempdir_in(&parent);
    let dir = dir.expect("a directory");
    let bench = Bench {
        dir: dir.path().to_owned(),
        length: Duration::from_secs(options.seconds),
        full: options.full,
        messages: options.messages,
        calls: options.syscalls,
        floor: floor::fdatasync_p50(dir.path()),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on((scenario.run)(&bench))
}

fn main() {
    if env::var_os(relay::MARK).is_some() {
        return relay::serve();
    }
    let options = Options::parse();
    let _ = rlimit::increase_nofile_limit(65_536);
    let rounds = options.rounds.unwrap_or(if options.targets { 5 } else { 1 }).max(1);
    let mut found = HashMap::new();
    for scenario in scenarios::ALL.iter().filter(|scenario| options.wants(scenario.name)) {
        println!("{}: {}", scenario.name, scenario.says);
        if options.list {
            continue;
        }
        let mut outcomes = Vec::with_capacity(rounds);
        for number in 1..=rounds {
            eprintln!("  {} round {number} of {rounds}", scenario.name);
            outcomes.push(round(scenario, &options));
        }
        let figures = figures::gather(outcomes);
        figures::print(&figures);
        if let (Some(file), Some(picture)) = (&options.plot, plot::draw(&figures)) {
            std::fs::write(file, picture).expect("a file");
        }
        found.insert(scenario.name, figures);
    }
    if options.targets && !options.list {
        targets::print(&found);
    }
}
