//! One item as one line of an export, and back.
//!
//! A line has what an item is named by, what it says, and `raw`: the stored bytes, which are what is
//! imported. What it says is there to be read; that it fits the bytes is checked on the way back by
//! writing the line again.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;

use super::{
    fields::{self, Fields},
    walk::Item,
};
use crate::store::{
    Bounds,
    catalogue::{LogKey, LogKind, Table},
};

/// Appends a JSON object whose fields keep their order, and a line end.
pub(super) fn put(out: &mut String, fields: &Fields) {
    for (place, (name, value)) in fields.iter().enumerate() {
        out.push_str(if place == 0 { "{\"" } else { ",\"" });
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&value.to_string());
    }
    out.push_str("}\n");
}

/// The line of an item; `log` is the family of the log whose entries come.
pub(super) fn render(item: &Item, log: LogKind) -> Fields {
    let base64 = |bytes: &Bytes| Value::from(BASE64_STANDARD.encode(bytes));
    let hole = || ("hole", Value::Bool(true));
    let mut line = Fields::new();
    let say = |raw: &Bytes, says: Option<Fields>| match says {
        Some(says) => {
            let mut says = says;
            says.push(("raw", base64(raw)));
            says
        }
        None => vec![("unknown", Value::Bool(true)), ("raw", base64(raw))],
    };
    match item {
        Item::Log(log, bounds) => {
            line.push(("log", log.kind().tree().into()));
            line.extend(fields::of_log(log.kind(), log.bytes()));
            line.push(("key", base64(log.bytes())));
            match bounds {
                Some(bounds) => {
                    line.push(("first", bounds.first.into()));
                    line.push(("last", bounds.last.into()));
                }
                None => line.push(hole()),
            }
        }
        Item::Entry(seq, record) => {
            line.push(("seq", (*seq).into()));
            match record {
                Some(record) => line.extend(say(record, fields::entry(log, record))),
                None => line.push(hole()),
            }
        }
        Item::Row(table, key, row) => {
            line.push(("table", table.tree().into()));
            line.extend(fields::of_row(*table, key));
            line.push(("key", base64(key)));
            match row {
                Some(row) => line.extend(say(row, fields::row(*table, row))),
                None => line.push(hole()),
            }
        }
    }
    line
}

/// The item of a line; none when it is no such line.
pub(super) fn parse(line: &Value) -> Option<Item> {
    let bytes = |name: &str| {
        let text = line.get(name)?.as_str()?;
        BASE64_STANDARD.decode(text).ok().map(Bytes::from)
    };
    let number = |name: &str| line.get(name)?.as_u64();
    let hole = line.get("hole").is_some();
    // What is there, or none for a hole; nothing at all is no line.
    let raw = || if hole { Some(None) } else { bytes("raw").map(Some) };
    if let Some(name) = line.get("log") {
        let kind = LogKind::ALL.into_iter().find(|kind| name == kind.tree())?;
        let bounds = match hole {
            true => None,
            false => Some(Bounds { first: number("first")?, last: number("last")? }),
        };
        return Some(Item::Log(LogKey::of(kind, bytes("key")?), bounds));
    }
    if let Some(name) = line.get("table") {
        let table = Table::ALL.into_iter().find(|table| name == table.tree())?;
        return Some(Item::Row(table, bytes("key")?, raw()?));
    }
    Some(Item::Entry(number("seq")?, raw()?))
}
