//! What can go wrong with the journal, and what it means for the caller.

use std::{error::Error, io, path::PathBuf};

use super::CommitNo;

/// Why an operation on the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused. If it happened while data or names were on their way to the
    /// disk, the journal is poisoned from here on.
    #[error("journal: cannot {action} {path}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The disk is full and a new segment cannot be made. Nothing of the commit was written and
    /// the journal is not poisoned: refuse the commit, and try again when there is space.
    #[error("journal: no space for a new segment at {path}", path = path.display())]
    NoSpace {
        /// The file that could not be made.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// An earlier write or sync failed, so what the disk holds is unknown. Close the journal and
    /// open it again.
    #[error("journal: poisoned by an earlier failure of the disk")]
    Poisoned,
    /// A commit that was acknowledged cannot be read. Nothing was changed on disk.
    #[error("journal: {path} is damaged at byte {offset}: {damage}", path = path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where in it the first unreadable byte range begins.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
    /// The segment was written by a newer program.
    #[error("journal: {path} has format {version}, newer than this program", path = path.display())]
    NewerFormat {
        /// The segment file.
        path: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// The payload is larger than [`super::PAYLOAD_BYTES_MAX`]; nothing was written.
    #[error("journal: a commit of {bytes} bytes is larger than a record may be")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
    },
    /// [`super::Journal::create`] found a journal in the directory.
    #[error("journal: {path} already holds a journal", path = path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// The consumer of the replay refused a commit.
    #[error("journal: replay stopped at commit {commit}")]
    Replay {
        /// The refused commit.
        commit: CommitNo,
        /// What the consumer said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What is wrong with a damaged journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The segment header is not valid, or does not belong to this file name.
    #[error("the segment header is not valid")]
    Header,
    /// The file does not have the length its header states.
    #[error("the file does not have the length it was made with")]
    Length,
    /// A record is not valid and a later one is.
    #[error("the record of commit {expected} is not valid, and later ones exist")]
    Record {
        /// The commit that should stand here.
        expected: CommitNo,
    },
    /// A valid record carries another commit number than its place demands.
    #[error("commit {found} stands in the place of commit {expected}")]
    Order {
        /// The commit that should stand here.
        expected: CommitNo,
        /// The commit that does.
        found: CommitNo,
    },
    /// One or more segments are gone.
    #[error("commit {expected} and later ones are gone: the next segment begins at {found}")]
    Missing {
        /// The first commit needed.
        expected: CommitNo,
        /// The first commit of the next segment there is.
        found: CommitNo,
    },
    /// The last segment there is says that another one follows.
    #[error(
        "commit {expected} and later ones are gone: the segment that begins with it is missing"
    )]
    LastMissing {
        /// The first commit of the missing segment.
        expected: CommitNo,
    },
    /// The journal ends before the checkpoint, which can only name commits it once held.
    #[error("the journal ends at commit {last}, before the checkpoint at {applied}")]
    Short {
        /// Last commit of the journal; 0 if there is no journal at all.
        last: CommitNo,
        /// The checkpoint.
        applied: CommitNo,
    },
}

impl JournalError {
    /// Whether commits are gone or cannot be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Replay { source, .. } => source
                .downcast_ref::<crate::store::StoreError>()
                .is_some_and(crate::store::StoreError::is_damage),
            _ => false,
        }
    }
}

/// Whether the error says that the disk, or the owner's share of it, is full.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
