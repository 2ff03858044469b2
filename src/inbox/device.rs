//! What is known of one device: its cursor and when it was seen.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    seq::InboxSeq,
    store::codec::{Malformed, put_slice, put_varint, read_text, read_u8, read_varint},
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
    /// Start of the latest session.
    pub last_seen: Timestamp,
    /// Free text from Hello.
    pub platform: Arc<str>,
}

impl Device {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.platform.len());
        out.put_u8(VERSION);
        put_varint(&mut out, self.cursor.number());
        put_varint(&mut out, self.first_seen.millis());
        put_varint(&mut out, self.last_seen.millis());
        put_slice(&mut out, self.platform.as_bytes());
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
            cursor: InboxSeq::new(read_varint(input)?),
            first_seen: Timestamp::from_millis(read_varint(input)?),
            last_seen: Timestamp::from_millis(read_varint(input)?),
            platform: read_text(input)?,
        })
    }
}
