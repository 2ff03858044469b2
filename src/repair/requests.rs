//! What devices have sent. A memory that is gone is made up for from the message that came of it; where
//! there is no message either, a retry makes it, which is what everybody would want.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Repair, Rows, found::Groups, told::What};
use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, UserId},
    message::Message,
    sent::{self, Remembered, Sent},
    seq::{HistorySeq, InboxSeq},
    store::{
        StoreError,
        catalogue::{LogKey, LogKind, Table, first_id, last_seq, second_id, sent_exception_key},
    },
};

/// A device with what it is to remember.
#[derive(Debug, Default)]
struct Memory {
    /// The log's first number.
    first: u64,
    /// In the order of client ids.
    log: BTreeMap<ClientMessageId, Remembered>,
    /// As rows of their own.
    exceptions: BTreeMap<ClientMessageId, Remembered>,
    /// Something is missing that may be made up for.
    holes: bool,
    rebuilt: u64,
}

type Device = (UserId, DeviceId);

/// The memories of all devices.
#[derive(Debug, Default)]
pub(super) struct Requests {
    devices: BTreeMap<Device, Memory>,
    /// Whole logs are gone, of whatever devices.
    all: bool,
}

impl Requests {
    /// A message that is there is what somebody sent.
    pub(super) fn hear(&mut self, id: &ConversationId, seq: HistorySeq, message: &Message) {
        let device = (message.sender.clone(), message.device.clone());
        if message.client_id == ClientMessageId::new(0) {
            return;
        }
        let memory = match self.devices.get_mut(&device) {
            Some(memory) => memory,
            None if self.all => self.devices.entry(device).or_insert(Memory {
                first: 1,
                holes: true,
                ..Memory::default()
            }),
            None => return,
        };
        // What was forgotten because of its age stays forgotten.
        let forgotten = memory.first > 1
            && memory.log.first_key_value().is_none_or(|(oldest, _)| message.client_id < *oldest);
        if !memory.holes
            || forgotten
            || memory.log.contains_key(&message.client_id)
            || memory.exceptions.contains_key(&message.client_id)
        {
            return;
        }
        memory.rebuilt += 1;
        let sent = Sent {
            client_id: message.client_id,
            payload_hash: sent::payload_hash(id, &message.draft),
            time: message.time,
            conversation: id.clone(),
            seq,
            id: message.id,
            inbox_seq: InboxSeq::ZERO,
        };
        memory.log.insert(message.client_id, sent.into());
    }
}

impl Repair<'_> {
    /// Reads everything, and notes what is named.
    pub(super) fn read_requests(
        &mut self,
        rows: &mut Rows,
        groups: &mut Groups,
    ) -> Result<Requests, StoreError> {
        let mut requests = Requests { all: self.blind, ..Requests::default() };
        for (log, bounds) in self.logs(LogKind::Sent) {
            let ids = (first_id::<UserId>(log.bytes()), second_id::<DeviceId>(log.bytes()));
            let (Some(user), Some(device)) = ids else {
                self.lost(What::Sent, format!("{} names no device", log.bytes().escape_ascii()));
                continue;
            };
            let left = self.salvage.log(&log, bounds);
            let mut memory = Memory { first: left.first, ..Memory::default() };
            let expected = left.last + 1 - left.first;
            let mut found = 0;
            for what in left.entries.into_values().flat_map(Remembered::decode) {
                found += 1;
                self.note(&user, &what, groups);
                memory.log.insert(what.client_id(), what);
            }
            memory.holes = found < expected || !left.bounded || self.blind;
            if found < expected {
                let detail =
                    format!("{} of {expected} requests of {user} {device}", expected - found);
                self.lost(What::Sent, detail);
            }
            requests.devices.insert((user, device), memory);
        }
        for (key, row) in rows.take(Table::SentException) {
            let ids = (first_id::<UserId>(&key), second_id::<DeviceId>(&key), last_seq(&key));
            let (Some(user), Some(device), Some(_)) = ids else {
                self.lost(What::Sent, format!("key {} names nothing", key.escape_ascii()));
                continue;
            };
            let what = row.and_then(|row| Remembered::decode(row).ok());
            if let Some(what) = &what {
                self.note(&user, what, groups);
            } else {
                self.lost(What::Sent, format!("a request of {user} {device} out of order"));
            }
            let empty = || Memory { first: 1, ..Memory::default() };
            let memory = requests.devices.entry((user, device)).or_insert_with(empty);
            match what {
                Some(what) => drop(memory.exceptions.insert(what.client_id(), what)),
                None => memory.holes = true,
            }
        }
        Ok(requests)
    }

    fn note(&mut self, user: &UserId, what: &Remembered, groups: &mut Groups) {
        match what {
            Remembered::UsedUp { .. } => {}
            Remembered::Notice(sent) => {
                self.notice = self.notice.max(sent.notice);
                self.name_entry(user, sent.inbox_seq);
            }
            Remembered::Accepted(sent) => {
                self.name_entry(user, sent.inbox_seq);
                self.newest_id = self.newest_id.max(sent.id.number());
                groups.entry(sent.conversation.clone()).or_default().name(sent.seq);
            }
        }
    }

    /// Writes what is remembered, now that everything that was sent was heard.
    pub(super) fn write_requests(&mut self, requests: Requests) -> Result<(), StoreError> {
        for ((user, device), memory) in requests.devices {
            if memory.rebuilt > 0 {
                let detail = format!("{} requests of {user} {device}", memory.rebuilt);
                self.rebuilt(What::Sent, detail);
            }
            for (client, what) in memory.exceptions {
                let key = sent_exception_key(&user, &device, client);
                self.put(Table::SentException, key, what.encode());
            }
            let records: Vec<Bytes> = memory.log.values().map(Remembered::encode).collect();
            self.write_log(&LogKey::sent(&user, &device), memory.first.max(1), records)?;
        }
        Ok(())
    }
}
