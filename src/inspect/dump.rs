//! One log as values, page by page.

use crate::{
    history::{self, Laid},
    id::{ConversationId, UserId},
    inbox,
    message::{Entry, Message},
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
    store::{ReadLimit, Reader, StoreError, catalogue::LogKey},
};

/// A part of a user's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Oldest kept entry.
    pub first: InboxSeq,
    /// Newest entry.
    pub last: InboxSeq,
    /// In order; none = damaged.
    pub entries: Vec<(InboxSeq, Option<Entry>)>,
}

/// A part of a conversation's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// Oldest kept row.
    pub first: HistorySeq,
    /// Newest row.
    pub last: HistorySeq,
    /// In order.
    pub rows: Vec<HistoryRow>,
}

/// A message of a history and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// Its place.
    pub seq: HistorySeq,
    /// As it was written; none = damaged.
    pub message: Option<Message>,
    /// Its latest change.
    pub change: Laid,
}

/// At most `entries` entries of the user's inbox after `after`.
///
/// # Errors
/// When the store cannot be read.
pub fn log_page(
    reader: &Reader,
    user: &UserId,
    after: InboxSeq,
    entries: usize,
) -> Result<LogPage, StoreError> {
    let log = LogKey::inbox(user);
    let bounds = reader.bounds(&log)?;
    let limit = ReadLimit { entries, bytes: usize::MAX };
    let entries = reader.read(&log, after.next().number(), limit)?.into_iter();
    let entries = entries.map(|entry| (InboxSeq::new(entry.seq), inbox::parse(entry))).collect();
    Ok(LogPage { first: InboxSeq::new(bounds.first), last: InboxSeq::new(bounds.last), entries })
}

/// At most `rows` rows of the conversation's history after `after`.
///
/// # Errors
/// When the store cannot be read.
pub fn history_page(
    reader: &Reader,
    conversation: &ConversationId,
    after: HistorySeq,
    rows: usize,
) -> Result<HistoryPage, StoreError> {
    let log = LogKey::history(conversation);
    let bounds = reader.bounds(&log)?;
    let (first, last) = (HistorySeq::new(bounds.first), HistorySeq::new(bounds.last));
    let from = after.next().max(first);
    let until = from.number().saturating_add(rows as u64).saturating_sub(1);
    let span = Span { first: from, last: last.min(HistorySeq::new(until)) };
    let messages = if rows == 0 { Vec::new() } else { history::read(reader, &log, span)? };
    let row = |(seq, message)| {
        let change = history::laid(reader, conversation, seq, MutationSeq::new(u64::MAX))?;
        Ok(HistoryRow { seq, message, change })
    };
    let rows = messages.into_iter().map(row).collect::<Result<_, StoreError>>()?;
    Ok(HistoryPage { first, last, rows })
}
