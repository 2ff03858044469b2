//! Replies and pushes as values: everything the server may say, without its encoding.

mod view;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::view::{
    ConversationUnread, ConversationView, DevicePresence, DeviceView, EntryView, Ephemeral,
    LargeNews, MemberView, MessageItem, NoticeView, PlacedMessage, PresenceState,
};
use crate::{
    id::{ClientMessageId, ConversationId, Epoch, MessageId, SessionId, UserId},
    refusal::Refusal,
    request::{Feature, LargeCursor},
    seq::{HistorySeq, InboxSeq, MutationSeq},
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
    /// What both sides have.
    pub features: Vec<Feature>,
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
    /// Messages asked for by place, in order.
    MessageItems(Vec<MessageItem>),
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
