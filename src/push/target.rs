//! Where the hook reaches a device.

use std::{fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    store::codec::{Malformed, put_slice, put_varint, read_text, read_u8, read_varint},
    time::Timestamp,
};

const VERSION: u8 = 1;

/// Row of [`crate::store::catalogue::Table::PushTarget`].
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// A label the hook understands.
    pub provider: Arc<str>,
    /// Given by the device; a secret.
    pub token: Arc<str>,
    /// When.
    pub registered: Timestamp,
    /// The device has a session in the foreground, or had one when the daemon was killed: entries it
    /// has not acked were not turned into jobs.
    pub attended: bool,
}

impl fmt::Debug for Target {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("provider", &self.provider)
            .field("attended", &self.attended)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16 + self.provider.len() + self.token.len());
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.attended));
        put_varint(&mut out, self.registered.millis());
        put_slice(&mut out, self.provider.as_bytes());
        put_slice(&mut out, self.token.as_bytes());
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
        let attended = read_u8(input)? != 0;
        let registered = Timestamp::from_millis(read_varint(input)?);
        Ok(Self { provider: read_text(input)?, token: read_text(input)?, registered, attended })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_round_trip(provider in ".{0,64}", token in ".{0,200}", millis: u64, attended: bool) {
            let row = Target {
                provider: provider.into(),
                token: token.into(),
                registered: Timestamp::from_millis(millis),
                attended,
            };
            let bytes = row.encode();
            prop_assert_eq!(Target::decode(bytes.clone()), Ok(row));
            prop_assert_eq!(Target::decode(bytes.slice(..bytes.len() / 2)), Err(Malformed));
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Target::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let row = Target {
            provider: "apns".into(),
            token: "canary".into(),
            registered: Timestamp::default(),
            attended: false,
        };
        assert!(!format!("{row:?}").contains("canary"));
    }
}
