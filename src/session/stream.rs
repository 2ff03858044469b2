//! The stream of a session: a cursor over the user's inbox, paced by acks.
//!
//! `acked ≤ sent ≤ head`. While more is un-acked than agreed, nothing is read; the session then
//! counts as catching up and is told CaughtUp again. The state that CaughtUp tells is asked for when
//! the stream has reached the head, and told when the stream stands exactly at its position. A device
//! that goes on from its copy is spared a turn: the state is asked for behind its Hello already.

use std::collections::VecDeque;

use crate::{
    planted::{self, Bug},
    reply::{Batch, EntryView, Reply},
    request::ClientLimits,
    seq::InboxSeq,
};

/// Most entries in one batch.
const BATCH_ENTRIES_MAX: usize = 1000;

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    Read { after: InboxSeq, upto: InboxSeq, entries: usize, bytes: usize },
    AskState,
    CaughtUp(Reply),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acked {
    Moved,
    Nothing,
    Beyond,
}

#[derive(Debug, Default)]
enum Phase {
    /// Owes a backlog and then CaughtUp.
    #[default]
    CatchUp,
    /// The same, and is to ask for the state before it reads anything.
    Ahead,
    /// Has asked for the state at the head.
    Asked,
    /// Tells the state when it stands there.
    Told(InboxSeq, Box<Reply>),
    Live,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    phase: Phase,
    sent: InboxSeq,
    acked: InboxSeq,
    head: InboxSeq,
    reading: bool,
    limits: ClientLimits,
    /// Last entry and bytes of each batch that is not acked.
    unacked: VecDeque<(InboxSeq, usize)>,
    unacked_bytes: usize,
}

impl Stream {
    /// Starts over after `at`.
    pub(super) fn start(&mut self, limits: ClientLimits, at: InboxSeq) {
        *self = Self { limits, sent: at, acked: at, head: at, ..Self::default() };
    }

    /// The state that is told will be that at the moment of the Hello.
    pub(super) fn ask_ahead(&mut self) {
        self.phase = Phase::Ahead;
    }

    /// Whether the state is to be asked for now; once.
    pub(super) fn asks_ahead(&mut self) -> bool {
        let ahead = matches!(self.phase, Phase::Ahead);
        if ahead {
            self.phase = Phase::Asked;
        }
        ahead
    }

    /// The state that was asked for is not to be told.
    pub(super) fn asks_no_more(&mut self) {
        if self.is_asking() {
            self.phase = Phase::CatchUp;
        }
    }

    /// The last entry sent.
    pub(super) fn sent(&self) -> InboxSeq {
        self.sent
    }

    /// Whether it waits for the state at the head.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Asked)
    }

    /// Nothing is to be done for now.
    pub(super) fn rest(&mut self) {
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
    }

    pub(super) fn grow(&mut self, head: InboxSeq) {
        self.head = self.head.max(head);
    }

    /// Whether everything owed was sent and CaughtUp said.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live) || planted::is(Bug::LiveBeforeCaughtUp)
    }

    /// Whether the state at the head was told; none when it has yet to come.
    pub(super) fn has_told(&self) -> Option<bool> {
        match self.phase {
            Phase::Live => Some(true),
            Phase::Told(..) => Some(false),
            Phase::CatchUp | Phase::Ahead | Phase::Asked => None,
        }
    }

    /// A live stream catches up once more.
    pub(super) fn fall_behind(&mut self) {
        if let Phase::Live = self.phase {
            self.phase = Phase::CatchUp;
        }
    }

    /// What to do next; a live stream goes no further than `until`.
    pub(super) fn next(&mut self, until: Option<InboxSeq>) -> Option<Step> {
        if self.reading || matches!(self.phase, Phase::Asked) {
            return None;
        }
        if let Phase::Told(at, _) = &self.phase
            && *at <= self.sent
        {
            let Phase::Told(_, reply) = std::mem::replace(&mut self.phase, Phase::Live) else {
                return None;
            };
            return Some(Step::CaughtUp(*reply));
        }
        let upto = match &self.phase {
            Phase::Told(at, _) => *at,
            Phase::Live => until.map_or(self.head, |until| until.min(self.head)),
            _ => self.head,
        };
        if self.sent >= upto {
            if let Phase::CatchUp | Phase::Ahead = self.phase {
                self.phase = Phase::Asked;
                return Some(Step::AskState);
            }
            return None;
        }
        let entries = (self.limits.unacked_entries as usize)
            .saturating_sub(self.sent.since(self.acked) as usize);
        let bytes = (self.limits.unacked_bytes as usize).saturating_sub(self.unacked_bytes);
        if entries == 0 || bytes == 0 {
            if planted::is(Bug::FullQueueDrops) {
                self.sent = upto;
            }
            self.fall_behind();
            return None;
        }
        self.reading = true;
        Some(Step::Read {
            after: self.sent,
            upto,
            entries: entries.min(BATCH_ENTRIES_MAX),
            bytes: bytes.min(self.limits.batch_bytes as usize),
        })
    }

    /// Entries were read: the batch to send, if there is anything in it.
    pub(super) fn read(&mut self, entries: Vec<EntryView>, bytes: usize) -> Option<Batch> {
        self.reading = false;
        if entries.is_empty() {
            return None;
        }
        let prev = self.sent;
        self.sent = InboxSeq::new(prev.number() + entries.len() as u64);
        self.head = self.head.max(self.sent);
        self.unacked.push_back((self.sent, bytes));
        self.unacked_bytes += bytes;
        Some(Batch { prev, head: self.head, entries })
    }

    /// The state at `seq`, to be told when the stream stands there.
    pub(super) fn state_at(&mut self, seq: InboxSeq, reply: Reply) {
        if let Phase::Asked = self.phase {
            self.grow(seq);
            self.phase = Phase::Told(seq, Box::new(reply));
        }
    }

    pub(super) fn acknowledge(&mut self, seq: InboxSeq) -> Acked {
        if seq > self.sent {
            return Acked::Beyond;
        }
        if seq <= self.acked {
            return Acked::Nothing;
        }
        self.acked = seq;
        while let Some((last, bytes)) = self.unacked.front() {
            if *last > seq {
                break;
            }
            self.unacked_bytes -= bytes;
            self.unacked.pop_front();
        }
        Acked::Moved
    }
}
