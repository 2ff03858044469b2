//! What commands print: tables for people, JSON for programs; always to stdout and nothing else there.
//!
//! `table` aligns columns, without colour unless stdout is a terminal and `NO_COLOR` is not set; `json`
//! is one array or object; `jsonl` is one object per line. A stream (what comes as it happens) is one
//! object per line in both. Text of others is shown without control characters, so that nobody can
//! write into somebody else's terminal. A closed pipe ends the process as a success.

use std::{
    io::{self, IsTerminal, Write},
    process,
};

use clap::ValueEnum;
use serde_json::Value;

use super::exit::Exit;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One array or object; streams: one object per line.
    Json,
    /// One object per line.
    Jsonl,
}

/// Named values, in the order in which they are shown.
pub type Fields = Vec<(&'static str, Value)>;

/// Prints to stdout.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// In this format; colour if stdout is a terminal and `NO_COLOR` is not set.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { format, colour: !plain && io::stdout().is_terminal() }
    }

    /// Whether it is for people.
    #[must_use]
    pub fn is_table(self) -> bool {
        self.format == Format::Table
    }

    /// One thing: a line per field.
    pub fn item(self, fields: &Fields) {
        match self.format {
            Format::Table => {
                let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                let mut text = String::new();
                for (name, value) in fields {
                    let name = format!("{name:width$}").replace('_', " ");
                    text.push_str(&format!("{}  {}\n", self.dim(&name), cell(value)));
                }
                print(&text);
            }
            Format::Json | Format::Jsonl => print(&format!("{}\n", object(fields))),
        }
    }

    /// Many things of one kind. All have the same fields.
    pub fn list(self, items: &[Fields]) {
        match self.format {
            Format::Table => print(&self.table(items)),
            Format::Json => {
                let rows: Vec<_> = items.iter().map(|item| format!("  {}", object(item))).collect();
                let rows = if rows.is_empty() { "[]".into() } else { rows.join(",\n") };
                print(&if items.is_empty() {
                    format!("{rows}\n")
                } else {
                    format!("[\n{rows}\n]\n")
                });
            }
            Format::Jsonl => {
                print(&items.iter().map(|item| format!("{}\n", object(item))).collect::<String>());
            }
        }
    }

    /// Things that come as they happen: a line each, printed at once.
    pub fn stream(self, items: &[(String, Fields)]) {
        let mut text = String::new();
        for (line, fields) in items {
            match self.format {
                Format::Table => text.push_str(line),
                Format::Json | Format::Jsonl => text.push_str(&object(fields)),
            }
            text.push('\n');
        }
        print(&text);
    }

    /// In bold, where that is possible.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// In a faint colour, where that is possible.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        if self.colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn table(self, items: &[Fields]) -> String {
        let Some(first) = items.first() else { return String::new() };
        let names: Vec<_> =
            first.iter().map(|(name, _)| name.replace('_', " ").to_uppercase()).collect();
        let rows: Vec<Vec<_>> =
            items.iter().map(|item| item.iter().map(|(_, value)| cell(value)).collect()).collect();
        let right: Vec<_> = first.iter().map(|(_, value)| value.is_number()).collect();
        let widths: Vec<_> = (0..names.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column));
                cells.chain(names.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for ((cell, width), right) in cells.iter().zip(&widths).zip(&right) {
                let space = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) =
                    if *right { (space, String::new()) } else { (String::new(), space) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            line.trim_end().to_owned()
        };
        let mut text = format!("{}\n", self.dim(&line(&names)));
        for row in &rows {
            text.push_str(&line(row));
            text.push('\n');
        }
        text
    }
}

/// Writes to stdout and flushes. A closed pipe ends the process as a success, anything else as a
/// failure: whatever rests on what was printed must not happen.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            process::exit(Exit::Ok as i32);
        }
        eprintln!("roam: cannot write to stdout: {error}");
        process::exit(Exit::Failed as i32);
    }
}

/// Text of others, safe to show: control characters and those that turn text around are replaced.
#[must_use]
pub fn harmless(text: &str) -> String {
    let harm =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if harm(c) { '\u{fffd}' } else { c }).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => harmless(text),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A JSON object whose fields keep their order.
fn object(fields: &Fields) -> String {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_objects_keep_their_order() {
        let items = vec![
            vec![("user", Value::from("alice")), ("unread_now", Value::from(7))],
            vec![("user", Value::from("bo\x1b[31mb")), ("unread_now", Value::from(12345))],
        ];
        let output = Output { format: Format::Table, colour: false };
        let table = "USER      UNREAD NOW\nalice              7\nbo\u{fffd}[31mb       12345\n";
        assert_eq!(output.table(&items), table);
        assert_eq!(object(&items[1]), r#"{"user":"bo\u001b[31mb","unread_now":12345}"#);
        assert_eq!(output.table(&[]), "");
    }

    #[test]
    fn nobody_writes_into_anothers_terminal() {
        assert_eq!(harmless("a\nb\x07\u{9b}\u{202e}c"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(harmless("grüß 你好"), "grüß 你好");
    }
}
