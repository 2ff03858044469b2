//! Putting a copy in the place of what is in a data directory (all of it, or nothing), so that a crash
//! anywhere leaves the one or the other: for compaction, restore and import.
//!
//! ```text
//!   copy.new   being made: worth nothing
//!       │ rename: from here on the copy is the data
//!   copy.ready complete
//!       │ trees/, journal/, ROAMD take the place of the old ones, in this order
//!   gone
//! ```
//! The rename is done by whoever has the lock of the directory and has seen to it that the copy has
//! everything. What follows is done, or done again, by whoever opens the directory next.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{StoreError, build::sync_all, fsync, io, lock, make_dir};

/// Where a copy is made.
pub(super) const NEW: &str = "copy.new";
/// Where it waits for its place.
const READY: &str = "copy.ready";
/// What of it takes the place of what.
const PARTS: [&str; 3] = ["trees", "journal", "ROAMD"];

/// The copy is complete: makes that so for good. What is in the directory now is never used again.
pub(super) fn commit(dir: &Path) -> Result<(), StoreError> {
    let new = dir.join(NEW);
    sync_all(&new)?;
    fs::rename(&new, dir.join(READY)).map_err(io("renaming", &new))?;
    sync_names(dir)
}

/// Ends what was begun: called with the lock of the directory, before anything else of
/// it is read.
pub(super) fn end_interrupted(dir: &Path) -> Result<(), StoreError> {
    let ready = dir.join(READY);
    if ready.exists() {
        for name in PARTS {
            let part = ready.join(name);
            let place = dir.join(name);
            if !part.exists() {
                continue;
            }
            if part.is_dir() && place.exists() {
                fs::remove_dir_all(&place).map_err(io("removing", &place))?;
            }
            fs::rename(&part, &place).map_err(io("renaming", &part))?;
            // Its place must be durable before the next one goes to its own.
            sync_names(dir)?;
        }
        remove(&ready)?;
        sync_names(dir)?;
        tracing::info!("a copy has taken the place of what was here");
    }
    discard(dir)
}

/// Removes a copy that was not completed.
pub(super) fn discard(dir: &Path) -> Result<(), StoreError> {
    let new = dir.join(NEW);
    if new.exists() { remove(&new) } else { Ok(()) }
}

/// A directory in which there is no data yet, taken so that nobody else puts any there.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    _lock: File,
}

impl Site {
    /// Takes the directory, which is made when it is missing; it may hold keys, but no data.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`], [`StoreError::InUse`], or why it cannot be made.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        make_dir(dir)?;
        let lock = lock(dir)?;
        if PARTS.into_iter().chain([READY]).any(|name| dir.join(name).exists()) {
            return Err(StoreError::NotEmpty(dir.to_owned()));
        }
        discard(dir)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Where the data is to be made.
    #[must_use]
    pub fn place_of_copy(&self) -> PathBuf {
        self.dir.join(NEW)
    }

    /// What was made at [`Site::place_of_copy`] is the data from here on.
    ///
    /// # Errors
    /// When it cannot be made durable or put in its place; the next open ends what is left to do.
    pub fn fill(self) -> Result<(), StoreError> {
        commit(&self.dir)?;
        end_interrupted(&self.dir)
    }

    /// Gives up; nothing of what was made stays.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn leave(self) -> Result<(), StoreError> {
        discard(&self.dir)
    }
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    fs::remove_dir_all(dir).map_err(io("removing", dir))
}

fn sync_names(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|names| fsync::sync_dir(&names)).map_err(io("syncing", dir))
}
