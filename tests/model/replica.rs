//! What a device has of its user's conversations, kept by the rules that `docs/protocol.md` gives to
//! clients: messages come as entries, as pushes of large conversations, or are fetched where a push,
//! a hint or an entry tells of a gap. In the end it must be what the server has.

use std::collections::{BTreeMap, BTreeSet};

use roamd::{
    id::{ConversationId, UserId},
    message::{MembershipAction, MessageState},
    reply::{EntryView, LargeNews, PlacedMessage},
    request::LargeCursor,
    seq::{HistorySeq, MutationSeq},
};

use super::{compare::same, driver::Found, model::Model};

/// A place in a large conversation.
#[derive(Clone, Copy, Debug, Default)]
struct At {
    history: u64,
    mutation: u64,
    version: u64,
}

/// See the head of this module.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    rows: BTreeMap<ConversationId, BTreeMap<u64, PlacedMessage>>,
    /// How far large conversations are had.
    have: BTreeMap<ConversationId, At>,
    large: BTreeSet<ConversationId>,
}

impl Replica {
    /// As after a walk through all conversations.
    pub fn of_everything(model: &Model, user: &UserId) -> Self {
        let mut copy = Self::default();
        for (id, talk) in &model.talks {
            if talk.places.contains_key(user) {
                copy.fetch_rows(model, user, id, 0, talk.head());
                copy.at(id).mutation = model.known_mutation(user, id).number();
            }
        }
        for end in model.large_of(user) {
            copy.large.insert(end.conversation.clone());
            copy.reach(&end);
        }
        copy
    }

    /// What Hello says of large conversations.
    pub fn cursors(&self) -> Vec<LargeCursor> {
        let cursor = |id: &ConversationId| {
            let at = self.have.get(id).copied().unwrap_or_default();
            LargeCursor {
                conversation: id.clone(),
                history: HistorySeq::new(at.history),
                mutation: MutationSeq::new(at.mutation),
                version: at.version,
            }
        };
        self.large.iter().map(cursor).collect()
    }

    fn at(&mut self, id: &ConversationId) -> &mut At {
        self.have.entry(id.clone()).or_default()
    }

    fn reach(&mut self, end: &LargeCursor) {
        let at = self.at(&end.conversation);
        at.history = at.history.max(end.history.number());
        at.mutation = at.mutation.max(end.mutation.number());
        at.version = at.version.max(end.version);
    }

    fn put(&mut self, message: &PlacedMessage) {
        let rows = self.rows.entry(message.conversation.clone()).or_default();
        rows.insert(message.seq.number(), message.clone());
    }

    fn fetch_rows(
        &mut self,
        model: &Model,
        user: &UserId,
        id: &ConversationId,
        after: u64,
        last: u64,
    ) {
        for row in model.visible(user, id) {
            if row > after && row <= last {
                self.put(&model.show(user, id, row));
            }
        }
    }

    fn fetch_changes(&mut self, model: &Model, user: &UserId, id: &ConversationId, after: u64) {
        let Some(talk) = model.talks.get(id) else { return };
        for mutation in talk.mutations.iter().skip(after as usize) {
            if talk.places.get(user).is_some_and(|place| place.sees(mutation.row)) {
                self.put(&model.show(user, id, mutation.row));
            }
        }
        let known = model.known_mutation(user, id).number();
        let at = self.at(id);
        at.mutation = at.mutation.max(known);
    }

    /// Fetches what is missing up to a place.
    fn fetch_up_to(&mut self, model: &Model, user: &UserId, id: &ConversationId, last: u64) {
        let at = *self.at(id);
        if at.history < last {
            self.fetch_rows(model, user, id, at.history, last);
            self.at(id).history = last;
        }
        self.fetch_changes(model, user, id, at.mutation);
    }

    fn blank(&mut self, id: &ConversationId, row: u64, state: MessageState) {
        if let Some(message) = self.rows.get_mut(id).and_then(|rows| rows.get_mut(&row))
            && message.state != MessageState::Hidden
        {
            *message = message.clone().blanked(state);
        }
    }

    /// An entry of the inbox.
    pub fn entry(&mut self, model: &Model, user: &UserId, entry: &EntryView) {
        match entry {
            EntryView::Message { message, .. } => self.put(message),
            EntryView::Edited { message, mutation, .. } => {
                self.put(message);
                let at = self.at(&message.conversation);
                at.mutation = at.mutation.max(mutation.number());
            }
            EntryView::Recalled { mutation, .. } | EntryView::Deleted { mutation, .. } => {
                let state = match entry {
                    EntryView::Recalled { .. } => MessageState::Recalled,
                    _ => MessageState::Deleted,
                };
                self.blank(&mutation.conversation, mutation.seq.number(), state);
                let at = self.at(&mutation.conversation);
                at.mutation = at.mutation.max(mutation.mutation.number());
            }
            EntryView::Hidden { conversation, seqs, .. } => {
                for seq in seqs {
                    self.blank(conversation, seq.number(), MessageState::Hidden);
                }
            }
            EntryView::Cleared { conversation, cleared_to, .. } => {
                if let Some(rows) = self.rows.get_mut(conversation) {
                    rows.retain(|row, _| *row > cleared_to.number());
                }
            }
            EntryView::Mode { conversation, large: true, from, .. } => {
                self.large.insert(conversation.clone());
                let at = self.at(conversation);
                at.history = at.history.max(from.number() - 1);
            }
            EntryView::Mode { conversation, large: false, from, .. } => {
                self.fetch_up_to(model, user, conversation, from.number() - 1);
                self.large.remove(conversation);
            }
            EntryView::Membership { change, .. } if change.users.contains(user) => {
                let id = &change.conversation;
                match change.action {
                    MembershipAction::Removed | MembershipAction::Left if self.large.remove(id) => {
                        self.fetch_up_to(model, user, id, change.at.number());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The stream has caught up: where large conversations end, and which of these were hinted at.
    pub fn caught_up(
        &mut self,
        model: &Model,
        user: &UserId,
        ends: &[LargeCursor],
        hints: &[LargeCursor],
    ) -> Result<(), Found> {
        if let Some(hint) = hints.iter().find(|hint| !ends.contains(hint)) {
            return Err(format!("a hint at {hint:?}, but the ends are {ends:?}"));
        }
        for end in ends {
            let id = &end.conversation;
            self.large.insert(id.clone());
            let at = *self.at(id);
            if hints.contains(end) {
                self.fetch_up_to(model, user, id, end.history.number());
            } else {
                let missing = |row: &u64| *row > at.history && *row <= end.history.number();
                let changes = model.talks[id].mutations.iter().skip(at.mutation as usize);
                // What was fetched meanwhile may go further than what was told at the Hello.
                let most = end.mutation.number().saturating_sub(at.mutation);
                let mut missed = changes.take(most as usize);
                let row = model.visible(user, id).into_iter().find(missing);
                let change = missed.find(|change| change.for_whom.contains(user));
                if row.is_some() || change.is_some() {
                    return Err(format!("no hint at {end:?}: {at:?} lacks {row:?} {change:?}"));
                }
            }
            self.reach(end);
        }
        Ok(())
    }

    /// A push: nothing twice, nothing out of order, nothing that is not for this user.
    pub fn push(
        &mut self,
        model: &Model,
        user: &UserId,
        news: &LargeNews,
    ) -> Result<&'static str, Found> {
        match news {
            LargeNews::Message { message, prev } => {
                let (id, row) = (&message.conversation, message.seq.number());
                let sees = model.visible(user, id);
                same("a pushed message", message, &model.show(user, id, row))?;
                let between = |seen: &u64| *seen > prev.number() && *seen < row;
                if !sees.contains(&row) || sees.iter().any(between) {
                    return Err(format!("{id} {row} after {prev} was pushed, to be seen {sees:?}"));
                }
                self.large.insert(id.clone());
                let at = *self.at(id);
                if row <= at.history {
                    return Err(format!("{id} {row} was pushed twice, the device is at {at:?}"));
                }
                let gap = prev.number() > at.history;
                if gap {
                    self.fetch_rows(model, user, id, at.history, prev.number());
                }
                self.put(message);
                self.at(id).history = row;
                Ok(if gap { "push: message after a gap" } else { "push: message" })
            }
            LargeNews::Mutation { message, mutation, prev } => {
                let (id, row) = (&message.conversation, message.seq.number());
                let changes = &model.talks[id].mutations;
                let changed = changes.get(mutation.number() as usize - 1).map(|m| m.row);
                same("the message of a pushed change", &Some(row), &changed)?;
                same("a pushed change", message, &model.show(user, id, row))?;
                let at = *self.at(id);
                if mutation.number() <= at.mutation {
                    return Ok("push: a change that is known");
                }
                let gap = prev.number() > at.mutation;
                if gap {
                    self.fetch_changes(model, user, id, at.mutation);
                }
                self.put(message);
                let at = self.at(id);
                at.mutation = at.mutation.max(mutation.number());
                Ok(if gap { "push: change after a gap" } else { "push: change" })
            }
            LargeNews::Version { conversation, version } => {
                let at = self.at(conversation);
                if *version <= at.version {
                    return Err(format!("version {version} was told before: {at:?}"));
                }
                at.version = *version;
                Ok("push: version")
            }
        }
    }

    /// Nothing happens any more: everything that was written for the user is there, as it is now.
    pub fn settled(&self, model: &Model, user: &UserId) -> Result<(), Found> {
        let empty = BTreeMap::new();
        for (id, talk) in &model.talks {
            let Some(place) = talk.places.get(user) else { continue };
            let rows = self.rows.get(id).unwrap_or(&empty);
            for row in (1..=talk.head()).filter(|row| place.sees(*row)) {
                let written_for = talk.written_for[row as usize - 1].contains(user);
                let Some(copy) = rows.get(&row) else {
                    if written_for {
                        let (large, at, stays) = (talk.large, self.have.get(id), &place.stays);
                        return Err(format!(
                            "{id} {row} never came to a device of {user}: large {large}, \
                             stays {stays:?}, device at {at:?}, has {:?}",
                            rows.keys()
                        ));
                    }
                    continue;
                };
                let mut changes = talk.mutations.iter().filter(|change| change.row == row);
                if talk.members.contains_key(user) && changes.all(|c| c.for_whom.contains(user)) {
                    same(&format!("{id} {row} on a device"), copy, &model.show(user, id, row))?;
                }
            }
        }
        Ok(())
    }
}
