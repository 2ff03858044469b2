//! Messages and inbox entries as values: who, when, where, what.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    seq::{HistorySeq, MutationSeq, NoticeSeq},
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
    /// The least weight of any: field keys and lengths, nine numbers of at most 10 bytes, and the
    /// conversation's id.
    pub const WEIGHT_MIN: usize = 256;

    /// An upper bound of the bytes this message takes in a frame, its conversation's id included.
    ///
    /// Byte budgets of pages and batches count this, so that no frame passes its limit however a
    /// sender spreads the bytes over content, mentions and ids.
    #[must_use]
    pub fn weight(&self) -> usize {
        let mentions: usize =
            self.draft.mentions.iter().map(|user| user.as_bytes().len() + 2).sum();
        Self::WEIGHT_MIN
            + self.sender.as_bytes().len()
            + self.device.as_bytes().len()
            + self.draft.content_type.len()
            + self.draft.content.len()
            + mentions
    }
}

/// What there is of a message for one user at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageState {
    /// The content, possibly edited.
    #[default]
    Normal,
    /// Taken back for everyone.
    Recalled,
    /// Deleted for everyone.
    Deleted,
    /// Deleted for this user.
    Hidden,
}

impl MessageState {
    /// Whether the content may be shown.
    #[must_use]
    pub fn is_shown(self) -> bool {
        self == Self::Normal
    }
}

/// A change of a message, as an inbox entry names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutationRef {
    /// Where.
    pub conversation: ConversationId,
    /// Which message.
    pub seq: HistorySeq,
    /// Which change of the conversation.
    pub mutation: MutationSeq,
    /// Who did it.
    pub by: UserId,
}

/// What a user wants of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// On top of recents.
    pub pinned: bool,
    /// No push notifications.
    pub muted: bool,
    /// Not shown in recents.
    pub hidden: bool,
    /// An unsent text; at most [`crate::limits::DRAFT_BYTES_MAX`] bytes.
    pub draft: Bytes,
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
    /// These users have another role.
    Role,
    /// The group is closed for good.
    Disbanded,
    /// The group has another title.
    Title,
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
    /// The new role, with [`MembershipAction::Role`].
    pub role: Option<Role>,
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
        /// The user wants it shown as unread.
        marked_unread: bool,
    },
    /// Members came or went, or the group itself changed.
    Membership(MembershipChange),
    /// A message was taken back.
    Recalled(MutationRef),
    /// A message has new content, joined when the entry is read.
    Edited(MutationRef),
    /// A message was deleted for everyone.
    Deleted(MutationRef),
    /// Messages were deleted for this user.
    Hidden {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seqs: Vec<HistorySeq>,
    },
    /// The other user of a direct conversation has read up to here.
    PeerRead {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Up to which message.
        read_seq: HistorySeq,
    },
    /// The user's preferences changed; joined when the entry is read.
    Preferences {
        /// Where.
        conversation: ConversationId,
    },
    /// Everything up to here is gone for this user.
    Cleared {
        /// Where.
        conversation: ConversationId,
        /// Up to which message.
        cleared_to: HistorySeq,
    },
    /// A system notice: a pointer into the log of notices.
    Notice {
        /// Which.
        notice: NoticeSeq,
    },
    /// A group became large or ceased to be.
    Mode {
        /// Which.
        conversation: ConversationId,
        /// Whether it is large now.
        large: bool,
        /// The first message that goes the new way.
        from: HistorySeq,
    },
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
