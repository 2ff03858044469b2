//! The one place that decides what "on disk" means.
//!
//! sled 0.34.7 ends its `flush()` in `sync_file_range`, which does not flush the disk's cache and
//! does not write file metadata: a flushed commit does not survive a power cut. This module
//! defines the symbol `sync_file_range` itself, with the meaning of `fdatasync`; the linker binds
//! sled's call to it, because an executable's own objects come before the C library. The binding
//! holds only if this object is part of the executable, so whoever opens sled calls [`bind`].
//! `tests/durability.rs` proves it with the counter and with strace.
//!
//! The journal syncs its files through [`sync_data`] and [`sync_dir`], so that one switch
//! ([`set_enabled`]) takes durability away from the whole store: a power-cut harness that sees no
//! loss with the switch off would not have seen one with it on either.
//!
//! State: one counter and one switch per process, owned here.

// Unsafe is needed to define a C symbol and to call `fdatasync` and `syscall` on the raw
// descriptor that arrives through it; there is no safe way to replace a C function.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

static CALLS: AtomicU64 = AtomicU64::new(0);
static ENABLED: AtomicBool = AtomicBool::new(true);

/// Makes sure that the bound `sync_file_range` is part of this executable. Returns [`calls`].
///
/// Call it before opening sled. After the first flush that had something to write, [`calls`] must
/// have grown; if it has not, the binding is lost and nothing is durable.
pub fn bind() -> u64 {
    #[cfg(target_os = "linux")]
    std::hint::black_box(sync_file_range as BoundFunction);
    calls()
}

/// How often the engine's flush came through the binding since the process began.
#[must_use]
pub fn calls() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

/// Switches durability on (the default) or off, for the whole process.
///
/// Only for the proof that the power-cut harness can see a loss. Off, every sync of the store does
/// what stock sled does: the real `sync_file_range` for files, nothing for directories.
pub fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::SeqCst);
}

/// Returns when the file's data, and the metadata needed to read it, are on disk.
///
/// # Errors
/// What `fdatasync` reports. Pages that failed to reach the disk may be marked clean afterwards, so
/// a second try that succeeds proves nothing: never retry.
pub fn sync_data(file: &File) -> io::Result<()> {
    if ENABLED.load(Ordering::SeqCst) {
        return file.sync_data();
    }
    start_writeback(file)
}

/// Returns when the names in an open directory (created, renamed, removed files) are on disk.
///
/// # Errors
/// What `fsync` reports; never retry, as with [`sync_data`].
pub fn sync_dir(directory: &File) -> io::Result<()> {
    if ENABLED.load(Ordering::SeqCst) {
        return directory.sync_all();
    }
    Ok(())
}

#[cfg(target_os = "linux")]
type BoundFunction =
    extern "C" fn(libc::c_int, libc::off64_t, libc::off64_t, libc::c_uint) -> libc::c_int;

/// What sled calls at the end of a flush; see the head of this module.
///
/// The range and the flags are ignored: the whole file becomes durable, which is more than asked.
/// Returns 0, or -1 with `errno` set, as the C function does.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(
    fd: libc::c_int,
    offset: libc::off64_t,
    bytes: libc::off64_t,
    flags: libc::c_uint,
) -> libc::c_int {
    CALLS.fetch_add(1, Ordering::Relaxed);
    if !ENABLED.load(Ordering::SeqCst) {
        return real_sync_file_range(fd, offset, bytes, flags);
    }
    // SAFETY: fdatasync takes any integer; one that is not an open descriptor yields EBADF.
    unsafe { libc::fdatasync(fd) }
}

#[cfg(target_os = "linux")]
fn real_sync_file_range(
    fd: libc::c_int,
    offset: libc::off64_t,
    bytes: libc::off64_t,
    flags: libc::c_uint,
) -> libc::c_int {
    // SAFETY: the arguments are those of the system call and hold no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_sync_file_range, fd, offset, bytes, flags) };
    if answer < 0 { -1 } else { 0 }
}

#[cfg(target_os = "linux")]
fn start_writeback(file: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    match real_sync_file_range(file.as_raw_fd(), 0, 0, flags) {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writeback(_file: &File) -> io::Result<()> {
    Ok(())
}
