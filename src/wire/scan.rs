//! A look at a client frame before it is decoded: how much is in it, and is it honest protobuf?
//!
//! Decoded values take many times the bytes of their encoding (an empty sub-message is two bytes on
//! the wire and a whole struct in memory), so what will become an element is counted first. Three
//! levels are walked: the frame, its body, and the body's own sub-messages; the protocol has no
//! deeper or recursive requests, which a test holds against the descriptor.
//!
//! Allocates nothing and panics on nothing; works on borrowed bytes and keeps no state.

use crate::limits::FRAME_FIELDS_MAX;

/// Why a frame is not worth decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// Not protobuf as a client of this protocol writes it.
    #[error("the frame is not a ClientFrame")]
    Malformed,
    /// A `oneof` that was written twice.
    #[error("the frame has two bodies")]
    TwoBodies,
    /// More than [`FRAME_FIELDS_MAX`] fields and list elements.
    #[error("the frame has too many fields")]
    TooManyFields,
}

/// The field numbers of `ClientFrame.body`.
pub(super) const BODIES: &[u32] = &[
    3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 30, 31, 32, 33, 34, 35, 36, 37, 38, 40,
    41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 55, 56, 60,
];

/// Sub-messages of bodies: (body, field).
pub(super) const SUB_MESSAGES: &[(u32, u32)] = &[(3, 7), (3, 8), (3, 9), (4, 1), (23, 1), (32, 1)];

/// Lists of numbers in bodies, which arrive packed in one field: (body, field).
pub(super) const PACKED: &[(u32, u32)] = &[(3, 3), (13, 2)];

/// Walks the frame and counts.
///
/// # Errors
/// [`ScanError`], always fatal for the connection.
pub(super) fn scan(frame: &[u8]) -> Result<(), ScanError> {
    let mut left = FRAME_FIELDS_MAX;
    let mut bodies = 0;
    let mut fields = Fields(frame);
    while let Some((number, payload)) = fields.next()? {
        spend(&mut left, 1)?;
        if !BODIES.contains(&number) {
            continue;
        }
        bodies += 1;
        if bodies > 1 {
            return Err(ScanError::TwoBodies);
        }
        scan_body(number, payload, &mut left)?;
    }
    Ok(())
}

fn scan_body(body: u32, bytes: &[u8], left: &mut usize) -> Result<(), ScanError> {
    let mut fields = Fields(bytes);
    while let Some((number, payload)) = fields.next()? {
        spend(left, 1)?;
        if SUB_MESSAGES.contains(&(body, number)) {
            let mut inner = Fields(payload);
            while inner.next()?.is_some() {
                spend(left, 1)?;
            }
        } else if PACKED.contains(&(body, number)) {
            spend(left, payload.iter().filter(|&&byte| byte & 0x80 == 0).count())?;
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
    use prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
        field_descriptor_proto::{Label, Type},
    };

    use super::*;

    #[test]
    fn the_tables_agree_with_the_descriptor() {
        let set = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
        let set = FileDescriptorSet::decode(&set[..]).unwrap();
        let messages = &set.file[0].message_type;
        let find = |field: &FieldDescriptorProto| -> &DescriptorProto {
            let name = field.type_name().trim_start_matches(".roamd.v1.");
            messages.iter().find(|m| m.name() == name).unwrap()
        };
        let is_message = |f: &&FieldDescriptorProto| f.r#type() == Type::Message;
        let is_packed = |f: &&FieldDescriptorProto| {
            f.label() == Label::Repeated
                && !matches!(f.r#type(), Type::Message | Type::String | Type::Bytes)
        };

        let frame = messages.iter().find(|m| m.name() == "ClientFrame").unwrap();
        let (mut bodies, mut subs, mut packed) = (vec![], vec![], vec![]);
        for body in frame.field.iter().filter(is_message) {
            bodies.push(body.number() as u32);
            let key = |f: &FieldDescriptorProto| (body.number() as u32, f.number() as u32);
            packed.extend(find(body).field.iter().filter(is_packed).map(key));
            for sub in find(body).field.iter().filter(is_message) {
                subs.push(key(sub));
                assert_eq!(find(sub).field.iter().find(is_message), None, "a fourth level");
                assert_eq!(find(sub).field.iter().find(is_packed), None, "a list down there");
            }
        }
        assert_eq!(
            (bodies.as_slice(), subs.as_slice(), packed.as_slice()),
            (BODIES, SUB_MESSAGES, PACKED)
        );
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
        assert_eq!(scan(&refs(FRAME_FIELDS_MAX - 1)), Ok(()));
        assert_eq!(scan(&refs(FRAME_FIELDS_MAX)), Err(ScanError::TooManyFields));
        // DeleteForMe.history_seqs: one field, many elements.
        assert_eq!(scan(&field(13, &field(2, &[1; 5000]))), Err(ScanError::TooManyFields));
        // Hello.resume: the fields of a sub-message.
        let resume = field(3, &field(7, &[0x10, 1].repeat(5000)));
        assert_eq!(scan(&resume), Err(ScanError::TooManyFields));
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
            assert_eq!(scan(bytes), Err(error), "{bytes:x?}");
        }
        assert_eq!(scan(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(()));
        assert_eq!(
            scan(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(ScanError::Malformed)
        );
    }
}
