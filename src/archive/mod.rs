//! A data directory in other forms: a backup that is taken while the daemon serves, lines of text
//! that anybody can read, and a copy without what is gone.
//!
//! ```text
//!   backup   values as found + commits since   ──▶ restore   the state at its position, new epoch
//!   export   every log and table as lines      ──▶ import    the same, new epoch
//!   compact  every log and table, written anew ──▶ in place, same epoch
//! ```
//! `docs/export.md` shows the lines, `docs/storage.md` the bytes of a backup. Export and compaction
//! leave out the contents of messages that were recalled or deleted ([`walk`]); a backup is the bytes
//! as they are.

mod backup;
mod block;
mod compact;
mod export;
mod fields;
mod import;
mod line;
mod stream;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use self::{
    backup::{Backup, BackupWriter, Taken},
    block::{BLOCK_BYTES_MAX, Block, BlockKind, Packer},
    compact::compact,
    export::{Exported, export},
    import::import,
    stream::{copy, receive, send},
    walk::Counted,
};
use crate::store::StoreError;

/// Why a data directory did not get its other form.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the other form.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no complete backup.
    #[error("{0} is no complete backup: it has no file BACKUP")]
    NoBackup(PathBuf),
    /// Written by a newer version.
    #[error("it has format {found}; this program reads format {known}")]
    Format {
        /// There.
        found: u64,
        /// Newest known here.
        known: u64,
    },
    /// A backup that does not check.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// An export that cannot be imported.
    #[error("line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The daemon does not make a copy.
    #[error("the daemon says: {0}")]
    Refused(String),
    /// The daemon ended, or ended the connection.
    #[error("the daemon has ended before the copy was complete")]
    Ended,
    /// There is damage, and what was to be done must not be done with damage.
    #[error("{0} damaged records or rows: nothing was changed")]
    Holes(u64),
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ArchiveError + 'a {
    move |source| ArchiveError::Io { what, path: path.to_path_buf(), source }
}
