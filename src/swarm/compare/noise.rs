//! How far a ratio of two runs moves by noise alone.

use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::SECONDS_MIN;

/// Seconds beside each other share their fate (a stall, a flush): they are drawn together.
const BLOCK: usize = 5;
/// A longer run has longer blocks: no more of them are drawn.
const BLOCKS_MAX: usize = 500;
/// How often is drawn.
const DRAWS: usize = 2000;
/// What is left out at each end, so that 99 % remain: a comparison has a dozen figures, and one of them
/// must not be wrong every other time.
const TAIL: f64 = 0.005;
/// Normal deviate of that.
const DEVIATE: f64 = 2.576;
/// Values that share the fate of their neighbours count as one.
const ALIKE: f64 = 5.0;

/// Where a ratio is with a probability of 99 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// From.
    pub low: f64,
    /// To.
    pub high: f64,
}

/// None = no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of the mean of the second through that of the first; none = too few values, or a mean of zero.
pub fn of_means(a: &[f64], b: &[f64]) -> Option<Interval> {
    let (first, second) = (drawn(a)?, drawn(b)?);
    interval(first.iter().zip(&second).map(|(a, b)| b / a).collect())
}

/// The same for values whose logarithms are given: the ratio of the geometric means.
pub fn of_logarithms(a: &[f64], b: &[f64]) -> Option<Interval> {
    let (first, second) = (drawn(a)?, drawn(b)?);
    interval(first.iter().zip(&second).map(|(a, b)| (b - a).exp()).collect())
}

/// Means of blocks of values that are drawn with repetition; the same in every run.
fn drawn(values: &[f64]) -> Option<Vec<f64>> {
    if values.len() < SECONDS_MIN {
        return None;
    }
    let block = BLOCK.max(values.len().div_ceil(BLOCKS_MAX));
    // No place of a block is left out, so that the ends weigh as much as the middle.
    let around = || values.iter().chain(values).copied();
    let mut sum: f64 = values.iter().take(block).sum();
    let mut sums = Vec::with_capacity(values.len());
    for (gone, come) in around().zip(around().skip(block)).take(values.len()) {
        sums.push(sum);
        sum += come - gone;
    }
    let mut random = StdRng::seed_from_u64(values.len() as u64 ^ 0x726f_616d);
    let count = values.len().div_ceil(block);
    let draw = |_| {
        let sum: f64 =
            (0..count).filter_map(|_| sums.get(random.random_range(0..sums.len()))).sum();
        sum / (count * block) as f64
    };
    Some((0..DRAWS).map(draw).collect())
}

fn interval(mut ratios: Vec<f64>) -> Option<Interval> {
    if ratios.iter().any(|ratio| !ratio.is_finite()) {
        return None;
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| ratios.get((part * (ratios.len() as f64 - 1.0)).round() as usize).copied();
    Some(Interval { low: at(TAIL)?, high: at(1.0 - TAIL)? })
}

/// Of a percentile of the second through that of the first, by the order of the values; none = there
/// are too few to have this percentile.
pub fn of_quantiles(a: &Histogram<u64>, b: &Histogram<u64>, quantile: f64) -> Option<Interval> {
    let (first, second) = (around(a, quantile)?, around(b, quantile)?);
    Some(Interval { low: second.low / first.high, high: second.high / first.low })
}

fn around(histogram: &Histogram<u64>, quantile: f64) -> Option<Interval> {
    let count = histogram.len() as f64 / ALIKE;
    let spread = DEVIATE * (quantile * (1.0 - quantile) / count).sqrt();
    // Without anything beyond it a percentile is not there.
    if count * (1.0 - quantile).min(quantile) < 1.0 {
        return None;
    }
    let at = |quantile| histogram.value_at_quantile(quantile).max(1) as f64;
    Some(Interval { low: at((quantile - spread).max(0.0)), high: at((quantile + spread).min(1.0)) })
}
