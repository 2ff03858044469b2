//! Objectives: what was asked of a run, and what came of it.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    LOST_TO_CAUGHT_UP,
    record::{CONNECT_TO_CAUGHT_UP, Latency, Objective, Record, SEND_TO_ACK, SEND_TO_DELIVERY},
    scenario::Scenario,
};

/// The part of the sends that must be acked for a rate to count as held.
const HELD: f64 = 0.99;

/// A latency and its limit, such as `p99=50ms` or `delivery-p99=200ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slo {
    latency: &'static str,
    percentile: Percentile,
    limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Percentile {
    P50,
    P90,
    P99,
    P999,
}

impl Percentile {
    const ALL: [(&'static str, Self); 4] =
        [("p50", Self::P50), ("p90", Self::P90), ("p99", Self::P99), ("p999", Self::P999)];

    fn of(self, latency: &Latency) -> u64 {
        match self {
            Self::P50 => latency.p50_us,
            Self::P90 => latency.p90_us,
            Self::P99 => latency.p99_us,
            Self::P999 => latency.p999_us,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is no objective such as \"p99=50ms\" or \"delivery-p99=200ms\"");
        let (what, limit) = text.split_once('=').ok_or_else(expected)?;
        let (latency, percentile) = match what.split_once('-') {
            None => (SEND_TO_ACK, what),
            Some(("ack", percentile)) => (SEND_TO_ACK, percentile),
            Some(("delivery", percentile)) => (SEND_TO_DELIVERY, percentile),
            Some(_) => return Err(expected()),
        };
        let percentile = Percentile::ALL.iter().find(|(name, _)| *name == percentile);
        let (_, percentile) = percentile.ok_or_else(expected)?;
        let limit = crate::config::parse_duration(limit)?;
        if limit.is_zero() {
            return Err(expected());
        }
        Ok(Self { latency, percentile: *percentile, limit })
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <= {:?}", self.latency, self.percentile.name(), self.limit)
    }
}

impl Slo {
    /// What came of it.
    #[must_use]
    pub fn judge(&self, record: &Record) -> Objective {
        let latency = record.latencies.get(self.latency).filter(|it| it.count > 0);
        let measured = latency.map(|it| self.percentile.of(it) as f64 / 1000.0);
        let name = format!("{} {}", self.latency, self.percentile.name());
        Objective::at_most(&name, "ms", self.limit.as_secs_f64() * 1000.0, measured)
    }

    /// Whether a rate was held: the objective was met, 99 % of the sends that were due were acked at
    /// last (what waits longer and longer shows in the latencies), none was shed, and no guarantee was
    /// broken.
    #[must_use]
    pub fn is_held(&self, record: &Record) -> bool {
        let count = |name| record.counts.get(name).copied().unwrap_or(0);
        self.judge(record).met
            && record.is_clean()
            && count("sends shed") == 0
            && count("sends due") > 0
            && count("sends acked") as f64 >= HELD * count("sends due") as f64
    }
}

/// The part of the sends due in the measured time that were acked in it; none = none was due.
#[must_use]
pub fn acked(record: &Record) -> Option<f64> {
    let (offered, acked) = record
        .measured()
        .fold((0, 0), |(offered, acked), it| (offered + it.offered, acked + it.acked));
    (offered > 0).then(|| (acked as f64 / offered as f64).min(1.0))
}

/// All that a scenario asks for.
#[must_use]
pub fn objectives(scenario: &Scenario, record: &Record) -> Vec<Objective> {
    let asked = &scenario.objectives;
    let mut objectives = Vec::new();
    for (latency, limit) in [
        (SEND_TO_ACK, asked.send_to_ack_p99),
        (SEND_TO_DELIVERY, asked.send_to_delivery_p99),
        (CONNECT_TO_CAUGHT_UP, asked.connect_to_caught_up_p99),
        (LOST_TO_CAUGHT_UP, asked.lost_to_caught_up_p99),
    ] {
        let slo = limit.map(|limit| Slo { latency, percentile: Percentile::P99, limit });
        objectives.extend(slo.map(|slo| slo.judge(record)));
    }
    if let Some(limit) = asked.acked {
        let part = |it: f64| it * 100.0;
        let measured = acked(record).map(part);
        objectives.push(Objective::at_least("sends acked in time", "%", part(limit), measured));
    }
    if let Some(limit) = asked.deliveries {
        let count = record.counts.get("deliveries").copied().unwrap_or(0);
        let rate = count as f64 / record.measured_seconds.max(f64::MIN_POSITIVE);
        objectives.push(Objective::at_least("deliveries", "/s", limit, Some(rate)));
    }
    objectives
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(acks_us: &[u64], offered: u64, acked: u64) -> Record {
        let mut histogram = Latency::recorder();
        acks_us.iter().for_each(|it| histogram.record(*it).unwrap());
        let mut record = Record { measured_seconds: 1.0, ..Record::default() };
        record.latencies.insert(SEND_TO_ACK.into(), Latency::of(&histogram));
        let sample =
            super::super::record::Sample { at_ms: 1000, offered, acked, ..Default::default() };
        record.series.push(sample);
        record.counts = [("sends due", offered), ("sends acked", acked)]
            .map(|(name, count)| (name.to_owned(), count))
            .into();
        record
    }

    #[test]
    fn objectives_are_read_and_judged() {
        let slo: Slo = "p99=50ms".parse().unwrap();
        assert!(slo.judge(&record(&[40_000], 1, 1)).met);
        assert!(!slo.judge(&record(&[60_000], 1, 1)).met);
        // Nothing was measured: that is no success.
        assert!(!slo.judge(&Record::default()).met);
        let delivery: Slo = "delivery-p50=1s".parse().unwrap();
        assert_eq!(delivery.to_string(), "send-to-delivery p50 <= 1s");
        for bad in ["p99", "p98=1s", "p99=fast", "p99=0s", "sync-p99=1s", ""] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_held_only_if_what_was_due_was_acked() {
        let slo: Slo = "p99=50ms".parse().unwrap();
        assert!(slo.is_held(&record(&[1000; 100], 100, 100)));
        // The few that were acked were fast.
        assert!(!slo.is_held(&record(&[1000; 90], 100, 90)));
        assert!(!slo.is_held(&record(&[], 0, 0)));
        let mut shed = record(&[1000; 100], 100, 100);
        shed.counts.insert("sends shed".into(), 1);
        assert!(!slo.is_held(&shed));
        let mut broken = record(&[1000; 100], 100, 100);
        broken.violations.push("lost".into());
        assert!(!slo.is_held(&broken));
    }
}
