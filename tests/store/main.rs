//! The store from outside: what it promises, held against a plain model, through crashes, damage
//! and other processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damaged;
mod killed;
mod model;
mod opening;
mod place;
mod sizes;
mod together;
mod trimmed;
