//! What a device of a replay has stored: it outlives its sessions.

use super::world::Kept;
use crate::client::Position;

/// What a device has, between and during its sessions.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) position: Option<Position>,
    pub(super) channels: Vec<Copy>,
    pub(super) tally: Tally,
}

/// A device's copy of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Copy {
    /// The messages by place, from 1.
    pub(super) rows: Vec<Kept>,
    /// The last message received; 0 = none yet.
    pub(super) last: u64,
    /// Up to here a snapshot has brought what the stream may bring again.
    pub(super) brought: u64,
    /// The last change known of; where the mutation feed goes on.
    pub(super) mutation: u64,
    /// How many messages the user has hidden, as far as known.
    pub(super) hidden_count: u64,
    /// The user's read marker as this device knows it.
    pub(super) read: u64,
}

impl Copy {
    pub(super) fn kept(&self, seq: u64) -> Kept {
        let index = (seq as usize).checked_sub(1);
        index.and_then(|index| self.rows.get(index)).copied().unwrap_or_default()
    }

    pub(super) fn keep(&mut self, seq: u64, kept: Kept) {
        let Some(index) = (seq as usize).checked_sub(1) else { return };
        if self.rows.len() <= index {
            self.rows.resize(index + 1, Kept::Nothing);
        }
        self.rows[index] = kept;
    }
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) streamed: u64,
    pub(super) fetched: u64,
    pub(super) repeated: u64,
    pub(super) changed: u64,
    pub(super) catch_ups: u64,
    pub(super) overflows: u64,
    pub(super) reconnects: u64,
}
