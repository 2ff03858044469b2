//! Large conversations, whose messages are not entries of the inbox: where this device stands in each,
//! what is missing, and in which order everything is given. Free of input and output.
//!
//! The history is the queue: pushes and hints tell how far a conversation is, and what is not pushed
//! in order is fetched. What the consumer gets has no gap and nothing twice:
//!
//! ```text
//!                      Begins                        Ends, before
//!   before Mode{large} ──────▶ Message … Message ──────────────────▶ Mode{small}
//!                                  ▲
//!   push: prev = place: give ──────┤      prev > place ┐
//!   pages of what is missing ──────┴──── fetch ◀───────┴─ a hint is ahead of the place
//! ```
//!
//! Invariants:
//! - A place only moves forward, by what is given, and never beyond what was announced: later rows may
//!   be entries of the inbox.
//! - An entry that ends a conversation's being large (or the membership) waits until everything before
//!   it is given; entries behind it wait with it. So a consumer whose position has passed such an entry
//!   misses nothing, also when it is killed.
//! - A change of a message comes after the message.
//! - Nothing is queued here but entries that wait: pushes without room are forgotten and fetched later.

mod place;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use self::place::Place;
use super::event::{Event, LargeNews, Snapshot};
use crate::wire::proto::{self, entry::Kind};

/// Pages asked for at the same time.
const FETCHES_MAX: usize = 4;
/// The pause after a page that was refused for now.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Takes what is to be given to the consumer, and about how many bytes of the wire it is.
pub type Give<'a> = &'a mut dyn FnMut(Event, u64);

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Of which conversation.
    pub conversation: String,
    /// Changes of messages rather than messages.
    pub changes: bool,
    /// What comes after this number.
    pub after: u64,
    /// What was announced when it was asked for: a page that was read later is complete up to here.
    upto: u64,
    /// It was known that the conversation ends.
    ends: bool,
    /// For which [`Place`].
    place: u64,
}

/// What was announced while entries waited.
#[derive(Clone, Copy, Debug, Default)]
struct Noted {
    /// The message before the first one announced, and the last one.
    messages: Option<(u64, u64)>,
    changes: Option<(u64, u64)>,
    version: u64,
}

/// See the head of this module.
#[derive(Debug, Default)]
pub struct Large {
    user: String,
    /// Groups with more members are large.
    fanout: u32,
    /// The data set of the places.
    epoch: Option<u64>,
    places: BTreeMap<String, Place>,
    /// How many places there ever were.
    born: u64,
    /// Those that are behind and not being fetched.
    due: BTreeSet<String>,
    fetching: usize,
    retry_at: Option<Instant>,
    /// Entries and what follows them, the first of which waits for the end of a conversation.
    held: VecDeque<(Event, u64)>,
    noted: BTreeMap<String, Noted>,
    /// A snapshot waits, here or for the consumer: it will say what the places are.
    snapshot: bool,
}

impl Large {
    /// A device that has large conversations of this data set up to these places.
    #[must_use]
    pub fn new(epoch: Option<u64>, cursors: &[proto::ConversationCursor]) -> Self {
        let place = |cursor: &proto::ConversationCursor| {
            (cursor.conversation_id.clone(), Place::at(cursor, 0))
        };
        Self { epoch, places: cursors.iter().map(place).collect(), ..Self::default() }
    }

    /// A session is open, of this user; groups with more members than `fanout` are large.
    pub fn open(&mut self, user: &str, fanout: u32) {
        user.clone_into(&mut self.user);
        self.fanout = fanout;
    }

    /// How far the device has each conversation.
    pub fn cursors(&self) -> impl Iterator<Item = proto::ConversationCursor> {
        self.places.iter().map(|(conversation, place)| place.cursor(conversation))
    }

    /// Conversations of which something is known to be missing.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.due.len() + self.fetching
    }

    /// When a page may be asked for again; none = nothing waits for a time.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.due.is_empty())
    }

    /// Whether [`Large::fetch`] has something to ask for, if there is room.
    #[must_use]
    pub fn wants(&self) -> bool {
        !self.due.is_empty() && self.fetching < FETCHES_MAX
    }

    /// The session is over: pages that were asked for will not come.
    pub fn lost(&mut self) {
        self.fetching = 0;
        self.retry_at = None;
        // The next session tells it anew.
        self.noted.clear();
        for (conversation, place) in &mut self.places {
            if std::mem::take(&mut place.fetching) {
                self.due.insert(conversation.clone());
            }
        }
    }

    /// The next of the inbox in its order: an entry, a snapshot, CaughtUp. Gives it, with what belongs
    /// to it, or keeps it until it is its turn.
    ///
    /// A snapshot that waits, here or for the consumer, is of no more use then: the stream goes on
    /// without it, or with this one.
    pub fn next(&mut self, event: Event, bytes: u64, give: Give<'_>) {
        let newer = matches!(event, Event::Snapshot(_));
        if std::mem::replace(&mut self.snapshot, newer) {
            self.held.retain(|(held, _)| !matches!(held, Event::Snapshot(_)));
        }
        if self.held.is_empty() {
            self.pass(event, bytes, give);
        } else {
            self.held.push_back((event, bytes));
        }
    }

    /// Whether a snapshot waits to be taken.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.snapshot
    }

    /// The entries that wait are not to be given: the stream starts over elsewhere.
    pub fn discard(&mut self) {
        self.held.clear();
        self.noted.clear();
        for place in self.places.values_mut() {
            (place.ends, place.unchecked) = (None, false);
        }
    }

    /// Gives an event, or holds it because a conversation ends with it.
    fn pass(&mut self, event: Event, bytes: u64, give: Give<'_>) {
        let ends = match &event {
            Event::Entry { entry, .. } => match &entry.kind {
                Some(Kind::Mode(mode)) => self.mode(mode, give),
                Some(Kind::Membership(change)) => self.membership(change, give),
                _ => false,
            },
            Event::CaughtUp(state) => {
                for hint in &state.hints {
                    self.hint(hint, give);
                }
                false
            }
            _ => false,
        };
        if ends {
            self.held.push_front((event, bytes));
        } else {
            give(event, bytes);
        }
    }

    fn mode(&mut self, mode: &proto::ModeChange, give: Give<'_>) -> bool {
        let before = mode.history_seq.saturating_sub(1);
        if mode.large {
            self.begin(&mode.conversation_id, before, give);
            return false;
        }
        self.end(&mode.conversation_id, before)
    }

    fn membership(&mut self, change: &proto::MembershipChange, give: Give<'_>) -> bool {
        use proto::MembershipAction as Action;
        let conversation = &change.conversation_id;
        let named = change.users.contains(&self.user);
        match change.action() {
            // Who is not among those named was a member before, or is one of too many to name.
            Action::Created | Action::Added
                if self.fanout > 0
                    && change.member_count > self.fanout
                    && (named || !self.places.contains_key(conversation)) =>
            {
                self.begin(conversation, change.history_seq, give);
                false
            }
            Action::Removed | Action::Left if named => self.end(conversation, change.history_seq),
            _ => false,
        }
    }

    /// Messages after `before` come in this way.
    fn begin(&mut self, conversation: &str, before: u64, give: Give<'_>) {
        let new = !self.places.contains_key(conversation);
        self.born += u64::from(new);
        let fresh = Place { number: self.born, ..Place::default() };
        let place = self.places.entry(conversation.to_owned()).or_insert(fresh);
        if !new && !place.soft && before <= place.history {
            return;
        }
        // What was announced before is past, or of a snapshot: whatever is new will be announced.
        (place.history, place.head, place.soft) = (before, before, false);
        place.give(conversation, LargeNews::Begins, give);
    }

    /// Messages after `upto` do not come in this way. True = something before may be missing.
    fn end(&mut self, conversation: &str, upto: u64) -> bool {
        // Messages announced up to here are those of the place, not of one that comes after it.
        if let Some(noted) = self.noted.get_mut(conversation) {
            noted.messages = noted.messages.filter(|(_, last)| *last > upto);
        }
        let Some(place) = self.places.get_mut(conversation) else { return false };
        place.ends = Some(upto);
        place.unchecked = true;
        if !place.fetching {
            self.due.insert(conversation.to_owned());
        }
        true
    }

    /// The consumer takes a snapshot: tells it from where large conversations go on.
    pub fn adopt(&mut self, snapshot: &mut Snapshot) {
        self.snapshot = false;
        let mut old = std::mem::take(&mut self.places);
        if self.epoch != Some(snapshot.position.epoch) {
            old.clear();
        }
        self.epoch = Some(snapshot.position.epoch);
        self.noted.clear();
        for conversation in snapshot.conversations.iter().filter(|it| it.large && !it.left) {
            let id = &conversation.conversation_id;
            // What is known goes on where it is; hints tell how far.
            let place = old.remove(id).unwrap_or_else(|| {
                let cursor = proto::ConversationCursor {
                    conversation_id: String::new(),
                    history_seq: conversation.visible_last_seq,
                    mutation_seq: conversation.mutation_seq,
                    version: conversation.version,
                };
                self.born += 1;
                Place { soft: true, ..Place::at(&cursor, self.born) }
            });
            snapshot.large.push(place.cursor(id));
            self.places.insert(id.clone(), place);
        }
        self.due.retain(|conversation| self.places.contains_key(conversation));
    }

    fn hint(&mut self, hint: &proto::ConversationCursor, give: Give<'_>) {
        let conversation = &hint.conversation_id;
        let Some(place) = self.places.get_mut(conversation) else {
            // Nothing is known of it: what was before is in the history.
            self.born += 1;
            let place = Place { soft: true, ..Place::at(hint, self.born) };
            place.give(conversation, LargeNews::Begins, give);
            self.places.insert(conversation.clone(), place);
            return;
        };
        place.head = place.head.max(hint.history_seq);
        place.mutation.get_or_insert(0);
        place.mutation_head = place.mutation_head.max(hint.mutation_seq);
        place.version(conversation, hint.version, give);
        self.look(hint.conversation_id.clone());
    }

    /// A push has come. Without `room` nothing is given; it is fetched when there is some.
    pub fn push(&mut self, push: proto::ConversationPush, room: bool, give: Give<'_>) {
        let conversation = push.conversation_id;
        if !self.held.is_empty() {
            let noted = self.noted.entry(conversation).or_default();
            noted.version = noted.version.max(push.version);
            if let Some(message) = push.message {
                let (of, prev, seq) = match push.mutation_seq {
                    0 => (&mut noted.messages, push.prev_history_seq, message.history_seq),
                    seq => (&mut noted.changes, push.prev_mutation_seq, seq),
                };
                let first = of.map_or(prev, |(first, _)| first);
                *of = Some((first, seq));
            }
            return;
        }
        let Some(message) = push.message else {
            if let Some(place) = self.places.get_mut(&conversation) {
                place.version(&conversation, push.version, give);
            }
            return;
        };
        if !self.places.contains_key(&conversation) {
            let before = match push.mutation_seq {
                0 => push.prev_history_seq,
                _ => message.history_seq,
            };
            self.begin(&conversation, before, give);
        }
        let Some(place) = self.places.get_mut(&conversation) else { return };
        if push.mutation_seq == 0 {
            if message.history_seq <= place.history {
                return;
            }
            place.head = place.head.max(message.history_seq);
            if room && push.prev_history_seq <= place.history {
                place.message(&conversation, message, give);
            }
        } else {
            let known = *place.mutation.get_or_insert(push.prev_mutation_seq);
            if push.mutation_seq <= known {
                return;
            }
            place.mutation_head = place.mutation_head.max(push.mutation_seq);
            let in_order = push.prev_mutation_seq <= known && !place.lacks_messages();
            if room && in_order && message.history_seq <= place.history {
                place.changed(&conversation, push.mutation_seq, message, give);
            }
        }
        self.look(conversation);
    }

    /// The next page to ask for.
    pub fn fetch(&mut self, now: Instant) -> Option<Fetch> {
        let paused = self.snapshot && self.held.is_empty();
        if paused || self.fetching >= FETCHES_MAX || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let ends = |id: &&String| self.places.get(*id).is_some_and(|place| place.ends.is_some());
        // While entries wait only what they wait for is given.
        let conversation = match self.held.is_empty() {
            true => self.due.first(),
            false => self.due.iter().find(ends),
        }?
        .clone();
        self.retry_at = None;
        self.due.remove(&conversation);
        let place = self.places.get_mut(&conversation)?;
        place.fetching = true;
        self.fetching += 1;
        let changes = !place.lacks_messages();
        let (after, upto) = match changes {
            true => (place.mutation.unwrap_or(0), place.mutation_head),
            false if place.below_floor => (0, place.target()),
            false => (place.history, place.target()),
        };
        let (ends, place) = (place.ends.is_some(), place.number);
        Some(Fetch { conversation, changes, after, upto, ends, place })
    }

    /// A page of messages has come.
    pub fn messages(&mut self, fetch: &Fetch, page: proto::HistoryPage, give: Give<'_>) {
        let conversation = &fetch.conversation;
        let Some(place) = self.fetched(fetch) else { return };
        let (target, before) = (place.target(), place.history);
        place.below_floor = false;
        for message in page.messages {
            if message.history_seq > place.history && message.history_seq <= target {
                place.message(conversation, message, give);
            }
        }
        // What is not in the page may not be seen.
        let done = page.complete || page.last_seq <= before;
        let seen = if done { fetch.upto } else { page.last_seq };
        place.history = place.history.max(seen.min(target));
        self.settle(conversation, give);
    }

    /// A page of changes has come.
    pub fn changes(&mut self, fetch: &Fetch, page: proto::MutationPage, give: Give<'_>) {
        let conversation = &fetch.conversation;
        let Some(place) = self.fetched(fetch) else { return };
        // What ends is read to its end; what was not announced may come in another way.
        let most = if place.unchecked { u64::MAX } else { place.mutation_head };
        let mut seen = page.last_mutation_seq.min(most);
        if page.complete || page.last_mutation_seq <= place.mutation.unwrap_or(0) {
            seen = seen.max(fetch.upto);
            place.unchecked &= !fetch.ends;
        }
        for change in page.mutations {
            let known = place.mutation.unwrap_or(0);
            let Some(message) = change.message else { continue };
            if change.mutation_seq <= known || change.mutation_seq > most {
                continue;
            }
            if message.history_seq > place.history {
                if place.ends.is_some() {
                    continue;
                }
                // First the message.
                place.head = place.head.max(message.history_seq);
                seen = known;
                break;
            }
            place.changed(conversation, change.mutation_seq, message, give);
        }
        place.mutation = Some(place.mutation.unwrap_or(0).max(seen));
        self.settle(conversation, give);
    }

    /// A page was refused: `below_floor` = what follows the last message is no longer there;
    /// `retry_after` = it may be asked for again; otherwise it never comes.
    pub fn refused(
        &mut self,
        now: Instant,
        fetch: &Fetch,
        below_floor: bool,
        retry_after: Option<Duration>,
        give: Give<'_>,
    ) {
        let Some(place) = self.fetched(fetch) else { return };
        if below_floor && !place.below_floor {
            place.below_floor = true;
        } else if let Some(pause) = retry_after {
            self.retry_at = now.checked_add(pause.max(RETRY_PAUSE));
        } else if fetch.changes {
            place.mutation = place.mutation.max(Some(fetch.upto));
            place.unchecked = false;
        } else {
            place.history = place.history.max(fetch.upto);
            place.below_floor = false;
        }
        self.settle(&fetch.conversation, give);
    }

    fn fetched(&mut self, fetch: &Fetch) -> Option<&mut Place> {
        self.fetching = self.fetching.saturating_sub(1);
        // A snapshot may have taken the place away.
        let place = self.places.get_mut(&fetch.conversation)?;
        if place.number != fetch.place {
            return None;
        }
        place.fetching = false;
        // What a snapshot may do away with is not given after it.
        if self.snapshot && self.held.is_empty() {
            self.due.insert(fetch.conversation.clone());
            return None;
        }
        Some(place)
    }

    /// After a page: goes on, or ends what has come to its end.
    fn settle(&mut self, conversation: &str, give: Give<'_>) {
        let ended = |place: &Place| place.ends.is_some() && !place.is_behind();
        if !self.places.get(conversation).is_some_and(ended) {
            return self.look(conversation.to_owned());
        }
        if let Some(place) = self.places.remove(conversation) {
            place.give(conversation, LargeNews::Ends, give);
        }
        self.due.remove(conversation);
        if let Some((event, bytes)) = self.held.pop_front() {
            give(event, bytes);
        }
        let mut waiting = std::mem::take(&mut self.held);
        while self.held.is_empty() {
            let Some((event, bytes)) = waiting.pop_front() else { break };
            self.pass(event, bytes, give);
        }
        self.held.append(&mut waiting);
        if self.held.is_empty() {
            self.announce(give);
        }
    }

    /// No entry waits any more: what was announced meanwhile counts.
    fn announce(&mut self, give: Give<'_>) {
        for (conversation, noted) in std::mem::take(&mut self.noted) {
            if let (Some((before, _)), false) =
                (noted.messages, self.places.contains_key(&conversation))
            {
                self.begin(&conversation, before, give);
            }
            let Some(place) = self.places.get_mut(&conversation) else { continue };
            if let Some((_, last)) = noted.messages {
                place.head = place.head.max(last);
            }
            if let Some((before, last)) = noted.changes {
                place.mutation.get_or_insert(before);
                place.mutation_head = place.mutation_head.max(last);
            }
            place.version(&conversation, noted.version, give);
            self.look(conversation);
        }
    }

    /// Asks for what a conversation lacks, if it is not being asked for.
    fn look(&mut self, conversation: String) {
        let behind = |place: &Place| place.is_behind() && !place.fetching;
        if self.places.get(&conversation).is_some_and(behind) {
            self.due.insert(conversation);
        } else {
            self.due.remove(&conversation);
        }
    }
}

#[cfg(test)]
mod tests;
