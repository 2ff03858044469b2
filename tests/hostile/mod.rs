//! What a broken or malicious client may send, and the answer each of it must get.
//!
//! Used twice: straight against the codec, and over a real socket. Every case starts a connection of
//! its own. `bytes` is what goes on the wire, length prefix included; for `AfterWelcome` it follows a
//! proper Hello whose request id was 1. The first answer is an Error with `expect`; when `fatal`, the
//! server closes the connection after it, and otherwise it answers a Ping that follows.

pub mod requests;

use bytes::BytesMut;
use prost::encoding::{WireType, encode_key, encode_varint};
use roamd::{
    limits,
    refusal::ErrorCode,
    wire::{
        self,
        proto::{self, client_frame::Body},
    },
};

/// When the bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// As the first bytes of the connection.
    BeforeHello,
    /// When the session is open.
    AfterWelcome,
}

/// One attack.
#[derive(Clone, Debug)]
pub struct HostileCase {
    /// What it tries.
    pub name: &'static str,
    /// What goes on the wire.
    pub bytes: Vec<u8>,
    /// The code of the answer.
    pub expect: ErrorCode,
    /// Whether the connection ends.
    pub fatal: bool,
    /// When it is sent.
    pub when: When,
}

/// All cases.
pub fn cases() -> Vec<HostileCase> {
    let mut all = framing();
    all.extend(malformed());
    all.extend(too_many());
    all.extend(sessions());
    all.extend(hellos());
    all.extend(arguments());
    all
}

fn case(name: &'static str, bytes: Vec<u8>, expect: ErrorCode, fatal: bool) -> HostileCase {
    HostileCase { name, bytes, expect, fatal, when: When::AfterWelcome }
}

/// The same attack on both sides of the greeting.
fn both(all: &mut Vec<HostileCase>, name: &'static str, bytes: &[u8], expect: ErrorCode) {
    for when in [When::BeforeHello, When::AfterWelcome] {
        all.push(HostileCase { name, bytes: bytes.to_vec(), expect, fatal: true, when });
    }
}

fn framing() -> Vec<HostileCase> {
    use ErrorCode::{BadFrame, FrameTooLarge};
    let mut all = Vec::new();
    both(&mut all, "a length of zero", &[0], BadFrame);
    both(&mut all, "a length of zero in two bytes", &[0x80, 0], BadFrame);
    both(&mut all, "a length of 2 in two bytes", &[0x82, 0, 8, 1], BadFrame);
    both(&mut all, "a length of 2 in five bytes", &[0x82, 0x80, 0x80, 0x80, 0, 8, 1], BadFrame);
    both(&mut all, "a length of six bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 1], BadFrame);
    both(&mut all, "a length of ten bytes", &[0xff; 10], BadFrame);
    both(&mut all, "a length of 20 MB", &prefix(20_000_000), FrameTooLarge);
    both(&mut all, "a length of 4 GiB - 1", &prefix(u64::from(u32::MAX)), FrameTooLarge);
    both(&mut all, "a length of 32 GiB - 1", &prefix((1 << 35) - 1), FrameTooLarge);
    let over = |limit: usize| prefix(limit as u64 + 1);
    all.push(HostileCase {
        when: When::BeforeHello,
        ..case(
            "one byte over the limit before Hello",
            over(limits::GREETING_FRAME_BYTES_MAX),
            FrameTooLarge,
            true,
        )
    });
    all.push(case(
        "one byte over the limit after Welcome",
        over(limits::CLIENT_FRAME_BYTES_MAX),
        FrameTooLarge,
        true,
    ));
    all
}

fn malformed() -> Vec<HostileCase> {
    use ErrorCode::Malformed;
    let http = b"GET /index.html HTTP/1.1\r\nHost: localhost:7100\r\nUser-Agent: some/1.0\r\n\r\n";
    let groups = [0x63].repeat(2000);
    let mut overflow = vec![0x08];
    overflow.extend([0xff; 9]);
    overflow.push(0x02);
    let mut all = Vec::new();
    both(&mut all, "a request of HTTP", http, Malformed);
    both(
        &mut all,
        "a greeting of TLS",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefghijklmnop",
        Malformed,
    );
    both(&mut all, "a key without a value", &delimited(&[0x08]), Malformed);
    both(&mut all, "a varint cut by the end", &delimited(&[0x08, 0xff]), Malformed);
    both(&mut all, "a varint of 65 bits", &delimited(&overflow), Malformed);
    both(
        &mut all,
        "a varint of eleven bytes",
        &delimited(&[&[8][..], &[0xff; 11]].concat()),
        Malformed,
    );
    both(&mut all, "a field number of 0", &delimited(&[0x02, 0]), Malformed);
    both(&mut all, "a key over 32 bits", &delimited(&[0x88, 0x80, 0x80, 0x80, 0x10, 1]), Malformed);
    both(&mut all, "wire type 6", &delimited(&[0x0e, 0]), Malformed);
    both(&mut all, "wire type 7", &delimited(&[0x0f, 0]), Malformed);
    both(&mut all, "a group", &delimited(&[0x63, 0x64]), Malformed);
    both(&mut all, "groups nested 2,000 deep", &delimited(&groups), Malformed);
    both(&mut all, "an end of a group", &delimited(&[0x64]), Malformed);
    both(&mut all, "a body longer than its frame", &delimited(&[0x08, 1, 0x32, 100, 8]), Malformed);
    both(
        &mut all,
        "a body of 2^63 bytes",
        &delimited(&[&[0x32][..], &prefix(1 << 63)].concat()),
        Malformed,
    );
    both(&mut all, "a group inside a body", &in_frame(2, 6, &[0x63, 0x64]), Malformed);
    both(&mut all, "a body that is a number", &delimited(&[0x08, 2, 0x30, 1]), Malformed);
    both(&mut all, "a req_id that is a text", &delimited(&[0x0a, 1, b'a']), Malformed);
    both(&mut all, "a fixed64 cut by the end", &delimited(&[0x09, 1, 2, 3]), Malformed);
    both(&mut all, "two bodies", &delimited(&[0x08, 2, 0x32, 0, 0x2a, 0]), Malformed);
    both(&mut all, "the same body twice", &delimited(&[0x08, 2, 0x32, 0, 0x32, 0]), Malformed);
    let bad_text = |body: u32, number: u32| in_frame(2, body, &field(number, b"\xff\xfe"));
    both(&mut all, "a token that is not UTF-8", &bad_text(3, 4), Malformed);
    all.push(case("a peer that is not UTF-8", bad_text(10, 2), Malformed, true));
    all.push(case("a mention that is not UTF-8", bad_text(10, 8), Malformed, true));
    all.push(case(
        "a user that is half a surrogate",
        in_frame(2, 41, &field(2, b"\xed\xa0\x80")),
        Malformed,
        true,
    ));
    all
}

fn too_many() -> Vec<HostileCase> {
    use ErrorCode::TooManyItems;
    let empties = |body: u32, number: u32| in_frame(2, body, &field(number, &[]).repeat(10_000));
    let many = |count: usize| (0..count).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let mut all = vec![
        case("10,000 empty users", empties(41, 2), TooManyItems, true),
        case("10,000 empty refs", empties(32, 1), TooManyItems, true),
        case("10,000 empty cursors", empties(3, 8), TooManyItems, true),
        case(
            "10,000 fields nobody knows",
            delimited(&[0xf8, 0x07, 1].repeat(10_000)),
            TooManyItems,
            true,
        ),
        case("10,000 empty users to follow", empties(51, 1), TooManyItems, true),
        case(
            "10,000 fields in a set of preferences",
            in_frame(2, 23, &field(1, &[0x10, 1].repeat(10_000))),
            TooManyItems,
            true,
        ),
        case(
            "100,000 packed numbers",
            in_frame(2, 13, &field(2, &[1; 100_000])),
            TooManyItems,
            true,
        ),
    ];
    all.push(case(
        "1,001 users",
        request(Body::AddMembers(proto::AddMembers {
            conversation_id: "team".into(),
            user_ids: many(limits::ITEMS_PER_CALL_MAX + 1),
        })),
        TooManyItems,
        false,
    ));
    all.push(case(
        "65 mentions",
        request(Body::Send(proto::Send { mentions: many(limits::MENTIONS_MAX + 1), ..send() })),
        TooManyItems,
        false,
    ));
    all.push(case(
        "201 conversations",
        request(Body::GetConversations(proto::GetConversations { conversation_ids: many(201) })),
        TooManyItems,
        false,
    ));
    all.push(case(
        "201 users to follow",
        request(Body::SubscribePresence(proto::SubscribePresence {
            user_ids: many(201),
            unsubscribe: false,
        })),
        TooManyItems,
        false,
    ));
    all.push(case(
        "101 messages to hide",
        request(Body::DeleteForMe(proto::DeleteForMe {
            conversation_id: "team".into(),
            history_seqs: (1..=101).collect(),
        })),
        TooManyItems,
        false,
    ));
    all.push(case(
        "201 messages to fetch",
        request(Body::FetchMessages(proto::FetchMessages {
            refs: vec![requests::message_ref(); 201],
        })),
        TooManyItems,
        false,
    ));
    all
}

fn sessions() -> Vec<HostileCase> {
    use ErrorCode::{BadRequestId, HelloExpected, UnknownRequest, WrongState};
    let ping = || Body::Ping(proto::Ping { client_time_ms: 1 });
    let early = |name, body| HostileCase {
        when: When::BeforeHello,
        ..case(name, request(body), HelloExpected, true)
    };
    let recall = proto::Recall { conversation_id: "team".into(), history_seq: 1 };
    vec![
        early("a ping before Hello", ping()),
        early("a send before Hello", Body::Send(send())),
        early("an ack before Hello", Body::Ack(proto::Ack { seq: 1 })),
        case("a second Hello", request(Body::Hello(hello())), WrongState, true),
        case("a ping without a request id", frame(0, ping()), BadRequestId, true),
        case("a send without a request id", frame(0, Body::Send(send())), BadRequestId, true),
        case("a recall without a request id", frame(0, Body::Recall(recall)), BadRequestId, true),
        case("no body", delimited(&[0x08, 2]), UnknownRequest, false),
        case("a body of a later protocol", in_frame(2, 500, b"anything"), UnknownRequest, false),
    ]
}

/// Mistakes in a Hello end the connection: there is nothing to go on with.
fn hellos() -> Vec<HostileCase> {
    let bad = |name, hello: proto::Hello| HostileCase {
        when: When::BeforeHello,
        ..case(name, request(Body::Hello(hello)), ErrorCode::InvalidArgument, true)
    };
    vec![
        bad("a Hello without a device", proto::Hello { device_id: String::new(), ..hello() }),
        bad("a device of 65 bytes", proto::Hello { device_id: "d".repeat(65), ..hello() }),
        bad("a device with a line feed", proto::Hello { device_id: "a\nb".into(), ..hello() }),
        bad("protocol 0", proto::Hello { protocol_min: 0, ..hello() }),
        bad("a protocol range backwards", proto::Hello { protocol_min: 2, ..hello() }),
        bad("a feature of 0", proto::Hello { features: vec![0], ..hello() }),
        bad("a platform of 65 bytes", proto::Hello { platform: "p".repeat(65), ..hello() }),
        bad("a platform with an escape", proto::Hello { platform: "\u{1b}[2J".into(), ..hello() }),
        HostileCase {
            when: When::BeforeHello,
            ..case(
                "a Hello without a request id",
                frame(0, Body::Hello(hello())),
                ErrorCode::BadRequestId,
                true,
            )
        },
    ]
}

fn arguments() -> Vec<HostileCase> {
    use proto::send::To;
    let bad = |name, body| case(name, request(body), ErrorCode::InvalidArgument, false);
    let to = |text: &str| Body::Send(proto::Send { to: Some(To::Peer(text.into())), ..send() });
    let typed = |text: String| Body::Send(proto::Send { content_type: text, ..send() });
    let history = |direction: i32, limit: u32| {
        Body::FetchHistory(proto::FetchHistory {
            conversation_id: "team".into(),
            direction,
            limit,
            ..Default::default()
        })
    };
    let group = || proto::CreateGroup { client_request_id: 1, ..Default::default() };
    vec![
        bad("a send to nobody", Body::Send(proto::Send { to: None, ..send() })),
        bad("an empty peer", to("")),
        bad("a peer of 65 bytes", to(&"p".repeat(65))),
        bad("a peer of 100,000 bytes", to(&"p".repeat(100_000))),
        bad("a peer with a space", to("al ice")),
        bad("a peer with a NUL", to("alice\0")),
        bad("a peer with a zero-width space", to("al\u{200b}ice")),
        bad("a peer with a right-to-left override", to("\u{202e}ecila")),
        bad(
            "a send without a client_message_id",
            Body::Send(proto::Send { client_message_id: 0, ..send() }),
        ),
        bad("a content type of 128 bytes", typed("t".repeat(128))),
        bad("a content type with a line feed", typed("text/plain\n".into())),
        bad("a bad mention", Body::Send(proto::Send { mentions: vec!["a b".into()], ..send() })),
        bad("a resume to nowhere", Body::Resume(proto::Resume { position: None })),
        bad("a direction of 0", history(0, 10)),
        bad("a direction nobody knows", history(77, 10)),
        bad("a negative direction", history(-1, 10)),
        bad("a history page of 201", history(1, 201)),
        bad("a history page of 4 billion", history(1, u32::MAX)),
        bad(
            "a list page of 201",
            Body::ListConversations(proto::ListConversations { limit: 201, ..Default::default() }),
        ),
        bad("a pull of 1,001", Body::SyncPull(proto::SyncPull { after_seq: 0, limit: 1001 })),
        bad(
            "nobody to add",
            Body::AddMembers(proto::AddMembers {
                conversation_id: "team".into(),
                user_ids: vec![],
            }),
        ),
        bad(
            "a title of 257 bytes",
            Body::CreateGroup(proto::CreateGroup { title: "t".repeat(257), ..group() }),
        ),
        bad(
            "a title with a control character",
            Body::CreateGroup(proto::CreateGroup { title: "a\u{7}".into(), ..group() }),
        ),
        bad(
            "a group in the place of a direct conversation",
            Body::CreateGroup(proto::CreateGroup {
                conversation_id: format!("d.{}", "0".repeat(26)),
                ..group()
            }),
        ),
        bad(
            "a history policy nobody knows",
            Body::CreateGroup(proto::CreateGroup { history_policy: 9, ..group() }),
        ),
        bad(
            "the last 0 messages",
            Body::CreateGroup(proto::CreateGroup { history_policy: 2, ..group() }),
        ),
        bad(
            "a recall of nothing",
            Body::Recall(proto::Recall { conversation_id: "team".into(), history_seq: 0 }),
        ),
        bad(
            "nothing to hide",
            Body::DeleteForMe(proto::DeleteForMe {
                conversation_id: "team".into(),
                history_seqs: vec![],
            }),
        ),
        bad(
            "preferences of nothing",
            Body::SetPreferences(proto::SetPreferences { preferences: None }),
        ),
        bad(
            "a draft of 100,000 bytes",
            Body::SetPreferences(proto::SetPreferences {
                preferences: Some(proto::Preferences {
                    draft: Some(requests::bytes(100_000)),
                    ..requests::preferences()
                }),
            }),
        ),
        bad(
            "a role nobody knows",
            Body::SetRole(proto::SetRole {
                conversation_id: "team".into(),
                user_id: "bob".into(),
                role: 9,
            }),
        ),
        bad("a presence of offline", Body::SetPresence(proto::SetPresence { state: 1 })),
        bad(
            "a push token of 100,000 bytes",
            Body::RegisterPush(proto::RegisterPush {
                provider: "p".into(),
                token: "t".repeat(100_000),
            }),
        ),
        bad(
            "a notice to nobody",
            Body::SendNotice(proto::SendNotice { client_request_id: 1, ..Default::default() }),
        ),
        bad(
            "a group without a client_request_id",
            Body::CreateGroup(proto::CreateGroup { client_request_id: 0, ..group() }),
        ),
    ]
}

/// A Hello that is right in everything but its token.
pub fn hello() -> proto::Hello {
    proto::Hello {
        protocol_min: 1,
        protocol_max: 1,
        token: "token".into(),
        device_id: "phone".into(),
        ..Default::default()
    }
}

fn send() -> proto::Send {
    proto::Send {
        to: Some(proto::send::To::Peer("bob".into())),
        client_message_id: 1,
        ..Default::default()
    }
}

fn request(body: Body) -> Vec<u8> {
    frame(2, body)
}

fn frame(req_id: u64, body: Body) -> Vec<u8> {
    let mut out = BytesMut::new();
    wire::encode_client(&proto::ClientFrame { req_id, ack_seq: 0, body: Some(body) }, &mut out);
    out.to_vec()
}

/// A ClientFrame whose body `number` holds any bytes.
fn in_frame(req_id: u8, number: u32, body: &[u8]) -> Vec<u8> {
    delimited(&[&[0x08, req_id][..], &field(number, body)].concat())
}

fn delimited(body: &[u8]) -> Vec<u8> {
    [&prefix(body.len() as u64), body].concat()
}

fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

fn prefix(len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(len, &mut out);
    out
}
