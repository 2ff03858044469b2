//! A backup: a directory of its own with everything as of one commit.
//!
//! `values` and `commits` are blocks ([`super::block`]), `keys/` is a copy of the signing keys, and
//! `BACKUP` says what there must be; it is written last, so a backup without it is not complete.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    ArchiveError, Block, BlockKind,
    block::{HEAD_BYTES, checks, each_commit, each_value, payload_bytes},
    io_error,
};
use crate::{
    id::Epoch,
    store::{Builder, FORMAT_VERSION, Position, StoreConfig, StoreError, fsync},
};

const NAME: &str = "BACKUP";
const KEYS: &str = "keys";
/// The format this program writes, and the only one there is.
const FORMAT: u64 = 1;

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Where it stands.
    pub position: Position,
    /// Values that were damaged when they were copied.
    pub damaged: u64,
}

/// A backup being made.
#[derive(Debug)]
pub struct BackupWriter {
    dir: PathBuf,
    files: [(File, u64, u64); 2],
}

impl BackupWriter {
    /// Begins in a directory that is made and must not have anything in it. Only its owner may look
    /// into it.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`]; any other when it cannot be made.
    pub fn begin(dir: &Path) -> Result<Self, ArchiveError> {
        if let Ok(mut names) = fs::read_dir(dir)
            && names.next().is_some()
        {
            return Err(StoreError::NotEmpty(dir.to_owned()).into());
        }
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o700).create(dir).map_err(io_error("making", dir))?;
        let file = |kind: BlockKind| {
            let path = dir.join(kind.name());
            let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
            Ok::<_, ArchiveError>((file.map_err(io_error("making", &path))?, 0, 0))
        };
        let files = [file(BlockKind::Values)?, file(BlockKind::Commits)?];
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// Adds a block; one that does not check is refused.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`], or why it cannot be written.
    pub fn add(&mut self, block: &Block) -> Result<(), ArchiveError> {
        let (file, blocks, bytes) = &mut self.files[block.kind as usize];
        let whole = block.bytes.split_first_chunk::<HEAD_BYTES>().is_some_and(|(head, payload)| {
            payload_bytes(*head) == Some(payload.len()) && checks(*head, *blocks, payload)
        });
        if !whole {
            return Err(ArchiveError::Damaged("a block was damaged on its way here".into()));
        }
        let path = self.dir.join(block.kind.name());
        file.write_all(&block.bytes).map_err(io_error("writing", &path))?;
        *blocks += 1;
        *bytes += block.bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, _, bytes)| bytes).sum()
    }

    /// Copies the signing keys of a data directory, if it has any.
    ///
    /// # Errors
    /// Why they cannot be copied.
    pub fn keys(&mut self, data: &Path) -> Result<(), ArchiveError> {
        copy_keys(&data.join(KEYS), &self.dir.join(KEYS))
    }

    /// Ends: the backup is complete and durable.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn finish(self, taken: &Taken) -> Result<(), ArchiveError> {
        use std::fmt::Write as _;

        let Position { epoch, applied, commit } = taken.position;
        let mut body = format!(
            "roamd backup\nformat {FORMAT}\ndata {FORMAT_VERSION}\nepoch {epoch}\n\
             applied {applied}\ncommit {commit}\ndamaged {}\n",
            taken.damaged
        );
        for (kind, (file, blocks, bytes)) in
            [BlockKind::Values, BlockKind::Commits].iter().zip(self.files)
        {
            let path = self.dir.join(kind.name());
            fsync::sync_data(&file).map_err(io_error("syncing", &path))?;
            let _ =
                writeln!(body, "{name}_blocks {blocks}\n{name}_bytes {bytes}", name = kind.name());
        }
        let text = format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()));
        sync_names(&self.dir)?;
        let path = self.dir.join(NAME);
        let new = self.dir.join("BACKUP.new");
        let mut file = File::create(&new).map_err(io_error("making", &new))?;
        file.write_all(text.as_bytes()).map_err(io_error("writing", &new))?;
        fsync::sync_data(&file).map_err(io_error("syncing", &new))?;
        fs::rename(&new, &path).map_err(io_error("renaming", &new))?;
        sync_names(&self.dir)?;
        let above = self.dir.canonicalize().map_err(io_error("finding", &self.dir))?;
        above.parent().map_or(Ok(()), sync_names)
    }

    /// Gives up and removes what was made.
    pub fn abandon(self) {
        for kind in [BlockKind::Values, BlockKind::Commits] {
            let _ = fs::remove_file(self.dir.join(kind.name()));
        }
        let _ = fs::remove_dir_all(self.dir.join(KEYS));
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A complete backup.
#[derive(Debug)]
pub struct Backup {
    dir: PathBuf,
    taken: Taken,
    /// Blocks and bytes of each file.
    files: [(u64, u64); 2],
}

impl Backup {
    /// Whether there is one.
    #[must_use]
    pub fn is_at(dir: &Path) -> bool {
        dir.join(NAME).is_file()
    }

    /// Reads what it must hold; the rest is not looked at.
    ///
    /// # Errors
    /// [`ArchiveError::NoBackup`], [`ArchiveError::Format`], [`ArchiveError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        if !Self::is_at(dir) {
            return Err(ArchiveError::NoBackup(dir.to_owned()));
        }
        let path = dir.join(NAME);
        let bytes = fs::read(&path).map_err(io_error("reading", &path))?;
        let text = String::from_utf8_lossy(&bytes);
        let value = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        };
        let damaged = || ArchiveError::Damaged(format!("{} does not check", path.display()));
        for (name, known) in [("format", FORMAT), ("data", u64::from(FORMAT_VERSION))] {
            let found = value(name).ok_or_else(damaged)?;
            if found > known {
                return Err(ArchiveError::Format { found, known });
            }
        }
        let sound =
            text.rfind("checksum ").map(|at| text.split_at(at)).is_some_and(|(body, sum)| {
                sum == format!("checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
            });
        let read = || {
            let file = |kind: BlockKind| {
                let name = kind.name();
                Some((value(&format!("{name}_blocks"))?, value(&format!("{name}_bytes"))?))
            };
            let position = Position {
                epoch: Epoch::new(value("epoch")?),
                applied: value("applied")?,
                commit: value("commit")?,
            };
            Some(Self {
                dir: dir.to_owned(),
                taken: Taken { position, damaged: value("damaged")? },
                files: [file(BlockKind::Values)?, file(BlockKind::Commits)?],
            })
        };
        if sound { read().ok_or_else(damaged) } else { Err(damaged()) }
    }

    /// What it holds.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.taken
    }

    /// Bytes of its blocks.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Builds the data directory that it is a copy of, under another epoch. `progress` is told how
    /// many bytes were read.
    ///
    /// # Errors
    /// [`ArchiveError::Damaged`] when anything does not check; any other from the directory.
    pub fn build(
        &self,
        to: &StoreConfig,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), ArchiveError> {
        let mut builder = Builder::begin(to)?;
        let mut read = 0;
        let mut tell = |bytes: u64| {
            read += bytes;
            progress(read);
        };
        self.each_block(BlockKind::Values, |payload| {
            tell(payload.len() as u64);
            each_value(payload, |tree, key, value| Ok(builder.value(tree, key, value)?))
        })?;
        let mut next = self.taken.position.applied + 1;
        self.each_block(BlockKind::Commits, |payload| {
            tell(payload.len() as u64);
            each_commit(payload, |commit, operations| {
                if commit != next {
                    let text = format!("commit {commit} stands in the place of {next}");
                    return Err(ArchiveError::Damaged(text));
                }
                next += 1;
                Ok(builder.commit(operations)?)
            })
        })?;
        let commit = self.taken.position.commit;
        if next != commit + 1 {
            let last = next - 1;
            return Err(ArchiveError::Damaged(format!("it ends at commit {last}, not {commit}")));
        }
        Ok(builder.finish(to.new_epoch, commit)?)
    }

    /// Copies the signing keys into a data directory that has none.
    ///
    /// # Errors
    /// Why they cannot be copied.
    pub fn keys(&self, data: &Path) -> Result<(), ArchiveError> {
        copy_keys(&self.dir.join(KEYS), &data.join(KEYS))
    }

    fn each_block(
        &self,
        kind: BlockKind,
        mut each: impl FnMut(Bytes) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (blocks, bytes) = self.files[kind as usize];
        let path = self.dir.join(kind.name());
        let file = File::open(&path).map_err(io_error("opening", &path))?;
        let there = file.metadata().map_err(io_error("reading", &path))?.len();
        if there != bytes {
            let text = format!("{} has {there} bytes, not {bytes}", path.display());
            return Err(ArchiveError::Damaged(text));
        }
        let mut file = BufReader::new(file);
        for number in 0..blocks {
            let damaged = || {
                let text = format!("block {number} of {} does not check", path.display());
                ArchiveError::Damaged(text)
            };
            let mut head = [0; HEAD_BYTES];
            file.read_exact(&mut head).map_err(|_| damaged())?;
            let len = payload_bytes(head).filter(|len| *len as u64 <= bytes).ok_or_else(damaged)?;
            let mut payload = vec![0; len];
            file.read_exact(&mut payload).map_err(|_| damaged())?;
            if !checks(head, number, &payload) {
                return Err(damaged());
            }
            each(payload.into())?;
        }
        Ok(())
    }
}

/// Copies a folder of keys, if there is one and the other has none.
fn copy_keys(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    if !from.is_dir() || to.exists() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(to).map_err(io_error("making", to))?;
    for entry in fs::read_dir(from).map_err(io_error("reading", from))? {
        let entry = entry.map_err(io_error("reading", from))?;
        let name = entry.file_name();
        if !entry.path().is_file() || name.to_string_lossy().starts_with('.') {
            continue;
        }
        let copy = to.join(name);
        fs::copy(entry.path(), &copy).map_err(io_error("copying", &entry.path()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))
            .and_then(|()| File::open(&copy))
            .and_then(|file| fsync::sync_data(&file))
            .map_err(io_error("syncing", &copy))?;
    }
    sync_names(to)
}

fn sync_names(dir: &Path) -> Result<(), ArchiveError> {
    File::open(dir).and_then(|names| fsync::sync_dir(&names)).map_err(io_error("syncing", dir))
}
