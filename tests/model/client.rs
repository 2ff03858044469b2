//! A device as the protocol wants it: what it has stored, what it has asked, and what it may expect
//! next. Every frame a session sends is held against that and against the model.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use roamd::{
    engine::Compared,
    id::{DeviceId, UserId},
    refusal::{ErrorCode, Retry},
    reply::{Batch, GoAwayReason, Reply, Verdict, Welcome},
    request::{ClientLimits, LargeCursor, Position},
    seq::InboxSeq,
    wire,
};

use super::{
    compare::same,
    driver::Found,
    invariant::{Invariant, of_entries},
    model::Model,
    replica::Replica,
};

/// Where the conversation with the server stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Nothing is settled; Hello may have been said under this number.
    Greeting(u64),
    /// Told where to go on from.
    TooLong(Position),
    /// Has asked to go on from there, under this number.
    Resuming(u64, Position),
    Streaming {
        caught_up: bool,
    },
}

/// A way in which the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// A fatal error.
    Error(ErrorCode),
    Away(GoAwayReason),
    /// Without another word.
    Quiet,
}

#[derive(Debug)]
pub struct Client {
    pub user: UserId,
    pub device: DeviceId,
    pub phase: Phase,
    /// The last entry stored.
    pub stored: u64,
    pub acked: u64,
    /// What was asked, and the reply once the server has it.
    pub asked: BTreeMap<u64, Option<Reply>>,
    pub next_req_id: u64,
    /// Ends that are due; the first that comes is right.
    pub ends: Vec<End>,
    /// An end with OVERLOADED is right, but need not come.
    pub may_end_overloaded: bool,
    /// When the server may give up on this device.
    pub silence: Instant,
    pub expires: Option<Instant>,
    /// The engine's latest compare and state for this session.
    pub compared: Option<Compared>,
    pub state: Option<Reply>,
    /// Where large conversations ended then.
    pub large_ends: Vec<LargeCursor>,
    /// What it has.
    pub copy: Replica,
    /// It has what it says that it has.
    pub honest: bool,
    agreed: ClientLimits,
    unacked: VecDeque<(u64, usize)>,
    last: Option<Reply>,
    /// Unsolicited frames that were handed to the session, in order; some may be dropped.
    pushes: VecDeque<Reply>,
}

impl Client {
    pub fn new(user: UserId, device: DeviceId, silence: Instant) -> Self {
        Self {
            user,
            device,
            phase: Phase::Greeting(0),
            stored: 0,
            acked: 0,
            asked: BTreeMap::new(),
            next_req_id: 1,
            ends: Vec::new(),
            may_end_overloaded: false,
            silence,
            expires: None,
            compared: None,
            state: None,
            large_ends: Vec::new(),
            copy: Replica::default(),
            honest: true,
            agreed: ClientLimits::default(),
            unacked: VecDeque::new(),
            last: None,
            pushes: VecDeque::new(),
        }
    }

    /// What both sides keep to: what the client wants, within what the server allows.
    pub fn agree(&mut self, model: &Model, wanted: ClientLimits, stored: u64) {
        let least = |wanted: u32, most: u32| if wanted == 0 { most } else { wanted.min(most) };
        self.agreed = ClientLimits {
            unacked_entries: least(wanted.unacked_entries, model.limits.unacked_entries),
            unacked_bytes: least(wanted.unacked_bytes, model.limits.unacked_bytes),
            batch_bytes: least(wanted.batch_bytes, 256 * 1024),
            missed_entries: wanted.missed_entries,
        };
        self.go_on_from(stored);
    }

    fn go_on_from(&mut self, stored: u64) {
        self.stored = stored;
        self.acked = stored;
        self.unacked.clear();
    }

    /// Whether it was told that it has caught up.
    fn is_live(&self) -> bool {
        self.phase == Phase::Streaming { caught_up: true }
    }

    /// What it may ack: nothing above the place from which it has asked to go on.
    pub fn ackable(&self) -> u64 {
        match self.phase {
            Phase::Resuming(_, at) => self.stored.min(at.seq.number()),
            _ => self.stored,
        }
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Greeting(_)) && self.ends.is_empty()
    }

    /// The session has this to say, unless nobody waits for it.
    pub fn may_come(&mut self, push: Reply) {
        self.pushes.push_back(push);
    }

    fn push(&mut self, push: &Reply) -> Result<(), Found> {
        if let Phase::Greeting(_) = self.phase {
            return Err(format!("a push before Welcome: {push:?}"));
        }
        let place = self.pushes.iter().position(|waits| waits == push);
        let Some(place) = place else { return Err(format!("a push out of nowhere: {push:?}")) };
        // Those before it were dropped; a total waits apart from the others.
        let is_total = |push: &Reply| matches!(push, Reply::UnreadPush { .. });
        let mut at = 0;
        self.pushes.retain(|waits| {
            at += 1;
            at > place + 1 || is_total(waits) != is_total(push)
        });
        Ok(())
    }

    /// Everything up to here is stored; the server may forget it for this session.
    pub fn ack(&mut self, seq: u64) {
        self.acked = self.acked.max(seq);
        while self.unacked.front().is_some_and(|(last, _)| *last <= self.acked) {
            self.unacked.pop_front();
        }
    }

    /// A frame comes in.
    pub fn receive(
        &mut self,
        model: &Model,
        req_id: u64,
        reply: Reply,
    ) -> Result<Option<&'static str>, Found> {
        let mut kind = None;
        if let Some(Reply::GoAway { .. }) = self.last {
            return Err(format!("a frame after GoAway: {reply:?}"));
        }
        match &reply {
            Reply::Welcome(welcome) => self.welcome(req_id, welcome)?,
            Reply::TooLong { epoch, head, first, reason, snapshot } => {
                let Some(compared) = &self.compared else {
                    return Err("TooLong out of nowhere".into());
                };
                let told = (*epoch, *head, *first, Verdict::TooLong(*reason), snapshot);
                let Compared { epoch, head, first, verdict, snapshot, .. } = compared;
                same("TooLong", &told, &(*epoch, *head, *first, *verdict, snapshot))
                    .map_err(|found| Invariant::I10.broken(found))?;
                let at = Position { epoch: *epoch, seq: *head };
                match self.phase {
                    // The stream can be overtaken by retention at any time.
                    Phase::Streaming { .. } if req_id == 0 => {}
                    Phase::Resuming(asked, _) if req_id == asked => {
                        self.asked.remove(&req_id);
                    }
                    _ => return Err(format!("TooLong {req_id} in {:?}", self.phase)),
                }
                self.phase = Phase::TooLong(at);
            }
            Reply::Resumed { head } => {
                let Phase::Resuming(asked, at) = self.phase else {
                    return Err(format!("Resumed in {:?}", self.phase));
                };
                same("number of Resumed", &req_id, &asked)?;
                same("head of Resumed", &Some(*head), &self.compared.as_ref().map(|c| c.head))?;
                self.asked.remove(&req_id);
                self.go_on_from(at.seq.number());
                self.copy = Replica::of_everything(model, &self.user);
                self.honest = true;
                self.phase = Phase::Streaming { caught_up: false };
            }
            Reply::SyncBatch(batch) => {
                self.batch(model, batch).map_err(|found| Invariant::I6.broken(found))?;
            }
            Reply::CaughtUp { seq, hints, .. } => {
                if !matches!(self.phase, Phase::Streaming { .. }) {
                    return Err(Invariant::I6.broken(format!("CaughtUp in {:?}", self.phase)));
                }
                same("place of CaughtUp", &seq.number(), &self.stored)
                    .map_err(|found| Invariant::I6.broken(found))?;
                let mut state = self.state.clone();
                if let Some(Reply::CaughtUp { hints: due, .. }) = &mut state {
                    due.clone_from(hints);
                }
                same("state told by CaughtUp", &Some(&reply), &state.as_ref())
                    .map_err(|found| Invariant::I9.broken(found))?;
                self.copy
                    .caught_up(model, &self.user, &self.large_ends, hints)
                    .map_err(|found| Invariant::I11.broken(found))?;
                if !hints.is_empty() {
                    kind = Some("push: hints");
                }
                self.phase = Phase::Streaming { caught_up: true };
            }
            Reply::GoAway { .. } => {}
            Reply::PresencePush(_) | Reply::EphemeralPush(_) if req_id == 0 => {
                self.push(&reply).map_err(|found| Invariant::I12.broken(found))?;
            }
            Reply::UnreadPush { .. } if self.is_live() => {
                self.push(&reply).map_err(|found| Invariant::I9.broken(found))?;
            }
            Reply::ConversationPush(news) if self.is_live() && req_id == 0 => {
                let pushed = self.copy.push(model, &self.user, news);
                kind = Some(pushed.map_err(|found| Invariant::I6.broken(found))?);
            }
            Reply::UnreadPush { .. } | Reply::ConversationPush(_) => {
                return Err(Invariant::I6.broken(format!("not live, and yet {reply:?}")));
            }
            Reply::Refused(refusal) if req_id == 0 => {
                if !refusal.fatal {
                    return Err(format!("an error about nothing that was asked: {refusal:?}"));
                }
            }
            reply => {
                self.answer(req_id, reply).map_err(|found| Invariant::I14.broken(found))?;
            }
        }
        self.last = Some(reply);
        Ok(kind)
    }

    fn answer(&mut self, req_id: u64, reply: &Reply) -> Result<(), Found> {
        let Some(due) = self.asked.remove(&req_id) else {
            return Err(format!("a reply to {req_id}, which is not outstanding: {reply:?}"));
        };
        let mut reply = reply.clone();
        if let (Reply::Refused(refusal), Phase::Greeting(_)) = (&mut reply, &self.phase) {
            if !refusal.fatal {
                return Err(format!("Hello was refused, but not for good: {refusal:?}"));
            }
            if due.is_none() {
                // Refused by the session itself; which way, its end tells.
                return Ok(());
            }
            refusal.fatal = false;
        }
        if let (Reply::Refused(_), Phase::Resuming(asked, at)) = (&reply, &self.phase)
            && *asked == req_id
        {
            self.phase = Phase::TooLong(*at);
        }
        let mut due = due;
        if let (Reply::Refused(told), Some(Reply::Refused(due))) = (&reply, &mut due)
            && let (Retry::AfterDelay(wait), Retry::AfterDelay(least))
            | (Retry::Reconnect(wait), Retry::Reconnect(least)) = (told.retry, due.retry)
            && (least..=least * 2).contains(&wait)
        {
            // Waits are spread.
            due.retry = told.retry;
        }
        same(&format!("reply to {req_id}"), &Some(reply), &due)
    }

    fn welcome(&mut self, req_id: u64, welcome: &Welcome) -> Result<(), Found> {
        let (Phase::Greeting(hello), Some(compared)) = (&self.phase, &self.compared) else {
            return Err(format!("Welcome in {:?}", self.phase));
        };
        same("number of Welcome", &req_id, hello)?;
        self.asked.remove(&req_id);
        let Welcome { user, epoch, head, first, cursor, verdict, unread_total, .. } = welcome;
        same("user of Welcome", user, &self.user)?;
        let told = (epoch, head, first, cursor, verdict, unread_total, &welcome.last_client_id);
        let Compared { epoch, head, first, cursor, verdict, unread_total, .. } = compared;
        let known = (epoch, head, first, cursor, verdict, unread_total, &compared.last_client_id);
        let broken = match () {
            () if told.3 != known.3 => Invariant::I7,
            () if told.4 != known.4 => Invariant::I10,
            () if told.5 != known.5 => Invariant::I9,
            () => Invariant::I3,
        };
        same("Welcome", &told, &known).map_err(|found| broken.broken(found))?;
        let limits = &welcome.limits;
        let agreed = (limits.unacked_entries, limits.unacked_bytes, limits.batch_bytes);
        let wanted =
            (self.agreed.unacked_entries, self.agreed.unacked_bytes, self.agreed.batch_bytes);
        same("agreed limits", &agreed, &wanted)?;
        // TooLong follows when the verdict says so, and is taken as coming from the stream.
        self.phase = Phase::Streaming { caught_up: false };
        Ok(())
    }

    /// The stream: no gap, no repetition, the right entries, within what was agreed.
    fn batch(&mut self, model: &Model, batch: &Batch) -> Result<(), Found> {
        if !matches!(self.phase, Phase::Streaming { .. }) {
            return Err(format!("SyncBatch in {:?}", self.phase));
        }
        same("start of a batch", &batch.prev.number(), &self.stored)?;
        let last = batch.last().number();
        if batch.entries.is_empty() || batch.head < batch.last() {
            return Err(format!("a batch of {}..={last}, head {}", batch.prev, batch.head));
        }
        if batch.head > model.head(&self.user) {
            return Err(format!("the batch says that the head is {}", batch.head));
        }
        let entries = model.entries(&self.user, self.stored + 1, last);
        same("entries of a batch", &batch.entries, &entries)
            .map_err(|found| of_entries(&batch.entries, &entries).broken(found))?;
        let bytes: usize = batch.entries.iter().map(wire::entry_len).sum();
        let waiting: usize = self.unacked.iter().map(|(_, bytes)| bytes).sum();
        let one = batch.entries.len() == 1;
        let ClientLimits { unacked_entries, unacked_bytes, batch_bytes, .. } = self.agreed;
        let too_many = last - self.acked > u64::from(unacked_entries);
        let too_much = waiting >= unacked_bytes as usize
            || (!one && waiting + bytes > unacked_bytes as usize)
            || (!one && bytes > batch_bytes as usize);
        if too_many || too_much {
            return Err(format!(
                "{} entries of {bytes} bytes on top of {} and {waiting}, agreed {:?}",
                batch.entries.len(),
                self.stored - self.acked,
                self.agreed
            ));
        }
        for entry in &batch.entries {
            self.copy.entry(model, &self.user, entry);
        }
        self.stored = last;
        self.unacked.push_back((last, bytes));
        Ok(())
    }

    /// The connection is over: it must have been about to end, with the last word for it.
    pub fn closed(&self) -> Result<String, Found> {
        let said = match &self.last {
            Some(Reply::GoAway { reason, .. }) => End::Away(*reason),
            Some(Reply::Refused(refusal)) if refusal.fatal => End::Error(refusal.code),
            _ => End::Quiet,
        };
        let overloaded = said == End::Error(ErrorCode::Overloaded) && self.may_end_overloaded;
        if !self.ends.contains(&said) && !overloaded {
            return Err(format!("closed with {said:?}, but {:?} was due", self.ends));
        }
        // Whoever says Bye gets the replies that are due, but does not go on.
        let resume = match self.phase {
            Phase::Resuming(asked, _) => Some(asked),
            _ => None,
        };
        let due: Vec<_> = self.asked.keys().filter(|asked| Some(**asked) != resume).collect();
        if said == End::Quiet && !due.is_empty() {
            return Err(Invariant::I14.broken(format!("closed without a reply to {due:?}")));
        }
        Ok(match said {
            End::Error(code) => format!("closed: {code:?}"),
            End::Away(reason) => format!("closed: {reason:?}"),
            End::Quiet => "closed: Quiet".into(),
        })
    }

    /// Nothing happens any more: everything must have arrived.
    pub fn settled(&self, model: &Model) -> Result<(), Found> {
        if !self.ends.is_empty() {
            let found = format!("still open, though {:?} is due", self.ends);
            return Err(Invariant::I12.broken(found));
        }
        if let Some((req_id, _)) = self.asked.first_key_value() {
            return Err(Invariant::I14.broken(format!("request {req_id} was never answered")));
        }
        if let Phase::Streaming { caught_up } = self.phase {
            let head = model.head(&self.user);
            let converged = |found| Invariant::I11.broken(found);
            same("where the stream ends", &InboxSeq::new(self.stored), &head).map_err(converged)?;
            same("whether CaughtUp came", &caught_up, &true).map_err(converged)?;
            if self.honest {
                self.copy.settled(model, &self.user).map_err(converged)?;
            }
        }
        Ok(())
    }
}
