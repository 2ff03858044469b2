//! What is known of one device: its cursor, when it was seen, and whether it was revoked.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    seq::InboxSeq,
    store::codec::{Malformed, packed, put_slice, put_varint, read_text, read_u8, read_varint},
    time::Timestamp,
};

const VERSION: u8 = 1;

/// Row of [`crate::store::catalogue::Table::Device`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Everything up to here is stored on the device, by its own word.
    pub cursor: InboxSeq,
    /// First session.
    pub first_seen: Timestamp,
    /// Start or end of the latest session; after a crash, its start.
    pub last_seen: Timestamp,
    /// Free text from Hello.
    pub platform: Arc<str>,
}

impl Device {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        packed(32 + self.platform.len(), |out| {
            out.put_u8(VERSION);
            put_varint(out, self.cursor.number());
            put_varint(out, self.first_seen.millis());
            put_varint(out, self.last_seen.millis());
            put_slice(out, self.platform.as_bytes());
        })
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
            cursor: InboxSeq::new(read_varint(input)?),
            first_seen: Timestamp::from_millis(read_varint(input)?),
            last_seen: Timestamp::from_millis(read_varint(input)?),
            platform: read_text(input)?,
        })
    }
}

/// Row of [`crate::store::catalogue::Table::Revocation`]: tokens of the device made by then are
/// worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When it was said.
    pub time: Timestamp,
}

impl Revocation {
    /// Whether it includes a token made at this time. Tokens know whole seconds only, so one made in
    /// the second of the revocation is included.
    #[must_use]
    pub fn includes(self, issued: Timestamp) -> bool {
        issued.millis() / 1000 <= self.time.millis() / 1000
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(8);
        out.put_u8(VERSION);
        put_varint(&mut out, self.time.millis());
        out.freeze()
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        if read_u8(&mut row)? != VERSION {
            return Err(Malformed);
        }
        Ok(Self { time: Timestamp::from_millis(read_varint(&mut row)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_includes_the_second_it_was_said_in() {
        let revocation = Revocation { time: Timestamp::from_millis(5_500) };
        for (issued, included) in [(0, true), (5_000, true), (5_999, true), (6_000, false)] {
            assert_eq!(revocation.includes(Timestamp::from_millis(issued)), included, "{issued}");
        }
        assert_eq!(&revocation.encode()[..], b"\x01\xfc\x2a");
        assert_eq!(Revocation::decode(revocation.encode()), Ok(revocation));
        assert_eq!(Revocation::decode(revocation.encode().slice(..1)), Err(Malformed));
    }
}
