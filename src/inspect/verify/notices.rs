//! Notices and those on their way; revocations.

use super::{Check, FindingKind, Place};
use crate::{
    id::{DeviceId, UserId},
    inbox::Revocation,
    notice::{Notice, Round},
    seq::NoticeSeq,
    store::{
        Bounds, StoreError,
        catalogue::{LogKey, LogKind, Table, first_id, last_seq, second_id},
        codec::is_lost,
    },
};

pub(super) fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    for (log, bounds) in check.reader.logs(LogKind::Notice)? {
        if log != LogKey::notices() {
            check.malformed("bounds", log.bytes(), "there is one log of notices");
            continue;
        }
        let Some(bounds) = bounds.filter(|bounds| bounds.last > 0) else { continue };
        let place = |seq| Place::Notice(NoticeSeq::new(seq));
        check.each_entry(&log, bounds, place, |check, seq, record| {
            if is_lost(&record) {
                check.report.counts.lost += 1;
            } else if Notice::decode(record).is_err() {
                check.add(FindingKind::Malformed, place(seq), "no notice");
            }
            Ok(())
        })?;
    }
    Ok(())
}

pub(super) fn check_rounds(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::NoticeRound;
    check.each_row(table, |check, key, row| {
        let (Some(seq), Ok(_)) = (last_seq(key), Round::decode(row)) else {
            check.malformed(table.tree(), key, "no round");
            return Ok(());
        };
        let seq = NoticeSeq::new(seq);
        if !check.is_notice(seq)? {
            check.add(FindingKind::Dangling, Place::Notice(seq), "is on its way and not there");
        }
        Ok(())
    })
}

pub(super) fn check_revocations(check: &mut Check<'_>) -> Result<(), StoreError> {
    let table = Table::Revocation;
    check.each_row(table, |check, key, row| {
        let ids = (first_id::<UserId>(key), second_id::<DeviceId>(key));
        if !matches!((ids, Revocation::decode(row)), ((Some(_), Some(_)), Ok(_))) {
            check.malformed(table.tree(), key, "no revocation");
        }
        Ok(())
    })
}

impl Check<'_> {
    /// Whether there is, or was, such a notice.
    pub(super) fn is_notice(&self, seq: NoticeSeq) -> Result<bool, StoreError> {
        match self.reader.bounds(&LogKey::notices()) {
            Ok(Bounds { last, .. }) => Ok((1..=last).contains(&seq.number())),
            // Told where it stands.
            Err(StoreError::Damaged(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
