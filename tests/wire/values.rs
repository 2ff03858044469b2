//! Arbitrary values of the protocol, for the property tests.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{option, prelude::*};
use roamd::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    message::{Draft, MembershipAction, MembershipChange, Message, MessageFlags},
    reply::{EntryView, PlacedMessage},
    seq::HistorySeq,
    time::Timestamp,
    wire::proto::{self, client_frame::Body},
};

/// Small numbers often, so that defaults and every length of a varint occur.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..300u64, any::<u64>(), Just(u64::MAX)]
}

pub fn id() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9_.:-]{1,64}", "[a-zäß日本語🎉]{1,16}"]
}

fn user() -> impl Strategy<Value = UserId> {
    id().prop_map(|id| UserId::new(&id).unwrap())
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    id().prop_map(|id| ConversationId::new(&id).unwrap())
}

fn label() -> impl Strategy<Value = Arc<str>> {
    "[a-z/+ é]{0,40}".prop_map(Arc::from)
}

fn content() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from)
}

fn time() -> impl Strategy<Value = Timestamp> {
    number().prop_map(Timestamp::from_millis)
}

fn seq() -> impl Strategy<Value = HistorySeq> {
    number().prop_map(HistorySeq::new)
}

fn draft() -> impl Strategy<Value = Draft> {
    let flags = any::<(bool, bool, bool)>().prop_map(|(silent, uncounted, no_push)| MessageFlags {
        silent,
        uncounted,
        no_push,
    });
    (time(), label(), content(), seq(), prop::collection::vec(user(), 0..5), flags).prop_map(
        |(created_at, content_type, content, reply_to, mentions, flags)| Draft {
            created_at,
            content_type,
            content,
            reply_to,
            mentions,
            flags,
        },
    )
}

pub fn message() -> impl Strategy<Value = Message> {
    (number(), user(), user(), number(), time(), number(), draft()).prop_map(
        |(id, sender, device, client_id, time, ordinal, draft)| Message {
            id: MessageId::new(id),
            sender,
            device: DeviceId::new(device.as_str()).unwrap(),
            client_id: ClientMessageId::new(client_id),
            time,
            ordinal,
            draft,
        },
    )
}

pub fn placed() -> impl Strategy<Value = PlacedMessage> {
    (conversation(), seq(), option::weighted(0.9, message()))
        .prop_map(|(conversation, seq, message)| PlacedMessage::new(conversation, seq, message))
}

pub fn entry() -> impl Strategy<Value = EntryView> {
    let action = prop_oneof![
        Just(MembershipAction::Created),
        Just(MembershipAction::Added),
        Just(MembershipAction::Removed),
        Just(MembershipAction::Left),
    ];
    let users = prop::collection::vec(user(), 0..33);
    let change =
        (conversation(), action, user(), users, any::<u32>(), any::<u32>(), seq(), label())
            .prop_map(|(conversation, action, by, users, user_count, member_count, at, title)| {
                MembershipChange {
                    conversation,
                    action,
                    by,
                    users,
                    user_count,
                    member_count,
                    at,
                    role: None,
                    title,
                }
            });
    prop_oneof![
        3 => (time(), placed()).prop_map(|(time, message)| EntryView::Message { time, message }),
        1 => (time(), conversation(), seq()).prop_map(|(time, conversation, read_seq)| {
            EntryView::Read { time, conversation, read_seq, marked_unread: false }
        }),
        1 => (time(), change).prop_map(|(time, change)| EntryView::Membership { time, change }),
        1 => time().prop_map(|time| EntryView::Hole { time, detail: "not understood" }),
    ]
}

/// Frames that keep every rule.
pub fn client_frame() -> impl Strategy<Value = proto::ClientFrame> {
    (1..=u64::MAX, number(), body()).prop_map(|(req_id, ack_seq, body)| proto::ClientFrame {
        req_id,
        ack_seq,
        body: Some(body),
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        hello().prop_map(Body::Hello),
        send().prop_map(Body::Send),
        create_group().prop_map(Body::CreateGroup),
        number().prop_map(|seq| Body::Ack(proto::Ack { seq })),
        (number(), number()).prop_map(|(epoch, seq)| Body::Resume(proto::Resume {
            position: Some(proto::Position { epoch, seq })
        })),
        Just(Body::Bye(proto::Bye {})),
        (id(), 1..=3i32, number(), 0..=200u32, any::<u32>()).prop_map(
            |(conversation_id, direction, anchor_seq, limit, max_bytes)| {
                Body::FetchHistory(proto::FetchHistory {
                    conversation_id,
                    direction,
                    anchor_seq,
                    limit,
                    max_bytes,
                })
            }
        ),
        (number(), content(), content(), 0..=200u32).prop_map(
            |(since_ms, snapshot_token, page_token, limit)| {
                Body::ListConversations(proto::ListConversations {
                    since_ms,
                    snapshot_token,
                    page_token,
                    limit,
                })
            }
        ),
        (id(), prop::collection::vec(id(), 1..20)).prop_map(|(conversation_id, user_ids)| {
            Body::RemoveMembers(proto::RemoveMembers { conversation_id, user_ids })
        }),
        (id(), prop::collection::vec(number(), 0..20)).prop_map(
            |(conversation_id, history_seqs)| {
                Body::DeleteForMe(proto::DeleteForMe { conversation_id, history_seqs })
            }
        ),
    ]
}

fn hello() -> impl Strategy<Value = proto::Hello> {
    let resume = option::of((number(), number()))
        .prop_map(|resume| resume.map(|(epoch, seq)| proto::Position { epoch, seq }));
    let cursors = prop::collection::vec((id(), number()), 0..5).prop_map(|cursors| {
        let cursor = |(conversation_id, history_seq)| proto::ConversationCursor {
            conversation_id,
            history_seq,
            mutation_seq: 0,
            version: 0,
        };
        cursors.into_iter().map(cursor).collect()
    });
    let features = prop::collection::vec(1..1000i32, 0..6);
    (1..9u32, 9..20u32, features, id(), id(), resume, cursors, any::<u32>()).prop_map(
        |(min, max, features, token, device_id, resume, conversation_cursors, bytes)| {
            proto::Hello {
                protocol_min: min,
                protocol_max: max,
                features,
                token,
                device_id,
                platform: "test 1".into(),
                resume,
                conversation_cursors,
                limits: Some(proto::ClientLimits { max_batch_bytes: bytes, ..Default::default() }),
                background: false,
                client: "test/1".into(),
            }
        },
    )
}

fn send() -> impl Strategy<Value = proto::Send> {
    let to = prop_oneof![
        id().prop_map(proto::send::To::Peer),
        id().prop_map(proto::send::To::ConversationId)
    ];
    (to, 1..=u64::MAX, number(), label(), content(), prop::collection::vec(id(), 0..6), number())
        .prop_map(|(to, id, created_at_ms, content_type, content, mentions, reply_to_seq)| {
            proto::Send {
                to: Some(to),
                client_message_id: id,
                created_at_ms,
                content_type: content_type.to_string(),
                content,
                reply_to_seq,
                mentions,
                silent: id % 2 == 0,
                uncounted: id % 3 == 0,
                no_push: id % 5 == 0,
            }
        })
}

fn create_group() -> impl Strategy<Value = proto::CreateGroup> {
    let policy =
        prop_oneof![Just((0, 0)), Just((1, 0)), (1..100u32).prop_map(|n| (2, n)), Just((3, 0))];
    // The form "d" or "g" with base-32 digits is the server's.
    let wanted = prop_oneof![Just(String::new()), "-[a-z0-9]{0,40}"];
    (1..=u64::MAX, wanted, label(), prop::collection::vec(id(), 0..20), policy).prop_map(
        |(client_request_id, conversation_id, title, user_ids, (policy, last_n))| {
            proto::CreateGroup {
                client_request_id,
                conversation_id,
                title: title.to_string(),
                user_ids,
                history_policy: policy,
                history_last_n: last_n,
            }
        },
    )
}
