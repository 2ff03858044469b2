//! The mutation log: what changed in a conversation's messages, in order.
//!
//! A history row is written once. What becomes of it later stands here: one record per change, with
//! the new content of an edit, and a row of [`crate::store::catalogue::Table::Mutated`] per changed
//! message that names the latest change. Whoever shows a message lays the change over the row.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    id::{ConversationId, UserId},
    seq::{HistorySeq, MutationSeq},
    store::{
        Reader, StoreError,
        catalogue::{LogKey, Table, mutated_key},
        codec::{
            Malformed, put_id, put_slice, put_varint, read_id, read_slice, read_text, read_u8,
            read_varint,
        },
    },
    time::Timestamp,
};

const VERSION: u8 = 1;
const RECALLED: u8 = 1;
const EDITED: u8 = 2;
const DELETED: u8 = 3;

/// What was done to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Taken back.
    Recalled,
    /// Given new content.
    Edited {
        /// 1 for the first edit.
        revision: u32,
        /// The new label.
        content_type: Arc<str>,
        /// The new content.
        content: Bytes,
    },
    /// Deleted for everyone.
    Deleted,
}

/// An entry of a mutation log; its `mutation_seq` is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Which message.
    pub seq: HistorySeq,
    /// The change of the same message before this one; zero = none.
    pub previous: MutationSeq,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub by: UserId,
    /// What.
    pub change: Change,
}

impl Mutation {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u8(match &self.change {
            Change::Recalled => RECALLED,
            Change::Edited { .. } => EDITED,
            Change::Deleted => DELETED,
        });
        put_varint(&mut out, self.seq.number());
        put_varint(&mut out, self.previous.number());
        put_varint(&mut out, self.time.millis());
        put_id(&mut out, self.by.as_bytes());
        if let Change::Edited { revision, content_type, content } = &self.change {
            put_varint(&mut out, u64::from(*revision));
            put_slice(&mut out, content_type.as_bytes());
            put_slice(&mut out, content);
        }
        out.freeze()
    }

    /// The record of stored bytes; the content shares them.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a record.
    pub fn decode(mut record: Bytes) -> Result<Self, Malformed> {
        let input = &mut record;
        if read_u8(input)? != VERSION {
            return Err(Malformed);
        }
        let kind = read_u8(input)?;
        let seq = HistorySeq::new(read_varint(input)?);
        let previous = MutationSeq::new(read_varint(input)?);
        let time = Timestamp::from_millis(read_varint(input)?);
        let by = read_id(input)?;
        let change = match kind {
            RECALLED => Change::Recalled,
            EDITED => Change::Edited {
                revision: u32::try_from(read_varint(input)?).map_err(|_| Malformed)?,
                content_type: read_text(input)?,
                content: read_slice(input)?,
            },
            DELETED => Change::Deleted,
            _ => return Err(Malformed),
        };
        Ok(Self { seq, previous, time, by, change })
    }
}

/// Row of [`crate::store::catalogue::Table::Mutated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutated {
    /// The latest change.
    pub mutation: MutationSeq,
    /// Recalled or deleted: for everyone, for good.
    pub gone: bool,
    /// The message counted as unread before it was gone.
    pub counted: bool,
}

impl Mutated {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.gone) | u8::from(self.counted) << 1);
        put_varint(&mut out, self.mutation.number());
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
        let flags = read_u8(input)?;
        let mutation = MutationSeq::new(read_varint(input)?);
        Ok(Self { mutation, gone: flags & 1 != 0, counted: flags & 2 != 0 })
    }
}

/// What is laid over a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Laid {
    /// It is as it was written.
    Nothing,
    /// It is as this change left it.
    Change(Mutation),
    /// What became of it cannot be read, so nothing may be shown of it.
    Damaged,
}

/// The newest change of a message, edits after `edits` passed over: whoever has left does not see
/// those. To be gone is for everyone.
///
/// # Errors
/// When the store cannot be read.
pub fn laid(
    reader: &Reader,
    conversation: &ConversationId,
    seq: HistorySeq,
    edits: MutationSeq,
) -> Result<Laid, StoreError> {
    let row = match reader.row(Table::Mutated, &mutated_key(conversation, seq)) {
        Ok(None) => return Ok(Laid::Nothing),
        Ok(Some(row)) => Mutated::decode(row).ok(),
        Err(StoreError::Damaged(_)) => None,
        Err(error) => return Err(error),
    };
    let Some(row) = row else { return Ok(Laid::Damaged) };
    let log = LogKey::mutations(conversation);
    let mut at = row.mutation;
    while at > MutationSeq::ZERO {
        let mutation = match mutation(reader, &log, at) {
            Ok(Some(mutation)) if mutation.seq == seq && mutation.previous < at => mutation,
            Ok(_) | Err(StoreError::Damaged(_)) => return Ok(Laid::Damaged),
            Err(error) => return Err(error),
        };
        let edited = matches!(mutation.change, Change::Edited { .. });
        if at == row.mutation && edited == row.gone {
            return Ok(Laid::Damaged);
        }
        if !edited || at <= edits {
            return Ok(Laid::Change(mutation));
        }
        at = mutation.previous;
    }
    Ok(Laid::Nothing)
}

fn mutation(
    reader: &Reader,
    log: &LogKey,
    at: MutationSeq,
) -> Result<Option<Mutation>, StoreError> {
    let record = reader.entry(log, at.number())?.and_then(|entry| entry.record);
    Ok(record.and_then(|record| Mutation::decode(record).ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_change_round_trips_and_no_prefix_of_it_does() {
        let edited = Change::Edited {
            revision: 2,
            content_type: "text/plain".into(),
            content: Bytes::from_static(b"new"),
        };
        for change in [Change::Recalled, edited, Change::Deleted] {
            let mutation = Mutation {
                seq: HistorySeq::new(300),
                previous: MutationSeq::new(7),
                time: Timestamp::from_millis(1_700_000_000_000),
                by: UserId::new("a").unwrap(),
                change,
            };
            let bytes = mutation.encode();
            assert_eq!(Mutation::decode(bytes.clone()), Ok(mutation));
            for len in 0..bytes.len() {
                assert_eq!(Mutation::decode(bytes.slice(..len)), Err(Malformed));
            }
        }
        for (gone, counted) in [(false, false), (true, false), (true, true)] {
            let row = Mutated { mutation: MutationSeq::new(900), gone, counted };
            assert_eq!(Mutated::decode(row.encode()), Ok(row));
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Mutation::decode(Bytes::from(bytes.clone()));
            let _ = Mutated::decode(Bytes::from(bytes));
        }
    }
}
