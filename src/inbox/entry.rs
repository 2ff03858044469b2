//! Stored form of an inbox entry: version, kind, time, then the kind's fields.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    message::{Entry, EntryKind, MembershipAction, MembershipChange},
    seq::HistorySeq,
    store::codec::{
        Malformed, put_id, put_slice, put_varint, read_id, read_text, read_u8, read_varint,
    },
    time::Timestamp,
};

const VERSION: u8 = 1;
const MESSAGE: u8 = 1;
const READ: u8 = 2;
const MEMBERSHIP: u8 = 3;

/// The stored bytes of an entry.
#[must_use]
pub fn encode(entry: &Entry) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    out.put_u8(VERSION);
    let kind = match &entry.kind {
        EntryKind::Message { .. } => MESSAGE,
        EntryKind::Read { .. } => READ,
        EntryKind::Membership(_) => MEMBERSHIP,
        EntryKind::Unknown => 0,
    };
    out.put_u8(kind);
    put_varint(&mut out, entry.time.millis());
    match &entry.kind {
        EntryKind::Message { conversation, seq } => {
            put_id(&mut out, conversation.as_bytes());
            put_varint(&mut out, seq.number());
        }
        EntryKind::Read { conversation, read_seq } => {
            put_id(&mut out, conversation.as_bytes());
            put_varint(&mut out, read_seq.number());
        }
        EntryKind::Membership(change) => {
            put_id(&mut out, change.conversation.as_bytes());
            out.put_u8(match change.action {
                MembershipAction::Created => 1,
                MembershipAction::Added => 2,
                MembershipAction::Removed => 3,
                MembershipAction::Left => 4,
            });
            put_id(&mut out, change.by.as_bytes());
            put_varint(&mut out, change.users.len() as u64);
            for user in &change.users {
                put_id(&mut out, user.as_bytes());
            }
            put_varint(&mut out, u64::from(change.user_count));
            put_varint(&mut out, u64::from(change.member_count));
            put_varint(&mut out, change.at.number());
            put_slice(&mut out, change.title.as_bytes());
        }
        EntryKind::Unknown => {}
    }
    out.freeze()
}

/// The entry of stored bytes. A kind this version does not know is [`EntryKind::Unknown`].
///
/// # Errors
/// [`Malformed`] when the bytes are not an entry.
pub fn decode(mut record: Bytes) -> Result<Entry, Malformed> {
    let input = &mut record;
    if read_u8(input)? != VERSION {
        return Err(Malformed);
    }
    let kind = read_u8(input)?;
    let time = Timestamp::from_millis(read_varint(input)?);
    let kind = match kind {
        MESSAGE => EntryKind::Message {
            conversation: read_id(input)?,
            seq: HistorySeq::new(read_varint(input)?),
        },
        READ => EntryKind::Read {
            conversation: read_id(input)?,
            read_seq: HistorySeq::new(read_varint(input)?),
        },
        MEMBERSHIP => EntryKind::Membership(decode_membership(input)?),
        _ => EntryKind::Unknown,
    };
    Ok(Entry { time, kind })
}

fn decode_membership(input: &mut Bytes) -> Result<MembershipChange, Malformed> {
    let conversation = read_id(input)?;
    let action = match read_u8(input)? {
        1 => MembershipAction::Created,
        2 => MembershipAction::Added,
        3 => MembershipAction::Removed,
        4 => MembershipAction::Left,
        _ => return Err(Malformed),
    };
    let by = read_id(input)?;
    let mut users = Vec::new();
    for _ in 0..read_varint(input)? {
        users.push(read_id(input)?);
    }
    let small = |n: u64| u32::try_from(n).map_err(|_| Malformed);
    Ok(MembershipChange {
        conversation,
        action,
        by,
        users,
        user_count: small(read_varint(input)?)?,
        member_count: small(read_varint(input)?)?,
        at: HistorySeq::new(read_varint(input)?),
        title: read_text(input)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{ConversationId, UserId};

    fn kinds() -> Vec<EntryKind> {
        let conversation = ConversationId::new("c").unwrap();
        let user = |s| UserId::new(s).unwrap();
        let membership = |action| {
            EntryKind::Membership(MembershipChange {
                conversation: conversation.clone(),
                action,
                by: user("a"),
                users: vec![user("b"), user("c")],
                user_count: 40,
                member_count: 41,
                at: HistorySeq::new(9),
                title: "t".into(),
            })
        };
        vec![
            EntryKind::Message { conversation: conversation.clone(), seq: HistorySeq::new(300) },
            EntryKind::Read { conversation: conversation.clone(), read_seq: HistorySeq::new(3) },
            membership(MembershipAction::Created),
            membership(MembershipAction::Added),
            membership(MembershipAction::Removed),
            membership(MembershipAction::Left),
        ]
    }

    #[test]
    fn every_kind_round_trips_and_no_prefix_of_it_does() {
        for kind in kinds() {
            let entry = Entry { time: Timestamp::from_millis(1_700_000_000_000), kind };
            let bytes = encode(&entry);
            assert_eq!(decode(bytes.clone()), Ok(entry));
            for len in 0..bytes.len() {
                assert_eq!(decode(bytes.slice(..len)), Err(Malformed));
            }
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = decode(Bytes::from(bytes));
        }
    }
}
