//! A device's copy of its inbox, as far as the protocol cares: where it ends, what was received, and
//! when to ack. Free of input and output.
//!
//! ```text
//!            greet             TooLong              adopt
//! Detached ────────▶ Following ───────▶ Snapshot ────────▶ Following
//!     ▲                                                        │
//!     └────────────────────── lost ────────────────────────────┘
//! ```
//!
//! Invariants: `stored ≤ received`; every inbox_seq above the position is accepted exactly once and in
//! order, whatever is sent again after a lost connection; an ack never passes what is stored, nor what
//! this session was sent. Owned by the state that a client's task and its handles share.

use std::time::Instant;

use crate::{
    ack::{AckConfig, DelayedAck},
    wire::proto,
};

/// How far a device's copy of the inbox reaches, and of which data set it is a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The data set; changes when the server's data is restored or repaired.
    pub epoch: u64,
    /// The last inbox_seq stored; 0 = none yet.
    pub seq: u64,
}

impl From<Position> for proto::Position {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, seq: position.seq }
    }
}

/// How the server broke the order of the stream. The only way on is a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A batch does not follow what was sent before.
    #[error("a batch follows entry {prev}, but {expected} was the last one sent")]
    Gap {
        /// Where the stream stood.
        expected: u64,
        /// Where the batch starts.
        prev: u64,
    },
    /// The numbers of a batch do not agree with its entries.
    #[error("a batch says {first}..={last} and has {entries} entries")]
    Count {
        /// Its first entry.
        first: u64,
        /// Its last entry.
        last: u64,
        /// How many it has.
        entries: usize,
    },
    /// Entries come although a snapshot has to be taken first.
    #[error("entries were sent although the inbox cannot bring this device up to date")]
    Uninvited,
    /// More was sent without an ack than was agreed.
    #[error("{waiting} entries wait for an ack, {agreed} were agreed")]
    Overrun {
        /// Received and not stored.
        waiting: u64,
        /// What Welcome said.
        agreed: u64,
    },
    /// CaughtUp names an entry that was not sent.
    #[error("CaughtUp names entry {seq}, but {sent} was the last one sent")]
    Beyond {
        /// What it names.
        seq: u64,
        /// Where the stream stood.
        sent: u64,
    },
}

/// What [`Replica::adopt`] leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// Say Resume with the position now.
    Resume,
    /// No session waits for it: the next Hello says it, or a newer snapshot is on its way.
    Later,
    /// The session follows another position and must be replaced.
    Reconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Detached,
    Following,
    Snapshot(Position),
}

/// See the head of this module.
#[derive(Debug)]
pub struct Replica {
    /// The data set of `stored`; none = a device without a copy.
    epoch: Option<u64>,
    stored: u64,
    received: u64,
    /// The last entry sent on this session, or the point it started from.
    sent: u64,
    mode: Mode,
    ack: DelayedAck,
    acked: u64,
    unacked_max: u64,
}

impl Replica {
    /// A device whose copy ends at `resume`; none = it has no copy.
    #[must_use]
    pub fn new(resume: Option<Position>, config: AckConfig) -> Self {
        let seq = resume.map_or(0, |at| at.seq);
        Self {
            epoch: resume.map(|at| at.epoch),
            stored: seq,
            received: seq,
            sent: seq,
            mode: Mode::Detached,
            ack: DelayedAck::new(config),
            acked: seq,
            unacked_max: u64::MAX,
        }
    }

    /// Where the copy ends; none = there is no copy.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch, seq: self.stored })
    }

    /// The last entry that was accepted from the server, stored or not.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The last entry that was acked on any session.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// When an ack must go out; none = nothing waits.
    #[must_use]
    pub fn ack_deadline(&self) -> Option<Instant> {
        self.ack.deadline()
    }

    /// A new session starts; returns what its Hello says.
    pub fn greet(&mut self) -> Option<Position> {
        self.mode = Mode::Following;
        self.sent = self.stored;
        self.acked = self.acked.min(self.stored);
        self.position()
    }

    /// Welcome has come: at most so many entries may wait for an ack. 0 = unknown.
    pub fn agree(&mut self, unacked_entries: u32) {
        self.unacked_max = match unacked_entries {
            0 => u64::MAX,
            most => u64::from(most),
        };
    }

    /// The session is over.
    pub fn lost(&mut self) {
        self.mode = Mode::Detached;
        let _ = self.ack.take();
    }

    /// A batch of about `bytes` bytes has come: how many of its entries, from the first on, are
    /// known already and to be dropped.
    ///
    /// # Errors
    /// [`StreamError`]; nothing of the batch is to be used then.
    pub fn batch(
        &mut self,
        now: Instant,
        batch: &proto::SyncBatch,
        bytes: u64,
    ) -> Result<usize, StreamError> {
        if self.mode != Mode::Following {
            return Err(StreamError::Uninvited);
        }
        let (first, last, entries) = (batch.first_seq, batch.last_seq, batch.entries.len());
        if batch.prev_seq != self.sent {
            return Err(StreamError::Gap { expected: self.sent, prev: batch.prev_seq });
        }
        let dense = first.checked_sub(1) == Some(self.sent)
            && self.sent.checked_add(entries as u64) == Some(last);
        if entries == 0 || !dense {
            return Err(StreamError::Count { first, last, entries });
        }
        let waiting = last.saturating_sub(self.stored);
        if waiting > self.unacked_max {
            return Err(StreamError::Overrun { waiting, agreed: self.unacked_max });
        }
        let known = self.received.min(last).saturating_sub(self.sent);
        let stored = self.stored.min(last).saturating_sub(self.sent);
        self.sent = last;
        self.received = self.received.max(last);
        if stored > 0 {
            self.ack.receive(now, stored, bytes * stored / (entries as u64));
        }
        Ok(usize::try_from(known).unwrap_or(entries))
    }

    /// CaughtUp has come.
    ///
    /// # Errors
    /// [`StreamError::Beyond`] when it names what was not sent.
    pub fn caught_up(&self, seq: u64) -> Result<(), StreamError> {
        if self.mode != Mode::Following {
            return Err(StreamError::Uninvited);
        }
        if seq > self.sent {
            return Err(StreamError::Beyond { seq, sent: self.sent });
        }
        Ok(())
    }

    /// TooLong has come: a snapshot must be taken, and then this position adopted.
    pub fn too_long(&mut self, position: Position) {
        let _ = self.ack.take();
        self.mode = Mode::Snapshot(position);
    }

    /// Entries up to `seq` are stored, `count` more than before, of about `bytes` bytes. True = an
    /// ack is now due earlier than it was.
    pub fn store(&mut self, now: Instant, seq: u64, count: u64, bytes: u64) -> bool {
        if seq <= self.stored {
            return false;
        }
        let ackable = self.stored.min(self.sent);
        self.stored = seq.min(self.received);
        // What this session was not sent cannot be acked on it, until it is sent again.
        if self.mode != Mode::Following || self.stored.min(self.sent) == ackable {
            return false;
        }
        let before = self.ack.deadline();
        self.ack.receive(now, count, bytes);
        before != self.ack.deadline()
    }

    /// The snapshot that goes with `position` is stored.
    pub fn adopt(&mut self, position: Position) -> Adopted {
        self.epoch = Some(position.epoch);
        self.stored = position.seq;
        self.received = position.seq;
        self.acked = position.seq;
        match self.mode {
            Mode::Detached => Adopted::Later,
            Mode::Following => Adopted::Reconnect,
            Mode::Snapshot(wanted) if wanted == position => {
                self.sent = position.seq;
                self.mode = Mode::Following;
                Adopted::Resume
            }
            Mode::Snapshot(_) => Adopted::Later,
        }
    }

    /// What waits is to be acked at once.
    pub fn demand(&mut self, now: Instant) {
        self.ack.demand(now);
    }

    /// A frame goes out now: what it acks, if anything waits.
    pub fn take_ack(&mut self) -> Option<u64> {
        if self.mode != Mode::Following || !self.ack.take() {
            return None;
        }
        self.acked = self.stored.min(self.sent);
        Some(self.acked)
    }
}

#[cfg(test)]
mod tests;
