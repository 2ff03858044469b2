//! Changes of messages: each of a message that is there, after the change it says it follows, the
//! newest one named by the message's row; and what inboxes tell of them.

use std::collections::HashMap;

use super::{Check, FindingKind, Place, Row};
use crate::{
    history::{Change, Mutated, Mutation},
    id::ConversationId,
    message::{EntryKind, MutationRef},
    seq::{HistorySeq, MutationSeq},
    store::{
        Bounds, StoreError,
        catalogue::{LogKey, LogKind, Table, first_id, last_seq, mutated_key},
        codec::is_lost,
    },
};

/// The newest change of a message so far.
#[derive(Clone, Copy)]
struct Newest {
    at: MutationSeq,
    revision: u32,
    gone: bool,
}

/// What was read of one log.
#[derive(Default)]
struct Changes {
    newest: HashMap<HistorySeq, Newest>,
    /// The last change that was read.
    last: u64,
    /// Some change before that could not be read: it may be of any message.
    holes: bool,
}

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    for (log, bounds) in check.reader.logs(LogKind::Mutation)? {
        let Some(id) = first_id::<ConversationId>(log.bytes()) else {
            check.malformed("bounds", log.bytes(), "the key names no conversation");
            continue;
        };
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        if let Row::Missing = check.conversation(&id)? {
            let detail = "its messages were changed and it has no row";
            check.add(FindingKind::Dangling, Place::Conversation(id.clone()), detail);
        }
        check_log(check, &log, &id, bounds)?;
        check.tell();
    }
    Ok(())
}

fn check_log(
    check: &mut Check<'_>,
    log: &LogKey,
    id: &ConversationId,
    bounds: Bounds,
) -> Result<(), StoreError> {
    let place = |seq| Place::Mutation(id.clone(), MutationSeq::new(seq));
    let mut changes = Changes { holes: bounds.first > 1, ..Changes::default() };
    let whole = check.each_entry(log, bounds, place, |check, seq, record| {
        check.report.counts.mutations += 1;
        changes.holes |= seq != changes.last + 1;
        changes.last = seq;
        if is_lost(&record) {
            changes.holes = true;
            check.report.counts.lost += 1;
            return Ok(());
        }
        let Ok(mutation) = Mutation::decode(record) else {
            changes.holes = true;
            check.add(FindingKind::Malformed, place(seq), "no change of a message");
            return Ok(());
        };
        if !check.has(id, mutation.seq) {
            let detail = format!("of message {}, which is not there", mutation.seq);
            check.add(FindingKind::Dangling, place(seq), detail);
            return Ok(());
        }
        if let Some(detail) = changes.add(seq, &mutation) {
            check.add(FindingKind::Mutation, place(seq), detail);
        }
        if let Change::Edited { .. } = mutation.change
            && let Some(message) = check.message(id, mutation.seq)?
            && message.sender != mutation.by
        {
            let detail = format!("{} edited a message of {}", mutation.by, message.sender);
            check.add(FindingKind::Mutation, place(seq), detail);
        }
        Ok(())
    })?;
    let whole = whole && !changes.holes;
    for (seq, newest) in changes.newest {
        match check.row(Table::Mutated, &mutated_key(id, seq), Mutated::decode)? {
            Row::Missing => {
                let detail = format!("change {} is not in `mutated`", newest.at);
                check.add(FindingKind::Mutation, Place::History(id.clone(), seq), detail);
            }
            Row::Whole(row) if row.mutation != newest.at && (whole || row.mutation < newest.at) => {
                let detail =
                    format!("its last change is {}, `mutated` says {}", newest.at, row.mutation);
                check.add(FindingKind::Mutation, Place::History(id.clone(), seq), detail);
            }
            Row::Whole(_) | Row::Unknown => {}
        }
    }
    Ok(())
}

impl Changes {
    /// Takes the next change; says what does not follow.
    fn add(&mut self, at: u64, mutation: &Mutation) -> Option<String> {
        let before = self.newest.get(&mutation.seq).copied();
        let previous = before.map_or(MutationSeq::ZERO, |before| before.at);
        let revision = match &mutation.change {
            Change::Edited { revision, .. } => *revision,
            Change::Recalled | Change::Deleted => 0,
        };
        let gone = revision == 0 && !matches!(mutation.change, Change::Edited { .. });
        let now = Newest { at: MutationSeq::new(at), revision, gone };
        self.newest.insert(mutation.seq, now);
        if mutation.previous != previous {
            // It may follow one that could not be read.
            let unread = self.holes && mutation.previous > previous && mutation.previous < now.at;
            return (!unread).then(|| {
                format!(
                    "message {} was changed by {previous} before, not by {}",
                    mutation.seq, mutation.previous
                )
            });
        }
        if before.is_some_and(|before| before.gone) {
            return Some(format!("message {} was gone already", mutation.seq));
        }
        let expected = before.map_or(0, |before| before.revision) + 1;
        (!gone && revision != expected)
            .then(|| format!("revision {revision} of message {}, {expected} follows", mutation.seq))
    }
}

/// From the messages' side.
pub(super) fn check_mutated(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Mutated;
    check.each_row(table, |check, key, row| {
        let place = (first_id::<ConversationId>(key), last_seq(key).map(HistorySeq::new));
        let ((Some(id), Some(seq)), Ok(row)) = (place, Mutated::decode(row)) else {
            check.malformed(table.tree(), key, "no row of a changed message");
            return Ok(());
        };
        let place = || Place::History(id.clone(), seq);
        if !check.has(&id, seq) {
            check.add(FindingKind::Dangling, place(), "changed, and not there");
            return Ok(());
        }
        match check.mutation(&id, row.mutation)? {
            Row::Missing => {
                let detail = format!("change {} is not there", row.mutation);
                check.add(FindingKind::Dangling, place(), detail);
            }
            Row::Whole(mutation) => {
                let gone = !matches!(mutation.change, Change::Edited { .. });
                if mutation.seq != seq {
                    let detail = format!("change {} is of {}", row.mutation, mutation.seq);
                    check.add(FindingKind::Mutation, place(), detail);
                } else if gone != row.gone {
                    let detail = format!("gone: {}, change {} says {gone}", row.gone, row.mutation);
                    check.add(FindingKind::Mutation, place(), detail);
                }
            }
            Row::Unknown => {}
        }
        if let Some(message) = check.message(&id, seq)?
            && row.counted == message.draft.flags.uncounted
        {
            let detail = format!("counted: {}, the message says otherwise", row.counted);
            check.add(FindingKind::Mutation, place(), detail);
        }
        Ok(())
    })
}

/// What an inbox entry of this kind tells of a change.
pub(super) fn check_told(
    check: &mut Check<'_>,
    place: Place,
    kind: &EntryKind,
    told: &MutationRef,
) -> Result<(), StoreError> {
    match check.mutation(&told.conversation, told.mutation)? {
        Row::Missing => {
            let detail = format!("change {} of {} is not there", told.mutation, told.conversation);
            check.add(FindingKind::Dangling, place, detail);
        }
        Row::Whole(mutation) => {
            let same = matches!(
                (kind, &mutation.change),
                (EntryKind::Recalled(_), Change::Recalled)
                    | (EntryKind::Edited(_), Change::Edited { .. })
                    | (EntryKind::Deleted(_), Change::Deleted)
            );
            if !same || mutation.seq != told.seq || mutation.by != told.by {
                let detail = format!("change {} is another one", told.mutation);
                check.add(FindingKind::Mutation, place, detail);
            }
        }
        Row::Unknown => {}
    }
    Ok(())
}

impl Check<'_> {
    /// The newest change in a conversation; none when that cannot be known.
    pub(super) fn last_mutation(
        &self,
        id: &ConversationId,
    ) -> Result<Option<MutationSeq>, StoreError> {
        match self.reader.bounds(&LogKey::mutations(id)) {
            Ok(bounds) => Ok(Some(MutationSeq::new(bounds.last))),
            Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a history has such a row, as far as can be known.
    fn has(&self, id: &ConversationId, seq: HistorySeq) -> bool {
        let bounds = self.history(id);
        seq > HistorySeq::ZERO && bounds.is_none_or(|bounds| seq.number() <= bounds.last)
    }

    fn mutation(&self, id: &ConversationId, at: MutationSeq) -> Result<Row<Mutation>, StoreError> {
        match self.reader.entry(&LogKey::mutations(id), at.number()) {
            Ok(None) => Ok(Row::Missing),
            Ok(Some(entry)) => {
                let record = entry.record.and_then(|record| Mutation::decode(record).ok());
                Ok(record.map_or(Row::Unknown, Row::Whole))
            }
            Err(StoreError::Damaged(_)) => Ok(Row::Unknown),
            Err(error) => Err(error),
        }
    }
}
