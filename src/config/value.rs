//! Durations ("7d", "200ms") and sizes ("64KiB") as people write them.

use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZE_UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a whole number and one unit of ms, s, m, h, d.
///
/// # Errors
/// A text for people that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no duration such as \"7d\", \"30s\" or \"200ms\""))
}

/// The shortest exact form in one unit; a rest below a millisecond is lost.
pub(super) fn format_duration(span: Duration) -> String {
    format(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "s")
}

/// Reads a whole number and one unit of B, KiB, MiB, GiB, TiB; without a unit it means bytes.
///
/// # Errors
/// A text for people that says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = text.trim().parse().ok().filter(|_| !text.contains('+'));
    bytes
        .or_else(|| parse(text, SIZE_UNITS))
        .ok_or_else(|| format!("{text:?} is no size such as \"64KiB\", \"1MiB\" or \"512B\""))
}

/// The shortest exact form in one unit.
pub(super) fn format_size(bytes: u64) -> String {
    format(bytes, SIZE_UNITS, "B")
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn format(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let exact = units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    exact.map_or_else(
        || format!("{value}{zero}"),
        |(name, factor)| format!("{}{name}", value / factor),
    )
}

/// For `#[serde(with = "duration")]`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::format_duration(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "size")]` on integers of any width.
pub(super) mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::Error as _};

    pub fn serialize<T, S: Serializer>(size: &T, to: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + TryInto<u64>,
    {
        let bytes = (*size).try_into().map_err(|_| S::Error::custom("larger than 64 bits"))?;
        to.serialize_str(&super::format_size(bytes))
    }

    pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a size such as \"64KiB\"")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        let bytes = match Written::deserialize(from)? {
            Written::Bytes(bytes) => bytes,
            Written::Text(text) => super::parse_size(&text).map_err(D::Error::custom)?,
        };
        T::try_from(bytes).map_err(|_| D::Error::custom("the size is too large"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("7d", ms(7 * 86_400_000)),
            ("90m", ms(5_400_000)),
            ("2h", ms(7_200_000)),
            (" 5 s ", ms(5000)),
            ("200ms", ms(200)),
            ("0s", ms(0)),
        ] {
            assert_eq!(parse_duration(text), Ok(want), "{text}");
        }
        for bad in ["", "7", "d", "-1s", "+1s", "1.5s", "1h30m", "1S", "9999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for (text, want) in [("64KiB", 65536), ("1 MiB", 1 << 20), ("7", 7), ("7B", 7)] {
            assert_eq!(parse_size(text), Ok(want), "{text}");
        }
        for bad in ["", "64KB", "64kib", "1.5MiB", "-1", "+1", "99999999TiB", "KiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(format_duration(ms(5_400_000)), "90m");
        assert_eq!(format_size(65536), "64KiB");
        assert_eq!((format_duration(ms(0)), format_size(0)), ("0s".to_owned(), "0B".to_owned()));
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(number: u64) {
            prop_assert_eq!(parse_size(&format_size(number)), Ok(number));
            let span = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }
    }
}
