//! Does everything in a data directory agree? One pass over the values, then over histories,
//! conversations and their members, changes of messages, notices, inboxes, devices, and what they have sent.
//!
//! What is found is reported and never stops the rest: a damaged record is one finding where it
//! stands, and no second one for whatever would have to be compared with it.

mod histories;
mod inboxes;
mod members;
mod mutations;
mod notices;
mod own;
mod pushes;
mod sends;

use std::collections::HashMap;

use bytes::Bytes;

use super::report::{Counts, FindingKind, Place, Report};
use crate::{
    conversation::{Conversation, Membership},
    history,
    id::{ConversationId, UserId},
    message::Message,
    seq::HistorySeq,
    store::{
        Bounds, ReadLimit, Reader, Store, StoreError,
        catalogue::{LogKey, LogKind, Table, conversation_key, membership_key},
        codec::Malformed,
    },
};

/// What is read of a log at once.
const PAGE: ReadLimit = ReadLimit { entries: 1000, bytes: 4 << 20 };

/// Looks at everything in a store that nobody else uses. `progress` is told now and then how far it
/// is.
pub fn verify(store: &Store, progress: &mut dyn FnMut(&Counts)) -> Report {
    let mut check = Check {
        reader: store.reader(),
        report: Report::default(),
        progress,
        histories: HashMap::new(),
        newest_id: 0,
        counted: HashMap::new(),
    };
    check.part("values", |check| {
        let report = &mut check.report;
        let values = store.check(|tree, key| {
            let place = Place::Value(tree.to_owned(), key.to_vec());
            report.add(FindingKind::Damaged, place, "the value does not match its checksum");
        })?;
        check.report.counts.values = values;
        Ok(())
    });
    check.part(LogKind::History.tree(), histories::check);
    check.part(Table::Counter.tree(), histories::check_ids);
    check.part(Table::Conversation.tree(), members::check_conversations);
    check.part(Table::Member.tree(), members::check_members);
    check.part(Table::Membership.tree(), members::check_memberships);
    check.part(LogKind::Mutation.tree(), mutations::check);
    check.part(Table::Mutated.tree(), mutations::check_mutated);
    check.part(Table::Hidden.tree(), own::check_hidden);
    check.part(Table::Mention.tree(), own::check_mentions);
    check.part(Table::Preference.tree(), own::check_preferences);
    check.part(Table::Membership.tree(), own::check_unread);
    check.part(LogKind::Notice.tree(), notices::check);
    check.part(Table::NoticeRound.tree(), notices::check_rounds);
    check.part(LogKind::Inbox.tree(), inboxes::check);
    check.part(Table::Device.tree(), inboxes::check_devices);
    check.part(Table::Revocation.tree(), notices::check_revocations);
    check.part(Table::PushTarget.tree(), pushes::check_targets);
    check.part(Table::PushJob.tree(), pushes::check_outboxes);
    check.part(Table::PushRound.tree(), pushes::check_rounds);
    check.part(LogKind::Sent.tree(), sends::check);
    check.part(Table::SentException.tree(), sends::check_exceptions);
    check.report
}

/// A verification under way.
struct Check<'a> {
    reader: Reader,
    report: Report,
    progress: &'a mut dyn FnMut(&Counts),
    /// Every history there is; none = its bounds are damaged, so nothing can be said about it.
    histories: HashMap<ConversationId, Option<Bounds>>,
    /// Greatest message id found.
    newest_id: u64,
    /// Rows of each history that were counted by hand, each once for every member it was unread by.
    counted: HashMap<ConversationId, u64>,
}

impl Check<'_> {
    fn part(&mut self, tree: &'static str, step: impl FnOnce(&mut Self) -> Result<(), StoreError>) {
        if let Err(error) = step(self) {
            self.report.add(FindingKind::Unreadable, Place::Tree(tree), error.to_string());
        }
        self.tell();
    }

    fn tell(&mut self) {
        (self.progress)(&self.report.counts);
    }

    fn add(&mut self, kind: FindingKind, place: Place, detail: impl Into<String>) {
        self.report.add(kind, place, detail);
    }

    fn malformed(&mut self, tree: &str, key: &[u8], detail: &str) {
        let place = Place::Value(tree.to_owned(), key.to_vec());
        self.add(FindingKind::Malformed, place, detail);
    }

    /// A row and whether it is a whole one; a damaged one is known already.
    fn row<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(Bytes) -> Result<T, Malformed>,
    ) -> Result<Row<T>, StoreError> {
        match self.reader.row(table, key) {
            Ok(None) => Ok(Row::Missing),
            Ok(Some(row)) => Ok(decode(row).map_or(Row::Unknown, Row::Whole)),
            Err(StoreError::Damaged(_)) => Ok(Row::Unknown),
            Err(error) => Err(error),
        }
    }

    fn conversation(&self, id: &ConversationId) -> Result<Row<Conversation>, StoreError> {
        self.row(Table::Conversation, &conversation_key(id), Conversation::decode)
    }

    fn membership(
        &self,
        user: &UserId,
        id: &ConversationId,
    ) -> Result<Row<Membership>, StoreError> {
        self.row(Table::Membership, &membership_key(user, id), Membership::decode)
    }

    /// Bounds of a history; one that never had a message is empty. None = damaged.
    fn history(&self, id: &ConversationId) -> Option<Bounds> {
        self.histories.get(id).copied().unwrap_or(Some(Bounds::EMPTY))
    }

    /// A history row; none when it is missing or damaged.
    fn message(&self, id: &ConversationId, seq: HistorySeq) -> Result<Option<Message>, StoreError> {
        history::row(&self.reader, &LogKey::history(id), seq)
    }

    /// Ordinal of a row; none when it cannot be known. Before the first there is nothing to count.
    fn ordinal(&self, id: &ConversationId, seq: HistorySeq) -> Result<Option<u64>, StoreError> {
        match seq {
            HistorySeq::ZERO => Ok(Some(0)),
            _ => Ok(self.message(id, seq)?.map(|message| message.ordinal)),
        }
    }

    /// Gives every entry of a log that can be read and says whether that were all. Holes are told.
    fn each_entry(
        &mut self,
        log: &LogKey,
        bounds: Bounds,
        place: impl Fn(u64) -> Place,
        mut each: impl FnMut(&mut Self, u64, Bytes) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mut next = bounds.first;
        let mut whole = true;
        while next <= bounds.last {
            let page = self.reader.read(log, next, PAGE)?;
            if page.is_empty() {
                let detail = format!("entries {next} to {} are missing", bounds.last);
                self.add(FindingKind::Hole, place(next), detail);
                return Ok(false);
            }
            for entry in page {
                if entry.seq != next {
                    let detail = format!("followed by {}", entry.seq);
                    self.add(FindingKind::Hole, place(next), detail);
                    whole = false;
                }
                next = entry.seq + 1;
                match entry.record {
                    Some(record) => each(self, entry.seq, record)?,
                    None => {
                        self.add(FindingKind::Hole, place(entry.seq), "missing or damaged");
                        whole = false;
                    }
                }
            }
        }
        Ok(whole)
    }

    /// Gives every row of a table that can be read.
    fn each_row(
        &mut self,
        table: Table,
        mut each: impl FnMut(&mut Self, &Bytes, Bytes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let reader = self.reader.clone();
        each_row(&reader, table, &[], |key, row| match row {
            Some(row) => each(self, key, row),
            None => Ok(()),
        })
    }
}

/// What stands under a key.
enum Row<T> {
    Whole(T),
    Missing,
    /// Damaged or malformed: told where it stands.
    Unknown,
}

/// Gives the rows of a table whose key begins with `prefix`; none for a damaged one.
pub(super) fn each_row(
    reader: &Reader,
    table: Table,
    prefix: &[u8],
    mut each: impl FnMut(&Bytes, Option<Bytes>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    const ROWS: usize = 1000;
    let mut after = Bytes::new();
    loop {
        let page = reader.rows_and_holes(table, prefix, &after, ROWS)?;
        let more = page.len() == ROWS;
        for (key, row) in page {
            each(&key, row)?;
            after = key;
        }
        if !more {
            return Ok(());
        }
    }
}
