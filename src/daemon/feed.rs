//! What waits for one connection: answers, and signs that something has happened.
//!
//! Bounded by construction: answers by the session's outstanding requests, signs by being flags.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    engine::Answer,
    reply::{GoAwayReason, Reply},
    seq::InboxSeq,
};

/// Pushes that may wait for one connection. More: the oldest is dropped.
const PUSHES_MAX: usize = 64;

/// What has come in since the connection last looked.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) head: Option<InboxSeq>,
    /// The session is over.
    pub(super) end: Option<GoAwayReason>,
    /// Unsolicited and not part of the stream; the oldest give way.
    pub(super) pushes: VecDeque<Reply>,
    pub(super) drain: bool,
}

#[derive(Debug, Default)]
pub(super) struct Feed {
    arrivals: Mutex<Arrivals>,
    arrived: Notify,
}

impl Feed {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn answer(&self, number: u64, answer: Answer) {
        self.put(|arrivals| arrivals.answers.push((number, answer)));
    }

    pub(super) fn grow(&self, head: InboxSeq) {
        self.put(|arrivals| arrivals.head = arrivals.head.max(Some(head)));
    }

    pub(super) fn end(&self, reason: GoAwayReason) {
        self.put(|arrivals| arrivals.end = Some(reason));
    }

    pub(super) fn push(&self, push: Reply) {
        self.put(|arrivals| {
            if arrivals.pushes.len() >= PUSHES_MAX {
                arrivals.pushes.pop_front();
            }
            arrivals.pushes.push_back(push);
        });
    }

    pub(super) fn drain(&self) {
        self.put(|arrivals| arrivals.drain = true);
    }

    fn put(&self, change: impl FnOnce(&mut Arrivals)) {
        change(&mut self.arrivals.lock());
        self.arrived.notify_one();
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn take(&self) -> Arrivals {
        std::mem::take(&mut self.arrivals.lock())
    }
}
