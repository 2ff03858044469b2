//! A commit as a value, and its bytes in the journal.
//!
//! A commit is atomic: all of its appends, puts and deletes or none. Appends get the next sequence
//! of their log. Conditions let a writer that works from cached state find out that it was wrong:
//! a commit whose condition fails changes nothing.
//!
//! In the journal a commit is a list of operations with the assigned sequences written out, so that
//! replaying one twice gives the same state.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::{
    catalogue::{LogKey, LogKind, Table},
    codec::{Malformed, put_slice, put_varint, read_slice, read_u8, read_varint},
};

/// Largest row of a table, in bytes. Larger: [`super::StoreError::TooLarge`].
pub const ROW_BYTES_MAX: usize = 6 * 1024;
/// Largest record of a log, in bytes. Larger: [`super::StoreError::TooLarge`].
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// What must be true of the store for a commit to be applied.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The log's newest sequence is this.
    Head(LogKey, u64),
    /// The row has exactly these bytes; none = there is no row.
    Row(Table, Bytes, Option<Bytes>),
}

/// A change of the store.
#[derive(Clone, Debug)]
pub enum Change {
    /// Append one record to each of these logs of one family. (Fan-out is one change.)
    Append {
        /// Which logs.
        logs: Arc<[LogKey]>,
        /// The record.
        record: Bytes,
    },
    /// Write a row.
    Put(Table, Bytes, Bytes),
    /// Remove a row.
    Delete(Table, Bytes),
    /// Entries below this sequence are gone. Never moves back.
    Trim(LogKey, u64),
}

impl Change {
    /// How many entries, rows or trims it is.
    pub(super) fn operations(&self) -> u64 {
        match self {
            Self::Append { logs, .. } => logs.len() as u64,
            Self::Put(..) | Self::Delete(..) | Self::Trim(..) => 1,
        }
    }

    /// At most so many bytes in the journal.
    fn bytes_max(&self) -> usize {
        let names = match self {
            Self::Append { logs, record } => {
                let name = |log: &LogKey| log.bytes().len() + 2 * NUMBER_BYTES_MAX;
                record.len() + logs.iter().map(name).sum::<usize>()
            }
            Self::Put(_, key, row) => key.len() + row.len(),
            Self::Delete(_, key) => key.len(),
            Self::Trim(log, _) => log.bytes().len(),
        };
        // Tag, kind, and the lengths of what is named.
        2 + 2 * NUMBER_BYTES_MAX + names
    }
}

/// A number in the journal has at most so many bytes.
const NUMBER_BYTES_MAX: usize = 10;

/// An atomic set of changes.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub(super) conditions: Vec<Condition>,
    pub(super) changes: Vec<Change>,
}

impl Commit {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing yet, with room for so many conditions and changes.
    #[must_use]
    pub fn with_room(conditions: usize, changes: usize) -> Self {
        Self { conditions: Vec::with_capacity(conditions), changes: Vec::with_capacity(changes) }
    }

    /// Applies only if this holds.
    pub fn require(&mut self, condition: Condition) {
        self.conditions.push(condition);
    }

    /// Appends a record to one log.
    pub fn append(&mut self, log: LogKey, record: Bytes) {
        self.append_each(Arc::new([log]), record);
    }

    /// Appends the same record to each of these logs.
    ///
    /// # Panics
    /// When the logs are not all of one family: what would be written could not be read again.
    pub fn append_each(&mut self, logs: Arc<[LogKey]>, record: Bytes) {
        assert!(
            logs.windows(2).all(|pair| pair[0].kind() == pair[1].kind()),
            "one change appends to logs of one family"
        );
        if !logs.is_empty() {
            self.changes.push(Change::Append { logs, record });
        }
    }

    /// Writes a row.
    pub fn put(&mut self, table: Table, key: Bytes, row: Bytes) {
        self.changes.push(Change::Put(table, key, row));
    }

    /// Removes a row.
    pub fn delete(&mut self, table: Table, key: Bytes) {
        self.changes.push(Change::Delete(table, key));
    }

    /// Raises a log's first sequence.
    pub fn trim(&mut self, log: LogKey, first: u64) {
        self.changes.push(Change::Trim(log, first));
    }

    /// What it does, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// At most so many bytes in the journal.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.changes.iter().map(Change::bytes_max).sum()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One operation of the journal: a change with its sequence assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `record` is entry `seq` of `log`.
    Append {
        /// Which log.
        log: LogKey,
        /// Its place.
        seq: u64,
        /// What.
        record: Bytes,
    },
    /// The row is now this; none = removed.
    Row(Table, Bytes, Option<Bytes>),
    /// The log's first sequence is at least this.
    Trim(LogKey, u64),
}

const TAG_APPEND: u8 = 1;
const TAG_PUT: u8 = 2;
const TAG_DELETE: u8 = 3;
const TAG_TRIM: u8 = 4;

/// What changes are applied to; it says what the journal must know of each.
pub(super) trait Apply {
    /// Adds the record to the log and tells its sequence.
    fn append(&mut self, log: &LogKey, record: &Bytes) -> u64;
    /// Trims the log and tells its first sequence.
    fn trim(&mut self, log: &LogKey, first: u64) -> u64;
    /// Writes the row; none = it is removed.
    fn row(&mut self, table: Table, key: &Bytes, row: Option<&Bytes>);
}

/// Applies changes in order, and encodes for the journal what they came to.
pub(super) fn apply(changes: &[Change], out: &mut Vec<u8>, target: &mut impl Apply) {
    for change in changes {
        match change {
            Change::Append { logs, record } => {
                let Some(first) = logs.first() else { continue };
                out.put_u8(TAG_APPEND);
                out.put_u8(first.kind() as u8);
                put_slice(out, record);
                put_varint(out, logs.len() as u64);
                for log in logs.iter() {
                    put_slice(out, log.bytes());
                    put_varint(out, target.append(log, record));
                }
            }
            Change::Put(table, key, row) => {
                out.put_u8(TAG_PUT);
                out.put_u8(*table as u8);
                put_slice(out, key);
                put_slice(out, row);
                target.row(*table, key, Some(row));
            }
            Change::Delete(table, key) => {
                out.put_u8(TAG_DELETE);
                out.put_u8(*table as u8);
                put_slice(out, key);
                target.row(*table, key, None);
            }
            Change::Trim(log, first) => {
                out.put_u8(TAG_TRIM);
                out.put_u8(log.kind() as u8);
                put_slice(out, log.bytes());
                put_varint(out, target.trim(log, *first));
            }
        }
    }
}

/// Decodes a journal record, one operation after the other, without copying.
///
/// # Errors
/// [`Malformed`] when the bytes are not a list of operations.
pub(super) fn decode<E: From<Malformed>>(
    mut input: Bytes,
    mut each: impl FnMut(Operation) -> Result<(), E>,
) -> Result<(), E> {
    while !input.is_empty() {
        let tag = read_u8(&mut input)?;
        let kind = read_u8(&mut input)?;
        let log_kind = || LogKind::from_byte(kind).ok_or(Malformed);
        let table = || Table::from_byte(kind).ok_or(Malformed);
        match tag {
            TAG_APPEND => {
                let record = read_slice(&mut input)?;
                for _ in 0..read_varint(&mut input)? {
                    let log = LogKey::of(log_kind()?, read_slice(&mut input)?);
                    let seq = read_varint(&mut input)?;
                    each(Operation::Append { log, seq, record: record.clone() })?;
                }
            }
            TAG_PUT => {
                let key = read_slice(&mut input)?;
                each(Operation::Row(table()?, key, Some(read_slice(&mut input)?)))?;
            }
            TAG_DELETE => {
                let key = read_slice(&mut input)?;
                each(Operation::Row(table()?, key, None))?;
            }
            TAG_TRIM => {
                let log = LogKey::of(log_kind()?, read_slice(&mut input)?);
                each(Operation::Trim(log, read_varint(&mut input)?))?;
            }
            _ => return Err(Malformed.into()),
        }
    }
    Ok(())
}
