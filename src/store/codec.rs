//! Byte primitives of stored records: varints, length-prefixed texts, a reader that never panics.
//!
//! Records are read from disk, so every read is checked; a short or over-long record is
//! [`Malformed`], never a panic.

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Small records share blocks of so many bytes ...
const BLOCK_BYTES: usize = 16 * 1024;
/// ... up to this size. What is larger has its own.
const SHARED_BYTES_MAX: usize = 1024;

thread_local! {
    static BLOCK: Cell<BytesMut> = Cell::default();
}

/// A stored record does not have the shape its version promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored record is malformed")]
pub struct Malformed;

/// The version of a record that a repair could not find: what follows it is all that is known. To
/// whoever decodes it it is [`Malformed`], a hole for its readers; a verification knows it.
pub const LOST: u8 = 0;

/// Whether a record stands for one that a repair could not find.
#[must_use]
pub fn is_lost(record: &[u8]) -> bool {
    record.first() == Some(&LOST)
}

/// A record or key of about so many bytes, as `put` writes it. Small ones lie together in one block, so
/// that none of them costs an allocation; the block lives as long as any of them. So this is for what
/// goes to the store, whose generations end as a whole, and not for what somebody keeps.
pub fn packed(bytes: usize, put: impl FnOnce(&mut BytesMut)) -> Bytes {
    if bytes > SHARED_BYTES_MAX {
        let mut own = BytesMut::with_capacity(bytes);
        put(&mut own);
        return own.freeze();
    }
    BLOCK.with(|place| {
        let mut block = place.take();
        if block.capacity() < bytes {
            block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        put(&mut block);
        let record = block.split().freeze();
        place.set(block);
        record
    })
}

/// Appends a LEB128 varint (as in protobuf): 1 to 10 bytes.
pub fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends a varint length and the bytes.
pub fn put_slice(out: &mut impl BufMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends one length byte and the id's bytes (ids have at most 64).
pub fn put_id(out: &mut impl BufMut, id: &[u8]) {
    out.put_u8(id.len() as u8);
    out.put_slice(id);
}

/// Reads a varint from the front of `input`, which is in one piece.
///
/// # Errors
/// [`Malformed`] when the input ends early or the number passes 64 bits.
pub fn read_varint(input: &mut impl Buf) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (index, byte) in input.chunk().iter().take(10).enumerate() {
        if index == 9 && *byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            input.advance(index + 1);
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Reads one byte.
///
/// # Errors
/// [`Malformed`] at the end of the input.
pub fn read_u8(input: &mut impl Buf) -> Result<u8, Malformed> {
    if input.has_remaining() { Ok(input.get_u8()) } else { Err(Malformed) }
}

/// Reads a varint length and as many bytes, without copying.
///
/// # Errors
/// [`Malformed`] when the input is shorter than the length says.
pub fn read_slice(input: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = usize::try_from(read_varint(input)?).map_err(|_| Malformed)?;
    if len > input.len() {
        return Err(Malformed);
    }
    Ok(input.split_to(len))
}

/// Reads one length byte and an id.
///
/// # Errors
/// [`Malformed`] when the bytes are not an id.
pub fn read_id<T: std::str::FromStr>(input: &mut Bytes) -> Result<T, Malformed> {
    let len = usize::from(read_u8(input)?);
    // Where they stand: a part of the record of its own would be counted.
    let id = input.get(..len).and_then(|id| std::str::from_utf8(id).ok()).ok_or(Malformed)?;
    let id = id.parse().map_err(|_| Malformed)?;
    input.advance(len);
    Ok(id)
}

/// Reads a length-prefixed text.
///
/// # Errors
/// [`Malformed`] when the bytes are not UTF-8 or too few.
pub fn read_text(input: &mut Bytes) -> Result<Arc<str>, Malformed> {
    let len = usize::try_from(read_varint(input)?).map_err(|_| Malformed)?;
    if len == 0 {
        return Ok(no_text());
    }
    let text = input.get(..len).and_then(|text| std::str::from_utf8(text).ok());
    let text = text.ok_or(Malformed)?.into();
    input.advance(len);
    Ok(text)
}

/// The text of no length: many rows have one, and share it.
#[must_use]
pub fn no_text() -> Arc<str> {
    static NO_TEXT: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
    Arc::clone(&NO_TEXT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut input = &out[..];
            prop_assert_eq!(read_varint(&mut input), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn packed_records_are_what_was_put(records: Vec<Vec<u8>>, wrong in 0usize..2000) {
            let pack = |record: &Vec<u8>| {
                packed(record.len().abs_diff(wrong), |out| {
                    // One within the other.
                    assert_eq!(packed(3, |out| out.put_slice(b"abc")), "abc");
                    out.put_slice(record);
                })
            };
            let packed: Vec<_> = records.iter().map(pack).collect();
            prop_assert_eq!(packed, records);
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = read_varint(&mut &bytes[..]);
            let _ = read_slice(&mut Bytes::from(bytes.clone()));
            let _ = read_text(&mut Bytes::from(bytes.clone()));
            let _ = read_id::<crate::id::UserId>(&mut Bytes::from(bytes));
        }
    }
}
