//! A look at a frame before it is decoded: how much is in it, and is it honest protobuf?
//!
//! Decoded values take many times the bytes of their encoding (an empty sub-message is two bytes on
//! the wire and a whole struct in memory), so what will become an element is counted first, level by
//! level. What is what comes from the descriptor: `build.rs` writes a shape for each message.
//!
//! - A client may send [`FRAME_FIELDS_MAX`] fields and elements in a frame, of whatever size.
//! - The lists of a server, which are longer, may take [`DECODED_BYTES_FREE`] and
//!   [`DECODED_BYTES_FACTOR`] times the bytes of the frame. What a server has to say is never so
//!   hollow; only one that means harm is.
//!
//! Allocates nothing and panics on nothing; works on borrowed bytes and keeps no state.

use super::proto;
use crate::limits::{DECODED_BYTES_FACTOR, DECODED_BYTES_FREE, FRAME_FIELDS_MAX};

/// The shapes that `build.rs` writes.
mod shapes {
    use super::{Field, Of, Shape, proto};

    include!(concat!(env!("OUT_DIR"), "/shapes.rs"));
}

/// Why a frame is not worth decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// Not protobuf as this protocol writes it.
    #[error("the frame is not protobuf of this protocol")]
    Malformed,
    /// A `oneof` that was written twice.
    #[error("the frame has two bodies")]
    TwoBodies,
    /// More than [`FRAME_FIELDS_MAX`] fields and list elements.
    #[error("the frame has too many fields")]
    TooManyFields,
    /// Lists that would take far more memory than they have bytes.
    #[error("the lists of the frame would take far more memory than it has bytes")]
    Hollow,
}

/// The fields of a message that become values of their own; of the others nothing need be known.
struct Shape(&'static [Field]);

struct Field {
    number: u32,
    of: Of,
    /// Memory of each value beside its parent.
    bytes: usize,
}

enum Of {
    Message(&'static Shape),
    /// A list of strings or bytes.
    Values,
    /// A list of numbers, which may arrive packed in one field.
    Numbers,
}

impl Shape {
    fn field(&self, number: u32) -> Option<&'static Field> {
        self.0.iter().find(|field| field.number == number)
    }
}

impl Field {
    /// How many values this occurrence of it holds.
    fn values(&self, payload: &[u8]) -> usize {
        match self.of {
            // One that stands alone is a field without payload.
            Of::Numbers => payload.iter().filter(|&&byte| byte & 0x80 == 0).count().max(1),
            Of::Message(_) | Of::Values => 1,
        }
    }
}

/// Counts what a client sent.
///
/// # Errors
/// [`ScanError`], always fatal for the connection.
pub(super) fn scan_client(frame: &[u8]) -> Result<(), ScanError> {
    let mut left = FRAME_FIELDS_MAX;
    let mut bodies = 0;
    let mut fields = Fields(frame);
    while let Some((number, payload)) = fields.next()? {
        spend(&mut left, 1)?;
        if let Some(Field { of: Of::Message(body), .. }) = shapes::CLIENT_FRAME.field(number) {
            bodies += 1;
            if bodies > 1 {
                return Err(ScanError::TwoBodies);
            }
            walk(payload, body, &mut |field, payload| {
                spend(&mut left, field.map_or(1, |field| field.values(payload)))
            })?;
        }
    }
    Ok(())
}

/// Weighs what a server sent.
///
/// # Errors
/// [`ScanError`]: the stream is of no more use.
pub(super) fn scan_server(frame: &[u8]) -> Result<(), ScanError> {
    let mut left = DECODED_BYTES_FREE + DECODED_BYTES_FACTOR * frame.len();
    walk(frame, &shapes::SERVER_FRAME, &mut |field, payload| {
        let bytes = field.map_or(0, |field| field.values(payload) * field.bytes);
        spend(&mut left, bytes).map_err(|_| ScanError::Hollow)
    })
}

/// Shows every field of a message and of those in it to `count`.
fn walk(
    bytes: &[u8],
    shape: &'static Shape,
    count: &mut impl FnMut(Option<&'static Field>, &[u8]) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut fields = Fields(bytes);
    while let Some((number, payload)) = fields.next()? {
        let field = shape.field(number);
        count(field, payload)?;
        if let Some(Field { of: Of::Message(inner), .. }) = field {
            walk(payload, inner, count)?;
        }
    }
    Ok(())
}

fn spend(left: &mut usize, count: usize) -> Result<(), ScanError> {
    *left = left.checked_sub(count).ok_or(ScanError::TooManyFields)?;
    Ok(())
}

/// The fields of one message that are still to come.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Number and payload of the next field; the payload of a number is empty.
    fn next(&mut self) -> Result<Option<(u32, &'a [u8])>, ScanError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| ScanError::Malformed)?;
        let number = key >> 3;
        if number == 0 {
            return Err(ScanError::Malformed);
        }
        let payload = match key & 7 {
            0 => {
                self.varint()?;
                &[]
            }
            1 => self.take(8).map(|_| &[][..])?,
            5 => self.take(4).map(|_| &[][..])?,
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ScanError::Malformed)?;
                self.take(len)?
            }
            // Groups left protobuf before this protocol began; 6 and 7 never existed.
            _ => return Err(ScanError::Malformed),
        };
        Ok(Some((number, payload)))
    }

    fn varint(&mut self) -> Result<u64, ScanError> {
        let mut value: u64 = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err(ScanError::Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.take(index + 1)?;
                return Ok(value);
            }
        }
        Err(ScanError::Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ScanError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ScanError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::{FileDescriptorSet, field_descriptor_proto::Label};

    use super::{proto::server_frame::Body, *};
    use crate::limits::{HISTORY_PAGE_MAX, LIST_PAGE_MAX, MEMBER_PAGE_MAX};

    #[test]
    fn no_message_holds_itself() {
        fn depth(shape: &Shape, above: usize) -> usize {
            assert!(above < 8, "{above} levels: recursive?");
            let inner = |field: &Field| match field.of {
                Of::Message(inner) => depth(inner, above + 1),
                Of::Values | Of::Numbers => 0,
            };
            1 + shape.0.iter().map(inner).max().unwrap_or(0)
        }
        // The frame, its body, and the sub-messages of a body.
        assert_eq!(depth(&shapes::CLIENT_FRAME, 0), 3);
        // A batch, its entry, an edit, the message in it; nothing hangs below.
        assert_eq!(depth(&shapes::SERVER_FRAME, 0), 5);
    }

    #[test]
    fn every_list_and_every_pointer_of_the_descriptor_is_weighed() {
        let set = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
        let set = FileDescriptorSet::decode(&set[..]).unwrap();
        let batch = set.file[0].message_type.iter().find(|m| m.name() == "SyncBatch").unwrap();
        let entries = batch.field.iter().find(|field| field.name() == "entries").unwrap();
        let field = shapes::SYNC_BATCH.field(entries.number() as u32).unwrap();
        assert_eq!(field.bytes, size_of::<proto::Entry>());
        let boxed = &shapes::CONVERSATION_ITEM.0[0];
        assert_eq!(boxed.bytes, size_of::<proto::Conversation>());
        assert!(size_of::<proto::ConversationItem>() <= 8);
        assert!(size_of::<proto::MessageItem>() <= 16);
        let lists = |name: &str| {
            let message = set.file[0].message_type.iter().find(|m| m.name() == name).unwrap();
            message.field.iter().filter(|field| field.label() == Label::Repeated).count()
        };
        let weighed = |shape: &Shape| shape.0.iter().filter(|field| field.bytes > 0).count();
        for (name, shape) in [
            ("CaughtUp", &shapes::CAUGHT_UP),
            ("Hello", &shapes::HELLO),
            ("MembershipChange", &shapes::MEMBERSHIP_CHANGE),
            ("Message", &shapes::MESSAGE),
            ("MessageHidden", &shapes::MESSAGE_HIDDEN),
            ("Unread", &shapes::UNREAD),
            ("Welcome", &shapes::WELCOME),
        ] {
            assert_eq!(weighed(shape), lists(name), "{name}");
        }
    }

    #[test]
    fn a_server_may_not_be_hollow() {
        // Entries of nothing at all, two bytes each.
        let batch = |entries: usize| {
            let entries = vec![proto::Entry::default(); entries];
            let batch = proto::SyncBatch { entries, ..Default::default() };
            proto::ServerFrame { req_id: 0, body: Some(Body::SyncBatch(batch)) }.encode_to_vec()
        };
        assert_eq!(scan_server(&batch(2)), Ok(()));
        assert_eq!(scan_server(&batch(2000)), Err(ScanError::Hollow));
        // The least that a server has to say, as often as it may: conversations that are not seen,
        // messages that are not there, members with the shortest names, numbers.
        let honest = |body: Body| {
            let frame = proto::ServerFrame { req_id: 1, body: Some(body) }.encode_to_vec();
            assert_eq!(scan_server(&frame), Ok(()), "{} bytes", frame.len());
        };
        let most = MEMBER_PAGE_MAX as usize;
        honest(Body::ConversationItems(proto::ConversationItems {
            items: vec![proto::ConversationItem::default(); LIST_PAGE_MAX as usize],
            position: 0,
        }));
        honest(Body::MessageItems(proto::MessageItems {
            items: vec![proto::MessageItem::default(); HISTORY_PAGE_MAX as usize],
        }));
        honest(Body::ReaderPage(proto::ReaderPage {
            user_ids: vec!["a".to_owned(); most],
            ..Default::default()
        }));
        honest(Body::MemberItems(proto::MemberItems {
            outcomes: vec![1; most],
            ..Default::default()
        }));
        let hole = proto::entry::Kind::Hole(proto::Hole { detail: "damaged".to_owned() });
        let entry = proto::Entry { time_ms: 1_700_000_000_000, kind: Some(hole) };
        honest(Body::SyncBatch(proto::SyncBatch {
            entries: vec![entry; 5000],
            ..Default::default()
        }));
    }

    #[test]
    fn counts_across_levels_and_inside_packed_lists() {
        let field = |number: u32, payload: &[u8]| {
            let mut bytes = Vec::new();
            prost::encoding::bytes::encode(number, &payload.to_vec(), &mut bytes);
            bytes
        };
        // One for the body and one for each empty ref.
        let refs = |count: usize| field(32, &field(1, &[]).repeat(count));
        assert_eq!(scan_client(&refs(FRAME_FIELDS_MAX - 1)), Ok(()));
        assert_eq!(scan_client(&refs(FRAME_FIELDS_MAX)), Err(ScanError::TooManyFields));
        // DeleteForMe.history_seqs: one field, many elements.
        assert_eq!(scan_client(&field(13, &field(2, &[1; 5000]))), Err(ScanError::TooManyFields));
        // Hello.resume: the fields of a sub-message.
        let resume = field(3, &field(7, &[0x10, 1].repeat(5000)));
        assert_eq!(scan_client(&resume), Err(ScanError::TooManyFields));
    }

    #[test]
    fn refuses_what_no_client_writes() {
        for (bytes, error) in [
            (&[0x0b][..], ScanError::Malformed),             // group start
            (&[0x0c][..], ScanError::Malformed),             // group end
            (&[0x0e, 0][..], ScanError::Malformed),          // wire type 6
            (&[0x00, 0][..], ScanError::Malformed),          // field number 0
            (&[0x08][..], ScanError::Malformed),             // key without a value
            (&[0x08, 0x80][..], ScanError::Malformed),       // cut varint
            (&[0x1a, 5, 1][..], ScanError::Malformed),       // cut payload
            (&[0x2a, 0, 0x32, 0][..], ScanError::TwoBodies), // Ack and Ping
            (&[0x2a, 0, 0x2a, 0][..], ScanError::TwoBodies), // Ack twice
        ] {
            assert_eq!(scan_client(bytes), Err(error), "{bytes:x?}");
        }
        assert_eq!(
            scan_client(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            Ok(())
        );
        assert_eq!(
            scan_client(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(ScanError::Malformed)
        );
    }
}
