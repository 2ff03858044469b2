//! What the store calls durable is on disk: sled's flush must end in `fdatasync`.
//!
//! Cause: sled 0.34.7 ends `flush()` in `sync_file_range`, which leaves the data in the disk's
//! cache. `store::fsync` binds that call to `fdatasync`; a new linker, sled or profile could undo
//! it without a word, so the system calls themselves are looked at.

#![cfg(target_os = "linux")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use roamd::store::fsync;

/// Set for the traced child; says whether durability is switched on in it.
const CHILD: &str = "ROAMD_DURABILITY_CHILD";

fn flush_something(dir: &Path) {
    let db = sled::open(dir).expect("sled opens");
    db.insert("key", "value").expect("insert");
    db.flush().expect("flush");
}

#[test]
fn a_flush_of_sled_goes_through_the_binding() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let before = fsync::bind();
    flush_something(dir.path());
    assert!(fsync::calls() > before, "sled's flush did not reach the bound sync_file_range");
}

/// The traced child; without the variable there is nothing to do.
#[test]
fn child_flushes_once() {
    let Ok(mode) = std::env::var(CHILD) else { return };
    fsync::bind();
    fsync::set_enabled(mode == "on");
    let dir = tempfile::tempdir().expect("temporary directory");
    flush_something(dir.path());
}

/// Lines of sync calls on sled's file made by a child, or None where tracing is not possible.
fn traced_syncs(mode: &str) -> Option<Vec<String>> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let trace = dir.path().join("trace");
    let own = std::env::current_exe().expect("path of this test");
    let run = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=fdatasync,fsync,sync_file_range", "-o"])
        .arg(&trace)
        .arg(own)
        .args(["--exact", "child_flushes_once", "--test-threads=1"])
        .env(CHILD, mode)
        .stdout(Stdio::null())
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: strace cannot be started: {error}");
            return None;
        }
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("ptrace") || complaint.contains("PTRACE") {
        println!("SKIPPED: strace may not trace here: {complaint}");
        return None;
    }
    assert!(output.status.success(), "traced child failed: {complaint}");
    let text = fs::read_to_string(&trace).expect("trace was written");
    Some(text.lines().filter(|line| line.contains("/db>")).map(str::to_owned).collect())
}

#[test]
fn strace_sees_fdatasync_and_no_sync_file_range() {
    let Some(lines) = traced_syncs("on") else { return };
    assert!(lines.iter().any(|line| line.contains(" fdatasync(")), "no fdatasync in {lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("sync_file_range(")),
        "the binding is lost: {lines:?}"
    );
}

/// The test above must be able to fail: with the switch off the kernel sees what stock sled does.
#[test]
fn strace_sees_sync_file_range_when_switched_off() {
    let Some(lines) = traced_syncs("off") else { return };
    assert!(
        lines.iter().any(|line| line.contains("sync_file_range(")),
        "the switch has no effect: {lines:?}"
    );
    assert!(!lines.iter().any(|line| line.contains(" fdatasync(")), "still durable: {lines:?}");
}
