//! Conversations: the rows of a conversation, of its members and of its users agree; read markers
//! agree with the history.

use super::{Check, FindingKind, Place, Row, each_row};
use crate::{
    conversation::{Conversation, Member, Membership},
    id::{ConversationId, UserId},
    message::ConversationKind,
    seq::HistorySeq,
    store::{
        StoreError,
        catalogue::{Table, conversation_key, first_id, member_key, second_id},
    },
};

pub(super) fn check_conversations(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Conversation;
    check.each_row(table, |check, key, row| {
        let (Some(id), Ok(row)) = (first_id::<ConversationId>(key), Conversation::decode(row))
        else {
            check.malformed(table.tree(), key, "no conversation");
            return Ok(());
        };
        check.report.counts.conversations += 1;
        let mut members = 0_u32;
        each_row(&check.reader, Table::Member, &conversation_key(&id), |_, _| {
            members += 1;
            Ok(())
        })?;
        if members != row.member_count {
            let detail = format!("says {} members, has {members}", row.member_count);
            check.add(FindingKind::Membership, Place::Conversation(id.clone()), detail);
        }
        if row.large && row.kind == ConversationKind::Direct {
            let detail = "a direct conversation that is large";
            check.add(FindingKind::Membership, Place::Conversation(id), detail);
        }
        Ok(())
    })
}

/// From the members' side: each belongs to a conversation and knows of it.
pub(super) fn check_members(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Member;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<ConversationId>(key), second_id::<UserId>(key));
        let ((Some(id), Some(user)), Ok(member)) = (ids, Member::decode(row)) else {
            check.malformed(table.tree(), key, "no member");
            return Ok(());
        };
        if let Row::Missing = check.conversation(&id)? {
            let detail = format!("{user} is a member and there is no conversation");
            check.add(FindingKind::Dangling, Place::Conversation(id.clone()), detail);
        }
        let detail = match check.membership(&user, &id)? {
            Row::Missing => "is a member and has no row of its own".to_owned(),
            Row::Whole(own) if own.role != Some(member.role) => {
                format!("is {:?} as a member, {:?} by its own row", member.role, own.role)
            }
            Row::Whole(_) | Row::Unknown => return Ok(()),
        };
        check.add(FindingKind::Membership, Place::Membership(user, id), detail);
        Ok(())
    })
}

/// From the users' side.
pub(super) fn check_memberships(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Membership;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<ConversationId>(key));
        let ((Some(user), Some(id)), Ok(own)) = (ids, Membership::decode(row)) else {
            check.malformed(table.tree(), key, "no membership");
            return Ok(());
        };
        check.report.counts.memberships += 1;
        if check.report.counts.memberships.is_multiple_of(1000) {
            check.tell();
        }
        let place = || Place::Membership(user.clone(), id.clone());
        if let Row::Missing = check.conversation(&id)? {
            check.add(FindingKind::Dangling, place(), "there is no such conversation");
        }
        let member = check.row(Table::Member, &member_key(&id, &user), Member::decode)?;
        match (own.is_member(), member) {
            (true, Row::Missing) => {
                check.add(FindingKind::Membership, place(), "is in, and is no member");
            }
            (false, Row::Whole(_)) => {
                check.add(FindingKind::Membership, place(), "has left, and is a member");
            }
            _ => {}
        }
        let Some(bounds) = check.history(&id) else { return Ok(()) };
        let head = HistorySeq::new(bounds.last);
        if let Some(detail) = wrong_intervals(&own, head) {
            check.add(FindingKind::Membership, place(), detail);
        }
        if let Some(newest) = check.last_mutation(&id)?
            && own.left_mutation > newest
        {
            let detail = format!("left at change {}, the last is {newest}", own.left_mutation);
            check.add(FindingKind::Membership, place(), detail);
        }
        if own.read_seq > head {
            let detail = format!("has read {}, the newest message is {head}", own.read_seq);
            check.add(FindingKind::ReadMarker, place(), detail);
            return Ok(());
        }
        if own.announced_seq > own.read_seq {
            let detail = format!("announced {}, has read {}", own.announced_seq, own.read_seq);
            check.add(FindingKind::ReadMarker, place(), detail);
        }
        // Unread is a subtraction from this ordinal, and ordinals have been counted.
        if let Some(ordinal) = check.ordinal(&id, own.read_seq)?
            && ordinal != own.read_ordinal
        {
            let detail = format!(
                "the ordinal at {} is {ordinal}, the marker says {}",
                own.read_seq, own.read_ordinal
            );
            check.add(FindingKind::ReadMarker, place(), detail);
        }
        Ok(())
    })
}

/// What is wrong with the intervals of rows that a user may read.
fn wrong_intervals(own: &Membership, head: HistorySeq) -> Option<&'static str> {
    let mut closed_until = HistorySeq::ZERO;
    for (index, interval) in own.intervals.iter().enumerate() {
        let newest = index + 1 == own.intervals.len();
        if interval.first <= closed_until {
            return Some("its intervals overlap or are out of order");
        }
        match interval.last {
            None if !newest || !own.is_member() => return Some("an interval that ended is open"),
            None => {}
            Some(_) if newest && own.is_member() => return Some("a member's interval has ended"),
            Some(last) if last > head => return Some("an interval ends after the newest message"),
            Some(last) if last < interval.first => return Some("an interval is empty"),
            Some(last) => closed_until = last,
        }
    }
    (own.is_member() && own.intervals.is_empty()).then_some("a member that may see nothing")
}
