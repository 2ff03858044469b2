//! The command line: what people type. Data goes to stdout, everything else to stderr.

pub mod exit;
pub mod output;
pub mod replay;
pub mod roam;
pub mod server;
