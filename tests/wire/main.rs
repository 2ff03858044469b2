//! The wire layer from outside: framing, hostile input, every request with its rules, batches, what
//! fits a frame, the registry and the descriptor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod arguments;
mod batches;
mod codec;
mod descriptor;
mod generated;
#[path = "../hostile/mod.rs"]
mod hostile;
mod registry;
mod requests;
mod sizes;
mod states;
mod values;
