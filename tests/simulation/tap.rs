//! Listens at the server's end of a connection: what a session was told, and whether what it says is
//! right, frame by frame, held against the model as it was at the last flush.
//!
//! It does not know what reaches the device; [`crate::device`] looks at that end.

use std::collections::{BTreeMap, VecDeque};

use roamd::{
    engine::Compared,
    id::{DeviceId, UserId},
    refusal::ErrorCode,
    reply::{Batch, GoAwayReason, LargeNews, Reply, Verdict, Welcome},
    request::{ClientLimits, Incoming, Position, Request},
    seq::InboxSeq,
    wire,
};

use crate::{compare::same, driver::Found, model::Model};

/// Where the conversation with the device stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    Greeting,
    TooLong(Position),
    Resuming(u64, Position),
    Streaming { caught_up: bool },
}

/// A way in which the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Error(ErrorCode),
    Away(GoAwayReason),
    Quiet,
}

#[derive(Debug)]
pub struct Tap {
    /// Known once Hello has been heard.
    pub who: Option<(UserId, DeviceId)>,
    pub phase: Phase,
    hello: u64,
    /// The last entry sent.
    sent: u64,
    acked: u64,
    /// What was asked, and the reply once the server has it.
    asked: BTreeMap<u64, Option<Reply>>,
    /// Ends that are due; the first that comes is right.
    pub ends: Vec<End>,
    pub compared: Option<Compared>,
    pub state: Option<Reply>,
    agreed: ClientLimits,
    unacked: VecDeque<(u64, usize)>,
    last: Option<Reply>,
    pushes: VecDeque<Reply>,
    /// The last row pushed of large conversations.
    pushed: BTreeMap<String, u64>,
    /// Frames so far.
    pub frames: u64,
}

/// Sessions spread what they tell of waiting; the model does not.
fn calm(mut reply: Reply) -> Reply {
    if let Reply::Refused(refusal) = &mut reply {
        refusal.retry = refusal.code.retry();
    }
    reply
}

impl Tap {
    pub fn new() -> Self {
        Self {
            who: None,
            phase: Phase::Greeting,
            hello: 0,
            sent: 0,
            acked: 0,
            asked: BTreeMap::new(),
            ends: Vec::new(),
            compared: None,
            state: None,
            agreed: ClientLimits::default(),
            unacked: VecDeque::new(),
            last: None,
            pushes: VecDeque::new(),
            pushed: BTreeMap::new(),
            frames: 0,
        }
    }

    pub fn user(&self) -> Result<&UserId, Found> {
        self.who.as_ref().map(|(user, _)| user).ok_or_else(|| "nobody has said Hello".into())
    }

    /// A frame has come in, of this user.
    pub fn heard(&mut self, model: &Model, user: &UserId, incoming: &Incoming) {
        let Incoming { req_id, ack, request } = incoming;
        self.acknowledge(ack.number());
        match request {
            Request::Ack(seq) => self.acknowledge(seq.number()),
            Request::Bye => self.ends.push(End::Quiet),
            Request::Hello(hello) => {
                self.who = Some((user.clone(), hello.device.clone()));
                self.hello = *req_id;
                self.asked.insert(*req_id, None);
                let least =
                    |wanted: u32, most: u32| if wanted == 0 { most } else { wanted.min(most) };
                let wanted = hello.limits;
                self.agreed = ClientLimits {
                    unacked_entries: least(wanted.unacked_entries, model.limits.unacked_entries),
                    unacked_bytes: least(wanted.unacked_bytes, model.limits.unacked_bytes),
                    batch_bytes: least(wanted.batch_bytes, 256 * 1024),
                    missed_entries: wanted.missed_entries,
                };
                self.go_on_from(hello.resume.map_or(0, |at| at.seq.number()));
            }
            Request::Resume(at) => {
                self.phase = Phase::Resuming(*req_id, *at);
                self.asked.insert(*req_id, None);
            }
            _ => {
                self.asked.insert(*req_id, None);
            }
        }
    }

    fn go_on_from(&mut self, seq: u64) {
        (self.sent, self.acked) = (seq, seq);
        self.unacked.clear();
    }

    fn acknowledge(&mut self, seq: u64) {
        self.acked = self.acked.max(seq);
        while self.unacked.front().is_some_and(|(last, _)| *last <= self.acked) {
            self.unacked.pop_front();
        }
    }

    /// The reply to a request is known.
    pub fn owe(&mut self, req_id: u64, reply: Reply) {
        if let (Phase::Greeting, Reply::Refused(refusal)) = (&self.phase, &reply) {
            self.ends.push(End::Error(refusal.code));
        }
        if let Some(due) = self.asked.get_mut(&req_id) {
            *due = Some(reply);
        }
    }

    /// The session was handed something to say, unless nobody waits for it.
    pub fn may_come(&mut self, push: Reply) {
        self.pushes.push_back(push);
    }

    fn push(&mut self, push: &Reply) -> Result<(), Found> {
        if self.phase == Phase::Greeting {
            return Err(format!("I6: a push before Welcome: {push:?}"));
        }
        let place = self.pushes.iter().position(|waits| waits == push);
        let Some(place) = place else { return Err(format!("I2: a push out of nowhere: {push:?}")) };
        let is_total = |push: &Reply| matches!(push, Reply::UnreadPush { .. });
        let mut at = 0;
        // Those before it were dropped; a total waits apart from the others.
        self.pushes.retain(|waits| {
            at += 1;
            at > place + 1 || is_total(waits) != is_total(push)
        });
        Ok(())
    }

    /// A frame goes out.
    pub fn said(&mut self, model: &Model, req_id: u64, reply: &Reply) -> Result<(), Found> {
        self.frames += 1;
        if let Some(Reply::GoAway { .. }) = self.last {
            return Err(format!("a frame after GoAway: {reply:?}"));
        }
        let live = self.phase == (Phase::Streaming { caught_up: true });
        match reply {
            Reply::Welcome(welcome) => self.welcome(req_id, welcome)?,
            Reply::TooLong { epoch, head, first, reason, snapshot } => {
                let Some(compared) = &self.compared else {
                    return Err("TooLong out of nowhere".into());
                };
                let told = (*epoch, *head, *first, Verdict::TooLong(*reason), snapshot);
                let Compared { epoch, head, first, verdict, snapshot, .. } = compared;
                same("I10: TooLong", &told, &(*epoch, *head, *first, *verdict, snapshot))?;
                match self.phase {
                    Phase::Streaming { .. } if req_id == 0 => {}
                    Phase::Resuming(asked, _) if req_id == asked => {
                        self.asked.remove(&req_id);
                    }
                    _ => return Err(format!("TooLong {req_id} in {:?}", self.phase)),
                }
                self.phase = Phase::TooLong(Position { epoch: *epoch, seq: *head });
            }
            Reply::Resumed { head } => {
                let Phase::Resuming(asked, at) = self.phase else {
                    return Err(format!("Resumed in {:?}", self.phase));
                };
                same("number of Resumed", &req_id, &asked)?;
                same("head of Resumed", &Some(*head), &self.compared.as_ref().map(|c| c.head))?;
                self.asked.remove(&req_id);
                self.go_on_from(at.seq.number());
                self.phase = Phase::Streaming { caught_up: false };
            }
            Reply::SyncBatch(batch) => self.batch(model, batch)?,
            Reply::CaughtUp { seq, hints, .. } => {
                if !matches!(self.phase, Phase::Streaming { .. }) {
                    return Err(format!("CaughtUp in {:?}", self.phase));
                }
                same("I6: place of CaughtUp", &seq.number(), &self.sent)?;
                let mut state = self.state.clone();
                if let Some(Reply::CaughtUp { hints: due, .. }) = &mut state {
                    due.clone_from(hints);
                }
                same("I9: state told by CaughtUp", &Some(reply), &state.as_ref())?;
                self.phase = Phase::Streaming { caught_up: true };
            }
            Reply::GoAway { .. } => {}
            Reply::PresencePush(_) | Reply::EphemeralPush(_) if req_id == 0 => self.push(reply)?,
            Reply::UnreadPush { .. } if live => self.push(reply)?,
            Reply::ConversationPush(news) if live && req_id == 0 => self.news(model, news)?,
            Reply::Refused(refusal) if req_id == 0 => {
                if !refusal.fatal {
                    return Err(format!("an error about nothing that was asked: {refusal:?}"));
                }
            }
            reply => self.answer(req_id, reply)?,
        }
        self.last = Some(reply.clone());
        Ok(())
    }

    /// A push of a large conversation: in order, as it is, for this user.
    fn news(&mut self, model: &Model, news: &LargeNews) -> Result<(), Found> {
        let user = self.user()?.clone();
        let message = match news {
            LargeNews::Version { .. } => return Ok(()),
            LargeNews::Message { message, .. } | LargeNews::Mutation { message, .. } => message,
        };
        let (id, row) = (&message.conversation, message.seq.number());
        same("I2: a pushed message", message, &model.show(&user, id, row))?;
        if let LargeNews::Message { prev, .. } = news {
            let sees = model.visible(&user, id);
            let between = |seen: &u64| *seen > prev.number() && *seen < row;
            let last = self.pushed.entry(id.to_string()).or_default();
            if !sees.contains(&row) || sees.iter().any(between) || row <= *last {
                return Err(format!("I4: {id} {row} after {prev} was pushed, last was {last}"));
            }
            *last = row;
        }
        Ok(())
    }

    fn answer(&mut self, req_id: u64, reply: &Reply) -> Result<(), Found> {
        let Some(due) = self.asked.remove(&req_id) else {
            return Err(format!("I14: a reply to {req_id}, which is not outstanding: {reply:?}"));
        };
        let mut reply = reply.clone();
        if let (Reply::Refused(refusal), Phase::Greeting) = (&mut reply, &self.phase) {
            if !refusal.fatal {
                return Err(format!("Hello was refused, but not for good: {refusal:?}"));
            }
            if due.is_none() {
                self.ends.push(End::Error(refusal.code));
                return Ok(());
            }
            refusal.fatal = false;
        }
        if let (Reply::Refused(_), Phase::Resuming(asked, at)) = (&reply, &self.phase)
            && *asked == req_id
        {
            self.phase = Phase::TooLong(*at);
        }
        match &reply {
            // The session's own affair, the engine was not asked.
            Reply::Refused(refusal) if due.is_none() && refusal.code == ErrorCode::RateLimited => {
                Ok(())
            }
            _ => same(&format!("reply to {req_id}"), &Some(calm(reply)), &due.map(calm)),
        }
    }

    fn welcome(&mut self, req_id: u64, welcome: &Welcome) -> Result<(), Found> {
        let (Phase::Greeting, Some(compared)) = (&self.phase, &self.compared) else {
            return Err(format!("Welcome in {:?}", self.phase));
        };
        same("number of Welcome", &req_id, &self.hello)?;
        self.asked.remove(&req_id);
        let Welcome { user, epoch, head, first, cursor, verdict, unread_total, .. } = welcome;
        same("user of Welcome", user, self.user()?)?;
        let told = (epoch, head, first, cursor, verdict, unread_total, &welcome.last_client_id);
        let Compared { epoch, head, first, cursor, verdict, unread_total, .. } = compared;
        let known = (epoch, head, first, cursor, verdict, unread_total, &compared.last_client_id);
        same("Welcome", &told, &known)?;
        // TooLong follows when the verdict says so, and is taken as coming from the stream.
        self.phase = Phase::Streaming { caught_up: false };
        Ok(())
    }

    /// The stream: no gap, no repetition, the right entries, within what was agreed.
    fn batch(&mut self, model: &Model, batch: &Batch) -> Result<(), Found> {
        if !matches!(self.phase, Phase::Streaming { .. }) {
            return Err(format!("SyncBatch in {:?}", self.phase));
        }
        let user = self.user()?.clone();
        same("I6: start of a batch", &batch.prev.number(), &self.sent)?;
        let last = batch.last().number();
        if batch.entries.is_empty() || batch.head < batch.last() {
            return Err(format!("a batch of {}..={last}, head {}", batch.prev, batch.head));
        }
        if batch.head > model.head(&user) {
            return Err(format!("I3: the batch says that the head is {}", batch.head));
        }
        let entries = model.entries(&user, self.sent + 1, last);
        same("I3: entries of a batch", &batch.entries, &entries)?;
        let bytes: usize = batch.entries.iter().map(wire::entry_len).sum();
        let waiting: usize = self.unacked.iter().map(|(_, bytes)| bytes).sum();
        let one = batch.entries.len() == 1;
        let ClientLimits { unacked_entries, unacked_bytes, batch_bytes, .. } = self.agreed;
        let too_many = last - self.acked.min(last) > u64::from(unacked_entries);
        let too_much = waiting >= unacked_bytes as usize
            || (!one && waiting + bytes > unacked_bytes as usize)
            || (!one && bytes > batch_bytes as usize);
        if too_many || too_much {
            return Err(format!(
                "{} entries of {bytes} bytes on top of {} and {waiting}, agreed {:?}",
                batch.entries.len(),
                self.sent - self.acked,
                self.agreed
            ));
        }
        self.sent = last;
        self.unacked.push_back((last, bytes));
        Ok(())
    }

    /// The session is over: it must have been about to end, with the last word for it.
    pub fn closed(&self) -> Result<String, Found> {
        let said = match &self.last {
            Some(Reply::GoAway { reason, .. }) => End::Away(*reason),
            Some(Reply::Refused(refusal)) if refusal.fatal => End::Error(refusal.code),
            _ => End::Quiet,
        };
        if !self.ends.contains(&said) {
            return Err(format!("closed with {said:?}, but {:?} was due", self.ends));
        }
        let resume = match self.phase {
            Phase::Resuming(asked, _) => Some(asked),
            _ => None,
        };
        let due: Vec<_> = self.asked.keys().filter(|asked| Some(**asked) != resume).collect();
        if said == End::Quiet && !due.is_empty() {
            return Err(format!("I14: closed without a reply to {due:?}"));
        }
        Ok(match said {
            End::Error(code) => format!("closed: {code:?}"),
            End::Away(reason) => format!("closed: {reason:?}"),
            End::Quiet => "closed: Quiet".into(),
        })
    }

    /// Nothing happens any more: everything must have been said.
    pub fn settled(&self, model: &Model) -> Result<(), Found> {
        if !self.ends.is_empty() {
            return Err(format!("still open, though {:?} is due", self.ends));
        }
        if let Some((req_id, _)) = self.asked.first_key_value() {
            return Err(format!("I14: request {req_id} was never answered"));
        }
        if let Phase::Streaming { caught_up } = self.phase {
            let head = model.head(self.user()?);
            same("I11: where the stream ends", &InboxSeq::new(self.sent), &head)?;
            same("I11: whether CaughtUp came", &caught_up, &true)?;
        }
        Ok(())
    }
}
