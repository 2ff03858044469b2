//! How much a data directory holds. Reads everything once.

use crate::{
    id::Epoch,
    store::{
        FORMAT_VERSION, ReadLimit, Store, StoreError, StoreStat,
        catalogue::{LogKind, Table},
    },
};

/// One family of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStat {
    /// Which.
    pub kind: LogKind,
    /// Logs that ever had an entry.
    pub logs: u64,
    /// Entries kept.
    pub entries: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Entries of the longest log.
    pub longest: u64,
    /// Entries ever appended.
    pub appended: u64,
}

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableStat {
    /// Which.
    pub table: Table,
    /// Its rows.
    pub rows: u64,
    /// Bytes of keys and rows.
    pub bytes: u64,
}

/// Figures of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Format on disk.
    pub format: u32,
    /// The data set.
    pub epoch: Epoch,
    /// Trees, journal and memory, in bytes.
    pub store: StoreStat,
    /// By family.
    pub logs: Vec<LogStat>,
    /// By table.
    pub tables: Vec<TableStat>,
}

impl Stat {
    /// Entries and rows of all kinds.
    #[must_use]
    pub fn records(&self) -> u64 {
        let entries: u64 = self.logs.iter().map(|log| log.entries).sum();
        entries + self.tables.iter().map(|table| table.rows).sum::<u64>()
    }

    /// Bytes of all records, keys of rows included: what the users' data is, without the cost of
    /// keeping it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let logs: u64 = self.logs.iter().map(|log| log.bytes).sum();
        logs + self.tables.iter().map(|table| table.bytes).sum::<u64>()
    }
}

/// Counts everything.
///
/// # Errors
/// When the store cannot be read. Damaged records count as entries without bytes.
pub fn stat(store: &Store) -> Result<Stat, StoreError> {
    let logs = LogKind::ALL.into_iter().map(|kind| log_stat(store, kind));
    let tables = Table::ALL.into_iter().map(|table| table_stat(store, table));
    Ok(Stat {
        format: FORMAT_VERSION,
        epoch: store.epoch(),
        logs: logs.collect::<Result<_, _>>()?,
        tables: tables.collect::<Result<_, _>>()?,
        store: store.stat()?,
    })
}

fn log_stat(store: &Store, kind: LogKind) -> Result<LogStat, StoreError> {
    const PAGE: ReadLimit = ReadLimit { entries: 1000, bytes: 1 << 20 };
    let reader = store.reader();
    let mut stat = LogStat { kind, logs: 0, entries: 0, bytes: 0, longest: 0, appended: 0 };
    for (log, bounds) in reader.logs(kind)? {
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        stat.logs += 1;
        stat.appended += bounds.last;
        stat.longest = stat.longest.max(bounds.last + 1 - bounds.first);
        let mut next = bounds.first;
        while next <= bounds.last {
            let page = reader.read(&log, next, PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.seq + 1;
            stat.entries += page.len() as u64;
            let bytes = page.iter().flat_map(|entry| &entry.record).map(|r| r.len() as u64);
            stat.bytes += bytes.sum::<u64>();
        }
    }
    Ok(stat)
}

fn table_stat(store: &Store, table: Table) -> Result<TableStat, StoreError> {
    let mut stat = TableStat { table, rows: 0, bytes: 0 };
    super::verify::each_row(&store.reader(), table, &[], |key, row| {
        stat.rows += 1;
        stat.bytes += key.len() as u64 + row.map_or(0, |row| row.len() as u64);
        Ok(())
    })?;
    Ok(stat)
}
