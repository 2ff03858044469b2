//! The invariants, from the clients' side: every acked message is on every device that should have it,
//! once, in order and as it was sent; inboxes are dense; unread is what a recount gives.
//!
//! Nothing of a message is kept. Per device and conversation there is the last history_seq and a sum
//! over (history_seq, message); the acks give the same sum for the conversation. A history is dense, so
//! a device that has taken every history_seq up to the last one, each as the next, and comes to the same
//! sum has exactly what was acked. Free of input, output and time.

mod broken;

use parking_lot::Mutex;

pub use self::broken::{Broken, Violation};
use super::{
    body::{Tag, mix},
    world::World,
};
use crate::wire::proto;

/// What is acked: the truth that devices are compared with.
#[derive(Debug)]
pub struct Truth {
    talks: Box<[Mutex<Acked>]>,
    /// Per user: up to where it has read each of its conversations.
    marks: Box<[Mutex<Box<[u64]>>]>,
}

/// What is acked of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Acked {
    count: u64,
    last: u64,
    sum: u64,
}

/// What a device has of a conversation.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    last: u64,
    sum: u64,
    /// What was fetched from the history may come again in the stream up to here ...
    overlap: u64,
    /// ... and has done so up to here.
    again: u64,
    /// Of this device's own sends: the last in order that is acked, and where it is.
    acked_order: u64,
    acked_seq: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By itself: an entry of the inbox, or the next of a large conversation.
    Stream,
    /// Fetched from the history, because the inbox did not go back far enough.
    History,
}

/// What a device has.
#[derive(Debug)]
pub struct Mirror {
    bot: u32,
    user: u32,
    inbox: u64,
    seen: Box<[Seen]>,
}

fn term(seq: u64, number: u64) -> u64 {
    mix(mix(seq) ^ number)
}

impl Truth {
    /// Nothing is acked.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let marks = |talks: &[u32]| Mutex::new(vec![0; talks.len()].into_boxed_slice());
        Self {
            talks: world.talks.iter().map(|_| Mutex::default()).collect(),
            marks: world.talks_of.iter().map(|talks| marks(talks)).collect(),
        }
    }

    /// A message is acked. Its sender has read up to it.
    pub fn acked(&self, world: &World, bot: u32, talk: u32, seq: u64, number: u64) {
        if let Some(acked) = self.talks.get(talk as usize) {
            let mut acked = acked.lock();
            acked.count += 1;
            acked.last = acked.last.max(seq);
            acked.sum = acked.sum.wrapping_add(term(seq, number));
        }
        self.read(world, bot, talk, seq);
    }

    /// A user has read up to there.
    pub fn read(&self, world: &World, bot: u32, talk: u32, seq: u64) {
        let user = world.user_of(bot);
        let place = world.talks_of.get(user as usize).and_then(|all| all.binary_search(&talk).ok());
        if let (Some(place), Some(marks)) = (place, self.marks.get(user as usize))
            && let Some(mark) = marks.lock().get_mut(place)
        {
            *mark = (*mark).max(seq);
        }
    }

    /// Once every send has its answer: a history has no number that was not acked.
    ///
    /// # Errors
    /// [`Broken::Invented`].
    pub fn check(&self, talk: u32) -> Result<(), Broken> {
        let acked = self.of(talk);
        if acked.count == acked.last {
            return Ok(());
        }
        Err(Broken::Invented { acked: acked.count, last: acked.last })
    }

    fn of(&self, talk: u32) -> Acked {
        self.talks.get(talk as usize).map_or_else(Acked::default, |acked| *acked.lock())
    }
}

impl Mirror {
    /// A device that has nothing.
    #[must_use]
    pub fn new(world: &World, bot: u32) -> Self {
        let user = world.user_of(bot);
        let count = world.talks_of.get(user as usize).map_or(0, |talks| talks.len());
        let seen = vec![Seen::default(); count].into_boxed_slice();
        Self { bot, user, inbox: 0, seen }
    }

    fn place(&self, world: &World, talk: u32) -> Option<usize> {
        world.talks_of.get(self.user as usize)?.binary_search(&talk).ok()
    }

    /// The last history_seq this device has.
    #[must_use]
    pub fn last(&self, world: &World, talk: u32) -> u64 {
        let seen = self.place(world, talk).and_then(|place| self.seen.get(place));
        seen.map_or(0, |seen| seen.last)
    }

    /// The last inbox_seq this device has.
    #[must_use]
    pub fn inbox(&self) -> u64 {
        self.inbox
    }

    /// The inbox goes on after a snapshot.
    pub fn adopt(&mut self, inbox: u64) {
        self.inbox = inbox;
    }

    /// An entry of the inbox.
    ///
    /// # Errors
    /// [`Broken::Inbox`] unless it is the next.
    pub fn entry(&mut self, seq: u64) -> Result<(), Violation> {
        if seq != self.inbox + 1 {
            let broken = Broken::Inbox { last: self.inbox, came: seq };
            return Err(Violation { bot: self.bot, talk: None, broken });
        }
        self.inbox = seq;
        Ok(())
    }

    /// A message. `run` and `issued` say which messages were sent: those of this run, with smaller
    /// numbers. None = it was known, as it may be after a fetch.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn message(
        &mut self,
        world: &World,
        (run, issued): (u64, u64),
        message: &proto::Message,
        way: Way,
    ) -> Result<Option<Tag>, Violation> {
        let seq = message.history_seq;
        let bot = self.bot;
        let talk = world.talk(&message.conversation_id);
        let broken = |broken| Violation { bot, talk, broken };
        let place = talk.and_then(|talk| self.place(world, talk));
        let Some(seen) = place.and_then(|place| self.seen.get_mut(place)) else {
            return Err(broken(Broken::Leaked { seq }));
        };
        let Ok(tag) = Tag::read(&message.content) else {
            return Err(broken(Broken::Damaged { seq }));
        };
        let sender = world.bot_of(&message.sender, &message.sender_device);
        if (tag.run, Some(tag.talk), Some(tag.bot)) != (run, talk, sender) || tag.number >= issued {
            return Err(broken(Broken::Foreign { seq }));
        }
        if way == Way::Stream && seq > seen.again && seq <= seen.overlap {
            seen.again = seq;
            return Ok(None);
        }
        if seq != seen.last + 1 {
            return Err(broken(Broken::Order { last: seen.last, came: seq }));
        }
        seen.last = seq;
        seen.sum = seen.sum.wrapping_add(term(seq, tag.number));
        if way == Way::History {
            seen.overlap = seq;
        }
        Ok(Some(tag))
    }

    /// One of this device's own sends is acked. `order` counts its sends from 1; what is acked first need
    /// not have been sent first.
    ///
    /// # Errors
    /// [`Broken::Sender`] when a send that was made later is earlier in the history.
    pub fn acked(
        &mut self,
        world: &World,
        talk: u32,
        order: u64,
        seq: u64,
    ) -> Result<(), Violation> {
        let place = self.place(world, talk);
        let Some(seen) = place.and_then(|place| self.seen.get_mut(place)) else { return Ok(()) };
        if (order > seen.acked_order) != (seq > seen.acked_seq) {
            let broken = Broken::Sender { seq, other: seen.acked_seq };
            return Err(Violation { bot: self.bot, talk: Some(talk), broken });
        }
        if order > seen.acked_order {
            (seen.acked_order, seen.acked_seq) = (order, seq);
        }
        Ok(())
    }

    /// Whether everything that was acked has come.
    #[must_use]
    pub fn is_complete(&self, world: &World, truth: &Truth) -> bool {
        self.talks(world).all(|(talk, seen)| seen.last >= truth.of(talk).last)
    }

    /// Compares with what was acked, once every send has its answer.
    ///
    /// # Errors
    /// The first conversation that differs.
    pub fn compare(&self, world: &World, truth: &Truth) -> Result<(), Violation> {
        for (talk, seen) in self.talks(world) {
            let acked = truth.of(talk);
            let broken = if seen.last < acked.last {
                Broken::Missing { last: seen.last, acked: acked.last }
            } else if seen.last > acked.last {
                Broken::Invented { acked: acked.last, last: seen.last }
            } else if seen.sum != acked.sum {
                Broken::Differs { last: seen.last }
            } else {
                continue;
            };
            return Err(Violation { bot: self.bot, talk: Some(talk), broken });
        }
        Ok(())
    }

    /// Compares the unread counts that the daemon tells with a recount of this copy. What is not told
    /// counts as zero.
    ///
    /// # Errors
    /// The first count that differs, or the total.
    pub fn unread(
        &self,
        world: &World,
        truth: &Truth,
        told: &[(u32, u64)],
        total: u64,
    ) -> Result<(), Violation> {
        let violation = |talk, broken| Err(Violation { bot: self.bot, talk, broken });
        let marks = truth.marks.get(self.user as usize).map(|marks| marks.lock().clone());
        let mut sum = 0;
        for ((talk, seen), mark) in self.talks(world).zip(marks.iter().flatten()) {
            let counted = seen.last.saturating_sub(*mark);
            let said = told.iter().filter(|(it, _)| *it == talk).map(|(_, unread)| *unread).sum();
            if counted != said {
                return violation(Some(talk), Broken::Unread { told: said, counted });
            }
            sum += counted;
        }
        if sum != total {
            return violation(None, Broken::Total { told: total, sum });
        }
        Ok(())
    }

    fn talks<'a>(&'a self, world: &'a World) -> impl Iterator<Item = (u32, &'a Seen)> {
        let talks = world.talks_of.get(self.user as usize);
        talks.into_iter().flatten().copied().zip(&self.seen)
    }
}

#[cfg(test)]
mod tests;
