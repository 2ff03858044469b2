//! A data directory of which something is damaged, as far as it can be read: for a repair.
//!
//! The trees are read from a copy, because sled writes when it opens; the journal is read record by
//! record, whatever lies between. What both have is laid over each other as the recovery does it
//! (`docs/storage.md`), but every hole is a hole and no end. Nothing of the directory is changed
//! before [`Salvage::replace`].

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    StoreConfig,
    catalogue::{LogKey, LogKind, Table},
    checkpoint::{self, Checkpoint, Known},
    codec::Malformed,
    commit::{self, Operation},
    error::StoreError,
    fsync, io, journal, lock,
    memory::Bounds,
    swap,
    trees::Trees,
};
use crate::id::Epoch;

/// Where copies of the trees are made; worth nothing.
const WORK: &str = "repair.work";

/// A part of the directory that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The file `ROAMD`.
    Checkpoint,
    /// The trees, as a whole.
    Trees(String),
    /// A file of the trees that they can do without, and was left out.
    TreesFile(&'static str),
    /// The trees end at a commit and were durable up to a later one.
    TreesEnd {
        /// What they have.
        applied: u64,
        /// What they had.
        durable: u64,
    },
    /// What stood between two keys of a tree.
    Keys {
        /// Which tree.
        tree: &'static str,
        /// The last one before.
        after: Vec<u8>,
        /// About the first one behind; none = nothing behind was found.
        before: Option<Vec<u8>>,
    },
    /// The journal, as a whole.
    Journal,
    /// What came after a commit, if anything did: the newest file of the journal is cut or cannot be read.
    End {
        /// The last one that is known.
        after: u64,
    },
    /// Commits that are neither in the trees nor in the journal.
    Commits {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// What is left of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLeft {
    /// Oldest kept entry, as far as known.
    pub first: u64,
    /// Newest entry known of.
    pub last: u64,
    /// Those that can be read.
    pub entries: BTreeMap<u64, Bytes>,
    /// Its bounds were there.
    pub bounded: bool,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Salvage {
    config: StoreConfig,
    trees: Option<Trees>,
    epoch: Option<Epoch>,
    last: u64,
    /// Entries, first sequences and rows that the journal has.
    entries: HashMap<LogKey, BTreeMap<u64, Bytes>>,
    firsts: HashMap<LogKey, u64>,
    newer: BTreeMap<(Table, Bytes), Option<Bytes>>,
    older: BTreeMap<(Table, Bytes), Option<Bytes>>,
    unreadable: Vec<Unreadable>,
    _lock: File,
}

impl Salvage {
    /// Reads what it can of a directory that nobody has open, and keeps others from opening it.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; [`StoreError::Format`] for one of a newer program; an error of the
    /// disk. Damage is no error.
    pub fn begin(config: &StoreConfig) -> Result<Self, StoreError> {
        fsync::bind();
        let dir = &config.dir;
        let lock = lock(dir)?;
        swap::end_interrupted(dir)?;
        let mut unreadable = Vec::new();
        let known = match Checkpoint::load(dir) {
            Ok(known) => known.map(|Known { checkpoint, .. }| checkpoint),
            Err(StoreError::Damaged(_)) => None,
            // Not a newer program's: the number itself is damaged.
            Err(StoreError::Format { .. }) if !checkpoint::checks(dir) => None,
            Err(error) => return Err(error),
        };
        if known.is_none() {
            unreadable.push(Unreadable::Checkpoint);
        }
        let durable = known.map_or(0, |known| known.applied);
        let work = dir.join(WORK);
        remove(&work)?;
        let trees = open_copy(config, &work, &mut unreadable)?;
        let applied = trees.as_ref().map_or(Ok(0), Trees::applied).unwrap_or(durable);
        if applied < durable {
            unreadable.push(Unreadable::TreesEnd { applied, durable });
        }
        let commits = journal::salvage(&dir.join("journal"))?;
        if !commits.any_segment && known.is_some() {
            unreadable.push(Unreadable::Journal);
        }
        let mut salvage = Self {
            config: config.clone(),
            trees,
            epoch: known.map(|known| known.epoch),
            last: applied.max(durable),
            entries: HashMap::new(),
            firsts: HashMap::new(),
            newer: BTreeMap::new(),
            older: BTreeMap::new(),
            unreadable,
            _lock: lock,
        };
        let mut next = applied + 1;
        for (commit, record) in commits.records {
            let number = commit.number();
            if number > next {
                let (first, last) = (next, number - 1);
                salvage.unreadable.push(Unreadable::Commits { first, last });
            }
            next = next.max(number + 1);
            salvage.lay(record, number > applied);
        }
        let end = durable.max(commits.known_last.number());
        if end >= next {
            salvage.unreadable.push(Unreadable::Commits { first: next, last: end });
            next = end + 1;
        }
        if commits.cut {
            salvage.unreadable.push(Unreadable::End { after: next - 1 });
        }
        salvage.last = salvage.last.max(next - 1);
        Ok(salvage)
    }

    /// Lays one commit over what came before.
    fn lay(&mut self, record: Bytes, newer: bool) {
        // A record that checks and cannot be decoded ends where it does.
        let _ = commit::decode(record, |operation| {
            match operation {
                Operation::Append { log, seq, record } => {
                    self.entries.entry(log).or_default().insert(seq, record);
                }
                Operation::Trim(log, first) => {
                    let known = self.firsts.entry(log).or_default();
                    *known = first.max(*known);
                }
                Operation::Row(table, key, row) => {
                    let rows = if newer { &mut self.newer } else { &mut self.older };
                    rows.insert((table, key), row);
                }
            }
            Ok::<_, Malformed>(())
        });
    }

    /// The data set; none = not known.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The newest commit that is known to have been made.
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.last
    }

    /// What could not be read so far. [`Salvage::rows`] and [`Salvage::logs`] add to it.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// The rows of a table; none = the key is known and the row is not.
    pub fn rows(&mut self, table: Table) -> BTreeMap<Bytes, Option<Bytes>> {
        let mut rows = BTreeMap::new();
        if let Some(trees) = &self.trees {
            let (found, gaps) = trees.salvage_rows(table);
            rows = found;
            let of = |gap| keys(table.tree(), gap);
            self.unreadable.extend(gaps.into_iter().map(of));
        }
        let gone = self.unreadable.iter().any(|what| what.concerns(table.tree()));
        let of_table = |rows: &BTreeMap<(Table, Bytes), Option<Bytes>>| {
            let from = (table, Bytes::new());
            let of = rows.range(from..).take_while(|((of, _), _)| *of == table);
            of.map(|((_, key), row)| (key.clone(), row.clone())).collect::<Vec<_>>()
        };
        for (key, row) in of_table(&self.older) {
            // The journal still has what the trees have lost.
            match (rows.get(&key), row) {
                (Some(None), Some(row)) => drop(rows.insert(key, Some(row))),
                (Some(None), None) => drop(rows.remove(&key)),
                (None, Some(row)) if gone => drop(rows.insert(key, Some(row))),
                _ => {}
            }
        }
        for (key, row) in of_table(&self.newer) {
            match row {
                Some(row) => rows.insert(key, Some(row)),
                None => rows.remove(&key),
            };
        }
        rows
    }

    /// The logs of a family.
    pub fn logs(&mut self, kind: LogKind) -> BTreeMap<LogKey, Option<Bounds>> {
        let mut names = BTreeMap::new();
        if let Some(trees) = &self.trees {
            let (found, gaps) = trees.salvage_names(kind);
            names = found;
            let of = |(tree, gap)| keys(tree, gap);
            self.unreadable.extend(gaps.into_iter().map(of));
        }
        for log in self.entries.keys().chain(self.firsts.keys()) {
            if log.kind() == kind {
                names.entry(log.clone()).or_insert(Some(Bounds::EMPTY));
            }
        }
        names
    }

    /// What is left of a log. `bounds` as [`Salvage::logs`] gave them.
    #[must_use]
    pub fn log(&self, log: &LogKey, bounds: Option<Bounds>) -> LogLeft {
        let mut entries =
            self.trees.as_ref().map(|trees| trees.salvage_log(log)).unwrap_or_default();
        if let Some(newer) = self.entries.get(log) {
            entries.extend(newer.iter().map(|(seq, record)| (*seq, record.clone())));
        }
        let newest = entries.last_key_value().map_or(0, |(seq, _)| *seq);
        let trimmed = self.firsts.get(log).copied().unwrap_or_default();
        let first = bounds.map_or(1, |bounds| bounds.first).max(trimmed);
        let last = bounds.map_or(0, |bounds| bounds.last).max(newest).max(first.saturating_sub(1));
        entries.retain(|seq, _| *seq >= first);
        LogLeft { first, last, entries, bounded: bounds.is_some() }
    }

    /// The directory in which what takes the place of this one is made, by a [`super::Builder`].
    ///
    /// # Errors
    /// When what an earlier repair left there cannot be removed.
    pub fn place_of_repaired(&self) -> Result<StoreConfig, StoreError> {
        swap::discard(&self.config.dir)?;
        Ok(self.place_of_repaired_as_made())
    }

    /// The same, with what was made there.
    #[must_use]
    pub fn place_of_repaired_as_made(&self) -> StoreConfig {
        StoreConfig { dir: self.config.dir.join(swap::NEW), ..self.config.clone() }
    }

    /// What was made takes the place of what is there, which is kept in the directory that is
    /// returned; a crash anywhere leaves the one or the other.
    ///
    /// # Errors
    /// When the disk does not do it: what is there stays.
    pub fn replace(mut self) -> Result<PathBuf, StoreError> {
        let dir = self.config.dir.clone();
        self.trees = None;
        let kept = (1..).map(|n| dir.join(format!("damaged-{n}"))).find(|kept| !kept.exists());
        let kept = kept.unwrap_or_else(|| dir.join("damaged"));
        for name in ["trees", "journal"] {
            link_all(&dir.join(name), &kept.join(name))?;
        }
        let file = dir.join("ROAMD");
        if file.exists() {
            fs::hard_link(&file, kept.join("ROAMD")).map_err(io("keeping", &file))?;
        }
        swap::commit(&dir)?;
        swap::end_interrupted(&dir)?;
        Ok(kept)
    }

    /// Removes what was made beside the directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(mut self) -> Result<(), StoreError> {
        self.trees = None;
        swap::discard(&self.config.dir)
    }
}

impl Drop for Salvage {
    fn drop(&mut self) {
        self.trees = None;
        let _ = remove(&self.config.dir.join(WORK));
    }
}

impl Unreadable {
    /// Whether something of this tree is gone.
    fn concerns(&self, name: &str) -> bool {
        match self {
            Self::Keys { tree, .. } => *tree == name,
            Self::Trees(_) | Self::TreesEnd { .. } => true,
            _ => false,
        }
    }
}

fn keys(tree: &'static str, gap: super::trees::Gap) -> Unreadable {
    Unreadable::Keys { tree, after: gap.after, before: gap.before }
}

/// Opens a copy of the trees: as they are, or without what they can do without.
fn open_copy(
    config: &StoreConfig,
    work: &Path,
    unreadable: &mut Vec<Unreadable>,
) -> Result<Option<Trees>, StoreError> {
    let from = config.dir.join("trees");
    if !from.join("db").exists() {
        unreadable.push(Unreadable::Trees("there are none".into()));
        return Ok(None);
    }
    let mut first = None;
    for (attempt, without) in [None, Some("snap."), Some("conf")].into_iter().enumerate() {
        let to = work.join(attempt.to_string());
        fs::create_dir_all(&to).map_err(io("making", &to))?;
        for file in fs::read_dir(&from).map_err(io("reading", &from))? {
            let path = file.map_err(io("reading", &from))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let left_out = match without {
                None => false,
                Some("conf") => name == "conf" || name.starts_with("snap."),
                Some(begin) => name.starts_with(begin),
            };
            if path.is_file() && !left_out {
                fs::copy(&path, to.join(name)).map_err(io("copying", &path))?;
            }
        }
        match Trees::open(&to, config.cache_bytes, config.inbox_entries) {
            Ok(trees) => {
                let left_out = match without {
                    None => None,
                    Some("conf") => Some("conf"),
                    Some(_) => Some("snap"),
                };
                unreadable.extend(left_out.map(Unreadable::TreesFile));
                return Ok(Some(trees));
            }
            Err(error) => drop(first.get_or_insert(error.to_string())),
        }
    }
    unreadable.push(Unreadable::Trees(first.unwrap_or_default()));
    Ok(None)
}

/// The files of a directory under another name as well.
fn link_all(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(to).map_err(io("making", to))?;
    let Ok(files) = fs::read_dir(from) else { return Ok(()) };
    for file in files {
        let path = file.map_err(io("reading", from))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::hard_link(&path, to.join(name)).map_err(io("keeping", &path))?;
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io("removing", dir)(error))
        }
        _ => Ok(()),
    }
}
