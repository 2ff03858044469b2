//! A copy of everything as of one commit, taken while the writer goes on.
//!
//! ```text
//!   hold the journal ─▶ A = last commit wholly in the trees ─▶ every value of the trees, as found
//!                                                                        │
//!                       commits A+1 ..= N of the journal ◀── N = last durable commit
//! ```
//! The values are read one after the other while rounds of the filler may change them, so they are
//! of many moments between A and N. That is what an interrupted round leaves as well, and the same
//! replay mends it: whoever writes the values and then applies the commits has the state at N, and
//! nothing of a later one. Three things make it so:
//! - Nothing reaches the trees that is not durable in the journal, so no value is newer than N.
//! - Bounds are read before runs and runs before pieces: a log's bounds then never name an entry
//!   that was not there yet, and whatever was trimmed meanwhile the commits trim again.
//! - The journal's segments behind A are not given back meanwhile ([`Hold`]).
//!
//! Neither writer nor filler waits for a copy. On a full disk the hold is broken off, because the
//! journal must not keep space that the writer needs; the copy then ends with an error.

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Reader, Shared,
    error::StoreError,
    journal::{self, CommitNo, JournalError},
    trees::unseal,
};
use crate::id::Epoch;

/// Where a copy stands: everything up to and with `commit`, nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The data set.
    pub epoch: Epoch,
    /// Commits up to here are in the values.
    pub applied: u64,
    /// The last commit of the copy.
    pub commit: u64,
}

/// A piece of a copy; values come first, then commits in order.
#[derive(Debug)]
pub enum Part<'a> {
    /// A value of a tree as it stands on disk, checksum included.
    Value {
        /// Name of the tree.
        tree: &'static str,
        /// Its key.
        key: &'a [u8],
        /// Its bytes.
        value: &'a [u8],
        /// Whether it matches its checksum. One that does not is copied as it is.
        sound: bool,
    },
    /// The operations of one commit.
    Commit(u64, Bytes),
}

/// What keeps the journal's segments while they are copied.
#[derive(Debug, Default)]
pub(super) struct Hold(Mutex<Holding>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Holding {
    #[default]
    Nothing,
    /// Commits after this one are needed.
    After(CommitNo),
    /// The disk is full: nothing is kept any more.
    Broken,
}

impl Hold {
    /// Up to which commit segments may be given back when the trees are complete up to `commit`.
    pub(super) fn limit(&self, commit: CommitNo) -> CommitNo {
        match *self.0.lock() {
            Holding::After(after) => commit.min(after),
            Holding::Nothing | Holding::Broken => commit,
        }
    }

    /// The space is needed: a copy under way fails.
    pub(super) fn break_off(&self) {
        let mut holding = self.0.lock();
        if let Holding::After(_) = *holding {
            *holding = Holding::Broken;
        }
    }

    fn begin(&self) -> Result<(), StoreError> {
        let mut holding = self.0.lock();
        if *holding != Holding::Nothing {
            return Err(StoreError::CopyUnderWay);
        }
        *holding = Holding::After(CommitNo::ZERO);
        Ok(())
    }

    fn move_to(&self, commit: CommitNo) {
        let mut holding = self.0.lock();
        if let Holding::After(after) = &mut *holding {
            *after = commit;
        }
    }
}

/// Lets go of the journal however the copy ends.
struct Held<'a>(&'a Shared);

impl Held<'_> {
    /// Refuses to go on when what was held is gone or the store is.
    fn check(&self) -> Result<(), StoreError> {
        if self.0.failed() || self.0.abandoned() {
            return Err(StoreError::Poisoned);
        }
        match *self.0.hold.0.lock() {
            Holding::After(_) => Ok(()),
            Holding::Nothing | Holding::Broken => Err(StoreError::NoSpace),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.hold.0.lock() = Holding::Nothing;
    }
}

impl Reader {
    /// Gives a copy of everything, piece by piece, and says where it stands; see the head of this
    /// module. One at a time.
    ///
    /// # Errors
    /// [`StoreError::CopyUnderWay`] when there is another one; [`StoreError::NoSpace`] when the disk
    /// became full meanwhile; what `each` says; any other when the store cannot be read or has
    /// failed.
    pub fn copy<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<Position, E> {
        let shared = &*self.shared;
        shared.hold.begin()?;
        let held = Held(shared);
        // From here on nothing is given back that was not given back before this was read.
        let applied = shared.trees.applied()?;
        shared.hold.move_to(CommitNo::new(applied));
        shared.trees.each_page(|tree, page| {
            held.check()?;
            for (key, value) in page {
                let sound = unseal(key, value).is_some();
                each(Part::Value { tree, key, value, sound })?;
            }
            Ok::<_, E>(())
        })?;
        let commit = shared.recent.read().active_commit;
        let mut failed = None;
        let after = CommitNo::new(applied);
        let read =
            journal::read_between(&shared.dir.join("journal"), after, commit, |number, bytes| {
                let outcome = held.check().map_err(E::from);
                let outcome = outcome.and_then(|()| each(Part::Commit(number.number(), bytes)));
                outcome.map_err(|error| {
                    failed = Some(error);
                    JournalError::Poisoned
                })
            });
        if let Some(error) = failed {
            return Err(error);
        }
        // A segment may be missing because the hold was broken: that is what is said then.
        held.check()?;
        read.map_err(StoreError::from)?;
        Ok(Position { epoch: shared.epoch, applied, commit: commit.number() })
    }
}
