//! One session: the life of a device on one connection, without the connection.
//!
//! ```text
//!               Hello              verdict                      head reached
//!  Greeting ──────────▶ Attaching ─────────▶ CatchUp ◀────────────────────── Live
//!     │                     │                  │  ▲  sent = head: CaughtUp ──▶ │
//!     │ no Hello in 10 s    │ too long         │  └── too much un-acked ◀──────┘
//!     ▼                     ▼                  │ retention passed the stream
//!   Closed ◀──────────── TooLong ◀─────────────┘
//!                           │  Resume ──▶ Resuming ──▶ CatchUp
//! ```
//!
//! Any state may end: Bye, a fatal error, silence, displacement, drain.
//!
//! Inputs are `handle_*` with the time, outputs come from [`Session::poll_output`], the next wake-up
//! from [`Session::deadline`]. The stream is a cursor over the inbox: `sent` only moves forward by
//! one batch at a time, so nothing is skipped or repeated, whatever wakes it, and a slow device
//! costs no memory: the log on disk is the queue. Owned by one connection.

mod ends;
mod greeting;
mod large;
mod rate;
mod stream;

use std::{collections::VecDeque, sync::Arc, time::Instant};

pub use self::rate::Quotas;
use self::{large::Large, rate::Rates, stream::Stream};
use crate::{
    auth::{KeyMark, KeyRing},
    engine::{Answer, Caller, Command, LargeSign, Now},
    id::{ConversationId, Epoch, SessionId},
    limits::{HELLO_TIMEOUT, Limits},
    planted::{self, Bug},
    refusal::{ErrorCode, Refusal},
    reply::{EntryView, GoAwayReason, PlacedMessage, Reply},
    request::{ClientLimits, Feature, Incoming, Position, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
    wire::Refused,
};

/// The protocol version of this program.
pub const PROTOCOL: u32 = 1;

/// What all sessions of a daemon share.
#[derive(Debug)]
pub struct SessionContext {
    /// Keys that tokens are verified with.
    pub keys: KeyRing,
    /// What is allowed.
    pub limits: Limits,
    /// What users have used of it.
    pub quotas: Arc<Quotas>,
}

impl SessionContext {
    /// For a daemon that has no sessions yet.
    #[must_use]
    pub fn new(keys: KeyRing, limits: Limits) -> Self {
        Self { keys, limits, quotas: Arc::default() }
    }

    /// Other keys and limits; what users have used stays used.
    #[must_use]
    pub fn with(&self, keys: KeyRing, limits: Limits) -> Self {
        Self { keys, limits, quotas: Arc::clone(&self.quotas) }
    }
}

/// What the shell is to do next.
#[derive(Debug)]
pub enum Output {
    /// Send a frame; `req_id` 0 = unsolicited.
    Frame(u64, Reply),
    /// Give a command to the engine; its answer comes back with the same number.
    Submit(u64, Caller, Command),
    /// Read the inbox and call [`Session::handle_batch`] or [`Session::handle_trimmed`].
    Read {
        /// After this entry ...
        after: InboxSeq,
        /// ... up to this one,
        upto: InboxSeq,
        /// at most so many entries
        entries: usize,
        /// and so many bytes, but at least one entry.
        bytes: usize,
    },
    /// Read these rows of a large conversation, at least the first, and call
    /// [`Session::handle_rows`].
    ReadRows(ConversationId, Span),
    /// Read these changes of a large conversation, at least the first, both ends included, and call
    /// [`Session::handle_changes`].
    ReadChanges(ConversationId, MutationSeq, MutationSeq),
    /// Send what is still to be sent, then close.
    Close,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Attaching,
    TooLong,
    /// The request that resumes ([`OWN`] = nobody asked), and where.
    Resuming(u64, Position),
    Streaming,
    /// No more input; waits for replies still due, then says this.
    Ending(Option<GoAwayReason>),
    Closed,
}

/// The number under which the session's own commands are submitted.
const OWN: u64 = 0;

/// See the head of this module.
#[derive(Debug)]
pub struct Session {
    context: Arc<SessionContext>,
    id: SessionId,
    state: State,
    caller: Option<Caller>,
    /// The key that signed its token.
    signed_by: Option<KeyMark>,
    /// The token was not good.
    denied: bool,
    stream: Stream,
    /// None: nothing of a large conversation was ever to be told.
    large: Option<Box<Large>>,
    epoch: Epoch,
    wanted: ClientLimits,
    /// What the client offered and this server has.
    features: Box<[Feature]>,
    rates: Rates,
    /// Requests without a reply.
    outstanding: Vec<u64>,
    outputs: VecDeque<Output>,
    /// When this session ends by itself, unless something is heard.
    silence: Instant,
    /// When the token expires.
    expires: Option<Instant>,
}

impl Session {
    /// A session whose connection has just been accepted.
    #[must_use]
    pub fn new(context: Arc<SessionContext>, id: SessionId, now: Now) -> Self {
        Self {
            rates: Rates::default(),
            context,
            id,
            state: State::Greeting,
            caller: None,
            signed_by: None,
            denied: false,
            stream: Stream::default(),
            large: None,
            epoch: Epoch::default(),
            wanted: ClientLimits::default(),
            features: Box::default(),
            outstanding: Vec::new(),
            outputs: VecDeque::new(),
            silence: now.mono + HELLO_TIMEOUT,
            expires: None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who speaks; none before Welcome.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Whether it waits for Hello.
    #[must_use]
    pub fn is_greeting(&self) -> bool {
        self.state == State::Greeting
    }

    /// What is allowed on it.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.context.limits
    }

    /// Whether it has ended because its token was not good.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.denied
    }

    /// Whether Welcome has been sent: larger frames are allowed from then on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Greeting | State::Attaching)
    }

    /// Whether the shell should read from the socket: not while too many requests are outstanding,
    /// nor at the end.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.has_enough_to_do() && !self.is_ending() && self.state != State::Attaching
    }

    fn has_enough_to_do(&self) -> bool {
        self.outstanding.len() >= self.context.limits.outstanding_requests as usize
    }

    /// Whether this is the only request that has no reply yet.
    #[must_use]
    pub fn waits_only_for(&self, req_id: u64) -> bool {
        self.outstanding == [req_id]
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.advance();
        }
        self.outputs.pop_front()
    }

    /// Nothing is to be done for now: gives back what is kept for what is to be done.
    pub fn rest(&mut self) {
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        if self.outstanding.is_empty() {
            self.outstanding = Vec::new();
        }
        self.stream.rest();
    }

    /// When [`Session::handle_timeout`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match (&self.state, self.expires) {
            (State::Closed, _) => None,
            (_, Some(expires)) => Some(self.silence.min(expires)),
            (_, None) => Some(self.silence),
        }
    }

    /// A frame was decoded.
    pub fn handle_frame(&mut self, now: Now, incoming: Incoming) {
        self.hear(now);
        if self.is_ending() {
            return;
        }
        let Incoming { req_id, ack, request } = incoming;
        match (&self.state, request) {
            (State::Greeting, Request::Hello(hello)) => self.hello(now, req_id, hello),
            (State::Greeting | State::Attaching, _) => {
                self.fail(ErrorCode::HelloExpected, "the first frame must be Hello");
            }
            (_, Request::Hello(_)) => {
                self.fail(ErrorCode::WrongState, "this session has said Hello already");
            }
            (_, Request::Unknown) => {
                self.acknowledge(ack);
                let detail = "this server knows no such request";
                self.refuse(req_id, Refusal::new(ErrorCode::UnknownRequest, detail));
            }
            (_, Request::Ack(seq)) => self.acknowledge(ack.max(seq)),
            (_, Request::Bye) => {
                self.acknowledge(ack);
                if !self.is_ending() {
                    self.state = State::Ending(None);
                }
            }
            (_, Request::Ping { client_time_ms }) => {
                self.acknowledge(ack);
                self.say(req_id, Reply::Pong { client_time_ms, time: now.wall });
            }
            (State::TooLong, Request::Resume(position)) => {
                self.acknowledge(ack);
                if self.is_ending() {
                    return;
                }
                self.state = State::Resuming(req_id, position);
                self.submit(req_id, Command::Resume(position));
            }
            (_, Request::Resume(_)) => {
                self.fail(ErrorCode::WrongState, "Resume follows TooLong and nothing else");
            }
            (_, request) => {
                self.acknowledge(ack);
                if let Err(too_fast) = self.rates.take(now.mono, &request) {
                    return self.refuse_too_fast(req_id, too_fast, false);
                }
                self.submit(req_id, Command::Request(request));
            }
        }
    }

    /// A frame could not be taken as a request.
    pub fn handle_refused(&mut self, now: Now, refused: Refused) {
        self.hear(now);
        if self.is_ending() {
            return;
        }
        if self.is_open() {
            self.acknowledge(refused.ack);
        }
        let mut refusal = refused.refusal;
        refusal.fatal |= !self.is_open();
        self.refuse(refused.req_id, refusal);
    }

    /// The engine's reply to a request; durable.
    pub fn handle_reply(&mut self, req_id: u64, reply: Reply) {
        if self.state == State::Closed {
            return;
        }
        if planted::is(Bug::AnswerLost) && req_id % 8 == 5 {
            return;
        }
        self.settle(req_id);
        match (&self.state, reply) {
            // The session cannot go on without what it asked for itself.
            (state, Reply::Refused(refusal))
                if req_id == OWN || matches!(state, State::Attaching) =>
            {
                self.refuse(req_id, Refusal { fatal: true, ..refusal });
            }
            (State::Resuming(resume, _), reply @ Reply::Refused(_)) if req_id == *resume => {
                self.state = State::TooLong;
                self.say(req_id, reply);
            }
            (_, reply) => self.say(req_id, reply),
        }
    }

    /// The engine's answer to one of the session's own commands; durable.
    pub fn handle_answer(&mut self, now: Now, number: u64, answer: Answer) {
        self.settle(number);
        match (&self.state, answer) {
            (State::Attaching, Answer::Attached(compared)) => self.welcome(now, number, *compared),
            (State::Resuming(_, position), Answer::Resumed(compared)) => {
                let position = *position;
                self.resumed(number, position, *compared);
            }
            (_, Answer::CaughtUp { seq, unread_total, changed, complete, large })
                if self.stream.is_asking() =>
            {
                let hints = match (&mut self.large, large) {
                    (None, ends) if ends.is_empty() => Vec::new(),
                    (own, ends) => own.get_or_insert_default().caught_up(ends),
                };
                let reply = Reply::CaughtUp { seq, unread_total, changed, complete, hints };
                self.stream.state_at(seq, reply);
            }
            _ => {}
        }
    }

    /// The user's inbox has grown (or may have): its newest durable entry.
    pub fn handle_head(&mut self, head: InboxSeq) {
        self.stream.grow(head);
    }

    /// Something has happened in a large conversation of the user.
    pub fn handle_large(&mut self, sign: &LargeSign) {
        if let Some(large) = self.large() {
            large.hear(sign);
        }
    }

    /// The user's unread total, and the entry it reflects.
    pub fn handle_total(&mut self, total: u64, position: InboxSeq) {
        if let Some(large) = self.large() {
            large.hear_total(total, position);
        }
    }

    /// The user's large conversations. None: nothing has been told of any, and what is heard of them is
    /// void, because the state at the head has yet to come.
    fn large(&mut self) -> Option<&mut Large> {
        if self.large.is_none() {
            let mut large = Box::new(Large::default());
            if self.stream.has_told()? {
                large.told();
            }
            self.large = Some(large);
        }
        self.large.as_deref_mut()
    }

    /// The rows asked for by [`Output::ReadRows`], or the first of them, in order; none = not for
    /// this user.
    pub fn handle_rows(
        &mut self,
        conversation: &ConversationId,
        span: Span,
        rows: Vec<(HistorySeq, Option<PlacedMessage>)>,
    ) {
        let Some(large) = &mut self.large else { return };
        let news = large.read_rows(conversation, span, rows);
        news.into_iter().for_each(|news| self.say(0, news));
    }

    /// The changes asked for by [`Output::ReadChanges`], or the first of them, in order, with the
    /// messages as they are now; none = not for this user.
    pub fn handle_changes(
        &mut self,
        conversation: &ConversationId,
        last: MutationSeq,
        changes: Vec<(MutationSeq, Option<PlacedMessage>)>,
    ) {
        let Some(large) = &mut self.large else { return };
        let news = large.read_changes(conversation, last, changes);
        news.into_iter().for_each(|news| self.say(0, news));
    }

    /// The entries asked for by [`Output::Read`], and about how many bytes they are.
    pub fn handle_batch(&mut self, entries: Vec<EntryView>, bytes: usize) {
        if let (State::Streaming, Some(batch)) = (&self.state, self.stream.read(entries, bytes)) {
            self.outputs.push_back(Output::Frame(0, Reply::SyncBatch(batch)));
        }
    }

    /// What [`Output::Read`] asked for is past retention: the stream cannot go on. The versions are
    /// compared again, which says so to the device.
    pub fn handle_trimmed(&mut self) {
        if self.state == State::Streaming {
            let position = Position { epoch: self.epoch, seq: self.stream.sent() };
            self.state = State::Resuming(OWN, position);
            self.submit_own(Command::Resume(position));
        }
    }

    /// Something unsolicited that is not part of the stream. Before Welcome nobody waits for it.
    pub fn handle_push(&mut self, push: Reply) {
        if self.is_open() && !self.is_ending() {
            self.say(0, push);
        }
    }

    /// Decides what the stream does next, and whether an end is due.
    fn advance(&mut self) {
        match self.state {
            State::Streaming => self.go_on(),
            State::Attaching if self.stream.asks_ahead() => self.submit_own(Command::CaughtUp),
            State::Ending(reason) if self.outstanding.is_empty() => {
                self.close(reason);
            }
            _ => {}
        }
    }

    fn go_on(&mut self) {
        let mut until = None;
        if self.stream.is_live()
            && let Some(large) = &mut self.large
        {
            match large.next(self.stream.sent()) {
                large::Step::ReadRows(id, span) => {
                    return self.outputs.push_back(Output::ReadRows(id, span));
                }
                large::Step::ReadChanges(id, first, last) => {
                    return self.outputs.push_back(Output::ReadChanges(id, first, last));
                }
                large::Step::Say(news) => return self.say(0, news),
                large::Step::FallBehind => self.stream.fall_behind(),
                large::Step::Rest(barrier) => until = barrier,
            }
        }
        match self.stream.next(until) {
            Some(stream::Step::Read { after, upto, entries, bytes }) => {
                self.outputs.push_back(Output::Read { after, upto, entries, bytes });
            }
            Some(stream::Step::AskState) => self.submit_own(Command::CaughtUp),
            Some(stream::Step::CaughtUp(reply)) => {
                if let Some(large) = &mut self.large {
                    large.told();
                }
                self.say(0, reply);
            }
            None => {}
        }
    }

    fn acknowledge(&mut self, seq: InboxSeq) {
        if seq == InboxSeq::ZERO {
            return;
        }
        match self.stream.acknowledge(seq) {
            stream::Acked::Beyond => {
                self.fail(ErrorCode::AckBeyondSent, "ack of an entry this session was not sent");
            }
            stream::Acked::Nothing => {}
            stream::Acked::Moved => self.submit_own(Command::Cursor(seq)),
        }
    }

    fn submit(&mut self, req_id: u64, command: Command) {
        if self.is_ending() {
            return;
        }
        if self.outstanding.contains(&req_id) {
            return self.fail(ErrorCode::BadRequestId, "this req_id is still outstanding");
        }
        if let Some(caller) = self.caller.clone() {
            self.outstanding.push(req_id);
            self.outputs.push_back(Output::Submit(req_id, caller, command));
        }
    }

    fn submit_own(&mut self, command: Command) {
        if let Some(caller) = self.caller.clone() {
            self.outputs.push_back(Output::Submit(OWN, caller, command));
        }
    }

    fn settle(&mut self, req_id: u64) {
        self.outstanding.retain(|outstanding| *outstanding != req_id);
    }

    fn say(&mut self, req_id: u64, reply: Reply) {
        if self.state != State::Closed {
            self.outputs.push_back(Output::Frame(req_id, reply));
        }
    }

    fn hear(&mut self, now: Now) {
        if self.is_open() {
            self.silence = now.mono + self.context.limits.heartbeat_interval * 3;
        }
    }
}

#[cfg(test)]
mod tests;
