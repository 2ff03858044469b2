//! One connection: bytes in and out, and the session between them.
//!
//! One task per connection. It holds buffers only while there is something in them, so that an idle
//! connection costs little. Reading stops while the session has enough to do, and reading the log
//! stops while the socket does not take what was read.
//!
//! It waits for everything at once in [`Connection::poll`], by hand: a future for each thing to wait for
//! would be memory that every idle connection has.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{coop::consume_budget, yield_now},
    time::{Sleep, sleep_until},
};

use super::{
    Ended, Shared,
    feed::{Feed, Other},
    stream::Stream,
    writer::Overloaded,
};
use crate::{
    engine::{Answer, Caller, Command, Now, read},
    id::{ConversationId, SessionId},
    limits::{
        CLIENT_FRAME_BYTES_MAX, FRAME_FREE_BYTES_MAX, FRAME_TIME_MAX, GREETING_FRAME_BYTES_MAX,
        OUTPUT_BYTES_MAX,
    },
    refusal::{ErrorCode, Refusal, Retry},
    reply::Reply,
    request::Incoming,
    seq::{InboxSeq, MutationSeq, Span},
    session::{Output, Session},
    store::{ReadLimit, StoreError},
    wire::{self, FrameDecoder},
};

/// Devices in one presence push: far below what a frame may have.
const PRESENCE_PUSH_MAX: usize = 1000;
/// A timer that fires later than this has been held up, and so may have been what it waits for.
const LATE_MAX: Duration = Duration::from_secs(1);
/// How long the last bytes may take once a connection is to close.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    shared: Arc<Shared>,
    stream: Stream,
    session: Session,
    feed: Arc<Feed>,
    decoder: FrameDecoder,
    input: BytesMut,
    /// The share of a large frame under way, and since when.
    share: Option<Box<(OwnedSemaphorePermit, Instant)>>,
    /// A frame waits for its share; the socket is not read meanwhile.
    starved: Option<Waiting>,
    output: BytesMut,
    /// Answers that wait until there is room for them: what they read may be much.
    answers: VecDeque<(u64, Answer)>,
    /// When the socket last took something, or had nothing to take.
    taken: Instant,
    closing: Option<Instant>,
    /// Nobody is judged by time before this.
    not_before: Instant,
    attached: bool,
    /// Something was submitted and waits for this connection to drive it.
    submitted: bool,
    greeting: bool,
    /// Another connection wants this one's place.
    give_way: bool,
    /// The last to go: then the socket is closed.
    _ended: Ended,
}

/// A share of the inbound bytes to come.
type Waiting = Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>;

/// What [`Connection::poll`] has found to be done.
#[derive(Default)]
struct Events {
    /// Bytes have come.
    read: bool,
    /// The time of the next wake-up has come.
    due: bool,
}

impl Drop for Connection {
    /// However it ends, the engine's side hears of it.
    fn drop(&mut self) {
        self.leave();
    }
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, id: SessionId, feed: Arc<Feed>, stream: Stream) -> Self {
        let now = shared.clock.now();
        Self {
            session: Session::new(shared.context(), id, now),
            _ended: Ended { shared: Arc::clone(&shared), id },
            shared,
            stream,
            feed,
            decoder: FrameDecoder::new(GREETING_FRAME_BYTES_MAX),
            input: BytesMut::new(),
            share: None,
            starved: None,
            output: BytesMut::new(),
            answers: VecDeque::new(),
            taken: now.mono,
            closing: None,
            not_before: now.mono,
            attached: false,
            submitted: false,
            greeting: true,
            give_way: false,
        }
    }

    /// Serves until the connection is over. Every end is an end of this function.
    pub(super) async fn run(mut self: Box<Self>) {
        let ended = self.serve().await;
        self.leave();
        if let Err(error) = ended {
            tracing::debug!(session = self.session.id().number(), %error, "connection ended");
        } else if !self.give_way {
            Box::pin(self.stream.linger()).await;
        }
    }

    /// The session is over for everybody else. Once.
    fn leave(&mut self) {
        self.greeted();
        self.drive();
        if std::mem::take(&mut self.attached)
            && let Some(caller) = self.session.caller()
        {
            self.shared.submitter.detach(caller.clone());
        }
    }

    /// The greeting is over, one way or the other.
    fn greeted(&mut self) {
        if std::mem::take(&mut self.greeting) {
            self.shared.admission.lock().greeted(self.session.id());
            self.shared.place_left.notify_one();
        }
    }

    /// Does the work that was submitted, if nobody else is at it. The answers are there then.
    fn drive(&mut self) {
        if std::mem::take(&mut self.submitted) {
            self.shared.submitter.drive();
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut wake = pin!(sleep_until(self.wake_time().into()));
        loop {
            // Answers first: with them the session may want more of what has come already.
            self.pump();
            self.decode();
            let full = self.pump();
            if !self.session.is_greeting() {
                self.greeted();
            }
            self.write()?;
            self.drive();
            if full && !self.unsent() {
                // The socket took it all: go on, but let others have their turn.
                yield_now().await;
                self.collect();
                continue;
            }
            if self.closing.is_some() && (!self.unsent() || self.stream.is_handshaking()) {
                return Ok(());
            }
            let due = self.wake_time();
            if wake.deadline().into_std() > due {
                wake.as_mut().reset(due.into());
            }
            self.session.rest();
            if self.answers.is_empty() {
                self.answers = VecDeque::new();
            }
            let events = poll_fn(|context| self.poll(context, wake.as_mut())).await?;
            if events.read {
                // What has come goes before what is due for want of it.
                self.decode();
            }
            if events.due {
                if !self.is_late(wake.deadline().into_std()) {
                    self.on_time();
                }
                wake.as_mut().reset(self.wake_time().into());
            }
            self.drive();
            self.collect();
            // What is always ready is nobody else's loss.
            consume_budget().await;
            if self.give_way && self.session.is_greeting() {
                // A Hello just in time counts.
                self.read()?;
                self.decode();
                self.session.handle_crowded();
            }
        }
    }

    /// Waits until something has come in, the socket takes more, or a time has come.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        wake: Pin<&mut Sleep>,
    ) -> Poll<io::Result<Events>> {
        let mut events = Events::default();
        let mut ready = self.feed.poll_arrived(context).is_ready();
        let reads = self.session.wants_input()
            && self.output.len() < OUTPUT_BYTES_MAX
            && self.starved.is_none();
        if (reads || self.closing.is_some())
            && let Poll::Ready(read) = self.poll_read(context)
        {
            read?;
            events.read = true;
        }
        if self.waits_for_socket()
            && let Poll::Ready(writable) = self.stream.poll_writable(context)
        {
            writable?;
            ready = true;
        }
        if let Some(waiting) = &mut self.starved
            && let Poll::Ready(share) = waiting.as_mut().poll(context)
        {
            self.starved = None;
            self.share = Some(Box::new((share, self.shared.clock.now().mono)));
            ready = true;
        }
        events.due = wake.poll(context).is_ready();
        if ready || events.read || events.due { Poll::Ready(Ok(events)) } else { Poll::Pending }
    }

    /// Whether the socket has not taken everything yet.
    fn unsent(&self) -> bool {
        !self.output.is_empty() || self.stream.holds_back()
    }

    /// Whether there is something that the socket could take.
    fn waits_for_socket(&self) -> bool {
        self.stream.holds_back() || (!self.output.is_empty() && !self.stream.is_handshaking())
    }

    /// The earliest of the session's deadline, a stall and the end of closing.
    fn wake_time(&self) -> Instant {
        let far = self.taken + Duration::from_secs(3600);
        let mut due = self.session.deadline().unwrap_or(far);
        if self.unsent() {
            due = due.min(self.taken + self.session.limits().write_stall);
        }
        if let Some(share) = &self.share {
            due = due.min(share.1 + FRAME_TIME_MAX);
        }
        self.closing.map_or(due, |closing| due.min(closing + CLOSE_TIME_MAX)).max(self.not_before)
    }

    /// Whether this process was away when it should have looked: a process that was frozen finds its
    /// timers due, and unread what was said in time. It looks at that first.
    fn is_late(&mut self, due: Instant) -> bool {
        let now = self.shared.clock.now().mono;
        let late = now.saturating_duration_since(due) > LATE_MAX;
        if late {
            self.not_before = now + LATE_MAX;
        }
        late
    }

    fn on_time(&mut self) {
        let now = self.shared.clock.now();
        if self.session.deadline().is_some_and(|deadline| deadline <= now.mono) {
            self.session.handle_timeout(now);
        }
        if self.share.as_ref().is_some_and(|share| share.1 + FRAME_TIME_MAX <= now.mono) {
            self.share = None;
            self.session.handle_stalled();
        }
        let stalled = self.unsent() && self.taken + self.session.limits().write_stall <= now.mono;
        if stalled || self.closing.is_some_and(|closing| closing + CLOSE_TIME_MAX <= now.mono) {
            // The peer takes nothing: what waits for it is in the log as well.
            self.session.handle_stalled();
            self.output.clear();
            self.stream.abandon();
            self.closing = Some(now.mono);
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let replied = self.stream.has_replied();
        ready!(self.stream.poll_read(context, &mut self.input))?;
        self.has_read(replied);
        Poll::Ready(Ok(()))
    }

    fn read(&mut self) -> io::Result<()> {
        let replied = self.stream.has_replied();
        self.stream.read(&mut self.input)?;
        self.has_read(replied);
        Ok(())
    }

    fn has_read(&mut self, replied: bool) {
        if !replied && self.stream.has_replied() && self.greeting {
            let now = self.shared.clock.now();
            self.shared.admission.lock().shakes_hands(self.session.id(), now.mono);
        }
        if self.closing.is_some() {
            self.input.clear();
        }
    }

    fn decode(&mut self) {
        while self.closing.is_none() && self.session.wants_input() && !self.input.is_empty() {
            if self.session.is_open() {
                self.decoder.set_limit(CLIENT_FRAME_BYTES_MAX);
            }
            if !self.takes_share() {
                break;
            }
            let now = self.shared.clock.now();
            let next = self.decoder.next_frame(&mut self.input);
            if let Ok(Some(_)) = next {
                self.share = None;
            }
            match next {
                Ok(Some(frame)) => match wire::decode_client(frame) {
                    Ok(incoming) => {
                        let session = self.session.id().number();
                        tracing::trace!(session, req_id = incoming.req_id, "a frame");
                        self.frame(now, incoming);
                    }
                    Err(refused) => self.session.handle_refused(now, refused),
                },
                Ok(None) => break,
                Err(error) => {
                    let refused =
                        wire::Refused { req_id: 0, ack: InboxSeq::ZERO, refusal: error.refusal() };
                    self.session.handle_refused(now, refused);
                }
            }
            self.pump();
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    fn frame(&mut self, now: Now, incoming: Incoming) {
        if !self.session.is_greeting() {
            return self.session.handle_frame(now, incoming);
        }
        let (id, admission) = (self.session.id(), &self.shared.admission);
        let tried = admission.lock().may_try(self.session.limits(), id, now.mono);
        if let Err(wait) = tried {
            let detail = "this address has shown too many tokens that are not valid";
            let retry = Retry::AfterDelay(wait);
            let refusal = Refusal { retry, ..Refusal::fatal(ErrorCode::RateLimited, detail) };
            let Incoming { req_id, ack, .. } = incoming;
            return self.session.handle_refused(now, wire::Refused { req_id, ack, refusal });
        }
        self.session.handle_frame(now, incoming);
        if self.session.is_denied() {
            admission.lock().denied(self.session.limits(), id, now.mono);
        }
    }

    /// Whether memory may be reserved for the frame that comes. What has come already is there anyway.
    fn takes_share(&mut self) -> bool {
        let Some(bytes) = self.decoder.announced(&self.input) else { return true };
        if bytes <= FRAME_FREE_BYTES_MAX || bytes <= self.input.len() || self.share.is_some() {
            return true;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match Arc::clone(&self.shared.inbound).try_acquire_many_owned(bytes) {
            Ok(share) => {
                self.share = Some(Box::new((share, self.shared.clock.now().mono)));
                true
            }
            Err(_) => {
                let session = self.session.id().number();
                tracing::debug!(session, bytes, "a large frame waits for its share");
                self.starved = Some(Box::pin(share(Arc::clone(&self.shared.inbound), bytes)));
                false
            }
        }
    }

    /// Does what the session wants, as long as the socket keeps up. True when it stopped because
    /// enough waits for the socket.
    fn pump(&mut self) -> bool {
        while self.closing.is_none() {
            if self.output.len() >= OUTPUT_BYTES_MAX {
                return true;
            }
            self.answer_next();
            let Some(output) = self.session.poll_output() else { break };
            match output {
                Output::Frame(req_id, mut reply) => {
                    if let Reply::Refused(Refusal { code, detail, retry, .. }) = &mut reply {
                        let session = self.session.id().number();
                        tracing::debug!(session, req_id, code = code.name(), detail, "refused");
                        *retry = retry.spread(session.wrapping_add(req_id << 32));
                    }
                    if !self.unsent() {
                        self.taken = self.shared.clock.now().mono;
                    }
                    wire::encode_server(req_id, &reply, &mut self.output);
                }
                Output::Submit(number, caller, command) => {
                    if let Some(reply) = self.at_once(number, &caller, &command) {
                        self.session.handle_reply(number, reply);
                        continue;
                    }
                    self.attached |= !self.session.is_open();
                    let submitter = &self.shared.submitter;
                    match submitter.submit(&self.feed, number, caller, command) {
                        Ok(quietly) => self.submitted |= quietly,
                        Err(Overloaded) => self.session.handle_overloaded(number),
                    }
                }
                Output::Read { after, upto, entries, bytes } => {
                    let bytes = bytes.min(OUTPUT_BYTES_MAX);
                    self.read_inbox(after, upto, ReadLimit { entries, bytes });
                }
                Output::ReadRows(id, span) => self.read_rows(&id, span),
                Output::ReadChanges(id, first, last) => self.read_changes(&id, first, last),
                Output::Close => self.closing = Some(self.shared.clock.now().mono),
            }
        }
        false
    }

    /// The reply to what needs no word of the engine: nothing that this session has asked for before is
    /// still to be done, and nobody has ended it.
    fn at_once(&self, number: u64, caller: &Caller, command: &Command) -> Option<Reply> {
        if !self.session.waits_only_for(number) || self.feed.is_barred() {
            return None;
        }
        // What cannot be read is the engine's to tell.
        read::at_once(&self.shared.reader, &caller.user, command).ok().flatten()
    }

    fn read_inbox(&mut self, after: InboxSeq, upto: InboxSeq, most: ReadLimit) {
        let Some(caller) = self.session.caller() else { return };
        let kept_max = self.session.limits().inbox_entries;
        match read::entries(&self.shared.reader, &caller.user, after, upto, most, kept_max) {
            Ok(Some(entries)) => {
                let bytes = entries.iter().map(wire::entry_len).sum();
                self.session.handle_batch(entries, bytes);
            }
            Ok(None) => self.session.handle_trimmed(),
            Err(error) => {
                tracing::error!(%error, user = %caller.user, "the inbox cannot be read");
                self.session.handle_drain();
            }
        }
    }

    fn read_rows(&mut self, id: &ConversationId, span: Span) {
        let Some(caller) = self.session.caller() else { return };
        match read::rows(&self.shared.reader, &caller.user, id, span) {
            Ok(rows) => self.session.handle_rows(id, span, rows),
            Err(error) => self.unreadable(&error),
        }
    }

    fn read_changes(&mut self, id: &ConversationId, first: MutationSeq, last: MutationSeq) {
        let Some(caller) = self.session.caller() else { return };
        match read::changes(&self.shared.reader, &caller.user, id, first, last) {
            Ok(changes) => self.session.handle_changes(id, last, changes),
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&mut self, error: &StoreError) {
        tracing::error!(%error, "a large conversation cannot be read");
        self.session.handle_drain();
    }

    /// Takes what has come in for this session.
    fn collect(&mut self) {
        let arrivals = self.feed.take(self.output.len() < OUTPUT_BYTES_MAX);
        let now = self.shared.clock.now();
        if arrivals.reload {
            self.session.handle_reload(self.shared.context());
        }
        for (number, answer) in arrivals.answers {
            match answer {
                // What the session has asked for itself is small, and goes before the signs after it.
                Answer::Attached(_) | Answer::Resumed(_) | Answer::CaughtUp { .. } => {
                    if let (Answer::Attached(_), Some(caller)) = (&answer, self.session.caller()) {
                        let Caller { session, user, device, .. } = caller;
                        tracing::debug!(session = session.number(), %user, %device, "a session");
                    }
                    self.session.handle_answer(now, number, answer);
                }
                answer => self.answers.push_back((number, answer)),
            }
        }
        let Other { pushes, presence, large } =
            arrivals.other.map(|other| *other).unwrap_or_default();
        large.values().flatten().for_each(|sign| self.session.handle_large(sign));
        if let Some((total, position)) = arrivals.total {
            self.session.handle_total(total, position);
        }
        if let Some(head) = arrivals.head {
            self.session.handle_head(head);
        }
        for push in pushes {
            self.session.handle_push(push);
        }
        let mut changes: Vec<_> = presence.into_values().collect();
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(PRESENCE_PUSH_MAX));
            self.session.handle_push(Reply::PresencePush(std::mem::replace(&mut changes, rest)));
        }
        if let Some(reason) = arrivals.end {
            // What is ready was answered before.
            for (number, answer) in std::mem::take(&mut self.answers) {
                if let Answer::Reply(reply) = answer {
                    self.session.handle_reply(number, reply);
                }
            }
            self.session.handle_end(reason);
        }
        self.give_way |= arrivals.give_way;
        if arrivals.drain {
            self.session.handle_drain();
        }
    }

    /// Gives the next answer to the session, now that there is room for what it may have to read.
    fn answer_next(&mut self) {
        let Some((number, answer)) = self.answers.pop_front() else { return };
        match self.complete(answer) {
            Ok(Some(reply)) => self.session.handle_reply(number, reply),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a reply cannot be read");
                let refusal = Refusal::new(ErrorCode::Internal, "the store cannot be read");
                self.session.handle_reply(number, Reply::Refused(refusal));
            }
        }
    }

    fn complete(&self, answer: Answer) -> Result<Option<Reply>, StoreError> {
        let Some(caller) = self.session.caller() else { return Ok(None) };
        let kept_max = self.session.limits().inbox_entries;
        read::complete(&self.shared.reader, &caller.user, kept_max, answer)
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.unsent() {
            return Ok(());
        }
        if self.stream.write(&mut self.output)? {
            self.taken = self.shared.clock.now().mono;
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        Ok(())
    }
}

/// Waits for a share of the inbound bytes.
async fn share(inbound: Arc<Semaphore>, bytes: u32) -> OwnedSemaphorePermit {
    match inbound.acquire_many_owned(bytes).await {
        Ok(share) => share,
        // It is never closed.
        Err(_) => std::future::pending().await,
    }
}
