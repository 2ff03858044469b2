//! What each device has sent: the memory that makes a retried request the same request.
//!
//! A device's accepted requests form a log in the order they were accepted. As long as client ids
//! increase, the log is sorted by them: a greater id than the last one is new, a smaller one is
//! found by binary search. An id that does not increase and is not in the log is accepted as well
//! and kept as a row of its own. `docs/decisions/0003-idempotency.md` weighs this against random ids.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    message::Draft,
    seq::{HistorySeq, InboxSeq, NoticeSeq},
    store::{
        Bounds, Commit, LogEntry, StoreError, Writer,
        catalogue::{LogKey, Table, sent_exception_key},
        codec::{Malformed, packed, put_id, put_varint, read_id, read_u8, read_varint},
    },
    time::{Ages, Timestamp},
};

const ACCEPTED: u8 = 1;
const USED_UP: u8 = 2;
const NOTICE: u8 = 3;
/// Most records have no more bytes.
const ABOUT_BYTES: usize = 80;
/// Content up to so many bytes is hashed in one go, which costs a copy and is still the faster way.
const COPIED_BYTES_MAX: usize = 512;

/// One accepted request: what its original reply said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The device's number for it.
    pub client_id: ClientMessageId,
    /// XXH3 of everything a retry must repeat.
    pub payload_hash: u64,
    /// When it was accepted.
    pub time: Timestamp,
    /// The conversation sent to, or made.
    pub conversation: ConversationId,
    /// The message's row; zero for requests that make no message.
    pub seq: HistorySeq,
    /// The message; zero for requests that make no message.
    pub id: MessageId,
    /// The sender's own inbox entry.
    pub inbox_seq: InboxSeq,
}

impl Sent {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        packed(ABOUT_BYTES, |out| self.put(out))
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u8(ACCEPTED);
        put_varint(out, self.client_id.number());
        out.put_u64(self.payload_hash);
        put_varint(out, self.time.millis());
        put_id(out, self.conversation.as_bytes());
        put_varint(out, self.seq.number());
        put_varint(out, self.id.number());
        put_varint(out, self.inbox_seq.number());
    }
}

/// One accepted notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeSent {
    /// The device's number for it.
    pub client_id: ClientMessageId,
    /// XXH3 of everything a retry must repeat.
    pub payload_hash: u64,
    /// When it was accepted.
    pub time: Timestamp,
    /// Which it became.
    pub notice: NoticeSeq,
    /// The sender's own inbox entry; zero = none at that moment.
    pub inbox_seq: InboxSeq,
}

/// What a device's log remembers of one client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// A request that was accepted.
    Accepted(Sent),
    /// A notice that was accepted.
    Notice(NoticeSent),
    /// The device has given the id up: no request will be accepted under it.
    UsedUp {
        /// The id.
        client_id: ClientMessageId,
        /// When.
        time: Timestamp,
    },
}

impl Remembered {
    /// The device's number.
    #[must_use]
    pub fn client_id(&self) -> ClientMessageId {
        match self {
            Self::Accepted(sent) => sent.client_id,
            Self::Notice(sent) => sent.client_id,
            Self::UsedUp { client_id, .. } => *client_id,
        }
    }

    /// When it was remembered.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Accepted(sent) => sent.time,
            Self::Notice(sent) => sent.time,
            Self::UsedUp { time, .. } => *time,
        }
    }

    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Accepted(sent) => sent.encode(),
            Self::Notice(sent) => {
                let mut out = BytesMut::with_capacity(40);
                out.put_u8(NOTICE);
                put_varint(&mut out, sent.client_id.number());
                out.put_u64(sent.payload_hash);
                put_varint(&mut out, sent.time.millis());
                put_varint(&mut out, sent.notice.number());
                put_varint(&mut out, sent.inbox_seq.number());
                out.freeze()
            }
            Self::UsedUp { client_id, time } => {
                let mut out = BytesMut::with_capacity(24);
                out.put_u8(USED_UP);
                put_varint(&mut out, client_id.number());
                put_varint(&mut out, time.millis());
                out.freeze()
            }
        }
    }

    /// The record of stored bytes.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not such a record.
    pub fn decode(mut record: Bytes) -> Result<Self, Malformed> {
        let input = &mut record;
        let form = read_u8(input)?;
        let client_id = ClientMessageId::new(read_varint(input)?);
        match form {
            ACCEPTED | NOTICE => {}
            USED_UP => {
                let time = Timestamp::from_millis(read_varint(input)?);
                return Ok(Self::UsedUp { client_id, time });
            }
            _ => return Err(Malformed),
        }
        let hash = input.split_to_checked(8)?;
        let payload_hash = u64::from_be_bytes(hash[..].try_into().map_err(|_| Malformed)?);
        let time = Timestamp::from_millis(read_varint(input)?);
        if form == NOTICE {
            return Ok(Self::Notice(NoticeSent {
                client_id,
                payload_hash,
                time,
                notice: NoticeSeq::new(read_varint(input)?),
                inbox_seq: InboxSeq::new(read_varint(input)?),
            }));
        }
        Ok(Self::Accepted(Sent {
            client_id,
            payload_hash,
            time,
            conversation: read_id(input)?,
            seq: HistorySeq::new(read_varint(input)?),
            id: MessageId::new(read_varint(input)?),
            inbox_seq: InboxSeq::new(read_varint(input)?),
        }))
    }
}

impl From<Sent> for Remembered {
    fn from(sent: Sent) -> Self {
        Self::Accepted(sent)
    }
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, len: usize) -> Result<Self, Malformed>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, len: usize) -> Result<Self, Malformed> {
        if len > self.len() { Err(Malformed) } else { Ok(self.split_to(len)) }
    }
}

/// What is known of a client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Never accepted; greater than all before.
    New,
    /// Never accepted; smaller than one accepted before.
    NewOutOfOrder,
    /// Accepted before.
    Accepted(Sent),
    /// Accepted before, as a notice.
    Notice(NoticeSent),
    /// Given up before.
    UsedUp,
    /// Older than what is remembered.
    Stale,
}

impl From<Remembered> for Known {
    fn from(remembered: Remembered) -> Self {
        match remembered {
            Remembered::Accepted(sent) => Self::Accepted(sent),
            Remembered::Notice(sent) => Self::Notice(sent),
            Remembered::UsedUp { .. } => Self::UsedUp,
        }
    }
}

/// Looks a client id up.
///
/// # Errors
/// When the store cannot be read or a record on the way is damaged.
pub fn look_up(
    writer: &Writer,
    user: &UserId,
    device: &DeviceId,
    client_id: ClientMessageId,
) -> Result<Known, StoreError> {
    let log = LogKey::sent(user, device);
    let bounds = writer.bounds(&log)?;
    if bounds.last == 0 {
        return Ok(Known::New);
    }
    let Some(last) = record(writer, &log, bounds.last)? else { return Ok(Known::New) };
    if client_id > client_id_of(&last)? {
        return Ok(Known::New);
    }
    let key = sent_exception_key(user, device, client_id);
    if let Some(row) = writer.row(Table::SentException, &key)? {
        return Ok(Remembered::decode(row)?.into());
    }
    let (mut low, mut high) = (bounds.first, bounds.last);
    while low <= high {
        let middle = low + (high - low) / 2;
        let Some(found) = at(writer, &log, middle)? else { break };
        match found.client_id().cmp(&client_id) {
            std::cmp::Ordering::Equal => return Ok(found.into()),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle - 1,
        }
    }
    // Below the oldest remembered one nobody can say any more.
    if bounds.first > 1 && low == bounds.first {
        Ok(Known::Stale)
    } else {
        Ok(Known::NewOutOfOrder)
    }
}

/// The greatest client id accepted from a device; zero = none.
///
/// # Errors
/// As [`look_up`].
pub fn last_client_id(
    writer: &Writer,
    user: &UserId,
    device: &DeviceId,
) -> Result<ClientMessageId, StoreError> {
    let log = LogKey::sent(user, device);
    let bounds = writer.bounds(&log)?;
    match record(writer, &log, bounds.last)? {
        None => Ok(ClientMessageId::new(0)),
        Some(last) => Ok(client_id_of(&last)?),
    }
}

/// Adds what is to be remembered to a commit. `out_of_order` as told by [`look_up`].
pub fn remember(
    commit: &mut Commit,
    user: &UserId,
    device: &DeviceId,
    what: &Remembered,
    out_of_order: bool,
) {
    if out_of_order {
        let key = sent_exception_key(user, device, what.client_id());
        commit.put(Table::SentException, key, what.encode());
    } else {
        commit.append(LogKey::sent(user, device), what.encode());
    }
}

/// The sequence below which a device's log is older than `window` and may be forgotten; looked for
/// once per 256 sends, by binary search (ages do not increase by more than the clock's errors).
///
/// # Errors
/// As [`look_up`].
pub fn trim_to(
    writer: &Writer,
    log: &LogKey,
    bounds: Bounds,
    ages: Ages,
    window: Duration,
) -> Result<Option<u64>, StoreError> {
    const SLICE: u64 = 256;
    if bounds.last == 0 || !bounds.last.is_multiple_of(SLICE) {
        return Ok(None);
    }
    let is_young = |seq| -> Result<bool, StoreError> {
        Ok(at(writer, log, seq)?.is_some_and(|found| !ages.is_over(found.time(), window)))
    };
    let (mut low, mut high) = (bounds.first, bounds.last);
    // Most often nothing is too old.
    if is_young(low)? {
        return Ok(None);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_young(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok((low > bounds.first).then_some(low))
}

/// Everything that a retry must repeat, as one number.
#[must_use]
pub fn payload_hash(conversation: &ConversationId, draft: &Draft) -> u64 {
    if draft.content.len() <= COPIED_BYTES_MAX && draft.mentions.is_empty() {
        let mut bytes = Vec::with_capacity(2 * COPIED_BYTES_MAX);
        each_part(conversation, draft, |part| bytes.extend_from_slice(part));
        return xxh3_64(&bytes);
    }
    let mut hash = Xxh3::new();
    each_part(conversation, draft, |part| hash.update(part));
    hash.digest()
}

fn each_part(conversation: &ConversationId, draft: &Draft, mut put: impl FnMut(&[u8])) {
    let mut part = |bytes: &[u8]| {
        put(&(bytes.len() as u64).to_le_bytes());
        put(bytes);
    };
    part(conversation.as_bytes());
    part(draft.content_type.as_bytes());
    part(&draft.content);
    part(&draft.created_at.millis().to_le_bytes());
    part(&draft.reply_to.number().to_le_bytes());
    part(&[
        u8::from(draft.flags.silent),
        u8::from(draft.flags.uncounted),
        u8::from(draft.flags.no_push),
    ]);
    for user in &draft.mentions {
        part(user.as_bytes());
    }
}

fn at(writer: &Writer, log: &LogKey, seq: u64) -> Result<Option<Remembered>, StoreError> {
    Ok(record(writer, log, seq)?.map(Remembered::decode).transpose()?)
}

fn record(writer: &Writer, log: &LogKey, seq: u64) -> Result<Option<Bytes>, StoreError> {
    match writer.entry(log, seq)? {
        None => Ok(None),
        Some(LogEntry { record: None, .. }) => {
            Err(StoreError::Damaged("a sent record cannot be read".into()))
        }
        Some(LogEntry { record, .. }) => Ok(record),
    }
}

/// The client id alone: every send of a device is compared with the one before.
fn client_id_of(record: &Bytes) -> Result<ClientMessageId, Malformed> {
    let mut input = &record[..];
    if !(ACCEPTED..=NOTICE).contains(&read_u8(&mut input)?) {
        return Err(Malformed);
    }
    Ok(ClientMessageId::new(read_varint(&mut input)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::MessageFlags;

    #[test]
    fn a_notice_has_the_bytes_of_the_document() {
        let sent = NoticeSent {
            client_id: ClientMessageId::new(7),
            payload_hash: 1,
            time: Timestamp::from_millis(300),
            notice: NoticeSeq::new(5),
            inbox_seq: InboxSeq::new(9),
        };
        let bytes = Remembered::Notice(sent).encode();
        assert_eq!(&bytes[..], b"\x03\x07\0\0\0\0\0\0\0\x01\xac\x02\x05\x09");
    }

    proptest! {
        #[test]
        fn records_round_trip(numbers: [u64; 6]) {
            let sent = Sent {
                client_id: ClientMessageId::new(numbers[0]),
                payload_hash: numbers[1],
                time: Timestamp::from_millis(numbers[2]),
                conversation: ConversationId::new("c").unwrap(),
                seq: HistorySeq::new(numbers[3]),
                id: MessageId::new(numbers[4]),
                inbox_seq: InboxSeq::new(numbers[5]),
            };
            let used_up =
                Remembered::UsedUp { client_id: sent.client_id, time: sent.time };
            let notice = Remembered::Notice(NoticeSent {
                client_id: sent.client_id,
                payload_hash: sent.payload_hash,
                time: sent.time,
                notice: NoticeSeq::new(numbers[3]),
                inbox_seq: sent.inbox_seq,
            });
            for what in [sent.into(), used_up, notice] {
                let bytes = what.encode();
                prop_assert_eq!(client_id_of(&bytes), Ok(what.client_id()));
                prop_assert_eq!(Remembered::decode(bytes.clone()), Ok(what));
                let short = bytes.slice(..bytes.len() - 1);
                prop_assert_eq!(Remembered::decode(short), Err(Malformed));
            }
        }

        #[test]
        fn a_copy_hashes_as_its_parts_do(content in proptest::collection::vec(0u8.., 0..2 * COPIED_BYTES_MAX), named: bool) {
            let mentions = named.then(|| UserId::new("u").unwrap()).into_iter().collect();
            let draft = Draft {
                created_at: Timestamp::from_millis(1),
                content_type: "text/plain".into(),
                content: content.into(),
                reply_to: HistorySeq::ZERO,
                mentions,
                flags: MessageFlags::default(),
            };
            let id = ConversationId::new("c").unwrap();
            let mut hash = Xxh3::new();
            each_part(&id, &draft, |part| hash.update(part));
            prop_assert_eq!(payload_hash(&id, &draft), hash.digest());
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>) {
            let _ = Remembered::decode(Bytes::from(bytes));
        }
    }
}
