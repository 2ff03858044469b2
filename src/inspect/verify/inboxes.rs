//! Inboxes: dense, every pointer at a row its user may see, each row once and none passed over;
//! cursors not ahead.

use std::collections::HashMap;

use super::{Check, FindingKind, Place, Row, each_row, mutations};
use crate::{
    conversation::Membership,
    id::{ConversationId, DeviceId, UserId},
    inbox::{self, Device},
    message::{EntryKind, HistoryPolicy},
    seq::{HistorySeq, InboxSeq},
    store::{
        Bounds, StoreError,
        catalogue::{LogKey, LogKind, Table, first_id, second_id, user_prefix},
    },
};

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    for (log, bounds) in check.reader.logs(LogKind::Inbox)? {
        let Some(user) = first_id::<UserId>(log.bytes()) else {
            check.malformed("bounds", log.bytes(), "the key names no user");
            continue;
        };
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        check.report.counts.inboxes += 1;
        check_inbox(check, &log, &user, bounds)?;
        check.tell();
    }
    Ok(())
}

/// What an inbox has said of a conversation so far.
struct Told {
    sight: Sight,
    /// Every visible row must come, because no policy shows rows from before the user joined.
    complete: bool,
    /// It is large now.
    large: bool,
    /// Newest row pointed at, or known to have gone another way; none = what came before is trimmed
    /// away.
    newest: Option<HistorySeq>,
    /// It was said to be large, and messages do not come by the inbox.
    by_its_logs: bool,
}

/// What is wrong with a message that comes after this one.
enum Wrong {
    Order(HistorySeq),
    PassedOver(HistorySeq),
}

/// What a user may see of a conversation.
enum Sight {
    By(Membership),
    Nothing,
    /// Its row is damaged.
    Unknown,
}

impl Told {
    fn may_see(&self, seq: HistorySeq) -> bool {
        match &self.sight {
            Sight::By(own) => own.was_shown(seq),
            Sight::Nothing => false,
            Sight::Unknown => true,
        }
    }

    /// A change of mode; says after which row some were passed over before it.
    fn change(&mut self, large: bool, from: HistorySeq) -> Option<HistorySeq> {
        let was_large = std::mem::replace(&mut self.by_its_logs, large);
        if large {
            return self.newest.filter(|newest| !was_large && self.misses(*newest, from));
        }
        self.newest = self.newest.max(Some(from.previous()));
        None
    }

    /// A message; says what is wrong with its place.
    fn point(&mut self, at: HistorySeq) -> Option<Wrong> {
        // Whoever left a large group and came back to a small one is told by what comes.
        let was_large = std::mem::take(&mut self.by_its_logs);
        let newest = self.newest?;
        if newest >= at {
            return Some(Wrong::Order(newest));
        }
        (!was_large && self.misses(newest, at)).then_some(Wrong::PassedOver(newest))
    }

    /// Whether a member has not been told that the group is large.
    fn misses_mode(&self) -> bool {
        let member = matches!(&self.sight, Sight::By(own) if own.is_member());
        member && self.large && !self.by_its_logs && self.newest.is_some()
    }

    /// Whether there is a row between these two that must have come.
    fn misses(&self, after: HistorySeq, before: HistorySeq) -> bool {
        let (first, last) = (after.next(), before.previous());
        match &self.sight {
            Sight::By(own) if self.complete => {
                own.visible(last).any(|span| span.first.max(first) <= span.last.min(last))
            }
            _ => false,
        }
    }
}

fn check_inbox(
    check: &mut Check<'_>,
    log: &LogKey,
    user: &UserId,
    bounds: Bounds,
) -> Result<(), StoreError> {
    let place = |seq| Place::Inbox(user.clone(), InboxSeq::new(seq));
    let untrimmed = (bounds.first == 1).then_some(HistorySeq::ZERO);
    let mut told = HashMap::<ConversationId, Told>::new();
    let mut passed_over = Vec::new();
    let whole = check.each_entry(log, bounds, place, |check, seq, record| {
        check.report.counts.entries += 1;
        let Ok(entry) = inbox::decode(record) else {
            check.add(FindingKind::Malformed, place(seq), "no entry");
            return Ok(());
        };
        let (id, at) = match entry.kind {
            EntryKind::Unknown | EntryKind::Preferences { .. } => return Ok(()),
            EntryKind::Notice { notice } => {
                if !check.is_notice(notice)? {
                    let detail = format!("there is no notice {notice}");
                    check.add(FindingKind::Dangling, place(seq), detail);
                }
                return Ok(());
            }
            EntryKind::Read { conversation, read_seq: at, .. }
            | EntryKind::PeerRead { conversation, read_seq: at, .. }
            | EntryKind::Cleared { conversation, cleared_to: at } => (conversation, at),
            EntryKind::Mode { conversation, large, from } => {
                let told = told_of(&mut told, check, user, &conversation, untrimmed)?;
                if let Some(newest) = told.change(large, from) {
                    let detail = format!("{conversation}: large from {from} after {newest}");
                    passed_over.push((seq, detail));
                }
                (conversation, from.previous())
            }
            ref kind @ (EntryKind::Recalled(ref what)
            | EntryKind::Edited(ref what)
            | EntryKind::Deleted(ref what)) => {
                mutations::check_told(check, place(seq), kind, what)?;
                let (conversation, at) = (what.conversation.clone(), what.seq);
                if !told_of(&mut told, check, user, &conversation, untrimmed)?.may_see(at) {
                    let detail = format!("{conversation} {at} is not this user's to see");
                    check.add(FindingKind::Leak, place(seq), detail);
                }
                (conversation, at)
            }
            EntryKind::Hidden { conversation, seqs } => {
                (conversation, seqs.into_iter().max().unwrap_or_default())
            }
            EntryKind::Membership(change) => (change.conversation, change.at),
            EntryKind::Message { conversation, seq: at } => {
                let told = told_of(&mut told, check, user, &conversation, untrimmed)?;
                if !told.may_see(at) {
                    let detail = format!("{conversation} {at} is not this user's to see");
                    check.add(FindingKind::Leak, place(seq), detail);
                }
                match told.point(at) {
                    Some(Wrong::Order(newest)) => {
                        let detail = format!("{conversation} {at} after {newest}");
                        check.add(FindingKind::Delivery, place(seq), detail);
                    }
                    Some(Wrong::PassedOver(newest)) => {
                        let detail = format!("{conversation}: {at} comes after {newest}");
                        passed_over.push((seq, detail));
                    }
                    None => {}
                }
                told.newest = told.newest.max(Some(at));
                (conversation, at)
            }
        };
        if let Some(history) = check.history(&id)
            && at.number() > history.last
        {
            let detail = format!("{id} {at}: the newest message is {}", history.last);
            check.add(FindingKind::Dangling, place(seq), detail);
        }
        Ok(())
    })?;
    if !whole {
        return Ok(());
    }
    for (id, told) in unmentioned(check, user, untrimmed, &told)?.iter().chain(&told) {
        if told.misses_mode() {
            let detail = format!("{id} is large and this inbox does not say so");
            check.add(FindingKind::Delivery, place(bounds.last), detail);
        }
        let end = check.history(id).map(|history| HistorySeq::new(history.last).next());
        if let (Some(newest), Some(end)) = (told.newest, end)
            && !told.by_its_logs
            && told.misses(newest, end)
        {
            passed_over.push((bounds.last, format!("{id}: nothing after {newest}")));
        }
    }
    for (seq, detail) in passed_over {
        check.add(FindingKind::Delivery, place(seq), format!("rows are passed over: {detail}"));
    }
    Ok(())
}

/// What an inbox has said of a conversation that it mentions now.
fn told_of<'a>(
    all: &'a mut HashMap<ConversationId, Told>,
    check: &Check<'_>,
    user: &UserId,
    id: &ConversationId,
    newest: Option<HistorySeq>,
) -> Result<&'a mut Told, StoreError> {
    if !all.contains_key(id) {
        all.insert(id.clone(), begin(check, user, id, newest)?);
    }
    Ok(all.get_mut(id).expect("it was put there just now"))
}

fn begin(
    check: &Check<'_>,
    user: &UserId,
    id: &ConversationId,
    newest: Option<HistorySeq>,
) -> Result<Told, StoreError> {
    let sight = match check.membership(user, id)? {
        Row::Whole(own) => Sight::By(own),
        Row::Missing => Sight::Nothing,
        Row::Unknown => Sight::Unknown,
    };
    let (complete, large) = match check.conversation(id)? {
        Row::Whole(row) => (row.policy == HistoryPolicy::SinceJoin, row.large),
        Row::Missing | Row::Unknown => (false, false),
    };
    Ok(Told { sight, complete, large, newest, by_its_logs: false })
}

/// The user's conversations that an untrimmed inbox does not mention at all.
fn unmentioned(
    check: &Check<'_>,
    user: &UserId,
    untrimmed: Option<HistorySeq>,
    told: &HashMap<ConversationId, Told>,
) -> Result<HashMap<ConversationId, Told>, StoreError> {
    let mut all = HashMap::new();
    if untrimmed.is_some() {
        each_row(&check.reader, Table::Membership, &user_prefix(user), |key, _| {
            if let Some(id) = second_id::<ConversationId>(key)
                && !told.contains_key(&id)
            {
                let fresh = begin(check, user, &id, untrimmed)?;
                all.insert(id, fresh);
            }
            Ok(())
        })?;
    }
    Ok(all)
}

pub(super) fn check_devices(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Device;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<DeviceId>(key));
        let ((Some(user), Some(device)), Ok(row)) = (ids, Device::decode(row)) else {
            check.malformed(table.tree(), key, "no device");
            return Ok(());
        };
        check.report.counts.devices += 1;
        match check.reader.bounds(&LogKey::inbox(&user)) {
            Ok(bounds) if row.cursor.number() > bounds.last => {
                let detail = format!("cursor {}, newest entry {}", row.cursor, bounds.last);
                check.add(FindingKind::Cursor, Place::Device(user, device), detail);
                Ok(())
            }
            Ok(_) | Err(StoreError::Damaged(_)) => Ok(()),
            Err(error) => Err(error),
        }
    })
}
