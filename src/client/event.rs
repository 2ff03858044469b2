//! What a client tells its consumer.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{error::ClientError, replica::Position};
use crate::wire::proto;

/// What happened, in the order in which it happened.
///
/// Entries, large conversations and snapshots are never dropped; of presence and totals the newest is
/// kept. Of the others, which only tell the state, the oldest are dropped when a consumer takes none
/// for long.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session is open: the server's side of the version compare.
    Connected(Box<proto::Welcome>),
    /// One entry of the inbox. Every seq after the position comes once and in order.
    Entry {
        /// Its inbox_seq.
        seq: u64,
        /// What it says. An entry of a kind this library does not know has none.
        entry: proto::Entry,
    },
    /// Everything up to its seq has been given; what follows is live.
    CaughtUp(Box<proto::CaughtUp>),
    /// The inbox could not bring this device up to date: start over from this.
    Snapshot(Snapshot),
    /// The next of a large conversation, whose messages are not entries of the inbox.
    Large(Box<LargeEvent>),
    /// Devices of users subscribed to have come or gone: what each of them is now.
    Presence(Vec<proto::DevicePresence>),
    /// Typing and the like.
    Ephemeral(Box<proto::EphemeralPush>),
    /// The sum of unread has moved because of large conversations.
    Unread(proto::UnreadPush),
    /// The connection is gone; the client comes back by itself.
    Disconnected {
        /// Why.
        error: ClientError,
        /// When.
        retry_in: Duration,
    },
}

/// All conversations of the user. Replaces what the consumer has; cached messages stay true, unless the
/// reason is Epoch or Ahead: then the same numbers may name other messages.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where the inbox goes on. Store it together with the conversations.
    pub position: Position,
    /// Why the inbox was not enough.
    pub reason: proto::TooLongReason,
    /// Every conversation once, as it was at `position` or later.
    pub conversations: Vec<proto::Conversation>,
    /// Sum of unread at the last page.
    pub unread_total: u64,
    /// From where on messages of large conversations come as [`Event::Large`]. Store these, too.
    pub large: Vec<proto::ConversationCursor>,
}

/// The next of a large conversation: its messages come once each and in order, whatever was missed.
///
/// Store the cursor together with what came, and give all of them back in
/// [`super::ClientConfig::large`] after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct LargeEvent {
    /// Which conversation, and how far the device has it with this event.
    pub cursor: proto::ConversationCursor,
    /// What came.
    pub news: LargeNews,
}

/// What comes of a large conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum LargeNews {
    /// From here on messages of this conversation come in this way.
    Begins,
    /// The next message this user may see, as it was when it was read.
    Message(proto::Message),
    /// A message that was given before, as it is after a change. After a lost connection or a change of
    /// mode it may be the same once more.
    Changed(proto::Message),
    /// Members or settings have changed: ask again when it matters.
    Version,
    /// Messages of this conversation no longer come in this way: forget the cursor.
    Ends,
}

/// Whether there is a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Connecting or greeting.
    Connecting,
    /// Open since Welcome.
    Open,
    /// Waits until then before it connects again.
    Waiting(Instant),
    /// Over for good.
    Ended,
}

/// A client at one moment, for those who show it to people.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether there is a session.
    pub link: Link,
    /// Up to where the consumer has dealt with the inbox; none = there is no copy.
    pub position: Option<Position>,
    /// The last entry received.
    pub received: u64,
    /// The newest entry the server has told of.
    pub head: u64,
    /// The last entry acked.
    pub acked: u64,
    /// When the next ack goes out at the latest; none = nothing waits.
    pub ack_due: Option<Instant>,
    /// Events that wait for the consumer.
    pub events_waiting: usize,
    /// Large conversations of which something is known to be missing and is being fetched.
    pub large_behind: usize,
    /// Requests without a reply.
    pub in_flight: usize,
    /// Batches received on all sessions.
    pub batches: u64,
    /// Acks sent on all sessions.
    pub acks: u64,
    /// Entries of the last batch.
    pub last_batch_entries: u64,
    /// Bytes of the last batch.
    pub last_batch_bytes: u64,
}

/// Is told what happens on the wire, on the client's task: it must not block.
#[derive(Clone)]
pub struct Tracer(Arc<dyn Fn(&Trace) + Send + Sync>);

impl Tracer {
    /// From a function.
    pub fn new(tell: impl Fn(&Trace) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, trace: &Trace) {
        (self.0)(trace);
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

/// One step of the protocol, as the client sees it.
#[derive(Clone, Debug)]
pub enum Trace {
    /// A connection is there and Hello goes out.
    Hello {
        /// Where the device's copy ends; none = it has none.
        resume: Option<Position>,
    },
    /// The server has compared the versions.
    Welcome(Box<proto::Welcome>),
    /// Entries have come.
    Batch {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// The newest the server has.
        head: u64,
        /// Bytes of the frame.
        bytes: u64,
        /// How many were known already, and dropped.
        known: u64,
    },
    /// An ack goes out.
    Ack {
        /// Up to where.
        seq: u64,
        /// It rides on another frame.
        rides: bool,
    },
    /// The stream has reached the newest entry.
    CaughtUp {
        /// Which one.
        seq: u64,
        /// The sum of unread there.
        unread_total: u64,
    },
    /// The inbox is not enough.
    TooLong(Box<proto::TooLong>),
    /// A page of the snapshot has come.
    Page {
        /// Conversations in it.
        conversations: usize,
        /// It was the last.
        complete: bool,
    },
    /// The snapshot's position is adopted.
    Resume(Position),
    /// Something of a large conversation has come by itself.
    LargePush(Box<proto::ConversationPush>),
    /// What is missing of a large conversation is asked for.
    LargeFetch {
        /// Which.
        conversation: String,
        /// Changes of messages rather than messages.
        changes: bool,
        /// After this one.
        after: u64,
    },
    /// A page of what was missing has come.
    LargePage {
        /// Which.
        conversation: String,
        /// How many messages or changes the page has.
        count: usize,
        /// Nothing more is missing on the server's side.
        complete: bool,
    },
}
