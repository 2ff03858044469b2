//! A session's place in the large conversations of its user.
//!
//! The logs are the queue here as well: for each conversation the session knows how far it has said
//! things and how far they go, reads what lies between when there is room for output, and keeps
//! nothing of it. Only a live session says any of it. When it has caught up it stands at the ends
//! that the engine names, and the device is told where these are further than it is known to be.
//!
//! Where both wait, what a large conversation has to say goes before further entries of the inbox,
//! and what begins after an entry waits for that entry ([`Stretch::after`]). So a conversation that
//! becomes large, or ceases to be, is told in order: the entry that says so, then what came the new
//! way; and all of that before the entry that ends it.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::{
    engine::LargeSign,
    id::ConversationId,
    limits::HINTS_MAX,
    planted::{self, Bug},
    reply::{LargeNews, PlacedMessage, Reply},
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
};

/// Rows and changes read at once.
const READ_ROWS_MAX: u64 = 64;
/// Messages by which a session may be behind. More, because the device reads more slowly than others
/// write: it catches up anew and is told where to look, so that what is only for this user, which
/// pushes go before, is not kept from it.
const BEHIND_MAX: u64 = 1000;
/// Stretches of one conversation that wait. More: the oldest is given up. The device sees by the
/// entry after it that it has not all, as a device does that was away.
const STRETCHES_MAX: usize = 8;

/// A place in a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct At {
    history: HistorySeq,
    mutation: MutationSeq,
    version: u64,
}

impl From<&LargeCursor> for At {
    fn from(cursor: &LargeCursor) -> Self {
        Self { history: cursor.history, mutation: cursor.mutation, version: cursor.version }
    }
}

impl At {
    fn is_behind(self, other: Self) -> bool {
        self.history < other.history
            || self.mutation < other.mutation
            || self.version < other.version
    }

    fn grow(&mut self, other: Self) {
        self.history = self.history.max(other.history);
        self.mutation = self.mutation.max(other.mutation);
        self.version = self.version.max(other.version);
    }
}

/// A time in which a conversation was large for the user.
#[derive(Debug)]
struct Stretch {
    /// Waits until this entry of the inbox was sent.
    after: InboxSeq,
    /// What was looked at.
    at: At,
    /// What was said: behind `at` where something was not for this user.
    said: At,
    end: At,
    /// Nothing will be added.
    closed: bool,
}

impl Stretch {
    fn new(after: InboxSeq, at: At) -> Self {
        Self { after, at, said: at, end: at, closed: false }
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read these rows of a history.
    ReadRows(ConversationId, Span),
    /// Read these changes of a conversation, both ends included.
    ReadChanges(ConversationId, MutationSeq, MutationSeq),
    Say(Reply),
    /// The device does not keep up: it is to catch up anew.
    FallBehind,
    /// Nothing. The inbox may be read up to this entry; none = to its end.
    Rest(Option<InboxSeq>),
}

/// See the head of this module.
#[derive(Debug, Default)]
pub(super) struct Large {
    /// Where the device is, as far as it was told or has told.
    known: HashMap<ConversationId, At>,
    /// In the order in which they began; the first one is being said.
    stretches: HashMap<ConversationId, VecDeque<Stretch>>,
    /// Conversations with something to say, in turns.
    pending: VecDeque<ConversationId>,
    /// The newest total, and its position.
    total: Option<(u64, InboxSeq)>,
    /// The ends that the engine named were told: where the session stands is where the device is.
    told: bool,
}

impl Large {
    /// Where the device says it is.
    pub(super) fn begin(&mut self, cursors: &[LargeCursor]) {
        let known = cursors.iter().map(|cursor| (cursor.conversation.clone(), cursor.into()));
        *self = Self { known: known.collect(), ..Self::default() };
    }

    /// The ends at the moment at which the session will have caught up. Returns those that the
    /// device is behind of.
    pub(super) fn caught_up(&mut self, ends: Vec<LargeCursor>) -> Vec<LargeCursor> {
        if std::mem::take(&mut self.told) {
            let said = |(id, stretches): (_, VecDeque<Stretch>)| {
                stretches.front().map(|stretch| (id, stretch.said))
            };
            self.known = self.stretches.drain().filter_map(said).collect();
        }
        self.stretches.clear();
        self.pending.clear();
        self.total = None;
        let mut hints = Vec::new();
        for end in ends {
            let at = At::from(&end);
            let stretch = Stretch::new(InboxSeq::ZERO, at);
            self.stretches.insert(end.conversation.clone(), VecDeque::from([stretch]));
            let known = self.known.get(&end.conversation).copied().unwrap_or_default();
            if known.is_behind(at) && hints.len() < HINTS_MAX {
                hints.push(end);
            }
        }
        hints
    }

    /// The hints are on their way.
    pub(super) fn told(&mut self) {
        self.told = true;
    }

    /// The engine tells of a conversation.
    pub(super) fn hear(&mut self, sign: &LargeSign) {
        let id = &sign.at().conversation;
        let at = At::from(sign.at());
        let open = self.stretches.get_mut(id).and_then(VecDeque::back_mut);
        match (sign, open.filter(|stretch| !stretch.closed)) {
            (LargeSign::Grown(_), Some(open))
                if planted::is(Bug::LargePushLost) && open.after > InboxSeq::ZERO => {}
            (LargeSign::Opened(..) | LargeSign::Grown(_), Some(open)) => open.end.grow(at),
            (LargeSign::Closed(_), Some(open)) => {
                open.end.grow(At { version: 0, ..at });
                open.closed = true;
            }
            (LargeSign::Opened(_, after), None) => {
                let stretches = self.stretches.entry(id.clone()).or_default();
                stretches.push_back(Stretch::new(*after, at));
                if stretches.len() > STRETCHES_MAX {
                    stretches.pop_front();
                }
            }
            // The end of something this session never stood in.
            (LargeSign::Grown(_) | LargeSign::Closed(_), None) => return,
        }
        if !self.pending.contains(id) {
            self.pending.push_back(id.clone());
        }
    }

    pub(super) fn hear_total(&mut self, total: u64, position: InboxSeq) {
        self.total = Some((total, position));
    }

    /// What a live session does next whose stream stands at `sent`.
    pub(super) fn next(&mut self, sent: InboxSeq) -> Step {
        if let Some((total, position)) = self.total.take() {
            return Step::Say(Reply::UnreadPush { total, position });
        }
        let mut barrier: Option<InboxSeq> = None;
        for _ in 0..self.pending.len() {
            let Some(id) = self.pending.pop_front() else { break };
            let step = self.step(&id, sent);
            match step {
                Some(Step::Rest(until)) => {
                    barrier = [barrier, until].into_iter().flatten().min();
                    self.pending.push_back(id);
                }
                Some(step) => {
                    self.pending.push_back(id);
                    return step;
                }
                None => {}
            }
        }
        Step::Rest(barrier)
    }

    /// What there is to do for one conversation.
    fn step(&mut self, id: &ConversationId, sent: InboxSeq) -> Option<Step> {
        let stretches = self.stretches.get_mut(id)?;
        while let Some(stretch) = stretches.front_mut() {
            if stretch.after > sent {
                return Some(Step::Rest(Some(stretch.after)));
            }
            let Stretch { at, end, said, closed, .. } = stretch;
            if end.history.since(at.history) > BEHIND_MAX {
                return Some(Step::FallBehind);
            }
            if at.history < end.history {
                let last = end.history.min(HistorySeq::new(at.history.number() + READ_ROWS_MAX));
                return Some(Step::ReadRows(id.clone(), Span { first: at.history.next(), last }));
            }
            if at.mutation < end.mutation {
                let last = MutationSeq::new(at.mutation.number() + READ_ROWS_MAX);
                let last = end.mutation.min(last);
                return Some(Step::ReadChanges(id.clone(), at.mutation.next(), last));
            }
            if at.version < end.version {
                (at.version, said.version) = (end.version, end.version);
                let news = LargeNews::Version { conversation: id.clone(), version: end.version };
                return Some(Step::Say(Reply::ConversationPush(Box::new(news))));
            }
            if !*closed {
                return None;
            }
            stretches.pop_front();
        }
        self.stretches.remove(id);
        None
    }

    /// The rows asked for, or the first of them; none = not for this user.
    pub(super) fn read_rows(
        &mut self,
        id: &ConversationId,
        span: Span,
        rows: Vec<(HistorySeq, Option<PlacedMessage>)>,
    ) -> Vec<Reply> {
        let Some(stretch) = self.stretches.get_mut(id).and_then(VecDeque::front_mut) else {
            return Vec::new();
        };
        // What cannot be read at all is passed over: asking again would not help.
        stretch.at.history = rows.last().map_or(span.last, |(seq, _)| *seq);
        let mut news = Vec::with_capacity(rows.len());
        for (seq, message) in rows {
            if let Some(message) = message {
                let prev = std::mem::replace(&mut stretch.said.history, seq);
                news.push(push(LargeNews::Message { message, prev }));
            }
        }
        news
    }

    /// The changes asked for, or the first of them; none = not for this user.
    pub(super) fn read_changes(
        &mut self,
        id: &ConversationId,
        last: MutationSeq,
        changes: Vec<(MutationSeq, Option<PlacedMessage>)>,
    ) -> Vec<Reply> {
        let Some(stretch) = self.stretches.get_mut(id).and_then(VecDeque::front_mut) else {
            return Vec::new();
        };
        stretch.at.mutation = changes.last().map_or(last, |(at, _)| *at);
        let mut news = Vec::with_capacity(changes.len());
        for (mutation, message) in changes {
            if let Some(message) = message {
                let prev = std::mem::replace(&mut stretch.said.mutation, mutation);
                news.push(push(LargeNews::Mutation { message, mutation, prev }));
            }
        }
        news
    }
}

fn push(news: LargeNews) -> Reply {
    Reply::ConversationPush(Box::new(news))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ConversationId {
        ConversationId::new("group").unwrap()
    }

    fn at(history: u64, mutation: u64, version: u64) -> LargeCursor {
        LargeCursor {
            conversation: id(),
            history: HistorySeq::new(history),
            mutation: MutationSeq::new(mutation),
            version,
        }
    }

    fn entry(seq: u64) -> InboxSeq {
        InboxSeq::new(seq)
    }

    /// What it does at this place of the inbox, all reads done and shown to the user if `seen`.
    fn says(large: &mut Large, sent: u64, seen: impl Fn(u64) -> bool) -> Vec<String> {
        let placed = |seq| PlacedMessage::new(id(), seq, None);
        let mut said = Vec::new();
        loop {
            let news = match large.next(entry(sent)) {
                Step::Rest(None) => return said,
                Step::Rest(Some(until)) => {
                    said.push(format!("until {until}"));
                    return said;
                }
                Step::Say(news) => vec![news],
                Step::FallBehind => {
                    said.push("behind".to_owned());
                    return said;
                }
                Step::ReadRows(id, span) => {
                    let rows = (span.first.number()..=span.last.number()).map(HistorySeq::new);
                    let show = |seq: HistorySeq| (seq, seen(seq.number()).then(|| placed(seq)));
                    large.read_rows(&id, span, rows.map(show).collect())
                }
                Step::ReadChanges(id, first, last) => {
                    let changes = (first.number()..=last.number()).map(MutationSeq::new);
                    let show = |at| (at, Some(placed(HistorySeq::new(1))));
                    large.read_changes(&id, last, changes.map(show).collect())
                }
            };
            said.extend(news.iter().map(|news| match news {
                Reply::ConversationPush(news) => match &**news {
                    LargeNews::Message { message, prev } => format!("{} after {prev}", message.seq),
                    LargeNews::Mutation { mutation, prev, .. } => {
                        format!("~{mutation} after {prev}")
                    }
                    LargeNews::Version { version, .. } => format!("v{version}"),
                },
                Reply::UnreadPush { total, .. } => format!("total {total}"),
                other => format!("{other:?}"),
            }));
        }
    }

    fn live(ends: Vec<LargeCursor>) -> Large {
        let mut large = Large::default();
        large.caught_up(ends);
        large.told();
        large
    }

    #[test]
    fn messages_go_before_changes_and_both_before_the_version() {
        let mut large = live(vec![at(3, 1, 1)]);
        large.hear(&LargeSign::Grown(at(5, 2, 2)));
        large.hear_total(7, entry(1));
        let expected = ["total 7", "4 after 3", "5 after 4", "~2 after 1", "v2"];
        assert_eq!(says(&mut large, 0, |_| true), expected);
        assert!(says(&mut large, 0, |_| true).is_empty());
        // More than is read at once comes all the same.
        large.hear(&LargeSign::Grown(at(300, 2, 2)));
        assert_eq!(says(&mut large, 0, |_| true).len(), 295);
    }

    #[test]
    fn each_stretch_waits_for_its_entry_and_ends_before_the_next() {
        let mut large = live(Vec::new());
        large.hear(&LargeSign::Opened(at(10, 0, 4), entry(20)));
        large.hear(&LargeSign::Grown(at(12, 0, 4)));
        large.hear(&LargeSign::Closed(at(13, 0, 0)));
        large.hear(&LargeSign::Opened(at(20, 0, 6), entry(30)));
        large.hear(&LargeSign::Grown(at(21, 0, 6)));
        assert_eq!(says(&mut large, 15, |_| true), ["until 20"]);
        let expected = ["11 after 10", "12 after 11", "13 after 12", "until 30"];
        assert_eq!(says(&mut large, 20, |_| true), expected);
        assert_eq!(says(&mut large, 30, |_| true), ["21 after 20"]);
        // After the end nothing comes, whatever is still heard.
        large.hear(&LargeSign::Closed(at(21, 0, 0)));
        assert!(says(&mut large, 30, |_| true).is_empty());
        large.hear(&LargeSign::Grown(at(25, 0, 6)));
        assert!(says(&mut large, 30, |_| true).is_empty());
        assert!(large.stretches.is_empty() && large.pending.is_empty());
    }

    #[test]
    fn what_is_not_for_the_user_is_no_gap() {
        let mut large = live(vec![at(0, 0, 1)]);
        large.hear(&LargeSign::Grown(at(4, 0, 1)));
        let odd = |seq: u64| !seq.is_multiple_of(2);
        assert_eq!(says(&mut large, 0, odd), ["1 after 0", "3 after 1"]);
    }

    #[test]
    fn a_device_is_told_where_it_is_behind_until_it_was_told() {
        let mut large = Large::default();
        large.begin(&[at(5, 2, 1)]);
        assert!(large.caught_up(vec![at(5, 2, 1)]).is_empty());
        assert_eq!(large.caught_up(vec![at(6, 2, 1)]), [at(6, 2, 1)]);
        // CaughtUp was never said: the device is where it was.
        assert_eq!(large.caught_up(vec![at(6, 3, 1)]), [at(6, 3, 1)]);
        large.told();
        assert!(large.caught_up(vec![at(6, 3, 1)]).is_empty());
        large.told();
        large.hear(&LargeSign::Grown(at(8, 3, 2)));
        says(&mut large, 0, |_| true);
        assert!(large.caught_up(vec![at(8, 3, 2)]).is_empty(), "it was pushed");
        large.told();
        large.hear(&LargeSign::Grown(at(9, 3, 2)));
        assert_eq!(large.caught_up(vec![at(9, 3, 2)]), [at(9, 3, 2)], "it was not");
    }

    #[test]
    fn who_is_too_far_behind_catches_up_anew() {
        let mut large = live(vec![at(1, 0, 1)]);
        large.hear(&LargeSign::Grown(at(1 + BEHIND_MAX, 0, 1)));
        assert_eq!(says(&mut large, 0, |_| true).len() as u64, BEHIND_MAX);
        large.hear(&LargeSign::Grown(at(2 + 2 * BEHIND_MAX, 0, 1)));
        assert_eq!(says(&mut large, 0, |_| true), ["behind"]);
        let end = at(2 + 2 * BEHIND_MAX, 0, 1);
        assert_eq!(large.caught_up(vec![end.clone()]), [end]);
    }

    #[test]
    fn a_group_that_changes_again_and_again_costs_so_much() {
        let mut large = live(Vec::new());
        for round in 1..100 {
            large.hear(&LargeSign::Opened(at(round, 0, round), entry(1000 + round)));
            large.hear(&LargeSign::Closed(at(round, 0, 0)));
        }
        assert_eq!(large.stretches[&id()].len(), STRETCHES_MAX);
        assert_eq!(large.pending.len(), 1);
        assert!(says(&mut large, 5000, |_| true).is_empty());
    }
}
