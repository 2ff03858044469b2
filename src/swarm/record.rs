//! The figures of one run: plain values without a clock or a file, as they stand in `report.json`.
//!
//! Units are in the names. A count of a [`Sample`] is what happened within it, never a sum since the
//! start; a gauge is its value at the end of the sample. Figures that could not be had (a daemon on
//! another machine, a second without an ack) are `None`, never zero. A field added later needs
//! `#[serde(default)]`; another meaning of a field needs another [`VERSION`].

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Version of the form of a [`Record`].
pub const VERSION: u32 = 1;
/// From the intended moment of a send to its ack.
pub const SEND_TO_ACK: &str = "send-to-ack";
/// From the intended moment of a send to a live device of a member.
pub const SEND_TO_DELIVERY: &str = "send-to-delivery";
/// From the start of a connection to `CaughtUp`.
pub const CONNECT_TO_CAUGHT_UP: &str = "connect-to-caught-up";
/// Significant digits of every histogram: a figure is at most 0.1 % off.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// What was run.
    pub scenario: Scenario,
    /// What every random choice of the bots came from.
    pub seed: u64,
    /// When it started.
    pub started_unix_ms: u64,
    /// How long it ran before anything was measured. The series has this time too, the latencies and
    /// counts do not.
    pub warm_up_seconds: f64,
    /// How long it was measured after that. What the series has later is the wait for what was under way.
    pub measured_seconds: f64,
    /// Where it ran.
    pub environment: Environment,
    /// One sample per second from the start, in order of time.
    pub series: Vec<Sample>,
    /// Latencies by name, such as [`SEND_TO_ACK`].
    pub latencies: BTreeMap<String, Latency>,
    /// How many entries one ack of a device covered -> how often.
    pub ack_batches: BTreeMap<u64, u64>,
    /// Other counts of the measured time, by name.
    pub counts: BTreeMap<String, u64>,
    /// Broken guarantees, in words.
    pub violations: Vec<String>,
    /// What was asked of the run.
    pub objectives: Vec<Objective>,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// All of it, in TOML, as it was run: with what the command line changed.
    pub text: String,
}

/// Where it ran. Texts are empty and numbers `None` where it could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the daemon.
    pub roamd_version: String,
    /// Version of the swarm.
    pub roam_version: String,
    /// `debug` or `release`.
    pub profile: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// How many processors the system has.
    pub cpu_count: Option<u64>,
    /// Memory of the system.
    pub memory_bytes: Option<u64>,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Filesystem of the daemon's data.
    pub filesystem: String,
    /// What one `fdatasync` of a few bytes takes on that filesystem (median).
    pub fdatasync_p50_us: Option<u64>,
}

/// What happened within one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// End of the sample since the start of the run. It begins where the one before ends.
    pub at_ms: u64,
    /// Sends that were due.
    pub offered: u64,
    /// Sends that went out.
    pub sent: u64,
    /// Sends that were acked.
    pub acked: u64,
    /// Messages that reached a live device.
    pub delivered: u64,
    /// Requests that were refused or had no answer in time.
    pub errors: u64,
    /// Connections made after the first of a device.
    pub reconnects: u64,
    /// Sends without an answer at the end of the sample.
    pub in_flight: u64,
    /// Median of [`SEND_TO_ACK`] of the acks in the sample.
    pub send_to_ack_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub send_to_ack_p99_us: Option<u64>,
    /// Processor time the daemon used: a million in a second = one processor.
    pub server_cpu_us: Option<u64>,
    /// Resident memory of the daemon.
    pub server_rss_bytes: Option<u64>,
    /// Processor time the swarm used.
    pub swarm_cpu_us: Option<u64>,
    /// Resident memory of the swarm.
    pub swarm_rss_bytes: Option<u64>,
}

/// A sample and when it began.
#[derive(Clone, Copy, Debug)]
pub struct Timed<'a> {
    /// What happened.
    pub sample: &'a Sample,
    /// Beginning since the start of the run; the end is that of the sample.
    pub start_ms: u64,
    /// Whether it is of the measured time.
    pub is_measured: bool,
}

impl Timed<'_> {
    /// How long it lasted; zero if the clock stood still.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.sample.at_ms.saturating_sub(self.start_ms) as f64 / 1000.0
    }

    /// A count of the sample, per second.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

/// A distribution of durations in microseconds. All zero if `count` is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Shortest.
    pub min_us: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90 % took no longer.
    pub p90_us: u64,
    /// 99 % took no longer.
    pub p99_us: u64,
    /// 99.9 % took no longer.
    pub p999_us: u64,
    /// 99.99 % took no longer.
    pub p9999_us: u64,
    /// Longest.
    pub max_us: u64,
    /// The whole distribution: (microseconds, how often), ascending. Runs can be merged by it.
    pub distribution: Vec<(u64, u64)>,
}

/// Which side of the limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// At most the limit.
    AtMost,
    /// At least the limit.
    AtLeast,
}

/// What was asked of the run, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// The figure, such as `send-to-ack p99`.
    pub name: String,
    /// Unit of both numbers, such as `ms` or `/s`; may be empty.
    pub unit: String,
    /// Which side is good.
    pub bound: Bound,
    /// The limit.
    pub limit: f64,
    /// The figure of this run; `None`: there was nothing to measure, so it is missed.
    pub measured: Option<f64>,
    /// Whether it was met.
    pub met: bool,
}

impl Record {
    /// An empty record of this form.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64, started_unix_ms: u64) -> Self {
        Self { version: VERSION, scenario, seed, started_unix_ms, ..Self::default() }
    }

    /// All samples with their beginnings, in order of time.
    pub fn timed(&self) -> impl Iterator<Item = Timed<'_>> {
        let from_ms = self.warm_up_seconds * 1000.0;
        let to_ms = from_ms + self.measured_seconds * 1000.0;
        let starts = std::iter::once(0).chain(self.series.iter().map(|sample| sample.at_ms));
        self.series.iter().zip(starts).map(move |(sample, start_ms)| {
            // A sample is measured if its middle is: the clock of the samples may be a little off.
            let middle_ms = (start_ms as f64 + sample.at_ms as f64) / 2.0;
            Timed { sample, start_ms, is_measured: (from_ms..=to_ms).contains(&middle_ms) }
        })
    }

    /// The samples of the measured time: without warm-up, and without the wait at the end.
    pub fn measured(&self) -> impl Iterator<Item = &Sample> {
        self.timed().filter(|timed| timed.is_measured).map(|timed| timed.sample)
    }

    /// Whether no guarantee was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether every objective was met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.objectives.iter().all(|objective| objective.met)
    }
}

impl Latency {
    /// An empty histogram of microseconds, as all latencies are recorded in.
    ///
    /// # Panics
    /// Never: the bounds are constants that hold.
    #[must_use]
    pub fn recorder() -> Histogram<u64> {
        Histogram::new(SIGNIFICANT_DIGITS).expect("the number of digits is in 0..=5")
    }

    /// The figures of a histogram of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let recorded = histogram.iter_recorded();
        Self {
            count: histogram.len(),
            min_us: histogram.min(),
            // To the nanosecond: more digits say nothing, and this many survive being written down.
            mean_us: (histogram.mean() * 1000.0).round() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: histogram.max(),
            distribution: recorded
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect(),
        }
    }

    /// The histogram again. Values no histogram can hold are taken for the longest that it can.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Self::recorder();
        for (value, count) in &self.distribution {
            // It grows by itself, up to values of 300,000 years.
            if histogram.record_n(*value, *count).is_err() {
                let _ = histogram.record_n(u64::MAX >> 1, *count);
            }
        }
        histogram
    }

    /// The figures of both together.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut histogram = self.histogram();
        // Both are of the same form, and the sum grows as needed.
        let _ = histogram.add(other.histogram());
        Self::of(&histogram)
    }
}

impl Objective {
    /// The figure may be at most `limit`.
    #[must_use]
    pub fn at_most(name: &str, unit: &str, limit: f64, measured: Option<f64>) -> Self {
        Self::new(Bound::AtMost, name, unit, limit, measured)
    }

    /// The figure must be at least `limit`.
    #[must_use]
    pub fn at_least(name: &str, unit: &str, limit: f64, measured: Option<f64>) -> Self {
        Self::new(Bound::AtLeast, name, unit, limit, measured)
    }

    fn new(bound: Bound, name: &str, unit: &str, limit: f64, measured: Option<f64>) -> Self {
        let met = measured.is_some_and(|measured| match bound {
            Bound::AtMost => measured <= limit,
            Bound::AtLeast => measured >= limit,
        });
        Self { name: name.to_owned(), unit: unit.to_owned(), bound, limit, measured, met }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut histogram = Latency::recorder();
        for value in values {
            histogram.record(value).unwrap();
        }
        Latency::of(&histogram)
    }

    #[test]
    fn figures_are_those_of_the_values() {
        let all = latency(1..=1000);
        assert_eq!((all.count, all.min_us, all.max_us), (1000, 1, 1000));
        assert_eq!((all.p50_us, all.p90_us, all.p99_us, all.p999_us), (500, 900, 990, 999));
        assert_eq!(all.p9999_us, 1000);
        assert_eq!(latency([]), Latency::default());
    }

    #[test]
    fn a_distribution_survives_being_written_down() {
        let all = latency((1..2000).map(|n| n * n));
        assert_eq!(Latency::of(&all.histogram()), all);
        let (odd, even) =
            (latency((1..2000).step_by(2).map(|n| n * n)), (2..2000).step_by(2).map(|n| n * n));
        assert_eq!(odd.merged(&latency(even)), all);
        assert_eq!(all.merged(&Latency::default()), all);
    }

    #[test]
    fn no_value_is_too_large_to_be_read() {
        let read = Latency { distribution: vec![(7, 1), (u64::MAX, 2)], ..Latency::default() };
        let histogram = read.histogram();
        assert_eq!((histogram.len(), histogram.min()), (3, 7));
    }

    #[test]
    fn an_objective_is_met_on_its_side_of_the_limit() {
        assert!(Objective::at_most("p99", "ms", 5.0, Some(5.0)).met);
        assert!(!Objective::at_most("p99", "ms", 5.0, Some(5.1)).met);
        assert!(Objective::at_least("rate", "/s", 5.0, Some(5.0)).met);
        assert!(!Objective::at_least("rate", "/s", 5.0, Some(4.9)).met);
        assert!(!Objective::at_most("p99", "ms", 5.0, None).met);
    }

    #[test]
    fn the_measured_time_has_neither_warm_up_nor_end() {
        let mut record = Record::new(Scenario::default(), 1, 0);
        record.warm_up_seconds = 2.0;
        record.measured_seconds = 3.0;
        // The clock of the samples is late by up to 20 ms.
        record.series =
            (1..8).map(|n| Sample { at_ms: n * 1000 + n * 3, ..Sample::default() }).collect();
        let measured: Vec<_> = record.measured().map(|sample| sample.at_ms / 1000).collect();
        assert_eq!(measured, [3, 4, 5]);
    }
}
