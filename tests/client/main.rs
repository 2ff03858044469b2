//! The client library against a daemon in this process, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panic")]

mod away;
mod broken;
mod daemon;
mod large;
mod lost;
mod talk;
