//! The catalogue: every log and every table that stands on disk, with its key and purpose.
//!
//! `docs/storage.md` shows the bytes. Keys are big-endian and prefix-bounded; an id inside a key is
//! preceded by its length, so that no key is a prefix of another.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{packed, put_id};
use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, UserId},
    seq::{HistorySeq, NoticeSeq},
};

/// A family of logs. Each log has a dense, 1-based sequence; each family has one sled tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogKind {
    /// Key: user. The user's offline log.
    Inbox = 0,
    /// Key: conversation. Its messages.
    History = 1,
    /// Key: user, device. The device's sends in order: what makes retries idempotent.
    Sent = 2,
    /// Key: conversation. What changed in its messages: the feed for rows that clients have cached.
    Mutation = 3,
    /// One log. What administrators told.
    Notice = 4,
}

impl LogKind {
    /// All families.
    pub const ALL: [Self; 5] =
        [Self::Inbox, Self::History, Self::Sent, Self::Mutation, Self::Notice];

    /// Name of the sled tree.
    #[must_use]
    pub const fn tree(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::History => "history",
            Self::Sent => "sent",
            Self::Mutation => "mutation",
            Self::Notice => "notice",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// A table: key to row, one sled tree each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Key: conversation. What it is.
    Conversation = 0,
    /// Key: user, conversation. What the user has to do with it: recents, read marker, intervals.
    Membership = 1,
    /// Key: conversation, user. Who is in it now.
    Member = 2,
    /// Key: user, device. Cursor and what is known of it.
    Device = 3,
    /// Key: user, device, client id. Sends whose client id did not increase.
    SentException = 4,
    /// Key: a name. Counters of the data set.
    Counter = 5,
    /// Key: conversation, history_seq. The latest change of a message that was changed.
    Mutated = 6,
    /// Key: user, conversation, history_seq. Messages deleted for one user.
    Hidden = 7,
    /// Key: user, conversation, history_seq. Unread messages that name the user.
    Mention = 8,
    /// Key: user, conversation. What the user wants of it.
    Preference = 9,
    /// Key: user, device. Where the push hook reaches a device.
    PushTarget = 10,
    /// Key: user, device, conversation. The outbox of the push hook.
    PushJob = 11,
    /// Key: conversation. A large conversation whose members are being told by the push hook.
    PushRound = 12,
    /// Key: user, device. Tokens made before are worth nothing.
    Revocation = 13,
    /// Key: notice. A notice that is on its way to many inboxes.
    NoticeRound = 14,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 15] = [
        Self::Conversation,
        Self::Membership,
        Self::Member,
        Self::Device,
        Self::SentException,
        Self::Counter,
        Self::Mutated,
        Self::Hidden,
        Self::Mention,
        Self::Preference,
        Self::PushTarget,
        Self::PushJob,
        Self::PushRound,
        Self::Revocation,
        Self::NoticeRound,
    ];

    /// Name of the sled tree.
    #[must_use]
    pub const fn tree(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Membership => "membership",
            Self::Member => "member",
            Self::Device => "device",
            Self::SentException => "sent_exception",
            Self::Counter => "counter",
            Self::Mutated => "mutated",
            Self::Hidden => "hidden",
            Self::Mention => "mention",
            Self::Preference => "preference",
            Self::PushTarget => "push_target",
            Self::PushJob => "push_job",
            Self::PushRound => "push_round",
            Self::Revocation => "revocation",
            Self::NoticeRound => "notice_round",
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// Key in [`Table::Counter`]: message ids below its varint are taken.
pub const MESSAGE_IDS: &[u8] = b"message_id";
/// Key in [`Table::Counter`]: the greatest time known since the wall clock was last set.
pub const CLOCK_LATEST: &[u8] = b"clock_latest";
/// Key in [`Table::Counter`]: when the wall clock was last found to have been set.
pub const CLOCK_JUMP: &[u8] = b"clock_jump";

/// Names one log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    kind: LogKind,
    bytes: Bytes,
}

impl LogKey {
    /// A user's inbox.
    #[must_use]
    pub fn inbox(user: &UserId) -> Self {
        Self { kind: LogKind::Inbox, bytes: ids(&[user.as_bytes()]) }
    }

    /// A conversation's history.
    #[must_use]
    pub fn history(conversation: &ConversationId) -> Self {
        Self { kind: LogKind::History, bytes: ids(&[conversation.as_bytes()]) }
    }

    /// A device's sends.
    #[must_use]
    pub fn sent(user: &UserId, device: &DeviceId) -> Self {
        Self { kind: LogKind::Sent, bytes: two_ids(user.as_bytes(), device.as_bytes()) }
    }

    /// The changes of a conversation's messages.
    #[must_use]
    pub fn mutations(conversation: &ConversationId) -> Self {
        Self { kind: LogKind::Mutation, bytes: ids(&[conversation.as_bytes()]) }
    }

    /// The notices.
    #[must_use]
    pub fn notices() -> Self {
        Self { kind: LogKind::Notice, bytes: ids(&[b"notice"]) }
    }

    /// The log of a family under such a key, whether or not it is one made here: for tools that must
    /// not lose what they do not understand.
    #[must_use]
    pub fn of(kind: LogKind, bytes: Bytes) -> Self {
        Self { kind, bytes }
    }

    /// Its family.
    #[must_use]
    pub fn kind(&self) -> LogKind {
        self.kind
    }

    /// The key without the sequence.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Key of [`Table::Conversation`]; also the prefix of [`Table::Member`] rows of the conversation.
#[must_use]
pub fn conversation_key(conversation: &ConversationId) -> Bytes {
    ids(&[conversation.as_bytes()])
}

/// Key of [`Table::Membership`].
#[must_use]
pub fn membership_key(user: &UserId, conversation: &ConversationId) -> Bytes {
    two_ids(user.as_bytes(), conversation.as_bytes())
}

/// Prefix of the [`Table::Membership`] and [`Table::Device`] rows of a user.
#[must_use]
pub fn user_prefix(user: &UserId) -> Bytes {
    ids(&[user.as_bytes()])
}

/// Key of [`Table::Member`].
#[must_use]
pub fn member_key(conversation: &ConversationId, user: &UserId) -> Bytes {
    ids(&[conversation.as_bytes(), user.as_bytes()])
}

/// Key of [`Table::Device`].
#[must_use]
pub fn device_key(user: &UserId, device: &DeviceId) -> Bytes {
    ids(&[user.as_bytes(), device.as_bytes()])
}

/// Key of [`Table::Mutated`]; [`conversation_key`] is the prefix of all of a conversation.
#[must_use]
pub fn mutated_key(conversation: &ConversationId, seq: HistorySeq) -> Bytes {
    placed(&[conversation.as_bytes()], seq.number())
}

/// Key of [`Table::Hidden`] and [`Table::Mention`]; [`membership_key`] is the prefix of all of a
/// user in a conversation.
#[must_use]
pub fn row_of_user_key(user: &UserId, conversation: &ConversationId, seq: HistorySeq) -> Bytes {
    placed(&[user.as_bytes(), conversation.as_bytes()], seq.number())
}

/// Key of [`Table::PushJob`]; [`device_key`] is the prefix of all of a device.
#[must_use]
pub fn push_job_key(user: &UserId, device: &DeviceId, conversation: &ConversationId) -> Bytes {
    ids(&[user.as_bytes(), device.as_bytes(), conversation.as_bytes()])
}

/// Key of [`Table::NoticeRound`].
#[must_use]
pub fn notice_key(notice: NoticeSeq) -> Bytes {
    placed(&[], notice.number())
}

/// The sequence at the end of a key that ends in one.
#[must_use]
pub fn last_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Key of [`Table::SentException`].
#[must_use]
pub fn sent_exception_key(user: &UserId, device: &DeviceId, client: ClientMessageId) -> Bytes {
    placed(&[user.as_bytes(), device.as_bytes()], client.number())
}

/// The second id of a two-id key such as [`membership_key`] or [`member_key`].
#[must_use]
pub fn second_id<T: std::str::FromStr>(key: &[u8]) -> Option<T> {
    let rest = key.get(1 + usize::from(*key.first()?)..)?;
    let id = rest.get(1..1 + usize::from(*rest.first()?))?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

/// The first id of any key made here.
#[must_use]
pub fn first_id<T: std::str::FromStr>(key: &[u8]) -> Option<T> {
    let id = key.get(1..1 + usize::from(*key.first()?))?;
    std::str::from_utf8(id).ok()?.parse().ok()
}

fn placed(parts: &[&[u8]], number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(parts.iter().map(|p| p.len() + 1).sum::<usize>() + 8);
    for part in parts {
        put_id(&mut key, part);
    }
    key.put_u64(number);
    key.freeze()
}

fn two_ids(first: &[u8], second: &[u8]) -> Bytes {
    packed(first.len() + second.len() + 2, |key| {
        put_id(key, first);
        put_id(key, second);
    })
}

fn ids(parts: &[&[u8]]) -> Bytes {
    let mut key = BytesMut::with_capacity(parts.iter().map(|p| p.len() + 1).sum());
    for part in parts {
        put_id(&mut key, part);
    }
    key.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    proptest! {
        #[test]
        fn no_key_is_a_prefix_of_another(a in "[a-c]{1,4}", b in "[a-c]{1,4}", c in "[a-c]{1,4}", d in "[a-c]{1,4}") {
            let conv = |s: &str| ConversationId::new(s).unwrap();
            let one = membership_key(&id(&a), &conv(&b));
            let two = membership_key(&id(&c), &conv(&d));
            prop_assert_eq!(one.starts_with(&two), (a.clone(), b.clone()) == (c, d));
            prop_assert_eq!(first_id::<UserId>(&one), Some(id(&a)));
            prop_assert_eq!(second_id::<ConversationId>(&one), Some(conv(&b)));
        }

        #[test]
        fn damaged_keys_never_panic(bytes: Vec<u8>) {
            let _ = first_id::<UserId>(&bytes);
            let _ = second_id::<UserId>(&bytes);
        }
    }
}
