//! What one device is to be told of one conversation, and what it was told.
//!
//! ```text
//!             message                  told            accepted
//!   (no row) ---------> waiting -----------------> in flight -----------> shown
//!      ^                 ^   | read, recalled,      | failed: again        | read or recalled:
//!      |                 |   | seen, expired        v after a pause        v READ, RECALLED wait
//!      +-----------------+---+                   waiting                waiting ... accepted: (no row)
//! ```
//! One thing waits at a time, the newest: a notification replaces the one before it. *In flight* is
//! known to memory alone; the row only counts how often a thing was told. What was told may be shown,
//! whatever became of the answer, so it is remembered as shown when something else takes its place;
//! but not as sure: the device may show what it showed before, or nothing. Nobody relies on that. When
//! nothing newer comes to settle it, the newest unread message is told again, or all is taken back.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    seq::{HistorySeq, InboxSeq},
    store::codec::{Malformed, put_varint, read_u8, read_varint},
    time::Timestamp,
};

/// How long it is remembered that a device shows a notification, to take it back.
pub const SHOWN_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

const VERSION: u8 = 1;
const WANTED: u8 = 1;
const SHOWN: u8 = 2;
const MENTION: u8 = 4;
const UNTRUE_READ: u8 = 8;
const UNTRUE_RECALLED: u8 = 16;
const UNSURE: u8 = 32;

/// What a device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Show a notification; it replaces the conversation's last one.
    Message,
    /// Take it back: the message was read.
    Read,
    /// Take it back: the message was recalled or deleted.
    Recalled,
}

/// What is to be told next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Unique in the data set.
    pub id: u64,
    /// What.
    pub kind: Kind,
    /// Which message.
    pub seq: HistorySeq,
    /// Its entry in the user's inbox; zero = it has none.
    pub entry: InboxSeq,
    /// A message since the last notification names the user.
    pub mention: bool,
    /// Since when this waits.
    pub since: Timestamp,
    /// Not before.
    pub due: Timestamp,
    /// How often the hook was told.
    pub attempts: u32,
}

/// What the device shows, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which message.
    pub seq: HistorySeq,
    /// Since when.
    pub at: Timestamp,
    /// It was read or recalled since, and is to be taken back if nothing takes its place.
    pub untrue: Option<(Kind, HistorySeq)>,
    /// The hook has taken it. Otherwise its answer was lost.
    pub sure: bool,
    /// What the device shows if it was not taken; zero = nothing, or it was.
    pub before: HistorySeq,
}

impl Shown {
    /// Which of the messages that the device may show is such a one.
    fn which(&self, is_such: impl Fn(HistorySeq) -> bool) -> Option<HistorySeq> {
        let before = Some(self.before).filter(|before| *before > HistorySeq::ZERO);
        [Some(self.seq), before].into_iter().flatten().find(|seq| is_such(*seq))
    }
}

/// A message that a device should be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub seq: HistorySeq,
    /// Its entry in the user's inbox; zero = it has none.
    pub entry: InboxSeq,
    /// It names the user.
    pub mention: bool,
    /// Not before.
    pub due: Timestamp,
}

/// What is true of device and conversation when something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The device has a session in the foreground: it knows everything by itself.
    pub attended: bool,
    /// The device has just lost its session and may come back until then.
    pub quiet_until: Timestamp,
    /// What the device has stored.
    pub cursor: InboxSeq,
    /// What the user has read.
    pub read_seq: HistorySeq,
    /// The user may see the message and wants to be told of the conversation.
    pub wants: bool,
    /// The message was recalled, deleted, or hidden from the user.
    pub gone: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The hook is told what is wanted.
    Tell,
    /// Not yet.
    Wait(Timestamp),
    /// Nothing is to be told.
    Nothing,
}

/// Row of [`crate::store::catalogue::Table::PushJob`]. Empty: there is no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbox {
    /// What is to be told next.
    pub wanted: Option<Wanted>,
    /// What the device shows.
    pub shown: Option<Shown>,
}

impl Outbox {
    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.shown.is_none()
    }

    /// A message came. The newest wins; what the device was told of already is not told again. Says
    /// whether something changed.
    pub fn message(&mut self, news: News, id: u64, now: Timestamp) -> bool {
        let News { seq, entry, mention, due } = news;
        let known = self.wanted.filter(|wanted| wanted.kind == Kind::Message);
        if self.shown.is_some_and(|shown| shown.sure && shown.seq >= seq)
            || known.is_some_and(|known| known.seq >= seq)
        {
            return false;
        }
        let mention = mention || known.is_some_and(|known| known.mention);
        // A hook that fails is not hurried by more messages.
        let failing = self.wanted.filter(|wanted| wanted.attempts > 0).map(|wanted| wanted.due);
        let due = failing.map_or(due, |failing| failing.max(due));
        self.set_aside(now);
        let kind = Kind::Message;
        self.wanted = Some(Wanted { id, kind, seq, entry, mention, since: now, due, attempts: 0 });
        true
    }

    /// The user has read up to here. Says whether something changed.
    pub fn read(&mut self, read_seq: HistorySeq, id: u64, now: Timestamp) -> bool {
        match self.wanted {
            Some(wanted) if wanted.kind != Kind::Message => {
                return self.take_back_more(&wanted, Kind::Read, read_seq, id, now);
            }
            // It takes the place of what is shown.
            Some(wanted) if wanted.seq > read_seq => {
                return self.doubt(Kind::Read, |shown| shown <= read_seq);
            }
            Some(_) => self.set_aside(now),
            None if self.may_show(|shown| shown <= read_seq).is_none() => return false,
            None => {}
        }
        if let Some(shown) = self.may_show(|shown| shown <= read_seq) {
            self.take_back(Kind::Read, shown, id, now);
        }
        self.correct(id, now);
        true
    }

    /// A message was recalled or deleted. One that only waits gives way to `earlier`, the newest
    /// unread one before it. Says whether something changed.
    pub fn gone(
        &mut self,
        seq: HistorySeq,
        earlier: Option<News>,
        id: u64,
        now: Timestamp,
    ) -> bool {
        match self.wanted {
            Some(wanted) if wanted.kind == Kind::Message && wanted.seq == seq => {
                self.set_aside(now);
                if let Some(earlier) = earlier
                    && self.message(News { due: earlier.due.max(wanted.due), ..earlier }, id, now)
                {
                    return true;
                }
            }
            // What is shown may be this one, or another one: that one is told again.
            None if self.may_show(|shown| shown == seq).is_some() => {
                if self.shown.is_some_and(|shown| shown.seq != seq)
                    && let Some(earlier) = earlier
                    && self.message(earlier, id, now)
                {
                    return true;
                }
            }
            Some(wanted) if wanted.kind != Kind::Message && wanted.seq < seq => {
                let more = self.may_show(|shown| shown == seq).is_some();
                return more && self.take_back_more(&wanted, Kind::Recalled, seq, id, now);
            }
            // Something else is on its way and takes the place of what is shown.
            _ => return self.doubt(Kind::Recalled, |shown| shown == seq),
        }
        if self.may_show(|shown| shown == seq).is_some() {
            self.take_back(Kind::Recalled, seq, id, now);
        }
        self.correct(id, now);
        true
    }

    /// What is wanted is due: decides again. `earlier` is as in [`Outbox::gone`].
    pub fn due(&mut self, facts: &Facts, earlier: Option<News>, id: u64, now: Timestamp) -> Next {
        let Some(wanted) = self.wanted else { return Next::Nothing };
        if facts.attended {
            self.attend(now);
            return Next::Nothing;
        }
        if wanted.due.max(facts.quiet_until) > now {
            return Next::Wait(wanted.due.max(facts.quiet_until));
        }
        if wanted.kind != Kind::Message {
            return Next::Tell;
        }
        if wanted.seq <= facts.read_seq {
            self.read(facts.read_seq, id, now);
        } else if facts.gone {
            self.gone(wanted.seq, earlier, id, now);
        } else if !facts.wants || (wanted.entry > InboxSeq::ZERO && facts.cursor >= wanted.entry) {
            self.set_aside(now);
            self.correct(id, now);
        } else {
            return Next::Tell;
        }
        self.wanted.map_or(Next::Nothing, |wanted| match wanted.due > now {
            true => Next::Wait(wanted.due),
            false => Next::Tell,
        })
    }

    /// The device has a session in the foreground, and takes away itself what is wrong to show.
    pub fn attend(&mut self, now: Timestamp) {
        self.set_aside(now);
        self.shown = self
            .shown
            .filter(|shown| shown.untrue.is_none_or(|(_, untrue)| untrue != shown.seq))
            .map(|shown| Shown { untrue: None, before: HistorySeq::ZERO, ..shown });
    }

    /// The hook is being told, once more.
    pub fn told(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.attempts = wanted.attempts.saturating_add(1);
        }
    }

    /// The hook has taken what `told` was when it was told.
    pub fn accepted(&mut self, told: &Wanted, now: Timestamp) {
        match told.kind {
            Kind::Message => self.show(told.seq, now, true),
            Kind::Read | Kind::Recalled => {
                // What is newer may still be shown, if it was told and its answer was lost.
                self.shown = self.shown.filter(|shown| shown.seq > told.seq).map(|shown| Shown {
                    before: if shown.before > told.seq { shown.before } else { HistorySeq::ZERO },
                    untrue: shown.untrue.filter(|(_, untrue)| *untrue > told.seq),
                    ..shown
                });
            }
        }
        // It may have been asked for once more, because this answer seemed to be lost.
        let same = |wanted: &Wanted| {
            wanted.kind == told.kind && wanted.kind == Kind::Message && wanted.seq <= told.seq
        };
        self.wanted = self.wanted.filter(|wanted| wanted.id != told.id && !same(wanted));
    }

    /// The hook has not taken it: again after a pause.
    pub fn failed(&mut self, pause: Duration, now: Timestamp) {
        if let Some(wanted) = &mut self.wanted {
            wanted.due = wanted.due.max(now.plus(pause));
        }
    }

    /// Gives up what nobody took in time and forgets what was shown long ago. Says whether something
    /// changed.
    pub fn forget(&mut self, expiry: Duration, now: Timestamp) -> bool {
        let before = *self;
        if self.wanted.is_some_and(|wanted| wanted.since.plus(expiry) <= now) {
            self.attend(now);
        }
        if self.wanted.is_none() {
            self.shown = self.shown.filter(|shown| shown.at.plus(SHOWN_MEMORY) > now);
        }
        *self != before
    }

    /// Nothing is wanted any more; what was told may be shown.
    fn set_aside(&mut self, now: Timestamp) {
        match self.wanted.take() {
            Some(wanted) if wanted.kind != Kind::Message => {
                self.doubt(wanted.kind, |shown| shown == wanted.seq);
            }
            Some(wanted) if wanted.attempts > 0 => self.show(wanted.seq, now, false),
            _ => {}
        }
    }

    /// What is shown may be wrong to show; says whether that is news.
    fn doubt(&mut self, why: Kind, which: impl Fn(HistorySeq) -> bool) -> bool {
        match &mut self.shown {
            Some(shown) if shown.untrue.is_none() => {
                shown.untrue = shown.which(which).map(|seq| (why, seq));
                shown.untrue.is_some()
            }
            _ => false,
        }
    }

    /// Something is being taken back already: of what the device may show, a newer one is to go as well.
    /// To take that back takes the older one back too. Says whether something changed.
    fn take_back_more(
        &mut self,
        wanted: &Wanted,
        kind: Kind,
        upto: HistorySeq,
        id: u64,
        now: Timestamp,
    ) -> bool {
        match self.may_show(|shown| shown > wanted.seq && shown <= upto) {
            Some(shown) => {
                self.take_back(kind, shown, id, now);
                true
            }
            None => false,
        }
    }

    /// Nothing takes the place of what is wrong to show: it is taken back.
    fn correct(&mut self, id: u64, now: Timestamp) {
        if self.wanted.is_none()
            && let Some(Shown { untrue: Some((why, seq)), .. }) = self.shown
        {
            self.take_back(why, seq, id, now);
        }
    }

    /// The device may show such a message.
    fn may_show(&self, is_such: impl Fn(HistorySeq) -> bool) -> Option<HistorySeq> {
        self.shown.as_ref().and_then(|shown| shown.which(is_such))
    }

    fn show(&mut self, seq: HistorySeq, at: Timestamp, sure: bool) {
        let (before, untrue) = match &mut self.shown {
            Some(shown) if shown.seq > seq => return,
            // Whether it is true to show does not change by its being shown.
            Some(shown) if shown.seq == seq => {
                shown.at = at;
                if sure {
                    (shown.sure, shown.before) = (true, HistorySeq::ZERO);
                    shown.untrue = shown.untrue.filter(|(_, untrue)| *untrue == seq);
                }
                return;
            }
            Some(shown) if !sure => (shown.seq, shown.untrue),
            _ => (HistorySeq::ZERO, None),
        };
        self.shown = Some(Shown { seq, at, untrue, sure, before });
    }

    fn take_back(&mut self, kind: Kind, seq: HistorySeq, id: u64, now: Timestamp) {
        let entry = InboxSeq::ZERO;
        self.wanted = Some(Wanted {
            id,
            kind,
            seq,
            entry,
            mention: false,
            since: now,
            due: now,
            attempts: 0,
        });
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(48);
        out.put_u8(VERSION);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            bit(self.wanted.is_some(), WANTED)
                | bit(self.shown.is_some(), SHOWN)
                | bit(self.wanted.is_some_and(|wanted| wanted.mention), MENTION)
                | bit(self.shown.is_some_and(|shown| !shown.sure), UNSURE)
                | match self.shown.and_then(|shown| shown.untrue) {
                    None | Some((Kind::Message, _)) => 0,
                    Some((Kind::Read, _)) => UNTRUE_READ,
                    Some((Kind::Recalled, _)) => UNTRUE_RECALLED,
                },
        );
        if let Some(wanted) = &self.wanted {
            out.put_u8(match wanted.kind {
                Kind::Message => 1,
                Kind::Read => 2,
                Kind::Recalled => 3,
            });
            put_varint(&mut out, wanted.id);
            put_varint(&mut out, wanted.seq.number());
            put_varint(&mut out, wanted.entry.number());
            put_varint(&mut out, wanted.since.millis());
            put_varint(&mut out, wanted.due.millis());
            put_varint(&mut out, u64::from(wanted.attempts));
        }
        if let Some(shown) = &self.shown {
            put_varint(&mut out, shown.seq.number());
            put_varint(&mut out, shown.at.millis());
            if !shown.sure {
                put_varint(&mut out, shown.before.number());
                put_varint(&mut out, shown.untrue.map_or(0, |(_, untrue)| untrue.number()));
            }
        }
        out.freeze()
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        let input = &mut row;
        if read_u8(input)? != VERSION {
            return Err(Malformed);
        }
        let flags = read_u8(input)?;
        let mut outbox = Self::default();
        if flags & WANTED != 0 {
            let kind = match read_u8(input)? {
                1 => Kind::Message,
                2 => Kind::Read,
                3 => Kind::Recalled,
                _ => return Err(Malformed),
            };
            outbox.wanted = Some(Wanted {
                kind,
                id: read_varint(input)?,
                seq: HistorySeq::new(read_varint(input)?),
                entry: InboxSeq::new(read_varint(input)?),
                since: Timestamp::from_millis(read_varint(input)?),
                due: Timestamp::from_millis(read_varint(input)?),
                attempts: u32::try_from(read_varint(input)?).map_err(|_| Malformed)?,
                mention: flags & MENTION != 0,
            });
        }
        if flags & SHOWN != 0 {
            let seq = HistorySeq::new(read_varint(input)?);
            let at = Timestamp::from_millis(read_varint(input)?);
            let sure = flags & UNSURE == 0;
            let (before, which) = match sure {
                true => (HistorySeq::ZERO, seq),
                false => {
                    let before = HistorySeq::new(read_varint(input)?);
                    (before, HistorySeq::new(read_varint(input)?))
                }
            };
            let untrue = match flags & (UNTRUE_READ | UNTRUE_RECALLED) {
                0 => None,
                UNTRUE_READ => Some((Kind::Read, which)),
                _ => Some((Kind::Recalled, which)),
            };
            outbox.shown = Some(Shown { seq, at, untrue, sure, before });
        }
        Ok(outbox)
    }
}

/// The pause before the next try, after so many: it doubles up to `most`. Up to a quarter less, by
/// the id, so that those who fail together do not come back together.
#[must_use]
pub fn back_off(attempts: u32, first: Duration, most: Duration, id: u64) -> Duration {
    let doubled =
        first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let pause = doubled.min(most);
    pause - pause / 1024 * (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u32
}

#[cfg(test)]
mod tests;
