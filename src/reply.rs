//! Replies and pushes as values: everything the server may say, without its encoding.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, MessageId, SessionId, UserId},
    message::{
        ConversationKind, HistoryPolicy, MembershipChange, Message, MessageState, MutationRef,
        Preferences, Role,
    },
    refusal::Refusal,
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
    time::Timestamp,
};

/// The version compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing.
    UpToDate,
    /// Entries are missing and will be streamed.
    CatchUp,
    /// The inbox cannot help; the message index can.
    TooLong(TooLongReason),
}

/// Why the inbox cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLongReason {
    /// The device has no copy.
    NewDevice,
    /// Retention passed the position.
    Trimmed,
    /// The position is of another data set.
    Epoch,
    /// The device is ahead of the server.
    Ahead,
    /// More is missing than the client wants.
    ClientLimit,
}

/// The session is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Agreed version.
    pub protocol: u32,
    /// The new session.
    pub session: SessionId,
    /// The verified user.
    pub user: UserId,
    /// The data set.
    pub epoch: Epoch,
    /// Newest entry.
    pub head: InboxSeq,
    /// Oldest kept entry.
    pub first: InboxSeq,
    /// Stored cursor of the device.
    pub cursor: InboxSeq,
    /// The compare.
    pub verdict: Verdict,
    /// The server's clock.
    pub time: Timestamp,
    /// What the server allows.
    pub limits: ServerLimits,
    /// Exact at `head`.
    pub unread_total: u64,
    /// Highest accepted number of the device; zero = none.
    pub last_client_id: ClientMessageId,
}

/// What the server allows, as told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Content bytes of one message.
    pub content_bytes: usize,
    /// Entries sent and not acked, as agreed.
    pub unacked_entries: u32,
    /// Bytes sent and not acked, as agreed.
    pub unacked_bytes: u32,
    /// Bytes in one batch, as agreed.
    pub batch_bytes: u32,
    /// Requests without a reply.
    pub outstanding_requests: u32,
    /// Inbox retention by count.
    pub inbox_entries: u64,
    /// Inbox retention by age.
    pub inbox_age: Duration,
    /// Members up to which messages go to inboxes.
    pub fanout_members: usize,
    /// Heartbeat.
    pub heartbeat_interval: Duration,
}

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

/// Contiguous entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The entry before the first.
    pub prev: InboxSeq,
    /// Newest entry known when the batch was made.
    pub head: InboxSeq,
    /// In order, without gaps, from `prev + 1`.
    pub entries: Vec<EntryView>,
}

impl Batch {
    /// The seq of the last entry; `prev` when empty.
    #[must_use]
    pub fn last(&self) -> InboxSeq {
        InboxSeq::new(self.prev.number() + self.entries.len() as u64)
    }
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

/// What became of one user in a call that names many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberOutcome {
    /// Done.
    Changed,
    /// Was so already.
    Unchanged,
    /// The caller may not.
    Forbidden,
    /// A limit is in the way.
    Limit,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoAwayReason {
    /// The server stops.
    Draining,
    /// A newer session of the device took over.
    Replaced,
    /// Kicked by a user's other device or an administrator.
    Kicked,
    /// Token revoked.
    Revoked,
    /// Token expired while connected.
    TokenExpired,
    /// Silent or stalled.
    Idle,
    /// A fatal error was reported just before.
    Protocol,
}

/// Everything the server may say in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A refusal.
    Refused(Refusal),
    /// The session is open.
    Welcome(Box<Welcome>),
    /// Part of the stream.
    SyncBatch(Batch),
    /// The stream has caught up.
    CaughtUp {
        /// Where.
        seq: InboxSeq,
        /// Exact at `seq`.
        unread_total: u64,
        /// The largest part of it, by conversation.
        changed: Vec<ConversationUnread>,
        /// Whether that is all.
        complete: bool,
        /// Large conversations that are further than this session knows the device to be.
        hints: Vec<LargeCursor>,
    },
    /// The inbox cannot help.
    TooLong {
        /// The data set.
        epoch: Epoch,
        /// What to adopt.
        head: InboxSeq,
        /// Oldest kept.
        first: InboxSeq,
        /// Why.
        reason: TooLongReason,
        /// For ListConversations.
        snapshot: Bytes,
    },
    /// The position was adopted.
    Resumed {
        /// Newest entry.
        head: InboxSeq,
    },
    /// Answer to Ping.
    Pong {
        /// As given.
        client_time_ms: u64,
        /// The server's clock.
        time: Timestamp,
    },
    /// The last frame.
    GoAway {
        /// Why.
        reason: GoAwayReason,
        /// When to come back.
        retry_after: Duration,
    },
    /// Durable.
    SendAck {
        /// Which message.
        id: MessageId,
        /// Where.
        conversation: ConversationId,
        /// Which row.
        seq: HistorySeq,
        /// The sender's own entry.
        inbox_seq: InboxSeq,
        /// When.
        time: Timestamp,
        /// A retry of something already there.
        duplicate: bool,
    },
    /// Done; the caller's own entry, zero = nothing changed.
    Done {
        /// The entry.
        inbox_seq: InboxSeq,
    },
    /// The read marker and what follows from it.
    MarkRead {
        /// Now.
        read_seq: HistorySeq,
        /// Of the conversation.
        unread: u64,
        /// Of the user.
        unread_total: u64,
    },
    /// A page of history.
    HistoryPage {
        /// Ascending.
        messages: Vec<PlacedMessage>,
        /// Oldest visible row.
        visible_first: HistorySeq,
        /// Newest visible row.
        visible_last: HistorySeq,
        /// The last change that the page reflects.
        mutation: MutationSeq,
        /// Nothing more in this direction.
        complete: bool,
    },
    /// Changes of messages.
    MutationPage {
        /// Ascending.
        mutations: Vec<(MutationSeq, PlacedMessage)>,
        /// Where to go on.
        last: MutationSeq,
        /// Nothing more for now.
        complete: bool,
    },
    /// Messages asked for by place; none = not there or not for this user.
    MessageItems(Vec<Option<PlacedMessage>>),
    /// Who has read a message.
    ReaderPage {
        /// In order of id.
        users: Vec<UserId>,
        /// All of them.
        reader_count: u32,
        /// For the next page; empty at the end.
        next_page_token: Bytes,
    },
    /// The presence of users just subscribed to.
    PresenceSnapshot(Vec<DevicePresence>),
    /// The user's devices.
    DevicePage(Vec<DeviceView>),
    /// Unsolicited: something of a large conversation.
    ConversationPush(Box<LargeNews>),
    /// Unsolicited: presence has changed.
    PresencePush(Vec<DevicePresence>),
    /// Unsolicited: typing and the like.
    EphemeralPush(Arc<Ephemeral>),
    /// Unsolicited: the user's total has moved.
    UnreadPush {
        /// Sum over all conversations.
        total: u64,
        /// The inbox_seq it reflects.
        position: InboxSeq,
    },
    /// A page of conversations.
    ConversationPage {
        /// In order.
        conversations: Vec<ConversationView>,
        /// For the next page; empty at the end.
        next_page_token: Bytes,
        /// The inbox_seq it reflects.
        position: InboxSeq,
        /// Of the user.
        unread_total: u64,
    },
    /// Conversations asked for by name; none = not there or not for this user.
    ConversationItems {
        /// Aligned with the request.
        items: Vec<Option<ConversationView>>,
        /// The inbox_seq it reflects.
        position: InboxSeq,
    },
    /// Unread.
    Unread {
        /// Sum over all conversations.
        total: u64,
        /// Those asked for.
        conversations: Vec<ConversationUnread>,
        /// The inbox_seq it reflects.
        position: InboxSeq,
        /// Whether the derivation was asked for.
        explain: bool,
    },
    /// A page of members.
    MemberPage {
        /// In order of id.
        members: Vec<MemberView>,
        /// For the next page; empty at the end.
        next_page_token: Bytes,
        /// All members.
        member_count: u32,
        /// Of the conversation.
        version: u64,
    },
    /// Answer to SyncPull.
    Pulled(Batch),
    /// A group was made.
    GroupCreated {
        /// Which.
        conversation: ConversationId,
        /// Members.
        member_count: u32,
        /// The creator's own entry.
        inbox_seq: InboxSeq,
        /// A retry.
        duplicate: bool,
    },
    /// What became of each user.
    MemberItems {
        /// Aligned with the request.
        outcomes: Vec<MemberOutcome>,
        /// Members afterwards.
        member_count: u32,
        /// The caller's own entry.
        inbox_seq: InboxSeq,
    },
}
