//! What a run has shown, in rows of words that page and summary share.

use super::text::{Unit, clock, moment, number};
use crate::swarm::{
    record::{
        Bound, CONNECT_TO_CAUGHT_UP, Latency, Objective, Record, SEND_TO_ACK, SEND_TO_DELIVERY,
    },
    totals::{Totals, entries_per_ack},
};

/// Latencies that every run may have: for people, and as a record names them.
const KNOWN: [(&str, &str); 3] = [
    ("Send to ack", SEND_TO_ACK),
    ("Send to delivery", SEND_TO_DELIVERY),
    ("Connect to caught up", CONNECT_TO_CAUGHT_UP),
];

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No guarantee was broken and no objective missed.
    Passed,
    /// An objective was missed.
    Missed,
    /// A guarantee was broken.
    Violated,
}

impl Verdict {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        match (record.is_clean(), record.is_met()) {
            (false, _) => Self::Violated,
            (true, false) => Self::Missed,
            (true, true) => Self::Passed,
        }
    }

    /// In words.
    #[must_use]
    pub fn text(self, record: &Record) -> String {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match self {
            Self::Violated => {
                let count = record.violations.len();
                format!("{count} guarantee{} broken", plural(count))
            }
            Self::Missed => {
                let missed = record.objectives.iter().filter(|objective| !objective.met).count();
                format!("{missed} objective{} missed", plural(missed))
            }
            Self::Passed if record.objectives.is_empty() => "no guarantee broken".to_owned(),
            Self::Passed => {
                let count = record.objectives.len();
                format!("no guarantee broken, {count} objective{} met", plural(count))
            }
        }
    }
}

/// When and how long it ran.
#[must_use]
pub fn run(record: &Record) -> String {
    format!(
        "{} · {} measured after {} of warm-up · seed {}",
        moment(record.started_unix_ms),
        clock(record.measured_seconds),
        clock(record.warm_up_seconds),
        record.seed
    )
}

/// The figures to see first: name, figure, and what else there is to it.
#[must_use]
pub fn headline(record: &Record) -> Vec<[String; 3]> {
    let totals = Totals::of(record);
    let latency = |name| record.latencies.get(name).filter(|latency: &&Latency| latency.count > 0);
    let micros = |us: u64| Unit::Micros.show(us as f64);
    let percentiles = |name| {
        let latency = latency(name)?;
        Some((micros(latency.p50_us), format!("99 % within {}", micros(latency.p99_us))))
    };
    let rate = |count| Unit::PerSecond.show(totals.rate(count));
    let mut tiles = vec![
        ["Acked".into(), rate(totals.acked), format!("of {} offered", rate(totals.offered))],
        ["Delivered".into(), rate(totals.delivered), "to live devices".into()],
    ];
    for (name, key) in KNOWN {
        tiles.extend(percentiles(key).map(|(median, tail)| [name.into(), median, tail]));
    }
    if let Some(processors) = totals.server.processors {
        let per_ack = totals.server_us_per_ack();
        let more = per_ack.map(|us| format!("{} per acked send", Unit::Micros.show(us)));
        let figure = format!("{} CPU", number(processors));
        tiles.push(["Daemon busy".into(), figure, more.unwrap_or_default()]);
    }
    if let Some(bytes) = totals.server.rss_bytes_max {
        let swarm = totals.swarm.rss_bytes_max.map(|bytes| Unit::Bytes.show(bytes as f64));
        let more = swarm.map(|bytes| format!("swarm {bytes}")).unwrap_or_default();
        tiles.push(["Daemon memory".into(), Unit::Bytes.show(bytes as f64), more]);
    }
    if let Some(entries) = entries_per_ack(record) {
        tiles.push(["Entries per ack".into(), number(entries), "mean, acks of devices".into()]);
    }
    let errors = format!("and {} reconnects", number(totals.reconnects as f64));
    tiles.push(["Errors".into(), number(totals.errors as f64), errors]);
    tiles
}

/// The latencies: what people ask for first, then the others by name.
#[must_use]
pub fn in_order(record: &Record) -> Vec<(&str, &Latency)> {
    let rank =
        |name: &str| KNOWN.iter().position(|(_, known)| *known == name).unwrap_or(KNOWN.len());
    let mut all: Vec<_> = record.latencies.iter().map(|(name, it)| (name.as_str(), it)).collect();
    all.sort_by_key(|(name, _)| rank(name));
    all
}

/// Heads of [`latencies`].
pub const LATENCY_HEADS: [&str; 10] =
    ["latency", "count", "min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// A row per latency.
#[must_use]
pub fn latencies(record: &Record) -> Vec<Vec<String>> {
    let row = |(name, it): (&str, &Latency)| {
        let show = |us: f64| if it.count > 0 { Unit::Micros.show(us) } else { "-".to_owned() };
        let quantiles = [it.p50_us, it.p90_us, it.p99_us, it.p999_us, it.p9999_us, it.max_us];
        let mut row = vec![name.to_owned(), number(it.count as f64)];
        row.extend([it.min_us as f64, it.mean_us].map(show));
        row.extend(quantiles.map(|us| show(us as f64)));
        row
    };
    in_order(record).into_iter().map(row).collect()
}

/// Heads of [`objectives`].
pub const OBJECTIVE_HEADS: [&str; 4] = ["objective", "asked", "measured", ""];

/// A row per objective; the last cell says whether it was met.
#[must_use]
pub fn objectives(record: &Record) -> Vec<Vec<String>> {
    let with_unit = |value: f64, unit: &str| match unit {
        "" => number(value),
        unit if unit.starts_with('/') => format!("{}{unit}", number(value)),
        unit => format!("{} {unit}", number(value)),
    };
    let row = |it: &Objective| {
        let bound = match it.bound {
            Bound::AtMost => "at most",
            Bound::AtLeast => "at least",
        };
        let measured = it.measured.map(|value| with_unit(value, &it.unit));
        vec![
            it.name.clone(),
            format!("{bound} {}", with_unit(it.limit, &it.unit)),
            measured.unwrap_or_else(|| "nothing".to_owned()),
            if it.met { "met" } else { "missed" }.to_owned(),
        ]
    };
    record.objectives.iter().map(row).collect()
}

/// Names and figures of where it ran. What is not known is not there.
#[must_use]
pub fn environment(record: &Record) -> Vec<[String; 2]> {
    let it = &record.environment;
    let cpu = match (it.cpu_count, it.cpu_model.as_str()) {
        (Some(count), model) => format!("{count} × {}", if model.is_empty() { "?" } else { model }),
        (None, model) => model.to_owned(),
    };
    let bytes = it.memory_bytes.map(|bytes| Unit::Bytes.show(bytes as f64));
    let sync = it.fdatasync_p50_us.map(|us| Unit::Micros.show(us as f64));
    let rows = [
        ("roamd", it.roamd_version.clone()),
        ("roam", it.roam_version.clone()),
        ("build", it.profile.clone()),
        ("processors", cpu),
        ("memory", bytes.unwrap_or_default()),
        ("kernel", it.kernel.clone()),
        ("filesystem", it.filesystem.clone()),
        ("fdatasync, median", sync.unwrap_or_default()),
    ];
    let known = rows.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| [name.to_owned(), value]).collect()
}
