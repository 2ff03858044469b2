//! A device's side of the protocol on a plain socket, one thread, no cleverness.
//!
//! Every frame that comes is checked against the promises that hold for any session: batches are
//! contiguous, CaughtUp stands exactly where the stream stands, a request is answered once, and
//! nothing follows GoAway or a fatal error.

use std::{
    collections::{HashMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::Instant,
};

use prost::Message as _;
use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        self, CaughtUp, ClientFrame, Conversation, ConversationPush, DevicePresence, Direction,
        Entry, EphemeralPush, FetchHistory, GetUnread, GoAway, Hello, HistoryPage,
        ListConversations, Message, Ping, Position, Resume, Send, SendAck, ServerFrame, SyncBatch,
        TooLong, UnreadPush, Welcome, client_frame::Body, entry::Kind, send::To,
        server_frame::Body as ReplyBody,
    },
};

use super::{DEADLINE, daemon::until};
use crate::expect;

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct End {
    /// The error of the connection, if there was one.
    pub error: Option<proto::Error>,
    pub go_away: Option<GoAway>,
    /// By a reset instead of an orderly end.
    pub reset: bool,
}

impl End {
    /// It ended by a fatal error with this code.
    #[track_caller]
    pub fn fatally(&self, code: ErrorCode) -> &proto::Error {
        let error = self.error.as_ref().unwrap_or_else(|| panic!("no error: {self:?}"));
        assert_eq!((error.code, error.fatal), (code.number(), true), "{self:?}");
        assert!(!self.reset, "{self:?}");
        error
    }

    /// It ended by GoAway with this reason.
    #[track_caller]
    pub fn gone(&self, reason: proto::GoAwayReason) -> &GoAway {
        let go_away = self.go_away.as_ref().unwrap_or_else(|| panic!("no GoAway: {self:?}"));
        assert_eq!(go_away.reason(), reason, "{self:?}");
        assert!(!self.reset && self.error.is_none(), "{self:?}");
        go_away
    }
}

/// Something unsolicited, in the order in which it came.
#[derive(Clone, Debug)]
pub enum Came {
    Entry(u64, Entry),
    News(ConversationPush),
    CaughtUp(CaughtUp),
}

/// More than the system keeps for a connection that nobody reads.
const FULL_BYTES_MAX: usize = 16 << 20;
/// A connection is full when nothing more has come for so many looks.
const FULL_LOOKS: u32 = 20;

/// A connection and what has come over it.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    last_req: u64,
    /// What Welcome said.
    pub welcome: Welcome,
    /// The last entry received, or the resume point.
    pub seq: u64,
    /// Every entry received, with its number.
    pub inbox: Vec<(u64, Entry)>,
    /// First and last number and head of every batch received.
    pub batches: Vec<(u64, u64, u64)>,
    /// Every change of presence that was pushed.
    pub presence: Vec<DevicePresence>,
    /// Every ephemeral that was pushed.
    pub ephemerals: Vec<EphemeralPush>,
    /// Every total that was pushed.
    pub totals: Vec<UnreadPush>,
    /// Entries, news of large conversations and CaughtUp, for whoever takes them in order.
    pub came: VecDeque<Came>,
    caught_up: VecDeque<CaughtUp>,
    too_long: VecDeque<TooLong>,
    replies: HashMap<u64, ReplyBody>,
    waiting: Vec<u64>,
    error: Option<proto::Error>,
    go_away: Option<GoAway>,
    over: bool,
    reset: bool,
    /// Every frame as text, for those who search them.
    heard: Option<String>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        Self {
            stream,
            input: Vec::new(),
            last_req: 0,
            welcome: Welcome::default(),
            seq: 0,
            inbox: Vec::new(),
            batches: Vec::new(),
            presence: Vec::new(),
            ephemerals: Vec::new(),
            totals: Vec::new(),
            came: VecDeque::new(),
            caught_up: VecDeque::new(),
            too_long: VecDeque::new(),
            replies: HashMap::new(),
            waiting: Vec::new(),
            error: None,
            go_away: None,
            over: false,
            reset: false,
            heard: None,
        }
    }

    /// Waits until the server has begun to write and can write no more, for nobody reads.
    #[track_caller]
    pub fn wait_full(&self) {
        let (mut before, mut still) = (0, 0);
        let mut all = vec![0; FULL_BYTES_MAX];
        until("the connection to be full", || {
            let now = self.stream.peek(&mut all).unwrap_or(0);
            still = if now > 0 && now == before { still + 1 } else { 0 };
            before = now;
            (still >= FULL_LOOKS).then_some(())
        });
    }

    /// Keeps every frame from now on as text.
    pub fn record(&mut self) {
        self.heard = Some(String::new());
    }

    /// Every frame since [`Client::record`].
    pub fn heard(&self) -> String {
        self.heard.clone().unwrap_or_default()
    }

    /// Until a recorded frame has this text in it.
    #[track_caller]
    pub fn wait_heard(&mut self, text: &str) {
        self.wait(text, |client| client.heard().contains(text).then_some(()));
    }

    // What is said.

    /// A request with this number will be said in bytes of its own.
    pub fn expect_reply(&mut self, req_id: u64) {
        self.last_req = self.last_req.max(req_id);
        self.waiting.push(req_id);
    }

    /// Any bytes. A connection that the server has closed takes them without a word.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The writing side, for a thread of its own.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("clone")
    }

    /// Nothing more will be said.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// A request; returns its number.
    pub fn post(&mut self, body: Body) -> u64 {
        self.post_with_ack(0, body)
    }

    /// A request with an ack on the same frame.
    pub fn post_with_ack(&mut self, ack_seq: u64, body: Body) -> u64 {
        self.last_req += 1;
        let req_id = self.last_req;
        if !matches!(body, Body::Ack(_) | Body::Bye(_)) {
            self.waiting.push(req_id);
        }
        self.frame(&ClientFrame { req_id, ack_seq, body: Some(body) });
        req_id
    }

    /// A frame as it is.
    pub fn frame(&mut self, frame: &ClientFrame) {
        self.write(&frame.encode_length_delimited_to_vec());
    }

    pub fn ack(&mut self, seq: u64) {
        self.frame(&ClientFrame {
            body: Some(Body::Ack(proto::Ack { seq })),
            ..Default::default()
        });
    }

    /// Hello, and Welcome to it.
    #[track_caller]
    pub fn greet(&mut self, hello: Hello) {
        self.seq = hello.resume.map_or(0, |at| at.seq);
        let body = self.call(Body::Hello(hello));
        self.welcome = expect!(Welcome, body);
    }

    /// Resume at the position TooLong named, and Resumed.
    #[track_caller]
    pub fn adopt(&mut self, too_long: &TooLong) {
        self.seq = too_long.head_seq;
        let position = Position { epoch: too_long.epoch, seq: too_long.head_seq };
        let body = self.call(Body::Resume(Resume { position: Some(position) }));
        expect!(Resumed, body);
    }

    /// Bye with everything acked, and the end.
    #[track_caller]
    pub fn bye(mut self) -> Position {
        let at = self.position();
        self.post_with_ack(at.seq, Body::Bye(proto::Bye {}));
        let end = self.end();
        assert!(end.error.is_none() && end.go_away.is_none() && !end.reset, "{end:?}");
        at
    }

    // What is heard.

    /// The answer to a request.
    #[track_caller]
    pub fn reply(&mut self, req_id: u64) -> ReplyBody {
        self.wait("a reply", |client| client.replies.remove(&req_id))
    }

    /// The answer to a request, if it has come.
    pub fn came_to(&mut self, req_id: u64) -> Option<ReplyBody> {
        self.replies.remove(&req_id)
    }

    /// The answer to a request, or none when the connection ends without one.
    #[track_caller]
    pub fn reply_or_end(&mut self, req_id: u64) -> Option<ReplyBody> {
        self.wait_or_end(|client| client.replies.remove(&req_id))
    }

    /// Whether the connection breaks off before what was sent has all come.
    pub fn breaks_off(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        self.stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }

    /// Asks and waits for the answer.
    #[track_caller]
    pub fn call(&mut self, body: Body) -> ReplyBody {
        let req_id = self.post(body);
        self.reply(req_id)
    }

    /// Asks for something that is refused with this code, the connection going on.
    #[track_caller]
    pub fn refused(&mut self, code: ErrorCode, body: Body) -> proto::Error {
        let error = expect!(Error, self.call(body));
        assert_eq!((error.code, error.fatal), (code.number(), false), "{error:?}");
        error
    }

    #[track_caller]
    pub fn caught_up(&mut self) -> CaughtUp {
        self.wait("CaughtUp", |client| client.caught_up.pop_front())
    }

    /// TooLong that nobody asked for.
    #[track_caller]
    pub fn too_long(&mut self) -> TooLong {
        self.wait("TooLong", |client| client.too_long.pop_front())
    }

    /// Everything up to this entry.
    #[track_caller]
    pub fn synced(&mut self, seq: u64) {
        self.wait("entries", |client| (client.seq >= seq).then_some(()));
    }

    /// The end of the connection.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let deadline = Instant::now() + DEADLINE;
        while self.receive(deadline) {}
        End { error: self.error.clone(), go_away: self.go_away.clone(), reset: self.reset }
    }

    /// Everything the server had to say because of what was committed so far. The first answer
    /// comes after the signs of earlier commits, the second one after what followed from them.
    #[track_caller]
    pub fn settle(&mut self) {
        expect!(Unread, self.call(Body::GetUnread(GetUnread::default())));
        expect!(Pong, self.call(Body::Ping(Ping { client_time_ms: 1 })));
    }

    /// Whether CaughtUp has come that nobody has taken.
    pub fn has_caught_up(&self) -> bool {
        !self.caught_up.is_empty()
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.welcome.epoch, seq: self.seq }
    }

    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(it) = ready(self) {
                return it;
            }
            let (error, go_away) = (&self.error, &self.go_away);
            assert!(!self.over, "no {what}, but the end: {error:?} {go_away:?}");
            self.receive(deadline);
        }
    }

    fn wait_or_end<T>(&mut self, mut ready: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let it = ready(self);
            if it.is_some() || !self.receive(deadline) {
                return it;
            }
        }
    }

    /// Takes one more frame. False at the end of the connection.
    #[track_caller]
    fn receive(&mut self, deadline: Instant) -> bool {
        loop {
            if let Some((len, prefix)) = read_prefix(&self.input)
                && self.input.len() >= prefix + len
            {
                assert!(len <= 1 << 20, "a server frame of {len} bytes");
                let body = &self.input[prefix..prefix + len];
                let frame = ServerFrame::decode(body).expect("a ServerFrame");
                self.input.drain(..prefix + len);
                self.take(frame);
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain; still without reply: {:?}", self.waiting);
            self.stream.set_read_timeout(Some(left)).expect("timeout");
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "the server ended inside a frame");
                    self.over = true;
                    return false;
                }
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        (self.over, self.reset) = (true, true);
                        return false;
                    }
                    _ => panic!("{error}"),
                },
            }
        }
    }

    #[track_caller]
    fn take(&mut self, ServerFrame { req_id, body }: ServerFrame) {
        let body = body.expect("a body");
        if let Some(heard) = &mut self.heard {
            heard.push_str(&format!("{req_id} {body:?}\n"));
        }
        assert!(self.go_away.is_none(), "after GoAway: {body:?}");
        let fatal = self.error.as_ref().is_some_and(|error| error.fatal);
        assert!(!fatal || matches!(body, ReplyBody::GoAway(_)), "after a fatal error: {body:?}");
        if let ReplyBody::Error(error) = &body
            && (error.fatal || req_id == 0)
        {
            self.error = Some(error.clone());
        }
        if req_id != 0 {
            let place = self.waiting.iter().position(|waiting| *waiting == req_id);
            let place = place.unwrap_or_else(|| panic!("nobody asked {req_id}: {body:?}"));
            self.waiting.swap_remove(place);
            self.replies.insert(req_id, body);
            return;
        }
        match body {
            ReplyBody::SyncBatch(batch) => self.batch(batch),
            ReplyBody::CaughtUp(state) => {
                assert_eq!(state.seq, self.seq, "CaughtUp stands elsewhere");
                self.came.push_back(Came::CaughtUp(state.clone()));
                self.caught_up.push_back(state);
            }
            ReplyBody::TooLong(too_long) => self.too_long.push_back(too_long),
            ReplyBody::PresencePush(push) => {
                assert!(!push.devices.is_empty(), "a push of nothing");
                self.presence.extend(push.devices);
            }
            ReplyBody::ConversationPush(push) => self.came.push_back(Came::News(push)),
            ReplyBody::UnreadPush(push) => self.totals.push(push),
            ReplyBody::EphemeralPush(push) => self.ephemerals.push(push),
            ReplyBody::GoAway(go_away) => self.go_away = Some(go_away),
            ReplyBody::Error(_) => {}
            other => panic!("nobody asked: {other:?}"),
        }
    }

    #[track_caller]
    fn batch(&mut self, batch: SyncBatch) {
        assert_eq!(batch.prev_seq, self.seq, "a gap in the stream");
        let first = check_batch(&batch);
        assert!(!batch.entries.is_empty(), "a batch of nothing");
        self.batches.push((first, batch.last_seq, batch.head_seq));
        self.seq = batch.last_seq;
        let entries = (first..).zip(&batch.entries);
        self.came.extend(entries.map(|(seq, entry)| Came::Entry(seq, entry.clone())));
        self.inbox.extend((first..).zip(batch.entries));
    }

    // What is asked often.

    /// Sends a text.
    #[track_caller]
    pub fn send(&mut self, to: To, number: u64, content: &str) -> SendAck {
        expect!(SendAck, self.call(text(to, number, content)))
    }

    /// Sends texts "1" to "count", all at once, under these numbers.
    #[track_caller]
    pub fn send_many(&mut self, to: &To, numbers: std::ops::RangeInclusive<u64>) -> Vec<SendAck> {
        let posted: Vec<u64> = numbers
            .map(|number| self.post(text(to.clone(), number, &number.to_string())))
            .collect();
        posted.into_iter().map(|req_id| expect!(SendAck, self.reply(req_id))).collect()
    }

    #[track_caller]
    pub fn unread_total(&mut self) -> u64 {
        expect!(Unread, self.call(Body::GetUnread(GetUnread::default()))).unread_total
    }

    #[track_caller]
    pub fn history(
        &mut self,
        id: &str,
        direction: Direction,
        anchor_seq: u64,
        limit: u32,
    ) -> HistoryPage {
        let request = FetchHistory {
            conversation_id: id.into(),
            direction: direction.into(),
            anchor_seq,
            limit,
            max_bytes: 0,
        };
        expect!(HistoryPage, self.call(Body::FetchHistory(request)))
    }

    /// The user's conversations, newest activity first.
    #[track_caller]
    pub fn recents(&mut self) -> Vec<Conversation> {
        let request = ListConversations { limit: 200, ..Default::default() };
        let page = expect!(ConversationPage, self.call(Body::ListConversations(request)));
        assert!(page.complete);
        page.conversations
    }

    /// The news of large conversations that have come since this was last asked.
    pub fn news(&mut self) -> Vec<ConversationPush> {
        let came = self.came.drain(..).filter_map(|came| match came {
            Came::News(news) => Some(news),
            _ => None,
        });
        came.collect()
    }

    /// The content of every message received, as text.
    pub fn texts(&self) -> Vec<String> {
        self.messages().map(content).collect()
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.inbox.iter().filter_map(|(_, entry)| match &entry.kind {
            Some(Kind::Message(message)) => Some(message),
            _ => None,
        })
    }
}

/// The rules of any batch; returns its first number.
#[track_caller]
pub fn check_batch(batch: &SyncBatch) -> u64 {
    let first = batch.prev_seq + 1;
    if !batch.entries.is_empty() {
        assert_eq!(batch.first_seq, first);
    }
    assert_eq!(batch.last_seq, batch.prev_seq + batch.entries.len() as u64);
    assert!(batch.head_seq >= batch.last_seq);
    first
}

pub fn content(message: &Message) -> String {
    String::from_utf8_lossy(&message.content).into_owned()
}

pub fn peer(user: &str) -> To {
    To::Peer(user.into())
}

pub fn conversation(id: &str) -> To {
    To::ConversationId(id.into())
}

/// The request that sends a text.
pub fn text(to: To, client_message_id: u64, content: &str) -> Body {
    Body::Send(Send {
        to: Some(to),
        client_message_id,
        created_at_ms: 1_700_000_000_000,
        content_type: "text/plain".into(),
        content: content.to_owned().into(),
        ..Send::default()
    })
}

/// The length of the next frame and of its prefix.
fn read_prefix(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    for (at, byte) in bytes.iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((len, at + 1));
        }
    }
    None
}
