//! The inbox: a user's offline log of entries, the cursors of its devices, and retention.
//!
//! Entries are small: a message is a pointer at its history row. Retention by count is exact at
//! every read ([`kept`]); the store removes rows behind it, in slices. A cursor says what a device has
//! stored and deletes nothing.

mod device;
mod entry;

use std::time::Duration;

pub use self::{
    device::{Device, Revocation},
    entry::{decode, encode},
};
use crate::{
    message::Entry,
    planted::{self, Bug},
    seq::InboxSeq,
    store::{Bounds, LogEntry, ReadLimit, StoreError, Writer, catalogue::LogKey},
    time::Ages,
};

/// The range of entries that retention by count leaves: `first..=head`.
#[must_use]
pub fn kept(bounds: Bounds, entries_max: u64) -> (InboxSeq, InboxSeq) {
    let first = bounds.first.max((bounds.last + 1).saturating_sub(entries_max));
    if planted::is(Bug::NewestTrimmed) && first > 1 {
        return (InboxSeq::new(first - 1), InboxSeq::new(bounds.last - 1));
    }
    (InboxSeq::new(first), InboxSeq::new(bounds.last))
}

/// The first entry that is younger than `age_max`, looking at most at so many entries past `first`:
/// retention by age goes forward in slices, whenever the user's devices connect. The oldest is mostly young
/// enough.
///
/// # Errors
/// When the store cannot be read.
pub fn expire(
    writer: &Writer,
    log: &LogKey,
    first: InboxSeq,
    ages: Ages,
    age_max: Duration,
) -> Result<InboxSeq, StoreError> {
    const LOOKS: [usize; 2] = [1, 1000];
    let mut kept = first;
    for entries in LOOKS {
        for entry in writer.read(log, kept.number(), ReadLimit { entries, bytes: 1 << 20 })? {
            let seq = entry.seq;
            if !parse(entry).is_some_and(|entry| ages.is_over(entry.time, age_max)) {
                return Ok(kept);
            }
            kept = InboxSeq::new(seq + 1);
        }
    }
    Ok(kept)
}

/// An entry as stored; none = the record is damaged.
#[must_use]
pub fn parse(entry: LogEntry) -> Option<Entry> {
    entry.record.and_then(|record| decode(record).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_by_count_is_exact() {
        let bounds = |first, last| Bounds { first, last };
        let range = |b| {
            let (first, head) = kept(b, 1000);
            (first.number(), head.number())
        };
        assert_eq!(range(Bounds::EMPTY), (1, 0));
        assert_eq!(range(bounds(1, 1000)), (1, 1000));
        assert_eq!(range(bounds(1, 1001)), (2, 1001));
        assert_eq!(range(bounds(500, 600)), (500, 600));
    }
}
