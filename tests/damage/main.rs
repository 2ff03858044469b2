//! Damage of every kind, of every file of a data directory that has one of everything in it: what is
//! answered then is the truth, or a refusal, or a hole, or a verification names what is wrong; nothing
//! panics or hangs; and `roamd store repair` makes a sound directory of it that has what is not lost.
//!
//! 8 damages in a test run; `DAMAGE_ROUNDS=1000 cargo test --test damage seeded -- --nocapture` for more,
//! `DAMAGE_SEED=7` begins elsewhere. A failure names its seed: `DAMAGE_SEED=n DAMAGE_ROUNDS=1` repeats it.
//! Whoever reads a damaged directory does so in a process of its own (this test again).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod child;
mod clients;
mod damages;
#[path = "../store/place.rs"]
#[allow(dead_code, reason = "of the words of the store's tests some are of use here")]
mod place;
#[path = "../store/scenario.rs"]
#[allow(dead_code, reason = "of the words of the store's tests some are of use here")]
mod scenario;
mod seeded;
#[path = "../support/mod.rs"]
mod support;
mod tip;
mod world;
