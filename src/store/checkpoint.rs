//! The identity of a data directory and its high-water mark, in one small file beside the trees.
//!
//! `ROAMD` holds the format version, the epoch and the last commit known to be wholly in the trees.
//! It is replaced by write, fsync, rename, fsync of the directory. If the trees come back with less
//! than it says, they have lost data that was durable: the store refuses to open.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::{error::StoreError, fsync};
use crate::id::Epoch;

/// The format this program writes. Raised with every change of bytes on disk.
pub const FORMAT_VERSION: u32 = 1;

const NAME: &str = "ROAMD";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) epoch: Epoch,
    pub(super) applied: u64,
}

impl Checkpoint {
    /// Reads the file; none in a fresh directory.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(NAME);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { what: "reading", path, source }),
        };
        parse(&text).unwrap_or_else(|| {
            Err(StoreError::Damaged(format!("{} is not a checkpoint file", path.display())))
        })
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
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            fsync::sync_data(&file)?;
            fs::rename(&temporary, &path)?;
            fsync::sync_dir(&File::open(dir)?)
        };
        write().map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
            _ => StoreError::Io { what: "writing", path: path.clone(), source },
        })
    }
}

fn parse(text: &str) -> Option<Result<Option<Checkpoint>, StoreError>> {
    let (body, sum) = text.split_at(text.rfind("checksum ")?);
    let value = |name: &str| -> Option<u64> {
        body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    };
    let found = u32::try_from(value("format")?).ok()?;
    if found != FORMAT_VERSION {
        return Some(Err(StoreError::Format { found, known: FORMAT_VERSION }));
    }
    if sum.trim_end() != format!("checksum {:08x}", crc32c::crc32c(body.as_bytes())) {
        return None;
    }
    Some(Ok(Some(Checkpoint { epoch: Epoch::new(value("epoch")?), applied: value("applied")? })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_damage_and_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Checkpoint::load(dir.path()).unwrap().is_none());
        let checkpoint = Checkpoint { epoch: Epoch::new(7), applied: 9 };
        checkpoint.save(dir.path()).unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(checkpoint));
        let path = dir.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("applied 9", "applied 8")).unwrap();
        assert!(matches!(Checkpoint::load(dir.path()), Err(StoreError::Damaged(_))));
        fs::write(&path, text.replace("format 1", "format 2")).unwrap();
        assert!(matches!(Checkpoint::load(dir.path()), Err(StoreError::Format { found: 2, .. })));
    }
}
