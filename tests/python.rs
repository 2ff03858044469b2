//! The reference client in Python, on the official protobuf runtime, against the shipped daemon:
//! the proof that `proto/` and `docs/protocol.md` are enough to write a client.
//!
//! Needs python3, and the network once, for the runtime. Where they are missing the test says so and
//! passes, except where `CI` is set: there nothing may go untested.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::Command;

use support::Daemon;

/// Exit status of the script when its tools cannot be had.
const NOT_TESTED: i32 = 77;

#[test]
fn the_client_in_python_works() {
    let daemon =
        Daemon::with_tls(&[("limits.inbox_entries", "100"), ("limits.fanout_members", "3")]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/run");
    let output = Command::new(script)
        .arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/python"))
        .env("ROAMD_BIN", env!("CARGO_BIN_EXE_roamd"))
        .env("ROAMD_TEST_DATA", daemon.data())
        .env("ROAMD_TEST_ADDRESS", daemon.address().to_string())
        .env("ROAMD_TEST_TLS_ADDRESS", daemon.tls_address().to_string())
        .env("ROAMD_TEST_AUTHORITY", daemon.authority())
        .output()
        .expect("the script starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    println!("{said}");
    let in_ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false");
    match output.status.code() {
        Some(0) => {}
        Some(NOT_TESTED) if !in_ci => {
            println!("NOT TESTED: the client in Python, because its tools are missing here");
        }
        _ => panic!("{}", output.status),
    }
}
