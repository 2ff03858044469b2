//! One connection, from Hello to its end, free of input and output: frames between two buffers and the
//! shared state. Time is an argument.
//!
//! Whoever has the transport calls [`Dialog::greet`] once, [`Dialog::fill`] before it writes,
//! [`Dialog::read`] when bytes have come and [`Dialog::on_time`] when [`Dialog::wake_time`] is reached.
//! An error of any of them ends the connection.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{
    config::{ClientConfig, Inbox},
    error::ClientError,
    event::{Event, Link, Snapshot, Trace},
    large::Fetch,
    outbox::{Outbox, Waiter},
    replica::Position,
    shared::{Shared, State},
};
use crate::{
    limits::{
        GREETING_FRAME_BYTES_MAX, HELLO_CURSORS_MAX, HISTORY_PAGE_MAX, LIST_PAGE_MAX,
        MUTATION_PAGE_MAX, SERVER_FRAME_BYTES_MAX,
    },
    wire::{self, FrameDecoder, proto, proto::client_frame::Body, proto::server_frame},
};

/// The protocol version this library speaks.
const PROTOCOL: u32 = 1;
/// What this library can do.
const FEATURES: &[proto::Feature] = &[
    proto::Feature::LargeGroups,
    proto::Feature::Presence,
    proto::Feature::Push,
    proto::Feature::Mutations,
];
/// Bytes of the first frame kept free for keys and lengths.
const GREETING_SPARE: usize = 16;
/// Frames are made until so many bytes wait for the transport.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// How long the server may take to close after Bye.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Open,
    /// Bye is said.
    Leaving,
}

/// A snapshot that is being paged.
struct Paging {
    too_long: proto::TooLong,
    conversations: Vec<proto::Conversation>,
}

/// What a dialog works on, at one moment.
pub(super) struct Around<'a> {
    pub(super) config: &'a ClientConfig,
    pub(super) shared: &'a Shared,
    pub(super) now: Instant,
    /// Microseconds of the wall clock.
    pub(super) micros: u64,
    /// What waits to be written.
    pub(super) output: &'a mut BytesMut,
}

/// See the head of this module.
pub(super) struct Dialog {
    decoder: FrameDecoder,
    phase: Phase,
    paging: Option<Paging>,
    heartbeat: Duration,
    heard: Instant,
    written: Instant,
    /// When the server was asked whether it is there.
    asked: Option<Instant>,
    /// When Hello or Bye was said.
    phase_since: Instant,
}

impl Dialog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            decoder: FrameDecoder::new(SERVER_FRAME_BYTES_MAX),
            phase: Phase::Greeting,
            paging: None,
            heartbeat: Duration::from_secs(30),
            heard: now,
            written: now,
            asked: None,
            phase_since: now,
        }
    }

    /// Bye is said: the end of the transport is the right end.
    pub(super) fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// Says Hello.
    pub(super) fn greet(&mut self, around: &mut Around<'_>) {
        let mut state = around.shared.lock();
        let resume = state.replica.greet();
        state.resume = None;
        state.replace = false;
        let req_id = state.outbox.expect(Waiter::Heartbeat);
        let background = state.background;
        let mut hello = proto::Hello {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            features: FEATURES.iter().map(|feature| (*feature).into()).collect(),
            token: around.config.token.clone(),
            device_id: around.config.device.clone(),
            platform: around.config.platform.clone(),
            resume: resume.map(Into::into),
            conversation_cursors: Vec::new(),
            limits: Some(around.config.limits),
            background,
            client: around.config.program.clone(),
        };
        // The server hints conversations that are not named as if nothing were known of them.
        let mut room =
            GREETING_FRAME_BYTES_MAX.saturating_sub(hello.encoded_len() + GREETING_SPARE);
        for cursor in state.large.cursors().take(HELLO_CURSORS_MAX) {
            let bytes = cursor.encoded_len() + GREETING_SPARE;
            if bytes > room {
                break;
            }
            room -= bytes;
            hello.conversation_cursors.push(cursor);
        }
        drop(state);
        write(around.output, req_id, None, Some(Body::Hello(hello)));
        around.trace(|| Trace::Hello { resume });
    }

    /// Makes the frames that are due. True = more is waiting than was made.
    pub(super) fn fill(&mut self, around: &mut Around<'_>) -> Result<bool, ClientError> {
        if self.phase != Phase::Open {
            return Ok(false);
        }
        let mut state = around.shared.lock();
        if state.replace {
            state.replace = false;
            return Err(ClientError::lost(std::io::ErrorKind::ConnectionReset.into()));
        }
        let mut acks = Acks::default();
        let resume = state.resume.take();
        let out = &mut *around.output;
        let before = out.len();
        if let Some(position) = resume {
            let req_id = state.outbox.expect(Waiter::Resume);
            let resume = proto::Resume { position: Some(position.into()) };
            write(out, req_id, None, Some(Body::Resume(resume)));
        }
        while state.outbox.has_waiting() && out.len() < OUT_BYTES_MAX {
            let ack = acks.take(&mut state, true);
            state
                .outbox
                .write_next(around.micros, |req_id, body| write(out, req_id, ack, Some(body)));
        }
        let mut fetches = Vec::new();
        while !state.closing
            && state.queue.has_room()
            && let Some(fetch) = state.large.fetch(around.now)
        {
            fetches.push(fetch.clone());
            let body = ask_missing(&fetch);
            let req_id = state.outbox.expect(Waiter::Large(fetch));
            write(out, req_id, acks.take(&mut state, true), Some(body));
        }
        let more = state.outbox.has_waiting();
        if state.closing && !more {
            state.replica.demand(around.now);
            let ack = acks.take(&mut state, true);
            write(out, 0, ack, Some(Body::Bye(proto::Bye {})));
            self.phase = Phase::Leaving;
            self.phase_since = around.now;
        } else if state.replica.ack_deadline().is_some_and(|due| due <= around.now)
            && let Some(seq) = acks.take(&mut state, false)
        {
            write(out, 0, None, Some(Body::Ack(proto::Ack { seq })));
        }
        drop(state);
        if out.len() > before {
            self.written = around.now;
        }
        if let Some(position) = resume {
            around.trace(|| Trace::Resume(position));
        }
        for Fetch { conversation, changes, after, .. } in fetches {
            around.trace(|| Trace::LargeFetch { conversation, changes, after });
        }
        if let Some((seq, rides)) = acks.said {
            around.trace(|| Trace::Ack { seq, rides });
        }
        Ok(more)
    }

    /// The earliest of what has a time.
    pub(super) fn wake_time(&self, config: &ClientConfig, shared: &Shared) -> Instant {
        match self.phase {
            Phase::Greeting => self.phase_since + config.connect_timeout,
            Phase::Leaving => self.phase_since + CLOSE_TIME_MAX,
            Phase::Open => {
                let beat = match self.asked {
                    Some(asked) => asked + self.heartbeat,
                    None => self.written.min(self.heard) + self.heartbeat,
                };
                let state = shared.lock();
                let due = [state.replica.ack_deadline(), state.large.deadline()];
                due.into_iter().flatten().fold(beat, Instant::min)
            }
        }
    }

    /// A time has come that may be [`Dialog::wake_time`].
    pub(super) fn on_time(&mut self, around: &mut Around<'_>) -> Result<(), ClientError> {
        let now = around.now;
        if self.wake_time(around.config, around.shared) > now {
            return Ok(());
        }
        match self.phase {
            Phase::Greeting | Phase::Leaving => Err(ClientError::Timeout {
                address: around.config.address.clone(),
                waited: now - self.phase_since,
            }),
            Phase::Open => {
                if self.asked.is_some_and(|asked| asked + self.heartbeat <= now) {
                    return Err(ClientError::lost(std::io::ErrorKind::TimedOut.into()));
                }
                if self.asked.is_none() && self.written.min(self.heard) + self.heartbeat <= now {
                    let req_id = around.shared.lock().outbox.expect(Waiter::Heartbeat);
                    let ping = proto::Ping { client_time_ms: around.micros / 1000 };
                    write(around.output, req_id, None, Some(Body::Ping(ping)));
                    self.asked = Some(now);
                    self.written = now;
                }
                Ok(())
            }
        }
    }

    /// Bytes have come. `opened` is called at Welcome.
    pub(super) fn read(
        &mut self,
        around: &mut Around<'_>,
        input: &mut BytesMut,
        opened: &mut impl FnMut(),
    ) -> Result<(), ClientError> {
        self.heard = around.now;
        self.asked = None;
        while let Some(frame) = self.decoder.next_frame(input)? {
            let bytes = frame.len() as u64;
            let frame = wire::decode_server(frame)?;
            if let Some(body) = frame.body {
                self.frame(around, frame.req_id, body, bytes, opened)?;
            } else if frame.req_id != 0 {
                return Err(ClientError::UnexpectedReply("a request"));
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        around: &mut Around<'_>,
        req_id: u64,
        body: server_frame::Body,
        bytes: u64,
        opened: &mut impl FnMut(),
    ) -> Result<(), ClientError> {
        use server_frame::Body as Said;
        match body {
            Said::Welcome(welcome) if self.phase == Phase::Greeting => {
                self.welcome(around, req_id, welcome);
                opened();
            }
            Said::Error(error) if error.fatal || req_id == 0 => {
                let error = ClientError::Refused(error.into());
                if let Some(waiter) = around.shared.lock().outbox.settle(req_id) {
                    Outbox::answer(waiter, Err(error.clone()));
                }
                return Err(error);
            }
            Said::GoAway(bye) => return Err(ClientError::GoAway(bye)),
            _ if self.phase == Phase::Greeting => {
                return Err(ClientError::UnexpectedReply("Hello"));
            }
            Said::TooLong(too_long) => self.too_long(around, req_id, too_long),
            Said::SyncBatch(batch) if req_id == 0 => self.batch(around, batch, bytes)?,
            Said::CaughtUp(caught_up) => self.caught_up(around, caught_up)?,
            body if req_id == 0 => self.push(around, body),
            body => return self.reply(around, req_id, body),
        }
        Ok(())
    }

    fn welcome(&mut self, around: &mut Around<'_>, req_id: u64, welcome: proto::Welcome) {
        if welcome.heartbeat_interval_ms > 0 {
            self.heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.into());
        }
        self.phase = Phase::Open;
        around.trace(|| Trace::Welcome(Box::new(welcome.clone())));
        let mut state = around.shared.lock();
        let _ = state.outbox.settle(req_id);
        state.outbox.accepted(welcome.last_client_message_id);
        state.replica.agree(welcome.limits.as_ref().map_or(0, |limits| limits.max_unacked_entries));
        let fanout = welcome.limits.as_ref().map_or(0, |limits| limits.fanout_limit);
        state.large.open(&welcome.user_id, fanout);
        state.head = welcome.head_seq;
        state.link = Link::Open;
        state.queue.push(Event::Connected(Box::new(welcome)));
        drop(state);
        around.shared.events.notify_one();
    }

    fn batch(
        &mut self,
        around: &mut Around<'_>,
        batch: proto::SyncBatch,
        bytes: u64,
    ) -> Result<(), ClientError> {
        let (first, last, head) = (batch.first_seq, batch.last_seq, batch.head_seq);
        let count = batch.entries.len().max(1) as u64;
        let known = {
            let mut state = around.shared.lock();
            let known = state.replica.batch(around.now, &batch, bytes)?;
            state.head = state.head.max(head);
            state.batches += 1;
            state.last_batch = (count, bytes);
            for (seq, entry) in (first..).zip(batch.entries).skip(known) {
                state.next(Event::Entry { seq, entry }, bytes / count);
            }
            known as u64
        };
        around.shared.events.notify_one();
        around.trace(|| Trace::Batch { first, last, head, bytes, known });
        Ok(())
    }

    fn caught_up(
        &mut self,
        around: &mut Around<'_>,
        caught_up: proto::CaughtUp,
    ) -> Result<(), ClientError> {
        let (seq, unread_total) = (caught_up.seq, caught_up.unread_total);
        let mut state = around.shared.lock();
        state.replica.caught_up(seq)?;
        state.next(Event::CaughtUp(Box::new(caught_up)), 0);
        drop(state);
        around.shared.events.notify_one();
        around.trace(|| Trace::CaughtUp { seq, unread_total });
        Ok(())
    }

    /// Unsolicited, and no part of the inbox. What a later version may say is passed over.
    fn push(&mut self, around: &mut Around<'_>, body: server_frame::Body) {
        use server_frame::Body as Said;
        let event = match body {
            Said::ConversationPush(push) => {
                around.trace(|| Trace::LargePush(Box::new(push.clone())));
                let mut state = around.shared.lock();
                let State { large, queue, .. } = &mut *state;
                let room = queue.has_room();
                large.push(push, room, &mut |event, bytes| queue.push_sized(event, bytes));
                drop(state);
                return around.shared.events.notify_one();
            }
            Said::PresencePush(push) => Event::Presence(push.devices),
            Said::EphemeralPush(push) => Event::Ephemeral(Box::new(push)),
            Said::UnreadPush(push) => Event::Unread(push),
            _ => return,
        };
        around.shared.lock().queue.push(event);
        around.shared.events.notify_one();
    }

    /// The answer to the client's own question for what is missing of a large conversation.
    fn missing(
        &mut self,
        around: &mut Around<'_>,
        fetch: &Fetch,
        body: server_frame::Body,
    ) -> Result<(), ClientError> {
        use server_frame::Body as Said;
        let mut state = around.shared.lock();
        let State { large, queue, .. } = &mut *state;
        let give = &mut |event, bytes| queue.push_sized(event, bytes);
        let (count, complete) = match body {
            Said::HistoryPage(page) if !fetch.changes => {
                let told = (page.messages.len(), page.complete);
                large.messages(fetch, page, give);
                told
            }
            Said::MutationPage(page) if fetch.changes => {
                let told = (page.mutations.len(), page.complete);
                large.changes(fetch, page, give);
                told
            }
            Said::Error(error) => {
                let below_floor = error.code() == proto::ErrorCode::BelowFloor;
                let error = ClientError::Refused(error.into());
                let again = error.is_temporary().then(|| error.retry_after());
                large.refused(around.now, fetch, below_floor, again, give);
                (0, false)
            }
            _ => return Err(ClientError::UnexpectedReply("a page of a large conversation")),
        };
        drop(state);
        around.shared.events.notify_one();
        let conversation = fetch.conversation.clone();
        around.trace(|| Trace::LargePage { conversation, count, complete });
        Ok(())
    }

    /// Unsolicited, or the answer to Resume.
    fn too_long(&mut self, around: &mut Around<'_>, req_id: u64, too_long: proto::TooLong) {
        around.trace(|| Trace::TooLong(Box::new(too_long.clone())));
        let mut state = around.shared.lock();
        let _ = state.outbox.settle(req_id);
        if around.config.inbox == Inbox::Ignore {
            return;
        }
        state.replica.too_long(Position { epoch: too_long.epoch, seq: too_long.head_seq });
        state.resume = None;
        state.head = too_long.head_seq;
        ask_page(&mut state, around.output, &too_long.snapshot_token, Bytes::new());
        self.paging = Some(Paging { too_long, conversations: Vec::new() });
    }

    fn reply(
        &mut self,
        around: &mut Around<'_>,
        req_id: u64,
        body: server_frame::Body,
    ) -> Result<(), ClientError> {
        let waiter = around.shared.lock().outbox.settle(req_id);
        match (waiter, body) {
            (Some(waiter @ Waiter::Caller(..)), server_frame::Body::Error(error)) => {
                Outbox::answer(waiter, Err(ClientError::Refused(error.into())));
            }
            (Some(waiter @ Waiter::Caller(..)), body) => Outbox::answer(waiter, Ok(body)),
            (Some(Waiter::Heartbeat), _) => {}
            (Some(Waiter::Large(fetch)), body) => self.missing(around, &fetch, body)?,
            (Some(Waiter::Resume), server_frame::Body::Resumed(resumed)) => {
                let mut state = around.shared.lock();
                state.head = state.head.max(resumed.head_seq);
            }
            (Some(Waiter::Snapshot), server_frame::Body::ConversationPage(page)) => {
                self.page(around, page);
            }
            (Some(_), server_frame::Body::Error(error)) => {
                return Err(ClientError::Refused(error.into()));
            }
            (Some(_), _) => return Err(ClientError::UnexpectedReply("the request")),
            (None, _) => return Err(ClientError::UnexpectedReply("any request")),
        }
        Ok(())
    }

    fn page(&mut self, around: &mut Around<'_>, page: proto::ConversationPage) {
        let conversations = page.conversations.len();
        around.trace(|| Trace::Page { conversations, complete: page.complete });
        let Some(mut paging) = self.paging.take() else { return };
        paging.conversations.extend(page.conversations);
        let mut state = around.shared.lock();
        if !page.complete {
            let token = &paging.too_long.snapshot_token;
            ask_page(&mut state, around.output, token, page.next_page_token);
            self.paging = Some(paging);
            return;
        }
        let Paging { too_long, conversations } = paging;
        let snapshot = Snapshot {
            position: Position { epoch: too_long.epoch, seq: too_long.head_seq },
            reason: too_long.reason(),
            conversations,
            unread_total: page.unread_total,
            large: Vec::new(),
        };
        state.next(Event::Snapshot(snapshot), 0);
        drop(state);
        around.shared.events.notify_one();
    }
}

impl Around<'_> {
    fn trace(&self, trace: impl FnOnce() -> Trace) {
        if let Some(tracer) = &self.config.tracer {
            tracer.tell(&trace());
        }
    }
}

fn ask_page(state: &mut State, out: &mut BytesMut, snapshot_token: &Bytes, page_token: Bytes) {
    let req_id = state.outbox.expect(Waiter::Snapshot);
    let list = proto::ListConversations {
        since_ms: 0,
        snapshot_token: snapshot_token.clone(),
        page_token,
        limit: LIST_PAGE_MAX,
    };
    write(out, req_id, None, Some(Body::ListConversations(list)));
}

fn ask_missing(fetch: &Fetch) -> Body {
    let conversation_id = fetch.conversation.clone();
    if fetch.changes {
        let after_mutation_seq = fetch.after;
        let limit = MUTATION_PAGE_MAX;
        return Body::FetchMutations(proto::FetchMutations {
            conversation_id,
            after_mutation_seq,
            limit,
        });
    }
    Body::FetchHistory(proto::FetchHistory {
        conversation_id,
        direction: proto::Direction::Newer.into(),
        anchor_seq: fetch.after,
        limit: HISTORY_PAGE_MAX,
        max_bytes: 0,
    })
}

/// Appends one frame and gives its body back.
fn write(out: &mut BytesMut, req_id: u64, ack: Option<u64>, body: Option<Body>) -> Option<Body> {
    let frame = proto::ClientFrame { req_id, ack_seq: ack.unwrap_or(0), body };
    out.reserve(frame.encoded_len() + 5);
    wire::encode_client(&frame, out);
    frame.body
}

/// The ack of one round of frames: the first frame carries it.
#[derive(Default)]
struct Acks {
    said: Option<(u64, bool)>,
}

impl Acks {
    fn take(&mut self, state: &mut State, rides: bool) -> Option<u64> {
        let seq = state.replica.take_ack()?;
        state.acks += 1;
        self.said = Some((seq, rides));
        Some(seq)
    }
}
