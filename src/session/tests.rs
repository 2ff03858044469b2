//! What cannot be brought about over a socket: an engine with too much to do, a client that is too
//! old for the first version.

use std::time::Duration;

use super::*;
use crate::{
    auth::{Key, Scope, Scopes},
    engine::Compared,
    id::{DeviceId, UserId},
    reply::{TooLongReason, Verdict},
    request::{ClientLimits, Hello, LargeCursor},
    time::Timestamp,
};

const WALL: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn now() -> Now {
    Now { wall: WALL, mono: Instant::now() }
}

fn context() -> (Arc<SessionContext>, String) {
    let keys = KeyRing::new([Key::hs256(&[7; 32]).unwrap()]).unwrap();
    let user = UserId::new("alice").unwrap();
    let hour = Duration::from_secs(3600);
    let token = keys.mint(&user, None, Scopes::of(&[Scope::Client]), hour, WALL).unwrap();
    (Arc::new(SessionContext::new(keys, Limits::default())), token)
}

fn incoming(req_id: u64, request: Request) -> Incoming {
    Incoming { req_id, ack: InboxSeq::ZERO, request }
}

fn hello(token: &str, protocol_max: u32) -> Request {
    Request::Hello(Hello {
        cursors: Vec::new(),
        background: false,
        features: Vec::new(),
        protocol_min: protocol_max.min(1),
        protocol_max,
        token: token.into(),
        device: DeviceId::new("phone").unwrap(),
        platform: "".into(),
        resume: None,
        limits: ClientLimits::default(),
    })
}

fn compared(verdict: Verdict) -> Answer {
    Answer::Attached(Box::new(Compared {
        epoch: Epoch::new(1),
        head: InboxSeq::ZERO,
        first: InboxSeq::new(1),
        cursor: InboxSeq::ZERO,
        verdict,
        snapshot: bytes::Bytes::from_static(b"12345678"),
        unread_total: 0,
        last_client_id: crate::id::ClientMessageId::new(0),
    }))
}

/// A session whose Hello, under the number 1, has this verdict.
fn session(verdict: Verdict) -> Session {
    let (context, token) = context();
    let mut session = Session::new(context, SessionId::new(1), now());
    session.handle_frame(now(), incoming(1, hello(&token, 1)));
    assert!(matches!(session.poll_output(), Some(Output::Submit(1, _, Command::Attach { .. }))));
    session.handle_answer(now(), 1, compared(verdict));
    session
}

/// Everything it says, in short, until it wants nothing more.
fn outputs(session: &mut Session) -> Vec<String> {
    let say = |output| match output {
        Output::Frame(req_id, Reply::Refused(refusal)) => {
            let end = if refusal.fatal { ", fatal" } else { "" };
            format!("{req_id}: {}{end}", refusal.code.name())
        }
        Output::Frame(req_id, reply) => {
            let text = format!("{reply:?}");
            format!("{req_id}: {}", text.split([' ', '(']).next().unwrap())
        }
        Output::Submit(number, _, Command::Request(_)) => format!("submit {number}"),
        Output::Submit(number, _, command) => format!("submit {number} {command:?}"),
        Output::Read { .. } => "read".into(),
        Output::ReadRows(_, span) => format!("rows {}-{}", span.first, span.last),
        Output::ReadChanges(_, first, last) => format!("changes {first}-{last}"),
        Output::Close => "close".into(),
    };
    std::iter::from_fn(|| session.poll_output()).map(say).collect()
}

#[test]
fn a_client_that_is_too_old_is_told_who_is() {
    let (context, token) = context();
    let mut session = Session::new(context, SessionId::new(1), now());
    session.handle_frame(now(), incoming(1, hello(&token, 0)));
    let Some(Output::Frame(1, Reply::Refused(refusal))) = session.poll_output() else {
        panic!("not refused");
    };
    assert_eq!((refusal.code, refusal.fatal), (ErrorCode::ClientTooOld, true));
    assert!(refusal.detail.contains("the client is older"), "{}", refusal.detail);
    assert_eq!(outputs(&mut session), ["close"]);
}

/// Cause: a session whose question for the state at the head was not taken waited for ever and
/// streamed nothing. Fix: it ends, and the device comes back.
#[test]
fn a_stream_that_cannot_go_on_ends() {
    let mut session = session(Verdict::UpToDate);
    assert_eq!(outputs(&mut session), ["1: Welcome", "submit 0 CaughtUp"]);
    session.handle_overloaded(0);
    assert_eq!(outputs(&mut session), ["0: OVERLOADED, fatal", "close"]);
}

/// A session of a device that goes on from entry 5, whose Hello and question for the state were taken.
fn going_on() -> Session {
    let (context, token) = context();
    let mut session = Session::new(context, SessionId::new(1), now());
    let Request::Hello(mut hello) = hello(&token, 1) else { panic!("no Hello") };
    hello.resume = Some(Position { epoch: Epoch::new(1), seq: InboxSeq::new(5) });
    session.handle_frame(now(), incoming(1, Request::Hello(hello)));
    assert!(matches!(session.poll_output(), Some(Output::Submit(1, _, Command::Attach { .. }))));
    assert!(matches!(session.poll_output(), Some(Output::Submit(0, _, Command::CaughtUp))));
    assert!(session.poll_output().is_none(), "once");
    session
}

fn state(seq: u64) -> Answer {
    Answer::CaughtUp {
        large: Vec::new(),
        seq: InboxSeq::new(seq),
        unread_total: 0,
        changed: Vec::new(),
        complete: true,
    }
}

fn verdict_at(head: u64, verdict: Verdict) -> Answer {
    let Answer::Attached(mut at) = compared(verdict) else { panic!("not attached") };
    at.head = InboxSeq::new(head);
    Answer::Attached(at)
}

#[test]
fn a_device_that_goes_on_is_told_the_state_of_its_hello() {
    let mut session = going_on();
    session.handle_answer(now(), 1, verdict_at(5, Verdict::UpToDate));
    session.handle_answer(now(), 0, state(5));
    assert_eq!(outputs(&mut session), ["1: Welcome", "0: CaughtUp"]);

    let mut session = going_on();
    session.handle_answer(now(), 1, verdict_at(7, Verdict::CatchUp));
    assert_eq!(outputs(&mut session), ["1: Welcome"], "nothing before the state is there");
    session.handle_answer(now(), 0, state(7));
    // What comes meanwhile comes after.
    session.handle_head(InboxSeq::new(9));
    for (upto, said) in [(7, &["0: SyncBatch", "0: CaughtUp"][..]), (9, &["0: SyncBatch"])] {
        let Some(Output::Read { upto: to, .. }) = session.poll_output() else { panic!("no read") };
        assert_eq!(to.number(), upto);
        let hole = EntryView::Hole { time: WALL, detail: "" };
        session.handle_batch(vec![hole; 2], 10);
        let mut heard: Vec<_> = (0..said.len()).map(|_| session.poll_output()).collect();
        let frame = |output: Option<Output>| match output {
            Some(Output::Frame(0, Reply::SyncBatch(_))) => "0: SyncBatch",
            Some(Output::Frame(0, Reply::CaughtUp { .. })) => "0: CaughtUp",
            other => panic!("{other:?}"),
        };
        assert_eq!(heard.drain(..).map(frame).collect::<Vec<_>>(), said);
    }
    assert!(session.poll_output().is_none());
}

/// What was asked for behind a Hello is not told to a device that is sent away to list everything.
#[test]
fn a_state_is_void_when_the_device_is_too_far_behind() {
    let mut session = going_on();
    session.handle_answer(now(), 1, verdict_at(9, Verdict::TooLong(TooLongReason::Trimmed)));
    session.handle_answer(now(), 0, state(9));
    assert_eq!(outputs(&mut session), ["1: Welcome", "0: TooLong"]);
    let at = Position { epoch: Epoch::new(1), seq: InboxSeq::new(9) };
    session.handle_frame(now(), incoming(2, Request::Resume(at)));
    assert_eq!(
        outputs(&mut session),
        ["submit 2 Resume(Position { epoch: Epoch(1), seq: InboxSeq(9) })"]
    );
    let Answer::Attached(at) = verdict_at(9, Verdict::UpToDate) else { panic!("not attached") };
    session.handle_answer(now(), 2, Answer::Resumed(at));
    assert_eq!(
        outputs(&mut session),
        ["2: Resumed", "submit 0 Cursor(InboxSeq(9))", "submit 0 CaughtUp"]
    );
    session.handle_answer(now(), 0, state(9));
    assert_eq!(outputs(&mut session), ["0: CaughtUp"]);
}

#[test]
fn a_question_behind_a_hello_that_is_not_taken_ends_the_connection() {
    let mut session = going_on();
    session.handle_overloaded(0);
    assert_eq!(outputs(&mut session), ["0: OVERLOADED, fatal", "close"]);
}

#[test]
fn a_hello_that_is_not_taken_ends_the_connection() {
    let (context, token) = context();
    let mut session = Session::new(context, SessionId::new(1), now());
    session.handle_frame(now(), incoming(1, hello(&token, 1)));
    assert_eq!(outputs(&mut session).len(), 1);
    session.handle_overloaded(1);
    assert_eq!(outputs(&mut session), ["1: OVERLOADED, fatal", "close"]);
}

/// Cause: Resume that was not taken left a state in which it could not be repeated.
#[test]
fn resume_can_be_repeated() {
    let mut session = session(Verdict::TooLong(TooLongReason::NewDevice));
    assert_eq!(outputs(&mut session), ["1: Welcome", "0: TooLong"]);
    let resume = Request::Resume(Position { epoch: Epoch::new(1), seq: InboxSeq::ZERO });
    for req_id in 2..5 {
        session.handle_frame(now(), incoming(req_id, resume.clone()));
        assert_eq!(outputs(&mut session).len(), 1);
        session.handle_overloaded(req_id);
        assert_eq!(outputs(&mut session), [format!("{req_id}: OVERLOADED")]);
    }
}

fn large(history: u64) -> LargeCursor {
    LargeCursor {
        conversation: ConversationId::new("group").unwrap(),
        history: HistorySeq::new(history),
        mutation: MutationSeq::ZERO,
        version: 1,
    }
}

/// What a large conversation has to say goes before the entry that ends it, and after the one that
/// begins it.
#[test]
fn pushes_and_entries_keep_their_order() {
    let mut session = session(Verdict::UpToDate);
    assert_eq!(outputs(&mut session).len(), 2);
    let state = Answer::CaughtUp {
        large: vec![large(3)],
        seq: InboxSeq::ZERO,
        unread_total: 0,
        changed: Vec::new(),
        complete: true,
    };
    session.handle_answer(now(), 0, state);
    assert_eq!(outputs(&mut session), ["0: CaughtUp"]);
    // Two more messages, then it is no longer large (entry 1), then it is again (entry 3), and has
    // one more; entry 4 comes after that.
    for sign in [
        LargeSign::Grown(large(5)),
        LargeSign::Closed(large(5)),
        LargeSign::Opened(large(8), InboxSeq::new(3)),
        LargeSign::Grown(large(9)),
    ] {
        session.handle_large(&sign);
    }
    session.handle_head(InboxSeq::new(4));
    let rows = |session: &mut Session| {
        let Some(Output::ReadRows(id, span)) = session.poll_output() else { panic!("no rows") };
        let rows = (span.first.number()..=span.last.number()).map(HistorySeq::new);
        let placed = |seq| (seq, Some(PlacedMessage::new(id.clone(), seq, None)));
        session.handle_rows(&id, span, rows.map(placed).collect());
        while !session.outputs.is_empty() {
            let Some(Output::Frame(0, Reply::ConversationPush(_))) = session.poll_output() else {
                panic!("no push");
            };
        }
        (span.first.number(), span.last.number())
    };
    let entries = |session: &mut Session| {
        let Some(Output::Read { after, upto, .. }) = session.poll_output() else {
            panic!("no read")
        };
        let hole = EntryView::Hole { time: WALL, detail: "" };
        session.handle_batch(vec![hole; upto.since(after) as usize], 10);
        assert!(matches!(session.poll_output(), Some(Output::Frame(0, Reply::SyncBatch(_)))));
        (after.number(), upto.number())
    };
    assert_eq!(rows(&mut session), (4, 5));
    assert_eq!(entries(&mut session), (0, 3));
    assert_eq!(rows(&mut session), (9, 9));
    assert_eq!(entries(&mut session), (3, 4));
    assert!(session.poll_output().is_none());
}

#[test]
fn a_cursor_that_is_not_taken_is_nobodys_business() {
    let mut session = session(Verdict::UpToDate);
    let state = Answer::CaughtUp {
        large: Vec::new(),
        seq: InboxSeq::ZERO,
        unread_total: 0,
        changed: Vec::new(),
        complete: true,
    };
    assert_eq!(outputs(&mut session).len(), 2);
    session.handle_answer(now(), 0, state);
    assert_eq!(outputs(&mut session), ["0: CaughtUp"]);
    session.handle_head(InboxSeq::new(1));
    assert_eq!(outputs(&mut session), ["read"]);
    session.handle_batch(vec![EntryView::Hole { time: WALL, detail: "" }], 10);
    assert_eq!(outputs(&mut session), ["0: SyncBatch"]);
    session.handle_frame(now(), incoming(0, Request::Ack(InboxSeq::new(1))));
    assert_eq!(outputs(&mut session), ["submit 0 Cursor(InboxSeq(1))"]);
    session.handle_overloaded(0);
    assert!(outputs(&mut session).is_empty());
}

#[test]
fn a_session_ends_with_the_key_of_its_token() {
    let with = |secret: u8| {
        let keys = KeyRing::new([Key::hs256(&[secret; 32]).unwrap()]).unwrap();
        let limits = Limits { content_bytes: 7, ..Limits::default() };
        Arc::new(SessionContext::new(keys, limits))
    };
    let (context, token) = context();
    let mut greeting = Session::new(context, SessionId::new(1), now());
    greeting.handle_reload(with(8));
    assert_eq!(greeting.limits().content_bytes, 7);
    greeting.handle_frame(now(), incoming(1, hello(&token, 1)));
    assert_eq!(outputs(&mut greeting), ["1: UNAUTHENTICATED, fatal", "close"]);
    assert!(greeting.is_denied());

    for verdict in [Verdict::UpToDate, Verdict::CatchUp, Verdict::TooLong(TooLongReason::NewDevice)]
    {
        let mut open = session(verdict);
        outputs(&mut open);
        open.handle_reload(with(7));
        assert!(outputs(&mut open).is_empty(), "another ring with the same key");
        assert_eq!(open.limits().content_bytes, Limits::default().content_bytes);
        open.handle_reload(with(8));
        assert_eq!(outputs(&mut open), ["0: GoAway", "close"]);
        open.handle_reload(with(8));
        assert!(outputs(&mut open).is_empty());
    }
}
