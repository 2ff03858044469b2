//! What a user may see, what it sees of a message, and what is unread.

use roamd::{
    id::{ConversationId, UserId},
    message::MessageState,
    reply::{ConversationUnread, PlacedMessage},
    seq::{HistorySeq, MutationSeq},
    time::Timestamp,
};

use super::{Change, Model, Talk};

impl Model {
    /// The rows a user may see, one by one; of some it sees only that they were there.
    pub fn visible(&self, user: &UserId, id: &ConversationId) -> Vec<u64> {
        let Some(talk) = self.talks.get(id) else { return Vec::new() };
        let Some(place) = talk.places.get(user) else { return Vec::new() };
        (1..=talk.head()).filter(|row| place.sees(*row)).collect()
    }

    /// Oldest and newest row a user may see. With none: where the next would be, for a member;
    /// nothing at all, for somebody who has left.
    pub fn visible_ends(&self, user: &UserId, id: &ConversationId) -> (HistorySeq, HistorySeq) {
        let visible = self.visible(user, id);
        let talk = &self.talks[id];
        let (first, last) = match (visible.first(), visible.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ if talk.members.contains_key(user) => (talk.head() + 1, talk.head()),
            _ => (1, 0),
        };
        (HistorySeq::new(first), HistorySeq::new(last))
    }

    /// The last change of messages a user may know of.
    pub fn known_mutation(&self, user: &UserId, id: &ConversationId) -> MutationSeq {
        let talk = &self.talks[id];
        let left = talk.places.get(user).and_then(|place| place.left_mutation);
        MutationSeq::new(left.unwrap_or(talk.last_mutation()))
    }

    /// A message as this user sees it now.
    pub fn show(&self, user: &UserId, id: &ConversationId, row: u64) -> PlacedMessage {
        let seq = HistorySeq::new(row);
        let Some(talk) = self.talks.get(id) else {
            return PlacedMessage::new(id.clone(), seq, None);
        };
        let Some(mut message) = talk.rows.get(row as usize - 1).cloned() else {
            return PlacedMessage::new(id.clone(), seq, None);
        };
        let place = talk.places.get(user);
        let (mut state, mut revision, mut edited) = (MessageState::Normal, 0, Timestamp::default());
        for (number, mutation) in (1..).zip(&talk.mutations) {
            if mutation.row != row {
                continue;
            }
            match &mutation.change {
                Change::Recalled => state = MessageState::Recalled,
                Change::Deleted => state = MessageState::Deleted,
                Change::Edited(content_type, content) => {
                    // Whoever has left does not see what was written afterwards.
                    if place.and_then(|p| p.left_mutation).is_none_or(|left| number <= left) {
                        message.draft.content_type = content_type.clone();
                        message.draft.content = content.clone();
                        revision += 1;
                        edited = mutation.time;
                    }
                }
            }
        }
        if place.is_some_and(|place| row <= place.cleared || place.hidden.contains(&row)) {
            state = MessageState::Hidden;
        }
        if state != MessageState::Normal {
            (message.draft.content, message.draft.content_type) = ("".into(), "".into());
            message.draft.mentions.clear();
            (revision, edited) = (0, Timestamp::default());
        }
        let message = Some(message);
        PlacedMessage { conversation: id.clone(), seq, message, state, revision, edited }
    }

    /// The rows that are unread, one by one.
    fn unread_rows(&self, user: &UserId, id: &ConversationId) -> Vec<u64> {
        let Some(talk) = self.talks.get(id) else { return Vec::new() };
        let Some(place) = talk.places.get(user) else { return Vec::new() };
        let counts = |row: &u64| {
            !talk.rows[*row as usize - 1].draft.flags.uncounted
                && !place.read.contains(row)
                && !place.hidden.contains(row)
                && !talk.is_gone(*row)
        };
        self.visible(user, id).into_iter().filter(counts).collect()
    }

    /// Counted, not derived.
    pub fn unread(&self, user: &UserId, id: &ConversationId) -> u64 {
        self.unread_rows(user, id).len() as u64
    }

    /// Those of the unread that name the user.
    pub fn unread_mentions(&self, user: &UserId, id: &ConversationId) -> u64 {
        let names = |row: &u64| {
            let message = &self.talks[id].rows[*row as usize - 1];
            message.sender != *user && message.draft.mentions.contains(user)
        };
        self.unread_rows(user, id).into_iter().filter(names).count() as u64
    }

    pub fn unread_total(&self, user: &UserId) -> u64 {
        self.talks.keys().map(|id| self.unread(user, id)).sum()
    }

    pub(super) fn unread_item(
        &self,
        user: &UserId,
        id: &ConversationId,
    ) -> Option<ConversationUnread> {
        let place = self.talks.get(id)?.places.get(user)?;
        Some(ConversationUnread {
            conversation: id.clone(),
            unread: self.unread(user, id),
            mentions: self.unread_mentions(user, id),
            marked_unread: place.marked_unread,
            read_seq: HistorySeq::new(place.read_seq()),
            visible_last: self.visible_ends(user, id).1,
            last_ordinal: 0,
            read_ordinal: 0,
            removed: 0,
        })
    }

    pub(super) fn unread_items(&self, user: &UserId) -> Vec<ConversationUnread> {
        let items = self.recents(user).into_iter().filter_map(|id| self.unread_item(user, &id));
        items.filter(|item| item.unread > 0).collect()
    }

    /// Who has read a row, of those who are there and were shown it, cleared since or not.
    pub(super) fn readers(&self, talk: &Talk, row: u64) -> Vec<UserId> {
        let has_read = |user: &&UserId| {
            let place = &talk.places[*user];
            talk.rows[row as usize - 1].sender != **user
                && place.was_shown(row)
                && place.read.contains(&row)
        };
        talk.members.keys().filter(has_read).cloned().collect()
    }

    /// What there is to be met in this state, by name.
    pub fn moments(&self) -> Vec<String> {
        let mut moments = Vec::new();
        for (id, talk) in &self.talks {
            for (user, place) in &talk.places {
                let visible = self.visible(user, id);
                for row in &visible {
                    let shown = self.show(user, id, *row);
                    moments.push(format!("shown: {:?}", shown.state));
                    let edits = talk.mutations.iter().filter(|mutation| mutation.row == *row);
                    if shown.revision > 0 {
                        moments.push("shown: edited".into());
                    }
                    if shown.state.is_shown() && (shown.revision as usize) < edits.count() {
                        moments.push("shown: without an edit after it left".into());
                    }
                }
                let unread = |row: &&u64| !place.read.contains(row);
                if visible.iter().filter(unread).any(|row| talk.is_gone(*row)) {
                    moments.push("unread: less those that are gone".into());
                }
                if visible.iter().filter(unread).any(|row| place.hidden.contains(row)) {
                    moments.push("unread: less hidden ones".into());
                }
                if self.unread_mentions(user, id) > 0 {
                    moments.push("unread: mentions".into());
                }
                if talk.large {
                    moments.push("large: a place".into());
                }
            }
        }
        moments
    }
}
