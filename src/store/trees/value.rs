//! Keys and values of the trees, byte by byte; `docs/storage.md` shows the same.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{
    catalogue::LogKey,
    codec::{Malformed, put_slice, put_varint, read_slice, read_u8, read_varint},
    commit::ROW_BYTES_MAX,
    memory::Bounds,
};

/// Most bytes of one value of a tree, checksum and form left out: a record above it is split into
/// pieces of so many bytes, a row above it is refused.
///
/// sled keeps up to 16 values in one page, a few more until it splits or after it merges pages, and
/// writes a page above 128 KiB into a file of its own that it never syncs.
pub(super) const VALUE_BYTES_MAX: usize = ROW_BYTES_MAX;

const RUN: u8 = 1;
const SPLIT: u8 = 2;

/// The stored form of a value: its bytes and a CRC-32C over key and bytes (so that a value found
/// under another key is damage too).
pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(body.len() + 4);
    value.extend_from_slice(body);
    value.extend_from_slice(&checksum(key, body).to_be_bytes());
    value
}

/// The bytes of a stored value; none when it is damaged.
pub(in crate::store) fn unseal(key: &[u8], value: &[u8]) -> Option<Bytes> {
    let (body, sum) = value.split_last_chunk::<4>()?;
    (checksum(key, body) == u32::from_be_bytes(*sum)).then(|| Bytes::copy_from_slice(body))
}

/// A value that does not check under its key: what stays damaged when everything is written anew.
pub(super) fn damaged_value(key: &[u8]) -> Vec<u8> {
    (!checksum(key, &[])).to_be_bytes().to_vec()
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// Value of the tree `bounds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BoundsRow {
    pub(super) bounds: Bounds,
    /// No run that begins below is stored.
    pub(super) lowest: u64,
}

impl BoundsRow {
    pub(super) fn body(&self) -> BytesMut {
        let mut row = BytesMut::new();
        put_varint(&mut row, self.bounds.first);
        put_varint(&mut row, self.bounds.last);
        put_varint(&mut row, self.lowest);
        row
    }

    /// None when it is damaged.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut row = unseal(key, value)?;
        let first = read_varint(&mut row).ok()?;
        let last = read_varint(&mut row).ok()?;
        let lowest = read_varint(&mut row).ok()?;
        let in_order = first >= 1 && first <= last.checked_add(1)?;
        in_order.then_some(Self { bounds: Bounds { first, last }, lowest })
    }
}

/// Value of a log's tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Entries that follow each other.
    Entries(Vec<Bytes>),
    /// One entry of so many bytes, whose record stands in the tree `pieces`.
    Split(u64),
}

impl Run {
    /// The bytes of a run without entries.
    pub(super) fn begin() -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u8(RUN);
        body
    }

    /// Adds an entry to the bytes of a run.
    pub(super) fn add(body: &mut BytesMut, record: &[u8]) {
        put_slice(body, record);
    }

    pub(super) fn split(record_bytes: usize) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_u8(SPLIT);
        put_varint(&mut body, record_bytes as u64);
        body
    }

    /// Whether a stored run is a split record, without a check.
    pub(super) fn is_split(value: &[u8]) -> bool {
        value.first() == Some(&SPLIT)
    }

    /// None when it is damaged.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut body = unseal(key, value)?;
        Self::parse(&mut body).ok()
    }

    fn parse(body: &mut Bytes) -> Result<Self, Malformed> {
        match read_u8(body)? {
            RUN => {
                let mut entries = Vec::with_capacity(count_slices(body)?);
                while !body.is_empty() {
                    entries.push(read_slice(body)?);
                }
                Ok(Self::Entries(entries))
            }
            SPLIT => Ok(Self::Split(read_varint(body)?)),
            _ => Err(Malformed),
        }
    }
}

/// How many slices follow each other; a list that grew with them would take thrice its size.
fn count_slices(mut body: &[u8]) -> Result<usize, Malformed> {
    let mut count = 0;
    while !body.is_empty() {
        let len = usize::try_from(read_varint(&mut body)?).map_err(|_| Malformed)?;
        body = body.get(len..).ok_or(Malformed)?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn bounds_key(log: &LogKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + log.bytes().len());
    key.push(log.kind() as u8);
    key.extend_from_slice(log.bytes());
    key
}

pub(super) fn run_key(log: &LogKey, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + log.bytes().len());
    key.extend_from_slice(log.bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn run_seq(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|seq| u64::from_be_bytes(*seq))
}

/// Whether the key of a run belongs to the log.
pub(super) fn same_log(key: &[u8], log: &LogKey) -> bool {
    key.len() == log.bytes().len() + 8 && key.starts_with(log.bytes())
}

pub(super) fn piece_prefix(log: &LogKey, seq: u64) -> Vec<u8> {
    let mut key = bounds_key(log);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn piece_key(log: &LogKey, seq: u64, number: u16) -> Vec<u8> {
    let mut key = piece_prefix(log, seq);
    key.extend_from_slice(&number.to_be_bytes());
    key
}
