//! Directories, and the shipped binary at work on them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use roamd::store::{Store, StoreConfig};
use tempfile::TempDir;

use crate::scenario;

/// A temporary folder with room for several data directories.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("roamd-tools-").tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A data directory with one of everything, and messages that are gone; closed.
    pub fn everything(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        let (store, writer) = Store::open(&small(&dir)).unwrap();
        let mut world = scenario::World::new(&store, writer);
        scenario::first_half(&mut world);
        store.settle().unwrap();
        scenario::second_half(&mut world);
        scenario::changes(&mut world);
        scenario::own_state(&mut world);
        scenario::told_by_the_system(&mut world);
        store.close(world.engine.into_writer()).unwrap();
        dir
    }
}

/// A store that is quick to open.
pub fn small(dir: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 256 << 10, cache_bytes: 8 << 20, ..StoreConfig::new(dir) }
}

/// The shipped binary on a data directory.
pub fn roamd(data: &Path) -> Command {
    under(&[], data)
}

/// The same, started by another program.
pub fn under(program: &[&str], data: &Path) -> Command {
    let binary = env!("CARGO_BIN_EXE_roamd");
    let mut command = match program.split_first() {
        None => Command::new(binary),
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
    };
    command
        .env("ROAMD_DATA__DIR", data)
        .env("ROAMD_STORE__SEGMENT_BYTES", "256KiB")
        .env("ROAMD_STORE__CACHE_BYTES", "8MiB")
        .env("NO_COLOR", "1");
    command
}

/// Runs `roamd store …`.
pub fn store<A: AsRef<OsStr>>(data: &Path, arguments: impl IntoIterator<Item = A>) -> Output {
    roamd(data).arg("store").args(arguments).output().unwrap()
}

/// Runs `roamd store …`, which must end with this status; gives what it printed.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(
    data: &Path,
    arguments: impl IntoIterator<Item = A>,
    status: i32,
) -> String {
    ended(&store(data, arguments), status)
}

/// What a command printed that must have ended with this status.
#[track_caller]
pub fn ended(output: &Output, status: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "stdout: {text}\nstderr: {error}");
    assert!(!error.contains("panicked"), "{error}");
    text.into_owned()
}

/// Why a command that must not have worked did not.
#[track_caller]
pub fn refused<A: AsRef<OsStr>>(
    data: &Path,
    arguments: impl IntoIterator<Item = A>,
    status: i32,
) -> String {
    let output = store(data, arguments);
    ended(&output, status);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All lines of an export.
#[track_caller]
pub fn lines(data: &Path) -> Vec<String> {
    run(data, ["export"], 0).lines().map(str::to_owned).collect()
}

/// Two exports, compared line by line.
#[track_caller]
pub fn same(one: &[String], other: &[String]) {
    for (number, (one, other)) in (1..).zip(one.iter().zip(other)) {
        assert_eq!(one, other, "line {number}");
    }
    assert_eq!(one.len(), other.len());
}

/// A copy of a directory whose daemon is stopped.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a directory.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// Whether the bytes of any file below a directory have the text.
pub fn has(dir: &Path, text: &str) -> bool {
    let has = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files(dir).iter().any(has)
}
