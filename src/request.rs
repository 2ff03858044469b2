//! Requests, replies, pushes and refusals as values: the protocol without its encoding.
//!
//! `wire/` turns frames into these and back; sessions and the engine know nothing else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, MessageId, SessionId, UserId},
    message::{ConversationKind, Draft, HistoryPolicy, MembershipChange, Message, Role},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
};

/// What a client may say in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// 0 only for requests that have no reply.
    pub req_id: u64,
    /// A piggybacked cumulative ack; zero = none.
    pub ack: InboxSeq,
    /// What is asked.
    pub request: Request,
}

/// A position in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of which data set.
    pub epoch: Epoch,
    /// The last entry stored.
    pub seq: InboxSeq,
}

/// The opening of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub protocol_min: u32,
    /// Highest protocol version the client speaks.
    pub protocol_max: u32,
    /// Signed token, not yet verified.
    pub token: Arc<str>,
    /// The installation.
    pub device: DeviceId,
    /// Free text.
    pub platform: Arc<str>,
    /// Where the device's copy ends; none = it has no copy.
    pub resume: Option<Position>,
    /// What the client can take.
    pub limits: ClientLimits,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret.
        write!(f, "Hello({} {:?})", self.device, self.resume)
    }
}

/// What a client can take; 0 = the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Entries sent and not acked.
    pub unacked_entries: u32,
    /// Bytes sent and not acked.
    pub unacked_bytes: u32,
    /// Bytes in one batch.
    pub batch_bytes: u32,
    /// Missed entries beyond which TooLong is wanted.
    pub missed_entries: u32,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An existing conversation.
    Conversation(ConversationId),
    /// The direct conversation with this user, made if need be.
    Peer(UserId),
}

/// Which way a page goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The newest.
    Newest,
    /// Before the anchor.
    Older(HistorySeq),
    /// After the anchor.
    Newer(HistorySeq),
}

/// Everything a client may ask. Arguments are within the fixed limits of [`crate::limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Opens the session.
    Hello(Hello),
    /// After TooLong: stream from here.
    Resume(Position),
    /// A cumulative ack.
    Ack(InboxSeq),
    /// Liveness.
    Ping {
        /// Returned as it is.
        client_time_ms: u64,
    },
    /// A clean end.
    Bye,
    /// Sends a message.
    Send {
        /// Where to.
        to: Destination,
        /// Idempotency.
        client_id: ClientMessageId,
        /// What.
        draft: Draft,
    },
    /// Moves the read marker.
    MarkRead {
        /// Where.
        conversation: ConversationId,
        /// Up to which message.
        read_seq: HistorySeq,
    },
    /// Pages a history.
    FetchHistory {
        /// Which.
        conversation: ConversationId,
        /// Which way.
        direction: Direction,
        /// 1..=[`crate::limits::HISTORY_PAGE_MAX`].
        limit: u32,
        /// Content bytes to stop before; at least one message is returned.
        max_bytes: usize,
    },
    /// Lists the user's conversations.
    ListConversations {
        /// Only those with activity after this.
        since: Timestamp,
        /// Snapshot order instead of recents order.
        snapshot: Option<Bytes>,
        /// From the previous page; empty = first.
        page_token: Bytes,
        /// 1..=[`crate::limits::LIST_PAGE_MAX`].
        limit: u32,
    },
    /// Some of the user's conversations.
    GetConversations {
        /// At most [`crate::limits::LIST_PAGE_MAX`].
        conversations: Vec<ConversationId>,
    },
    /// Unread of some conversations (empty = all with unread) and the total.
    GetUnread {
        /// Which.
        conversations: Vec<ConversationId>,
        /// With the numbers it is derived from.
        explain: bool,
    },
    /// Lists members.
    ListMembers {
        /// Of what.
        conversation: ConversationId,
        /// From the previous page; empty = first.
        page_token: Bytes,
        /// 1..=[`crate::limits::MEMBER_PAGE_MAX`].
        limit: u32,
    },
    /// Reads the inbox without moving anything.
    SyncPull {
        /// After this entry.
        after: InboxSeq,
        /// 1..=[`crate::limits::PULL_PAGE_MAX`].
        limit: u32,
    },
    /// Makes a group.
    CreateGroup {
        /// Idempotency, in the number space of sends.
        client_id: ClientMessageId,
        /// Wanted id.
        conversation: Option<ConversationId>,
        /// At most [`crate::limits::TITLE_BYTES_MAX`] bytes.
        title: Arc<str>,
        /// At most [`crate::limits::ITEMS_PER_CALL_MAX`].
        users: Vec<UserId>,
        /// From where members may read.
        policy: HistoryPolicy,
    },
    /// Adds members.
    AddMembers {
        /// Where.
        conversation: ConversationId,
        /// At most [`crate::limits::ITEMS_PER_CALL_MAX`].
        users: Vec<UserId>,
    },
    /// Removes members.
    RemoveMembers {
        /// Where.
        conversation: ConversationId,
        /// At most [`crate::limits::ITEMS_PER_CALL_MAX`].
        users: Vec<UserId>,
    },
    /// Leaves a group.
    LeaveGroup {
        /// Which.
        conversation: ConversationId,
    },
    /// In the protocol, not built yet: FEATURE_OFF. Carries the request's name.
    FeatureOff(&'static str),
    /// No body this server knows.
    Unknown,
}

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
    /// What, or none when the row is damaged.
    pub message: Option<Message>,
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
    },
    /// Membership.
    Membership {
        /// When.
        time: Timestamp,
        /// What.
        change: MembershipChange,
    },
    /// The stored entry is damaged or not understood.
    Hole {
        /// When, as far as known.
        time: Timestamp,
        /// For people.
        detail: &'static str,
    },
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
    /// Changes with members and settings.
    pub version: u64,
}

/// Unread of one conversation with its derivation: `unread = last_ordinal - read_ordinal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationUnread {
    /// Which.
    pub conversation: ConversationId,
    /// Derived.
    pub unread: u64,
    /// Read marker.
    pub read_seq: HistorySeq,
    /// Newest visible row.
    pub visible_last: HistorySeq,
    /// Ordinal at the newest visible row.
    pub last_ordinal: u64,
    /// Ordinal at the read marker.
    pub read_ordinal: u64,
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
        /// Nothing more in this direction.
        complete: bool,
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

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After a while.
    AfterDelay(Duration),
    /// On a new connection, after a while.
    Reconnect(Duration),
    /// With a fresh token.
    Reauth,
    /// After the TooLong path.
    Resync,
    /// With the same client id.
    SameId,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:expr;)*) => {
        /// The error registry: what programs branch on. Numbers as in `proto/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As on the wire.
            #[must_use]
            pub const fn number(self) -> i32 { self as i32 }

            /// The registry's name, as in the proto without its prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What a client does by default after this code.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

const SOON: Duration = Duration::from_millis(500);

error_codes! {
    /// Length of zero, or a varint longer than it needs to be.
    BadFrame = 100, "BAD_FRAME", Retry::Never;
    /// Over the frame limit.
    FrameTooLarge = 101, "FRAME_TOO_LARGE", Retry::Never;
    /// Not a ClientFrame.
    Malformed = 102, "MALFORMED", Retry::Never;
    /// No known body.
    UnknownRequest = 103, "UNKNOWN_REQUEST", Retry::Never;
    /// An argument breaks a rule.
    InvalidArgument = 104, "INVALID_ARGUMENT", Retry::Never;
    /// Too many repeated elements.
    TooManyItems = 105, "TOO_MANY_ITEMS", Retry::Never;
    /// Not switched on.
    FeatureOff = 106, "FEATURE_OFF", Retry::Never;
    /// Zero or still outstanding.
    BadRequestId = 107, "BAD_REQUEST_ID", Retry::Never;
    /// More outstanding than allowed.
    TooManyRequests = 108, "TOO_MANY_REQUESTS", Retry::AfterDelay(SOON);
    /// First frame was something else.
    HelloExpected = 200, "HELLO_EXPECTED", Retry::Reconnect(SOON);
    /// First frame came too late.
    HelloTimeout = 201, "HELLO_TIMEOUT", Retry::Reconnect(SOON);
    /// The client's protocol is older than the server's.
    ClientTooOld = 202, "CLIENT_TOO_OLD", Retry::Never;
    /// The server's protocol is older than the client's.
    ServerTooOld = 203, "SERVER_TOO_OLD", Retry::Never;
    /// Token not accepted.
    Unauthenticated = 204, "UNAUTHENTICATED", Retry::Reauth;
    /// Token expired.
    TokenExpired = 205, "TOKEN_EXPIRED", Retry::Reauth;
    /// Token lacks the scope.
    ForbiddenScope = 206, "FORBIDDEN_SCOPE", Retry::Never;
    /// Not in this state.
    WrongState = 207, "WRONG_STATE", Retry::Reconnect(SOON);
    /// The user has too many devices.
    TooManyDevices = 208, "TOO_MANY_DEVICES", Retry::Never;
    /// Ack of something never sent on this session.
    AckBeyondSent = 300, "ACK_BEYOND_SENT", Retry::Resync;
    /// Foreign snapshot or page token.
    BadToken = 301, "BAD_TOKEN", Retry::Never;
    /// The position is gone.
    ResyncNeeded = 302, "RESYNC_NEEDED", Retry::Resync;
    /// Not there or not for this user.
    NotFound = 400, "NOT_FOUND", Retry::Never;
    /// May see, may not do.
    Forbidden = 401, "FORBIDDEN", Retry::Never;
    /// Same client id, other payload.
    IdempotencyConflict = 402, "IDEMPOTENCY_CONFLICT", Retry::Never;
    /// Older than what is remembered.
    Stale = 403, "STALE", Retry::Never;
    /// Content over the limit.
    ContentTooLarge = 404, "CONTENT_TOO_LARGE", Retry::Never;
    /// Anchor below what is visible.
    BelowFloor = 405, "BELOW_FLOOR", Retry::Never;
    /// Somebody else was faster.
    Conflict = 406, "CONFLICT", Retry::Never;
    /// Group is full.
    TooManyMembers = 407, "TOO_MANY_MEMBERS", Retry::Never;
    /// Too late for that.
    WindowClosed = 408, "WINDOW_CLOSED", Retry::Never;
    /// Was there, is no more.
    Gone = 409, "GONE", Retry::Never;
    /// The id is taken.
    AlreadyExists = 410, "ALREADY_EXISTS", Retry::Never;
    /// A defect of the server.
    Internal = 500, "INTERNAL", Retry::SameId;
    /// The server stops.
    Draining = 501, "DRAINING", Retry::Reconnect(SOON);
    /// The server has too much to do.
    Overloaded = 502, "OVERLOADED", Retry::AfterDelay(SOON);
    /// The caller does too much.
    RateLimited = 503, "RATE_LIMITED", Retry::AfterDelay(SOON);
    /// No space left; reads work.
    StorageFull = 504, "STORAGE_FULL", Retry::AfterDelay(Duration::from_secs(5));
    /// Repeat with the same id.
    TimeoutUnknownOutcome = 505, "TIMEOUT_UNKNOWN_OUTCOME", Retry::SameId;
}

/// A refusal: a code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct Refusal {
    /// What programs branch on.
    pub code: ErrorCode,
    /// What to do.
    pub retry: Retry,
    /// For people; says nothing about what the caller may not know.
    pub detail: String,
    /// The connection closes after it.
    pub fatal: bool,
}

impl Refusal {
    /// A refusal that leaves the connection open, with the code's default advice.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, retry: code.retry(), detail: detail.into(), fatal: false }
    }

    /// A refusal that closes the connection.
    #[must_use]
    pub fn fatal(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(code, detail) }
    }
}
