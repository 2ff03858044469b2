//! What a verification tells: findings, each with its kind and place, and counts.

use std::fmt;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, UserId},
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
};

/// Findings kept in a report; more are only counted.
pub const FINDINGS_MAX: usize = 10_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// A stored value does not match its checksum or has no valid form.
    Damaged,
    /// A sequence between the oldest kept and the newest entry has no record that can be read.
    Hole,
    /// A record or key that checks is none of its kind.
    Malformed,
    /// Something names a row that is not there.
    Dangling,
    /// A message's ordinal does not follow from the one before it.
    Ordinal,
    /// A history row that its reader should have in the inbox is passed over or comes twice.
    Delivery,
    /// An inbox names a history row that its user may not see.
    Leak,
    /// The rows of a conversation and of its members do not agree.
    Membership,
    /// A read marker, or what is derived from it, does not agree with the history.
    ReadMarker,
    /// A device's cursor lies ahead of its inbox.
    Cursor,
    /// What a device has sent does not agree with the history, or is out of order.
    Sent,
    /// A message id was or could be given twice.
    MessageId,
    /// A change of a message does not agree with the message or with the change before it.
    Mutation,
    /// A part could not be read at all.
    Unreadable,
}

impl FindingKind {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Hole => "hole",
            Self::Malformed => "malformed",
            Self::Dangling => "dangling",
            Self::Ordinal => "ordinal",
            Self::Delivery => "delivery",
            Self::Leak => "leak",
            Self::Membership => "membership",
            Self::ReadMarker => "read-marker",
            Self::Cursor => "cursor",
            Self::Sent => "sent",
            Self::MessageId => "message-id",
            Self::Mutation => "mutation",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A value of a tree, by its key.
    Value(String, Vec<u8>),
    /// A whole tree or family of logs.
    Tree(&'static str),
    /// An inbox entry.
    Inbox(UserId, InboxSeq),
    /// A history row.
    History(ConversationId, HistorySeq),
    /// A conversation's row.
    Conversation(ConversationId),
    /// What a user has to do with a conversation.
    Membership(UserId, ConversationId),
    /// A device's row.
    Device(UserId, DeviceId),
    /// A device's memory of a request.
    Sent(UserId, DeviceId, ClientMessageId),
    /// A change of a message.
    Mutation(ConversationId, MutationSeq),
    /// A notice.
    Notice(NoticeSeq),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(tree, key) => write!(f, "tree {tree} key {}", key.escape_ascii()),
            Self::Tree(tree) => write!(f, "tree {tree}"),
            Self::Inbox(user, seq) => write!(f, "inbox {user} {seq}"),
            Self::History(conversation, seq) => write!(f, "history {conversation} {seq}"),
            Self::Conversation(id) => write!(f, "conversation {id}"),
            Self::Membership(user, conversation) => write!(f, "membership {user} {conversation}"),
            Self::Device(user, device) => write!(f, "device {user} {device}"),
            Self::Sent(user, device, id) => write!(f, "sent {user} {device} {id}"),
            Self::Mutation(conversation, seq) => write!(f, "mutation {conversation} {seq}"),
            Self::Notice(seq) => write!(f, "notice {seq}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// Where.
    pub place: Place,
    /// For people.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, self.place, self.detail)
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stored values whose checksum was verified.
    pub values: u64,
    /// Conversations.
    pub conversations: u64,
    /// Messages.
    pub messages: u64,
    /// Inboxes.
    pub inboxes: u64,
    /// Entries of inboxes.
    pub entries: u64,
    /// Rows of users in conversations, those who have left included.
    pub memberships: u64,
    /// Devices.
    pub devices: u64,
    /// Requests that devices' retries are recognised by.
    pub sent: u64,
    /// Changes of messages.
    pub mutations: u64,
    /// Messages, changes and notices that a repair could not find and put a mark in the place of.
    pub lost: u64,
}

/// The outcome of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first [`FINDINGS_MAX`], in the order they were found.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub findings_left_out: u64,
    /// How much was looked at.
    pub counts: Counts,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn add(&mut self, kind: FindingKind, place: Place, detail: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { kind, place, detail: detail.into() });
        } else {
            self.findings_left_out += 1;
        }
    }
}
