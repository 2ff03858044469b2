//! How far a device is in one large conversation, and what it is told about it.

use super::Give;
use crate::{
    client::event::{Event, LargeEvent, LargeNews},
    wire::proto,
};

/// What a message is on the wire apart from its content, about.
const MESSAGE_BYTES: u64 = 100;

/// Where the device stands in one conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Which one of those there ever were.
    pub(super) number: u64,
    /// The last message given.
    pub(super) history: u64,
    /// The last change given; none = not known, the next one announced tells.
    pub(super) mutation: Option<u64>,
    pub(super) version: u64,
    /// The last message and the last change announced.
    pub(super) head: u64,
    pub(super) mutation_head: u64,
    /// Taken from a snapshot, which may be ahead of the inbox; nothing was given yet.
    pub(super) soft: bool,
    /// Messages after this one come in another way or not at all.
    pub(super) ends: Option<u64>,
    /// Ends, and the changes have not been read to their end.
    pub(super) unchecked: bool,
    pub(super) fetching: bool,
    /// What follows the last message is no longer kept or visible: the next page is the first.
    pub(super) below_floor: bool,
}

impl Place {
    pub(super) fn at(cursor: &proto::ConversationCursor, number: u64) -> Self {
        Self {
            number,
            history: cursor.history_seq,
            head: cursor.history_seq,
            mutation: Some(cursor.mutation_seq),
            mutation_head: cursor.mutation_seq,
            version: cursor.version,
            ..Self::default()
        }
    }

    pub(super) fn target(&self) -> u64 {
        self.ends.unwrap_or(self.head)
    }

    pub(super) fn lacks_messages(&self) -> bool {
        self.history < self.target()
    }

    pub(super) fn lacks_changes(&self) -> bool {
        self.unchecked || self.mutation.is_some_and(|mutation| mutation < self.mutation_head)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.lacks_messages() || self.lacks_changes()
    }

    pub(super) fn cursor(&self, conversation: &str) -> proto::ConversationCursor {
        proto::ConversationCursor {
            conversation_id: conversation.to_owned(),
            history_seq: self.history,
            mutation_seq: self.mutation.unwrap_or(0),
            version: self.version,
        }
    }

    pub(super) fn give(&self, conversation: &str, news: LargeNews, give: Give<'_>) {
        let content = match &news {
            LargeNews::Message(message) | LargeNews::Changed(message) => message.content.len(),
            _ => 0,
        };
        let event = LargeEvent { cursor: self.cursor(conversation), news };
        give(Event::Large(Box::new(event)), content as u64 + MESSAGE_BYTES);
    }

    pub(super) fn message(&mut self, conversation: &str, message: proto::Message, give: Give<'_>) {
        self.history = message.history_seq;
        self.soft = false;
        self.give(conversation, LargeNews::Message(message), give);
    }

    pub(super) fn changed(
        &mut self,
        conversation: &str,
        seq: u64,
        message: proto::Message,
        give: Give<'_>,
    ) {
        self.mutation = Some(seq);
        self.give(conversation, LargeNews::Changed(message), give);
    }

    pub(super) fn version(&mut self, conversation: &str, version: u64, give: Give<'_>) {
        if version > self.version {
            self.version = version;
            self.give(conversation, LargeNews::Version, give);
        }
    }
}
