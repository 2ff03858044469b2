//! Repeats: what had no reply becomes exactly one message, what was acked gets the same ack again.

use std::net::SocketAddr;

use bytes::Bytes;
use roamd::wire::proto::{self, client_frame, server_frame};

use super::{
    Complaints,
    connection::{Connection, Trouble},
    ledger::{Ledger, Outcome, Target},
};

/// Acked sends of one device that are repeated in one round.
const REPEATS_MAX: usize = 6;

impl Ledger {
    /// Repeats every send that had no reply and some of the acked ones. To be called after a check
    /// (which says what is there), and followed by one (which finds whatever came twice).
    pub fn settle(&mut self, address: SocketAddr) -> Complaints {
        let mut complaints = Vec::new();
        for device in 0..self.devices.len() {
            if let Err(trouble) = self.repeat(device, address, &mut complaints) {
                let id = &self.devices[device].id;
                let user = &self.users[self.devices[device].user].name;
                complaints.push(format!("{user}/{id}: {}", trouble.text()));
            }
        }
        complaints
    }

    fn repeat(
        &mut self,
        index: usize,
        address: SocketAddr,
        complaints: &mut Complaints,
    ) -> Result<(), Trouble> {
        let device = &self.devices[index];
        let user = &self.users[device.user];
        let mut connection = Connection::open(address)?;
        let welcome = connection.greet(&user.token, &device.id, None)?;
        let newest = device.sent.iter().rev().find(|(_, sent)| sent.found.is_some());
        let newest = newest.map_or(0, |(id, _)| *id);
        let who = format!("{}/{}", user.name, device.id);
        if welcome.last_client_message_id != newest {
            let told = welcome.last_client_message_id;
            complaints.push(format!("{who}: the newest send is {newest}, Welcome says {told}"));
        }
        let cursor = welcome.device_cursor;
        if cursor < device.floor || cursor > device.acked {
            let (low, high) = (device.floor, device.acked);
            complaints.push(format!("{who}: stored cursor {cursor} is outside of {low}..={high}"));
        }

        let whole = |(id, sent): (&u64, &super::ledger::Sent)| {
            sent.request.as_ref().map(|request| (*id, request.clone(), sent.outcome.clone()))
        };
        let (open, done): (Vec<_>, Vec<_>) = device
            .sent
            .iter()
            .filter_map(whole)
            .filter(|(.., outcome)| *outcome != Outcome::Refused)
            .partition(|(.., outcome)| *outcome == Outcome::Open);
        // The oldest of those kept, and the newest.
        let older = done.iter().take(REPEATS_MAX / 2);
        let newer = done.iter().skip(REPEATS_MAX / 2).rev().take(REPEATS_MAX / 2);
        let repeats: Vec<_> = open.iter().chain(older).chain(newer).cloned().collect();
        let mut numbers = Vec::new();
        for (_, request, _) in &repeats {
            numbers.push(connection.ask(client_frame::Body::Send(request.clone()), 0));
        }
        connection.flush()?;
        for (number, (client_id, request, outcome)) in numbers.into_iter().zip(repeats) {
            let reply = connection.reply(number)?;
            self.figures.repeated += 1;
            complaints.extend(self.judge(index, client_id, &request, &outcome, reply));
        }
        if let Some((_, request, _)) = done.last() {
            let mut other = request.clone();
            other.content = Bytes::from_static(b"something else");
            match connection.call(client_frame::Body::Send(other))? {
                server_frame::Body::Error(error)
                    if error.code() == proto::ErrorCode::IdempotencyConflict => {}
                other => complaints.push(format!("{who}: another payload passes: {other:?}")),
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        index: usize,
        client_id: u64,
        request: &proto::Send,
        outcome: &Outcome,
        reply: server_frame::Body,
    ) -> Complaints {
        let device = &self.devices[index];
        let user = self.users[device.user].name.clone();
        let who = format!("{user}/{} {client_id}", device.id);
        let Some(sent) = device.sent.get(&client_id) else { return Vec::new() };
        let mut complaints = Vec::new();
        let settled = match (reply, outcome) {
            (server_frame::Body::SendAck(ack), Outcome::Acked(before)) => {
                let expected = proto::SendAck { duplicate: true, ..before.clone() };
                if ack != expected {
                    complaints.push(format!("{who}: acked {before:?}, repeated {ack:?}"));
                }
                Outcome::Acked(before.clone())
            }
            (server_frame::Body::SendAck(ack), _) => {
                let place = Some((ack.conversation_id.clone(), ack.history_seq));
                let right = match &sent.found {
                    Some(_) => ack.duplicate && sent.found == place,
                    None => !ack.duplicate,
                };
                if !right {
                    let found = &sent.found;
                    complaints.push(format!("{who}: found at {found:?}, the retry says {ack:?}"));
                }
                Outcome::Acked(ack)
            }
            (server_frame::Body::Error(error), Outcome::Open)
                if error.code() == proto::ErrorCode::NotFound
                    && sent.found.is_none()
                    && self.is_outside(&sent.target, &user) =>
            {
                Outcome::Refused
            }
            (other, _) => {
                complaints.push(format!("{who}: {:?} was answered by {other:?}", request.to));
                return complaints;
            }
        };
        if let Some(sent) = self.devices[index].sent.get_mut(&client_id) {
            // What a group refused, unheard, it may take now: out of order, and rightly so.
            sent.late |= sent.outcome == Outcome::Open;
            sent.outcome = settled;
        }
        complaints
    }

    fn is_outside(&self, target: &Target, user: &str) -> bool {
        let Target::Group(id) = target else { return false };
        self.conversations.get(id).is_none_or(|group| !group.members.contains(user))
    }
}
