//! Blocks: how the parts of a copy are packed, in a backup's files and on the way there.
//!
//! ```text
//!  0  length of the payload                           u32
//!  4  crc32c of the block's number (u64) and payload  u32
//!  8  payload
//! ```
//! Numbers are big-endian; blocks of one kind are numbered from 0, so that one that is missing or
//! stands elsewhere does not check. A payload is a list of *slice tree name, slice key, slice value*
//! or of *varint commit, slice operations*.

use bytes::{BufMut, Bytes};

use super::ArchiveError;
use crate::store::{
    Part,
    codec::{Malformed, put_slice, put_varint, read_slice, read_varint},
};

/// A block is closed when it has so many bytes. (A commit may make it larger.)
const BLOCK_BYTES: usize = 256 * 1024;
/// The largest payload: one commit, and what comes before it.
pub const BLOCK_BYTES_MAX: usize = (1 << 30) + (1 << 20);
/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 8;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Values of the trees.
    Values,
    /// Commits of the journal.
    Commits,
}

impl BlockKind {
    /// Name of the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Commits => "commits",
        }
    }
}

/// One block with its head.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// What it holds.
    pub kind: BlockKind,
    /// Head and payload.
    pub bytes: Vec<u8>,
}

/// Packs parts into blocks.
#[derive(Debug, Default)]
pub struct Packer {
    blocks: [u64; 2],
    kind: Option<BlockKind>,
    payload: Vec<u8>,
    /// Values that do not match their checksum.
    damaged: u64,
}

impl Packer {
    /// Takes a part; gives a block when there is one.
    pub fn add(&mut self, part: &Part<'_>) -> Option<Block> {
        let kind = match part {
            Part::Value { .. } => BlockKind::Values,
            Part::Commit(..) => BlockKind::Commits,
        };
        let other = self.kind.is_some_and(|now| now != kind);
        let block = if other || self.payload.len() >= BLOCK_BYTES { self.close() } else { None };
        self.kind = Some(kind);
        match part {
            Part::Value { tree, key, value, sound } => {
                self.damaged += u64::from(!sound);
                put_slice(&mut self.payload, tree.as_bytes());
                put_slice(&mut self.payload, key);
                put_slice(&mut self.payload, value);
            }
            Part::Commit(commit, operations) => {
                put_varint(&mut self.payload, *commit);
                put_slice(&mut self.payload, operations);
            }
        }
        block
    }

    /// The block under way, if any.
    pub fn close(&mut self) -> Option<Block> {
        let kind = self.kind.take()?;
        let number = &mut self.blocks[kind as usize];
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.payload.len());
        bytes.put_u32(self.payload.len() as u32);
        bytes.put_u32(checksum(*number, &self.payload));
        bytes.append(&mut self.payload);
        *number += 1;
        Some(Block { kind, bytes })
    }

    /// Values so far that do not match their checksum.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

fn checksum(number: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), payload)
}

/// The length of the payload that follows such a head; none when no block is so long.
pub(super) fn payload_bytes(head: [u8; HEAD_BYTES]) -> Option<usize> {
    let [a, b, c, d, ..] = head;
    let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    (bytes <= BLOCK_BYTES_MAX).then_some(bytes)
}

/// Whether a payload is that of block `number` with this head.
pub(super) fn checks(head: [u8; HEAD_BYTES], number: u64, payload: &[u8]) -> bool {
    let [.., a, b, c, d] = head;
    u32::from_be_bytes([a, b, c, d]) == checksum(number, payload)
}

/// Gives the values of a payload: tree, key, value.
pub(super) fn each_value(
    mut payload: Bytes,
    mut each: impl FnMut(&str, &[u8], &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    while !payload.is_empty() {
        let tree = read_slice(&mut payload).map_err(malformed)?;
        let key = read_slice(&mut payload).map_err(malformed)?;
        let value = read_slice(&mut payload).map_err(malformed)?;
        each(std::str::from_utf8(&tree).map_err(|_| malformed(Malformed))?, &key, &value)?;
    }
    Ok(())
}

/// Gives the commits of a payload.
pub(super) fn each_commit(
    mut payload: Bytes,
    mut each: impl FnMut(u64, Bytes) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    while !payload.is_empty() {
        let commit = read_varint(&mut payload).map_err(malformed)?;
        each(commit, read_slice(&mut payload).map_err(malformed)?)?;
    }
    Ok(())
}

fn malformed(_: Malformed) -> ArchiveError {
    ArchiveError::Damaged("a block is malformed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_and_a_block_checks_in_its_place_alone() {
        let mut packer = Packer::default();
        let value = |key, sound| Part::Value { tree: "inbox", key, value: b"value", sound };
        assert_eq!(packer.add(&value(b"a", true)), None);
        assert_eq!(packer.add(&value(b"b", false)), None);
        let values = packer.add(&Part::Commit(7, Bytes::from_static(b"operations"))).unwrap();
        let commits = packer.close().unwrap();
        assert_eq!((values.kind, commits.kind), (BlockKind::Values, BlockKind::Commits));
        assert_eq!((packer.close(), packer.damaged()), (None, 1));

        let (head, payload) = commits.bytes.split_first_chunk::<HEAD_BYTES>().unwrap();
        assert_eq!(payload_bytes(*head), Some(payload.len()));
        assert!(checks(*head, 0, payload) && !checks(*head, 1, payload));
        let mut seen = Vec::new();
        let commit = |number, operations: Bytes| {
            seen.push((number, operations.to_vec()));
            Ok(())
        };
        each_commit(Bytes::copy_from_slice(payload), commit).unwrap();
        assert_eq!(seen, [(7, b"operations".to_vec())]);
        let mut seen = Vec::new();
        let value = |tree: &str, key: &[u8], _: &[u8]| {
            seen.push(format!("{tree} {}", key.escape_ascii()));
            Ok(())
        };
        each_value(Bytes::copy_from_slice(&values.bytes[HEAD_BYTES..]), value).unwrap();
        assert_eq!(seen, ["inbox a", "inbox b"]);
    }

    #[test]
    fn blocks_are_closed_in_time() {
        let mut packer = Packer::default();
        let large = Bytes::from(vec![1; BLOCK_BYTES]);
        let blocks = (1..10).filter_map(|number| packer.add(&Part::Commit(number, large.clone())));
        assert_eq!(blocks.count(), 8);
    }
}
