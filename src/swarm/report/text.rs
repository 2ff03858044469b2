//! Figures in the words of people: three digits and a unit that fits; and text of others made harmless.

use crate::{cli::output::harmless, time::Timestamp};

/// What a number counts, and so how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    Count,
    /// Something per second.
    PerSecond,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
    /// Processors: 1 = one of them is busy all the time.
    Processors,
    /// A part of one, shown in per cent.
    Part,
}

impl Unit {
    /// The name of the bare number, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::PerSecond => "per_second",
            Self::Micros => "us",
            Self::Bytes => "bytes",
            Self::Processors => "processors",
            Self::Part => "part",
        }
    }

    /// The number with its unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Count => number(value),
            Self::PerSecond => format!("{}/s", number(value)),
            Self::Micros => micros(value),
            Self::Bytes => bytes(value),
            Self::Processors => number(value),
            Self::Part => format!("{} %", number(value * 100.0)),
        }
    }
}

/// Three digits, more only where they are whole: 0.123, 12.3, 1,234.
#[must_use]
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size == size.trunc() || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    format!("{}{rest}", thousands(whole))
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.split_at(usize::from(digits.starts_with('-')));
    let mut text = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn micros(us: f64) -> String {
    match us.abs() {
        size if size < 999.5 => format!("{} µs", number(us)),
        size if size < 999_500.0 => format!("{} ms", number(us / 1e3)),
        size if size < 600e6 => format!("{} s", number(us / 1e6)),
        _ => format!("{} min", number(us / 60e6)),
    }
}

fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value.abs() < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", number(value))
}

/// Seconds of a run: 45 s, 1:30 min, 2:03:04 h.
#[must_use]
pub fn clock(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{} s", number(seconds));
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02} min"),
        _ => format!("{hours}:{minutes:02}:{seconds:02} h"),
    }
}

/// A moment in UTC, to the second.
#[must_use]
pub fn moment(unix_ms: u64) -> String {
    format!("{} UTC", Timestamp::from_millis(unix_ms).utc())
}

/// Text of others for HTML, between tags or in quotes.
#[must_use]
pub fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            safe.push('\n');
        }
        for c in harmless(&line.replace('\t', "    ")).chars() {
            match c {
                '&' => safe.push_str("&amp;"),
                '<' => safe.push_str("&lt;"),
                '>' => safe.push_str("&gt;"),
                '"' => safe.push_str("&quot;"),
                '\'' => safe.push_str("&#39;"),
                c => safe.push(c),
            }
        }
    }
    safe
}

/// Text of others for one line of Markdown: nothing in it is mark-up, a link or HTML.
#[must_use]
pub fn markdown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut safe = String::with_capacity(line.len());
    for c in harmless(&line).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '|' | '!' | '~' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let shown = [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.5, "0.5"),
            (0.12345, "0.123"),
            (1.2345, "1.23"),
            (9.999, "10"),
            (12.345, "12.3"),
            (123.45, "123"),
            (99.96, "100"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-4567.0, "-4,567"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ];
        for (value, text) in shown {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn units_fit() {
        assert_eq!(Unit::Micros.show(834.0), "834 µs");
        assert_eq!(Unit::Micros.show(999.7), "1 ms");
        assert_eq!(Unit::Micros.show(12_345.0), "12.3 ms");
        assert_eq!(Unit::Micros.show(2_500_000.0), "2.5 s");
        assert_eq!(Unit::Micros.show(1.8e9), "30 min");
        assert_eq!(Unit::Bytes.show(999.0), "999 B");
        assert_eq!(Unit::Bytes.show(1536.0), "1.5 KiB");
        assert_eq!(Unit::Bytes.show(3.5 * 1024.0 * 1024.0), "3.5 MiB");
        assert_eq!(Unit::PerSecond.show(1200.0), "1,200/s");
        assert_eq!(Unit::Part.show(0.125), "12.5 %");
        assert_eq!(clock(45.0), "45 s");
        assert_eq!(clock(90.0), "1:30 min");
        assert_eq!(clock(7384.0), "2:03:04 h");
    }

    #[test]
    fn text_of_others_is_only_text() {
        assert_eq!(
            html("<b a='x' b=\"y\">&\n\u{202e}"),
            "&lt;b a=&#39;x&#39; b=&quot;y&quot;&gt;&amp;\n\u{fffd}"
        );
        assert_eq!(markdown("a | b\n# c <i> [x](y)"), "a \\| b \\# c &lt;i&gt; \\[x\\]\\(y\\)");
    }
}
