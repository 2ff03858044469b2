//! Messages and inbox entries as values: who, when, where, what.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    seq::HistorySeq,
    time::Timestamp,
};

/// How a message wants to be treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFlags {
    /// Delivered without sound.
    pub silent: bool,
    /// Does not count as unread.
    pub uncounted: bool,
    /// No push notification.
    pub no_push: bool,
}

/// What a sender gives: the part of a message that an idempotent retry must repeat exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The sender's own clock, unverified.
    pub created_at: Timestamp,
    /// A short label such as `text/plain`; at most [`crate::limits::CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: Arc<str>,
    /// The body; opaque.
    pub content: Bytes,
    /// The message this answers; zero = none.
    pub reply_to: HistorySeq,
    /// Users named in the message.
    pub mentions: Vec<UserId>,
    /// How the message wants to be treated.
    pub flags: MessageFlags,
}

/// One row of a conversation's history; its `history_seq` is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique in the data set.
    pub id: MessageId,
    /// Stamped from the session.
    pub sender: UserId,
    /// Stamped from the session.
    pub device: DeviceId,
    /// The sender's own number for it.
    pub client_id: ClientMessageId,
    /// When the server took it.
    pub time: Timestamp,
    /// Countable messages in the conversation up to and including this one: unread is a
    /// subtraction of two of these.
    pub ordinal: u64,
    /// What the sender gave.
    pub draft: Draft,
}

impl Message {
    /// An upper bound of the bytes this message takes in a frame, its conversation's id included.
    ///
    /// Byte budgets of pages and batches count this, so that no frame passes its limit however a
    /// sender spreads the bytes over content, mentions and ids.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Field keys and lengths, nine numbers of at most 10 bytes, and the conversation's id.
        const FIXED: usize = 256;
        let mentions: usize =
            self.draft.mentions.iter().map(|user| user.as_bytes().len() + 2).sum();
        FIXED
            + self.sender.as_bytes().len()
            + self.device.as_bytes().len()
            + self.draft.content_type.len()
            + self.draft.content.len()
            + mentions
    }
}

/// What happened to the membership of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipAction {
    /// The group was created with these members.
    Created,
    /// These users were added.
    Added,
    /// These users were removed.
    Removed,
    /// This user left.
    Left,
}

/// An inbox entry that tells a change of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// Where.
    pub conversation: ConversationId,
    /// What happened.
    pub action: MembershipAction,
    /// Who did it.
    pub by: UserId,
    /// At most [`crate::limits::ENTRY_USERS_MAX`] of those concerned.
    pub users: Vec<UserId>,
    /// How many are concerned.
    pub user_count: u32,
    /// Members after the change.
    pub member_count: u32,
    /// The last history_seq before the change.
    pub at: HistorySeq,
    /// The group's title.
    pub title: Arc<str>,
}

/// What one inbox entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A message: a pointer at its history row, joined when the entry is read.
    Message {
        /// Where.
        conversation: ConversationId,
        /// Which row.
        seq: HistorySeq,
    },
    /// The user's own read marker moved.
    Read {
        /// Where.
        conversation: ConversationId,
        /// Up to which message.
        read_seq: HistorySeq,
    },
    /// Members came or went.
    Membership(MembershipChange),
    /// Written by a newer version of the daemon; passed over by readers.
    Unknown,
}

/// One item of a user's inbox; its `inbox_seq` is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When the server wrote it.
    pub time: Timestamp,
    /// What it says.
    pub kind: EntryKind,
}

/// Direct or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationKind {
    /// Two users; made by the first send.
    Direct,
    /// Made by [`crate::request::Request::CreateGroup`].
    Group,
}

/// A member's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May read and send.
    Member,
    /// May also add and remove members.
    Admin,
    /// May do everything.
    Owner,
}

/// From where a new member may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryPolicy {
    /// From the moment it joined.
    SinceJoin,
    /// And this many messages before.
    LastN(u32),
    /// From the beginning.
    Full,
}
