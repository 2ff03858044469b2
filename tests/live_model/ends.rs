//! The process ends, or stands still: in between, or while a device has sends on the way.

use std::time::Instant;

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, DeviceId, UserId},
    limits::CURSOR_FLUSH_DELAY_MAX,
    message::{Draft, MessageFlags},
    reply::{GoAwayReason, Reply},
    request::{Destination, Request},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
    wire::proto::{self, server_frame::Body},
};

use super::{
    client::End,
    connections::roamd_chosen_message,
    driver::{Found, Live},
    invariant::Invariant,
    model::Outcome,
    wire,
};

/// Sends that go out together, at most.
const VOLLEY_MAX: u64 = 12;

impl Live {
    /// kill -9 while nothing is on the way.
    pub(super) fn crash(&mut self) -> Result<(), Found> {
        self.note("kill -9".into());
        self.count("kills");
        self.rest()?;
        self.kill();
        self.begin()
    }

    /// What waits for a timer of its own is written, so that it is known what a kill leaves.
    fn rest(&mut self) -> Result<(), Found> {
        self.settle()?;
        self.timers()?;
        if self.model.cursors_due().is_some() {
            // An ack has no reply: the daemon may have begun to wait as late as now.
            self.ask_the_watch()?;
            self.until(Instant::now() + CURSOR_FLUSH_DELAY_MAX)?;
            self.settle()?;
        }
        self.timers()
    }

    fn kill(&mut self) {
        if let Some(mut roamd) = self.roamd.take() {
            roamd.kill();
        }
        self.connections.clear();
    }

    /// The next life of the daemon.
    fn begin(&mut self) -> Result<(), Found> {
        self.model.restart();
        self.tell();
        self.launch_again()?;
        self.watch()
    }

    fn launch_again(&mut self) -> Result<(), Found> {
        let (roamd, address) = self.launch.start().map_err(|e| Invariant::I1.broken(e))?;
        (self.roamd, self.address) = (Some(roamd), address);
        Ok(())
    }

    /// SIGTERM: everybody is told, everything is written, status 0.
    pub(super) fn reopen(&mut self) -> Result<(), Found> {
        self.note("SIGTERM".into());
        self.count("stops");
        self.settle()?;
        self.timers()?;
        for connection in &mut self.connections {
            connection.client.ends.push(End::Away(GoAwayReason::Draining));
        }
        let Some(mut roamd) = self.roamd.take() else { return Err("no daemon".into()) };
        roamd.terminate();
        self.stopping = true;
        let now = self.now();
        self.model.finish(now);
        for at in 0..self.connections.len() {
            while !self.connections[at].gone {
                self.connections[at].read()?;
            }
            self.hear(at)?;
            let id = self.connections[at].id;
            let closed = self.connections[at].client.closed();
            closed.map_err(|found| format!("connection {id}: {found}"))?;
        }
        let status = roamd.reap_in_time()?;
        if !status.success() {
            return Err(format!("SIGTERM ended with {status}:{}", roamd.last_words()));
        }
        self.connections.clear();
        self.stopping = false;
        self.begin()
    }

    /// Sends of one device to others, none of which can be refused for its own sake.
    fn volley(&mut self, caller: &Caller) -> Vec<Request> {
        let mut last = self.model.last_client_id(caller);
        let count = self.plan.dice.within(2, VOLLEY_MAX);
        let mut volley = Vec::new();
        for _ in 0..count {
            last += self.plan.dice.within(1, 2);
            let users = super::plan::users();
            let peer = self.plan.dice.pick(&users).clone();
            volley.push(Request::Send {
                to: Destination::Peer(peer),
                client_id: ClientMessageId::new(last),
                draft: Draft {
                    created_at: Timestamp::from_millis(last),
                    content_type: "text/plain".into(),
                    content: Bytes::from(format!("volley {last}")),
                    reply_to: HistorySeq::ZERO,
                    mentions: Vec::new(),
                    flags: MessageFlags::default(),
                },
            });
        }
        volley
    }

    fn gunner(&mut self) -> Result<Option<u64>, Found> {
        let caller = self.plan.caller(&self.model);
        self.timers()?;
        self.session_of(&caller.user, &caller.device)
    }

    /// The process stands still while sends come in, and goes on.
    pub(super) fn freeze_in_a_volley(&mut self) -> Result<(), Found> {
        let Some(id) = self.gunner()? else { return Ok(()) };
        self.note("SIGSTOP".into());
        self.count("freezes");
        self.rest()?;
        let Some(at) = self.at(id) else { return Ok(()) };
        let caller = self.connections[at].caller.clone();
        let volley = self.volley(&caller);
        let silences = self.model.silences_end();
        let sent = Instant::now();
        if let Some(roamd) = &self.roamd {
            roamd.freeze()?;
        }
        let mut asked = Vec::new();
        for request in &volley {
            asked.push(self.say(at, InboxSeq::ZERO, request)?);
        }
        self.connections[at].flush()?;
        if let Some(roamd) = &self.roamd {
            roamd.thaw();
        }
        for (req_id, request) in asked.into_iter().zip(volley) {
            let Some(body) = self.reply_to(at, req_id)? else {
                return Err("a frozen daemon has closed a connection".into());
            };
            self.apply(at, req_id, Command::Request(request), &body)?;
        }
        self.took(sent);
        self.doubtful |= silences.is_some_and(|end| end <= Instant::now());
        self.settle()
    }

    /// kill -9 while sends are on the way: their sender repeats all of them, and what was done must be
    /// a beginning of them that holds everything acked.
    pub(super) fn crash_in_a_volley(&mut self) -> Result<(), Found> {
        let Some(id) = self.gunner()? else { return Ok(()) };
        self.note("kill -9 in a volley".into());
        self.count("kills in a volley");
        self.rest()?;
        let Some(at) = self.at(id) else { return Ok(()) };
        let caller = self.connections[at].caller.clone();
        let volley = self.volley(&caller);
        let mut asked = Vec::new();
        for request in &volley {
            asked.push(self.say(at, InboxSeq::ZERO, request)?);
        }
        self.connections[at].flush()?;
        let heard = self.plan.dice.below(volley.len() as u64 + 1) as usize;
        for req_id in &asked[..heard] {
            self.reply_to(at, *req_id)?;
        }
        if let Some(mut roamd) = self.roamd.take() {
            roamd.kill();
        }
        while !self.connections[at].gone {
            self.connections[at].read()?;
        }
        let frames = &self.connections[at].waiting;
        let acked: Vec<Option<Body>> = asked
            .iter()
            .map(|req_id| frames.iter().find(|frame| frame.req_id == *req_id))
            .map(|frame| frame.and_then(|frame| frame.body.clone()))
            .collect();
        self.connections.clear();
        self.launch_again()?;
        self.repeat(&caller, &volley, &acked)
    }

    fn repeat(
        &mut self,
        caller: &Caller,
        volley: &[Request],
        acked: &[Option<Body>],
    ) -> Result<(), Found> {
        let id = self.next_id;
        self.next_id += 1;
        let (user, device): (UserId, DeviceId) = (caller.user.clone(), caller.device.clone());
        let again = self.caller(&user, &device, id);
        let at = self.accept(again.clone(), id)?;
        let empty = super::client::Client::new(user.clone(), device.clone(), Instant::now());
        let (hello, attach, limits) = self.hello(&user, &device, None, &empty)?;
        let greeting = self.say(at, InboxSeq::ZERO, &hello)?;
        let mut asked = Vec::new();
        for request in volley {
            asked.push(self.say(at, InboxSeq::ZERO, request)?);
        }
        self.connections[at].flush()?;
        let mut replies = Vec::new();
        for req_id in &asked {
            let body = self.reply_to(at, *req_id)?;
            replies.push(body.ok_or("the daemon is gone")?);
        }
        let Some(welcome) = self.reply_to(at, greeting)? else { return Err("no Welcome".into()) };
        // What was done before the kill.
        let mut ended = false;
        for ((request, reply), before) in volley.iter().zip(&replies).zip(acked) {
            let Body::SendAck(ack) = reply else {
                if matches!(before, Some(Body::SendAck(_))) {
                    let found = format!("{before:?} was told, and now {reply:?}");
                    return Err(Invariant::I1.broken(found));
                }
                continue;
            };
            let Some(Body::SendAck(before)) = before else {
                ended |= !ack.duplicate;
                if ended && ack.duplicate {
                    let found = format!("{request:?} was done, and one before it was not");
                    return Err(Invariant::I4.broken(found));
                }
                if ack.duplicate {
                    self.done_before(caller, request, ack)?;
                }
                continue;
            };
            if ended || *ack != (proto::SendAck { duplicate: true, ..before.clone() }) {
                let found = format!("{before:?} was told, and now {ack:?}");
                return Err(Invariant::I1.broken(found));
            }
            self.done_before(caller, request, ack)?;
        }
        self.model.restart();
        self.tell();
        self.connections[at].client.agree(&self.model, limits, 0);
        self.connections[at].client.copy =
            super::replica::Replica::of_everything(&self.model, &user);
        self.apply(at, greeting, attach, &welcome)?;
        for ((request, reply), req_id) in volley.iter().zip(&replies).zip(asked) {
            self.apply(at, req_id, Command::Request(request.clone()), reply)?;
        }
        // The one that watches is first.
        self.watch()?;
        let last = self.connections.len() - 1;
        self.connections.swap(0, last);
        self.settle()
    }

    /// The model does what the daemon did before it was killed.
    fn done_before(
        &mut self,
        caller: &Caller,
        request: &Request,
        ack: &proto::SendAck,
    ) -> Result<(), Found> {
        let mut now = self.now();
        now.wall = Timestamp::from_millis(ack.time_ms);
        let chosen = roamd_chosen_message(ack.message_id);
        let command = Command::Request(request.clone());
        let (expected, _) = self.model.apply(now, caller, &command, &chosen);
        let outcome = expected.at(&self.model);
        let told = proto::SendAck { duplicate: false, ..ack.clone() };
        let Outcome::Reply(reply @ Reply::SendAck { .. }) = outcome else {
            return Err(Invariant::I2.broken(format!("{ack:?}, but {outcome:?}")));
        };
        let model = wire::framed(1, &reply)?.body.ok_or("no body")?;
        let actual = Body::SendAck(told);
        match wire::timeless(&actual) == wire::timeless(&model) {
            true => Ok(()),
            false => Err(Invariant::I3.broken(format!("server {actual:?}, model {model:?}"))),
        }
    }
}
