//! What one user has to do with one conversation: the intervals it may read and its read marker.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    message::{HistoryPolicy, Role},
    planted::{self, Bug},
    seq::{HistorySeq, MutationSeq, Span},
    store::codec::{
        Malformed, no_text, packed, put_slice, put_varint, read_text, read_u8, read_varint,
    },
    time::Timestamp,
};

/// Version 1 ends after the intervals.
const VERSION: u8 = 2;
/// Most rows have no more bytes.
const ABOUT_BYTES: usize = 64;

/// Rows a user may read: from its join (less what the policy adds) until it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First visible row.
    pub first: HistorySeq,
    /// Last visible row; none while the user is a member.
    pub last: Option<HistorySeq>,
}

/// Row of [`crate::store::catalogue::Table::Membership`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The user's rights; none when it has left.
    pub role: Option<Role>,
    /// When it last joined.
    pub joined: Timestamp,
    /// Ascending and apart; the last one is open while the user is a member.
    pub intervals: Vec<Interval>,
    /// Everything up to here is read.
    pub read_seq: HistorySeq,
    /// Ordinal at `read_seq`: what unread is counted from.
    pub read_ordinal: u64,
    /// The read marker that the user's devices were last told of.
    pub announced_seq: HistorySeq,
    /// Ordinal at the last visible row, once the user has left.
    pub left_ordinal: u64,
    /// The last change of the conversation's messages when the user left: later edits are not for it.
    pub left_mutation: MutationSeq,
    /// The group's title when the user left; empty while it is a member.
    pub left_title: Arc<str>,
    /// Everything up to here is gone for this user.
    pub cleared_to: HistorySeq,
    /// The user wants it shown as unread.
    pub marked_unread: bool,
    /// The newest message ever hidden from this user: nothing above it is hidden.
    pub hidden_max: HistorySeq,
    /// How many messages were ever hidden from this user.
    pub hidden_count: u64,
    /// No stored mention of this user is above this one; zero = there is none.
    pub mention_max: HistorySeq,
    /// How far the other user of a direct conversation may know this one has read ...
    pub peer_visible_seq: HistorySeq,
    /// ... and was told.
    pub peer_told_seq: HistorySeq,
}

impl Membership {
    /// A user that joins now. `head` and `ordinal` are those of the newest message.
    #[must_use]
    pub fn join(
        role: Role,
        policy: HistoryPolicy,
        head: HistorySeq,
        ordinal: u64,
        now: Timestamp,
    ) -> Self {
        let mut membership = Self {
            role: None,
            joined: now,
            intervals: Vec::new(),
            read_seq: HistorySeq::ZERO,
            read_ordinal: 0,
            announced_seq: HistorySeq::ZERO,
            left_ordinal: 0,
            left_mutation: MutationSeq::ZERO,
            left_title: no_text(),
            cleared_to: HistorySeq::ZERO,
            marked_unread: false,
            hidden_max: HistorySeq::ZERO,
            hidden_count: 0,
            mention_max: HistorySeq::ZERO,
            peer_visible_seq: HistorySeq::ZERO,
            peer_told_seq: HistorySeq::ZERO,
        };
        membership.rejoin(role, policy, head, ordinal, now);
        membership
    }

    /// Opens a new interval. What was written in between stays unseen, if the policy says so, and
    /// is never unread.
    pub fn rejoin(
        &mut self,
        role: Role,
        policy: HistoryPolicy,
        head: HistorySeq,
        ordinal: u64,
        now: Timestamp,
    ) {
        let first = match policy {
            HistoryPolicy::SinceJoin if !planted::is(Bug::LeakBeforeJoin) => head.next(),
            HistoryPolicy::LastN(count) => {
                HistorySeq::new((head.number() + 1).saturating_sub(u64::from(count)).max(1))
            }
            HistoryPolicy::SinceJoin | HistoryPolicy::Full => HistorySeq::new(1),
        };
        self.role = Some(role);
        self.joined = now;
        // Intervals that the new one reaches back over become part of it.
        let mut start = first;
        while let Some(old) = self.intervals.last() {
            let end = old.last.unwrap_or(head);
            if end.next() < start {
                break;
            }
            start = start.min(old.first);
            self.intervals.pop();
        }
        self.intervals.push(Interval { first: start, last: None });
        self.read_seq = self.read_seq.max(head);
        self.read_ordinal = self.read_ordinal.max(ordinal);
        self.announced_seq = self.announced_seq.max(self.read_seq);
        self.left_ordinal = 0;
        self.left_mutation = MutationSeq::ZERO;
        self.left_title = no_text();
    }

    /// Closes the open interval. `head`, `ordinal` and `mutation` are the conversation's last ones,
    /// `title` is its title: what comes after them is not for this user.
    pub fn leave(
        &mut self,
        head: HistorySeq,
        ordinal: u64,
        mutation: MutationSeq,
        title: &Arc<str>,
    ) {
        self.role = None;
        self.left_ordinal = ordinal;
        self.left_mutation = mutation;
        self.left_title = Arc::clone(title);
        if let Some(open) = self.intervals.last_mut() {
            open.last = Some(head);
            if open.first > head {
                self.intervals.pop();
            }
        }
    }

    /// Whether the user is a member now.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.role.is_some()
    }

    /// The visible spans, ascending and none empty. What the user cleared is not visible.
    pub fn visible(&self, head: HistorySeq) -> impl DoubleEndedIterator<Item = Span> + Clone {
        let floor = self.cleared_to.next();
        self.intervals
            .iter()
            .map(move |i| Span { first: i.first.max(floor), last: i.last.unwrap_or(head) })
            .filter(|span| !span.is_empty())
    }

    /// From oldest to newest visible row, gaps between intervals included. Empty when nothing is
    /// visible: right after `head` for a member; for whoever has left, at a place that tells nothing
    /// of how the conversation goes on.
    #[must_use]
    pub fn hull(&self, head: HistorySeq) -> Span {
        let mut visible = self.visible(head);
        match visible.next() {
            Some(first) => Span { first: first.first, last: visible.last().unwrap_or(first).last },
            None if self.is_member() => Span { first: head.next(), last: head },
            None => Span { first: HistorySeq::new(1), last: HistorySeq::ZERO },
        }
    }

    /// Whether the user may see this row.
    #[must_use]
    pub fn sees(&self, seq: HistorySeq) -> bool {
        seq > self.cleared_to && self.was_shown(seq)
    }

    /// Whether the row lies in an interval of the user, cleared or not.
    #[must_use]
    pub fn was_shown(&self, seq: HistorySeq) -> bool {
        self.intervals.iter().any(|i| i.first <= seq && i.last.is_none_or(|last| seq <= last))
    }

    /// The ordinal at the newest row the user may see. `ordinal` is that of the conversation's newest
    /// message.
    #[must_use]
    pub fn visible_ordinal(&self, ordinal: u64) -> u64 {
        if self.is_member() { ordinal } else { self.left_ordinal }
    }

    /// Moves the read marker forward; says whether it moved.
    pub fn mark_read(&mut self, seq: HistorySeq, ordinal: u64) -> bool {
        if seq <= self.read_seq {
            return false;
        }
        self.read_seq = seq;
        self.read_ordinal = self.read_ordinal.max(ordinal);
        true
    }

    /// Takes everything up to `seq` away from the user; says whether there was anything. What is
    /// gone cannot be unread.
    pub fn clear(&mut self, seq: HistorySeq, ordinal: u64) -> bool {
        if seq <= self.cleared_to {
            return false;
        }
        self.cleared_to = seq;
        self.mark_read(seq, ordinal);
        true
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        packed(ABOUT_BYTES, |out| self.put(out))
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u8(super::record::role_byte(self.role));
        put_varint(out, self.joined.millis());
        put_varint(out, self.read_seq.number());
        put_varint(out, self.read_ordinal);
        put_varint(out, self.announced_seq.number());
        put_varint(out, self.left_ordinal);
        put_varint(out, self.intervals.len() as u64);
        for interval in &self.intervals {
            put_varint(out, interval.first.number());
            put_varint(out, interval.last.map_or(0, |last| last.number() + 1));
        }
        put_varint(out, self.left_mutation.number());
        put_slice(out, self.left_title.as_bytes());
        put_varint(out, self.cleared_to.number());
        out.put_u8(u8::from(self.marked_unread));
        put_varint(out, self.hidden_max.number());
        put_varint(out, self.hidden_count);
        put_varint(out, self.mention_max.number());
        put_varint(out, self.peer_visible_seq.number());
        put_varint(out, self.peer_told_seq.number());
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        let input = &mut row;
        let version = read_u8(input)?;
        if !(1..=VERSION).contains(&version) {
            return Err(Malformed);
        }
        let role = super::record::role_from_byte(read_u8(input)?)?;
        let joined = Timestamp::from_millis(read_varint(input)?);
        let read_seq = HistorySeq::new(read_varint(input)?);
        let read_ordinal = read_varint(input)?;
        let announced_seq = HistorySeq::new(read_varint(input)?);
        let left_ordinal = read_varint(input)?;
        let mut intervals = Vec::new();
        for _ in 0..read_varint(input)? {
            let first = HistorySeq::new(read_varint(input)?);
            let last = read_varint(input)?.checked_sub(1).map(HistorySeq::new);
            intervals.push(Interval { first, last });
        }
        let mut row = Self {
            role,
            joined,
            intervals,
            read_seq,
            read_ordinal,
            announced_seq,
            left_ordinal,
            left_mutation: MutationSeq::ZERO,
            left_title: no_text(),
            cleared_to: HistorySeq::ZERO,
            marked_unread: false,
            hidden_max: HistorySeq::ZERO,
            hidden_count: 0,
            mention_max: HistorySeq::ZERO,
            peer_visible_seq: HistorySeq::ZERO,
            peer_told_seq: HistorySeq::ZERO,
        };
        if version >= 2 {
            row.left_mutation = MutationSeq::new(read_varint(input)?);
            row.left_title = read_text(input)?;
            row.cleared_to = HistorySeq::new(read_varint(input)?);
            row.marked_unread = read_u8(input)? != 0;
            row.hidden_max = HistorySeq::new(read_varint(input)?);
            row.hidden_count = read_varint(input)?;
            row.mention_max = HistorySeq::new(read_varint(input)?);
            row.peer_visible_seq = HistorySeq::new(read_varint(input)?);
            row.peer_told_seq = HistorySeq::new(read_varint(input)?);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1);
    const NONE: MutationSeq = MutationSeq::ZERO;
    const TITLE: &str = "title";

    fn at(seq: u64) -> HistorySeq {
        HistorySeq::new(seq)
    }

    #[test]
    fn a_rejoined_member_sees_two_intervals_and_counts_only_the_new_one() {
        let unread = |row: &Membership, ordinal| row.visible_ordinal(ordinal) - row.read_ordinal;
        let mut row = Membership::join(Role::Member, HistoryPolicy::SinceJoin, at(10), 10, NOW);
        assert_eq!(unread(&row, 12), 2);
        row.leave(at(12), 12, NONE, &TITLE.into());
        assert_eq!((unread(&row, 40), row.sees(at(12)), row.sees(at(13))), (2, true, false));
        row.rejoin(Role::Member, HistoryPolicy::SinceJoin, at(20), 20, NOW);
        assert_eq!(unread(&row, 20), 0);
        let seen: Vec<u64> = (1..=25).filter(|seq| row.sees(at(*seq))).collect();
        assert_eq!(seen, [11, 12, 21, 22, 23, 24, 25]);
        assert_eq!(row.hull(at(25)), Span { first: at(11), last: at(25) });
    }

    #[test]
    fn a_policy_that_reaches_back_merges_intervals() {
        let mut row = Membership::join(Role::Member, HistoryPolicy::SinceJoin, at(0), 0, NOW);
        row.leave(at(5), 5, NONE, &TITLE.into());
        row.rejoin(Role::Member, HistoryPolicy::LastN(3), at(8), 8, NOW);
        assert_eq!(row.intervals, [Interval { first: at(1), last: None }]);
        row.leave(at(8), 8, NONE, &TITLE.into());
        row.rejoin(Role::Member, HistoryPolicy::LastN(3), at(20), 20, NOW);
        assert_eq!(row.intervals.len(), 2);
        row.leave(at(20), 20, NONE, &TITLE.into());
        row.rejoin(Role::Member, HistoryPolicy::Full, at(30), 30, NOW);
        assert_eq!(row.intervals, [Interval { first: at(1), last: None }]);
    }

    proptest! {
        #[test]
        fn rows_round_trip(steps in proptest::collection::vec((0u64..5, 0u8..3), 0..8)) {
            let mut head = at(0);
            let mut row = Membership::join(Role::Owner, HistoryPolicy::SinceJoin, head, 0, NOW);
            for (messages, step) in steps {
                head = at(head.number() + messages);
                match step {
                    0 if row.is_member() => row.leave(head, head.number(), MutationSeq::new(messages), &TITLE.into()),
                    1 if !row.is_member() => {
                        row.rejoin(Role::Admin, HistoryPolicy::LastN(2), head, head.number(), NOW);
                    }
                    _ => { row.mark_read(head, head.number()); }
                }
                prop_assert!(row.intervals.windows(2).all(|w| w[0].last.is_some_and(|l| l < w[1].first)));
            }
            prop_assert_eq!(Membership::decode(row.encode()), Ok(row));
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Membership::decode(Bytes::from(bytes));
        }
    }
}
