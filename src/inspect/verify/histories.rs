//! Histories: dense, ordinals that count, ids that rise.

use super::{Check, FindingKind, Place, Row};
use crate::{
    history,
    id::ConversationId,
    seq::HistorySeq,
    store::{
        StoreError,
        catalogue::{LogKind, MESSAGE_IDS, Table, first_id},
        codec::read_varint,
    },
};

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    for (log, bounds) in check.reader.logs(LogKind::History)? {
        let Some(id) = first_id::<ConversationId>(log.bytes()) else {
            check.malformed("bounds", log.bytes(), "the key names no conversation");
            continue;
        };
        check.histories.insert(id.clone(), bounds);
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        if let Row::Missing = check.conversation(&id)? {
            let detail = "it has messages and no row";
            check.add(FindingKind::Dangling, Place::Conversation(id.clone()), detail);
        }
        let place = |seq| Place::History(id.clone(), HistorySeq::new(seq));
        // Sequence, ordinal and id of the message before.
        let mut before = (bounds.first == 1).then_some((0, 0, 0));
        check.each_entry(&log, bounds, place, |check, seq, record| {
            let Ok(message) = history::decode(record.clone()) else {
                match history::ordinal(&record) {
                    Some(_) => check.report.counts.lost += 1,
                    None => check.add(FindingKind::Malformed, place(seq), "no message"),
                }
                return Ok(());
            };
            check.report.counts.messages += 1;
            let number = message.id.number();
            check.newest_id = check.newest_id.max(number);
            if let Some((before_seq, ordinal, id)) = before
                && before_seq + 1 == seq
            {
                let counted = ordinal + u64::from(!message.draft.flags.uncounted);
                if message.ordinal != counted {
                    let detail = format!("ordinal {}, {counted} follows", message.ordinal);
                    check.add(FindingKind::Ordinal, place(seq), detail);
                }
                if number <= id {
                    let detail = format!("message id {number} after {id}");
                    check.add(FindingKind::MessageId, place(seq), detail);
                }
            }
            before = Some((seq, message.ordinal, number));
            Ok(())
        })?;
        check.tell();
    }
    Ok(())
}

/// No id that is in use may be given again.
pub(super) fn check_ids(check: &mut Check<'_>) -> Result<(), StoreError> {
    let free = check.row(Table::Counter, MESSAGE_IDS, |mut row| read_varint(&mut row))?;
    let newest = check.newest_id;
    let place = Place::Value(Table::Counter.tree().to_owned(), MESSAGE_IDS.to_vec());
    match free {
        Row::Whole(free) if free <= newest => {
            let detail = format!("the next id is {free}, {newest} is in use");
            check.add(FindingKind::MessageId, place, detail);
        }
        Row::Missing if newest > 0 => {
            check.add(FindingKind::MessageId, place, "there are messages and no counter");
        }
        _ => {}
    }
    Ok(())
}
