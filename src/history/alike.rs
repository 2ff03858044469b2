//! What messages that stand together have in common: who wrote them, on which device, of what type. Text
//! that was read just now needs neither memory nor a check when it comes again.

use std::{borrow::Borrow, str::FromStr, sync::Arc};

use bytes::{Buf, Bytes};

use crate::{
    id::{DeviceId, UserId},
    store::codec::{Malformed, read_u8, read_varint},
};

/// So many of each are known.
const KNOWN: usize = 4;

/// For rows that are read one after the other.
#[derive(Debug, Default)]
pub struct Alike {
    pub(super) senders: Known<UserId>,
    pub(super) devices: Known<DeviceId>,
    pub(super) types: Known<Arc<str>>,
}

/// The last few values.
#[derive(Debug)]
pub(super) struct Known<T> {
    values: [Option<T>; KNOWN],
    /// The place of the next new one.
    next: usize,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { values: [const { None }; KNOWN], next: 0 }
    }
}

impl<T: Clone + Borrow<str>> Known<T> {
    fn get(&mut self, text: &[u8], make: impl FnOnce(&str) -> Option<T>) -> Result<T, Malformed> {
        let mut known = self.values.iter().flatten();
        if let Some(value) = known.find(|value| (**value).borrow().as_bytes() == text) {
            return Ok(value.clone());
        }
        let value = std::str::from_utf8(text).ok().and_then(make).ok_or(Malformed)?;
        if let Some(place) = self.values.get_mut(self.next % KNOWN) {
            *place = Some(value.clone());
        }
        self.next = (self.next + 1) % KNOWN;
        Ok(value)
    }
}

impl<T: Clone + Borrow<str> + FromStr> Known<T> {
    /// As [`crate::store::codec::read_id`].
    pub(super) fn read_id(&mut self, input: &mut Bytes) -> Result<T, Malformed> {
        let len = usize::from(read_u8(input)?);
        let id = self.get(input.get(..len).ok_or(Malformed)?, |id| id.parse().ok())?;
        input.advance(len);
        Ok(id)
    }
}

impl Known<Arc<str>> {
    /// As [`crate::store::codec::read_text`].
    pub(super) fn read_text(&mut self, input: &mut Bytes) -> Result<Arc<str>, Malformed> {
        let len = usize::try_from(read_varint(input)?).map_err(|_| Malformed)?;
        let text = self.get(input.get(..len).ok_or(Malformed)?, |text| Some(text.into()))?;
        input.advance(len);
        Ok(text)
    }
}
