//! Stored forms of a conversation and of a member.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    id::UserId,
    message::{ConversationKind, HistoryPolicy, Role},
    seq::HistorySeq,
    store::codec::{
        Malformed, put_id, put_slice, put_varint, read_id, read_text, read_u8, read_varint,
    },
    time::Timestamp,
};

/// Version 1 of a conversation ends after the members.
const CONVERSATION_VERSION: u8 = 2;
const VERSION: u8 = 1;
const LARGE: u8 = 1;
const DISBANDED: u8 = 2;

/// Row of [`crate::store::catalogue::Table::Conversation`]. Changes with members and settings, not
/// with messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Raised with every change.
    pub version: u64,
    /// Direct or group.
    pub kind: ConversationKind,
    /// Of a group.
    pub title: Arc<str>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub creator: UserId,
    /// From where new members may read.
    pub policy: HistoryPolicy,
    /// Members now.
    pub member_count: u32,
    /// Its messages do not go to inboxes: more members than the fan-out limit.
    pub large: bool,
    /// Closed for good: it may be read, and nothing else.
    pub disbanded: bool,
}

impl Conversation {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.title.len());
        out.put_u8(CONVERSATION_VERSION);
        put_varint(&mut out, self.version);
        out.put_u8(match self.kind {
            ConversationKind::Direct => 1,
            ConversationKind::Group => 2,
        });
        put_slice(&mut out, self.title.as_bytes());
        put_varint(&mut out, self.created.millis());
        put_id(&mut out, self.creator.as_bytes());
        let (policy, count) = match self.policy {
            HistoryPolicy::SinceJoin => (1, 0),
            HistoryPolicy::LastN(count) => (2, count),
            HistoryPolicy::Full => (3, 0),
        };
        out.put_u8(policy);
        put_varint(&mut out, u64::from(count));
        put_varint(&mut out, u64::from(self.member_count));
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(bit(self.large, LARGE) | bit(self.disbanded, DISBANDED));
        out.freeze()
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        let input = &mut row;
        let form = read_u8(input)?;
        if !(1..=CONVERSATION_VERSION).contains(&form) {
            return Err(Malformed);
        }
        let small = |n: u64| u32::try_from(n).map_err(|_| Malformed);
        let version = read_varint(input)?;
        let kind = match read_u8(input)? {
            1 => ConversationKind::Direct,
            2 => ConversationKind::Group,
            _ => return Err(Malformed),
        };
        let title = read_text(input)?;
        let created = Timestamp::from_millis(read_varint(input)?);
        let creator = read_id(input)?;
        let policy = read_u8(input)?;
        let count = small(read_varint(input)?)?;
        let policy = match policy {
            1 => HistoryPolicy::SinceJoin,
            2 => HistoryPolicy::LastN(count),
            3 => HistoryPolicy::Full,
            _ => return Err(Malformed),
        };
        let member_count = small(read_varint(input)?)?;
        let flags = if form >= 2 { read_u8(input)? } else { 0 };
        let (large, disbanded) = (flags & LARGE != 0, flags & DISBANDED != 0);
        Ok(Self { version, kind, title, created, creator, policy, member_count, large, disbanded })
    }
}

/// Row of [`crate::store::catalogue::Table::Member`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Rights.
    pub role: Role,
    /// First row written after it joined.
    pub joined_seq: HistorySeq,
    /// When it joined.
    pub joined: Timestamp,
}

impl Member {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(24);
        out.put_u8(VERSION);
        out.put_u8(role_byte(Some(self.role)));
        put_varint(&mut out, self.joined_seq.number());
        put_varint(&mut out, self.joined.millis());
        out.freeze()
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        let input = &mut row;
        if read_u8(input)? != VERSION {
            return Err(Malformed);
        }
        Ok(Self {
            role: role_from_byte(read_u8(input)?)?.ok_or(Malformed)?,
            joined_seq: HistorySeq::new(read_varint(input)?),
            joined: Timestamp::from_millis(read_varint(input)?),
        })
    }
}

pub(super) fn role_byte(role: Option<Role>) -> u8 {
    match role {
        None => 0,
        Some(Role::Member) => 1,
        Some(Role::Admin) => 2,
        Some(Role::Owner) => 3,
    }
}

pub(super) fn role_from_byte(byte: u8) -> Result<Option<Role>, Malformed> {
    match byte {
        0 => Ok(None),
        1 => Ok(Some(Role::Member)),
        2 => Ok(Some(Role::Admin)),
        3 => Ok(Some(Role::Owner)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for policy in [HistoryPolicy::SinceJoin, HistoryPolicy::LastN(7), HistoryPolicy::Full] {
            let row = Conversation {
                version: 3,
                kind: ConversationKind::Group,
                title: "Größe".into(),
                created: Timestamp::from_millis(5),
                creator: UserId::new("a").unwrap(),
                policy,
                member_count: 300,
                large: true,
                disbanded: true,
            };
            let bytes = row.encode();
            assert_eq!(Conversation::decode(bytes.clone()), Ok(row));
            for len in 0..bytes.len() {
                assert_eq!(Conversation::decode(bytes.slice(..len)), Err(Malformed));
            }
        }
        let member = Member {
            role: Role::Admin,
            joined_seq: HistorySeq::new(9),
            joined: Timestamp::from_millis(1),
        };
        assert_eq!(Member::decode(member.encode()), Ok(member));
    }
}
