//! Reading what the engine has allowed: entries joined with their messages, pages, previews.
//!
//! Runs in the session's own thread, on durable data, without disturbing the engine. Content is
//! joined here, when an entry is read (late binding), and always through [`super::sight`].

use super::{
    Answer, Command, HistoryGrant, MutationGrant, page, preferences, readers,
    sight::{Sight, Sights, readable},
};
use hashbrown::HashMap;

use crate::{
    conversation::Membership,
    history::{self, Mutation},
    id::{ConversationId, UserId},
    inbox,
    limits::{
        BATCH_BYTES_TARGET, HISTORY_PAGE_BYTES_DEFAULT, HISTORY_PAGE_BYTES_MAX, OUTPUT_BYTES_MAX,
    },
    message::{Entry, EntryKind, Message, MutationRef},
    notice,
    planted::{self, Bug},
    refusal::{ErrorCode, Refusal},
    reply::{Batch, ConversationView, EntryView, MessageItem, PlacedMessage, Reply},
    request::{Direction, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
    store::{
        ReadLimit, Reader, StoreError,
        catalogue::{LogKey, Table, membership_key},
    },
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
    // No more messages than that fit.
    let entries = entries.min(most.bytes / Message::WEIGHT_MIN + 1);
    let limit = ReadLimit { entries, bytes: most.bytes };
    let rows = reader.read(&log, after.next().number(), limit)?;
    // Looked at after reading: what was there then was whole.
    let (first, _) = inbox::kept(reader.bounds(&log)?, kept_max);
    if after.next() < first && !planted::is(Bug::OverflowSkipped) {
        return Ok(None);
    }
    let mut sights = Sights::new(reader, user);
    let mut views = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for entry in rows {
        let view = join(reader, user, &mut sights, inbox::parse(entry))?;
        bytes += view.weight();
        if bytes > most.bytes && !views.is_empty() {
            break;
        }
        views.push(view);
    }
    if planted::is(Bug::OrderSwapped) && views.len() > 1 {
        let newest = views.len() - 1;
        views.swap(newest - 1, newest);
    }
    Ok(Some(views))
}

fn join(
    reader: &Reader,
    user: &UserId,
    sights: &mut Sights<'_>,
    entry: Option<Entry>,
) -> Result<EntryView, StoreError> {
    let Some(Entry { time, kind }) = entry else {
        return Ok(EntryView::Hole { time: Timestamp::default(), detail: "damaged entry" });
    };
    Ok(match kind {
        EntryKind::Message { conversation, seq } => {
            EntryView::Message { time, message: sights.of(&conversation)?.message(seq)? }
        }
        EntryKind::Read { conversation, read_seq, marked_unread } => {
            EntryView::Read { time, conversation, read_seq, marked_unread }
        }
        EntryKind::Membership(change) => EntryView::Membership { time, change },
        EntryKind::Recalled(mutation) => EntryView::Recalled { time, mutation },
        EntryKind::Deleted(mutation) => EntryView::Deleted { time, mutation },
        EntryKind::Edited(MutationRef { conversation, seq, mutation, .. }) => {
            let message = sights.of(&conversation)?.message(seq)?;
            EntryView::Edited { time, mutation, message }
        }
        EntryKind::Hidden { conversation, seqs } => EntryView::Hidden { time, conversation, seqs },
        EntryKind::PeerRead { conversation, user, read_seq } => {
            EntryView::PeerRead { time, conversation, user, read_seq }
        }
        EntryKind::Preferences { conversation } => {
            match preferences::read(reader, user, &conversation)? {
                Some(preferences) => EntryView::Preferences { time, conversation, preferences },
                None => EntryView::Hole { time, detail: "the preferences are damaged" },
            }
        }
        EntryKind::Cleared { conversation, cleared_to } => {
            EntryView::Cleared { time, conversation, cleared_to }
        }
        EntryKind::Notice { notice } => match notice::view(reader, notice)? {
            Some(notice) => EntryView::Notice { time, notice },
            None => EntryView::Hole { time, detail: "the notice is damaged" },
        },
        EntryKind::Mode { conversation, large, from } => {
            EntryView::Mode { time, conversation, large, from }
        }
        EntryKind::Unknown => EntryView::Hole { time, detail: "entry of a newer version" },
    })
}

fn message_weight(placed: &PlacedMessage) -> usize {
    placed.message.as_ref().map_or(128, Message::weight)
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
        Answer::Previews(reply) => Some(previews(reader, user, reply)?),
        Answer::History(grant) => Some(page(reader, user, grant)?),
        Answer::Mutations(grant) => Some(mutations(reader, user, &grant)?),
        Answer::Messages(places) => Some(messages(reader, user, &places)?),
        Answer::Readers(grant) => Some(readers::page(reader, &grant)?),
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

/// The page that is asked for, if it is one and nothing is to be said against it; none: the engine is to be
/// asked. For a session that waits for nothing else: whatever it was told of is durable, and is seen here.
///
/// # Errors
/// When the store cannot be read.
pub fn at_once(
    reader: &Reader,
    user: &UserId,
    command: &Command,
) -> Result<Option<Reply>, StoreError> {
    let Command::Request(Request::FetchHistory { conversation: id, direction, limit, max_bytes }) =
        command
    else {
        return Ok(None);
    };
    // The end goes first: whoever is a member behind it may see everything up to it, and whoever has left
    // by then was a member when it was there, or sees less.
    let Some(head) = readable(reader.bounds(&LogKey::history(id)))? else { return Ok(None) };
    let own = readable(reader.row(Table::Membership, &membership_key(user, id)))?.flatten();
    let Some(own) = own.and_then(|row| Membership::decode(row).ok()) else { return Ok(None) };
    let head = HistorySeq::new(head.last);
    match page::grant(&own, head, id, *direction, *limit, *max_bytes) {
        Ok(grant) => Ok(Some(self::page(reader, user, grant)?)),
        Err(_) => Ok(None),
    }
}

fn page(reader: &Reader, user: &UserId, grant: HistoryGrant) -> Result<Reply, StoreError> {
    let HistoryGrant { conversation, span, max_bytes, direction, visible } = grant;
    let mut rows = history::read(reader, &LogKey::history(&conversation), span)?;
    let sight = Sight::open(reader, user, &conversation)?;
    let newer = matches!(direction, Direction::Newer(_));
    if !newer {
        rows.reverse();
    }
    let mut messages: Vec<PlacedMessage> = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for (seq, row) in rows {
        let message = sight.show(seq, row)?;
        bytes += message_weight(&message);
        if bytes > max_bytes && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    if !newer && !planted::is(Bug::HistoryReversed) {
        messages.reverse();
    }
    let complete = match (messages.first(), messages.last()) {
        (_, Some(last)) if newer => last.seq >= visible.last,
        (Some(first), _) => first.seq <= visible.first,
        _ => true,
    };
    Ok(Reply::HistoryPage {
        messages,
        visible_first: visible.first,
        visible_last: visible.last,
        mutation: sight.mutation(),
        complete,
    })
}

/// Rows of a large conversation as the user sees them; none = not for this user. As many as there is
/// room for at once, but at least the first.
///
/// # Errors
/// When the store cannot be read.
pub fn rows(
    reader: &Reader,
    user: &UserId,
    conversation: &ConversationId,
    span: Span,
) -> Result<Vec<(HistorySeq, Option<PlacedMessage>)>, StoreError> {
    let rows = history::read(reader, &LogKey::history(conversation), span)?;
    let sight = Sight::open(reader, user, conversation)?;
    let mut shown = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for (seq, row) in rows {
        let message = if sight.sees(seq) { Some(sight.show(seq, row)?) } else { None };
        bytes += message.as_ref().map_or(0, message_weight);
        if bytes > OUTPUT_BYTES_MAX && !shown.is_empty() {
            break;
        }
        shown.push((seq, message));
    }
    Ok(shown)
}

/// Changes of a large conversation, each with the message as the user sees it now; none = not for
/// this user. As many as there is room for at once, but at least the first.
///
/// # Errors
/// When the store cannot be read.
pub fn changes(
    reader: &Reader,
    user: &UserId,
    conversation: &ConversationId,
    first: MutationSeq,
    last: MutationSeq,
) -> Result<Vec<(MutationSeq, Option<PlacedMessage>)>, StoreError> {
    let entries = usize::try_from(last.since(first)).unwrap_or(usize::MAX).saturating_add(1);
    let limit = ReadLimit { entries, bytes: OUTPUT_BYTES_MAX };
    let records = reader.read(&LogKey::mutations(conversation), first.number(), limit)?;
    let mut sight = Sight::open(reader, user, conversation)?;
    let mut shown = Vec::with_capacity(records.len());
    let mut bytes = 0;
    for record in records {
        let at = MutationSeq::new(record.seq);
        let mutation = record.record.and_then(|record| Mutation::decode(record).ok());
        let message = match mutation {
            Some(mutation) if sight.sees(mutation.seq) => Some(sight.message(mutation.seq)?),
            Some(_) => None,
            // A damaged change is told at no message: whatever is cached may be the one.
            None => Some(PlacedMessage::new(conversation.clone(), HistorySeq::ZERO, None)),
        };
        bytes += message.as_ref().map_or(0, message_weight);
        if bytes > OUTPUT_BYTES_MAX && !shown.is_empty() {
            break;
        }
        shown.push((at, message));
    }
    Ok(shown)
}

/// A page of the mutation feed. A message that was changed several times within the page comes once,
/// at its last change: what is told is how it is now.
fn mutations(reader: &Reader, user: &UserId, grant: &MutationGrant) -> Result<Reply, StoreError> {
    const LOOK: ReadLimit = ReadLimit { entries: 1000, bytes: 1 << 20 };
    let log = LogKey::mutations(&grant.conversation);
    let mut last = grant.after;
    let mut changes: Vec<(MutationSeq, HistorySeq)> = Vec::new();
    if grant.after < grant.upto {
        for entry in reader.read(&log, grant.after.next().number(), LOOK)? {
            let at = MutationSeq::new(entry.seq);
            if at > grant.upto {
                break;
            }
            last = at;
            // A damaged change is told at no message: whatever is cached may be the one.
            let mutation = entry.record.and_then(|record| Mutation::decode(record).ok());
            changes.push((at, mutation.map_or(HistorySeq::ZERO, |mutation| mutation.seq)));
        }
        if changes.is_empty() {
            // Nothing of what is left can be read. Asking again would not help.
            last = grant.upto;
        }
    }
    let mut sight = Sight::open(reader, user, &grant.conversation)?;
    let mut newest = HashMap::new();
    newest.extend(changes.iter().map(|(at, seq)| (*seq, *at)));
    let mut mutations = Vec::new();
    let mut bytes = 0;
    let mut all = true;
    for (at, seq) in changes {
        let damaged = seq == HistorySeq::ZERO;
        if !damaged && (!sight.sees(seq) || newest.get(&seq) != Some(&at)) {
            continue;
        }
        let message = match damaged {
            true => PlacedMessage::new(grant.conversation.clone(), seq, None),
            false => sight.message(seq)?,
        };
        bytes += message_weight(&message);
        let full = mutations.len() >= grant.limit as usize || bytes > HISTORY_PAGE_BYTES_DEFAULT;
        if full && let Some((before, _)) = mutations.last() {
            (last, all) = (*before, false);
            break;
        }
        mutations.push((at, message));
    }
    let complete = all && last >= grant.upto;
    Ok(Reply::MutationPage { mutations, last, complete })
}

fn messages(
    reader: &Reader,
    user: &UserId,
    places: &[Option<(ConversationId, HistorySeq)>],
) -> Result<Reply, StoreError> {
    let mut sights = Sights::new(reader, user);
    let mut items = Vec::with_capacity(places.len());
    let mut bytes = 0;
    for place in places {
        let Some((conversation, seq)) = place else {
            items.push(MessageItem::Absent);
            continue;
        };
        let sight = sights.of(conversation)?;
        items.push(if !sight.sees(*seq) {
            MessageItem::Absent
        } else if bytes >= HISTORY_PAGE_BYTES_MAX {
            // What has no room in the answer is not read either.
            MessageItem::Skipped
        } else {
            let message = sight.message(*seq)?;
            bytes += message_weight(&message);
            MessageItem::Found(message)
        });
    }
    Ok(Reply::MessageItems(items))
}

fn previews(reader: &Reader, user: &UserId, mut reply: Reply) -> Result<Reply, StoreError> {
    let fill = |view: &mut ConversationView| -> Result<(), StoreError> {
        if view.visible_first <= view.visible_last {
            let mut sight = Sight::open(reader, user, &view.conversation)?;
            view.last_message = Some(sight.message(view.visible_last)?);
        }
        Ok(())
    };
    match &mut reply {
        Reply::ConversationPage { conversations, .. } => {
            preferences::fill(reader, user, conversations.iter_mut())?;
            conversations.iter_mut().try_for_each(fill)?;
        }
        Reply::ConversationItems { items, .. } => {
            preferences::fill(reader, user, items.iter_mut().flatten())?;
            items.iter_mut().flatten().try_for_each(fill)?;
        }
        _ => {}
    }
    Ok(reply)
}
