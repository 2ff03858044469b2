//! Requests as values: everything a client may ask, without its encoding.
//!
//! `wire/` turns frames into these and [`crate::reply`] into frames; sessions and the engine know
//! nothing else.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, UserId},
    message::{Draft, HistoryPolicy},
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
