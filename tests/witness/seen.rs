//! What the daemon shows, reduced to what may never change.

use roamd::wire::proto::{self, entry::Kind};
use xxhash_rust::xxh3::Xxh3;

/// Of a message, everything that identifies it, and a hash of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub message_id: u64,
    pub sender: String,
    pub device: String,
    pub client_id: u64,
    pub time_ms: u64,
    pub counts: bool,
    /// Of the payload, see [`payload`].
    pub hash: u64,
}

impl Row {
    /// The row of a message in its normal state; every other state is not ours.
    pub fn of(message: &proto::Message) -> Result<Self, String> {
        if message.state() != proto::MessageState::Normal {
            return Err(format!("is {:?}", message.state()));
        }
        Ok(Self {
            message_id: message.message_id,
            sender: message.sender.clone(),
            device: message.sender_device.clone(),
            client_id: message.client_message_id,
            time_ms: message.time_ms,
            counts: !message.uncounted,
            hash: payload(&message.content_type, &message.content, message.created_at_ms),
        })
    }
}

/// Hash of what the sender gave.
pub fn payload(content_type: &str, content: &[u8], created_at_ms: u64) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(content_type.as_bytes());
    hash.update(&created_at_ms.to_le_bytes());
    hash.update(content);
    hash.digest()
}

/// A change of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub action: proto::MembershipAction,
    pub users: Vec<String>,
    pub by: String,
    pub member_count: u32,
    /// The last message before it.
    pub at: u64,
}

/// One inbox entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Message { conversation: String, seq: u64, row: Row },
    Change { conversation: String, change: Change },
    Read { conversation: String, read_seq: u64 },
}

impl Seen {
    pub fn of(entry: &proto::Entry) -> Result<Self, String> {
        match &entry.kind {
            Some(Kind::Message(message)) => Ok(Self::Message {
                conversation: message.conversation_id.clone(),
                seq: message.history_seq,
                row: Row::of(message)?,
            }),
            Some(Kind::Membership(change)) => Ok(Self::Change {
                conversation: change.conversation_id.clone(),
                change: Change {
                    action: change.action(),
                    users: change.users.clone(),
                    by: change.by.clone(),
                    member_count: change.member_count,
                    at: change.history_seq,
                },
            }),
            Some(Kind::Read(read)) => Ok(Self::Read {
                conversation: read.conversation_id.clone(),
                read_seq: read.read_seq,
            }),
            other => Err(format!("is {other:?}")),
        }
    }
}
