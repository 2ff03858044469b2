//! Stored forms of what a user wants of a conversation and of single messages in it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    message::Preferences,
    store::codec::{Malformed, put_slice, read_slice, read_u8},
};

const VERSION: u8 = 1;
const PINNED: u8 = 1;
const MUTED: u8 = 2;
const HIDDEN: u8 = 4;
const UNTOLD: u8 = 8;

/// Row of [`crate::store::catalogue::Table::Preference`]; a user without one wants nothing special.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// What the user wants.
    pub wanted: Preferences,
    /// The user's devices have not been told of the last change yet.
    pub untold: bool,
}

impl Preference {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Preferences { pinned, muted, hidden, draft } = &self.wanted;
        let mut out = BytesMut::with_capacity(draft.len() + 4);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(VERSION);
        out.put_u8(
            bit(*pinned, PINNED)
                | bit(*muted, MUTED)
                | bit(*hidden, HIDDEN)
                | bit(self.untold, UNTOLD),
        );
        put_slice(&mut out, draft);
        out.freeze()
    }

    /// The row of stored bytes; the draft shares them.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        let input = &mut row;
        if read_u8(input)? != VERSION {
            return Err(Malformed);
        }
        let flags = read_u8(input)?;
        let is = |bit: u8| flags & bit != 0;
        let wanted = Preferences {
            pinned: is(PINNED),
            muted: is(MUTED),
            hidden: is(HIDDEN),
            draft: read_slice(input)?,
        };
        Ok(Self { wanted, untold: is(UNTOLD) })
    }
}

/// Row of [`crate::store::catalogue::Table::Hidden`]: a message deleted for one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// The message counts as unread, or would.
    pub counted: bool,
}

impl Hidden {
    /// The stored bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        Bytes::copy_from_slice(&[VERSION, u8::from(self.counted)])
    }

    /// The row of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a row.
    pub fn decode(mut row: Bytes) -> Result<Self, Malformed> {
        if read_u8(&mut row)? != VERSION {
            return Err(Malformed);
        }
        Ok(Self { counted: read_u8(&mut row)? != 0 })
    }
}

/// A row of [`crate::store::catalogue::Table::Mention`]: all there is to say stands in its key.
pub const MENTION: &[u8] = &[VERSION];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_round_trip_and_no_prefix_of_them_does() {
        for bits in 0..16u8 {
            let wanted = Preferences {
                pinned: bits & 1 != 0,
                muted: bits & 2 != 0,
                hidden: bits & 4 != 0,
                draft: Bytes::from_static(b"so far"),
            };
            let row = Preference { wanted, untold: bits & 8 != 0 };
            let bytes = row.encode();
            assert_eq!(Preference::decode(bytes.clone()), Ok(row));
            for len in 0..bytes.len() {
                assert_eq!(Preference::decode(bytes.slice(..len)), Err(Malformed));
            }
        }
        for counted in [false, true] {
            let row = Hidden { counted };
            assert_eq!(Hidden::decode(row.encode()), Ok(row));
            assert_eq!(Hidden::decode(row.encode().slice(..1)), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Preference::decode(Bytes::from(bytes.clone()));
            let _ = Hidden::decode(Bytes::from(bytes));
        }
    }
}
