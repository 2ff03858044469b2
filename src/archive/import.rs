//! A data directory from the lines of an export.

use std::io::BufRead;

use serde_json::Value;

use super::{ArchiveError, Counted, compact, export, fields::Fields, io_error, line, walk::Item};
use crate::store::{Builder, StoreConfig, catalogue::LogKind};

/// A line longer than this is none of ours: the largest record is 16 MiB and comes twice.
const LINE_BYTES_MAX: u64 = 256 << 20;
/// What is imported counts as one commit.
const COMMIT: u64 = 1;

/// Makes a data directory of another epoch from an export. `progress` is told how much is done.
///
/// # Errors
/// [`ArchiveError::Line`] for the first line that is not as it was written; any other when the
/// lines cannot be read or the directory cannot be written. What was made so far is worth nothing.
pub fn import(
    input: &mut dyn BufRead,
    to: &StoreConfig,
    progress: &mut dyn FnMut(&Counted),
) -> Result<Counted, ArchiveError> {
    let mut lines = Lines { input, number: 0, text: String::new(), checksum: 0 };
    if lines.next()?.is_none_or(|value| value.get("export").is_none()) {
        return Err(lines.wrong("this is no export of roamd"));
    }
    let found = lines.value()?.get("format").and_then(Value::as_u64).unwrap_or(0);
    if found > export::FORMAT {
        return Err(ArchiveError::Format { found, known: export::FORMAT });
    }
    lines.compare(&export::head())?;
    let mut builder = Builder::begin(to)?;
    let mut counted = Counted::default();
    let mut order = Order::default();
    loop {
        let checksum = lines.checksum;
        let Some(value) = lines.next()? else {
            return Err(lines.wrong("the export ends here, but its last line is missing"));
        };
        if value.get("end").is_some() {
            lines.compare(&export::end(&counted, checksum))?;
            break;
        }
        let Some(item) = line::parse(&value) else {
            return Err(lines.wrong("this is no log, no entry and no row"));
        };
        order.check(&item).map_err(|why| lines.wrong(why))?;
        lines.compare(&line::render(&item, order.kind))?;
        counted.add(&item);
        progress(&counted);
        compact::put(&mut builder, item)?;
    }
    order.end().map_err(|why| lines.wrong(why))?;
    if lines.next()?.is_some() {
        return Err(lines.wrong("there is something behind the end"));
    }
    builder.finish(to.new_epoch, COMMIT)?;
    Ok(counted)
}

/// The lines, one by one.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
    text: String,
    /// Of everything so far, the line at hand included.
    checksum: u32,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Value>, ArchiveError> {
        use std::io::Read;

        self.text.clear();
        self.number += 1;
        let mut limited = (&mut *self.input).take(LINE_BYTES_MAX);
        let read = limited
            .read_line(&mut self.text)
            .map_err(io_error("reading", "the export".as_ref()))?;
        if read == 0 {
            return Ok(None);
        }
        self.checksum = crc32c::crc32c_append(self.checksum, self.text.as_bytes());
        self.value().map(Some)
    }

    fn value(&self) -> Result<Value, ArchiveError> {
        serde_json::from_str(&self.text).map_err(|error| self.wrong(&error.to_string()))
    }

    /// The line must be what is written for what was read from it.
    fn compare(&self, fields: &Fields) -> Result<(), ArchiveError> {
        let mut again = String::new();
        line::put(&mut again, fields);
        if again == self.text {
            return Ok(());
        }
        Err(self
            .wrong("the line was changed: what it says does not fit its bytes or what came before"))
    }

    fn wrong(&self, why: &str) -> ArchiveError {
        ArchiveError::Line { line: self.number, why: why.to_owned() }
    }
}

/// Logs and rows ascend, and a log has an entry for every sequence that it keeps.
struct Order {
    kind: LogKind,
    last: Option<Item>,
    /// The sequences of the log at hand that are still to come.
    due: std::ops::RangeInclusive<u64>,
}

impl Default for Order {
    #[allow(clippy::reversed_empty_ranges, reason = "nothing is due")]
    fn default() -> Self {
        Self { kind: LogKind::Inbox, last: None, due: 1..=0 }
    }
}

impl Order {
    fn check(&mut self, item: &Item) -> Result<(), &'static str> {
        match item {
            Item::Entry(seq, _) => {
                if self.due.next() != Some(*seq) {
                    return Err("this entry is not the next one of its log");
                }
                return Ok(());
            }
            Item::Log(log, bounds) => {
                self.end()?;
                let after = match &self.last {
                    None => true,
                    Some(Item::Log(before, _)) => before < log,
                    Some(_) => false,
                };
                if !after {
                    return Err("logs are out of order");
                }
                self.kind = log.kind();
                if let Some(bounds) = bounds {
                    if bounds.first == 0
                        || bounds.first - 1 > bounds.last
                        || bounds.last == u64::MAX
                    {
                        return Err("a log cannot begin and end so");
                    }
                    self.due = bounds.first..=bounds.last;
                }
            }
            Item::Row(table, key, _) => {
                self.end()?;
                if let Some(Item::Row(before, below, _)) = &self.last
                    && (*before as u8, below) >= (*table as u8, key)
                {
                    return Err("rows are out of order");
                }
            }
        }
        self.last = Some(match item {
            Item::Log(log, _) => Item::Log(log.clone(), None),
            Item::Row(table, key, _) => Item::Row(*table, key.clone(), None),
            Item::Entry(..) => return Ok(()),
        });
        Ok(())
    }

    /// Nothing more of the log at hand may be due.
    fn end(&self) -> Result<(), &'static str> {
        if self.due.is_empty() { Ok(()) } else { Err("entries of the log before this are missing") }
    }
}
