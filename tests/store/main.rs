//! The store from outside: what it promises, held against a plain model, through crashes, damage
//! and other processes; and what is in it, held against itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod copied;
mod damaged;
mod document;
mod golden;
mod killed;
mod model;
mod opening;
mod place;
mod scenario;
mod shown;
mod sizes;
mod together;
mod trimmed;
mod verified;
