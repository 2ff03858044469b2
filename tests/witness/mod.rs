//! A witness: drives a real `roamd` over real sockets, keeps what was promised to it, and afterwards
//! holds the daemon to it. Shared by `tests/crash` and `tests/power_cut`.
//!
//! Independent of the daemon on purpose: beyond the wire types and the framing it uses nothing of
//! the library. [`Load`] plays eight users on twelve devices; [`Ledger`] keeps every request with
//! its reply and everything any device ever saw; [`Ledger::check`] reads the whole server again and
//! compares; [`Ledger::settle`] repeats what had no reply and looks that it was done exactly once.
//!
//! What is promised, and where it is checked:
//!
//! | promise | where |
//! |---|---|
//! | an acked send is in the history once, as acked | `check::rows`, `check::promises` |
//! | ... and in every then-member's inbox once, in order | `check::inboxes` |
//! | a send without a reply is there at most once; its retry makes it exactly one | `check::rows`, `settle` |
//! | no sequence is used again for something else, none is skipped, no head goes back | `Ledger::see`, `survey` |
//! | what a device was shown stays true | `Ledger::see` |
//! | read markers stay; unread equals a recount; totals equal sums | `check::unread` |
//! | cursors are never ahead of the device's acks | `load::greet` |
//! | the epoch stays | `survey` |

// Each test binary uses its part of this module.
#![allow(dead_code, unused_imports)]

mod check;
mod connection;
mod ledger;
mod lives;
mod load;
mod look;
mod process;
mod seen;
mod settle;
mod survey;

pub use self::{
    check::Depth,
    connection::{Connection, Trouble},
    ledger::{Ledger, Outcome},
    lives::Lives,
    load::{Load, Played},
    look::look,
    process::{Launch, Roamd, run},
};

/// What is wrong, for people. The first line of each names the broken promise.
pub type Complaints = Vec<String>;

/// A seed from the environment, or a new one.
pub fn seed(variable: &str) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")),
        Err(_) => rand::random::<u32>().into(),
    }
}

/// A number from the environment, or the default.
pub fn setting(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")),
        Err(_) => default,
    }
}
