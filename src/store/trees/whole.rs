//! The trees as a whole: giving every value, and writing values, logs and rows as they come into
//! trees that are made.

use bytes::Bytes;

use super::{
    Changes, LogWrites, Trees,
    value::{BoundsRow, bounds_key, damaged_value},
};
use crate::store::{
    catalogue::{LogKey, LogKind, Table},
    error::StoreError,
    guard::guarded,
    memory::{Bounds, Tail},
};

/// What is read or written at once.
const PAGE_BYTES: usize = 256 * 1024;
/// ... and at most so many values.
const PAGE_VALUES: usize = 512;

/// Key and stored bytes of some values of one tree.
type Page = [(sled::IVec, sled::IVec)];

impl Trees {
    /// Every tree whose values make up the data, in the order in which a copy reads them.
    fn whole(&self) -> impl Iterator<Item = (&'static str, &sled::Tree)> {
        let logs = LogKind::ALL.map(|kind| (kind.tree(), &self.logs[kind as usize]));
        let tables = Table::ALL.map(|table| (table.tree(), &self.tables[table as usize]));
        let bounds = std::iter::once(("bounds", &self.bounds));
        bounds.chain(logs).chain([("pieces", &self.pieces)]).chain(tables)
    }

    /// Gives every value, tree by tree and page by page, while others may write.
    pub(in crate::store) fn each_page<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(&'static str, &Page) -> Result<(), E>,
    ) -> Result<(), E> {
        for (name, tree) in self.whole() {
            let mut values = tree.iter();
            loop {
                let page = guarded("reading the trees", || {
                    let mut page = Vec::new();
                    let mut bytes = 0;
                    for item in values.by_ref() {
                        let (key, value) = item?;
                        bytes += key.len() + value.len();
                        page.push((key, value));
                        if bytes >= PAGE_BYTES || page.len() == PAGE_VALUES {
                            break;
                        }
                    }
                    Ok(page)
                })?;
                if page.is_empty() {
                    break;
                }
                each(name, &page)?;
            }
        }
        Ok(())
    }

    /// Writes values as [`Trees::each_page`] gave them.
    pub(in crate::store) fn put_values<'a>(
        &self,
        values: impl Iterator<Item = (&'a str, &'a [u8], &'a [u8])>,
    ) -> Result<(), StoreError> {
        guarded("writing the trees", || {
            let mut found: Option<(&str, &sled::Tree)> = None;
            for (name, key, value) in values {
                if found.is_none_or(|(now, _)| now != name) {
                    found = self.whole().find(|(known, _)| *known == name);
                }
                let (_, tree) =
                    found.ok_or_else(|| StoreError::Damaged(format!("there is no tree {name}")))?;
                tree.insert(key, value)?;
            }
            Ok(())
        })
    }

    /// Writes what is kept of a log; none = its bounds are damaged, and stay so.
    pub(in crate::store) fn put_bounds(
        &self,
        log: &LogKey,
        bounds: Option<Bounds>,
    ) -> Result<(), StoreError> {
        let key = bounds_key(log);
        guarded("writing the trees", || {
            let Some(bounds) = bounds else {
                self.bounds.insert(&key, damaged_value(&key))?;
                return Ok(());
            };
            let mut batch = Changes::new(self, &self.bounds);
            batch.insert(&key, &BoundsRow { bounds, lowest: bounds.first }.body())?;
            batch.finish()
        })
    }

    /// Writes entries of a log from sequence `first` on; none = a hole, and it stays one.
    pub(in crate::store) fn put_entries(
        &self,
        log: &LogKey,
        first: u64,
        entries: Vec<Option<Bytes>>,
    ) -> Result<(), StoreError> {
        guarded("writing the trees", || {
            let mut writes = LogWrites::new(self, log.kind());
            let mut tail = Tail { start: first, entries: Vec::new(), first: 1 };
            for (seq, record) in (first..).zip(entries) {
                match record {
                    Some(record) => tail.entries.push(record),
                    None => {
                        writes.write_runs(log, &tail)?;
                        tail = Tail { start: seq + 1, entries: Vec::new(), first: 1 };
                    }
                }
            }
            writes.write_runs(log, &tail)?;
            writes.pieces.finish()?;
            writes.runs.finish()
        })
    }

    /// Writes rows of a table; none = a damaged one, and it stays so.
    pub(in crate::store) fn put_rows(
        &self,
        table: Table,
        rows: &[(Bytes, Option<Bytes>)],
    ) -> Result<(), StoreError> {
        let tree = &self.tables[table as usize];
        guarded("writing the trees", || {
            let mut batch = Changes::new(self, tree);
            for (key, row) in rows {
                match row {
                    Some(row) => batch.insert(key, row)?,
                    None => {
                        tree.insert(key, damaged_value(key))?;
                    }
                }
            }
            batch.finish()
        })
    }
}
