//! What the rooms shared with `tests/model` expect under this name.

/// When every run begins.
pub const WALL_MS: u64 = 1_700_000_000_000;

/// A difference, or a failure of the store.
pub type Found = String;
