//! Reading commits of a journal that is in use: for a copy that is made while the owner appends.
//!
//! Nothing is changed on disk and nothing is repaired. The caller knows that the commits it asks for
//! are durable, and has seen to it that their segments are not given back meanwhile; segments before
//! them may go at any moment, so the newest are looked at first and no more than are needed.

use std::{fs, path::Path};

use bytes::Bytes;

use super::{
    CommitNo, Damage, JournalError,
    pool::io_error,
    replay::{Found, open_to_read, read},
    segment::Name,
};

/// Gives the commits after `after` up to and with `upto`, in order.
///
/// # Errors
/// [`JournalError::Damaged`] when one of them is not there, the caller's, and
/// [`JournalError::Io`].
pub fn read_between<E: From<JournalError>>(
    dir: &Path,
    after: CommitNo,
    upto: CommitNo,
    mut each: impl FnMut(CommitNo, Bytes) -> Result<(), E>,
) -> Result<(), E> {
    if upto <= after {
        return Ok(());
    }
    let mut next = after.next();
    for segment in needed(dir, next)? {
        if next > upto {
            break;
        }
        let content = read(&segment)?;
        for (commit, payload) in content.records {
            if commit == next && commit <= upto {
                each(commit, content.bytes.slice(payload))?;
                next = next.next();
            }
        }
    }
    if next <= upto {
        let damage = Damage::Short { last: next.previous(), applied: upto };
        return Err(JournalError::Damaged { path: dir.to_owned(), offset: 0, damage }.into());
    }
    Ok(())
}

/// The segments from the one that holds `first` on, oldest first.
fn needed(dir: &Path, first: CommitNo) -> Result<Vec<Found>, JournalError> {
    let read = io_error("read", dir);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(&read)? {
        let name = entry.map_err(&read)?.file_name();
        if let Some(Name::Live(number)) = name.to_str().and_then(Name::parse) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let mut segments = Vec::new();
    for number in numbers.into_iter().rev() {
        let segment = open_to_read(dir, number)?;
        let enough = segment.header.first <= first;
        segments.push(segment);
        if enough {
            break;
        }
    }
    segments.reverse();
    Ok(segments)
}
