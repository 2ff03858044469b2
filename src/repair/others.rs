//! Devices and their inboxes, notices, the push hook, revocations, counters.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::{Repair, Rows, told::What};
use crate::{
    id::{ConversationId, DeviceId, UserId},
    inbox::{Device, Revocation},
    notice::{self, Notice},
    push::{self, Kind, Outbox, Target},
    seq::{InboxSeq, NoticeSeq},
    store::{
        Bounds, StoreError,
        catalogue::{
            LogKey, MESSAGE_IDS, Table, conversation_key, device_key, first_id, last_seq,
            membership_key, second_id,
        },
        codec::{LOST, is_lost, put_varint, read_varint},
    },
};

/// Ids left free above the newest one that is known, when some may be gone.
const IDS_LEFT_FREE: u64 = 1 << 20;

impl Repair<'_> {
    pub(super) fn others(&mut self, mut rows: Rows) -> Result<(), StoreError> {
        let devices = self.devices(&mut rows);
        self.notices(&mut rows)?;
        self.push(&mut rows, &devices);
        self.revocations(&mut rows);
        self.counters(&mut rows);
        for (table, key, row) in rows.rest() {
            match row {
                Some(row) => self.put(table, key, row),
                None => self.lost(What::Keys, format!("{} {}", table.tree(), key.escape_ascii())),
            }
        }
        for (user, last) in std::mem::take(&mut self.inboxes) {
            let last = last.number();
            if last > 0 {
                self.builder.log(&LogKey::inbox(&user), Some(Bounds { first: last + 1, last }))?;
            }
        }
        Ok(())
    }

    /// Every device starts over, at the end of its user's inbox.
    fn devices(&mut self, rows: &mut Rows) -> BTreeSet<Bytes> {
        let mut devices = BTreeSet::new();
        for (key, row) in rows.take(Table::Device) {
            let ids = (first_id::<UserId>(&key), second_id::<DeviceId>(&key));
            let (Some(user), Some(device)) = ids else {
                self.lost(What::Device, format!("key {} names nobody", key.escape_ascii()));
                continue;
            };
            let known = row.and_then(|row| Device::decode(row).ok());
            let row = match known {
                Some(row) => row,
                None => {
                    self.rebuilt(What::Device, format!("{user} {device}"));
                    let (first_seen, cursor) = (self.now, InboxSeq::ZERO);
                    Device { cursor, first_seen, last_seen: first_seen, platform: "".into() }
                }
            };
            self.name_entry(&user, row.cursor);
            let cursor = self.inboxes.get(&user).copied().unwrap_or_default();
            self.put(Table::Device, key.clone(), Device { cursor, ..row }.encode());
            devices.insert(key);
        }
        devices
    }

    fn notices(&mut self, rows: &mut Rows) -> Result<(), StoreError> {
        let log = LogKey::notices();
        let mut left = self.left(&log);
        for (key, row) in rows.take(Table::NoticeRound) {
            let known = row.filter(|row| notice::Round::decode(row.clone()).is_ok());
            match (last_seq(&key).map(NoticeSeq::new), known) {
                (Some(seq), Some(row)) => {
                    self.notice = self.notice.max(seq);
                    self.put(Table::NoticeRound, key, row);
                }
                (Some(seq), None) => {
                    self.notice = self.notice.max(seq);
                    self.lost(What::Notice, format!("how far notice {seq} was on its way"));
                }
                (None, _) => self.lost(What::Notice, "a notice on its way".to_owned()),
            }
        }
        let first = left.first.max(1);
        let last = left.last.max(self.notice.number()).max(first - 1);
        let mut records = Vec::new();
        for seq in first..=last {
            let record = left.entries.remove(&seq);
            let whole = |record: &Bytes| is_lost(record) || Notice::decode(record.clone()).is_ok();
            records.push(record.filter(whole).unwrap_or_else(|| {
                self.lost(What::Notice, format!("notice {seq}"));
                Bytes::from_static(&[LOST])
            }));
        }
        self.write_log(&log, first, records)
    }

    /// What the hook knows is kept where everything it names is there; otherwise it forgets: a device
    /// is told anew of what comes.
    fn push(&mut self, rows: &mut Rows, devices: &BTreeSet<Bytes>) {
        let mut targets = BTreeSet::new();
        for (key, row) in rows.take(Table::PushTarget) {
            let known = row.filter(|row| Target::decode(row.clone()).is_ok());
            match known.filter(|_| devices.contains(&key)) {
                Some(row) => {
                    targets.insert(key.clone());
                    self.put(Table::PushTarget, key, row);
                }
                None => {
                    let device = second_id::<DeviceId>(&key).map(|device| device.to_string());
                    let user = first_id::<UserId>(&key).map(|user| user.to_string());
                    let of = user.zip(device).map_or_else(String::new, |(u, d)| format!("{u} {d}"));
                    self.lost(What::Push, format!("how {of} is reached; it must register again"));
                }
            }
        }
        for (key, row) in rows.take(Table::PushJob) {
            let place = push::Place::of_key(&key);
            let outbox = row.clone().and_then(|row| Outbox::decode(row).ok());
            let (Some(place), Some(outbox), Some(row)) = (place, outbox, row) else {
                self.lost(What::Push, format!("what {} was told", key.escape_ascii()));
                continue;
            };
            if self.may_keep(&place, &outbox, &targets) {
                self.put(Table::PushJob, key, row);
            } else {
                let push::Place { user, device, conversation } = place;
                self.lost(What::Push, format!("what {user} {device} was told of {conversation}"));
            }
        }
        for (key, row) in rows.take(Table::PushRound) {
            let id = first_id::<ConversationId>(&key);
            let round = row.clone().and_then(|row| push::Round::decode(row).ok());
            let head = id.as_ref().and_then(|id| self.heads.get(id)).copied();
            match (id, round, row, head) {
                (_, Some(round), Some(row), Some(head)) if round.newest.max(round.upto) <= head => {
                    self.put(Table::PushRound, key, row);
                }
                (id, ..) => {
                    let of = id.map_or_else(String::new, |id| id.to_string());
                    self.lost(What::Push, format!("how far the members of {of} were told"));
                }
            }
        }
    }

    fn may_keep(&self, place: &push::Place, outbox: &Outbox, targets: &BTreeSet<Bytes>) -> bool {
        let push::Place { user, device, conversation } = place;
        let membership = (Table::Membership, membership_key(user, conversation));
        let head = self.heads.get(conversation).copied().unwrap_or_default();
        let wanted = outbox.wanted.as_ref();
        let shown = outbox.shown.as_ref().map(|shown| shown.seq);
        let known = wanted.map(|wanted| wanted.seq).into_iter().chain(shown).all(|seq| seq <= head);
        let newer = wanted.is_none_or(|wanted| {
            wanted.kind != Kind::Message || shown.is_none_or(|shown| wanted.seq > shown)
        });
        targets.contains(&device_key(user, device))
            && self.rows.contains_key(&membership)
            && self.rows.contains_key(&(Table::Conversation, conversation_key(conversation)))
            && known
            && newer
    }

    fn revocations(&mut self, rows: &mut Rows) {
        for (key, row) in rows.take(Table::Revocation) {
            let ids = (first_id::<UserId>(&key), second_id::<DeviceId>(&key));
            let (Some(user), Some(device)) = ids else {
                self.lost(What::Revocation, format!("key {} names nobody", key.escape_ascii()));
                continue;
            };
            let known = row.and_then(|row| Revocation::decode(row).ok());
            let row = known.unwrap_or_else(|| {
                // Rather a device too many that must log in again.
                self.rebuilt(What::Revocation, format!("{user} {device}: as of now"));
                Revocation { time: self.now }
            });
            self.put(Table::Revocation, key, row.encode());
        }
    }

    fn counters(&mut self, rows: &mut Rows) {
        let mut known = None;
        for (key, row) in rows.take(Table::Counter) {
            let value = row.clone().and_then(|mut row| read_varint(&mut row).ok());
            if key == MESSAGE_IDS {
                known = value;
            } else if let Some(row) = row {
                self.put(Table::Counter, key, row);
            } else {
                self.lost(What::Counter, key.escape_ascii().to_string());
            }
        }
        let free = known.unwrap_or_default().max(self.newest_id + 1);
        if known != Some(free) && self.newest_id > 0 {
            self.rebuilt(What::Counter, "message_id".to_owned());
        }
        let free = match self.report.has_lost() || known != Some(free) {
            true => free + IDS_LEFT_FREE,
            false => free,
        };
        if known.is_some() || self.newest_id > 0 || self.report.has_lost() {
            let mut row = BytesMut::new();
            put_varint(&mut row, free);
            self.put(Table::Counter, Bytes::from_static(MESSAGE_IDS), row.freeze());
        }
    }
}
