//! Telling the members of a large conversation: pass by pass, each in slices of members.
//!
//! ```text
//!   message            a pass ends                    more came: after the interval
//!  ---------> running -------------> resting --------------------------------------> running
//!                                       | nothing came: after the interval
//!                                       v
//!                                    (no row)
//! ```
//! One pass tells each member of the newest message there was when it began, so that a busy group
//! costs one job per device and interval. A recall begins a pass at once, which takes back what
//! devices show and tells nothing new before the interval is over.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    id::UserId,
    seq::HistorySeq,
    store::codec::{Malformed, put_id, put_varint, read_id, read_u8, read_varint},
    time::Timestamp,
};

const VERSION: u8 = 1;
const RUNNING: u8 = 1;
const RECALLED: u8 = 2;
const BEGUN: u8 = 4;

/// Row of [`crate::store::catalogue::Table::PushRound`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// When messages were last told of.
    pub started: Timestamp,
    /// The message that this pass, or the last one, tells of.
    pub upto: HistorySeq,
    /// The newest message to tell of.
    pub newest: HistorySeq,
    /// A message was recalled since the last pass began.
    pub recalled: bool,
    /// A pass is under way.
    pub running: bool,
    /// How far the pass is: members up to this one are done.
    pub after: Option<UserId>,
}

/// When a round goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// With the next members, now.
    Slice,
    /// With the next pass, from this time on.
    Pass(Timestamp),
    /// It does not; the row may go from this time on.
    End(Timestamp),
}

impl Round {
    /// A first pass that begins now, because of this message.
    #[must_use]
    pub fn new(now: Timestamp, seq: HistorySeq) -> Self {
        Self { started: now, upto: seq, newest: seq, recalled: false, running: true, after: None }
    }

    /// A first pass that begins now, because of a recall.
    #[must_use]
    pub fn of_recall() -> Self {
        Self::new(Timestamp::default(), HistorySeq::ZERO)
    }

    /// There is another message to tell of.
    pub fn message(&mut self, seq: HistorySeq) {
        self.newest = self.newest.max(seq);
    }

    /// A message was recalled. Whoever was to be told of it is told of `earlier` instead, the newest
    /// one before it; zero = of none.
    pub fn recall(&mut self, seq: HistorySeq, earlier: HistorySeq) {
        self.recalled = true;
        for told in [&mut self.upto, &mut self.newest] {
            if *told == seq {
                *told = earlier;
            }
        }
    }

    /// When it goes on.
    #[must_use]
    pub fn due(&self, interval: Duration) -> Due {
        match self.running {
            true => Due::Slice,
            false if self.recalled => Due::Pass(Timestamp::default()),
            false if self.newest > self.upto => Due::Pass(self.started.plus(interval)),
            false => Due::End(self.started.plus(interval)),
        }
    }

    /// Begins a pass.
    pub fn begin(&mut self, now: Timestamp, interval: Duration) {
        if self.started.plus(interval) <= now {
            self.started = now;
            self.upto = self.newest;
        }
        (self.running, self.recalled, self.after) = (true, false, None);
    }

    /// The pass has done the members up to this one; none = all.
    pub fn advance(&mut self, after: Option<UserId>) {
        self.running = after.is_some();
        self.after = after;
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            bit(self.running, RUNNING)
                | bit(self.recalled, RECALLED)
                | bit(self.after.is_some(), BEGUN),
        );
        put_varint(&mut out, self.started.millis());
        put_varint(&mut out, self.upto.number());
        put_varint(&mut out, self.newest.number());
        if let Some(after) = &self.after {
            put_id(&mut out, after.as_bytes());
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
        let started = Timestamp::from_millis(read_varint(input)?);
        let upto = HistorySeq::new(read_varint(input)?);
        let newest = HistorySeq::new(read_varint(input)?);
        let after = if flags & BEGUN != 0 { Some(read_id(input)?) } else { None };
        let (running, recalled) = (flags & RUNNING != 0, flags & RECALLED != 0);
        Ok(Self { started, upto, newest, recalled, running, after })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn seq(number: u64) -> HistorySeq {
        HistorySeq::new(number)
    }

    #[test]
    fn a_busy_conversation_is_told_once_per_interval() {
        let mut round = Round::new(at(100), seq(1));
        assert_eq!(round.due(INTERVAL), Due::Slice);
        round.message(seq(2));
        round.advance(None);
        round.message(seq(3));
        assert_eq!(round.due(INTERVAL), Due::Pass(at(130)));
        round.begin(at(130), INTERVAL);
        assert_eq!((round.upto, round.due(INTERVAL)), (seq(3), Due::Slice));
        round.advance(None);
        assert_eq!(round.due(INTERVAL), Due::End(at(160)));
    }

    #[test]
    fn a_recall_does_not_wait_and_tells_nothing_new() {
        let mut round = Round::new(at(100), seq(1));
        round.advance(None);
        round.message(seq(2));
        round.recall(seq(7), seq(6));
        assert_eq!(round.due(INTERVAL), Due::Pass(at(0)));
        round.begin(at(101), INTERVAL);
        assert_eq!((round.upto, round.recalled), (seq(1), false));
        round.advance(None);
        assert_eq!(round.due(INTERVAL), Due::Pass(at(130)));
        // The one that waits is recalled: the one that was told of before is the newest again.
        round.recall(seq(2), seq(1));
        round.begin(at(102), INTERVAL);
        round.advance(None);
        assert_eq!((round.upto, round.due(INTERVAL)), (seq(1), Due::End(at(130))));
    }

    proptest! {
        #[test]
        fn rows_round_trip(numbers: [u64; 3], flags: [bool; 2], after in proptest::option::of("[a-z]{1,64}")) {
            let round = Round {
                started: Timestamp::from_millis(numbers[0]),
                upto: seq(numbers[1]),
                newest: seq(numbers[2]),
                recalled: flags[0],
                running: flags[1],
                after: after.map(|id| UserId::new(&id).unwrap()),
            };
            prop_assert_eq!(Round::decode(round.encode()), Ok(round));
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Round::decode(Bytes::from(bytes));
        }
    }
}
