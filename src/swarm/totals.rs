//! The measured time of a run summed up: what page, summary and comparison show of it.

use super::record::{Record, Sample};

/// Sums and peaks over the measured samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// How long the samples lasted.
    pub seconds: f64,
    /// Sends that were due.
    pub offered: u64,
    /// Sends that were acked.
    pub acked: u64,
    /// Messages that reached a live device.
    pub delivered: u64,
    /// Requests that were refused or had no answer.
    pub errors: u64,
    /// Connections after the first of a device.
    pub reconnects: u64,
    /// Most sends without an answer at the end of a sample.
    pub in_flight_max: u64,
    /// The daemon.
    pub server: Usage,
    /// The swarm.
    pub swarm: Usage,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processors that were busy on average.
    pub processors: Option<f64>,
    /// Processor time in microseconds.
    pub cpu_us: Option<u64>,
    /// Most resident memory.
    pub rss_bytes_max: Option<u64>,
}

impl Totals {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut totals = Self::default();
        for timed in record.timed().filter(|timed| timed.is_measured) {
            let sample = timed.sample;
            totals.seconds += timed.seconds();
            let sums: [(&mut u64, u64); 5] = [
                (&mut totals.offered, sample.offered),
                (&mut totals.acked, sample.acked),
                (&mut totals.delivered, sample.delivered),
                (&mut totals.errors, sample.errors),
                (&mut totals.reconnects, sample.reconnects),
            ];
            for (sum, count) in sums {
                *sum = sum.saturating_add(count);
            }
            totals.in_flight_max = totals.in_flight_max.max(sample.in_flight);
        }
        totals.server = Usage::of(record, |it| it.server_cpu_us, |it| it.server_rss_bytes);
        totals.swarm = Usage::of(record, |it| it.swarm_cpu_us, |it| it.swarm_rss_bytes);
        totals
    }

    /// A count of it, per second; zero if nothing was measured.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// Processor time of the daemon per acked send, in microseconds.
    #[must_use]
    pub fn server_us_per_ack(&self) -> Option<f64> {
        let cpu_us = self.server.cpu_us.filter(|_| self.acked > 0)?;
        Some(cpu_us as f64 / self.acked as f64)
    }
}

impl Usage {
    fn of(
        record: &Record,
        cpu: impl Fn(&Sample) -> Option<u64>,
        rss: impl Fn(&Sample) -> Option<u64>,
    ) -> Self {
        let (mut usage, mut seconds) = (Self::default(), 0.0);
        for timed in record.timed().filter(|timed| timed.is_measured) {
            if let Some(cpu_us) = cpu(timed.sample) {
                seconds += timed.seconds();
                usage.cpu_us = Some(usage.cpu_us.unwrap_or(0).saturating_add(cpu_us));
            }
            usage.rss_bytes_max = usage.rss_bytes_max.max(rss(timed.sample));
        }
        let busy = usage.cpu_us.filter(|_| seconds > 0.0);
        usage.processors = busy.map(|cpu_us| cpu_us as f64 / 1e6 / seconds);
        usage
    }
}

/// The mean number of entries per ack; none = no ack.
#[must_use]
pub fn entries_per_ack(record: &Record) -> Option<f64> {
    let (mut acks, mut entries) = (0.0, 0.0);
    for (covered, times) in &record.ack_batches {
        acks += *times as f64;
        entries += *covered as f64 * *times as f64;
    }
    (acks > 0.0).then(|| entries / acks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_time_counts() {
        let mut record =
            Record { warm_up_seconds: 1.0, measured_seconds: 2.0, ..Record::default() };
        let sample = |at_ms, acked, server_cpu_us, server_rss_bytes| Sample {
            at_ms,
            acked,
            server_cpu_us,
            server_rss_bytes,
            ..Sample::default()
        };
        record.series = vec![
            sample(1000, 1000, Some(9_000_000), Some(900)),
            sample(2000, 10, Some(500_000), Some(100)),
            sample(3000, 30, None, Some(200)),
            sample(4000, 1000, Some(9_000_000), Some(900)),
        ];
        let totals = Totals::of(&record);
        assert_eq!((totals.seconds, totals.acked, totals.rate(totals.acked)), (2.0, 40, 20.0));
        assert_eq!(totals.server.rss_bytes_max, Some(200));
        // The second without a figure is not counted as idle.
        assert_eq!(totals.server.processors, Some(0.5));
        assert_eq!(totals.server_us_per_ack(), Some(12_500.0));
        assert_eq!(totals.swarm, Usage::default());
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        let totals = Totals::of(&Record::default());
        assert_eq!((totals.rate(5), totals.server_us_per_ack()), (0.0, None));
        assert_eq!(entries_per_ack(&Record::default()), None);
        let record = Record { ack_batches: [(1, 3), (5, 1)].into(), ..Record::default() };
        assert_eq!(entries_per_ack(&record), Some(2.0));
    }
}
