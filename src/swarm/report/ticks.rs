//! Where the marks of an axis stand: at round numbers, few enough to read.

use super::text::{Unit, number};

/// How an axis turns values into places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Even steps.
    Linear,
    /// Even factors, for values above zero.
    Log,
}

/// An axis: what it shows, and its marks.
#[derive(Clone, Debug)]
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Marks: value and text.
    pub marks: Vec<(f64, String)>,
    /// The unit that all marks have, in words.
    pub unit: String,
}

impl Axis {
    /// From zero to a round number that is not less than `most`, with about so many marks.
    #[must_use]
    pub fn linear(unit: Unit, most: f64, about: usize) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let (factor, name) = scaled(unit, most);
        let step = step(most / factor, about, unit) * factor;
        let steps = (most / step - 1e-9).ceil().max(1.0) as usize;
        let marks = (0..=steps).map(|n| n as f64 * step);
        let marks = marks.map(|value| (value, number(value / factor))).collect();
        Self { scale: Scale::Linear, low: 0.0, high: steps as f64 * step, marks, unit: name }
    }

    /// From `least` to `most`, both above zero, with marks at powers of ten and, where there are few of
    /// them, between them. Each mark has its own unit.
    #[must_use]
    pub fn log(unit: Unit, least: f64, most: f64) -> Self {
        let least = if least.is_finite() && least > 0.0 { least } else { 1.0 };
        let most = if most.is_finite() { most.max(least * 2.0) } else { least * 10.0 };
        let decades = (most / least).log10();
        let within: &[f64] = match decades {
            _ if decades < 1.5 => &[1.0, 2.0, 3.0, 5.0, 7.0],
            _ if decades < 2.5 => &[1.0, 2.0, 5.0],
            _ if decades < 4.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let every = (decades / 8.0).ceil().max(1.0) as i32;
        let powers = (least.log10().floor() as i32 - every)..=(most.log10().ceil() as i32 + every);
        let all: Vec<f64> = powers
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| within.iter().map(move |part| part * 10f64.powi(power)))
            .collect();
        let low = all.iter().copied().filter(|mark| *mark <= least * 1.001).fold(0.0, f64::max);
        let high =
            all.iter().copied().filter(|mark| *mark >= most * 0.999).fold(f64::MAX, f64::min);
        let marks = all.into_iter().filter(|mark| (low..=high).contains(mark));
        let marks = marks.map(|value| (value, unit.show(value))).collect();
        Self { scale: Scale::Log, low, high, marks, unit: String::new() }
    }

    /// Time from `least` to `most` seconds, at seconds, minutes and hours.
    #[must_use]
    pub fn time(least: f64, most: f64, about: usize) -> Self {
        const STEPS: [f64; 17] = [
            0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0,
            1800.0, 3600.0, 7200.0,
        ];
        let most = if most.is_finite() { most.max(least + 0.1) } else { least + 1.0 };
        let span = (most - least) / about.max(1) as f64;
        let fits = STEPS.into_iter().find(|step| *step >= span);
        let step = fits.unwrap_or_else(|| (span / 3600.0 / 4.0).ceil() * 4.0 * 3600.0);
        let first = (least / step - 1e-9).ceil() as u64;
        let last = (most / step + 1e-9).floor() as u64;
        let (per, unit) = match step {
            _ if step < 60.0 => (1.0, "seconds"),
            _ if step < 3600.0 => (60.0, "minutes"),
            _ => (3600.0, "hours"),
        };
        let marks = (first..=last).map(|n| n as f64 * step);
        let marks = marks.map(|value| (value, number(value / per))).collect();
        Self { scale: Scale::Linear, low: least, high: most, marks, unit: unit.to_owned() }
    }

    /// Parts of all in the order of their size, from 0 % to the last part that `count` values can tell
    /// from the greatest: 90 %, 99 %, 99.9 %, ... stand at equal distances. Values on this axis are
    /// `1 / (1 - part)`.
    #[must_use]
    pub fn nines(count: u64) -> Self {
        const NAMES: [&str; 10] = [
            "0 %",
            "90 %",
            "99 %",
            "99.9 %",
            "99.99 %",
            "99.999 %",
            "99.9999 %",
            "99.99999 %",
            "99.999999 %",
            "99.9999999 %",
        ];
        let high = (count.max(10) as f64).min(1e9);
        let marks = NAMES.iter().enumerate().map(|(n, name)| (10f64.powi(n as i32), *name));
        let marks = marks.filter(|(value, _)| *value <= high * 1.001);
        let marks = marks.map(|(value, name)| (value, name.to_owned())).collect();
        Self { scale: Scale::Log, low: 1.0, high, marks, unit: "of all took no longer".to_owned() }
    }

    /// The place of a value: 0 at the low end, 1 at the high end, never outside.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let (value, low, high) = match self.scale {
            Scale::Linear => (value, self.low, self.high),
            Scale::Log => (value.max(f64::MIN_POSITIVE).ln(), self.low.ln(), self.high.ln()),
        };
        let place = (value - low) / (high - low);
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A factor that makes values up to `most` readable, and the unit's name then.
fn scaled(unit: Unit, most: f64) -> (f64, String) {
    let (factor, name) = match unit {
        Unit::Count if most >= 1e6 => (1e6, "million"),
        Unit::Count => (1.0, ""),
        Unit::PerSecond if most >= 1e6 => (1e6, "million per second"),
        Unit::PerSecond if most >= 2e5 => (1e3, "thousand per second"),
        Unit::PerSecond => (1.0, "per second"),
        Unit::Processors => (1.0, "processors"),
        Unit::Part => (0.01, "%"),
        Unit::Micros if most < 1e3 => (1.0, "µs"),
        Unit::Micros if most < 1e6 => (1e3, "ms"),
        Unit::Micros => (1e6, "s"),
        Unit::Bytes if most < 1024.0 * 1024.0 => (1024.0, "KiB"),
        Unit::Bytes if most < 2048.0 * 1024.0 * 1024.0 => (1024.0 * 1024.0, "MiB"),
        Unit::Bytes => (1024.0 * 1024.0 * 1024.0, "GiB"),
    };
    (factor, name.to_owned())
}

/// A step of 1, 2, 2.5 or 5 times a power of ten that leads to `most` in at most about so many.
fn step(most: f64, about: usize, unit: Unit) -> f64 {
    let rough = most / about.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let part = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|part| part * power >= rough * 0.999);
    let step = part.unwrap_or(10.0) * power;
    // Half a message is none.
    if matches!(unit, Unit::Count) && most < 1e3 { step.max(1.0).ceil() } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn linear_marks_are_round_and_cover_the_values() {
        assert_eq!(
            texts(&Axis::linear(Unit::PerSecond, 950.0, 5)),
            ["0", "200", "400", "600", "800", "1,000"]
        );
        let axis = Axis::linear(Unit::Micros, 12_345.0, 5);
        assert_eq!(
            (axis.unit.as_str(), texts(&axis)),
            ("ms", vec!["0", "2.5", "5", "7.5", "10", "12.5"])
        );
        assert_eq!(texts(&Axis::linear(Unit::Count, 1.0, 5)), ["0", "1"]);
        for most in [1e-9, 0.3, 1.0, 7.0, 99.9, 1e6, 3.3e12] {
            for about in [1, 3, 5, 10] {
                let axis = Axis::linear(Unit::PerSecond, most, about);
                assert!(axis.high >= most * 0.999_999, "{most} {about} {axis:?}");
                assert!(axis.marks.len() <= about + 2, "{most} {about} {axis:?}");
            }
        }
    }

    #[test]
    fn nothing_to_show_is_an_axis_too() {
        for most in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Axis::linear(Unit::Count, most, 5).marks.len() > 1);
            assert!(Axis::log(Unit::Micros, most, most).marks.len() > 1);
            assert!(!Axis::time(0.0, most, 5).marks.is_empty());
        }
        assert_eq!(Axis::linear(Unit::Count, 5.0, 5).place(f64::NAN), 0.0);
    }

    #[test]
    fn log_marks_cover_the_values_and_are_few() {
        let axis = Axis::log(Unit::Micros, 180.0, 2_600_000.0);
        assert_eq!(texts(&axis), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        for (least, most) in [(1.0, 1.0), (90.0, 110.0), (900.0, 7000.0), (1.0, 1e12)] {
            let axis = Axis::log(Unit::Micros, least, most);
            assert!(axis.low <= least * 1.001 && axis.high >= most * 0.999, "{axis:?}");
            assert!((2..=12).contains(&axis.marks.len()), "{axis:?}");
        }
    }

    #[test]
    fn time_is_in_units_of_the_clock() {
        assert_eq!(texts(&Axis::time(0.0, 60.0, 6)), ["0", "10", "20", "30", "40", "50", "60"]);
        let hour = Axis::time(0.0, 3600.0, 6);
        assert_eq!((hour.unit.as_str(), texts(&hour)[1]), ("minutes", "10"));
        let day = Axis::time(0.0, 100_000.0, 6);
        assert_eq!(day.unit, "hours");
        assert!(day.marks.len() <= 8, "{day:?}");
        assert_eq!(texts(&Axis::time(0.0, 1.0, 6)).len(), 6);
    }

    #[test]
    fn nines_end_where_the_values_do() {
        assert_eq!(texts(&Axis::nines(0)), ["0 %", "90 %"]);
        assert_eq!(texts(&Axis::nines(5000)), ["0 %", "90 %", "99 %", "99.9 %"]);
        let axis = Axis::nines(1000);
        assert!((axis.place(10.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(axis.place(1e20), 1.0);
    }
}
