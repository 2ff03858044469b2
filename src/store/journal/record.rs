//! One commit in a segment: header, payload, padding to eight bytes.
//!
//! ```text
//!  0  magic "RJR1"
//!  4  crc32c of bytes 8 .. 28 + length       u32
//!  8  commit number                          u64
//! 16  salt of the segment                    u64
//! 24  length of the payload                  u32
//! 28  payload, then zeros to a multiple of 8
//! ```
//! All numbers are big-endian. The salt is drawn at random whenever a file becomes a live segment
//! and stands in the segment's header. It makes what an earlier life of a recycled file left behind
//! foreign, and nobody who merely sends messages can put a record into a payload that would be
//! taken for a live one.

use std::ops::Range;

use super::CommitNo;

const MAGIC: [u8; 4] = *b"RJR1";
const HEADER_BYTES: usize = 28;
const CHECKED_FROM: usize = 8;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// A valid record found in a segment.
pub(super) struct Record {
    pub commit: CommitNo,
    /// Where in the segment the payload lies.
    pub payload: Range<usize>,
    /// Where the next record begins.
    pub end: usize,
}

/// Bytes a record with such a payload takes in a segment.
pub(super) const fn stored_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Replaces the buffer's content by the record. `payload` fits in a segment, so in 32 bits.
pub(super) fn encode(buffer: &mut Vec<u8>, commit: CommitNo, salt: u64, payload: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&commit.number().to_be_bytes());
    buffer.extend_from_slice(&salt.to_be_bytes());
    buffer.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(buffer), payload);
    buffer.clear();
    buffer.reserve(stored_bytes(payload.len()));
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&crc.to_be_bytes());
    buffer.extend_from_slice(&commit.number().to_be_bytes());
    buffer.extend_from_slice(&salt.to_be_bytes());
    buffer.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    buffer.extend_from_slice(payload);
    buffer.resize(stored_bytes(payload.len()), 0);
}

/// The record at `at`, if a whole and valid one of this segment's present life stands there.
pub(super) fn decode(segment: &[u8], at: usize, salt: u64) -> Option<Record> {
    let rest = segment.get(at..)?;
    let (header, body) = rest.split_first_chunk::<HEADER_BYTES>()?;
    if header.first_chunk::<4>()? != &MAGIC || be_u64(header, 16)? != salt {
        return None;
    }
    let length = be_u32(header, 24)? as usize;
    let payload = body.get(..length)?;
    let checked = crc32c::crc32c_append(crc32c::crc32c(header.get(CHECKED_FROM..)?), payload);
    if checked != be_u32(header, 4)? {
        return None;
    }
    let end = at + stored_bytes(length);
    let start = at + HEADER_BYTES;
    let commit = CommitNo::new(be_u64(header, CHECKED_FROM)?);
    (end <= segment.len()).then_some(Record { commit, payload: start..start + length, end })
}

/// Where the first valid record at or behind `from` (a multiple of eight) begins.
pub(super) fn find(segment: &[u8], from: usize, salt: u64) -> Option<usize> {
    (from..segment.len()).step_by(ALIGNMENT).find(|&at| decode(segment, at, salt).is_some())
}

pub(super) fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

pub(super) fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        encode(&mut bytes, CommitNo::new(7), 99, b"hello, world");
        assert_eq!(bytes.len(), stored_bytes(12));
        let record = decode(&bytes, 0, 99).expect("valid");
        assert_eq!(record.commit, CommitNo::new(7));
        assert_eq!(&bytes[record.payload.clone()], b"hello, world");
        assert_eq!(record.end, bytes.len());
        assert!(decode(&bytes, 0, 98).is_none(), "salt of another life");
        for bit in 0..(HEADER_BYTES + 12) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, 0, 99).is_none(), "bit {bit}");
        }
        for cut in 0..HEADER_BYTES + 12 {
            assert!(decode(&bytes[..cut], 0, 99).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut bytes = Vec::new();
        encode(&mut bytes, CommitNo::new(1), 2, b"abc");
        assert_eq!(
            bytes,
            [
                b'R', b'J', b'R', b'1', 0x13, 0x7a, 0x5b, 0xa1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
                0, 0, 0, 2, 0, 0, 0, 3, b'a', b'b', b'c', 0
            ]
        );
    }
}
