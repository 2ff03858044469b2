//! Values of scenarios: times and sizes as people write them, and the bounds of numbers.

use std::{fmt::Display, time::Duration};

use super::{ScenarioError, TIME_MAX};

/// Refuses what is outside of the bounds.
pub(super) struct Check<'a> {
    pub(super) name: &'a str,
}

impl Check<'_> {
    /// A number must be within both bounds.
    pub(super) fn number(
        &self,
        key: &str,
        value: f64,
        least: f64,
        most: f64,
    ) -> Result<(), ScenarioError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        self.refuse(key, value, format!("must be between {least} and {most}"))
    }

    /// A product must not be larger.
    pub(super) fn most(&self, key: &str, value: u64, most: u64) -> Result<(), ScenarioError> {
        if value <= most {
            return Ok(());
        }
        self.refuse(key, value, format!("must be at most {most}"))
    }

    /// A time must not be shorter, nor longer than [`TIME_MAX`].
    pub(super) fn time(
        &self,
        key: &str,
        value: Duration,
        least: Duration,
    ) -> Result<(), ScenarioError> {
        if (least..=TIME_MAX).contains(&value) {
            return Ok(());
        }
        self.refuse(key, written(value), format!("must be between {least:?} and 24h"))
    }

    fn refuse<T>(&self, key: &str, value: impl Display, rule: String) -> Result<T, ScenarioError> {
        Err(ScenarioError::Bound {
            name: self.name.into(),
            key: key.into(),
            value: value.to_string(),
            rule,
        })
    }
}

/// In the unit in which it is a whole number.
fn written(span: Duration) -> String {
    match span.as_millis() {
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// For `#[serde(with = "duration")]`.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::written(*span))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        crate::config::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "optional_duration")]`.
pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => to.serialize_str(&super::written(*span)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        super::duration::deserialize(from).map(Some)
    }
}

/// For `#[serde(with = "durations")]`.
pub(super) mod durations {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(spans: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(spans.iter().map(|span| super::written(*span)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let spans = texts.iter().map(|text| crate::config::parse_duration(text));
        spans.collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "size")]`.
pub(super) mod size {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{bytes}B"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        let bytes = crate::config::parse_size(&String::deserialize(from)?);
        usize::try_from(bytes.map_err(D::Error::custom)?).map_err(D::Error::custom)
    }
}
