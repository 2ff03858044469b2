//! The store from outside: what it promises, held against a plain model, through crashes, damage
//! and other processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod opening;
mod place;
mod trimmed;
