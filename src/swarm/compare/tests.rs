//! What is called a difference, and what is not.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::swarm::record::{SEND_TO_DELIVERY, Sample, Scenario};

/// A run with latencies around this median, drawn from a seed.
fn run(seconds: u64, median_us: f64, seed: u64) -> Record {
    let mut random = StdRng::seed_from_u64(seed);
    let mut record = Record::new(Scenario::default(), 1, 0);
    record.measured_seconds = seconds as f64;
    record.environment.profile = "release".into();
    let (mut all, mut delivery) = (Latency::recorder(), Latency::recorder());
    for second in 1..=seconds {
        let mut one = Latency::recorder();
        for _ in 0..100 {
            // From a third to three times the median.
            let us = median_us * 9f64.powf(random.random::<f64>() - 0.5);
            all.record(us as u64).unwrap();
            one.record(us as u64).unwrap();
            delivery.record(us as u64 * 2).unwrap();
        }
        record.series.push(Sample {
            at_ms: second * 1000,
            offered: 100,
            acked: random.random_range(90..110),
            delivered: random.random_range(290..310),
            send_to_ack_p50_us: Some(one.value_at_quantile(0.5)),
            send_to_ack_p99_us: Some(one.value_at_quantile(0.99)),
            server_cpu_us: Some(random.random_range(190_000..210_000)),
            server_rss_bytes: Some(1 << 20),
            ..Sample::default()
        });
    }
    record.latencies.insert(SEND_TO_ACK.into(), Latency::of(&all));
    record.latencies.insert(SEND_TO_DELIVERY.into(), Latency::of(&delivery));
    record
}

#[track_caller]
fn figure<'a>(comparison: &'a Comparison, name: &str) -> &'a Figure {
    let found = comparison.figures.iter().find(|figure| figure.name == name);
    found.unwrap_or_else(|| panic!("no figure {name}"))
}

#[test]
fn a_run_is_the_same_as_itself() {
    let record = run(60, 2000.0, 1);
    let comparison = Comparison::of(&record, &record);
    assert_eq!(comparison.doubts, Vec::<String>::new());
    for figure in &comparison.figures {
        let is_same = matches!(figure.difference, Difference::Noise | Difference::Unjudged);
        assert!(is_same, "{figure:?}");
        assert!(figure.ratio().is_none_or(|ratio| ratio == 1.0), "{figure:?}");
        assert!(!figure.is_worse_by(0.0), "{figure:?}");
    }
    assert_eq!(figure(&comparison, "send-to-ack p99").difference, Difference::Noise);
}

#[test]
fn another_run_of_the_same_is_the_same() {
    for seed in 2..12 {
        let comparison = Comparison::of(&run(60, 2000.0, 1), &run(60, 2000.0, seed));
        for figure in &comparison.figures {
            let says = !matches!(figure.difference, Difference::Better | Difference::Worse);
            assert!(says, "seed {seed}: {figure:?}");
        }
    }
}

#[test]
fn twice_the_latency_is_worse_and_half_of_it_better() {
    let (a, b) = (run(60, 2000.0, 1), run(60, 4000.0, 2));
    let (worse, better) = (Comparison::of(&a, &b), Comparison::of(&b, &a));
    for latency in ["send-to-ack", "send-to-delivery"] {
        for percentile in ["p50", "p90", "p99"] {
            let name = format!("{latency} {percentile}");
            let (worse, better) = (figure(&worse, &name), figure(&better, &name));
            assert_eq!(worse.difference, Difference::Worse, "{worse:?}");
            assert_eq!(better.difference, Difference::Better, "{better:?}");
            assert!(worse.is_worse_by(0.5) && !worse.is_worse_by(2.0) && !better.is_worse_by(0.0));
            assert_eq!(worse.is_key, percentile == "p99");
        }
    }
    assert_eq!(figure(&worse, "acked").difference, Difference::Noise);
    assert_eq!(figure(&worse, "daemon memory, most").difference, Difference::Unjudged);
}

#[test]
fn a_lower_rate_is_worse() {
    let a = run(60, 2000.0, 1);
    let mut b = run(60, 2000.0, 2);
    b.series.iter_mut().for_each(|sample| sample.acked = sample.acked * 8 / 10);
    let comparison = Comparison::of(&a, &b);
    let acked = figure(&comparison, "acked");
    assert_eq!(acked.difference, Difference::Worse);
    assert!(acked.is_key && acked.is_worse_by(0.1) && !acked.is_worse_by(0.3), "{acked:?}");
    // The same work for fewer acks.
    assert_eq!(figure(&comparison, "daemon CPU per ack").difference, Difference::Worse);
    assert_eq!(figure(&comparison, "daemon CPU").difference, Difference::Noise);
}

#[test]
fn short_runs_and_missing_figures_say_nothing() {
    let (a, b) = (run(5, 2000.0, 1), run(5, 4000.0, 2));
    let comparison = Comparison::of(&a, &b);
    assert_eq!(figure(&comparison, "send-to-ack p99").difference, Difference::Unknown);
    assert_eq!(comparison.doubts.len(), 2, "{:?}", comparison.doubts);
    let empty = Comparison::of(&Record::default(), &Record::default());
    assert!(empty.figures.iter().all(|figure| figure.ratio().is_none()));
    let gone = Comparison::of(&a, &Record::default());
    assert!(figure(&gone, "send-to-ack p99").is_worse_by(10.0), "it is no longer there");
}

#[test]
fn a_hundred_thousand_seconds_are_compared() {
    let long = |acked| {
        let sample = |n: u64| Sample { at_ms: n * 1000, acked: acked + n % 7, ..Sample::default() };
        Record {
            series: (1..=100_000).map(sample).collect(),
            measured_seconds: 100_000.0,
            ..Record::default()
        }
    };
    let comparison = Comparison::of(&long(100), &long(110));
    assert_eq!(figure(&comparison, "acked").difference, Difference::Better);
}

#[test]
fn other_places_and_scenarios_are_doubtful() {
    let a = run(20, 2000.0, 1);
    let mut b = a.clone();
    b.seed = 2;
    b.scenario.text = "users = 7".into();
    b.environment.kernel = "Linux 7".into();
    b.environment.cpu_model = "another".into();
    b.environment.profile = "debug".into();
    b.violations.push("lost".into());
    let doubts = Comparison::of(&a, &b).doubts.join("\n");
    for word in ["users = 7", "seed", "kernel", "processor", "other build", "debug build", "broke"]
    {
        assert!(doubts.contains(word), "{word} in {doubts}");
    }
    b = a.clone();
    b.environment.fdatasync_p50_us = Some(900);
    let mut a = a;
    a.environment.fdatasync_p50_us = Some(500);
    assert!(Comparison::of(&a, &b).doubts.join("\n").contains("fdatasync 500 µs, 900 µs"));
}
