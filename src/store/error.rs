//! What can go wrong with the data directory.

use std::{io, path::PathBuf};

use super::{codec::Malformed, journal::JournalError};

/// A failure of the store. [`StoreError::NoSpace`], [`StoreError::Conflict`] and
/// [`StoreError::TooLarge`] leave everything as it was; [`StoreError::Damaged`] from a read or from
/// staging concerns what was asked for. All others are final: the process must stop, and the next
/// start recovers what was durable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// The data directory was written by a version this one does not know.
    #[error("data directory has format {found}; this program reads format {known}")]
    Format {
        /// On disk.
        found: u32,
        /// Newest known here.
        known: u32,
    },
    /// A file of the data directory could not be read or written.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The embedded engine failed.
    #[error("trees: {0}")]
    Trees(#[from] sled::Error),
    /// The data directory has lost or damaged data that was durable.
    #[error("data is damaged: {0}")]
    Damaged(String),
    /// A condition of the commit does not hold; nothing was changed.
    #[error("the commit's condition does not hold")]
    Conflict,
    /// The commit has a row or a record above the limit; nothing was changed.
    #[error("a {what} of {bytes} bytes is too large, at most {most} are kept")]
    TooLarge {
        /// Row or record.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// No space left; nothing was changed. Reads go on.
    #[error("no space left in the data directory")]
    NoSpace,
    /// There is a copy under way already.
    #[error("another copy of the data directory is being made")]
    CopyUnderWay,
    /// A data directory is made only where nothing is.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// An earlier failure was final.
    #[error("the store has failed before and is closed")]
    Poisoned,
}

impl StoreError {
    /// Whether data that was durable is gone or cannot be read: another try does not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Trees(sled::Error::Corruption { .. }) => true,
            Self::Journal(error) => error.is_damage(),
            _ => false,
        }
    }
}

impl From<Malformed> for StoreError {
    fn from(_: Malformed) -> Self {
        Self::Damaged("a record is malformed".into())
    }
}
