//! The frames shown in `docs/protocol.md`: one story, bob's phone coming back.

use bytes::{Bytes, BytesMut};
use roamd::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, MessageId, SessionId, UserId},
    limits::Limits,
    message::{
        ConversationKind, Draft, HistoryPolicy, MembershipAction, MembershipChange, Message,
        MessageFlags, Preferences, Role,
    },
    refusal::{ErrorCode, Refusal},
    reply::{
        Batch, ConversationUnread, ConversationView, EntryView, GoAwayReason, PlacedMessage, Reply,
        ServerLimits, TooLongReason, Verdict, Welcome,
    },
    request::Feature,
    seq::{HistorySeq, InboxSeq, MutationSeq},
    time::Timestamp,
    wire::{
        self,
        proto::{self, client_frame::Body},
    },
};

use crate::From;

pub struct Example {
    pub title: &'static str,
    pub about: &'static str,
    pub from: From,
    pub bytes: Vec<u8>,
}

pub const EPOCH: u64 = 0x0123_4567_89ab_cdef;
pub const NOW: u64 = 1_767_225_600_000;

pub fn all() -> Vec<Example> {
    let mut all = opening();
    all.extend(too_long());
    all.extend(sending());
    all.extend(reading());
    all.extend(crate::story::all());
    all.extend(ending());
    all
}

fn opening() -> Vec<Example> {
    vec![
        client(
            "Hello",
            "Bob's phone has everything up to 41. `epoch` is a fixed64: eight bytes, least \
             significant first.",
            1,
            0,
            Body::Hello(proto::Hello {
                protocol_min: 1,
                protocol_max: 1,
                token: "header.payload.signature".into(),
                device_id: "phone".into(),
                platform: "ios 19".into(),
                resume: Some(proto::Position { epoch: EPOCH, seq: 41 }),
                client: "example/1.0".into(),
                ..Default::default()
            }),
        ),
        server(
            "Welcome",
            "The server has 44: three entries are missing.",
            1,
            &Reply::Welcome(Box::new(Welcome {
                protocol: 1,
                features: vec![Feature::Presence, Feature::Mutations],
                session: SessionId::new(77),
                user: user("bob"),
                epoch: Epoch::new(EPOCH),
                head: InboxSeq::new(44),
                first: InboxSeq::new(1),
                cursor: InboxSeq::new(41),
                verdict: Verdict::CatchUp,
                time: Timestamp::from_millis(NOW),
                limits: server_limits(),
                unread_total: 2,
                last_client_id: ClientMessageId::new(6),
            })),
        ),
        server(
            "SyncBatch: a message, a read marker, a change of members",
            "Entries 42, 43 and 44. Their numbers are not written: the first is `first_seq`.",
            0,
            &Reply::SyncBatch(Batch {
                prev: InboxSeq::new(41),
                head: InboxSeq::new(44),
                entries: vec![
                    EntryView::Message {
                        time: Timestamp::from_millis(NOW - 3000),
                        message: hello_bob(),
                    },
                    EntryView::Read {
                        time: Timestamp::from_millis(NOW - 2000),
                        conversation: direct(),
                        read_seq: HistorySeq::new(7),
                        marked_unread: false,
                    },
                    EntryView::Membership {
                        time: Timestamp::from_millis(NOW - 1000),
                        change: MembershipChange {
                            conversation: ConversationId::group(5),
                            action: MembershipAction::Added,
                            by: user("carol"),
                            users: vec![user("bob")],
                            user_count: 1,
                            member_count: 3,
                            at: HistorySeq::new(12),
                            role: None,
                            title: "lunch".into(),
                        },
                    },
                ],
            }),
        ),
        server(
            "CaughtUp",
            "From here on the stream is live.",
            0,
            &Reply::CaughtUp {
                seq: InboxSeq::new(44),
                unread_total: 2,
                changed: vec![ConversationUnread {
                    conversation: direct(),
                    unread: 2,
                    read_seq: HistorySeq::new(7),
                    visible_last: HistorySeq::new(9),
                    last_ordinal: 9,
                    read_ordinal: 7,
                    removed: 0,
                    mentions: 0,
                    marked_unread: false,
                }],
                complete: true,
                hints: Vec::new(),
            },
        ),
        client(
            "Ack",
            "Everything up to 44 is stored. `req_id` is 0, which proto3 does not write.",
            0,
            0,
            Body::Ack(proto::Ack { seq: 44 }),
        ),
    ]
}

fn too_long() -> Vec<Example> {
    vec![
        server(
            "TooLong",
            "What a device gets instead of batches when its position has been trimmed.",
            0,
            &Reply::TooLong {
                epoch: Epoch::new(EPOCH),
                head: InboxSeq::new(5044),
                first: InboxSeq::new(4045),
                reason: TooLongReason::Trimmed,
                snapshot: Bytes::from_static(b"\x01\x02\x03"),
            },
        ),
        client(
            "ListConversations",
            "The first page of the snapshot.",
            2,
            0,
            Body::ListConversations(proto::ListConversations {
                snapshot_token: Bytes::from_static(b"\x01\x02\x03"),
                limit: 200,
                ..Default::default()
            }),
        ),
        server(
            "ConversationPage",
            "The only page: `complete` is set.",
            2,
            &Reply::ConversationPage {
                conversations: vec![ConversationView {
                    conversation: direct(),
                    kind: ConversationKind::Direct,
                    title: "".into(),
                    peer: Some(user("alice")),
                    member_count: 2,
                    role: Some(Role::Member),
                    policy: HistoryPolicy::SinceJoin,
                    created: Timestamp::from_millis(NOW - 9000),
                    visible_first: HistorySeq::new(1),
                    visible_last: HistorySeq::new(9),
                    last_message: Some(hello_bob()),
                    activity: Timestamp::from_millis(NOW - 3000),
                    read_seq: HistorySeq::new(7),
                    unread: 2,
                    unread_mentions: 0,
                    marked_unread: false,
                    mutation: MutationSeq::ZERO,
                    preferences: Preferences::default(),
                    large: false,
                    disbanded: false,
                    hidden_count: 0,
                    version: 1,
                }],
                next_page_token: Bytes::new(),
                position: InboxSeq::new(5044),
                unread_total: 2,
            },
        ),
        client(
            "Resume",
            "The device has adopted the position TooLong named.",
            3,
            0,
            Body::Resume(proto::Resume {
                position: Some(proto::Position { epoch: EPOCH, seq: 5044 }),
            }),
        ),
        server(
            "Resumed",
            "One entry was written meanwhile; it follows.",
            3,
            &Reply::Resumed { head: InboxSeq::new(5045) },
        ),
    ]
}

fn sending() -> Vec<Example> {
    vec![
        client(
            "Send",
            "An answer to message 9, with an ack that rides along.",
            4,
            5045,
            Body::Send(proto::Send {
                to: Some(proto::send::To::Peer("alice".into())),
                client_message_id: 7,
                created_at_ms: NOW,
                content_type: "text/plain".into(),
                content: Bytes::from_static("grüß dich".as_bytes()),
                reply_to_seq: 9,
                ..Default::default()
            }),
        ),
        server(
            "SendAck",
            "The message is durable. The same frame with `duplicate: true` answers a retry.",
            4,
            &Reply::SendAck {
                id: MessageId::new(301),
                conversation: direct(),
                seq: HistorySeq::new(10),
                inbox_seq: InboxSeq::new(5046),
                time: Timestamp::from_millis(NOW + 20),
                duplicate: false,
            },
        ),
        server(
            "Error",
            "The same client_message_id with another payload.",
            5,
            &Reply::Refused(Refusal::new(
                ErrorCode::IdempotencyConflict,
                "client_message_id was used for another message",
            )),
        ),
    ]
}

fn reading() -> Vec<Example> {
    vec![
        client(
            "FetchHistory",
            "Two messages before number 10.",
            6,
            0,
            Body::FetchHistory(proto::FetchHistory {
                conversation_id: direct().to_string(),
                direction: proto::Direction::Older.into(),
                anchor_seq: 10,
                limit: 2,
                max_bytes: 0,
            }),
        ),
        server(
            "HistoryPage",
            "The row of number 8 is damaged: it keeps its place and says nothing else.",
            6,
            &Reply::HistoryPage {
                messages: vec![PlacedMessage::new(direct(), HistorySeq::new(8), None), hello_bob()],
                visible_first: HistorySeq::new(1),
                visible_last: HistorySeq::new(10),
                mutation: MutationSeq::ZERO,
                complete: false,
            },
        ),
        client(
            "MarkRead",
            "Read up to 9.",
            7,
            0,
            Body::MarkRead(proto::MarkRead {
                conversation_id: direct().to_string(),
                read_seq: 9,
                peer_visible: false,
            }),
        ),
        server(
            "MarkReadReply",
            "The marker stands at 10, because the answer was bob's own. Nothing is unread, and zeros \
             are not written.",
            7,
            &Reply::MarkRead { read_seq: HistorySeq::new(10), unread: 0, unread_total: 0 },
        ),
        unknown_kind(),
    ]
}

fn ending() -> Vec<Example> {
    vec![
        client("Ping", "Nothing else was sent for a while.", 40, 0, {
            Body::Ping(proto::Ping { client_time_ms: NOW })
        }),
        server(
            "Pong",
            "The client's time comes back as it was.",
            40,
            &Reply::Pong { client_time_ms: NOW, time: Timestamp::from_millis(NOW + 30) },
        ),
        server(
            "GoAway",
            "The server stops; the device comes back after two seconds.",
            0,
            &Reply::GoAway {
                reason: GoAwayReason::Draining,
                retry_after: std::time::Duration::from_secs(2),
            },
        ),
        client("Bye", "The last ack rides on it.", 0, 5064, Body::Bye(proto::Bye {})),
    ]
}

/// A batch as a later server may send it: the second entry is of kind 40, which is not assigned.
fn unknown_kind() -> Example {
    let entry = proto::Entry {
        time_ms: NOW,
        kind: Some(proto::entry::Kind::Read(proto::ReadMarker {
            conversation_id: direct().to_string(),
            read_seq: 9,
            marked_unread: false,
        })),
    };
    let batch = proto::SyncBatch {
        prev_seq: 5046,
        first_seq: 5047,
        last_seq: 5048,
        head_seq: 5048,
        entries: vec![entry],
    };
    let mut batch = prost::Message::encode_to_vec(&batch);
    let mut later = Vec::new();
    prost::encoding::uint64::encode(1, &NOW, &mut later);
    // "?" is not protobuf, so that nobody mistakes it for a message.
    prost::encoding::string::encode(40, &"?".to_owned(), &mut later);
    prost::encoding::bytes::encode(5, &later, &mut batch);
    let mut frame = Vec::new();
    prost::encoding::bytes::encode(4, &batch, &mut frame);
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(frame.len() as u64, &mut bytes);
    bytes.extend(frame);
    Example {
        title: "SyncBatch: an entry of a kind this version does not know",
        about: "Entry 5048 has field 40, which is not in the proto. It is passed over and still \
                counts: the cursor becomes 5048.",
        from: From::Server,
        bytes,
    }
}

pub fn client(
    title: &'static str,
    about: &'static str,
    req_id: u64,
    ack_seq: u64,
    body: Body,
) -> Example {
    let mut out = BytesMut::new();
    wire::encode_client(&proto::ClientFrame { req_id, ack_seq, body: Some(body) }, &mut out);
    Example { title, about, from: From::Client, bytes: out.to_vec() }
}

pub fn server(title: &'static str, about: &'static str, req_id: u64, reply: &Reply) -> Example {
    let mut out = BytesMut::new();
    wire::encode_server(req_id, reply, &mut out);
    Example { title, about, from: From::Server, bytes: out.to_vec() }
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

pub fn direct() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

pub fn hello_bob() -> PlacedMessage {
    PlacedMessage::new(
        direct(),
        HistorySeq::new(9),
        Some(Message {
            id: MessageId::new(300),
            sender: user("alice"),
            device: DeviceId::new("laptop").unwrap(),
            client_id: ClientMessageId::new(21),
            time: Timestamp::from_millis(NOW - 3000),
            ordinal: 9,
            draft: Draft {
                created_at: Timestamp::from_millis(NOW - 3100),
                content_type: "text/plain".into(),
                content: Bytes::from_static(b"hi bob"),
                reply_to: HistorySeq::ZERO,
                mentions: Vec::new(),
                flags: MessageFlags::default(),
            },
        }),
    )
}

fn server_limits() -> ServerLimits {
    let limits = Limits::default();
    ServerLimits {
        content_bytes: limits.content_bytes,
        unacked_entries: limits.unacked_entries,
        unacked_bytes: limits.unacked_bytes,
        batch_bytes: roamd::limits::BATCH_BYTES_TARGET as u32,
        outstanding_requests: limits.outstanding_requests,
        inbox_entries: limits.inbox_entries,
        inbox_age: limits.inbox_age,
        fanout_members: limits.fanout_members,
        heartbeat_interval: limits.heartbeat_interval,
    }
}
