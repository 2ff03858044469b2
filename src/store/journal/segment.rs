//! A segment file: its name, its header, and the live one that takes records.
//!
//! A file is as long as it was made, all blocks initialised; its first 4 KiB hold the header, so
//! that no later write touches the header's block.
//!
//! ```text
//!  0  magic "roamdjnl"
//!  8  format version, 1                      u32
//! 12  zero                                   u32
//! 16  segment number                         u64
//! 24  number of the first commit             u64
//! 32  length of the file in bytes            u64
//! 40  salt of the records                    u64
//! 48  crc32c of bytes 0 .. 48                u32
//! 64  seal: what follows it is another segment. Zeros as long as it takes records
//! ```
//! The seal is the commit number that the next segment begins with and the CRC-32C of the salt and that
//! number: without it a missing last segment would look like a journal that ends earlier.
//! All numbers are big-endian. Names: `segment-<number>` is live, `spare-<id>` is ready for use
//! (its content means nothing), `spare-<id>.new` is being made and worth nothing after a crash.
//! Numbers are sixteen hexadecimal digits.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    CommitNo, Damage, JournalError,
    record::{be_u32, be_u64},
};

/// Where the first record stands.
pub(super) const HEADER_BYTES: u64 = 4096;
/// Files are multiples of this long.
pub(super) const BLOCK_BYTES: u64 = 4096;

const MAGIC: [u8; 8] = *b"roamdjnl";
const VERSION: u32 = 1;
const CHECKED_BYTES: usize = 48;
/// Where the seal stands.
pub(super) const SEAL_AT: u64 = 64;
const SEAL_BYTES: usize = 12;
/// The header with the place of its seal.
const WHOLE_BYTES: usize = SEAL_AT as usize + SEAL_BYTES;

/// What the first block of a live segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub number: u64,
    pub first: CommitNo,
    pub bytes: u64,
    pub salt: u64,
}

impl Header {
    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(WHOLE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&0_u32.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.first.number().to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        // A file that is used again loses its seal.
        bytes.resize(WHOLE_BYTES, 0);
        bytes
    }

    /// The bytes of the seal, once `next` is the first commit of the segment that follows.
    pub fn seal(&self, next: CommitNo) -> Vec<u8> {
        let mut bytes = next.number().to_be_bytes().to_vec();
        bytes.extend_from_slice(&seal_sum(self.salt, next).to_be_bytes());
        bytes
    }

    /// Reads the header of the file at `path`, whose name says that it is segment `number`.
    pub fn decode(block: &[u8], path: &Path, number: u64) -> Result<Self, JournalError> {
        let damaged =
            || JournalError::Damaged { path: path.to_owned(), offset: 0, damage: Damage::Header };
        let checked = block.get(..CHECKED_BYTES).ok_or_else(damaged)?;
        let valid = checked.starts_with(&MAGIC)
            && be_u32(block, CHECKED_BYTES) == Some(crc32c::crc32c(checked));
        if !valid {
            return Err(damaged());
        }
        let version = be_u32(checked, 8).ok_or_else(damaged)?;
        if version != VERSION {
            return Err(JournalError::NewerFormat { path: path.to_owned(), version });
        }
        let field = |at| be_u64(checked, at).ok_or_else(damaged);
        let first = CommitNo::new(field(24)?);
        let header = Self { number: field(16)?, first, bytes: field(32)?, salt: field(40)? };
        if header.number != number || first == CommitNo::ZERO {
            return Err(damaged());
        }
        Ok(header)
    }
}

fn seal_sum(salt: u64, next: CommitNo) -> u32 {
    let salt = crc32c::crc32c(&salt.to_be_bytes());
    crc32c::crc32c_append(salt, &next.number().to_be_bytes())
}

/// The first commit of the segment that follows, if the header at the beginning of `block` is sealed.
pub(super) fn sealed_before(block: &[u8]) -> Option<CommitNo> {
    let next = CommitNo::new(be_u64(block, SEAL_AT as usize)?);
    let sum = be_u32(block, SEAL_AT as usize + 8)?;
    (next > CommitNo::ZERO && seal_sum(be_u64(block, 40)?, next) == sum).then_some(next)
}

/// The segment that takes records.
#[derive(Debug)]
pub(super) struct Active {
    pub file: File,
    pub path: PathBuf,
    pub header: Header,
    /// Where the next record goes.
    pub end: u64,
}

impl Active {
    /// Bytes left for records.
    pub fn room(&self) -> u64 {
        self.header.bytes.saturating_sub(self.end)
    }
}

/// A name in the journal's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A live segment, by number.
    Live(u64),
    /// A spare, by id.
    Spare(u64),
    /// A file that was being made, by id.
    Unfinished(u64),
}

impl Name {
    /// Reads a file name; None for a file that is not the journal's.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(number) = name.strip_prefix("segment-") {
            return digits(number).map(Self::Live);
        }
        let id = name.strip_prefix("spare-")?;
        match id.strip_suffix(".new") {
            Some(id) => digits(id).map(Self::Unfinished),
            None => digits(id).map(Self::Spare),
        }
    }

    /// The file of this name.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Live(number) => format!("segment-{number:016x}"),
            Self::Spare(id) => format!("spare-{id:016x}"),
            Self::Unfinished(id) => format!("spare-{id:016x}.new"),
        })
    }
}

fn digits(text: &str) -> Option<u64> {
    let canonical =
        text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_ones_are_left_alone() {
        for name in [Name::Live(1), Name::Spare(u64::MAX), Name::Unfinished(0xabc)] {
            let path = name.path(Path::new("d"));
            let text = path.file_name().and_then(|n| n.to_str()).expect("text");
            assert_eq!(Name::parse(text), Some(name));
        }
        for foreign in ["segment-1", "segment-+000000000000001", "spare-", "lock", "spare-x.new"] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_seal_belongs_to_its_header() {
        let header = Header { number: 3, first: CommitNo::new(9), bytes: 8192, salt: 77 };
        let mut block = header.encode();
        assert_eq!(sealed_before(&block), None);
        let at = SEAL_AT as usize;
        block[at..].copy_from_slice(&header.seal(CommitNo::new(40)));
        assert_eq!(sealed_before(&block), Some(CommitNo::new(40)));
        for bit in at * 8..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sealed_before(&flipped), None, "bit {bit}");
        }
        let other = Header { salt: 78, ..header }.encode();
        block[..at].copy_from_slice(&other[..at]);
        assert_eq!(sealed_before(&block), None, "the seal of another life");
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header = Header { number: 3, first: CommitNo::new(9), bytes: 8192, salt: 77 };
        let bytes = header.encode();
        let path = Path::new("segment");
        assert_eq!(Header::decode(&bytes, path, 3).expect("valid"), header);
        assert!(Header::decode(&bytes, path, 4).is_err(), "another name");
        for bit in 0..(CHECKED_BYTES + 4) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&flipped, path, 3).expect_err("flipped");
            assert!(
                matches!(error, JournalError::Damaged { damage: Damage::Header, .. }),
                "bit {bit}: {error}"
            );
        }
    }
}
