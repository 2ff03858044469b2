//! IRC logs: which lines are messages, who wrote them, who else was there.
//!
//! `[HH:MM] <nick> text` is a message, `[HH:MM]  * nick text` an action, `=== …` a notice. Texts are
//! bytes: a line that is not valid UTF-8 is a message like any other.

use std::collections::BTreeMap;

use bytes::Bytes;

/// One message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index of the author in [`Channel::nicks`].
    pub author: usize,
    /// Minutes since the log's first midnight.
    pub minute: u32,
    /// `* nick text` instead of `<nick> text`.
    pub action: bool,
    /// What was written.
    pub text: Bytes,
}

/// One log.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The file's name without its ending.
    pub name: String,
    /// Everybody who wrote, came, went or changed names, in the order of appearance.
    pub nicks: Vec<Bytes>,
    /// In the order of the file.
    pub lines: Vec<Line>,
    /// Lines that are nothing of the above.
    pub skipped: usize,
}

/// Reads a log.
#[must_use]
pub fn parse(name: &str, log: &[u8]) -> Channel {
    let mut channel = Channel { name: name.to_owned(), ..Channel::default() };
    let mut known = BTreeMap::new();
    let mut last_minute = 0;
    let mut midnight = 0;
    for line in log.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut nick = |channel: &mut Channel, nick: &[u8]| {
            *known.entry(nick.to_vec()).or_insert_with(|| {
                channel.nicks.push(Bytes::copy_from_slice(nick));
                channel.nicks.len() - 1
            })
        };
        if let Some((minute, author, action, text)) = message(line) {
            if minute < last_minute {
                midnight += 24 * 60;
            }
            last_minute = minute;
            let author = nick(&mut channel, author);
            let text = Bytes::copy_from_slice(text);
            channel.lines.push(Line { author, minute: midnight + minute, action, text });
        } else if let Some(notice) = line.strip_prefix(b"=== ") {
            for name in present(notice) {
                nick(&mut channel, name);
            }
        } else if !line.is_empty() {
            channel.skipped += 1;
        }
    }
    channel
}

fn message(line: &[u8]) -> Option<(u32, &[u8], bool, &[u8])> {
    let (clock, rest) = line.strip_prefix(b"[")?.split_at_checked(5)?;
    let clock = std::str::from_utf8(clock).ok()?;
    let (hours, minutes) = clock.split_once(':')?;
    let minute = hours.parse::<u32>().ok()? * 60 + minutes.parse::<u32>().ok()?;
    let rest = rest.strip_prefix(b"] ")?;
    let (action, rest, end) = match rest.strip_prefix(b"<") {
        Some(rest) => (false, rest, b'>'),
        None => (true, rest.strip_prefix(b" * ").or_else(|| rest.strip_prefix(b"* "))?, b' '),
    };
    let at = rest.iter().position(|byte| *byte == end)?;
    let (nick, text) = rest.split_at(at);
    let text = text.get(1..).unwrap_or_default();
    let text = if action { text } else { text.strip_prefix(b" ").unwrap_or(text) };
    (!nick.is_empty()).then_some((minute, nick, action, text))
}

/// Whom a notice names: those who change names, come or go.
fn present(notice: &[u8]) -> Vec<&[u8]> {
    let words: Vec<&[u8]> = notice.split(|b| *b == b' ').filter(|word| !word.is_empty()).collect();
    match words.as_slice() {
        [old, b"is", b"now", b"known", b"as", new] => vec![old, new],
        [nick, host, rest @ ..] if host.starts_with(b"[") => {
            let moves = rest
                .windows(2)
                .any(|w| w == [&b"has"[..], b"joined"] || w == [&b"has"[..], b"left"]);
            if moves { vec![nick] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_actions_and_notices() {
        let log = b"[23:59] <a|b> hi <x> \xff\n[00:01]  * c_ waves\n=== d is now known as e\n\
=== f [n=x@host]  has joined #u\n=== mode/#u [+o g]  by h\nnonsense\n[00:02] <a|b>\n";
        let channel = parse("u", log);
        let nicks: Vec<&[u8]> = channel.nicks.iter().map(|nick| &nick[..]).collect();
        assert_eq!(nicks, [&b"a|b"[..], b"c_", b"d", b"e", b"f"]);
        let line = |author, minute, action, text: &'static [u8]| Line {
            author,
            minute,
            action,
            text: Bytes::from_static(text),
        };
        assert_eq!(
            channel.lines,
            [
                line(0, 23 * 60 + 59, false, b"hi <x> \xff"),
                line(1, 24 * 60 + 1, true, b"waves"),
                line(0, 24 * 60 + 2, false, b""),
            ]
        );
        assert_eq!(channel.skipped, 1);
    }
}
