//! Reading what the engine has allowed: entries joined with their messages, pages, previews.
//!
//! Runs in the session's own thread, on durable data, without disturbing the engine. Content is
//! joined here, when an entry is read (late binding).

use super::{Answer, HistoryGrant};
use crate::{
    history,
    id::{ConversationId, UserId},
    inbox,
    limits::BATCH_BYTES_TARGET,
    message::{Entry, EntryKind, Message, MutationRef, Preferences},
    refusal::{ErrorCode, Refusal},
    reply::{Batch, ConversationView, EntryView, PlacedMessage, Reply},
    request::Direction,
    seq::{HistorySeq, InboxSeq, MutationSeq},
    store::{ReadLimit, Reader, StoreError, catalogue::LogKey},
    time::Timestamp,
};

/// Entries of the user's inbox after `after` up to `upto`, joined; at most `entries`, and about
/// `bytes` of frame, but at least one if there is one. None when retention (`kept_max` entries) has
/// passed `after`.
///
/// # Errors
/// When the store cannot be read. Damage comes as [`EntryView::Hole`].
pub fn entries(
    reader: &Reader,
    user: &UserId,
    after: InboxSeq,
    upto: InboxSeq,
    most: ReadLimit,
    kept_max: u64,
) -> Result<Option<Vec<EntryView>>, StoreError> {
    let log = LogKey::inbox(user);
    let entries = usize::try_from(upto.since(after)).unwrap_or(usize::MAX).min(most.entries);
    if entries == 0 {
        return Ok(Some(Vec::new()));
    }
    let rows = inbox::read(reader, &log, after, ReadLimit { entries, bytes: most.bytes })?;
    // Looked at after reading: what was there then was whole.
    let (first, _) = inbox::kept(reader.bounds(&log)?, kept_max);
    if after.next() < first {
        return Ok(None);
    }
    let mut views = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for (_, entry) in rows {
        let view = join(reader, entry)?;
        bytes += weight(&view);
        if bytes > most.bytes && !views.is_empty() {
            break;
        }
        views.push(view);
    }
    Ok(Some(views))
}

fn join(reader: &Reader, entry: Option<Entry>) -> Result<EntryView, StoreError> {
    let Some(Entry { time, kind }) = entry else {
        return Ok(EntryView::Hole { time: Timestamp::default(), detail: "damaged entry" });
    };
    Ok(match kind {
        EntryKind::Message { conversation, seq } => {
            let message = history::row(reader, &LogKey::history(&conversation), seq)?;
            EntryView::Message { time, message: PlacedMessage::new(conversation, seq, message) }
        }
        EntryKind::Read { conversation, read_seq, marked_unread } => {
            EntryView::Read { time, conversation, read_seq, marked_unread }
        }
        EntryKind::Membership(change) => EntryView::Membership { time, change },
        EntryKind::Recalled(mutation) => EntryView::Recalled { time, mutation },
        EntryKind::Deleted(mutation) => EntryView::Deleted { time, mutation },
        EntryKind::Edited(MutationRef { conversation, seq, mutation, .. }) => {
            let message = history::row(reader, &LogKey::history(&conversation), seq)?;
            let message = PlacedMessage::new(conversation, seq, message);
            EntryView::Edited { time, mutation, message }
        }
        EntryKind::Hidden { conversation, seqs } => EntryView::Hidden { time, conversation, seqs },
        EntryKind::PeerRead { conversation, user, read_seq } => {
            EntryView::PeerRead { time, conversation, user, read_seq }
        }
        EntryKind::Preferences { conversation } => {
            EntryView::Preferences { time, conversation, preferences: Preferences::default() }
        }
        EntryKind::Cleared { conversation, cleared_to } => {
            EntryView::Cleared { time, conversation, cleared_to }
        }
        EntryKind::Notice { notice: _ } => {
            EntryView::Hole { time, detail: "the notice is damaged" }
        }
        EntryKind::Mode { conversation, large, from } => {
            EntryView::Mode { time, conversation, large, from }
        }
        EntryKind::Unknown => EntryView::Hole { time, detail: "entry of a newer version" },
    })
}

/// About how many bytes an entry takes on the wire.
fn weight(view: &EntryView) -> usize {
    match view {
        EntryView::Message { message, .. } | EntryView::Edited { message, .. } => {
            message.message.as_ref().map_or(128, Message::weight)
        }
        EntryView::Membership { change, .. } => 128 + 66 * change.users.len(),
        EntryView::Hidden { seqs, .. } => 96 + 10 * seqs.len(),
        EntryView::Preferences { preferences, .. } => 128 + preferences.draft.len(),
        EntryView::Notice { notice, .. } => 256 + notice.content.len(),
        EntryView::Recalled { .. } | EntryView::Deleted { .. } | EntryView::PeerRead { .. } => 192,
        EntryView::Read { .. }
        | EntryView::Cleared { .. }
        | EntryView::Mode { .. }
        | EntryView::Hole { .. } => 96,
    }
}

/// Turns an answer that has something to be read into its reply; others have none to give.
///
/// # Errors
/// When the store cannot be read.
pub fn complete(
    reader: &Reader,
    user: &UserId,
    kept_max: u64,
    answer: Answer,
) -> Result<Option<Reply>, StoreError> {
    Ok(match answer {
        Answer::Reply(reply) => Some(reply),
        Answer::Previews(reply) => Some(previews(reader, reply)?),
        Answer::History(grant) => Some(page(reader, grant)?),
        Answer::Pull(after, head, limit) => {
            let most = ReadLimit { entries: limit as usize, bytes: BATCH_BYTES_TARGET };
            Some(match entries(reader, user, after, head, most, kept_max)? {
                Some(entries) => Reply::Pulled(Batch { prev: after, head, entries }),
                None => Reply::Refused(Refusal::new(
                    ErrorCode::ResyncNeeded,
                    "retention has passed this place",
                )),
            })
        }
        Answer::Nothing | Answer::Attached(_) | Answer::Resumed(_) | Answer::CaughtUp { .. } => {
            None
        }
    })
}

fn page(reader: &Reader, grant: HistoryGrant) -> Result<Reply, StoreError> {
    let HistoryGrant { conversation, span, max_bytes, direction, visible } = grant;
    let rows = history::read(reader, &LogKey::history(&conversation), span)?;
    let mut messages: Vec<PlacedMessage> = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    let place = |(seq, message)| PlacedMessage::new(conversation.clone(), seq, message);
    let mut fits = |row: &(HistorySeq, Option<Message>), empty: bool| {
        bytes += row.1.as_ref().map_or(128, Message::weight);
        empty || bytes <= max_bytes
    };
    if let Direction::Newer(_) = direction {
        for row in rows {
            if !fits(&row, messages.is_empty()) {
                break;
            }
            messages.push(place(row));
        }
    } else {
        for row in rows.into_iter().rev() {
            if !fits(&row, messages.is_empty()) {
                break;
            }
            messages.push(place(row));
        }
        messages.reverse();
    }
    let complete = match (direction, messages.first(), messages.last()) {
        (Direction::Newer(_), _, Some(last)) => last.seq >= visible.last,
        (_, Some(first), _) => first.seq <= visible.first,
        _ => true,
    };
    Ok(Reply::HistoryPage {
        messages,
        visible_first: visible.first,
        visible_last: visible.last,
        mutation: MutationSeq::ZERO,
        complete,
    })
}

fn previews(reader: &Reader, mut reply: Reply) -> Result<Reply, StoreError> {
    let mut fill = |view: &mut ConversationView| -> Result<(), StoreError> {
        if view.visible_first <= view.visible_last {
            view.last_message = preview(reader, &view.conversation, view.visible_last)?;
        }
        Ok(())
    };
    match &mut reply {
        Reply::ConversationPage { conversations, .. } => {
            conversations.iter_mut().try_for_each(&mut fill)?;
        }
        Reply::ConversationItems { items, .. } => {
            items.iter_mut().flatten().try_for_each(&mut fill)?;
        }
        _ => {}
    }
    Ok(reply)
}

fn preview(
    reader: &Reader,
    conversation: &ConversationId,
    seq: HistorySeq,
) -> Result<Option<PlacedMessage>, StoreError> {
    let message = history::row(reader, &LogKey::history(conversation), seq)?;
    Ok(Some(PlacedMessage::new(conversation.clone(), seq, message)))
}
