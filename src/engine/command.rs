//! What goes into the engine and what comes out.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, SessionId, UserId},
    reply::{ConversationUnread, Reply, Verdict},
    request::{Direction, LargeCursor, Position, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
    time::Timestamp,
};

/// Who speaks: stamped from the session, never from a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// From the verified token.
    pub user: UserId,
    /// From Hello.
    pub device: DeviceId,
    /// Which life of the device.
    pub session: SessionId,
    /// The token has the scope `admin`.
    pub admin: bool,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// A session opens: compare versions.
    Attach {
        /// Where the device's copy ends.
        resume: Option<Position>,
        /// More missing than this: too long. 0 = no limit.
        missed_entries: u32,
        /// Free text.
        platform: Arc<str>,
        /// When the token was made: it may have been revoked since.
        issued: Timestamp,
        /// The application is in the background.
        background: bool,
    },
    /// The session is over. Nothing is answered.
    Detach,
    /// After TooLong: compare again.
    Resume(Position),
    /// The stream has reached the head: what is the state there?
    CaughtUp,
    /// The device has stored everything up to here.
    Cursor(InboxSeq),
    /// A request of the protocol.
    Request(Request),
}

impl Command {
    /// Whether it is done in a moment, however much is stored: at most some rows are read, and as many
    /// written as a conversation with an inbox for each member may have.
    #[must_use]
    pub fn is_short(&self) -> bool {
        match self {
            Self::Cursor(_) => true,
            Self::Request(request) => matches!(
                request,
                Request::Send { .. }
                    | Request::SendEphemeral { .. }
                    | Request::Recall { .. }
                    | Request::Edit { .. }
                    | Request::FetchHistory { .. }
                    | Request::FetchMessages { .. }
                    | Request::FetchMutations { .. }
                    | Request::SyncPull { .. }
            ),
            Self::Attach { .. } | Self::Detach | Self::Resume(_) | Self::CaughtUp => false,
        }
    }

    /// Whether the answer tells the user's unread total.
    pub(super) fn tells_total(&self) -> bool {
        match self {
            Self::Attach { .. } | Self::Resume(_) | Self::CaughtUp => true,
            Self::Request(request) => matches!(
                request,
                Request::MarkRead { .. }
                    | Request::GetUnread { .. }
                    | Request::ListConversations { .. }
            ),
            Self::Detach | Self::Cursor(_) => false,
        }
    }
}

/// The outcome of the version compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The data set.
    pub epoch: Epoch,
    /// Newest entry.
    pub head: InboxSeq,
    /// Oldest kept entry.
    pub first: InboxSeq,
    /// Stored cursor.
    pub cursor: InboxSeq,
    /// What follows.
    pub verdict: Verdict,
    /// For the TooLong path.
    pub snapshot: Bytes,
    /// Exact at `head`.
    pub unread_total: u64,
    /// Highest accepted number of the device.
    pub last_client_id: ClientMessageId,
}

/// Leave to read a part of a history: what the engine, which knows who may see what, allows the
/// session to fetch on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryGrant {
    /// Which history.
    pub conversation: ConversationId,
    /// Rows to read.
    pub span: Span,
    /// Content bytes to stop at.
    pub max_bytes: usize,
    /// Which way the page goes, hence which end is cut when there is too much.
    pub direction: Direction,
    /// Everything visible, gaps included.
    pub visible: Span,
}

/// Leave to read a part of a conversation's changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutationGrant {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Changes after this one ...
    pub after: MutationSeq,
    /// ... up to this one: the last that concerns the user.
    pub upto: MutationSeq,
    /// Most messages to tell.
    pub limit: u32,
}

/// Leave to find out who has read a message of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadersGrant {
    /// Which group.
    pub conversation: ConversationId,
    /// Which message.
    pub seq: HistorySeq,
    /// Only those after this one go into the page.
    pub after: Option<UserId>,
    /// As many go into the page.
    pub limit: usize,
}

/// What the engine answers. Leaves the process only after the next flush.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing to say.
    Nothing,
    /// Ready as it is.
    Reply(Reply),
    /// Ready but for previews: the last message of each conversation is to be read.
    Previews(Reply),
    /// Read this page of history.
    History(HistoryGrant),
    /// Read these changes, and the messages as they are now.
    Mutations(MutationGrant),
    /// Read the messages at these places; none = not there or not for this user.
    Messages(Vec<Option<(ConversationId, HistorySeq)>>),
    /// Find out who has read a message.
    Readers(ReadersGrant),
    /// Read these entries of the caller's inbox, up to the second one.
    Pull(InboxSeq, InboxSeq, u32),
    /// Version compare of a session that opens.
    Attached(Box<Compared>),
    /// Version compare after TooLong.
    Resumed(Box<Compared>),
    /// The state at the head.
    CaughtUp {
        /// Position of everything below.
        seq: InboxSeq,
        /// Of the user.
        unread_total: u64,
        /// The largest part of it.
        changed: Vec<ConversationUnread>,
        /// Whether that is all.
        complete: bool,
        /// The ends of the user's large conversations, at the same moment.
        large: Vec<LargeCursor>,
    },
}

/// The newest message of a conversation, as far as counting and sorting need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) head: HistorySeq,
    pub(super) ordinal: u64,
    pub(super) time: Timestamp,
    /// The last change of any of its messages.
    pub(super) mutation: MutationSeq,
}

impl Tip {
    /// Of a conversation made just now.
    pub(super) fn new(time: Timestamp) -> Self {
        Self { head: HistorySeq::ZERO, ordinal: 0, time, mutation: MutationSeq::ZERO }
    }
}
