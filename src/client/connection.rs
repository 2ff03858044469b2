//! One connection, from Hello to its end: moves frames between the transport and the shared state.
//!
//! Every end is an end of [`Connection::run`]. The task that runs it decides what follows.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::time::sleep_until;

use super::{
    config::{ClientConfig, Inbox},
    error::ClientError,
    event::{Event, Link, Snapshot, Trace},
    large::Fetch,
    outbox::{Outbox, Waiter},
    replica::Position,
    shared::{Shared, State},
    transport::{Buffered, Turn},
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

pub(super) struct Connection<'a> {
    config: &'a ClientConfig,
    shared: &'a Shared,
    socket: Buffered,
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

impl<'a> Connection<'a> {
    pub(super) fn new(config: &'a ClientConfig, shared: &'a Arc<Shared>, socket: Buffered) -> Self {
        let now = now();
        Self {
            config,
            shared,
            socket,
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

    /// Says Hello and goes on until the connection is over. `opened` is called at Welcome. Ok = closed
    /// after Bye.
    pub(super) async fn run(mut self, mut opened: impl FnMut()) -> Result<(), ClientError> {
        self.greet();
        let timer = sleep_until(self.wake_time().into());
        tokio::pin!(timer);
        let mut fired = false;
        loop {
            let more = self.fill()?;
            let due = self.wake_time();
            // A timer that is too early costs less than setting it anew each time.
            if fired || timer.deadline().into_std() > due {
                timer.as_mut().reset(due.into());
                fired = false;
            }
            tokio::select! {
                turn = self.socket.turn(more) => match turn.map_err(ClientError::lost)? {
                    Turn::Read => self.read(&mut opened)?,
                    Turn::Written => {}
                    Turn::End if self.phase == Phase::Leaving => return Ok(()),
                    Turn::End => {
                        let error = std::io::ErrorKind::UnexpectedEof.into();
                        return Err(ClientError::lost(error));
                    }
                },
                () = self.shared.wake.notified() => {}
                () = &mut timer => {
                    self.on_time()?;
                    fired = true;
                }
            }
        }
    }

    fn greet(&mut self) {
        let mut state = self.shared.lock();
        let resume = state.replica.greet();
        state.resume = None;
        state.replace = false;
        let req_id = state.outbox.expect(Waiter::Heartbeat);
        let background = state.background;
        let mut hello = proto::Hello {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            features: FEATURES.iter().map(|feature| (*feature).into()).collect(),
            token: self.config.token.clone(),
            device_id: self.config.device.clone(),
            platform: self.config.platform.clone(),
            resume: resume.map(Into::into),
            conversation_cursors: Vec::new(),
            limits: Some(self.config.limits),
            background,
            client: self.config.program.clone(),
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
        write(&mut self.socket.output, req_id, None, Some(Body::Hello(hello)));
        self.trace(|| Trace::Hello { resume });
    }

    /// Makes the frames that are due. True = more is waiting than was made.
    fn fill(&mut self) -> Result<bool, ClientError> {
        if self.phase != Phase::Open {
            return Ok(false);
        }
        let mut state = self.shared.lock();
        if state.replace {
            state.replace = false;
            return Err(ClientError::lost(std::io::ErrorKind::ConnectionReset.into()));
        }
        let mut acks = Acks::default();
        let resume = state.resume.take();
        let out = &mut self.socket.output;
        let before = out.len();
        if let Some(position) = resume {
            let req_id = state.outbox.expect(Waiter::Resume);
            let resume = proto::Resume { position: Some(position.into()) };
            write(out, req_id, None, Some(Body::Resume(resume)));
        }
        let micros = if state.outbox.has_waiting() { unix_micros() } else { 0 };
        while state.outbox.has_waiting() && out.len() < OUT_BYTES_MAX {
            let ack = acks.take(&mut state, true);
            state.outbox.write_next(micros, |req_id, body| write(out, req_id, ack, Some(body)));
        }
        let mut fetches = Vec::new();
        while !state.closing
            && state.queue.has_room()
            && let Some(fetch) = state.large.fetch(now())
        {
            fetches.push(fetch.clone());
            let body = ask_missing(&fetch);
            let req_id = state.outbox.expect(Waiter::Large(fetch));
            write(out, req_id, acks.take(&mut state, true), Some(body));
        }
        let more = state.outbox.has_waiting();
        if state.closing && !more {
            state.replica.demand(now());
            let ack = acks.take(&mut state, true);
            write(out, 0, ack, Some(Body::Bye(proto::Bye {})));
            self.phase = Phase::Leaving;
            self.phase_since = now();
        } else if state.replica.ack_deadline().is_some_and(|due| due <= now())
            && let Some(seq) = acks.take(&mut state, false)
        {
            write(out, 0, None, Some(Body::Ack(proto::Ack { seq })));
        }
        drop(state);
        if out.len() > before {
            self.written = now();
        }
        if let Some(position) = resume {
            self.trace(|| Trace::Resume(position));
        }
        for Fetch { conversation, changes, after, .. } in fetches {
            self.trace(|| Trace::LargeFetch { conversation, changes, after });
        }
        if let Some((seq, rides)) = acks.said {
            self.trace(|| Trace::Ack { seq, rides });
        }
        Ok(more)
    }

    /// The earliest of what has a time.
    fn wake_time(&self) -> Instant {
        match self.phase {
            Phase::Greeting => self.phase_since + self.config.connect_timeout,
            Phase::Leaving => self.phase_since + CLOSE_TIME_MAX,
            Phase::Open => {
                let beat = match self.asked {
                    Some(asked) => asked + self.heartbeat,
                    None => self.written.min(self.heard) + self.heartbeat,
                };
                let state = self.shared.lock();
                let due = [state.replica.ack_deadline(), state.large.deadline()];
                due.into_iter().flatten().fold(beat, Instant::min)
            }
        }
    }

    fn on_time(&mut self) -> Result<(), ClientError> {
        let now = now();
        if self.wake_time() > now {
            return Ok(());
        }
        match self.phase {
            Phase::Greeting | Phase::Leaving => Err(ClientError::Timeout {
                address: self.config.address.clone(),
                waited: now - self.phase_since,
            }),
            Phase::Open => {
                if self.asked.is_some_and(|asked| asked + self.heartbeat <= now) {
                    return Err(ClientError::lost(std::io::ErrorKind::TimedOut.into()));
                }
                if self.asked.is_none() && self.written.min(self.heard) + self.heartbeat <= now {
                    let req_id = self.shared.lock().outbox.expect(Waiter::Heartbeat);
                    let ping = proto::Ping { client_time_ms: unix_micros() / 1000 };
                    write(&mut self.socket.output, req_id, None, Some(Body::Ping(ping)));
                    self.asked = Some(now);
                    self.written = now;
                }
                Ok(())
            }
        }
    }

    fn read(&mut self, opened: &mut impl FnMut()) -> Result<(), ClientError> {
        self.heard = now();
        self.asked = None;
        while let Some(frame) = self.decoder.next_frame(&mut self.socket.input)? {
            let bytes = frame.len() as u64;
            let frame = wire::decode_server(frame)?;
            if let Some(body) = frame.body {
                self.frame(frame.req_id, body, bytes, opened)?;
            } else if frame.req_id != 0 {
                return Err(ClientError::UnexpectedReply("a request"));
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        req_id: u64,
        body: server_frame::Body,
        bytes: u64,
        opened: &mut impl FnMut(),
    ) -> Result<(), ClientError> {
        use server_frame::Body as Said;
        match body {
            Said::Welcome(welcome) if self.phase == Phase::Greeting => {
                self.welcome(req_id, welcome);
                opened();
            }
            Said::Error(error) if error.fatal || req_id == 0 => {
                let error = ClientError::Refused(error.into());
                if let Some(waiter) = self.shared.lock().outbox.settle(req_id) {
                    Outbox::answer(waiter, Err(error.clone()));
                }
                return Err(error);
            }
            Said::GoAway(bye) => return Err(ClientError::GoAway(bye)),
            _ if self.phase == Phase::Greeting => {
                return Err(ClientError::UnexpectedReply("Hello"));
            }
            Said::TooLong(too_long) => self.too_long(req_id, too_long),
            Said::SyncBatch(batch) if req_id == 0 => self.batch(batch, bytes)?,
            Said::CaughtUp(caught_up) => self.caught_up(caught_up)?,
            body if req_id == 0 => self.push(body),
            body => return self.reply(req_id, body),
        }
        Ok(())
    }

    fn welcome(&mut self, req_id: u64, welcome: proto::Welcome) {
        if welcome.heartbeat_interval_ms > 0 {
            self.heartbeat = Duration::from_millis(welcome.heartbeat_interval_ms.into());
        }
        self.phase = Phase::Open;
        self.trace(|| Trace::Welcome(Box::new(welcome.clone())));
        let mut state = self.shared.lock();
        let _ = state.outbox.settle(req_id);
        state.outbox.accepted(welcome.last_client_message_id);
        state.replica.agree(welcome.limits.as_ref().map_or(0, |limits| limits.max_unacked_entries));
        let fanout = welcome.limits.as_ref().map_or(0, |limits| limits.fanout_limit);
        state.large.open(&welcome.user_id, fanout);
        state.head = welcome.head_seq;
        state.link = Link::Open;
        state.queue.push(Event::Connected(Box::new(welcome)));
        drop(state);
        self.shared.events.notify_one();
    }

    fn batch(&mut self, batch: proto::SyncBatch, bytes: u64) -> Result<(), ClientError> {
        let (first, last, head) = (batch.first_seq, batch.last_seq, batch.head_seq);
        let count = batch.entries.len().max(1) as u64;
        let known = {
            let mut state = self.shared.lock();
            let known = state.replica.batch(now(), &batch, bytes)?;
            state.head = state.head.max(head);
            state.batches += 1;
            state.last_batch = (count, bytes);
            for (seq, entry) in (first..).zip(batch.entries).skip(known) {
                state.next(Event::Entry { seq, entry }, bytes / count);
            }
            known as u64
        };
        self.shared.events.notify_one();
        self.trace(|| Trace::Batch { first, last, head, bytes, known });
        Ok(())
    }

    fn caught_up(&mut self, caught_up: proto::CaughtUp) -> Result<(), ClientError> {
        let (seq, unread_total) = (caught_up.seq, caught_up.unread_total);
        let mut state = self.shared.lock();
        state.replica.caught_up(seq)?;
        state.next(Event::CaughtUp(Box::new(caught_up)), 0);
        drop(state);
        self.shared.events.notify_one();
        self.trace(|| Trace::CaughtUp { seq, unread_total });
        Ok(())
    }

    /// Unsolicited, and no part of the inbox. What a later version may say is passed over.
    fn push(&mut self, body: server_frame::Body) {
        use server_frame::Body as Said;
        let event = match body {
            Said::ConversationPush(push) => {
                self.trace(|| Trace::LargePush(Box::new(push.clone())));
                let mut state = self.shared.lock();
                let State { large, queue, .. } = &mut *state;
                let room = queue.has_room();
                large.push(push, room, &mut |event, bytes| queue.push_sized(event, bytes));
                drop(state);
                return self.shared.events.notify_one();
            }
            Said::PresencePush(push) => Event::Presence(push.devices),
            Said::EphemeralPush(push) => Event::Ephemeral(Box::new(push)),
            Said::UnreadPush(push) => Event::Unread(push),
            _ => return,
        };
        self.shared.lock().queue.push(event);
        self.shared.events.notify_one();
    }

    /// The answer to the client's own question for what is missing of a large conversation.
    fn missing(&mut self, fetch: &Fetch, body: server_frame::Body) -> Result<(), ClientError> {
        use server_frame::Body as Said;
        let mut state = self.shared.lock();
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
                large.refused(now(), fetch, below_floor, again, give);
                (0, false)
            }
            _ => return Err(ClientError::UnexpectedReply("a page of a large conversation")),
        };
        drop(state);
        self.shared.events.notify_one();
        let conversation = fetch.conversation.clone();
        self.trace(|| Trace::LargePage { conversation, count, complete });
        Ok(())
    }

    /// Unsolicited, or the answer to Resume.
    fn too_long(&mut self, req_id: u64, too_long: proto::TooLong) {
        self.trace(|| Trace::TooLong(Box::new(too_long.clone())));
        let mut state = self.shared.lock();
        let _ = state.outbox.settle(req_id);
        if self.config.inbox == Inbox::Ignore {
            return;
        }
        state.replica.too_long(Position { epoch: too_long.epoch, seq: too_long.head_seq });
        state.resume = None;
        state.head = too_long.head_seq;
        ask_page(&mut state, &mut self.socket.output, &too_long.snapshot_token, Bytes::new());
        self.paging = Some(Paging { too_long, conversations: Vec::new() });
    }

    fn reply(&mut self, req_id: u64, body: server_frame::Body) -> Result<(), ClientError> {
        let waiter = self.shared.lock().outbox.settle(req_id);
        match (waiter, body) {
            (Some(waiter @ Waiter::Caller(..)), server_frame::Body::Error(error)) => {
                Outbox::answer(waiter, Err(ClientError::Refused(error.into())));
            }
            (Some(waiter @ Waiter::Caller(..)), body) => Outbox::answer(waiter, Ok(body)),
            (Some(Waiter::Heartbeat), _) => {}
            (Some(Waiter::Large(fetch)), body) => self.missing(&fetch, body)?,
            (Some(Waiter::Resume), server_frame::Body::Resumed(resumed)) => {
                let mut state = self.shared.lock();
                state.head = state.head.max(resumed.head_seq);
            }
            (Some(Waiter::Snapshot), server_frame::Body::ConversationPage(page)) => {
                self.page(page);
            }
            (Some(_), server_frame::Body::Error(error)) => {
                return Err(ClientError::Refused(error.into()));
            }
            (Some(_), _) => return Err(ClientError::UnexpectedReply("the request")),
            (None, _) => return Err(ClientError::UnexpectedReply("any request")),
        }
        Ok(())
    }

    fn page(&mut self, page: proto::ConversationPage) {
        let conversations = page.conversations.len();
        self.trace(|| Trace::Page { conversations, complete: page.complete });
        let Some(mut paging) = self.paging.take() else { return };
        paging.conversations.extend(page.conversations);
        let mut state = self.shared.lock();
        if !page.complete {
            let token = &paging.too_long.snapshot_token;
            ask_page(&mut state, &mut self.socket.output, token, page.next_page_token);
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
        self.shared.events.notify_one();
    }

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

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
