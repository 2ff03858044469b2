//! Every frame that comes is held against what the model says it must be, and then given to the
//! checker of devices as that.

use roamd::{
    engine::Command,
    reply::{Batch, LargeNews, Reply, Verdict},
    request::Position,
    seq::{HistorySeq, InboxSeq, MutationSeq},
    wire::proto::{self, server_frame::Body},
};

use super::{
    client::Phase,
    driver::{Found, Live},
    invariant::{Invariant, of_answer},
    model::Outcome,
    wire,
};

/// What was said, and what should have been.
fn differs(what: &str, actual: &Body, model: &Body) -> Option<Found> {
    let (actual, model) = (wire::timeless(actual), wire::timeless(model));
    (actual != model).then(|| format!("{what}\n  server: {actual}\n  model:  {model}"))
}

impl Live {
    /// Looks at everything that has come on a connection.
    pub(super) fn hear(&mut self, at: usize) -> Result<(), Found> {
        while let Some(frame) = self.connections[at].waiting.pop_front() {
            let id = self.connections[at].id;
            self.frame(at, frame).map_err(|found| format!("connection {id}: {found}"))?;
            self.store_replica(at);
        }
        Ok(())
    }

    fn frame(&mut self, at: usize, frame: proto::ServerFrame) -> Result<(), Found> {
        let body = frame.body.ok_or("a frame without a body")?;
        let req_id = frame.req_id;
        if let Body::PresencePush(push) = &body {
            return self.presence(at, push).map_err(|found| Invariant::I12.broken(found));
        }
        let reply = match self.connections[at].client.asked.get(&req_id) {
            Some(Some(due)) => {
                let due = due.clone();
                self.answer(at, req_id, body, due)?
            }
            _ => self.unasked(at, req_id, body)?,
        };
        let kind = self.connections[at].client.receive(&self.model, req_id, reply)?;
        if let Some(kind) = kind {
            self.count(kind);
        }
        Ok(())
    }

    fn answer(&self, at: usize, req_id: u64, body: Body, due: Reply) -> Result<Reply, Found> {
        let connection = &self.connections[at];
        let mut said = due.clone();
        if let (Reply::Refused(refusal), Phase::Greeting(_)) = (&mut said, &connection.client.phase)
        {
            refusal.fatal = true;
        }
        let (mut actual, mut model) = (body, wire::framed(req_id, &said)?);
        let model = model.body.as_mut().ok_or("a reply without a body")?;
        let command = connection.commands.get(&req_id);
        let name = |found| match command {
            Some(command) => {
                let outcome = Outcome::Reply(due.clone());
                of_answer(command, &outcome, &outcome).broken(found)
            }
            None => Invariant::I14.broken(found),
        };
        wire::level(&mut actual, model).map_err(name)?;
        match differs(&format!("answer to {command:?}"), &actual, model) {
            Some(found) => Err(name(found)),
            None => Ok(said),
        }
    }

    fn unasked(&mut self, at: usize, req_id: u64, body: Body) -> Result<Reply, Found> {
        let now = self.now();
        let caller = self.connections[at].caller.clone();
        let user = caller.user.clone();
        match &body {
            Body::SyncBatch(batch) => {
                let head = self.model.head(&user).number();
                let counted = batch.last_seq.checked_sub(batch.prev_seq);
                if batch.last_seq > head || counted != Some(batch.entries.len() as u64) {
                    let (prev, last) = (batch.prev_seq, batch.last_seq);
                    let found = format!(
                        "{} entries after {prev} up to {last}, the head is {head}",
                        batch.entries.len()
                    );
                    return Err(Invariant::I2.broken(found));
                }
                let reply = Reply::SyncBatch(Batch {
                    prev: InboxSeq::new(batch.prev_seq),
                    head: InboxSeq::new(batch.head_seq),
                    entries: self.model.entries(&user, batch.prev_seq + 1, batch.last_seq),
                });
                let model = wire::framed(req_id, &reply)?.body.ok_or("no body")?;
                match differs("a batch", &body, &model) {
                    Some(found) => Err(Invariant::I3.broken(found)),
                    None => Ok(reply),
                }
            }
            Body::ConversationPush(push) => {
                let reply = Reply::ConversationPush(Box::new(self.news(&user, push)?));
                let model = wire::framed(req_id, &reply)?.body.ok_or("no body")?;
                match differs("a push", &body, &model) {
                    Some(found) => Err(Invariant::I8.broken(found)),
                    None => Ok(reply),
                }
            }
            Body::TooLong(told) => {
                self.plan.snapshots.retain(|(of, _)| *of != user);
                self.plan.snapshots.push((user, told.snapshot_token.clone()));
                let client = &self.connections[at].client;
                let told_before = |verdict: Verdict| matches!(verdict, Verdict::TooLong(_));
                let expected = client.compared.as_ref().is_some_and(|c| told_before(c.verdict));
                if !expected {
                    // Retention has passed the stream.
                    let seq = InboxSeq::new(client.stored);
                    let place = Position { epoch: self.model.epoch, seq };
                    let resume = Command::Resume(place);
                    let (again, _) = self.model.apply(now, &caller, &resume, &Default::default());
                    if let Outcome::Resumed(compared) = again.at(&self.model) {
                        self.connections[at].client.compared = Some(compared);
                    }
                }
                if let Some(compared) = &mut self.connections[at].client.compared {
                    compared.snapshot = told.snapshot_token.clone();
                }
                self.plain(at, &body)
            }
            Body::CaughtUp(_) => {
                let asked = Command::CaughtUp;
                let (state, _) = self.model.apply(now, &caller, &asked, &Default::default());
                let Outcome::CaughtUp { seq, unread_total, changed, complete, mut large } =
                    state.at(&self.model)
                else {
                    return Err("the model knows no state".into());
                };
                large.sort_by_key(|end| end.conversation.clone());
                let hints = Vec::new();
                let client = &mut self.connections[at].client;
                client.state =
                    Some(Reply::CaughtUp { seq, unread_total, changed, complete, hints });
                client.large_ends = large;
                self.plain(at, &body)
            }
            Body::UnreadPush(push) => {
                let told = (push.unread_total, InboxSeq::new(push.position));
                let moments = self.moments.get(&user);
                if !moments.is_some_and(|moments| moments.contains(&told)) {
                    let found = format!("{user} is told the total {told:?}, which never was");
                    return Err(Invariant::I9.broken(found));
                }
                let reply = self.plain(at, &body)?;
                self.connections[at].client.may_come(reply.clone());
                Ok(reply)
            }
            _ => self.plain(at, &body),
        }
    }

    fn plain(&self, at: usize, body: &Body) -> Result<Reply, Found> {
        let compared = self.connections[at].client.compared.as_ref();
        let plain = wire::plain(body, compared)?;
        plain.ok_or_else(|| Invariant::I14.broken(format!("nobody asked for {body:?}")))
    }

    /// A push of a large conversation with what the model knows of its message.
    fn news(
        &self,
        user: &roamd::id::UserId,
        push: &proto::ConversationPush,
    ) -> Result<LargeNews, Found> {
        let Some(message) = &push.message else {
            let conversation = wire::conversation(&push.conversation_id)?;
            return Ok(LargeNews::Version { conversation, version: push.version });
        };
        let id = wire::conversation(&message.conversation_id)?;
        let row = message.history_seq;
        if self.model.talks.get(&id).is_none_or(|talk| row == 0 || row > talk.head()) {
            return Err(Invariant::I2.broken(format!("a push of what there is not: {push:?}")));
        }
        let message = self.model.show(user, &id, row);
        Ok(match push.mutation_seq {
            0 => LargeNews::Message { message, prev: HistorySeq::new(push.prev_history_seq) },
            mutation => LargeNews::Mutation {
                message,
                mutation: MutationSeq::new(mutation),
                prev: MutationSeq::new(push.prev_mutation_seq),
            },
        })
    }

    /// States are those there were, in their order; some may be passed over.
    fn presence(&mut self, at: usize, push: &proto::PresencePush) -> Result<(), Found> {
        self.note(format!("{} hears {:?}", self.connections[at].id, push.devices));
        for of in &push.devices {
            let user = wire::user(&of.user_id)?;
            let state = match of.state() {
                proto::PresenceState::Online => roamd::reply::PresenceState::Online,
                proto::PresenceState::Background => roamd::reply::PresenceState::Background,
                _ => roamd::reply::PresenceState::Offline,
            };
            if self.stopping && state == roamd::reply::PresenceState::Offline {
                // Who goes first is the daemon's affair.
                continue;
            }
            let states = self.connections[at].presence.iter_mut();
            let mut states =
                states.filter(|((u, device), _)| *u == user && device.as_str() == of.device_id);
            let found = || format!("nobody waits for {of:?}");
            let (_, states) = states.next().ok_or_else(found)?;
            let place = states.iter().position(|waits| *waits == state).ok_or_else(found)?;
            states.drain(..=place);
        }
        self.count("push: presence");
        Ok(())
    }

    /// Nobody waits for the news of a device any more: what was to be told last must have come.
    pub(super) fn all_presence_told(&self) -> Result<(), Found> {
        for connection in &self.connections {
            let waits = connection.presence.iter().find(|(_, states)| !states.is_empty());
            if let Some((device, states)) = waits {
                let found = format!("{} never heard that {device:?} is {states:?}", connection.id);
                return Err(Invariant::I12.broken(found));
            }
        }
        Ok(())
    }
}
