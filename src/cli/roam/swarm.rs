//! `roam swarm`: load a daemon with scripted devices, check it, and say how fast it was.

mod compare;
mod live;
mod show;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};

use self::live::Live;
use super::{Global, failure::Failure, login};
use crate::{
    cli::{exit::Exit, output::Output},
    replay::server::{Mint, Server},
    swarm::{
        self, SwarmError, Target,
        capacity::Search,
        environment,
        judge::Slo,
        record::Record,
        report::{self, ReportError},
        scenario::{Objectives, RATE_MAX, Scenario, ScenarioError},
    },
};

const RUN_EXAMPLES: &str = "\
Examples:
  roam swarm run chat                                 a daemon of its own, thrown away afterwards
  roam swarm run chat --rate 1000 --duration 30s --report report
  roam swarm run mine.toml --seed 7                   see docs/swarm.md for what a file may say
  roam swarm run chat --server 10.0.0.5:7100 --key data/keys/KEY.pem
  roam swarm run chat --server im.example.org:7101 --ca ca.pem --key data/keys/KEY.pem

Exit status: 0 every guarantee and objective was kept, 7 a guarantee was broken, 8 an objective was
missed, 3 the scenario is wrong, 4 there is no daemon.";

const CAPACITY_EXAMPLES: &str = "\
Examples:
  roam swarm capacity --slo p99=50ms
  roam swarm capacity multi-device --slo delivery-p99=200ms --duration 10s
  roam swarm capacity --slo p999=1s --roamd target/release/roamd -o json

The rate is doubled until the objective fails, then halved in between. Each step is a run of its own, with
a fresh daemon unless --server names one. A rate is held when the objective is met, 99 % of the sends that
were due are acked, none was shed, and no guarantee was broken.";

/// Commands of the swarm.
#[derive(Debug, Subcommand)]
pub enum SwarmCommand {
    /// Run a scenario.
    Run(RunArgs),
    /// Find the highest rate that holds an objective.
    Capacity(CapacityArgs),
    /// Compare the reports of two runs: figures, ratios, and whether they differ by more than noise.
    Compare(compare::CompareArgs),
    /// List the scenarios that are built in, or print one to begin a file of your own with.
    Scenarios(ScenariosArgs),
}

/// Where to run, and what to change of the scenario.
#[derive(Debug, Args)]
pub struct Where {
    /// The daemon to start [default: roamd beside this program].
    #[arg(long, value_name = "PROGRAM")]
    roamd: Option<PathBuf>,
    /// Load the daemon of --server instead, with tokens made by this key: a file data/keys/NAME.pem, or
    /// its data directory.
    #[arg(long, value_name = "FILE", conflicts_with = "roamd")]
    key: Option<PathBuf>,
    /// Everything random is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long is measured, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = crate::config::parse_duration)]
    duration: Option<Duration>,
    /// How many users; pairs and groups become fewer or more with them.
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// Tell how it goes every few seconds, also when stderr is no terminal.
    #[arg(long)]
    progress: bool,
}

impl Where {
    /// The daemon to start.
    fn program(&self) -> PathBuf {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("roamd"));
        self.roamd.clone().or_else(beside).unwrap_or_else(|| "roamd".into())
    }
}

/// Run a scenario.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// A file, or one of `roam swarm scenarios`.
    #[arg(value_name = "SCENARIO")]
    scenario: String,
    #[command(flatten)]
    place: Where,
    /// Messages per second.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Ask for the guarantees only, whatever the scenario asks for.
    #[arg(long)]
    no_objectives: bool,
    /// Write a report into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// Find the highest rate.
#[derive(Debug, Args)]
#[command(after_help = CAPACITY_EXAMPLES)]
pub struct CapacityArgs {
    /// A file, or one of `roam swarm scenarios`.
    #[arg(value_name = "SCENARIO", default_value = "chat")]
    scenario: String,
    /// What must hold: [ack-|delivery-]p50|p90|p99|p999=TIME.
    #[arg(long, value_name = "OBJECTIVE")]
    slo: Slo,
    /// The first rate to try [default: that of the scenario].
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How near is near enough, in percent of the rate.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=100))]
    precision: u8,
    #[command(flatten)]
    place: Where,
}

/// Built-in scenarios.
#[derive(Debug, Args)]
pub struct ScenariosArgs {
    /// Print this one.
    name: Option<String>,
}

/// Files beside one for each device; a daemon of the swarm's own is allowed as many.
const FILES_BESIDE: u64 = 256;

/// Runs the command.
#[must_use]
pub fn run(global: &Global, command: &SwarmCommand) -> Exit {
    let output = Output::new(global.output);
    let outcome = match command {
        SwarmCommand::Run(args) => run_once(global, args, output),
        SwarmCommand::Capacity(args) => capacity(global, args, output),
        SwarmCommand::Compare(args) => compare::run(args, output),
        SwarmCommand::Scenarios(args) => scenarios(args, output),
    };
    outcome.unwrap_or_else(|failure| failure.tell())
}

fn scenarios(args: &ScenariosArgs, output: Output) -> Result<Exit, Failure> {
    match &args.name {
        Some(name) => show::scenario(name)?,
        None => show::scenarios(output)?,
    }
    Ok(Exit::Ok)
}

fn run_once(global: &Global, args: &RunArgs, output: Output) -> Result<Exit, Failure> {
    let mut scenario = scenario(&args.scenario, &args.place, args.rate)?;
    if args.no_objectives {
        scenario.objectives = Objectives::default();
    }
    let written = |outcome: Result<(), ReportError>| {
        outcome.map_err(|error| Failure::new(Exit::Failed, error.to_string(), ""))
    };
    // Better before a long run than after it.
    args.report.as_deref().map_or(Ok(()), |folder| written(report::check(folder)))?;
    let record = perform(global, &args.place, &scenario)?;
    show::record(&record, output);
    if let Some(folder) = &args.report {
        written(report::write(&record, folder))?;
        eprintln!("the report is {}", folder.join("index.html").display());
    }
    Ok(match (record.is_clean(), record.is_met()) {
        (false, _) => Exit::Violated,
        (true, false) => Exit::Missed,
        (true, true) => Exit::Ok,
    })
}

fn capacity(global: &Global, args: &CapacityArgs, output: Output) -> Result<Exit, Failure> {
    let first = scenario(&args.scenario, &args.place, args.rate)?;
    let mut search = Search::new(first.rate, RATE_MAX, f64::from(args.precision) / 100.0);
    let mut steps = Vec::new();
    while let Some(rate) = search.next() {
        let scenario = Scenario { rate, ..first.clone() };
        let record = perform(global, &args.place, &scenario)?;
        let held = args.slo.is_held(&record);
        show::step(&record, rate, held, output, &mut steps);
        if !record.is_clean() {
            record.violations.iter().for_each(|it| eprintln!("violated: {it}"));
            return Ok(Exit::Violated);
        }
        search.tried(held);
    }
    show::capacity(&steps, search.held(), &args.slo, output);
    Ok(if search.held().is_some() { Exit::Ok } else { Exit::Missed })
}

fn scenario(name: &str, place: &Where, rate: Option<f64>) -> Result<Scenario, Failure> {
    let change = || -> Result<Scenario, ScenarioError> {
        let mut scenario = Scenario::find(name)?;
        if let Some(users) = place.users {
            scenario = scenario.with_users(users)?;
        }
        if let Some(duration) = place.duration {
            scenario = scenario.with_duration(duration);
        }
        scenario.rate = rate.unwrap_or(scenario.rate);
        scenario.check()?;
        Ok(scenario)
    };
    change().map_err(|error| match error {
        ScenarioError::Unknown(_) => {
            Failure::new(Exit::Usage, error.to_string(), "see `roam swarm scenarios`")
        }
        _ => Failure::new(Exit::Configuration, error.to_string(), "docs/swarm.md has every key"),
    })
}

/// Says it now when there are too few files for the devices: later they would only never come.
fn enough_files(scenario: &Scenario) -> Result<(), Failure> {
    let devices = u64::from(scenario.users) * u64::from(scenario.devices);
    let wanted = devices + FILES_BESIDE;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(most) if most < wanted => Err(Failure::new(
            Exit::Configuration,
            format!("{devices} devices need {wanted} open files, and {most} are allowed"),
            "raise that (ulimit -n), or say fewer --users",
        )),
        _ => Ok(()),
    }
}

/// Starts or finds the daemon, and runs the scenario.
fn perform(global: &Global, place: &Where, scenario: &Scenario) -> Result<Record, Failure> {
    enough_files(scenario)?;
    let folder = Folder::new();
    let target = target(global, place, scenario, &folder.0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}"), ""))?;
    let live = Live::new(place.progress);
    let outcome = runtime.block_on(async {
        let tell = live.clone();
        let run = swarm::run(scenario, place.seed, target, move |sample| tell.sample(sample));
        tokio::select! {
            outcome = run => outcome.map_err(failure),
            () = super::interrupted() => Err(Failure::new(Exit::Interrupted, "", "")),
        }
    });
    live.clear();
    runtime.shutdown_timeout(Duration::from_secs(2));
    let mut record = outcome?;
    let daemon = place.key.is_none().then(|| place.program());
    let beside = daemon.as_ref().map(|program| (program.as_path(), place.roamd.is_none()));
    record.environment = environment::look(beside, daemon.is_some().then_some(&folder.0));
    Ok(record)
}

fn target(
    global: &Global,
    place: &Where,
    scenario: &Scenario,
    folder: &Path,
) -> Result<Target, Failure> {
    let unreachable = |error| failure(SwarmError::Server(error));
    let Some(key) = &place.key else {
        if global.server.is_some() {
            let text = "--server needs --key, to make tokens for the users of the swarm";
            return Err(Failure::usage(text));
        }
        if login::wants_tls(global) {
            return Err(Failure::usage("TLS needs --server: a daemon of the swarm's own is plain"));
        }
        return Target::own(&place.program(), folder, scenario).map_err(unreachable);
    };
    let wanted = global.server.as_deref().unwrap_or("127.0.0.1:7100");
    let found = std::net::ToSocketAddrs::to_socket_addrs(wanted);
    let address: SocketAddr = found
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| Failure::usage(format!("{wanted:?} is no address HOST:PORT")))?;
    // Bots are given the address; the certificate is for the name.
    let tls = login::tls(global, None)?.map(|tls| tls.host_of(wanted)).transpose();
    let tls = tls.map_err(|error| Failure::usage(error.to_string()))?;
    let mint = if key.is_dir() { Mint::of_data(key) } else { Mint::of_file(key) };
    let mint = mint.map_err(|error| Failure::new(Exit::Configuration, error.to_string(), ""))?;
    let connected = std::net::TcpStream::connect_timeout(&address, global.timeout);
    connected.map_err(|error| {
        let text = format!("cannot connect to {address}: {error}");
        Failure::new(Exit::Unreachable, text, "is roamd running there?")
    })?;
    Ok(Target { server: Server::running(address), mint, tls })
}

fn failure(error: SwarmError) -> Failure {
    let hint = match &error {
        SwarmError::Server(_) => "--roamd names the daemon to start",
        SwarmError::Stuck { .. } => "is the key that of the daemon? are its limits high enough?",
    };
    Failure::new(Exit::Unreachable, error.to_string(), hint)
}

/// A data directory that is thrown away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("roam-swarm-{}-{:08x}", std::process::id(), rand::random::<u32>());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is there only if a daemon of our own was.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
