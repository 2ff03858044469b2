//! Reading the journal again: what an open finds, believes, drops and refuses.
//!
//! The rules, and why they are right:
//! - Record n + 1 is written only after record n is on disk. So a crash leaves at most one broken
//!   record, the last, which nobody was told about: it is dropped. A broken record with a valid one
//!   behind it, in the same segment or in a later one, was acknowledged: damage.
//! - For the very last record the two cannot be told apart: a bit that flipped in it later looks
//!   exactly like a write that never finished. It is dropped, unless the checkpoint names it.
//! - The checkpoint only names commits that were in the journal. One that lies behind the journal's
//!   end is damage. A journal whose records are all applied and given back still has its last
//!   segment, whose header says where it goes on; only "no segment at all" with a checkpoint of 0
//!   is a new journal.
//! - A segment that is followed by another is sealed, so a last one with a seal is not the last.
//! - A hole between segments is damage only if a commit behind the checkpoint lies in it: segments
//!   are given back oldest first, but a power cut may bring an older one back and not the next.
//! - A live segment has the length it was made with and a valid header before it gets its name, so
//!   a short file or a bad header is damage, never the trace of a crash.
//!
//! Before anything is handed out, the end of the last segment is put in order ([`settle`]): what was
//! read is then on disk, and behind it there are only zeros.

use std::{
    error::Error,
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    CommitNo, Damage, JournalError, SEGMENT_BYTES_MAX, disk,
    pool::{Pool, Sealed, io_error},
    record::{self, Record},
    segment::{self, Active, HEADER_BYTES, Header, Name},
};

/// Receives one commit.
pub(super) type Each<'a> =
    &'a mut dyn FnMut(CommitNo, Bytes) -> Result<(), Box<dyn Error + Send + Sync>>;

/// A live segment whose header is right.
pub(super) struct Found {
    file: File,
    path: PathBuf,
    pub(super) header: Header,
}

impl Found {
    fn damaged(&self, offset: usize, damage: Damage) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), offset: offset as u64, damage }
    }
}

/// Reads the live segments `numbers` (ascending, at least one), passes every commit after `applied`
/// on, tells the pool which segments are sealed, and returns the active one with its last commit.
pub(super) fn replay(
    pool: &Pool,
    numbers: &[u64],
    applied: CommitNo,
    each: Each<'_>,
) -> Result<Option<(Active, CommitNo)>, JournalError> {
    let mut found = Vec::with_capacity(numbers.len());
    for &number in numbers {
        found.push(open_segment(pool.dir(), number)?);
    }
    let needed = first_needed(pool.dir(), &found, applied)?;
    let firsts: Vec<CommitNo> = found.iter().skip(1).map(|segment| segment.header.first).collect();
    for (index, segment) in found.into_iter().enumerate() {
        match firsts.get(index) {
            Some(&next) => {
                let used = match index < needed {
                    true => 0,
                    false => replay_sealed(&segment, next, applied, each)? as u64,
                };
                let Header { number, bytes, .. } = segment.header;
                pool.seal(Sealed { number, last: next.previous(), bytes, used });
            }
            None => return replay_last(segment, applied, each).map(Some),
        }
    }
    Ok(None)
}

fn open_segment(dir: &Path, number: u64) -> Result<Found, JournalError> {
    let path = Name::Live(number).path(dir);
    let file = disk::open(&path).map_err(io_error("open", &path))?;
    found(file, path, number)
}

/// Opens a segment that somebody else writes.
pub(super) fn open_to_read(dir: &Path, number: u64) -> Result<Found, JournalError> {
    let path = Name::Live(number).path(dir);
    let file = File::open(&path).map_err(io_error("open", &path))?;
    found(file, path, number)
}

fn found(file: File, path: PathBuf, number: u64) -> Result<Found, JournalError> {
    let bytes = file.metadata().map_err(io_error("look at", &path))?.len();
    let mut block = vec![0; bytes.min(HEADER_BYTES) as usize];
    file.read_exact_at(&mut block, 0).map_err(io_error("read", &path))?;
    let header = Header::decode(&block, &path, number)?;
    let fits = (HEADER_BYTES..=SEGMENT_BYTES_MAX).contains(&bytes);
    if header.bytes != bytes || !fits {
        let offset = bytes.min(header.bytes);
        return Err(JournalError::Damaged { path, offset, damage: Damage::Length });
    }
    Ok(Found { file, path, header })
}

/// Index of the oldest segment that holds, or would hold, the commit after `applied`.
fn first_needed(dir: &Path, found: &[Found], applied: CommitNo) -> Result<usize, JournalError> {
    let expected = applied.next();
    let mut needed = 0;
    for (index, pair) in found.windows(2).enumerate() {
        let [this, next] = pair else { continue };
        if next.header.first < this.header.first {
            return Err(next.damaged(0, Damage::Header));
        }
        if next.header.first <= expected {
            needed = index + 1;
        } else if next.header.number != this.header.number + 1 {
            let path = Name::Live(this.header.number + 1).path(dir);
            let damage = Damage::Missing { expected, found: next.header.first };
            return Err(JournalError::Damaged { path, offset: 0, damage });
        }
    }
    match found.get(needed) {
        Some(oldest) if oldest.header.first > expected => {
            let path = Name::Live(oldest.header.number.saturating_sub(1)).path(dir);
            let damage = Damage::Missing { expected, found: oldest.header.first };
            Err(JournalError::Damaged { path, offset: 0, damage })
        }
        _ => Ok(needed),
    }
}

/// The valid records at the beginning of a segment.
pub(super) struct Content {
    pub(super) bytes: Bytes,
    pub(super) records: Vec<(CommitNo, Range<usize>)>,
    /// Where the last record begins; the end if there is none.
    last_at: usize,
    /// Where the records end.
    end: usize,
    /// The commit that would come next.
    next: CommitNo,
}

pub(super) fn read(segment: &Found) -> Result<Content, JournalError> {
    let mut bytes = vec![0; segment.header.bytes as usize];
    segment.file.read_exact_at(&mut bytes, 0).map_err(io_error("read", &segment.path))?;
    let mut content = Content {
        bytes: bytes.into(),
        records: Vec::new(),
        last_at: HEADER_BYTES as usize,
        end: HEADER_BYTES as usize,
        next: segment.header.first,
    };
    while let Some(record) = record::decode(&content.bytes, content.end, segment.header.salt) {
        let Record { commit, payload, end } = record;
        if commit != content.next {
            let damage = Damage::Order { expected: content.next, found: commit };
            return Err(segment.damaged(content.end, damage));
        }
        content.records.push((commit, payload));
        content.last_at = content.end;
        content.end = end;
        content.next = commit.next();
    }
    Ok(content)
}

fn hand_out(content: Content, applied: CommitNo, each: Each<'_>) -> Result<(), JournalError> {
    for (commit, payload) in content.records {
        if commit > applied {
            each(commit, content.bytes.slice(payload))
                .map_err(|source| JournalError::Replay { commit, source })?;
        }
    }
    Ok(())
}

/// Returns how many bytes of the file are in use.
fn replay_sealed(
    segment: &Found,
    next: CommitNo,
    applied: CommitNo,
    each: Each<'_>,
) -> Result<usize, JournalError> {
    let content = read(segment)?;
    if content.next != next {
        return Err(segment.damaged(content.end, Damage::Record { expected: content.next }));
    }
    let used = content.end;
    hand_out(content, applied, each)?;
    Ok(used)
}

fn replay_last(
    segment: Found,
    applied: CommitNo,
    each: Each<'_>,
) -> Result<(Active, CommitNo), JournalError> {
    let content = read(&segment)?;
    if let Some(next) = segment::sealed_before(&content.bytes) {
        let number = segment.header.number + 1;
        let path = Name::Live(number).path(segment.path.parent().unwrap_or(Path::new("")));
        let damage = Damage::LastMissing { expected: next };
        return Err(JournalError::Damaged { path, offset: 0, damage });
    }
    if record::find(&content.bytes, content.end, segment.header.salt).is_some() {
        return Err(segment.damaged(content.end, Damage::Record { expected: content.next }));
    }
    let last = content.next.previous();
    if last < applied {
        return Err(segment.damaged(content.end, Damage::Short { last, applied }));
    }
    settle(&segment.file, &content).map_err(io_error("settle", &segment.path))?;
    let end = content.end as u64;
    hand_out(content, applied, each)?;
    let Found { file, path, header } = segment;
    Ok((Active { file, path, header, end }, last))
}

/// Makes what was read durable, and what stands behind it harmless.
///
/// The last record may have come from memory only: the process that wrote it may have ended before
/// its sync, or the sync failed, after which the kernel calls the pages clean although the disk
/// never took them. Writing it again makes the sync that follows mean something. Behind it lies at
/// most a broken record, or what an earlier life of the file left: zeros instead, so that no later
/// crash can put a remainder of it behind a new, shorter record.
fn settle(file: &File, content: &Content) -> std::io::Result<()> {
    if let Some(last) = content.bytes.get(content.last_at..content.end)
        && !last.is_empty()
    {
        disk::write(file, last, content.last_at as u64)?;
    }
    let rest = content.bytes.get(content.end..).unwrap_or_default();
    if rest.iter().any(|&byte| byte != 0) {
        disk::write_zeros(file, content.end as u64..content.bytes.len() as u64)?;
    }
    disk::sync(file)
}
