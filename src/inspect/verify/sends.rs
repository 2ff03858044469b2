//! What devices have sent: in order, and each with the message it names as its witness.

use super::{Check, FindingKind, Place, Row};
use crate::{
    id::{ClientMessageId, DeviceId, UserId},
    sent::Remembered,
    seq::HistorySeq,
    store::{
        StoreError,
        catalogue::{LogKey, LogKind, Table, first_id, second_id, sent_exception_key},
    },
};

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    for (log, bounds) in check.reader.logs(LogKind::Sent)? {
        let ids = (first_id::<UserId>(log.bytes()), second_id::<DeviceId>(log.bytes()));
        let (Some(user), Some(device)) = ids else {
            check.malformed("bounds", log.bytes(), "the key names no device");
            continue;
        };
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        let place = |_| Place::Sent(user.clone(), device.clone(), ClientMessageId::new(0));
        let mut before = None;
        check.each_entry(&log, bounds, place, |check, seq, record| {
            let Ok(what) = Remembered::decode(record) else {
                check.add(FindingKind::Malformed, place(seq), format!("no send at {seq}"));
                return Ok(());
            };
            if before >= Some(what.client_id()) {
                let here = Place::Sent(user.clone(), device.clone(), what.client_id());
                check.add(FindingKind::Sent, here, "client ids of the log do not rise");
            }
            before = Some(what.client_id());
            witness(check, &user, &device, &what)
        })?;
        check.tell();
    }
    Ok(())
}

pub(super) fn check_exceptions(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::SentException;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<DeviceId>(key));
        let ((Some(user), Some(device)), Ok(what)) = (ids, Remembered::decode(row)) else {
            check.malformed(table.tree(), key, "no send");
            return Ok(());
        };
        if sent_exception_key(&user, &device, what.client_id()) != *key {
            check.malformed(table.tree(), key, "the key names another client id than the row");
        }
        witness(check, &user, &device, &what)
    })
}

/// The original answer must still be true.
fn witness(
    check: &mut Check<'_>,
    user: &UserId,
    device: &DeviceId,
    what: &Remembered,
) -> Result<(), StoreError> {
    check.report.counts.sent += 1;
    let place = || Place::Sent(user.clone(), device.clone(), what.client_id());
    let inbox_seq = match what {
        // Of an id that was given up there is nothing to be seen.
        Remembered::UsedUp { .. } => return Ok(()),
        Remembered::Accepted(sent) => sent.inbox_seq,
        Remembered::Notice(sent) => sent.inbox_seq,
    };
    match check.reader.bounds(&LogKey::inbox(user)) {
        Ok(bounds) if inbox_seq.number() > bounds.last => {
            let detail = format!("inbox entry {inbox_seq} of {}", bounds.last);
            check.add(FindingKind::Dangling, place(), detail);
        }
        Ok(_) | Err(StoreError::Damaged(_)) => {}
        Err(error) => return Err(error),
    }
    let sent = match what {
        Remembered::UsedUp { .. } => return Ok(()),
        Remembered::Accepted(sent) => sent,
        Remembered::Notice(sent) => {
            if !check.is_notice(sent.notice)? {
                let detail = format!("there is no notice {}", sent.notice);
                check.add(FindingKind::Dangling, place(), detail);
            }
            return Ok(());
        }
    };
    let id = &sent.conversation;
    if sent.seq == HistorySeq::ZERO {
        if let Row::Missing = check.conversation(id)? {
            check.add(FindingKind::Dangling, place(), format!("made {id}, which is not there"));
        }
        return Ok(());
    }
    let Some(bounds) = check.history(id) else { return Ok(()) };
    if sent.seq.number() > bounds.last {
        let detail = format!("{id} {}: the newest message is {}", sent.seq, bounds.last);
        check.add(FindingKind::Dangling, place(), detail);
        return Ok(());
    }
    if let Some(message) = check.message(id, sent.seq)? {
        let same = message.id == sent.id
            && message.client_id == sent.client_id
            && message.sender == *user
            && message.device == *device;
        if !same {
            let detail = format!("{id} {} is another message", sent.seq);
            check.add(FindingKind::Sent, place(), detail);
        }
    }
    Ok(())
}
