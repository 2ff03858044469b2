//! Stored form of an inbox entry: version, kind, time, then the kind's fields.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    message::{Entry, EntryKind, MembershipAction, MembershipChange, MutationRef, Role},
    seq::{HistorySeq, MutationSeq, NoticeSeq},
    store::codec::{
        Malformed, packed, put_id, put_slice, put_varint, read_id, read_text, read_u8, read_varint,
    },
    time::Timestamp,
};

const VERSION: u8 = 1;
const MESSAGE: u8 = 1;
const READ: u8 = 2;
const MEMBERSHIP: u8 = 3;
const RECALLED: u8 = 4;
const EDITED: u8 = 5;
const DELETED: u8 = 6;
const HIDDEN: u8 = 7;
const PEER_READ: u8 = 8;
const PREFERENCES: u8 = 9;
const CLEARED: u8 = 10;
const NOTICE: u8 = 11;
const MODE: u8 = 12;
/// A read marker that is shown as unread.
const MARKED_UNREAD: u8 = 13;

/// Most entries have no more bytes.
const ABOUT_BYTES: usize = 64;

/// The stored bytes of an entry.
#[must_use]
pub fn encode(entry: &Entry) -> Bytes {
    packed(ABOUT_BYTES, |out| put(entry, out))
}

fn put(entry: &Entry, out: &mut BytesMut) {
    out.put_u8(VERSION);
    let kind = match &entry.kind {
        EntryKind::Message { .. } => MESSAGE,
        EntryKind::Read { marked_unread: false, .. } => READ,
        EntryKind::Read { marked_unread: true, .. } => MARKED_UNREAD,
        EntryKind::Membership(_) => MEMBERSHIP,
        EntryKind::Recalled(_) => RECALLED,
        EntryKind::Edited(_) => EDITED,
        EntryKind::Deleted(_) => DELETED,
        EntryKind::Hidden { .. } => HIDDEN,
        EntryKind::PeerRead { .. } => PEER_READ,
        EntryKind::Preferences { .. } => PREFERENCES,
        EntryKind::Cleared { .. } => CLEARED,
        EntryKind::Notice { .. } => NOTICE,
        EntryKind::Mode { .. } => MODE,
        EntryKind::Unknown => 0,
    };
    out.put_u8(kind);
    put_varint(out, entry.time.millis());
    match &entry.kind {
        EntryKind::Message { conversation, seq } => {
            put_id(out, conversation.as_bytes());
            put_varint(out, seq.number());
        }
        EntryKind::Read { conversation, read_seq: seq, .. }
        | EntryKind::Cleared { conversation, cleared_to: seq } => {
            put_id(out, conversation.as_bytes());
            put_varint(out, seq.number());
        }
        EntryKind::Recalled(mutation)
        | EntryKind::Edited(mutation)
        | EntryKind::Deleted(mutation) => {
            put_id(out, mutation.conversation.as_bytes());
            put_varint(out, mutation.seq.number());
            put_varint(out, mutation.mutation.number());
            put_id(out, mutation.by.as_bytes());
        }
        EntryKind::Hidden { conversation, seqs } => {
            put_id(out, conversation.as_bytes());
            put_varint(out, seqs.len() as u64);
            for seq in seqs {
                put_varint(out, seq.number());
            }
        }
        EntryKind::PeerRead { conversation, user, read_seq } => {
            put_id(out, conversation.as_bytes());
            put_id(out, user.as_bytes());
            put_varint(out, read_seq.number());
        }
        EntryKind::Preferences { conversation } => put_id(out, conversation.as_bytes()),
        EntryKind::Notice { notice } => put_varint(out, notice.number()),
        EntryKind::Mode { conversation, large, from } => {
            put_id(out, conversation.as_bytes());
            out.put_u8(u8::from(*large));
            put_varint(out, from.number());
        }
        EntryKind::Membership(change) => {
            put_id(out, change.conversation.as_bytes());
            out.put_u8(match change.action {
                MembershipAction::Created => 1,
                MembershipAction::Added => 2,
                MembershipAction::Removed => 3,
                MembershipAction::Left => 4,
                MembershipAction::Role => 5,
                MembershipAction::Disbanded => 6,
                MembershipAction::Title => 7,
            });
            put_id(out, change.by.as_bytes());
            put_varint(out, change.users.len() as u64);
            for user in &change.users {
                put_id(out, user.as_bytes());
            }
            put_varint(out, u64::from(change.user_count));
            put_varint(out, u64::from(change.member_count));
            put_varint(out, change.at.number());
            put_slice(out, change.title.as_bytes());
            if change.action == MembershipAction::Role {
                out.put_u8(match change.role {
                    None => 0,
                    Some(Role::Member) => 1,
                    Some(Role::Admin) => 2,
                    Some(Role::Owner) => 3,
                });
            }
        }
        EntryKind::Unknown => {}
    }
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
        READ | MARKED_UNREAD => EntryKind::Read {
            conversation: read_id(input)?,
            read_seq: HistorySeq::new(read_varint(input)?),
            marked_unread: kind == MARKED_UNREAD,
        },
        MEMBERSHIP => EntryKind::Membership(decode_membership(input)?),
        RECALLED => EntryKind::Recalled(decode_mutation(input)?),
        EDITED => EntryKind::Edited(decode_mutation(input)?),
        DELETED => EntryKind::Deleted(decode_mutation(input)?),
        HIDDEN => {
            let conversation = read_id(input)?;
            let mut seqs = Vec::new();
            for _ in 0..read_varint(input)? {
                seqs.push(HistorySeq::new(read_varint(input)?));
            }
            EntryKind::Hidden { conversation, seqs }
        }
        PEER_READ => EntryKind::PeerRead {
            conversation: read_id(input)?,
            user: read_id(input)?,
            read_seq: HistorySeq::new(read_varint(input)?),
        },
        PREFERENCES => EntryKind::Preferences { conversation: read_id(input)? },
        CLEARED => EntryKind::Cleared {
            conversation: read_id(input)?,
            cleared_to: HistorySeq::new(read_varint(input)?),
        },
        NOTICE => EntryKind::Notice { notice: NoticeSeq::new(read_varint(input)?) },
        MODE => EntryKind::Mode {
            conversation: read_id(input)?,
            large: read_u8(input)? != 0,
            from: HistorySeq::new(read_varint(input)?),
        },
        _ => EntryKind::Unknown,
    };
    Ok(Entry { time, kind })
}

fn decode_mutation(input: &mut Bytes) -> Result<MutationRef, Malformed> {
    Ok(MutationRef {
        conversation: read_id(input)?,
        seq: HistorySeq::new(read_varint(input)?),
        mutation: MutationSeq::new(read_varint(input)?),
        by: read_id(input)?,
    })
}

fn decode_membership(input: &mut Bytes) -> Result<MembershipChange, Malformed> {
    let conversation = read_id(input)?;
    let action = match read_u8(input)? {
        1 => MembershipAction::Created,
        2 => MembershipAction::Added,
        3 => MembershipAction::Removed,
        4 => MembershipAction::Left,
        5 => MembershipAction::Role,
        6 => MembershipAction::Disbanded,
        7 => MembershipAction::Title,
        _ => return Err(Malformed),
    };
    let by = read_id(input)?;
    let mut users = Vec::new();
    for _ in 0..read_varint(input)? {
        users.push(read_id(input)?);
    }
    let small = |n: u64| u32::try_from(n).map_err(|_| Malformed);
    let mut change = MembershipChange {
        conversation,
        action,
        by,
        users,
        user_count: small(read_varint(input)?)?,
        member_count: small(read_varint(input)?)?,
        at: HistorySeq::new(read_varint(input)?),
        title: read_text(input)?,
        role: None,
    };
    if action == MembershipAction::Role {
        change.role = match read_u8(input)? {
            0 => None,
            1 => Some(Role::Member),
            2 => Some(Role::Admin),
            3 => Some(Role::Owner),
            _ => return Err(Malformed),
        };
    }
    Ok(change)
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
                role: (action == MembershipAction::Role).then_some(Role::Admin),
                title: "t".into(),
            })
        };
        let read = |marked_unread| EntryKind::Read {
            conversation: conversation.clone(),
            read_seq: HistorySeq::new(3),
            marked_unread,
        };
        let mutation = MutationRef {
            conversation: conversation.clone(),
            seq: HistorySeq::new(3),
            mutation: MutationSeq::new(300),
            by: user("b"),
        };
        vec![
            EntryKind::Message { conversation: conversation.clone(), seq: HistorySeq::new(300) },
            read(false),
            read(true),
            EntryKind::Recalled(mutation.clone()),
            EntryKind::Edited(mutation.clone()),
            EntryKind::Deleted(mutation),
            EntryKind::Hidden {
                conversation: conversation.clone(),
                seqs: vec![HistorySeq::new(3), HistorySeq::new(900)],
            },
            EntryKind::PeerRead {
                conversation: conversation.clone(),
                user: user("b"),
                read_seq: HistorySeq::new(3),
            },
            EntryKind::Preferences { conversation: conversation.clone() },
            EntryKind::Cleared {
                conversation: conversation.clone(),
                cleared_to: HistorySeq::new(7),
            },
            EntryKind::Notice { notice: NoticeSeq::new(5) },
            EntryKind::Mode {
                conversation: conversation.clone(),
                large: true,
                from: HistorySeq::new(70_000),
            },
            membership(MembershipAction::Role),
            membership(MembershipAction::Disbanded),
            membership(MembershipAction::Title),
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
