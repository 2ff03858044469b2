//! The failure matrix against the shipped binary: what goes wrong around a daemon, one kind a file.
//!
//! ```text
//! cargo test --test faults                          a slice of everything
//! cargo test --test faults inject                   errors of system calls: 6 lives
//! FAULT_LIVES=300 cargo test --test faults inject   so many lives, at calls drawn from 1..=200
//! FAULT_CALLS=200 cargo test --test faults inject   each of 1..=200, 4 kinds of calls, EIO and ENOSPC
//! cargo test --test faults points                   kills at system calls: 2 lives in each of 5 phases
//! FAULT_POINTS=300 cargo test --test faults points  each of 1..=300 in each phase
//! FAULT_DRAINS=100 cargo test --test faults drain   so many SIGTERM under load
//! FAULT_FULL=1 cargo test --test faults half_open   with the timeouts of the default settings
//! FAULT_SEED=7 cargo test --test faults             the same choices again
//! ```
//! A test whose tool is missing (strace, faketime, nft and ip, prlimit, a cgroup, root) prints SKIPPED
//! and why. A data directory in which something was wrong is kept and named.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../witness/mod.rs"]
mod witness;

mod clock;
mod directory;
mod drain;
mod freeze;
mod half_open;
mod inject;
mod points;
mod resources;
mod stall;
mod tools;
