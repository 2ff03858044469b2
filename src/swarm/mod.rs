//! The swarm: many scripted devices that load a daemon, check what it promises, and tell how fast it was.
//!
//! `record.rs` has the figures of one run as plain values.

pub mod record;
pub mod report;
pub mod totals;
