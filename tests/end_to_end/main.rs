//! The shipped daemon over real sockets and a real disk: every behaviour of `docs/protocol.md`.
//!
//! One file per part of the protocol. Each test has a daemon, a data directory and a port of its
//! own, so all of them run at once. Nothing sleeps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod acks;
mod canary;
mod catch_up;
mod compare;
mod devices;
mod greeting;
mod groups;
mod hiding;
mod history;
mod hostile;
mod large;
mod lists;
mod mutations;
mod notices;
mod own_state;
mod presence;
mod process;
mod reload;
mod roles;
mod sending;
mod sessions;
mod tls;
mod unread;
mod visibility;
