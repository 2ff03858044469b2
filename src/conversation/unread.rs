//! Unread of one user in one conversation: a subtraction of two ordinals, less what is gone.

use super::Membership;
use crate::{
    planted::{self, Bug},
    seq::{HistorySeq, Span},
};

/// What is not to be counted after the read marker, and what names the user there. Sequences are
/// ascending; what lies outside of the rows that may be unread does no harm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Without<'a> {
    /// Countable messages that are gone for everyone.
    pub gone: &'a [HistorySeq],
    /// Messages hidden from the user, and whether each is countable.
    pub hidden: &'a [(HistorySeq, bool)],
    /// Countable messages that name the user.
    pub mentions: &'a [HistorySeq],
}

/// The numbers and where they come from: `unread = last_ordinal - read_ordinal - removed`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Countable messages after the read marker that are still there for the user.
    pub unread: u64,
    /// Of these, those that name the user.
    pub mentions: u64,
    /// Ordinal at the newest visible row.
    pub last_ordinal: u64,
    /// Ordinal at the read marker.
    pub read_ordinal: u64,
    /// Countable messages between the two that are gone or hidden.
    pub removed: u64,
}

impl Unread {
    /// Rows that may be unread: after the read marker, up to the newest visible one. They lie in one
    /// interval of the user, because the marker moves when another begins, and past what is cleared.
    #[must_use]
    pub fn rows(own: &Membership, head: HistorySeq) -> Span {
        Span { first: own.read_seq.next(), last: own.hull(head).last }
    }

    /// Derives it from a user's row, the newest message of the conversation and its ordinal.
    #[must_use]
    pub fn derive(own: &Membership, head: HistorySeq, ordinal: u64, without: Without<'_>) -> Self {
        let rows = Self::rows(own, head);
        let within = |seq: &HistorySeq| rows.first <= *seq && *seq <= rows.last;
        let is_gone = |seq: &HistorySeq| without.gone.binary_search(seq).is_ok();
        let hidden = without.hidden.iter().filter(|(seq, _)| within(seq) && !is_gone(seq));
        let is_hidden = |seq: &HistorySeq| {
            without.hidden.binary_search_by_key(seq, |(hidden, _)| *hidden).is_ok()
        };
        // Sorted, and there may be many before the marker.
        let until = without.gone.partition_point(|seq| *seq <= rows.last);
        let gone = until.saturating_sub(without.gone.partition_point(|seq| *seq < rows.first));
        let read_ordinal = own.read_ordinal;
        let mut last_ordinal = own.visible_ordinal(ordinal).max(read_ordinal);
        if planted::is(Bug::UnreadTwice) {
            last_ordinal += u64::from(last_ordinal > read_ordinal);
        }
        let counted = last_ordinal - read_ordinal;
        let removed = gone as u64 + hidden.filter(|(_, counted)| *counted).count() as u64;
        let removed = removed.min(counted);
        let named = without.mentions.iter();
        let named = named.filter(|seq| within(seq) && !is_gone(seq) && !is_hidden(seq));
        let unread = counted - removed;
        let mentions = (named.count() as u64).min(unread);
        Self { unread, mentions, last_ordinal, read_ordinal, removed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        message::{HistoryPolicy, Role},
        seq::MutationSeq,
        time::Timestamp,
    };

    /// A message as a count by hand sees it.
    #[derive(Clone, Copy, Debug, Default)]
    struct Row {
        counted: bool,
        names: bool,
        gone: bool,
        hidden: bool,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Other { counted: bool, names: bool },
        Own { counted: bool },
        Read(usize),
        Gone(usize),
        Hide(usize),
        Clear(usize),
        Leave,
        Return(HistoryPolicy),
    }

    fn step() -> impl Strategy<Value = Step> {
        let policy = prop_oneof![
            Just(HistoryPolicy::SinceJoin),
            Just(HistoryPolicy::Full),
            (1u32..6).prop_map(HistoryPolicy::LastN)
        ];
        prop_oneof![
            6 => any::<(bool, bool)>().prop_map(|(counted, names)| Step::Other { counted, names }),
            1 => any::<bool>().prop_map(|counted| Step::Own { counted }),
            2 => (0usize..40).prop_map(Step::Read),
            3 => (0usize..40).prop_map(Step::Gone),
            3 => (0usize..40).prop_map(Step::Hide),
            1 => (0usize..40).prop_map(Step::Clear),
            1 => Just(Step::Leave),
            1 => policy.prop_map(Step::Return),
        ]
    }

    fn seqs(rows: &[Row], which: impl Fn(&Row) -> bool) -> Vec<HistorySeq> {
        let at = (1u64..).map(HistorySeq::new).zip(rows);
        at.filter(|(_, row)| which(row)).map(|(seq, _)| seq).collect()
    }

    proptest! {
        #[test]
        fn what_is_derived_equals_a_count_by_hand(steps in proptest::collection::vec(step(), 0..60)) {
            let (policy, now) = (HistoryPolicy::SinceJoin, Timestamp::from_millis(1));
            let mut own = Membership::join(Role::Member, policy, HistorySeq::ZERO, 0, now);
            let mut rows: Vec<Row> = Vec::new();
            for step in steps {
                let head = HistorySeq::new(rows.len() as u64);
                let ordinal = |upto: HistorySeq| {
                    rows[..upto.number() as usize].iter().filter(|row| row.counted).count() as u64
                };
                let shown = own.hull(head).last;
                match step {
                    Step::Other { counted, names } => {
                        let names = names && counted && own.is_member();
                        rows.push(Row { counted, names, ..Row::default() });
                    }
                    Step::Own { counted } if own.is_member() => {
                        rows.push(Row { counted, ..Row::default() });
                        let count = rows.iter().filter(|row| row.counted).count() as u64;
                        own.mark_read(head.next(), count);
                    }
                    Step::Read(seq) => {
                        let seq = HistorySeq::new(seq as u64).min(shown);
                        own.mark_read(seq, ordinal(seq));
                    }
                    Step::Clear(seq) => {
                        let seq = HistorySeq::new(seq as u64).min(shown);
                        own.clear(seq, ordinal(seq));
                    }
                    Step::Gone(at) if at < rows.len() => rows[at].gone = true,
                    Step::Hide(at) if at < rows.len() => {
                        rows[at].hidden |= own.sees(HistorySeq::new(at as u64 + 1));
                    }
                    Step::Leave if own.is_member() => {
                        own.leave(head, ordinal(head), MutationSeq::ZERO, &"".into());
                    }
                    Step::Return(policy) if !own.is_member() => {
                        own.rejoin(Role::Member, policy, head, ordinal(head), now);
                    }
                    _ => {}
                }
                let head = HistorySeq::new(rows.len() as u64);
                let ordinal = rows.iter().filter(|row| row.counted).count() as u64;
                let gone = seqs(&rows, |row| row.gone && row.counted);
                let hidden: Vec<_> = seqs(&rows, |row| row.hidden)
                    .into_iter()
                    .map(|seq| (seq, rows[seq.number() as usize - 1].counted))
                    .collect();
                let mentions = seqs(&rows, |row| row.names);
                let without = Without { gone: &gone, hidden: &hidden, mentions: &mentions };
                let got = Unread::derive(&own, head, ordinal, without);
                let unread = |row: &Row| row.counted && !row.gone && !row.hidden;
                let by_hand = |also: fn(&Row) -> bool| {
                    let all = seqs(&rows, |row| unread(row) && also(row));
                    all.into_iter().filter(|seq| *seq > own.read_seq && own.sees(*seq)).count() as u64
                };
                prop_assert_eq!(got.unread, by_hand(|_| true));
                prop_assert_eq!(got.mentions, by_hand(|row| row.names));
                prop_assert_eq!(got.unread, got.last_ordinal - got.read_ordinal - got.removed);
            }
        }
    }
}
