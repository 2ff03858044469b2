//! What end-to-end tests stand on: the shipped daemon as a process of its own, and a small client
//! that shares nothing with the client library but the generated types.
//!
//! Nothing here sleeps. Whatever is waited for has [`DEADLINE`]; when it passes, the test fails and
//! prints what the daemon logged.

#![allow(dead_code, unused_imports, reason = "every test binary uses its own part")]

pub mod client;
pub mod daemon;
pub mod follow;
pub mod tls;

use std::time::Duration;

pub use client::{Client, conversation, peer, text};
pub use daemon::Daemon;

/// The most anything may take. Long, because machines are busy; nothing waits for it in vain.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The body of a reply, which must be of the kind named.
#[macro_export]
macro_rules! expect {
    ($kind:ident, $body:expr) => {
        match $body {
            roamd::wire::proto::server_frame::Body::$kind(it) => it,
            other => panic!(concat!("wanted ", stringify!($kind), ", got {:?}"), other),
        }
    };
}
