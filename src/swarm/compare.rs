//! Two runs side by side: each figure, its ratio, and whether the difference is more than noise.
//!
//! Of figures with a value per second (rates, the latency of acks, processor time) the noise is that of
//! the seconds: `noise.rs` draws blocks of them again and again and looks how far the ratio moves. Of
//! other percentiles it is that of the order of the values. Peaks and small counts are shown and not
//! judged. What two runs of one build differ by, on one day and another, no single run can know: so a
//! difference below [`LEAST`] is never called one.

mod noise;
#[cfg(test)]
mod tests;

use self::noise::Interval;
use super::{
    record::{Environment, Latency, Record, SEND_TO_ACK, Timed},
    report::text::Unit,
    totals::{Totals, entries_per_ack},
};

/// A smaller part of a figure is no difference.
pub const LEAST: f64 = 0.05;
/// Fewer measured seconds say nothing about noise.
pub const SECONDS_MIN: usize = 10;
/// Disks whose syncs differ by this factor are different disks.
const DISKS_DIFFER: f64 = 1.5;

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Good {
    More,
    Less,
}

/// What the difference of a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// More than noise, to the good.
    Better,
    /// More than noise, to the bad.
    Worse,
    /// None that could not be noise.
    Noise,
    /// The runs are too short, or one of them has no such figure.
    Unknown,
    /// The figure has no noise that could be measured.
    Unjudged,
}

impl Difference {
    /// For programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Noise => "same",
            Self::Unknown => "unknown",
            Self::Unjudged => "unjudged",
        }
    }

    /// For people: what is bad stands out.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Worse => "WORSE",
            Self::Unjudged => "-",
            other => other.name(),
        }
    }
}

/// A figure of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// Of the first run.
    pub a: Option<f64>,
    /// Of the second run.
    pub b: Option<f64>,
    /// Where the ratio is with a probability of 99 %, as far as the noise within the runs goes.
    pub interval: Option<Interval>,
    /// What the difference is.
    pub difference: Difference,
    /// Whether a build may be refused because of it: the rate of acks, and every p99.
    pub is_key: bool,
    good: Good,
}

impl Figure {
    /// Second through first; none = one of them is not there, or the first is zero.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let (a, b) = self.a.zip(self.b)?;
        (a > 0.0).then(|| b / a)
    }

    /// Whether the second run is worse by more than this part of the first, noise or not. A figure that
    /// the second run no longer has is worse.
    #[must_use]
    pub fn is_worse_by(&self, part: f64) -> bool {
        match (self.a, self.b, self.good) {
            (None, _, _) => false,
            (Some(_), None, _) => true,
            (Some(a), Some(b), Good::Less) => b > a * (1.0 + part),
            (Some(a), Some(b), Good::More) => b < a * (1.0 - part),
        }
    }
}

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Why the runs should not be compared, or only with care.
    pub doubts: Vec<String>,
    /// Their figures.
    pub figures: Vec<Figure>,
}

impl Comparison {
    /// Of these runs.
    #[must_use]
    pub fn of(a: &Record, b: &Record) -> Self {
        let mut figures = over_time(a, b);
        figures.extend(latencies(a, b));
        figures.extend(unjudged(a, b));
        Self { doubts: doubts(a, b), figures }
    }
}

/// A value of each measured second that has it.
fn seconds(record: &Record, value: impl Fn(&Timed<'_>) -> Option<f64>) -> Vec<f64> {
    record.timed().filter(|timed| timed.is_measured).filter_map(|timed| value(&timed)).collect()
}

/// Figures that are means over the seconds.
fn over_time(a: &Record, b: &Record) -> Vec<Figure> {
    type Value = fn(&Timed<'_>) -> Option<f64>;
    let figure = |name: &str, unit, good, value: Value| {
        let (a, b) = (seconds(a, value), seconds(b, value));
        let interval = noise::of_means(&a, &b);
        judged(name, unit, good, noise::mean(&a), noise::mean(&b), interval)
    };
    let mut acked =
        figure("acked", Unit::PerSecond, Good::More, |it| Some(it.rate(it.sample.acked)));
    acked.is_key = true;
    vec![
        figure("offered", Unit::PerSecond, Good::More, |it| Some(it.rate(it.sample.offered))),
        acked,
        figure("delivered", Unit::PerSecond, Good::More, |it| Some(it.rate(it.sample.delivered))),
        figure("daemon CPU", Unit::Processors, Good::Less, |it| {
            Some(it.rate(it.sample.server_cpu_us?) / 1e6)
        }),
        figure("daemon CPU per ack", Unit::Micros, Good::Less, |it| {
            let acked = Some(it.sample.acked).filter(|acked| *acked > 0)?;
            Some(it.sample.server_cpu_us? as f64 / acked as f64)
        }),
    ]
}

/// Percentiles of what either run has.
fn latencies(a: &Record, b: &Record) -> Vec<Figure> {
    const QUANTILES: [(&str, f64); 4] =
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let mut names: Vec<_> = a.latencies.keys().chain(b.latencies.keys()).collect();
    names.sort_by_key(|name| (name.as_str() != SEND_TO_ACK, name.as_str()));
    names.dedup();
    let mut figures = Vec::new();
    for name in names {
        let of = |record: &Record| record.latencies.get(name).map(Latency::histogram);
        let has_any = |it: &hdrhistogram::Histogram<u64>| !it.is_empty();
        let (first, second) = (of(a).filter(has_any), of(b).filter(has_any));
        for (quantile_name, quantile) in QUANTILES {
            let value = |it: &hdrhistogram::Histogram<u64>| it.value_at_quantile(quantile) as f64;
            let interval = match (name.as_str(), quantile_name) {
                (SEND_TO_ACK, "p50") => acks(a, b, |it| it.sample.send_to_ack_p50_us),
                (SEND_TO_ACK, "p99") => acks(a, b, |it| it.sample.send_to_ack_p99_us),
                _ => first
                    .as_ref()
                    .zip(second.as_ref())
                    .and_then(|(first, second)| noise::of_quantiles(first, second, quantile)),
            };
            let (first, second) = (first.as_ref().map(value), second.as_ref().map(value));
            let name = format!("{name} {quantile_name}");
            let mut figure = judged(&name, Unit::Micros, Good::Less, first, second, interval);
            figure.is_key = quantile_name == "p99";
            figures.push(figure);
        }
    }
    figures
}

/// The noise of a percentile that every second has one of.
fn acks(a: &Record, b: &Record, value: fn(&Timed<'_>) -> Option<u64>) -> Option<Interval> {
    let of = |record| seconds(record, |it| value(it).map(|us| (us.max(1) as f64).ln()));
    noise::of_logarithms(&of(a), &of(b))
}

fn unjudged(a: &Record, b: &Record) -> Vec<Figure> {
    let (first, second) = (Totals::of(a), Totals::of(b));
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    let count = |count: u64| Some(count as f64);
    let rows = [
        (
            "daemon memory, most",
            Unit::Bytes,
            bytes(first.server.rss_bytes_max),
            bytes(second.server.rss_bytes_max),
        ),
        ("entries per ack", Unit::Count, entries_per_ack(a), entries_per_ack(b)),
        ("errors", Unit::Count, count(first.errors), count(second.errors)),
        ("reconnects", Unit::Count, count(first.reconnects), count(second.reconnects)),
        (
            "violations",
            Unit::Count,
            count(a.violations.len() as u64),
            count(b.violations.len() as u64),
        ),
    ];
    let figure = |(name, unit, a, b): (&str, _, _, _)| Figure {
        difference: Difference::Unjudged,
        ..judged(name, unit, Good::Less, a, b, None)
    };
    rows.into_iter().map(figure).collect()
}

fn judged(
    name: &str,
    unit: Unit,
    good: Good,
    a: Option<f64>,
    b: Option<f64>,
    interval: Option<Interval>,
) -> Figure {
    let name = name.to_owned();
    let difference = Difference::Unknown;
    let mut figure = Figure { name, unit, a, b, interval, difference, is_key: false, good };
    // Both the figures themselves and their noise must say so.
    figure.difference = match (figure.ratio(), interval) {
        (Some(ratio), _) if (ratio - 1.0).abs() < LEAST => Difference::Noise,
        (Some(ratio), Some(interval)) => match good {
            Good::Less if ratio > 1.0 && interval.low > 1.0 => Difference::Worse,
            Good::Less if ratio < 1.0 && interval.high < 1.0 => Difference::Better,
            Good::More if ratio > 1.0 && interval.low > 1.0 => Difference::Better,
            Good::More if ratio < 1.0 && interval.high < 1.0 => Difference::Worse,
            Good::Less | Good::More => Difference::Noise,
        },
        _ => Difference::Unknown,
    };
    figure
}

/// What makes the comparison doubtful.
fn doubts(a: &Record, b: &Record) -> Vec<String> {
    let mut doubts = Vec::new();
    if a.scenario.name != b.scenario.name {
        doubts.push(format!("other scenario: {:?}, {:?}", a.scenario.name, b.scenario.name));
    } else if a.scenario.text != b.scenario.text {
        let lines = changed(&a.scenario.text, &b.scenario.text);
        doubts.push(format!("the scenario was changed: {lines}"));
    }
    if a.seed != b.seed {
        doubts.push(format!("other seed: {}, {}", a.seed, b.seed));
    }
    doubts.extend(places(&a.environment, &b.environment));
    for (name, record) in [("A", a), ("B", b)] {
        if record.environment.profile == "debug" {
            doubts.push(format!("{name} is of a debug build, whose speed means nothing"));
        }
        if !record.is_clean() {
            doubts.push(format!("{name} broke guarantees: its speed means nothing"));
        }
        let seconds = record.measured().count();
        if seconds < SECONDS_MIN {
            doubts.push(format!(
                "{name} measured {seconds} seconds: too few to tell a difference from noise"
            ));
        }
    }
    doubts
}

/// What differs between two places.
fn places(a: &Environment, b: &Environment) -> Vec<String> {
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let texts = [
        ("build", a.profile.clone(), b.profile.clone()),
        ("processor", a.cpu_model.clone(), b.cpu_model.clone()),
        ("number of processors", count(a.cpu_count), count(b.cpu_count)),
        ("memory", count(a.memory_bytes), count(b.memory_bytes)),
        ("kernel", a.kernel.clone(), b.kernel.clone()),
        ("filesystem", a.filesystem.clone(), b.filesystem.clone()),
    ];
    let differ = texts.into_iter().filter(|(_, a, b)| a != b);
    let mut doubts: Vec<_> =
        differ.map(|(name, a, b)| format!("other {name}: {a:?}, {b:?}")).collect();
    if let Some((first, second)) = a.fdatasync_p50_us.zip(b.fdatasync_p50_us) {
        let factor = first.max(second) as f64 / first.min(second).max(1) as f64;
        if factor > DISKS_DIFFER {
            let (first, second) = (first as f64, second as f64);
            let (first, second) = (Unit::Micros.show(first), Unit::Micros.show(second));
            doubts.push(format!("the disk was another or busy: fdatasync {first}, {second}"));
        }
    }
    doubts
}

/// The lines that only one of the texts has, as far as they are worth a line.
fn changed(a: &str, b: &str) -> String {
    const LINES_MAX: usize = 4;
    let only = |one: &str, other: &str, sign: char| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    let mut lines = only(a, b, '-');
    lines.extend(only(b, a, '+'));
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", lines.join("; "))
}
