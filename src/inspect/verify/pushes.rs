//! The push hook's rows: devices, conversations and messages they name are there.

use super::{Check, FindingKind, Place, Row};
use crate::{
    id::{ConversationId, DeviceId, UserId},
    inbox::Device,
    push::{self, Kind, Outbox, Round, Target},
    seq::HistorySeq,
    store::{
        StoreError,
        catalogue::{Table, device_key, first_id, second_id},
    },
};

pub(super) fn check_targets(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::PushTarget;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<DeviceId>(key));
        let ((Some(user), Some(device)), Ok(_)) = (ids, Target::decode(row)) else {
            check.malformed(table.tree(), key, "no push target");
            return Ok(());
        };
        if let Row::Missing = check.row(Table::Device, key, Device::decode)? {
            let detail = "the push hook reaches it and there is no such device";
            check.add(FindingKind::Dangling, Place::Device(user, device), detail);
        }
        Ok(())
    })
}

pub(super) fn check_outboxes(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::PushJob;
    check.each_row(table, |check, key, row| {
        let (Some(place), Ok(outbox)) = (push::Place::of_key(key), Outbox::decode(row)) else {
            check.malformed(table.tree(), key, "no outbox");
            return Ok(());
        };
        let push::Place { user, device, conversation } = place;
        let of = Place::Device(user.clone(), device.clone());
        let target = check.row(Table::PushTarget, &device_key(&user, &device), Target::decode)?;
        if let Row::Missing = target {
            let detail = format!("has an outbox for {conversation}, the push hook cannot reach it");
            check.add(FindingKind::Dangling, of.clone(), detail);
        }
        if let Row::Missing = check.membership(&user, &conversation)? {
            let detail = format!("has an outbox for {conversation}, of which its user is not");
            check.add(FindingKind::Dangling, of.clone(), detail);
        }
        let wanted = outbox.wanted.map(|wanted| wanted.seq);
        let shown = outbox.shown.map(|shown| shown.seq);
        for seq in [wanted, shown].into_iter().flatten() {
            check_message(check, &of, &conversation, seq);
        }
        if let (Some(wanted), Some(shown)) = (outbox.wanted, shown)
            && wanted.kind == Kind::Message
            && wanted.seq <= shown
        {
            let detail = format!("is to be told of {conversation} {}, shows {shown}", wanted.seq);
            check.add(FindingKind::Delivery, of, detail);
        }
        Ok(())
    })
}

pub(super) fn check_rounds(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::PushRound;
    check.each_row(table, |check, key, row| {
        let (Some(id), Ok(round)) = (first_id::<ConversationId>(key), Round::decode(row)) else {
            check.malformed(table.tree(), key, "no push round");
            return Ok(());
        };
        let place = Place::Conversation(id.clone());
        if let Row::Missing = check.conversation(&id)? {
            let detail = "its members are being told and there is no such conversation";
            check.add(FindingKind::Dangling, place, detail);
            return Ok(());
        }
        for seq in [round.upto, round.newest] {
            check_message(check, &place, &id, seq);
        }
        Ok(())
    })
}

fn check_message(check: &mut Check<'_>, place: &Place, id: &ConversationId, seq: HistorySeq) {
    // Damaged bounds are told where they stand.
    let Some(bounds) = check.history(id) else { return };
    if seq.number() > bounds.last {
        let detail = format!("the push hook knows {id} {seq}: the newest is {}", bounds.last);
        check.add(FindingKind::Dangling, place.clone(), detail);
    }
}
