//! What can still be read of trees that are damaged: every value that checks, whatever stands around it.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Trees,
    gaps::{self, Gap},
    log_of,
    value::{BoundsRow, Run, piece_prefix, run_key, run_seq, unseal},
};
use crate::store::{
    catalogue::{LogKey, LogKind, Table},
    memory::Bounds,
};

/// Logs by name, with what is known of their bounds.
pub(in crate::store) type Names = BTreeMap<LogKey, Option<Bounds>>;

impl Trees {
    /// The rows of a table, those that do not check as none, and what cannot be read.
    pub(in crate::store) fn salvage_rows(
        &self,
        table: Table,
    ) -> (BTreeMap<Bytes, Option<Bytes>>, Vec<Gap>) {
        let mut rows = BTreeMap::new();
        let gaps = gaps::each(&self.tables[table as usize], b"", |key, value| {
            rows.insert(Bytes::copy_from_slice(key), unseal(key, value));
        });
        (rows, gaps)
    }

    /// Every log that has bounds or entries; the gaps are those of the tree `bounds` and of the
    /// family's own, which come with its name.
    pub(in crate::store) fn salvage_names(
        &self,
        kind: LogKind,
    ) -> (Names, Vec<(&'static str, Gap)>) {
        let mut names = Names::new();
        let mut all = Vec::new();
        let gaps = gaps::each(&self.bounds, &[kind as u8], |key, value| {
            let bounds = BoundsRow::read(key, value).map(|row| row.bounds);
            names.insert(log_of(kind, key), bounds);
        });
        all.extend(gaps.into_iter().map(|gap| ("bounds", gap)));
        let gaps = gaps::each(&self.logs[kind as usize], b"", |key, _| {
            if let Some((log, _)) = key.split_last_chunk::<8>() {
                let log = LogKey::of(kind, Bytes::copy_from_slice(log));
                names.entry(log).or_insert(None);
            }
        });
        all.extend(gaps.into_iter().map(|gap| (kind.tree(), gap)));
        (names, all)
    }

    /// The entries of a log that can be read, wherever its bounds are.
    pub(in crate::store) fn salvage_log(&self, log: &LogKey) -> BTreeMap<u64, Bytes> {
        let mut entries = BTreeMap::new();
        let mut split = Vec::new();
        let prefix = run_key(log, 0);
        let prefix = prefix.get(..log.bytes().len()).unwrap_or_default();
        gaps::each(&self.logs[log.kind() as usize], prefix, |key, value| {
            let Some(first) = run_seq(key) else { return };
            match Run::read(key, value) {
                Some(Run::Entries(run)) => entries.extend((first..).zip(run)),
                Some(Run::Split(bytes)) => split.push((first, bytes)),
                None => {}
            }
        });
        for (seq, bytes) in split {
            let mut record = BytesMut::new();
            let mut whole = true;
            let gaps =
                gaps::each(&self.pieces, &piece_prefix(log, seq), |key, value| {
                    match unseal(key, value) {
                        Some(piece) => record.put_slice(&piece),
                        None => whole = false,
                    }
                });
            if whole && gaps.is_empty() && record.len() as u64 == bytes {
                entries.insert(seq, record.freeze());
            }
        }
        entries
    }
}
