//! The shipped daemon under very many connections: readers that never read, connections that say
//! nothing or drip, everybody coming back at once, more than can be done, and hours of all of it.
//!
//! `cargo test --test scale` runs a slice with small numbers that judges what does not depend on the
//! speed of the machine. The full numbers, with the promised times and ratios:
//!
//! ```text
//! SCALE=full cargo test --release --test scale -- --nocapture --test-threads=1
//! ```
//!
//! `SCALE_SOAK_SECONDS=3600` makes the soak longer. Ratios compare what is measured alternately within
//! one run, so that the noise of the machine is in both sides of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crowd;
mod link;
mod overload;
mod readers;
mod server;
mod soak;
mod storm;

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

/// The most anything may take. Nothing waits for it in vain.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether the promised numbers are tried.
fn full() -> bool {
    std::env::var("SCALE").is_ok_and(|scale| scale == "full")
}

/// This many in a full run, that many in a slice.
fn count(full_run: usize, slice: usize) -> usize {
    if full() { full_run } else { slice }
}

/// One at a time: each wants the machine, and the descriptors, for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _ = rlimit::increase_nofile_limit(60_000);
    ALONE.lock().unwrap_or_else(|failed| failed.into_inner())
}

/// The value that a share of all do not exceed.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let place = (times.len() as f64 * share).ceil() as usize;
    times[place.clamp(1, times.len()) - 1]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

#[test]
fn a_quantile_is_one_of_the_values() {
    let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
    assert_eq!(quantile(&mut times, 0.99), Duration::from_millis(99));
    assert_eq!(quantile(&mut times, 0.5), Duration::from_millis(50));
    assert_eq!(quantile(&mut times[..1], 0.99), Duration::from_millis(1));
}
