//! A session that hears anything in any order: from a client that keeps no rule, from an engine that
//! answers late, with a refusal or not at all.
//!
//! Held against it: it comes to rest; a reply goes to a request that was asked and has none yet; the
//! stream is contiguous and never ahead of the head; CaughtUp stands where the stream stands; nothing
//! follows the end.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use roamd::{
    auth::{Key, KeyRing, Scope, Scopes},
    engine::{Answer, Command, Compared, LargeSign, Now},
    id::{ClientMessageId, ConversationId, Epoch, SessionId, UserId},
    limits::Limits,
    refusal::{ErrorCode, Refusal},
    reply::{EntryView, GoAwayReason, PlacedMessage, Reply, TooLongReason, Verdict},
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq, MutationSeq, Span},
    session::{Output, Session, SessionContext},
    time::Timestamp,
    wire::{self, proto},
};

const WALL: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Outputs without an input between them: more is a session that never rests.
const OUTPUTS_MAX: usize = 100_000;

struct Shared {
    context: Arc<SessionContext>,
    token: String,
    start: Instant,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let keys = KeyRing::new([Key::hs256(&[7; 32]).expect("a key")]).expect("a ring");
        let user = UserId::new("alice").expect("an id");
        let scopes = Scopes::of(&[Scope::Client]);
        let token = keys.mint(&user, None, scopes, Duration::from_secs(3600), WALL);
        let limits = Limits { outstanding_requests: 8, unacked_entries: 20, ..Limits::default() };
        Shared {
            context: Arc::new(SessionContext::new(keys, limits)),
            token: token.expect("a token"),
            start: Instant::now(),
        }
    })
}

/// The bytes of an input, one decision after the other; zeros at its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        u64::from(self.byte())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

struct Subject<'a> {
    input: Input<'a>,
    session: Session,
    /// Monotonic time that has passed.
    passed: Duration,
    /// Requests that were heard and have no reply.
    owed: Vec<u64>,
    /// What the engine has not answered.
    submitted: Vec<(u64, Command)>,
    head: u64,
    /// Where the stream stands; none before it began.
    sent: Option<u64>,
    closed: bool,
}

pub fn session(input: &[u8]) {
    let shared = shared();
    let now = Now { wall: WALL, mono: shared.start };
    let mut subject = Subject {
        session: Session::new(Arc::clone(&shared.context), SessionId::new(1), now),
        input: Input(input),
        passed: Duration::ZERO,
        owed: Vec::new(),
        submitted: Vec::new(),
        head: 0,
        sent: None,
        closed: false,
    };
    while !subject.input.0.is_empty() {
        subject.step();
        subject.drain();
    }
    // Whatever is answered and ended now, it ends.
    while let Some((number, _)) = subject.submitted.pop() {
        subject.session.handle_overloaded(number);
    }
    subject.session.handle_end(GoAwayReason::Draining);
    subject.drain();
    assert!(subject.closed, "it was ended and did not close");
}

fn conversation(number: u64) -> ConversationId {
    ConversationId::new(&format!("c{}", number % 3)).expect("an id")
}

impl Subject<'_> {
    fn now(&self) -> Now {
        Now { wall: WALL.plus(self.passed), mono: shared().start + self.passed }
    }

    fn step(&mut self) {
        match self.input.byte() % 20 {
            0 => {
                let bytes = Bytes::copy_from_slice(self.input.bytes());
                self.frame(bytes);
            }
            1 | 2 => {
                let resume = match self.input.byte() {
                    0 => None,
                    seq => Some(proto::Position { epoch: 1, seq: u64::from(seq) }),
                };
                let hello = proto::Hello {
                    protocol_min: 1,
                    protocol_max: 1,
                    token: shared().token.clone(),
                    device_id: "phone".into(),
                    resume,
                    ..Default::default()
                };
                self.body(proto::client_frame::Body::Hello(hello));
            }
            3 | 4 => self.some_request(),
            5 => {
                let seq = self.input.number();
                self.body(proto::client_frame::Body::Ack(proto::Ack { seq }));
            }
            6 => {
                let seq = self.input.number();
                let position = Some(proto::Position { epoch: 1, seq });
                self.body(proto::client_frame::Body::Resume(proto::Resume { position }));
            }
            7..=9 => {
                self.head += self.input.number() % 40;
                self.session.handle_head(InboxSeq::new(self.head));
            }
            10..=13 => self.answer(),
            14 => {
                self.passed += Duration::from_secs(self.input.number());
                if self.session.deadline().is_some_and(|deadline| deadline <= self.now().mono) {
                    let now = self.now();
                    self.session.handle_timeout(now);
                }
            }
            15 => self.large(),
            16 => {
                let total = self.input.number();
                self.session.handle_total(total, InboxSeq::new(self.head));
                self.session.handle_push(Reply::PresencePush(Vec::new()));
            }
            17 => match self.input.byte() {
                0 => self.session.handle_drain(),
                1 => self.session.handle_stalled(),
                2 => self.session.handle_end(GoAwayReason::Kicked),
                _ => {}
            },
            18 => {
                let refused = Bytes::from_static(&[0x52, 0x02, 0x12, 0x00]);
                self.frame(refused);
            }
            _ => self.session.handle_trimmed(),
        }
    }

    fn some_request(&mut self) {
        use proto::client_frame::Body;
        let conversation_id = "c1".to_owned();
        let body = match self.input.byte() % 8 {
            0 => Body::Ping(proto::Ping { client_time_ms: 1 }),
            1 => Body::ListDevices(proto::ListDevices {}),
            2 => Body::MarkUnread(proto::MarkUnread { conversation_id }),
            3 => Body::SyncPull(proto::SyncPull { after_seq: 0, limit: 1 }),
            4 => Body::Bye(proto::Bye {}),
            5 => Body::SetPresence(proto::SetPresence { state: 3 }),
            _ => Body::GetUnread(proto::GetUnread::default()),
        };
        self.body(body);
    }

    fn body(&mut self, body: proto::client_frame::Body) {
        let (req_id, ack_seq) =
            (self.input.number(), self.input.number() % 4 * self.input.number());
        let frame = proto::ClientFrame { req_id, ack_seq, body: Some(body) };
        self.frame(frame.encode_to_vec().into());
    }

    /// As a connection does it.
    fn frame(&mut self, frame: Bytes) {
        if !self.session.wants_input() {
            return;
        }
        let now = self.now();
        match wire::decode_client(frame) {
            Ok(incoming) => {
                self.owed.push(incoming.req_id);
                self.session.handle_frame(now, incoming);
            }
            Err(refused) => {
                self.owed.push(refused.req_id);
                self.session.handle_refused(now, refused);
            }
        }
    }

    fn answer(&mut self) {
        if self.submitted.is_empty() {
            return;
        }
        let at = self.input.byte() as usize % self.submitted.len();
        let (number, command) = self.submitted.remove(at);
        let how = self.input.byte();
        if how == 0 {
            return self.session.handle_overloaded(number);
        }
        if how == 1 {
            let refusal = Refusal::new(ErrorCode::Internal, "no");
            return self.session.handle_reply(number, Reply::Refused(refusal));
        }
        let now = self.now();
        match command {
            Command::Attach { .. } => {
                let compared = self.compared(how);
                self.session.handle_answer(now, number, Answer::Attached(Box::new(compared)));
            }
            Command::Resume(_) => {
                let compared = self.compared(how);
                self.session.handle_answer(now, number, Answer::Resumed(Box::new(compared)));
            }
            Command::CaughtUp => {
                let large = (0..how % 3).map(|n| self.cursor(u64::from(n))).collect();
                let answer = Answer::CaughtUp {
                    seq: InboxSeq::new(self.head),
                    unread_total: 1,
                    changed: Vec::new(),
                    complete: true,
                    large,
                };
                self.session.handle_answer(now, number, answer);
            }
            Command::Request(_) => {
                self.session.handle_reply(number, Reply::Done { inbox_seq: InboxSeq::ZERO });
            }
            Command::Cursor(_) | Command::Detach => {
                self.session.handle_answer(now, number, Answer::Nothing);
            }
        }
    }

    fn compared(&self, how: u8) -> Compared {
        let verdict = match how % 4 {
            0 => Verdict::TooLong(TooLongReason::NewDevice),
            1 => Verdict::UpToDate,
            _ => Verdict::CatchUp,
        };
        Compared {
            epoch: Epoch::new(1),
            head: InboxSeq::new(self.head),
            first: InboxSeq::new(1),
            cursor: InboxSeq::ZERO,
            verdict,
            snapshot: Bytes::from_static(b"12345678"),
            unread_total: 0,
            last_client_id: ClientMessageId::new(0),
        }
    }

    fn cursor(&mut self, number: u64) -> LargeCursor {
        LargeCursor {
            conversation: conversation(number),
            history: HistorySeq::new(self.input.number()),
            mutation: MutationSeq::new(self.input.number() % 5),
            version: 1,
        }
    }

    fn large(&mut self) {
        let number = self.input.number();
        let cursor = self.cursor(number);
        let sign = match number % 5 {
            0 => LargeSign::Opened(cursor, InboxSeq::new(self.input.number())),
            1 => LargeSign::Closed(cursor),
            _ => LargeSign::Grown(cursor),
        };
        self.session.handle_large(&sign);
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            let Some(output) = self.session.poll_output() else { return };
            assert!(!self.closed, "after the end: {output:?}");
            self.output(output);
        }
        panic!("it never comes to rest");
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Frame(req_id, reply) => self.said(req_id, reply),
            Output::Submit(number, caller, command) => {
                assert_eq!(caller.user.as_str(), "alice");
                if let Command::Cursor(seq) = &command
                    && let Some(sent) = self.sent
                {
                    assert!(seq.number() <= sent, "a cursor beyond what was sent");
                }
                self.submitted.push((number, command));
            }
            Output::Read { after, upto, entries, bytes } => {
                assert!(after < upto && entries > 0 && bytes > 0);
                if self.input.byte() == 255 {
                    return self.session.handle_trimmed();
                }
                let most = entries.min(upto.since(after) as usize);
                let count = 1 + usize::from(self.input.byte()) % most;
                let hole = EntryView::Hole { time: WALL, detail: "" };
                self.session.handle_batch(vec![hole; count], 10 * count);
            }
            Output::ReadRows(id, span) => {
                assert!(span.first <= span.last);
                let rows = (span.first.number()..=span.last.number()).map(HistorySeq::new);
                let placed = |seq: HistorySeq| {
                    let shown = !seq.number().is_multiple_of(3);
                    (seq, shown.then(|| PlacedMessage::new(id.clone(), seq, None)))
                };
                let most = 1 + usize::from(self.input.byte());
                let rows = rows.take(most).map(placed).collect();
                self.session.handle_rows(&id, Span { ..span }, rows);
            }
            Output::ReadChanges(id, first, last) => {
                assert!(first <= last);
                let changes = (first.number()..=last.number()).map(MutationSeq::new);
                let placed =
                    |at| (at, Some(PlacedMessage::new(id.clone(), HistorySeq::ZERO, None)));
                self.session.handle_changes(&id, last, changes.take(64).map(placed).collect());
            }
            Output::Close => self.closed = true,
        }
    }

    fn said(&mut self, req_id: u64, reply: Reply) {
        if req_id > 0 {
            let at = self.owed.iter().position(|owed| *owed == req_id);
            let at = at.unwrap_or_else(|| panic!("nobody asked {req_id}: {reply:?}"));
            self.owed.swap_remove(at);
        }
        match reply {
            // It goes on where Hello said; the first batch tells where.
            Reply::Welcome(welcome) if !matches!(welcome.verdict, Verdict::TooLong(_)) => {
                self.sent = None;
            }
            Reply::Resumed { .. } | Reply::TooLong { .. } => self.sent = None,
            Reply::SyncBatch(batch) => {
                let prev = batch.prev.number();
                if let Some(sent) = self.sent {
                    assert_eq!(prev, sent, "a batch does not follow");
                }
                let sent = prev + batch.entries.len() as u64;
                assert!(!batch.entries.is_empty() && sent <= batch.head.number());
                self.sent = Some(sent);
            }
            Reply::CaughtUp { seq, .. } => {
                if let Some(sent) = self.sent {
                    assert!(seq.number() <= sent, "caught up beyond what was sent");
                }
            }
            _ => {}
        }
    }
}
