//! Exit statuses of both programs.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Not done; stderr says why.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// Configuration or keys are wrong.
    Configuration = 3,
    /// No connection.
    Unreachable = 4,
    /// The server refused.
    Refused = 5,
    /// It took too long.
    Timeout = 6,
    /// A guarantee was broken.
    Violated = 7,
    /// An objective of a load test was missed.
    Missed = 8,
    /// The data directory failed or is damaged; the daemon has stopped.
    Storage = 9,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
