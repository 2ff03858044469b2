//! The wire layer from outside: framing, hostile input, batches, the registry and the descriptor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod codec;
mod descriptor;
#[path = "../hostile/mod.rs"]
mod hostile;
mod registry;
mod requests;
mod values;
