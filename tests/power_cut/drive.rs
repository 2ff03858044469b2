//! A drive with a volatile cache, out of two ext4 file systems and two loop devices; the head of
//! `main.rs` has the picture.

// Unsafe is needed for two system calls that nothing safe offers: the ioctl that shuts a file system
// down, and the real `sync_file_range` (this crate defines the symbol anew, see `store::fsync`).
#![allow(unsafe_code)]

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{Rng, rngs::StdRng};
use tempfile::TempDir;

use crate::witness::run;

/// The disk that the daemon sees.
const DISK_BYTES: u64 = 128 << 20;
/// The drive around it: the disk, and a file system's own needs.
const DRIVE_BYTES: u64 = 176 << 20;
/// `FS_IOC_SHUTDOWN`, as in `linux/fs.h`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Shut down without writing the log.
const NO_LOG_FLUSH: u32 = 2;
/// What is made inside and outside: everything at once, nothing in the background.
const MKFS: &[&str] =
    &["-q", "-F", "-J", "size=8", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
/// The kernel commits the file systems' journals by itself only every 300 s.
const MOUNT: &str = "loop,commit=300,nodiscard,noatime";
/// Pieces of the disk that are written out before a cut, at most.
const PIECES_MAX: usize = 400;

/// Whether such a drive can be made here.
pub fn possible() -> Result<(), String> {
    for program in ["mkfs.ext4", "mount", "umount"] {
        if Command::new(program).arg("-V").output().is_err() {
            return Err(format!("there is no {program}"));
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("there are no loop devices".to_owned());
    }
    // In a mount namespace of its own, like the real thing.
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (image, place) = (dir.path().join("image"), dir.path().join("place"));
    fs::create_dir(&place).map_err(|error| error.to_string())?;
    let file = File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(16 << 20).map_err(|error| error.to_string())?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--propagation", "private", "mount", "-o", "loop"]);
    run(probe.arg(&image).arg(&place)).map(|_| ())
}

/// See the head of this file.
pub struct Drive {
    dir: TempDir,
    plugged: bool,
}

impl Drive {
    /// A new drive with an empty file system, put in.
    pub fn make() -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("roamd-power-cut-").tempdir();
        let mut drive = Self { dir: dir.map_err(text)?, plugged: false };
        fs::create_dir(drive.outer()).map_err(text)?;
        fs::create_dir(drive.root()).map_err(text)?;
        let image = drive.image();
        File::create(&image).and_then(|file| file.set_len(DRIVE_BYTES)).map_err(text)?;
        run(Command::new("mkfs.ext4").args(MKFS).arg(&image))?;
        run(Command::new("mount").args(["-o", MOUNT]).arg(&image).arg(drive.outer()))?;
        drive.plugged = true;
        // Every block of the disk exists before it matters: a write changes data and nothing else.
        let zeros = vec![0; DISK_BYTES as usize];
        fs::write(drive.disk(), zeros).map_err(text)?;
        run(Command::new("mkfs.ext4").args(MKFS).arg(drive.disk()))?;
        drive.sync();
        run(Command::new("mount").args(["-o", MOUNT]).arg(drive.disk()).arg(drive.root()))?;
        Ok(drive)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("drive.img")
    }

    fn outer(&self) -> PathBuf {
        self.dir.path().join("drive")
    }

    fn disk(&self) -> PathBuf {
        self.outer().join("disk.img")
    }

    /// Where the daemon's file system is.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Mounts what is on the drive; the kernel replays both journals.
    pub fn put_in(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", MOUNT]).arg(self.image()).arg(self.outer()))?;
        self.plugged = true;
        run(Command::new("mount").args(["-o", MOUNT]).arg(self.disk()).arg(self.root()))?;
        Ok(())
    }

    /// Unmounts. After a cut nothing is written by that.
    pub fn take_out(&mut self) -> Result<(), String> {
        run(Command::new("umount").arg(self.root()))?;
        run(Command::new("umount").arg(self.outer()))?;
        self.plugged = false;
        Ok(())
    }

    /// Flushes everything, whoever wrote it.
    pub fn sync(&self) {
        let _ = Command::new("sync").arg("-f").arg(self.root()).status();
        let _ = Command::new("sync").arg("-f").arg(self.outer()).status();
    }

    /// Writes random pieces of the cache out, as drives do when they like.
    pub fn destage(&self, rng: &mut StdRng) -> io::Result<()> {
        let disk = File::options().write(true).open(self.disk())?;
        for _ in 0..rng.random_range(1..=PIECES_MAX) {
            let bytes: u64 = 4096 << rng.random_range(0..9);
            let at = rng.random_range(0..DISK_BYTES / 4096) * 4096;
            let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
                | libc::SYNC_FILE_RANGE_WRITE
                | libc::SYNC_FILE_RANGE_WAIT_AFTER;
            // SAFETY: the arguments are those of the system call and hold no pointer.
            let answer = unsafe {
                libc::syscall(libc::SYS_sync_file_range, disk.as_raw_fd(), at, bytes, flags)
            };
            if answer < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// From now on nothing reaches the drive, and what was not flushed is lost.
    pub fn cut(&self) -> io::Result<()> {
        let outer = File::open(self.outer())?;
        let how = NO_LOG_FLUSH;
        // SAFETY: the ioctl reads one u32 through the pointer, which outlives the call.
        let answer = unsafe { libc::ioctl(outer.as_raw_fd(), SHUTDOWN as _, &raw const how) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        if self.plugged {
            // Lazily: a failed test may leave somebody inside.
            for place in [self.root(), self.outer()] {
                let _ = Command::new("umount").arg("-l").arg(place).output();
            }
        }
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}
