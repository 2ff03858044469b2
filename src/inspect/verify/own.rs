//! What users have made of conversations: messages hidden from them, messages that name them,
//! preferences; and unread, derived as the engine does it and counted by hand.

use super::{Check, FindingKind, Place, Row, each_row};
use crate::{
    conversation::{Hidden, Membership, Preference, Unread, Without},
    history::Mutated,
    id::{ConversationId, UserId},
    message::Message,
    seq::HistorySeq,
    store::{
        StoreError,
        catalogue::{
            Table, first_id, last_seq, membership_key, mutated_key, row_of_user_key, second_id,
        },
    },
};

/// More unread messages than this are not counted by hand.
const COUNTED_BY_HAND_MAX: u64 = 1000;
/// Rows of one history counted by hand for all its members, beyond which the others are not: of a
/// large group, unread by thousands, some tell as much as all.
const COUNTED_OF_ONE_MAX: u64 = 100_000;

/// A row of a user about one message.
struct Placed {
    user: UserId,
    id: ConversationId,
    seq: HistorySeq,
    own: Option<Membership>,
    /// None = damaged: told there.
    message: Option<Message>,
}

impl Placed {
    fn place(&self) -> Place {
        Place::Membership(self.user.clone(), self.id.clone())
    }
}

pub(super) fn check_hidden(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Hidden;
    check.each_row(table, |check, key, row| {
        let Ok(row) = Hidden::decode(row) else {
            check.malformed(table.tree(), key, "no hidden message");
            return Ok(());
        };
        let Some(placed) = placed(check, table, key)? else { return Ok(()) };
        let seq = placed.seq;
        if let Some(own) = &placed.own {
            if seq > own.hidden_max {
                let detail = format!("{seq} is hidden, nothing above {} may be", own.hidden_max);
                check.add(FindingKind::Membership, placed.place(), detail);
            }
            if !own.was_shown(seq) {
                let detail = format!("{seq} is hidden and was never shown");
                check.add(FindingKind::Membership, placed.place(), detail);
            }
        }
        if let Some(message) = &placed.message
            && message.draft.flags.uncounted == row.counted
        {
            let detail = format!("{seq} is hidden as counted: {}, it is not so", row.counted);
            check.add(FindingKind::ReadMarker, placed.place(), detail);
        }
        Ok(())
    })
}

pub(super) fn check_mentions(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Mention;
    check.each_row(table, |check, key, _| {
        let Some(placed) = placed(check, table, key)? else { return Ok(()) };
        let seq = placed.seq;
        if let Some(own) = &placed.own
            && seq > own.mention_max
        {
            let detail = format!("{seq} names it, nothing above {} may", own.mention_max);
            check.add(FindingKind::Membership, placed.place(), detail);
        }
        if let Some(message) = &placed.message {
            let draft = &message.draft;
            if !draft.mentions.contains(&placed.user) || draft.flags.uncounted {
                let detail = format!("{seq} does not name it, or does not count");
                check.add(FindingKind::ReadMarker, placed.place(), detail);
            }
        }
        Ok(())
    })
}

pub(super) fn check_preferences(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Preference;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<ConversationId>(key));
        let ((Some(user), Some(id)), Ok(_)) = (ids, Preference::decode(row)) else {
            check.malformed(table.tree(), key, "no preferences");
            return Ok(());
        };
        if let Row::Missing = check.membership(&user, &id)? {
            let detail = "wants something of a conversation it has nothing to do with";
            check.add(FindingKind::Dangling, Place::Membership(user, id), detail);
        }
        Ok(())
    })
}

/// What the key of a row names, if it is all there.
fn placed(check: &mut Check<'_>, table: Table, key: &[u8]) -> Result<Option<Placed>, StoreError> {
    let ids = (first_id::<UserId>(key), second_id::<ConversationId>(key), last_seq(key));
    let (Some(user), Some(id), Some(seq)) = ids else {
        check.malformed(table.tree(), key, "the key names no user's message");
        return Ok(None);
    };
    let seq = HistorySeq::new(seq);
    if row_of_user_key(&user, &id, seq) != key {
        check.malformed(table.tree(), key, "the key names no user's message");
        return Ok(None);
    }
    let own = match check.membership(&user, &id)? {
        Row::Whole(own) => Some(own),
        Row::Unknown => None,
        Row::Missing => {
            let detail = format!("tree {}: {seq}, and it has no row of its own", table.tree());
            check.add(FindingKind::Dangling, Place::Membership(user, id), detail);
            return Ok(None);
        }
    };
    let Some(bounds) = check.history(&id) else { return Ok(None) };
    if seq == HistorySeq::ZERO || seq.number() > bounds.last {
        let detail = format!("tree {}: {seq}, which is no message", table.tree());
        check.add(FindingKind::Dangling, Place::Membership(user, id), detail);
        return Ok(None);
    }
    let message = check.message(&id, seq)?;
    Ok(Some(Placed { user, id, seq, own, message }))
}

/// Unread of every user in every conversation: what is derived equals what can be counted.
pub(super) fn check_unread(check: &mut Check<'_>) -> Result<(), StoreError> {
    check.each_row(Table::Membership, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<ConversationId>(key));
        let ((Some(user), Some(id)), Ok(own)) = (ids, Membership::decode(row)) else {
            return Ok(());
        };
        let mut hidden = 0;
        if own.hidden_count > 0 {
            each_row(&check.reader, Table::Hidden, &membership_key(&user, &id), |_, _| {
                hidden += 1;
                Ok(())
            })?;
        }
        if hidden != own.hidden_count {
            let detail = format!("says {} hidden messages, has {hidden}", own.hidden_count);
            let place = Place::Membership(user.clone(), id.clone());
            check.add(FindingKind::Membership, place, detail);
        }
        if let Some((derived, by_hand)) = count(check, &user, &id, &own)?
            && derived != by_hand
        {
            let detail = format!("unread is derived as {derived}, counted it is {by_hand}");
            check.add(FindingKind::ReadMarker, Place::Membership(user, id), detail);
        }
        Ok(())
    })
}

/// Unread as it is derived, and counted by hand; none when something is damaged or too much.
fn count(
    check: &mut Check<'_>,
    user: &UserId,
    id: &ConversationId,
    own: &Membership,
) -> Result<Option<(u64, u64)>, StoreError> {
    let Some(bounds) = check.history(id) else { return Ok(None) };
    let head = HistorySeq::new(bounds.last);
    let rows = Unread::rows(own, head);
    if rows.is_empty() || rows.len() > COUNTED_BY_HAND_MAX || rows.last > head {
        return Ok(None);
    }
    let counted = check.counted.entry(id.clone()).or_default();
    *counted += rows.len();
    if *counted > COUNTED_OF_ONE_MAX {
        return Ok(None);
    }
    let Some(ordinal) = check.ordinal(id, head)? else { return Ok(None) };
    // What is wrong with ordinals was told where they stand.
    let mut before = own.read_ordinal;
    if check.ordinal(id, own.read_seq)? != Some(before) {
        return Ok(None);
    }
    let (mut gone, mut hidden, mut by_hand) = (Vec::new(), Vec::new(), 0);
    for seq in (rows.first.number()..=rows.last.number()).map(HistorySeq::new) {
        let Some(message) = check.message(id, seq)? else { return Ok(None) };
        let counts = !message.draft.flags.uncounted;
        before += u64::from(counts);
        if message.ordinal != before {
            return Ok(None);
        }
        let is_gone = match check.row(Table::Mutated, &mutated_key(id, seq), Mutated::decode)? {
            Row::Unknown => return Ok(None),
            Row::Whole(row) if row.gone => {
                gone.extend(row.counted.then_some(seq));
                true
            }
            Row::Whole(_) | Row::Missing => false,
        };
        let key = row_of_user_key(user, id, seq);
        let is_hidden = match check.row(Table::Hidden, &key, Hidden::decode)? {
            Row::Unknown => return Ok(None),
            Row::Missing => false,
            Row::Whole(row) => {
                hidden.push((seq, row.counted));
                true
            }
        };
        by_hand += u64::from(counts && !is_gone && !is_hidden);
    }
    let without = Without { gone: &gone, hidden: &hidden, mentions: &[] };
    Ok(Some((Unread::derive(own, head, ordinal, without).unread, by_hand)))
}
