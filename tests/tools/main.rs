//! `roamd store backup | restore | export | import | compact`, by the shipped binary: on a daemon
//! under load, on damage, and killed at any write.
//!
//! ```text
//! cargo test --test tools                                         a slice
//! TOOLS_POINTS=400 cargo test --test tools killed                 every write of a compaction
//! TOOLS_DAMAGES=1000 cargo test --test tools damage               more damaged backups
//! TOOLS_ROUNDS=50 cargo test --test tools load                    more backups under load
//! ```
//! A seed (`TOOLS_SEED`) repeats every choice of a test; it cannot repeat how threads, the kernel and
//! a kill interleave.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

#[path = "../store/scenario.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest")]
mod scenario;
#[path = "../support/mod.rs"]
mod support;
#[path = "../witness/mod.rs"]
mod witness;

mod backup;
mod compact;
mod export;
mod load;
mod place;
