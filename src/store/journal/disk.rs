//! Every change the journal and the checkpoint file make on disk goes through these few functions.
//!
//! They add nothing to the standard library except one seam: in unit tests and simulations the disk
//! of [`sim`] sees each call first, and may fail it, end the process there, or remember how to take
//! back what was not synced when the power goes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::store::fsync;

#[cfg(any(test, feature = "simulation"))]
#[cfg_attr(
    not(feature = "simulation"),
    allow(dead_code, reason = "the simulation uses more than unit tests")
)]
pub mod sim;

/// Makes a file that does not exist yet, open for reading and writing.
pub(in crate::store) fn create(path: &Path) -> io::Result<File> {
    #[cfg(any(test, feature = "simulation"))]
    sim::create(path)?;
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a file that exists, for reading and writing.
pub(in crate::store) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Writes all bytes at the place.
pub(in crate::store) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(any(test, feature = "simulation"))]
    sim::write(file, bytes, offset)?;
    file.write_all_at(bytes, offset)
}

/// Overwrites the range with zeros.
pub(in crate::store) fn write_zeros(file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    const STEP: u64 = 1024 * 1024;
    let zeros = vec![0; range.end.saturating_sub(range.start).min(STEP) as usize];
    let mut at = range.start;
    while at < range.end {
        let step = (range.end - at).min(STEP);
        write(file, zeros.get(..step as usize).unwrap_or(&zeros), at)?;
        at += step;
    }
    Ok(())
}

/// Makes the file's data durable.
pub(in crate::store) fn sync(file: &File) -> io::Result<()> {
    #[cfg(any(test, feature = "simulation"))]
    if sim::sync(file)? {
        return Ok(());
    }
    fsync::sync_data(file)
}

/// Makes the names in the directory durable.
pub(in crate::store) fn sync_dir(dir: &File) -> io::Result<()> {
    #[cfg(any(test, feature = "simulation"))]
    if sim::sync_dir(dir)? {
        return Ok(());
    }
    fsync::sync_dir(dir)
}

/// Gives a file another name in the same directory, in place of a file that has it.
pub(in crate::store) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "simulation"))]
    sim::rename(from, to)?;
    fs::rename(from, to)
}

/// Removes a file.
pub(in crate::store) fn remove(path: &Path) -> io::Result<()> {
    #[cfg(any(test, feature = "simulation"))]
    sim::remove(path)?;
    fs::remove_file(path)
}
