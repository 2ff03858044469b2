//! Stored form of a message: one row of a history, with its body.

use bytes::{BufMut, Bytes, BytesMut};

use super::Alike;
use crate::{
    id::{ClientMessageId, MessageId},
    message::{Draft, Message, MessageFlags},
    seq::HistorySeq,
    store::codec::{
        LOST, Malformed, is_lost, packed, put_id, put_slice, put_varint, read_id, read_slice,
        read_u8, read_varint,
    },
    time::Timestamp,
};

const VERSION: u8 = 1;
const SILENT: u8 = 1;
const UNCOUNTED: u8 = 2;
const NO_PUSH: u8 = 4;
/// A message has about so many bytes besides its content.
const ABOUT_BYTES: usize = 128;

/// The stored bytes of a message.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let draft = &message.draft;
    packed(ABOUT_BYTES + draft.content.len(), |out| put(message, out))
}

fn put(message: &Message, out: &mut BytesMut) {
    let draft = &message.draft;
    out.put_u8(VERSION);
    let flags = &draft.flags;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    out.put_u8(
        bit(flags.silent, SILENT) | bit(flags.uncounted, UNCOUNTED) | bit(flags.no_push, NO_PUSH),
    );
    put_varint(out, message.id.number());
    put_id(out, message.sender.as_bytes());
    put_id(out, message.device.as_bytes());
    put_varint(out, message.client_id.number());
    put_varint(out, message.time.millis());
    put_varint(out, message.ordinal);
    put_varint(out, draft.created_at.millis());
    put_varint(out, draft.reply_to.number());
    put_varint(out, draft.mentions.len() as u64);
    for user in &draft.mentions {
        put_id(out, user.as_bytes());
    }
    put_slice(out, draft.content_type.as_bytes());
    put_slice(out, &draft.content);
}

/// The message of stored bytes; the content shares them.
///
/// # Errors
/// [`Malformed`] when the bytes are not a message.
pub fn decode(record: Bytes) -> Result<Message, Malformed> {
    decode_alike(record, &mut Alike::default())
}

/// As [`decode`], one of several.
///
/// # Errors
/// As [`decode`].
pub fn decode_alike(mut record: Bytes, alike: &mut Alike) -> Result<Message, Malformed> {
    let input = &mut record;
    if read_u8(input)? != VERSION {
        return Err(Malformed);
    }
    let flags = read_u8(input)?;
    let id = MessageId::new(read_varint(input)?);
    let sender = alike.senders.read_id(input)?;
    let device = alike.devices.read_id(input)?;
    let client_id = ClientMessageId::new(read_varint(input)?);
    let time = Timestamp::from_millis(read_varint(input)?);
    let ordinal = read_varint(input)?;
    let created_at = Timestamp::from_millis(read_varint(input)?);
    let reply_to = HistorySeq::new(read_varint(input)?);
    let mut mentions = Vec::new();
    for _ in 0..read_varint(input)? {
        mentions.push(read_id(input)?);
    }
    let content_type = alike.types.read_text(input)?;
    let content = read_slice(input)?;
    let flags = MessageFlags {
        silent: flags & SILENT != 0,
        uncounted: flags & UNCOUNTED != 0,
        no_push: flags & NO_PUSH != 0,
    };
    let draft = Draft { created_at, content_type, content, reply_to, mentions, flags };
    Ok(Message { id, sender, device, client_id, time, ordinal, draft })
}

/// The stored bytes of a message that a repair could not find. `ordinal` goes on from the row before,
/// so that unread stays a subtraction.
#[must_use]
pub fn encode_lost(ordinal: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u8(LOST);
    put_varint(&mut out, ordinal);
    out.freeze()
}

/// The ordinal of a row, of a message or of a lost one; none when the bytes are neither.
#[must_use]
pub fn ordinal(record: &Bytes) -> Option<u64> {
    if is_lost(record) {
        return read_varint(&mut record.slice(1..)).ok();
    }
    decode(record.clone()).ok().map(|message| message.ordinal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{DeviceId, UserId};

    proptest! {
        #[test]
        fn messages_round_trip(
            numbers: [u64; 6],
            flags: [bool; 3],
            content: Vec<u8>,
            sender in "[a-z]{1,64}",
            mentions in proptest::collection::vec("[a-z]{1,8}", 0..4),
        ) {
            let user = |s: &str| UserId::new(s).unwrap();
            let message = Message {
                id: MessageId::new(numbers[0]),
                sender: user(&sender),
                device: DeviceId::new("phone").unwrap(),
                client_id: ClientMessageId::new(numbers[1]),
                time: Timestamp::from_millis(numbers[2]),
                ordinal: numbers[3],
                draft: Draft {
                    created_at: Timestamp::from_millis(numbers[4]),
                    content_type: "text/plain".into(),
                    content: content.into(),
                    reply_to: HistorySeq::new(numbers[5]),
                    mentions: mentions.iter().map(|m| user(m)).collect(),
                    flags: MessageFlags { silent: flags[0], uncounted: flags[1], no_push: flags[2] },
                },
            };
            let bytes = encode(&message);
            prop_assert_eq!(decode(bytes.clone()), Ok(message));
            prop_assert_eq!(decode(bytes.slice(..bytes.len() / 2)), Err(Malformed));
        }

        /// However often a text comes again, among others: read together, rows are what each is alone.
        #[test]
        fn rows_read_together_are_what_each_is(
            rows in proptest::collection::vec(("[a-f]{1,2}", "[a-f]{1,2}", "[a-f]{0,2}"), 1..60),
            cut in 0usize..40,
        ) {
            let mut alike = Alike::default();
            for (sender, device, content_type) in rows {
                let message = Message {
                    id: MessageId::new(1),
                    sender: UserId::new(&sender).unwrap(),
                    device: DeviceId::new(&device).unwrap(),
                    client_id: ClientMessageId::new(1),
                    time: Timestamp::default(),
                    ordinal: 1,
                    draft: Draft {
                        created_at: Timestamp::default(),
                        content_type: content_type.as_str().into(),
                        content: Bytes::from_static(b"content"),
                        reply_to: HistorySeq::ZERO,
                        mentions: Vec::new(),
                        flags: MessageFlags::default(),
                    },
                };
                let bytes = encode(&message);
                prop_assert_eq!(decode_alike(bytes.clone(), &mut alike), Ok(message));
                let short = bytes.slice(..cut.min(bytes.len() - 1));
                prop_assert_eq!(decode_alike(short, &mut alike), Err(Malformed));
            }
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = decode(Bytes::from(bytes));
        }
    }
}
