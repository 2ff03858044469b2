//! Every request in every state of a session: each has one answer, or ends the session, and nothing
//! waits for ever. The session is driven without a socket.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use roamd::{
    auth::{Key, KeyRing, Scope, Scopes},
    engine::{Answer, Command, Compared, LargeSign, Now},
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, SessionId, UserId},
    limits::Limits,
    refusal::{ErrorCode, Refusal},
    reply::{GoAwayReason, Reply, TooLongReason, Verdict},
    request::{ClientLimits, Hello, Incoming, LargeCursor, Position, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    session::{Output, Session, SessionContext},
    time::Timestamp,
    wire::{self, proto},
};

use crate::hostile::requests::right;

const WALL: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The number of the request that is tried.
const ASKED: u64 = 40;
/// A request whose answer is still due.
const DUE: u64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    Attaching,
    TooLong,
    Resuming,
    CatchUp,
    Live,
    /// Bye was said; an answer is still due.
    Leaving,
    /// The server stops; an answer is still due.
    Draining,
    Closed,
}

const STATES: [State; 9] = [
    State::Greeting,
    State::Attaching,
    State::TooLong,
    State::Resuming,
    State::CatchUp,
    State::Live,
    State::Leaving,
    State::Draining,
    State::Closed,
];

struct Subject {
    session: Session,
    start: Instant,
    token: String,
}

impl Subject {
    fn new() -> Self {
        let keys = KeyRing::new([Key::hs256(&[7; 32]).unwrap()]).unwrap();
        let user = UserId::new("alice").unwrap();
        let hour = Duration::from_secs(3600);
        let token = keys.mint(&user, None, Scopes::of(&[Scope::Client]), hour, WALL).unwrap();
        let context = Arc::new(SessionContext::new(keys, Limits::default()));
        let start = Instant::now();
        let session = Session::new(context, SessionId::new(1), Now { wall: WALL, mono: start });
        Self { session, start, token }
    }

    fn now(&self) -> Now {
        Now { wall: WALL, mono: self.start }
    }

    fn hear(&mut self, req_id: u64, request: Request) {
        let incoming = Incoming { req_id, ack: InboxSeq::ZERO, request };
        self.session.handle_frame(self.now(), incoming);
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        self.session.handle_answer(self.now(), number, answer);
    }

    fn hello(&self) -> Request {
        Request::Hello(Hello {
            cursors: Vec::new(),
            background: false,
            features: Vec::new(),
            protocol_min: 1,
            protocol_max: 1,
            token: self.token.as_str().into(),
            device: DeviceId::new("phone").unwrap(),
            platform: "".into(),
            resume: None,
            limits: ClientLimits::default(),
        })
    }

    /// What it does until it wants nothing more.
    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    fn at(state: State) -> Self {
        let mut subject = Self::new();
        if state == State::Greeting {
            return subject;
        }
        let hello = subject.hello();
        subject.hear(1, hello);
        if state != State::Attaching {
            let verdict = match state {
                State::TooLong | State::Resuming => Verdict::TooLong(TooLongReason::NewDevice),
                State::CatchUp => Verdict::CatchUp,
                _ => Verdict::UpToDate,
            };
            subject.outputs();
            subject.answer(1, Answer::Attached(Box::new(compared(verdict))));
        }
        subject.outputs();
        match state {
            State::Resuming => {
                let position = Position { epoch: Epoch::new(1), seq: InboxSeq::ZERO };
                subject.hear(2, Request::Resume(position));
            }
            State::Live => {
                subject.answer(0, caught_up());
            }
            State::Leaving | State::Draining => {
                subject.hear(DUE, Request::ListDevices);
                match state {
                    State::Leaving => subject.hear(0, Request::Bye),
                    _ => subject.session.handle_drain(),
                }
            }
            State::Closed => subject.session.handle_end(GoAwayReason::Kicked),
            _ => {}
        }
        subject.outputs();
        subject
    }
}

fn caught_up() -> Answer {
    Answer::CaughtUp {
        seq: InboxSeq::ZERO,
        unread_total: 0,
        changed: Vec::new(),
        complete: true,
        large: Vec::new(),
    }
}

fn compared(verdict: Verdict) -> Compared {
    Compared {
        epoch: Epoch::new(1),
        head: InboxSeq::ZERO,
        first: InboxSeq::new(1),
        cursor: InboxSeq::ZERO,
        verdict,
        snapshot: Bytes::from_static(b"12345678"),
        unread_total: 0,
        last_client_id: ClientMessageId::new(0),
    }
}

/// Every request of the protocol, and the one nobody knows.
fn requests() -> Vec<Request> {
    let decode = |body| {
        let frame = proto::ClientFrame { req_id: ASKED, ack_seq: 0, body: Some(body) };
        wire::decode_client(frame.encode_to_vec().into()).unwrap().request
    };
    right().into_iter().map(decode).chain([Request::Unknown]).collect()
}

/// The beginning of a request, which may be long.
fn name(request: &Request) -> String {
    format!("{request:?}").chars().take(100).collect()
}

/// What must follow a frame.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// Given to the engine under its number.
    Submitted,
    /// Answered at once.
    Pong,
    Refused(ErrorCode),
    /// Refused, and the connection closes.
    Fatal(ErrorCode),
    /// The connection closes.
    Closed,
    Nothing,
}

fn expected(state: State, request: &Request) -> Expected {
    use Expected::{Closed, Fatal, Nothing, Pong, Refused, Submitted};
    match (state, request) {
        (State::Leaving | State::Draining | State::Closed, _) => Nothing,
        (State::Greeting, Request::Hello(_)) => Submitted,
        (State::Greeting | State::Attaching, _) => Fatal(ErrorCode::HelloExpected),
        (_, Request::Hello(_)) => Fatal(ErrorCode::WrongState),
        (State::TooLong, Request::Resume(_)) => Submitted,
        (_, Request::Resume(_)) => Fatal(ErrorCode::WrongState),
        // Nothing was sent that could be acked.
        (_, Request::Ack(_)) => Fatal(ErrorCode::AckBeyondSent),
        (State::Resuming, Request::Bye) => Nothing,
        (_, Request::Bye) => Closed,
        (_, Request::Ping { .. }) => Pong,
        (_, Request::Unknown) => Refused(ErrorCode::UnknownRequest),
        _ => Submitted,
    }
}

fn found(outputs: &[Output]) -> Expected {
    match outputs {
        [] => Expected::Nothing,
        [Output::Submit(ASKED, _, Command::Attach { .. } | Command::Resume(_))]
        | [Output::Submit(ASKED, _, Command::Request(_))] => Expected::Submitted,
        [Output::Frame(ASKED, Reply::Pong { .. })] => Expected::Pong,
        [Output::Frame(ASKED, Reply::Refused(refusal))] if !refusal.fatal => {
            Expected::Refused(refusal.code)
        }
        [Output::Frame(_, Reply::Refused(refusal)), Output::Close] if refusal.fatal => {
            Expected::Fatal(refusal.code)
        }
        [Output::Close] => Expected::Closed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_has_its_answer_in_every_state() {
    for state in STATES {
        for request in requests() {
            let mut subject = Subject::at(state);
            let request = match request {
                Request::Hello(_) => subject.hello(),
                other => other,
            };
            subject.hear(ASKED, request.clone());
            let outputs = subject.outputs();
            assert_eq!(found(&outputs), expected(state, &request), "{state:?}: {}", name(&request));
            if let [Output::Submit(_, caller, Command::Request(given))] = &outputs[..] {
                assert_eq!(given, &request);
                assert_eq!((caller.user.as_str(), caller.admin), ("alice", false));
            }
        }
    }
}

/// Whatever the engine says to a request goes out once, under its number, and the number is free.
#[test]
fn every_request_ends_with_one_reply() {
    let endings: [fn(&mut Session); 3] = [
        |session| session.handle_reply(ASKED, Reply::Done { inbox_seq: InboxSeq::ZERO }),
        |session| {
            let refusal = Refusal::new(ErrorCode::NotFound, "no such conversation");
            session.handle_reply(ASKED, Reply::Refused(refusal));
        },
        |session| session.handle_overloaded(ASKED),
    ];
    for state in [State::TooLong, State::CatchUp, State::Live] {
        for request in requests() {
            if expected(state, &request) != Expected::Submitted
                || matches!(request, Request::Resume(_))
            {
                continue;
            }
            for ending in &endings {
                let mut subject = Subject::at(state);
                subject.hear(ASKED, request.clone());
                assert_eq!(subject.outputs().len(), 1);
                ending(&mut subject.session);
                let outputs = subject.outputs();
                assert!(matches!(outputs[..], [Output::Frame(ASKED, _)]), "{outputs:?}");
                subject.hear(ASKED, Request::Ping { client_time_ms: 1 });
                assert_eq!(
                    found(&subject.outputs()),
                    Expected::Pong,
                    "{state:?}: {}",
                    name(&request)
                );
            }
        }
    }
}

#[test]
fn a_number_that_is_not_free_ends_the_session() {
    for request in requests() {
        if expected(State::Live, &request) != Expected::Submitted {
            continue;
        }
        let mut subject = Subject::at(State::Live);
        subject.hear(ASKED, request.clone());
        subject.outputs();
        subject.hear(ASKED, request);
        assert_eq!(found(&subject.outputs()), Expected::Fatal(ErrorCode::BadRequestId));
    }
}

/// What is due is given before the end, and nothing else is taken.
#[test]
fn an_end_waits_for_what_is_due() {
    for (state, frames) in [(State::Leaving, 1), (State::Draining, 2)] {
        let mut subject = Subject::at(state);
        assert!(!subject.session.wants_input());
        subject.session.handle_reply(DUE, Reply::DevicePage(Vec::new()));
        let outputs = subject.outputs();
        assert!(matches!(outputs.first(), Some(Output::Frame(DUE, Reply::DevicePage(_)))));
        assert!(matches!(outputs.last(), Some(Output::Close)));
        assert_eq!(outputs.len(), frames + 1, "{outputs:?}");
    }
}

/// Pushes are for sessions that are open; nobody else waits for them.
#[test]
fn pushes_go_to_open_sessions_only() {
    for state in STATES {
        let mut subject = Subject::at(state);
        subject.session.handle_push(Reply::PresencePush(Vec::new()));
        let told = matches!(subject.outputs()[..], [Output::Frame(0, Reply::PresencePush(_))]);
        let open = [State::TooLong, State::Resuming, State::CatchUp, State::Live];
        assert_eq!(told, open.contains(&state), "{state:?}");
    }
}

/// What a session may meet that is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// A frame that could not be taken as a request.
    Refused,
    Attached,
    Resumed,
    CaughtUp,
    Head,
    Large,
    Total,
    Trimmed,
    Kicked,
    Drain,
    /// One of its own commands is not taken.
    Overloaded,
    Stalled,
    Crowded,
    Silence,
    Expiry,
}

const ALL_IT_MEETS: [Meets; 15] = [
    Meets::Refused,
    Meets::Attached,
    Meets::Resumed,
    Meets::CaughtUp,
    Meets::Head,
    Meets::Large,
    Meets::Total,
    Meets::Trimmed,
    Meets::Kicked,
    Meets::Drain,
    Meets::Overloaded,
    Meets::Stalled,
    Meets::Crowded,
    Meets::Silence,
    Meets::Expiry,
];

impl Subject {
    fn meets(&mut self, what: Meets) {
        let (now, session) = (self.now(), &mut self.session);
        let after = |wait| Now { mono: now.mono + wait, ..now };
        match what {
            Meets::Refused => {
                let refusal = Refusal::new(ErrorCode::TooManyItems, "too many");
                let refused = wire::Refused { req_id: ASKED, ack: InboxSeq::ZERO, refusal };
                session.handle_refused(now, refused);
            }
            Meets::Attached => {
                let compared = Box::new(compared(Verdict::UpToDate));
                session.handle_answer(now, 1, Answer::Attached(compared));
            }
            Meets::Resumed => {
                let compared = Box::new(compared(Verdict::CatchUp));
                session.handle_answer(now, 2, Answer::Resumed(compared));
            }
            Meets::CaughtUp => session.handle_answer(now, 0, caught_up()),
            Meets::Head => session.handle_head(InboxSeq::new(1)),
            Meets::Large => {
                let at = |history| LargeCursor {
                    conversation: ConversationId::new("group").unwrap(),
                    history: HistorySeq::new(history),
                    mutation: MutationSeq::ZERO,
                    version: 1,
                };
                session.handle_large(&LargeSign::Opened(at(3), InboxSeq::ZERO));
                session.handle_large(&LargeSign::Grown(at(5)));
            }
            Meets::Total => session.handle_total(7, InboxSeq::ZERO),
            Meets::Trimmed => session.handle_trimmed(),
            Meets::Kicked => session.handle_end(GoAwayReason::Kicked),
            Meets::Drain => session.handle_drain(),
            Meets::Overloaded => session.handle_overloaded(0),
            Meets::Stalled => session.handle_stalled(),
            Meets::Crowded => session.handle_crowded(),
            Meets::Silence => {
                let now = after(Duration::from_secs(91));
                session.handle_timeout(now);
            }
            Meets::Expiry => {
                let now = after(Duration::from_secs(3601));
                session.handle_timeout(now);
            }
        }
    }
}

fn in_short(output: &Output) -> String {
    match output {
        Output::Frame(_, Reply::Refused(refusal)) => {
            let end = if refusal.fatal { ", fatal" } else { "" };
            format!("{}{end}", refusal.code.name())
        }
        Output::Frame(_, Reply::GoAway { reason, .. }) => format!("away {reason:?}"),
        Output::Frame(_, reply) => {
            format!("{reply:?}").split([' ', '(', '{']).next().unwrap().to_owned()
        }
        Output::Submit(_, _, command) => {
            format!("submit {}", format!("{command:?}").split([' ', '(']).next().unwrap())
        }
        Output::Read { .. } => "read".to_owned(),
        Output::ReadRows(..) => "rows".to_owned(),
        Output::ReadChanges(..) => "changes".to_owned(),
        Output::Close => "close".to_owned(),
    }
}

/// What must follow.
fn follows(state: State, what: Meets) -> &'static [&'static str] {
    use State::{Attaching, CatchUp, Closed, Draining, Greeting, Leaving, Live, Resuming, TooLong};
    match (what, state) {
        (_, Closed) => &[],
        (Meets::Kicked, _) => &["away Kicked", "close"],
        (Meets::Stalled, _) => &["away Idle", "close"],
        (Meets::Silence | Meets::Expiry, Greeting) => &["HELLO_TIMEOUT, fatal", "close"],
        (Meets::Silence, Attaching) => &["OVERLOADED, fatal", "close"],
        (Meets::Silence, _) => &["away Idle", "close"],
        (Meets::Expiry, _) => &["away TokenExpired", "close"],
        // What is due is waited for.
        (Meets::Drain, Leaving | Draining | Resuming) => &[],
        (Meets::Drain, _) => &["away Draining", "close"],
        (Meets::Refused, Greeting | Attaching) => &["TOO_MANY_ITEMS, fatal", "close"],
        (Meets::Refused, TooLong | Resuming | CatchUp | Live) => &["TOO_MANY_ITEMS"],
        (Meets::Attached, Attaching) => &["Welcome", "submit CaughtUp"],
        (Meets::Resumed, Resuming) => &["Resumed", "submit Cursor", "submit CaughtUp"],
        (Meets::CaughtUp, CatchUp) => &["CaughtUp"],
        (Meets::Head, Live) => &["read"],
        (Meets::Large, Live) => &["rows"],
        (Meets::Total, Live) => &["UnreadPush"],
        (Meets::Trimmed, CatchUp | Live) => &["submit Resume"],
        // It cannot go on without the state at the head.
        (Meets::Overloaded, CatchUp) => &["OVERLOADED, fatal", "close"],
        (Meets::Crowded, Greeting) => &["OVERLOADED, fatal", "close"],
        _ => &[],
    }
}

#[test]
fn everything_else_has_its_effect_in_every_state() {
    for state in STATES {
        for what in ALL_IT_MEETS {
            let mut subject = Subject::at(state);
            subject.meets(what);
            // What is asked for is asked for until it comes.
            let outputs = std::iter::from_fn(|| subject.session.poll_output()).take(8);
            let mut found: Vec<String> = outputs.map(|output| in_short(&output)).collect();
            found.dedup();
            assert_eq!(found, follows(state, what), "{state:?} meets {what:?}");
            let over = found.last().is_some_and(|last| last == "close") || state == State::Closed;
            assert_eq!(subject.session.deadline().is_none(), over, "{state:?} meets {what:?}");
            if over {
                // Nothing brings it back.
                for next in ALL_IT_MEETS {
                    subject.meets(next);
                    assert!(subject.outputs().is_empty(), "{state:?} meets {what:?}, {next:?}");
                }
                assert!(!subject.session.wants_input());
            }
        }
    }
}
