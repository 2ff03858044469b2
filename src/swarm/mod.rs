//! The swarm: many scripted devices that load a daemon, check what it promises, and tell how fast it was.
//!
//! ```text
//! scenario ──▶ world, plan (from a seed)
//!                  │ acts, each when it is due
//!                  ▼
//!   drive ──mail──▶ bots ⇄ daemon        check: what comes, against what was acked
//!                  │                     tally: counts and latencies
//!                  ▼
//!               record ──▶ report
//! ```
//!
//! Scenario, world, plan, body and check are free of clocks, tasks and sockets. What a run finds is one
//! value, the [`record::Record`].

pub mod body;
pub mod bot;
pub mod capacity;
pub mod check;
pub mod compare;
mod drive;
pub mod environment;
pub mod judge;
pub mod plan;
mod process;
pub mod record;
pub mod report;
mod sample;
pub mod scenario;
pub mod tally;
pub mod totals;
pub mod world;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Semaphore, oneshot};

use self::{
    bot::Shared,
    check::Truth,
    drive::{Ended, Run},
    record::{CONNECT_TO_CAUGHT_UP, Record, SEND_TO_ACK, SEND_TO_DELIVERY, Sample},
    scenario::Scenario,
    tally::{Span, Tally},
    world::World,
};
use crate::{
    client::Tls,
    replay::server::{Mint, Server, ServerError, Setting},
};

/// From the loss of a session to `CaughtUp` of the next, with the pauses in between.
pub const LOST_TO_CAUGHT_UP: &str = "lost-to-caught-up";
/// Devices that open their first session at the same time. In a storm there is no such bound.
const OPENING: usize = 128;
/// Connections that a daemon of our own allows beyond the swarm's.
const SPARE_CONNECTIONS: u32 = 100;
/// ... and at least.
const CONNECTIONS_MIN: u32 = 20_000;

/// Why a run came to no end. Violations and missed objectives are no error; the record has them.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The daemon.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Before it began nothing went on.
    #[error("stuck while {doing}: {live} of {bots} devices are there; {why}")]
    Stuck {
        /// With what.
        doing: &'static str,
        /// Devices with a session.
        live: u64,
        /// Devices.
        bots: u32,
        /// What was seen.
        why: String,
    },
}

/// A daemon to load.
#[derive(Debug)]
pub struct Target {
    /// The daemon.
    pub server: Server,
    /// Makes tokens for it.
    pub mint: Mint,
    /// Speak TLS with it, and trust these.
    pub tls: Option<Tls>,
}

impl Target {
    /// Starts a daemon on this data directory, with limits that let the scenario through.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn own(program: &Path, data: &Path, scenario: &Scenario) -> Result<Self, ServerError> {
        let server = Server::start(program, data, settings(scenario))?;
        Ok(Self { server, mint: Mint::of_data(data)?, tls: None })
    }
}

/// What a daemon of the swarm's own is told: rates and numbers that are meant against single users do not
/// hold back one program that is many. All else is as shipped, so that what is measured is that.
#[must_use]
pub fn settings(scenario: &Scenario) -> Vec<Setting> {
    let bots = scenario.users * scenario.devices;
    let mut settings = vec![
        ("limits.sends_per_second", "0".to_owned()),
        ("limits.sessions_per_second", "0".to_owned()),
        ("limits.connections", (bots + SPARE_CONNECTIONS).max(CONNECTIONS_MIN).to_string()),
    ];
    if let Some(large) = scenario.large_from() {
        let most = crate::limits::Limits::default().fanout_members as u32;
        settings.push(("limits.fanout_members", (large - 1).min(most).to_string()));
    }
    settings
}

/// Runs a scenario: its record. `tell` is given every sample when it is taken.
///
/// Must be called on a tokio runtime with timers and input and output.
///
/// # Errors
/// [`SwarmError`].
pub async fn run(
    scenario: &Scenario,
    seed: u64,
    target: Target,
    tell: impl FnMut(&Sample) + Send + 'static,
) -> Result<Record, SwarmError> {
    let Target { server, mint, tls } = target;
    // Somebody else's daemon may have had a swarm before: this one has names of its own.
    let own = server.is_own();
    let run = if own { body::mix(seed) } else { rand::random() };
    let prefix = if own { "s-".to_owned() } else { format!("s{:08x}-", run as u32) };
    let world = World::new(scenario, seed, &prefix);
    let shared = Arc::new(Shared {
        truth: Truth::new(&world),
        world,
        tally: Tally::new(),
        run,
        body: scenario.body,
        address: server.address().to_string(),
        tls,
        mint,
        opening: Arc::new(Semaphore::new(OPENING)),
        issued: AtomicU64::new(0),
    });
    let run = Run::new(Arc::clone(&shared), server);
    let connected_in = run.gather().await?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = record::Scenario {
        name: scenario.name.clone(),
        description: scenario.description.clone(),
        text: scenario.text(),
    };
    let mut record = Record::new(text, seed, since.as_millis() as u64);
    record.warm_up_seconds = scenario.warm_up.as_secs_f64();
    record.measured_seconds = scenario.duration.as_secs_f64();
    let (stop, stopped) = oneshot::channel();
    let samples = tokio::spawn(sample::samples(Arc::clone(&run.stage), tell, stopped));
    let late_us = run.walk(scenario, seed).await?;
    run.settle(scenario.patience).await;
    let _ = stop.send(());
    record.series = samples.await.unwrap_or_default();
    fill(&mut record, &shared, Ended { late_us, connected_in });
    record.objectives = judge::objectives(scenario, &record);
    Ok(record)
}

fn fill(record: &mut Record, shared: &Shared, ended: Ended) {
    let Shared { world, tally, .. } = shared;
    for span in Span::ALL {
        let name = match span {
            Span::SendToAck => SEND_TO_ACK,
            Span::SendToDelivery => SEND_TO_DELIVERY,
            Span::ConnectToCaughtUp => CONNECT_TO_CAUGHT_UP,
            Span::LostToCaughtUp => LOST_TO_CAUGHT_UP,
        };
        let latency = tally.latency(span);
        if latency.count > 0 {
            record.latencies.insert(name.into(), latency);
        }
    }
    record.ack_batches = tally.ack_batches();
    let measured = tally.measured();
    record.counts = measured.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    let counters = &tally.counters;
    for (name, count) in [
        ("devices", u64::from(world.bots())),
        ("conversations", world.talks.len() as u64),
        ("first connections ms", ended.connected_in.as_millis() as u64),
        ("sends late at worst us", ended.late_us),
        ("requests refused", counters.refused.load(Relaxed)),
        ("sessions lost", counters.lost.load(Relaxed)),
        ("connections failed", counters.attempts_failed.load(Relaxed)),
        ("reconnects", counters.reconnects.load(Relaxed)),
        ("snapshots", counters.snapshots.load(Relaxed)),
        ("messages fetched", counters.fetched.load(Relaxed)),
        ("devices compared", counters.settled.load(Relaxed)),
    ] {
        record.counts.insert(name.into(), count);
    }
    let (count, violations) = tally.violations();
    record.violations = violations.iter().map(|it| it.tell(world, record.seed)).collect();
    let untold = count.saturating_sub(violations.len() as u64);
    if untold > 0 {
        record.violations.push(format!("and {untold} more"));
    }
}
