//! Reading what is durable: memory first, then the trees. Cheap to clone, never waits for the disk
//! writes of others.
//!
//! Data moves from memory to the trees while it is read, always in one direction and in whole
//! generations: what was not in memory at one moment is in the trees at any later one. So every read
//! looks at memory first. A log's bounds decide what a read covers; entries outside are gone for
//! everybody, wherever their bytes still stand.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{
    Shared,
    catalogue::{LogKey, LogKind, Table},
    error::StoreError,
    memory::{Bounds, Generation, Tail},
    trees::damaged,
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
    /// Oldest kept and newest sequence of a log, retention by count included.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn bounds(&self, log: &LogKey) -> Result<Bounds, StoreError> {
        bounds(&self.shared, None, log)
    }

    /// Entries `from..` in order, as many as there are and the limit allows. Without a gap; the first
    /// one is later than `from` when retention or a trim has passed `from`.
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

    /// Rows in key order whose key starts with `prefix` and is greater than `after`, all as of one
    /// moment.
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
        // Newer data must not reach the trees while they are read.
        let _still = self.shared.still.read();
        rows(&self.shared, None, table, prefix, after, limit)
    }

    /// As [`Reader::rows`], but a damaged row comes as none: for tools that look for damage.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn rows_and_holes(
        &self,
        table: Table,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Option<Bytes>)>, StoreError> {
        let _still = self.shared.still.read();
        rows_and_holes(&self.shared, None, table, prefix, after, limit)
    }

    /// Every log of a family with its bounds, in key order; none when they are damaged.
    ///
    /// # Errors
    /// When the trees cannot be read.
    pub fn logs(&self, kind: LogKind) -> Result<Vec<(LogKey, Option<Bounds>)>, StoreError> {
        let _still = self.shared.still.read();
        let mut all = self.shared.trees.logs(kind)?;
        let recent = self.shared.recent.read();
        for generation in [&*recent.frozen, &recent.active] {
            for (key, tail) in generation.logs(kind) {
                all.insert(LogKey::of(kind, key.clone()), Some(tail.bounds()));
            }
        }
        let kept = |bounds| self.shared.kept(kind, bounds);
        Ok(all.into_iter().map(|(log, bounds)| (log, bounds.map(kept))).collect())
    }
}

pub(super) fn bounds(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
) -> Result<Bounds, StoreError> {
    let of = |generation: &Generation| generation.tail(log).map(Tail::bounds);
    let in_memory = || {
        let recent = shared.recent.read();
        of(&recent.active).or_else(|| of(&recent.frozen))
    };
    let bounds = match staged.and_then(of).or_else(in_memory) {
        Some(bounds) => bounds,
        None => shared.trees.bounds(log)?,
    };
    Ok(shared.kept(log.kind(), bounds))
}

pub(super) fn entry(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    seq: u64,
) -> Result<Option<LogEntry>, StoreError> {
    if let Some(record) = recent_entry(shared, staged, log, seq) {
        return Ok(Some(LogEntry { seq, record: Some(record) }));
    }
    let one = ReadLimit { entries: 1, bytes: usize::MAX };
    Ok(read(shared, staged, log, seq, seq, one)?.pop())
}

/// An entry that is kept and in memory.
fn recent_entry(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    seq: u64,
) -> Option<Bytes> {
    let recent = shared.recent.read();
    let mut tails = [staged, Some(&recent.active), Some(&*recent.frozen)]
        .into_iter()
        .flatten()
        .filter_map(|g| g.tail(log));
    let newest = tails.next()?;
    let kept = shared.kept(log.kind(), newest.bounds());
    if !(kept.first..=kept.last).contains(&seq) {
        return None;
    }
    // Of two generations that have it none has another.
    std::iter::once(newest).chain(tails).find_map(|tail| tail.entry(seq).cloned())
}

pub(super) fn read(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    from: u64,
    to: u64,
    limit: ReadLimit,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut now = bounds(shared, staged, log)?;
    loop {
        let first = from.max(now.first);
        let entries = gather(shared, staged, log, first, to.min(now.last), limit)?;
        if entries.iter().all(|entry| entry.record.is_some()) {
            return Ok(entries);
        }
        // What was trimmed meanwhile, and removed, is not damaged: look again without it.
        now = bounds(shared, staged, log)?;
        if now.first <= first {
            return Ok(entries);
        }
    }
}

/// Reads entries that were there a moment ago: from the trees up to where memory begins, then from
/// memory.
fn gather(
    shared: &Shared,
    staged: Option<&Generation>,
    log: &LogKey,
    first: u64,
    last: u64,
    limit: ReadLimit,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut out = Vec::new();
    let mut bytes = 0_usize;
    // Takes an entry if the limit allows; says whether it did.
    let mut take = |seq: u64, record: Option<Bytes>| {
        let len = record.as_ref().map_or(0, Bytes::len);
        bytes = len.saturating_add(bytes);
        if out.len() >= limit.entries || (!out.is_empty() && bytes > limit.bytes) {
            return false;
        }
        out.push(LogEntry { seq, record });
        true
    };
    let mut next = first;
    while next <= last {
        let trees_last = {
            let recent = shared.recent.read();
            let generations = [Some(&*recent.frozen), Some(&recent.active), staged];
            let tails = || generations.iter().flatten().filter_map(|g| g.tail(log));
            match tails().map(|tail| tail.start).min() {
                None => last,
                Some(start) if next < start => last.min(start - 1),
                Some(_) => {
                    for tail in tails() {
                        let skip = next.saturating_sub(tail.start) as usize;
                        for record in tail.entries.iter().skip(skip) {
                            if next > last || !take(next, Some(record.clone())) {
                                return Ok(out);
                            }
                            next += 1;
                        }
                    }
                    return Ok(out);
                }
            }
        };
        if !shared.trees.read(log, next, trees_last, &mut take)? {
            break;
        }
        // What memory held may be in the trees by now, so it is looked at again.
        next = trees_last + 1;
    }
    Ok(out)
}

pub(super) fn row(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    key: &[u8],
) -> Result<Option<Bytes>, StoreError> {
    match recent_row(shared, staged, table, key) {
        Some(row) => Ok(row),
        None => shared.trees.row(table, key),
    }
}

/// As [`row`], from memory alone: what was written or removed so lately that it is there.
pub(super) fn recent_row(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    key: &[u8],
) -> Option<Option<Bytes>> {
    if let Some(row) = staged.and_then(|g| g.row(table, key)) {
        return Some(row.clone());
    }
    let recent = shared.recent.read();
    recent.active.row(table, key).or_else(|| recent.frozen.row(table, key)).cloned()
}

pub(super) fn rows(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let rows = rows_and_holes(shared, staged, table, prefix, after, limit)?;
    let whole = |(key, row): (_, Option<_>)| Ok((key, row.ok_or_else(|| damaged(table.tree()))?));
    rows.into_iter().map(whole).collect()
}

pub(super) fn rows_and_holes(
    shared: &Shared,
    staged: Option<&Generation>,
    table: Table,
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Vec<(Bytes, Option<Bytes>)>, StoreError> {
    // Newer generations overlay older ones; the trees come last and only fill what is missing.
    let mut merged = BTreeMap::<Bytes, Found>::new();
    let mut overlay = |generation: &Generation| {
        let start = if after > prefix { after } else { prefix };
        let from = (Bound::Included(start), Bound::Unbounded);
        let range = generation.rows(table).range::<[u8], _>(from);
        // Behind `limit` rows that stay nothing can be among the first `limit`.
        let mut staying = 0;
        for (key, row) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if staying == limit {
                break;
            }
            if &key[..] != after && !merged.contains_key(key) {
                staying += usize::from(row.is_some());
                let found = row.clone().map_or(Found::Removed, Found::Row);
                merged.insert(key.clone(), found);
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
    let removed = merged.values().filter(|found| matches!(found, Found::Removed)).count();
    // Of so many rows of the trees at least `limit` are not removed in memory, so nothing behind
    // them can be among the first `limit`.
    let most = limit.saturating_add(removed);
    shared.trees.rows(table, prefix, after, most, |key, row| {
        merged.entry(key).or_insert_with(|| row.map_or(Found::Hole, Found::Row));
    })?;
    let present = merged.into_iter().filter_map(|(key, found)| match found {
        Found::Row(row) => Some((key, Some(row))),
        Found::Hole => Some((key, None)),
        Found::Removed => None,
    });
    Ok(present.take(limit).collect())
}

/// What stands under a key.
enum Found {
    Row(Bytes),
    Removed,
    /// Damaged in the trees.
    Hole,
}
