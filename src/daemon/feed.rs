//! What waits for one connection: answers, and signs that something has happened.
//!
//! Bounded by construction: answers by the session's outstanding requests, signs by being flags,
//! presence by holding one state per device that the session follows. Only pushes that are worth
//! nothing later are a queue, and a short one.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    engine::{Answer, PresenceChanges},
    id::UserId,
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
    /// The newest state of each device that has changed.
    pub(super) presence: PresenceChanges,
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

    /// Says whether an older push had to give way.
    pub(super) fn push(&self, push: Reply) -> bool {
        let mut full = false;
        self.put(|arrivals| {
            full = arrivals.pushes.len() >= PUSHES_MAX;
            if full {
                arrivals.pushes.pop_front();
            }
            arrivals.pushes.push_back(push);
        });
        full
    }

    pub(super) fn presence(&self, changes: PresenceChanges) {
        self.put(|arrivals| arrivals.presence.extend(changes));
    }

    /// What waits of this user is void.
    pub(super) fn unfollow(&self, user: &UserId) {
        self.arrivals.lock().presence.retain(|(of, _), _| of != user);
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

    /// What has come in. Without `room` for more frames, pushes stay here, where they are bounded.
    pub(super) fn take(&self, room: bool) -> Arrivals {
        let mut arrivals = self.arrivals.lock();
        let mut taken = std::mem::take(&mut *arrivals);
        if !room {
            arrivals.pushes = std::mem::take(&mut taken.pushes);
            arrivals.presence = std::mem::take(&mut taken.presence);
        }
        taken
    }
}
