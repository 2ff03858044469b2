//! The identity of a data directory and its high-water mark, in one small file beside the trees.
//!
//! `ROAMD` holds the format version, the epoch and the last commit known to be wholly in the trees.
//! It is replaced by write, fsync, rename, fsync of the directory. If the trees come back with less
//! than it says, they have lost data that was durable: the store refuses to open.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{error::StoreError, journal::disk};
use crate::id::Epoch;

/// The format this program writes. Raised with every change of bytes on disk, so that a program that
/// does not know them refuses the directory instead of taking them for damage.
pub const FORMAT_VERSION: u32 = 2;
/// The oldest format this program reads. Older rows carry versions of their own.
const FORMAT_OLDEST: u32 = 1;

const NAME: &str = "ROAMD";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) epoch: Epoch,
    pub(super) applied: u64,
}

/// What the file of a directory said, and in which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) format: u32,
    pub(super) checkpoint: Checkpoint,
}

impl Checkpoint {
    /// Reads the file; none in a fresh directory.
    pub(super) fn load(dir: &Path) -> Result<Option<Known>, StoreError> {
        let path = dir.join(NAME);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { what: "reading", path, source }),
        };
        let damaged =
            || StoreError::Damaged(format!("{} is not a checkpoint file", path.display()));
        parse(&text).ok_or_else(damaged)?.map(Some)
    }

    /// Replaces the file; durable when it returns. [`StoreError::NoSpace`] leaves the old one.
    pub(super) fn save(&self, dir: &Path) -> Result<(), StoreError> {
        let body = format!(
            "roamd data directory\nformat {FORMAT_VERSION}\nepoch {}\napplied {}\n",
            self.epoch, self.applied
        );
        let text = format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let path = dir.join(NAME);
        let temporary = dir.join("ROAMD.new");
        let write = || -> io::Result<()> {
            if temporary.exists() {
                disk::remove(&temporary)?;
            }
            let file = disk::create(&temporary)?;
            disk::write(&file, text.as_bytes(), 0)?;
            disk::sync(&file)?;
            disk::rename(&temporary, &path)?;
            disk::sync_dir(&File::open(dir)?)
        };
        write().map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
            _ => StoreError::Io { what: "writing", path: path.clone(), source },
        })
    }
}

/// Whether the file says what was written, in whatever format: one that does not know a format takes
/// it for a newer program's, a repair has to know better.
pub(super) fn checks(dir: &Path) -> bool {
    let Ok(text) = fs::read_to_string(dir.join(NAME)) else { return false };
    let Some((body, sum)) = text.rfind("checksum ").map(|at| text.split_at(at)) else {
        return false;
    };
    sum.trim_end() == format!("checksum {:08x}", crc32c::crc32c(body.as_bytes()))
}

pub(super) fn parse(text: &str) -> Option<Result<Known, StoreError>> {
    let (body, sum) = text.split_at(text.rfind("checksum ")?);
    let value = |name: &str| -> Option<u64> {
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    let found = u32::try_from(value("format")?).ok()?;
    if !(FORMAT_OLDEST..=FORMAT_VERSION).contains(&found) {
        return Some(Err(StoreError::Format { found, known: FORMAT_VERSION }));
    }
    if sum.trim_end() != format!("checksum {:08x}", crc32c::crc32c(body.as_bytes())) {
        return None;
    }
    let checkpoint = Checkpoint { epoch: Epoch::new(value("epoch")?), applied: value("applied")? };
    Some(Ok(Known { format: found, checkpoint }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_damage_and_other_formats() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Checkpoint::load(dir.path()).unwrap().is_none());
        let checkpoint = Checkpoint { epoch: Epoch::new(7), applied: 9 };
        checkpoint.save(dir.path()).unwrap();
        let known = Known { format: FORMAT_VERSION, checkpoint };
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(known));
        let path = dir.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("applied 9", "applied 8")).unwrap();
        assert!(matches!(Checkpoint::load(dir.path()), Err(StoreError::Damaged(_))));
        for found in [0, FORMAT_VERSION + 1] {
            fs::write(&path, text.replace("format 2", &format!("format {found}"))).unwrap();
            let refused = Checkpoint::load(dir.path());
            assert!(matches!(refused, Err(StoreError::Format { found: f, .. }) if f == found));
        }
        let first = "roamd data directory\nformat 1\nepoch 7\napplied 9\n";
        let sum = crc32c::crc32c(first.as_bytes());
        fs::write(&path, format!("{first}checksum {sum:08x}\n")).unwrap();
        let known = Known { format: 1, checkpoint };
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(known));
    }
}
