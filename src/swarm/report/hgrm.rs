//! A latency as text in the form of HdrHistogram's `outputPercentileDistribution`, which its plotters read.

use std::fmt::Write;

use crate::swarm::record::Latency;

/// Lines per halving of what is left: what the other programs use.
const PER_HALVING: u32 = 5;
/// Microseconds in a unit of the text, a millisecond.
const SCALE: f64 = 1000.0;
/// Linear steps of each power of two of a histogram with three significant digits.
const SUB_BUCKETS: u32 = 2048;

/// The percentiles of a latency, in milliseconds.
#[must_use]
pub fn percentiles(latency: &Latency) -> String {
    let histogram = latency.histogram();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for step in histogram.iter_quantiles(PER_HALVING) {
        count += step.count_since_last_iteration();
        let (value, part) = (step.value_iterated_to() as f64 / SCALE, step.quantile_iterated_to());
        let _ = write!(text, "{value:12.3} {part:1.12} {count:10}");
        if part < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - part));
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean() / SCALE,
        histogram.stdev() / SCALE
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / SCALE,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {SUB_BUCKETS:12}]",
        histogram.buckets()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rise_to_the_last_value() {
        let mut histogram = Latency::recorder();
        (1..=10_000_u64).for_each(|us| histogram.record(us * 100).unwrap());
        let text = percentiles(&Latency::of(&histogram));
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|line| line.starts_with(' ') && !line.contains('V'))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20, "{text}");
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 500.0).abs() < 1.0 && (median[3] - 2.0).abs() < 0.01, "{median:?}");
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 10_000.0));
        assert!((last[0] - 1000.0).abs() < 1.0, "{last:?}");
        assert!(text.contains("Total count    =        10000]"), "{text}");
    }

    #[test]
    fn nothing_measured_is_a_valid_text() {
        let text = percentiles(&Latency::default());
        assert!(text.contains("Total count    =            0]"), "{text}");
    }
}
