//! What can still be read of a journal, whatever is wrong with it: every whole record of every segment
//! file, in order. Nothing is judged and nothing is changed.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;

use super::{
    CommitNo, JournalError,
    pool::io_error,
    record::{self, be_u64},
    segment::{self, HEADER_BYTES, Header, Name},
};

/// What a journal still has.
#[derive(Debug, Default)]
pub(in crate::store) struct Left {
    /// The commits that can be read.
    pub(in crate::store) records: BTreeMap<CommitNo, Bytes>,
    /// The newest commit that some segment says there was.
    pub(in crate::store) known_last: CommitNo,
    /// There is a file of a segment.
    pub(in crate::store) any_segment: bool,
    /// The newest file is not as it was made, so there may have been commits behind the last one that
    /// can be read.
    pub(in crate::store) cut: bool,
}

/// Reads every segment.
///
/// # Errors
/// When a file or the directory cannot be read at all; a missing directory has no commits.
pub(in crate::store) fn salvage(dir: &Path) -> Result<Left, JournalError> {
    let mut left = Left::default();
    let mut newest = 0;
    let files = match fs::read_dir(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(left),
        Err(error) => return Err(io_error("read", dir)(error)),
    };
    for file in files {
        let path = file.map_err(io_error("read", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(Name::parse);
        let Some(Name::Live(number)) = name else { continue };
        left.any_segment = true;
        let is_newest = number >= newest;
        newest = newest.max(number);
        let bytes = Bytes::from(fs::read(&path).map_err(io_error("read", &path))?);
        let salt = match Header::decode(&bytes, &path, number) {
            Ok(header) => {
                left.known_last = left.known_last.max(header.first.previous());
                if is_newest {
                    left.cut = header.bytes != bytes.len() as u64;
                }
                Some(header.salt)
            }
            Err(_) => {
                let salt = newest_salt(&bytes);
                if is_newest {
                    left.cut = salt.is_none();
                }
                salt
            }
        };
        if let Some(salt) = salt {
            gather(&bytes, salt, &mut left.records);
        }
        if let Some(next) = segment::sealed_before(&bytes) {
            left.known_last = left.known_last.max(next.previous());
        }
    }
    Ok(left)
}

/// The records of one life of a file.
fn gather(bytes: &Bytes, salt: u64, commits: &mut BTreeMap<CommitNo, Bytes>) {
    let mut at = (HEADER_BYTES as usize).min(bytes.len());
    while let Some(found) = record::find(bytes, at, salt) {
        let Some(record) = record::decode(bytes, found, salt) else { break };
        commits.insert(record.commit, bytes.slice(record.payload));
        at = record.end;
    }
}

/// The salt of a file whose header cannot be read: that of its record with the greatest number, because
/// what an earlier life of the file left is older.
fn newest_salt(bytes: &[u8]) -> Option<u64> {
    let places = (HEADER_BYTES as usize..bytes.len()).step_by(8);
    let records = places.filter_map(|at| {
        let salt = be_u64(bytes, at + 16)?;
        record::decode(bytes, at, salt).map(|record| (record.commit, salt))
    });
    records.max().map(|(_, salt)| salt)
}
