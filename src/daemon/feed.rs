//! What waits for one connection: answers, and signs that something has happened.
//!
//! Bounded by construction: answers by the session's outstanding requests, signs by being flags,
//! presence by holding one state per device that the session follows, what is said of large conversations
//! by their number. Only pushes that are worth
//! nothing later are a queue, and a short one.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::{
    engine::{Answer, LargeSign, PresenceChanges},
    id::{ConversationId, UserId},
    reply::{GoAwayReason, Reply},
    seq::InboxSeq,
};

/// Pushes that may wait for one connection. More: the oldest is dropped.
const PUSHES_MAX: usize = 64;
/// Signs of one large conversation that may wait. More: the oldest is dropped, which is of a time in
/// which it was large, and no longer is.
const SIGNS_MAX: usize = 32;

/// What has come in since the connection last looked.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) head: Option<InboxSeq>,
    /// The session is over.
    pub(super) end: Option<GoAwayReason>,
    /// What is not part of the stream and not for most.
    pub(super) other: Option<Box<Other>>,
    /// The unread total and the entry it reflects.
    pub(super) total: Option<(u64, InboxSeq)>,
    pub(super) drain: bool,
    /// Keys and limits are others now.
    pub(super) reload: bool,
    /// Another connection wants the place of this one, if it has still not said Hello.
    pub(super) give_way: bool,
}

/// Connections to be woken when this is dropped: each once for all that has come in for it meanwhile, so
/// that it goes out together.
#[derive(Debug, Default)]
pub(super) struct Wakes(Vec<Waker>);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

/// What comes in for some.
#[derive(Debug, Default)]
pub(super) struct Other {
    /// Unsolicited and not part of the stream; the oldest give way.
    pub(super) pushes: VecDeque<Reply>,
    /// The newest state of each device that has changed.
    pub(super) presence: PresenceChanges,
    /// Signs of large conversations, in order.
    pub(super) large: HashMap<ConversationId, Vec<LargeSign>>,
}

#[derive(Debug, Default)]
pub(super) struct Feed(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    arrivals: Arrivals,
    /// Something has come in since the connection last looked.
    arrived: bool,
    /// The session was ended: the end itself comes behind what is still to be answered.
    barred: bool,
    /// The connection, while it waits.
    connection: Option<Waker>,
}

impl Feed {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn answer(&self, wakes: &mut Wakes, number: u64, answer: Answer) {
        self.put_with(wakes, |arrivals| {
            if let Answer::CaughtUp { .. } = answer {
                // The answer tells how far large conversations go, and what the total is.
                if let Some(other) = &mut arrivals.other {
                    other.large.clear();
                }
                arrivals.total = None;
            }
            arrivals.answers.push((number, answer));
        });
    }

    pub(super) fn large(&self, wakes: &mut Wakes, sign: &LargeSign) {
        self.put_with(wakes, |arrivals| {
            let large = &mut arrivals.other.get_or_insert_default().large;
            let signs = large.entry(sign.at().conversation.clone()).or_default();
            match (signs.last_mut(), sign) {
                (Some(last @ LargeSign::Grown(_)), LargeSign::Grown(_) | LargeSign::Closed(_)) => {
                    *last = sign.clone();
                }
                _ => signs.push(sign.clone()),
            }
            if signs.len() > SIGNS_MAX {
                signs.remove(0);
            }
        });
    }

    pub(super) fn total(&self, wakes: &mut Wakes, total: u64, position: InboxSeq) {
        self.put_with(wakes, |arrivals| arrivals.total = Some((total, position)));
    }

    pub(super) fn grow(&self, wakes: &mut Wakes, head: InboxSeq) {
        self.put_with(wakes, |arrivals| arrivals.head = arrivals.head.max(Some(head)));
    }

    /// From now on the session reads nothing that the engine has not allowed.
    pub(super) fn bar(&self) {
        self.0.lock().barred = true;
    }

    pub(super) fn is_barred(&self) -> bool {
        self.0.lock().barred
    }

    pub(super) fn end(&self, wakes: &mut Wakes, reason: GoAwayReason) {
        self.put_with(wakes, |arrivals| arrivals.end = Some(reason));
    }

    /// Says whether an older push had to give way.
    pub(super) fn push(&self, wakes: &mut Wakes, push: Reply) -> bool {
        let mut full = false;
        self.put_with(wakes, |arrivals| {
            let pushes = &mut arrivals.other.get_or_insert_default().pushes;
            full = pushes.len() >= PUSHES_MAX;
            if full {
                pushes.pop_front();
            }
            pushes.push_back(push);
        });
        full
    }

    pub(super) fn presence(&self, wakes: &mut Wakes, changes: PresenceChanges) {
        self.put_with(wakes, |arrivals| {
            arrivals.other.get_or_insert_default().presence.extend(changes)
        });
    }

    /// What waits of this user is void.
    pub(super) fn unfollow(&self, user: &UserId) {
        if let Some(other) = &mut self.0.lock().arrivals.other {
            other.presence.retain(|(of, _), _| of != user);
        }
    }

    pub(super) fn give_way(&self) {
        self.put(|arrivals| arrivals.give_way = true);
    }

    pub(super) fn reload(&self) {
        self.put(|arrivals| arrivals.reload = true);
    }

    pub(super) fn drain(&self) {
        self.put(|arrivals| arrivals.drain = true);
    }

    fn put(&self, change: impl FnOnce(&mut Arrivals)) {
        self.put_with(&mut Wakes::default(), change);
    }

    fn put_with(&self, wakes: &mut Wakes, change: impl FnOnce(&mut Arrivals)) {
        let mut waiting = self.0.lock();
        change(&mut waiting.arrivals);
        waiting.arrived = true;
        wakes.0.extend(waiting.connection.take());
    }

    /// Whether something has come in; if not, the connection is woken when it does.
    pub(super) fn poll_arrived(&self, context: &Context<'_>) -> Poll<()> {
        let mut waiting = self.0.lock();
        if waiting.arrived {
            return Poll::Ready(());
        }
        match &mut waiting.connection {
            Some(connection) => connection.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// What has come in. Without `room` for more frames, pushes stay here, where they are bounded.
    pub(super) fn take(&self, room: bool) -> Arrivals {
        let mut waiting = self.0.lock();
        waiting.arrived = false;
        // It looks again before it waits.
        waiting.connection = None;
        let mut taken = std::mem::take(&mut waiting.arrivals);
        if !room && let Some(other) = &mut taken.other {
            let Other { pushes, presence, .. } = &mut **other;
            let (pushes, presence) = (std::mem::take(pushes), std::mem::take(presence));
            waiting.arrivals.other = Some(Box::new(Other { pushes, presence, ..Other::default() }));
        }
        taken
    }
}
