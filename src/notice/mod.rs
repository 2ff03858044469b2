//! What administrators tell: the log of notices, and how far each is on its way.
//!
//! A notice is written once, into one log; inboxes point at it. A notice for many goes to their
//! inboxes in slices; the row of its round moves in the same commit as each slice, so that every
//! inbox gets it once, whatever happens in between.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    id::UserId,
    reply::NoticeView,
    request::NoticeTo,
    seq::NoticeSeq,
    store::{
        Reader, StoreError,
        catalogue::LogKey,
        codec::{
            Malformed, put_id, put_slice, put_varint, read_id, read_slice, read_text, read_u8,
            read_varint,
        },
    },
    time::Timestamp,
};

const VERSION: u8 = 1;
const USER: u8 = 1;
const CONVERSATION: u8 = 2;
const EVERYONE: u8 = 3;

/// An entry of the log of notices; its number is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whom it is for.
    pub to: NoticeTo,
    /// Who sent it.
    pub by: UserId,
    /// When.
    pub time: Timestamp,
    /// A short label such as `text/plain`.
    pub content_type: Arc<str>,
    /// The body; opaque.
    pub content: Bytes,
}

impl Notice {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(96 + self.content.len());
        out.put_u8(VERSION);
        match &self.to {
            NoticeTo::User(user) => {
                out.put_u8(USER);
                put_id(&mut out, user.as_bytes());
            }
            NoticeTo::Conversation(id) => {
                out.put_u8(CONVERSATION);
                put_id(&mut out, id.as_bytes());
            }
            NoticeTo::Everyone => out.put_u8(EVERYONE),
        }
        put_id(&mut out, self.by.as_bytes());
        put_varint(&mut out, self.time.millis());
        put_slice(&mut out, self.content_type.as_bytes());
        put_slice(&mut out, &self.content);
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
        Ok(Self {
            to: match read_u8(input)? {
                USER => NoticeTo::User(read_id(input)?),
                CONVERSATION => NoticeTo::Conversation(read_id(input)?),
                EVERYONE => NoticeTo::Everyone,
                _ => return Err(Malformed),
            },
            by: read_id(input)?,
            time: Timestamp::from_millis(read_varint(input)?),
            content_type: read_text(input)?,
            content: read_slice(input)?,
        })
    }
}

/// A notice as its readers see it; none when it is damaged.
///
/// # Errors
/// When the store cannot be read.
pub fn view(reader: &Reader, seq: NoticeSeq) -> Result<Option<NoticeView>, StoreError> {
    let record = reader.entry(&LogKey::notices(), seq.number())?.and_then(|entry| entry.record);
    Ok(record.and_then(|record| Notice::decode(record).ok()).map(|notice| NoticeView {
        notice: seq,
        content_type: notice.content_type,
        content: notice.content,
        conversation: match notice.to {
            NoticeTo::Conversation(id) => Some(id),
            NoticeTo::User(_) | NoticeTo::Everyone => None,
        },
    }))
}

/// Row of [`crate::store::catalogue::Table::NoticeRound`]: a notice that has not reached everybody
/// it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Inboxes that have it.
    pub told: u64,
    /// The key of the table of members or devices after which it goes on.
    pub after: Bytes,
}

impl Round {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16 + self.after.len());
        out.put_u8(VERSION);
        put_varint(&mut out, self.told);
        put_slice(&mut out, &self.after);
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
        Ok(Self { told: read_varint(input)?, after: read_slice(input)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ConversationId;

    #[test]
    fn every_form_round_trips_and_no_prefix_of_it_does() {
        let user = UserId::new("u").unwrap();
        let id = ConversationId::new("c").unwrap();
        for to in [NoticeTo::User(user.clone()), NoticeTo::Conversation(id), NoticeTo::Everyone] {
            let notice = Notice {
                to,
                by: user.clone(),
                time: Timestamp::from_millis(1_700_000_000_000),
                content_type: "text/plain".into(),
                content: Bytes::from_static(b"hi"),
            };
            let bytes = notice.encode();
            assert_eq!(Notice::decode(bytes.clone()), Ok(notice));
            for len in 0..bytes.len() {
                assert_eq!(Notice::decode(bytes.slice(..len)), Err(Malformed));
            }
        }
        let round = Round { told: 300, after: Bytes::from_static(b"\x01u\xff") };
        assert_eq!(Round::decode(round.encode()), Ok(round));
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let notice = Notice {
            to: NoticeTo::User(UserId::new("u").unwrap()),
            by: UserId::new("a").unwrap(),
            time: Timestamp::from_millis(300),
            content_type: "t".into(),
            content: Bytes::from_static(b"hi"),
        };
        assert_eq!(&notice.encode()[..], b"\x01\x01\x01u\x01a\xac\x02\x01t\x02hi");
        let everyone = Notice { to: NoticeTo::Everyone, ..notice };
        assert_eq!(&everyone.encode()[..], b"\x01\x03\x01a\xac\x02\x01t\x02hi");
        let round = Round { told: 300, after: Bytes::from_static(b"\x01u\xff") };
        assert_eq!(&round.encode()[..], b"\x01\xac\x02\x03\x01u\xff");
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Notice::decode(Bytes::from(bytes.clone()));
            let _ = Round::decode(Bytes::from(bytes));
        }
    }
}
