//! Requests as values: everything a client may ask, without its encoding.
//!
//! `wire/` turns frames into these and [`crate::reply`] into frames; sessions and the engine know
//! nothing else.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, UserId},
    message::{Draft, HistoryPolicy, Role},
    seq::{HistorySeq, InboxSeq, MutationSeq},
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
    /// How far the device has large conversations.
    pub cursors: Vec<LargeCursor>,
    /// The application is in the background.
    pub background: bool,
    /// What the client offers, as far as this server knows it; each once.
    pub features: Vec<Feature>,
}

/// An ability that client and server may both have. It only tells: nothing is done differently for a
/// client without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Conversations whose messages do not go to inboxes.
    LargeGroups,
    /// Who is there.
    Presence,
    /// Notifications by a hook.
    Push,
    /// Recall, edit, delete for everyone and the feed of them.
    Mutations,
}

/// A place in a large conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeCursor {
    /// Which.
    pub conversation: ConversationId,
    /// The last message.
    pub history: HistorySeq,
    /// The last mutation.
    pub mutation: MutationSeq,
    /// Changes with members and settings.
    pub version: u64,
}

/// What is to change in a user's preferences; none = stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreferencesChange {
    /// On top of recents.
    pub pinned: Option<bool>,
    /// No push notifications.
    pub muted: Option<bool>,
    /// Not shown in recents.
    pub hidden: Option<bool>,
    /// An unsent text.
    pub draft: Option<Bytes>,
}

/// A text that is not for logs: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &Arc<str> {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Whom a notice is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeTo {
    /// One user.
    User(UserId),
    /// The members of a conversation.
    Conversation(ConversationId),
    /// Every user with a device that was not revoked.
    Everyone,
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
        /// The other user of a direct conversation may see it.
        peer_visible: bool,
    },
    /// Shows a conversation as unread.
    MarkUnread {
        /// Which.
        conversation: ConversationId,
    },
    /// Hides everything up to a message from the user.
    ClearConversation {
        /// Which.
        conversation: ConversationId,
        /// Up to which message.
        to: HistorySeq,
    },
    /// Changes the user's preferences.
    SetPreferences {
        /// Of which conversation.
        conversation: ConversationId,
        /// What.
        change: PreferencesChange,
    },
    /// Takes a message back for everyone.
    Recall {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seq: HistorySeq,
    },
    /// Gives a message new content.
    Edit {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seq: HistorySeq,
        /// As in [`Draft::content_type`].
        content_type: Arc<str>,
        /// As in [`Draft::content`].
        content: Bytes,
        /// The revision it replaces, if that matters.
        base_revision: Option<u32>,
    },
    /// Hides messages from the user.
    DeleteForMe {
        /// Where.
        conversation: ConversationId,
        /// 1..=[`crate::limits::HIDE_PER_CALL_MAX`].
        seqs: Vec<HistorySeq>,
    },
    /// Takes a message away from everyone.
    DeleteForAll {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seq: HistorySeq,
    },
    /// Makes sure a message of this device is not there.
    CancelSend {
        /// Its number.
        client_id: ClientMessageId,
    },
    /// What changed in rows the client may have.
    FetchMutations {
        /// Where.
        conversation: ConversationId,
        /// After this one.
        after: MutationSeq,
        /// 1..=[`crate::limits::MUTATION_PAGE_MAX`].
        limit: u32,
    },
    /// Messages by place.
    FetchMessages {
        /// At most [`crate::limits::MESSAGE_REFS_MAX`].
        refs: Vec<(ConversationId, HistorySeq)>,
    },
    /// Who has read a message.
    GetReaders {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seq: HistorySeq,
        /// From the previous page; empty = first.
        page_token: Bytes,
        /// 1..=[`crate::limits::MEMBER_PAGE_MAX`].
        limit: u32,
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
    /// Closes a group for good.
    DisbandGroup {
        /// Which.
        conversation: ConversationId,
    },
    /// Gives a member another role.
    SetRole {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Which role.
        role: Role,
    },
    /// Gives a group another title.
    SetTitle {
        /// Which.
        conversation: ConversationId,
        /// At most [`crate::limits::TITLE_BYTES_MAX`] bytes.
        title: Arc<str>,
    },
    /// The session's own state.
    SetPresence {
        /// In the background rather than online.
        background: bool,
    },
    /// Follows the presence of users, or stops to.
    SubscribePresence {
        /// 1..=[`crate::limits::SUBSCRIBE_PER_CALL_MAX`].
        users: Vec<UserId>,
        /// Stops to.
        unsubscribe: bool,
    },
    /// Typing and the like.
    SendEphemeral {
        /// Where.
        conversation: ConversationId,
        /// As in [`Draft::content_type`].
        content_type: Arc<str>,
        /// At most [`crate::limits::EPHEMERAL_BYTES_MAX`] bytes.
        content: Bytes,
    },
    /// The user's devices.
    ListDevices,
    /// Ends the session of one of the user's devices.
    KickDevice {
        /// Which.
        device: DeviceId,
    },
    /// Forgets one of the user's devices; its tokens of today are worth nothing.
    RevokeDevice {
        /// Which.
        device: DeviceId,
    },
    /// Where the push hook may reach this device.
    RegisterPush {
        /// At most [`crate::limits::PROVIDER_BYTES_MAX`] bytes.
        provider: Arc<str>,
        /// At most [`crate::limits::PUSH_TOKEN_BYTES_MAX`] bytes; empty = nowhere any more.
        token: Secret,
    },
    /// Tells users something as the system. Scope `admin`.
    SendNotice {
        /// Whom.
        to: NoticeTo,
        /// Idempotency, in the number space of sends.
        client_id: ClientMessageId,
        /// As in [`Draft::content_type`].
        content_type: Arc<str>,
        /// As in [`Draft::content`].
        content: Bytes,
    },
    /// No body this server knows.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_token_is_not_shown() {
        let token = Secret::new("canary");
        let request = Request::RegisterPush { provider: "apns".into(), token };
        assert!(!format!("{request:?}").contains("canary"));
    }
}
