//! What a reader sees: messages, entries, conversations, members and devices as one user may see
//! them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ConversationId, DeviceId, UserId},
    message::{
        ConversationKind, HistoryPolicy, MembershipChange, Message, MessageState, MutationRef,
        Preferences, Role,
    },
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
    time::Timestamp,
};

/// A stored message at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedMessage {
    /// Where.
    pub conversation: ConversationId,
    /// Which row.
    pub seq: HistorySeq,
    /// What, or none when the row is damaged. Has no content, content type or mentions unless
    /// [`MessageState::is_shown`].
    pub message: Option<Message>,
    /// What there is of it.
    pub state: MessageState,
    /// How often it was edited.
    pub revision: u32,
    /// When it was last edited; zero = never.
    pub edited: Timestamp,
}

impl PlacedMessage {
    /// A message that was never changed.
    #[must_use]
    pub fn new(conversation: ConversationId, seq: HistorySeq, message: Option<Message>) -> Self {
        Self {
            conversation,
            seq,
            message,
            state: MessageState::Normal,
            revision: 0,
            edited: Timestamp::default(),
        }
    }

    /// Takes the content away: what is left to show when it may not be shown.
    #[must_use]
    pub fn blanked(mut self, state: MessageState) -> Self {
        if let Some(message) = &mut self.message {
            message.draft.content = Bytes::new();
            message.draft.content_type = "".into();
            message.draft.mentions = Vec::new();
        }
        Self { state, revision: 0, edited: Timestamp::default(), ..self }
    }
}

/// What was found where a message was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageItem {
    /// This.
    Found(PlacedMessage),
    /// Nothing, or nothing for this user.
    Absent,
    /// It was not looked at: there was no more room.
    Skipped,
}

impl From<Option<PlacedMessage>> for MessageItem {
    fn from(found: Option<PlacedMessage>) -> Self {
        found.map_or(Self::Absent, Self::Found)
    }
}

/// An inbox entry as a reader sees it: pointers joined with their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryView {
    /// A message.
    Message {
        /// When the entry was written.
        time: Timestamp,
        /// The joined row.
        message: PlacedMessage,
    },
    /// The read marker.
    Read {
        /// When.
        time: Timestamp,
        /// Where.
        conversation: ConversationId,
        /// Up to which message.
        read_seq: HistorySeq,
        /// The user wants it shown as unread.
        marked_unread: bool,
    },
    /// Membership.
    Membership {
        /// When.
        time: Timestamp,
        /// What.
        change: MembershipChange,
    },
    /// A message was taken back.
    Recalled {
        /// When.
        time: Timestamp,
        /// Which, and by whom.
        mutation: MutationRef,
    },
    /// A message was edited.
    Edited {
        /// When.
        time: Timestamp,
        /// Which change of the conversation.
        mutation: MutationSeq,
        /// The message as it is now.
        message: PlacedMessage,
    },
    /// A message was deleted for everyone.
    Deleted {
        /// When.
        time: Timestamp,
        /// Which, and by whom.
        mutation: MutationRef,
    },
    /// Messages were deleted for this user.
    Hidden {
        /// When.
        time: Timestamp,
        /// Where.
        conversation: ConversationId,
        /// Which.
        seqs: Vec<HistorySeq>,
    },
    /// The other user of a direct conversation has read up to here.
    PeerRead {
        /// When.
        time: Timestamp,
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Up to which message.
        read_seq: HistorySeq,
    },
    /// The user's preferences as they are now.
    Preferences {
        /// When.
        time: Timestamp,
        /// Of which conversation.
        conversation: ConversationId,
        /// All of them.
        preferences: Preferences,
    },
    /// Everything up to here is gone for this user.
    Cleared {
        /// When.
        time: Timestamp,
        /// Where.
        conversation: ConversationId,
        /// Up to which message.
        cleared_to: HistorySeq,
    },
    /// A system notice.
    Notice {
        /// When.
        time: Timestamp,
        /// What.
        notice: NoticeView,
    },
    /// A group became large or ceased to be.
    Mode {
        /// When.
        time: Timestamp,
        /// Which.
        conversation: ConversationId,
        /// Whether it is large now.
        large: bool,
        /// The first message that goes the new way.
        from: HistorySeq,
    },
    /// The stored entry is damaged or not understood.
    Hole {
        /// When, as far as known.
        time: Timestamp,
        /// For people.
        detail: &'static str,
    },
}

impl EntryView {
    /// An upper bound of the bytes this entry takes in a frame: what a batch is cut by.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Times, sequences and the keys and lengths around them; an id of 64 bytes takes 66.
        const FIXED: usize = 64;
        const ID: usize = 66;
        match self {
            Self::Message { message, .. } | Self::Edited { message, .. } => {
                message.message.as_ref().map_or(FIXED, Message::weight)
            }
            Self::Membership { change, .. } => {
                FIXED + (2 + change.users.len()) * ID + change.title.len()
            }
            Self::Hidden { seqs, .. } => FIXED + ID + 10 * seqs.len(),
            Self::Preferences { preferences, .. } => FIXED + ID + preferences.draft.len(),
            Self::Notice { notice, .. } => {
                FIXED + ID + notice.content_type.len() + notice.content.len()
            }
            Self::Recalled { .. } | Self::Deleted { .. } | Self::PeerRead { .. } => FIXED + 2 * ID,
            Self::Read { .. } | Self::Cleared { .. } | Self::Mode { .. } => FIXED + ID,
            Self::Hole { detail, .. } => FIXED + detail.len(),
        }
    }
}

/// A system notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeView {
    /// Which.
    pub notice: NoticeSeq,
    /// A short label.
    pub content_type: Arc<str>,
    /// Opaque.
    pub content: Bytes,
    /// The conversation it was sent to, if it was sent to one.
    pub conversation: Option<ConversationId>,
}

/// One conversation as one user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationView {
    /// Which.
    pub conversation: ConversationId,
    /// Direct or group.
    pub kind: ConversationKind,
    /// Of a group.
    pub title: Arc<str>,
    /// The other user of a direct conversation.
    pub peer: Option<UserId>,
    /// Members.
    pub member_count: u32,
    /// The user's role; none when it has left.
    pub role: Option<Role>,
    /// From where members may read.
    pub policy: HistoryPolicy,
    /// When it was made.
    pub created: Timestamp,
    /// Oldest visible row.
    pub visible_first: HistorySeq,
    /// Newest visible row.
    pub visible_last: HistorySeq,
    /// The newest visible message, when there is one.
    pub last_message: Option<PlacedMessage>,
    /// Last message, or creation or join.
    pub activity: Timestamp,
    /// Read marker.
    pub read_seq: HistorySeq,
    /// Derived.
    pub unread: u64,
    /// Of these, those that name the user.
    pub unread_mentions: u64,
    /// The user wants it shown as unread.
    pub marked_unread: bool,
    /// The last change of its messages that the user may know of.
    pub mutation: MutationSeq,
    /// What the user wants of it.
    pub preferences: Preferences,
    /// How many of its messages the user has ever hidden.
    pub hidden_count: u64,
    /// Its messages do not go to inboxes.
    pub large: bool,
    /// Closed for good.
    pub disbanded: bool,
    /// Changes with members and settings.
    pub version: u64,
}

/// Unread of one conversation with its derivation: `unread = last_ordinal - read_ordinal - removed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationUnread {
    /// Which.
    pub conversation: ConversationId,
    /// Derived.
    pub unread: u64,
    /// Of these, those that name the user.
    pub mentions: u64,
    /// The user wants it shown as unread.
    pub marked_unread: bool,
    /// Read marker.
    pub read_seq: HistorySeq,
    /// Newest visible row.
    pub visible_last: HistorySeq,
    /// Ordinal at the newest visible row.
    pub last_ordinal: u64,
    /// Ordinal at the read marker.
    pub read_ordinal: u64,
    /// Countable messages between the two that were recalled or deleted since.
    pub removed: u64,
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceState {
    /// No session.
    Offline,
    /// A session in the foreground.
    Online,
    /// A session whose application is in the background.
    Background,
}

/// The presence of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePresence {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub device: DeviceId,
    /// Whether it is there.
    pub state: PresenceState,
    /// Since when.
    pub since: Timestamp,
}

/// One of the user's own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// Which.
    pub device: DeviceId,
    /// Free text from Hello.
    pub platform: Arc<str>,
    /// Whether it is there.
    pub state: PresenceState,
    /// First session.
    pub first_seen: Timestamp,
    /// Start or end of the latest session.
    pub last_seen: Timestamp,
    /// What it has stored.
    pub cursor: InboxSeq,
    /// Whether the push hook may reach it.
    pub push_registered: bool,
}

/// Typing and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub sender: UserId,
    /// On which device.
    pub device: DeviceId,
    /// A short label.
    pub content_type: Arc<str>,
    /// Opaque.
    pub content: Bytes,
}

/// What is told of a large conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LargeNews {
    /// A new message, and the one pushed before it.
    Message {
        /// As it is now.
        message: PlacedMessage,
        /// Pushed before.
        prev: HistorySeq,
    },
    /// A message as it is after a change, and the change pushed before it.
    Mutation {
        /// As it is now.
        message: PlacedMessage,
        /// Which change.
        mutation: MutationSeq,
        /// Pushed before.
        prev: MutationSeq,
    },
    /// Members or settings changed.
    Version {
        /// Of which conversation.
        conversation: ConversationId,
        /// Its new version.
        version: u64,
    },
}

/// A user in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub user: UserId,
    /// With which rights.
    pub role: Role,
    /// From which row on.
    pub joined_seq: HistorySeq,
    /// When.
    pub joined: Timestamp,
}
