//! Reading what is durable: memory first, then the trees. Cheap to clone, never waits for the disk
//! writes of others.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Shared,
    catalogue::{LogKey, LogKind, Table},
    error::StoreError,
    memory::{Bounds, Generation},
};

/// How much one read may return.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Entries.
    pub entries: usize,
    /// Bytes of records; at least one entry is returned.
    pub bytes: usize,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its sequence.
    pub seq: u64,
    /// Its record; none = damaged on disk.
    pub record: Option<Bytes>,
}

/// A view of everything that is durable.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

impl Reader {
    /// Oldest kept and newest sequence of a log.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        bounds(&self.shared, None, log)
    }

    /// Entries `from..` in order, as many as there are and the limit allows.
    ///
    /// # Errors
    /// When the trees cannot be read. A damaged record is no error; see [`LogEntry::record`].
    pub fn read(
        &self,
        log: &LogKey,
        from: u64,
        limit: ReadLimit,
    ) -> Result<Vec<LogEntry>, StoreError> {
        read(&self.shared, None, log, from, u64::MAX, limit)
    }

    /// One entry; none when the sequence was never assigned or is trimmed away.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn entry(&self, log: &LogKey, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        entry(&self.shared, None, log, seq)
    }

    /// A row.
    ///
    /// # Errors
    /// When the trees cannot be read or the row is damaged.
    pub fn row(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        row(&self.shared, None, table, key)
    }

    /// Rows in key order whose key starts with `prefix` and is greater than `after`.
    ///
    /// # Errors
    /// As [`Reader::row`].
    pub fn rows(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        rows(&self.shared, None, table, prefix, after, limit)
    }

    /// Every log of a family with its bounds, in key order. For tools: the store must be quiet.
    ///
    /// # Errors
    /// As [`Reader::row`].
    pub fn logs(&self, kind: LogKind) -> Result<Vec<(LogKey, Bounds)>, StoreError> {
        let mut all = std::collections::BTreeMap::new();
        for item in self.shared.trees.logs(kind) {
            let (log, bounds) = item?;
            all.insert(log, bounds);
        }
        let recent = self.shared.recent.read();
        for generation in [&*recent.frozen, &recent.active] {
            for (key, tail) in generation.logs(kind) {
                let bounds = Bounds { first: tail.first, last: tail.last() };
                all.insert(LogKey::from_parts(kind, key.clone()), bounds);
            }
        }
        Ok(all.into_iter().collect())
    }
}

pub(super) fn bounds(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
) -> Result<Bounds, StoreError> {
    let of = |generation: &Generation| {
        generation.tail(log).map(|tail| Bounds { first: tail.first, last: tail.last() })
    };
    if let Some(bounds) = staged.and_then(of) {
        return Ok(bounds);
    }
    {
        let recent = shared.recent.read();
        if let Some(bounds) = of(&recent.active).or_else(|| of(&recent.frozen)) {
            return Ok(bounds);
        }
    }
    shared.trees.bounds(log)
}

pub(super) fn entry(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    seq: u64,
) -> Result<Option<LogEntry>, StoreError> {
    let one = ReadLimit { entries: 1, bytes: usize::MAX };
    Ok(read(shared, staged, log, seq, seq, one)?.pop())
}

pub(super) fn read(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    from: u64,
    to: u64,
    limit: ReadLimit,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut out = Vec::new();
    let mut bytes = 0;
    let mut take = |(seq, record): (u64, Option<Bytes>)| {
        let len = record.as_ref().map_or(0, Bytes::len);
        if out.len() >= limit.entries || (!out.is_empty() && bytes + len > limit.bytes) {
            return false;
        }
        bytes += len;
        out.push(LogEntry { seq, record });
        true
    };
    let mut next = from.max(1);
    loop {
        let tree_last;
        {
            let recent = shared.recent.read();
            let generations = [Some(&*recent.frozen), Some(&recent.active), staged];
            let tails = || generations.iter().flatten().filter_map(|g| g.tail(log));
            let memory_start = tails().map(|tail| tail.start).min();
            match memory_start {
                Some(start) if next >= start => {
                    for tail in tails() {
                        let skip = next.saturating_sub(tail.start) as usize;
                        for record in tail.entries.iter().skip(skip) {
                            if next > to || !take((next, Some(record.clone()))) {
                                return Ok(out);
                            }
                            next += 1;
                        }
                    }
                    return Ok(out);
                }
                Some(start) => tree_last = start - 1,
                None => tree_last = u64::MAX,
            }
        }
        let last = shared.trees.bounds(log)?.last;
        let end = to.min(tree_last).min(last);
        let mut full = false;
        if next <= end {
            shared.trees.read(log, next, end, |item| {
                let taken = take(item);
                full = !taken;
                taken
            })?;
            next = end + 1;
        }
        // Memory may have moved to the trees meanwhile; a later start is found by looking again.
        if full || next > to || tree_last == u64::MAX || next <= tree_last {
            return Ok(out);
        }
    }
}

pub(super) fn row(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    key: &[u8],
) -> Result<Option<Bytes>, StoreError> {
    if let Some(row) = staged.and_then(|g| g.row(table, key)) {
        return Ok(row.clone());
    }
    {
        let recent = shared.recent.read();
        if let Some(row) = recent.active.row(table, key).or_else(|| recent.frozen.row(table, key)) {
            return Ok(row.clone());
        }
    }
    shared.trees.row(table, key)
}

pub(super) fn rows(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    // Newer generations overlay older ones; the trees come last and only fill what is missing.
    let mut merged = std::collections::BTreeMap::<Bytes, Option<Bytes>>::new();
    let mut overlay = |generation: &Generation| {
        let start = if after > prefix { after } else { prefix };
        let from = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        let range = generation.rows(table).range::<[u8], _>(from);
        for (key, row) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if &key[..] != after {
                merged.entry(key.clone()).or_insert_with(|| row.clone());
            }
        }
    };
    if let Some(staged) = staged {
        overlay(staged);
    }
    {
        let recent = shared.recent.read();
        overlay(&recent.active);
        overlay(&recent.frozen);
    }
    let mut from_trees = 0;
    let removed = merged.values().filter(|row| row.is_none()).count();
    for item in shared.trees.rows(table, prefix, after) {
        let (key, row) = item?;
        merged.entry(key).or_insert(Some(row));
        from_trees += 1;
        if from_trees >= limit.saturating_add(removed) {
            break;
        }
    }
    // Rows beyond the last one read from the trees may have unread tree rows before them, but never
    // among the first `limit`.
    Ok(merged.into_iter().filter_map(|(key, row)| row.map(|row| (key, row))).take(limit).collect())
}
