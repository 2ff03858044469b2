//! The history: a conversation's messages, kept long; the stored form of a message and paging.

mod alike;
mod mutation;
mod record;

pub use self::{
    alike::Alike,
    mutation::{Change, Laid, Mutated, Mutation, laid},
    record::{decode, decode_alike, encode, encode_lost, ordinal},
};
use crate::{
    message::Message,
    request::Direction,
    seq::{HistorySeq, Span},
    store::{LogEntry, ReadLimit, Reader, StoreError, catalogue::LogKey},
};

/// The rows of a page of at most `limit` in `direction`, of a history visible as `visible`.
#[must_use]
pub fn page(visible: Span, direction: Direction, limit: u32) -> Span {
    let (low, high) = (visible.first.number(), visible.last.number());
    let limit = u64::from(limit.max(1));
    let span = |first: u64, last: u64| Span {
        first: HistorySeq::new(first.max(low)),
        last: HistorySeq::new(last.min(high)),
    };
    match direction {
        Direction::Newest => span((high + 1).saturating_sub(limit), high),
        Direction::Older(anchor) => {
            let last = anchor.number().saturating_sub(1).min(high);
            span((last + 1).saturating_sub(limit), last)
        }
        Direction::Newer(anchor) => {
            let first = anchor.number().saturating_add(1).max(low);
            span(first, first.saturating_add(limit - 1))
        }
    }
}

/// Reads the rows of a span in order; a damaged row comes as none.
///
/// # Errors
/// When the store cannot be read.
pub fn read(
    reader: &Reader,
    log: &LogKey,
    span: Span,
) -> Result<Vec<(HistorySeq, Option<Message>)>, StoreError> {
    if span.is_empty() {
        return Ok(Vec::new());
    }
    let entries = span.len() as usize;
    let limit = ReadLimit { entries, bytes: usize::MAX };
    let mut alike = Alike::default();
    let rows = reader.read(log, span.first.number(), limit)?.into_iter();
    Ok(rows.map(|row| parse_alike(row, &mut alike)).collect())
}

/// One row; none when it was never there or is damaged.
///
/// # Errors
/// When the store cannot be read.
pub fn row(reader: &Reader, log: &LogKey, seq: HistorySeq) -> Result<Option<Message>, StoreError> {
    Ok(reader.entry(log, seq.number())?.and_then(|entry| parse(entry).1))
}

/// The message in a log entry; none when it is damaged.
#[must_use]
pub fn parse(entry: LogEntry) -> (HistorySeq, Option<Message>) {
    parse_alike(entry, &mut Alike::default())
}

/// As [`parse`], one of several.
#[must_use]
pub fn parse_alike(entry: LogEntry, alike: &mut Alike) -> (HistorySeq, Option<Message>) {
    let message = entry.record.and_then(|record| decode_alike(record, alike).ok());
    (HistorySeq::new(entry.seq), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_stay_within_what_is_visible() {
        let visible = Span { first: HistorySeq::new(5), last: HistorySeq::new(20) };
        let rows = |direction| {
            let span = page(visible, direction, 4);
            (span.first.number(), span.last.number())
        };
        let at = HistorySeq::new;
        assert_eq!(rows(Direction::Newest), (17, 20));
        assert_eq!(rows(Direction::Older(at(17))), (13, 16));
        assert_eq!(rows(Direction::Older(at(7))), (5, 6));
        assert_eq!(rows(Direction::Older(at(100))), (17, 20));
        assert_eq!(rows(Direction::Newer(at(0))), (5, 8));
        assert_eq!(rows(Direction::Newer(at(18))), (19, 20));
        assert!(page(visible, Direction::Newer(at(20)), 4).is_empty());
        assert!(page(visible, Direction::Older(at(5)), 4).is_empty());
        let empty = Span { first: at(1), last: at(0) };
        assert!(page(empty, Direction::Newest, 4).is_empty());
    }
}
