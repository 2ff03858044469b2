//! Arbitrary values of the protocol, for the property tests.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{option, prelude::*};
use roamd::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId, UserId},
    message::{
        Draft, MembershipAction, MembershipChange, Message, MessageFlags, MessageState,
        MutationRef, Preferences, Role,
    },
    reply::{EntryView, LargeNews, MessageItem, NoticeView, PlacedMessage},
    seq::{HistorySeq, MutationSeq, NoticeSeq},
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
    let state = prop_oneof![
        Just(MessageState::Normal),
        Just(MessageState::Recalled),
        Just(MessageState::Deleted),
        Just(MessageState::Hidden),
    ];
    let message = option::weighted(0.9, message());
    let revision = prop_oneof![Just(0), any::<u32>()];
    (conversation(), seq(), message, state, revision, time(), any::<bool>()).prop_map(
        |(conversation, seq, message, state, revision, edited, blanked)| {
            let placed = PlacedMessage {
                state,
                revision,
                edited,
                ..PlacedMessage::new(conversation, seq, message)
            };
            if blanked && !state.is_shown() { placed.blanked(state) } else { placed }
        },
    )
}

pub fn item() -> impl Strategy<Value = MessageItem> {
    prop_oneof![
        3 => placed().prop_map(MessageItem::Found),
        1 => Just(MessageItem::Absent),
        1 => Just(MessageItem::Skipped),
    ]
}

pub fn mutation() -> impl Strategy<Value = (MutationSeq, PlacedMessage)> {
    (number(), placed()).prop_map(|(mutation, message)| (MutationSeq::new(mutation), message))
}

pub fn news() -> impl Strategy<Value = LargeNews> {
    prop_oneof![
        (placed(), seq()).prop_map(|(message, prev)| LargeNews::Message { message, prev }),
        (mutation(), number()).prop_map(|((mutation, message), prev)| LargeNews::Mutation {
            message,
            mutation,
            prev: MutationSeq::new(prev),
        }),
        (conversation(), number())
            .prop_map(|(conversation, version)| LargeNews::Version { conversation, version }),
    ]
}

fn mutation_ref() -> impl Strategy<Value = MutationRef> {
    (conversation(), seq(), number(), user()).prop_map(|(conversation, seq, mutation, by)| {
        MutationRef { conversation, seq, mutation: MutationSeq::new(mutation), by }
    })
}

fn membership() -> impl Strategy<Value = MembershipChange> {
    let action = prop_oneof![
        Just(MembershipAction::Created),
        Just(MembershipAction::Added),
        Just(MembershipAction::Removed),
        Just(MembershipAction::Left),
        Just(MembershipAction::Role),
        Just(MembershipAction::Disbanded),
        Just(MembershipAction::Title),
    ];
    let role = option::of(prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]);
    let users = prop::collection::vec(user(), 0..33);
    let numbers = (any::<u32>(), any::<u32>(), seq());
    (conversation(), action, user(), users, numbers, role, label()).prop_map(
        |(conversation, action, by, users, (user_count, member_count, at), role, title)| {
            MembershipChange {
                conversation,
                action,
                by,
                users,
                user_count,
                member_count,
                at,
                role,
                title,
            }
        },
    )
}

fn preferences() -> impl Strategy<Value = Preferences> {
    (any::<(bool, bool, bool)>(), content())
        .prop_map(|((pinned, muted, hidden), draft)| Preferences { pinned, muted, hidden, draft })
}

fn notice() -> impl Strategy<Value = NoticeView> {
    (number(), label(), content(), option::of(conversation())).prop_map(
        |(notice, content_type, content, conversation)| NoticeView {
            notice: NoticeSeq::new(notice),
            content_type,
            content,
            conversation,
        },
    )
}

pub fn entry() -> impl Strategy<Value = EntryView> {
    let seqs = prop::collection::vec(seq(), 0..101);
    let plain = prop_oneof![
        (time(), conversation(), seq(), any::<bool>()).prop_map(
            |(time, conversation, read_seq, marked_unread)| EntryView::Read {
                time,
                conversation,
                read_seq,
                marked_unread,
            }
        ),
        (time(), conversation(), seqs).prop_map(|(time, conversation, seqs)| {
            EntryView::Hidden { time, conversation, seqs }
        }),
        (time(), conversation(), user(), seq()).prop_map(|(time, conversation, user, read_seq)| {
            EntryView::PeerRead { time, conversation, user, read_seq }
        }),
        (time(), conversation(), preferences()).prop_map(|(time, conversation, preferences)| {
            EntryView::Preferences { time, conversation, preferences }
        }),
        (time(), conversation(), seq()).prop_map(|(time, conversation, cleared_to)| {
            EntryView::Cleared { time, conversation, cleared_to }
        }),
        (time(), conversation(), any::<bool>(), seq()).prop_map(
            |(time, conversation, large, from)| EntryView::Mode { time, conversation, large, from }
        ),
        (time(), notice()).prop_map(|(time, notice)| EntryView::Notice { time, notice }),
        time().prop_map(|time| EntryView::Hole { time, detail: "not understood" }),
    ];
    let mutated = prop_oneof![
        (time(), mutation_ref())
            .prop_map(|(time, mutation)| EntryView::Recalled { time, mutation }),
        (time(), mutation_ref()).prop_map(|(time, mutation)| EntryView::Deleted { time, mutation }),
        (time(), mutation()).prop_map(|(time, (mutation, message))| EntryView::Edited {
            time,
            mutation,
            message
        }),
    ];
    prop_oneof![
        3 => (time(), placed()).prop_map(|(time, message)| EntryView::Message { time, message }),
        1 => (time(), membership())
            .prop_map(|(time, change)| EntryView::Membership { time, change }),
        2 => mutated,
        4 => plain,
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
    prop_oneof![session_body(), message_body(), own_body(), read_body(), group_body(), other_body()]
}

fn session_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        2 => hello().prop_map(Body::Hello),
        1 => number().prop_map(|seq| Body::Ack(proto::Ack { seq })),
        1 => (number(), number()).prop_map(|(epoch, seq)| Body::Resume(proto::Resume {
            position: Some(proto::Position { epoch, seq })
        })),
        1 => number()
            .prop_map(|client_time_ms| Body::Ping(proto::Ping { client_time_ms })),
        1 => Just(Body::Bye(proto::Bye {})),
    ]
}

/// A place of a message.
fn place() -> impl Strategy<Value = (String, u64)> {
    (id(), 1..=u64::MAX)
}

fn message_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        2 => send().prop_map(Body::Send),
        1 => place().prop_map(|(conversation_id, history_seq)| Body::Recall(proto::Recall {
            conversation_id,
            history_seq
        })),
        1 => (place(), label(), content(), option::of(any::<u32>())).prop_map(
            |((conversation_id, history_seq), content_type, content, base_revision)| {
                Body::Edit(proto::Edit {
                    conversation_id,
                    history_seq,
                    content_type: content_type.to_string(),
                    content,
                    base_revision,
                })
            }
        ),
        1 => (id(), prop::collection::vec(1..=u64::MAX, 1..=100)).prop_map(
            |(conversation_id, history_seqs)| {
                Body::DeleteForMe(proto::DeleteForMe { conversation_id, history_seqs })
            }
        ),
        1 => place().prop_map(|(conversation_id, history_seq)| {
            Body::DeleteForAll(proto::DeleteForAll { conversation_id, history_seq })
        }),
        1 => (1..=u64::MAX).prop_map(|client_message_id| Body::CancelSend(proto::CancelSend {
            client_message_id
        })),
    ]
}

fn own_body() -> impl Strategy<Value = Body> {
    let flag = || option::of(any::<bool>());
    prop_oneof![
        (id(), number(), any::<bool>()).prop_map(|(conversation_id, read_seq, peer_visible)| {
            Body::MarkRead(proto::MarkRead { conversation_id, read_seq, peer_visible })
        }),
        id().prop_map(|conversation_id| Body::MarkUnread(proto::MarkUnread { conversation_id })),
        (id(), number()).prop_map(|(conversation_id, to_seq)| {
            Body::ClearConversation(proto::ClearConversation { conversation_id, to_seq })
        }),
        (id(), flag(), flag(), flag(), option::of(content())).prop_map(
            |(conversation_id, pinned, muted, hidden, draft)| {
                Body::SetPreferences(proto::SetPreferences {
                    preferences: Some(proto::Preferences {
                        conversation_id,
                        pinned,
                        muted,
                        hidden,
                        draft,
                    }),
                })
            }
        ),
    ]
}

fn read_body() -> impl Strategy<Value = Body> {
    let ids = || prop::collection::vec(id(), 0..20);
    let refs = prop::collection::vec((id(), number()), 0..20);
    prop_oneof![
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
        (id(), number(), 0..=200u32).prop_map(|(conversation_id, after_mutation_seq, limit)| {
            Body::FetchMutations(proto::FetchMutations {
                conversation_id,
                after_mutation_seq,
                limit,
            })
        }),
        refs.prop_map(|refs| {
            let one =
                |(conversation_id, history_seq)| proto::MessageRef { conversation_id, history_seq };
            let refs = refs.into_iter().map(one).collect();
            Body::FetchMessages(proto::FetchMessages { refs })
        }),
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
        ids().prop_map(|conversation_ids| {
            Body::GetConversations(proto::GetConversations { conversation_ids })
        }),
        (ids(), any::<bool>()).prop_map(|(conversation_ids, explain)| {
            Body::GetUnread(proto::GetUnread { conversation_ids, explain })
        }),
        (id(), content(), 0..=1000u32).prop_map(|(conversation_id, page_token, limit)| {
            Body::ListMembers(proto::ListMembers { conversation_id, page_token, limit })
        }),
        (place(), content(), 0..=1000u32).prop_map(
            |((conversation_id, history_seq), page_token, limit)| {
                Body::GetReaders(proto::GetReaders {
                    conversation_id,
                    history_seq,
                    page_token,
                    limit,
                })
            }
        ),
        (number(), 0..=1000u32).prop_map(|(after_seq, limit)| {
            Body::SyncPull(proto::SyncPull { after_seq, limit })
        }),
    ]
}

fn group_body() -> impl Strategy<Value = Body> {
    let users = || prop::collection::vec(id(), 1..20);
    prop_oneof![
        create_group().prop_map(Body::CreateGroup),
        (id(), users()).prop_map(|(conversation_id, user_ids)| {
            Body::AddMembers(proto::AddMembers { conversation_id, user_ids })
        }),
        (id(), users()).prop_map(|(conversation_id, user_ids)| {
            Body::RemoveMembers(proto::RemoveMembers { conversation_id, user_ids })
        }),
        id().prop_map(|conversation_id| Body::LeaveGroup(proto::LeaveGroup { conversation_id })),
        id().prop_map(|conversation_id| {
            Body::DisbandGroup(proto::DisbandGroup { conversation_id })
        }),
        (id(), id(), 1..=3i32).prop_map(|(conversation_id, user_id, role)| {
            Body::SetRole(proto::SetRole { conversation_id, user_id, role })
        }),
        (id(), label()).prop_map(|(conversation_id, title)| {
            Body::SetTitle(proto::SetTitle { conversation_id, title: title.to_string() })
        }),
    ]
}

fn other_body() -> impl Strategy<Value = Body> {
    use proto::send_notice::To;
    let users = prop::collection::vec(id(), 1..20);
    let to = prop_oneof![
        id().prop_map(To::UserId),
        id().prop_map(To::ConversationId),
        Just(To::Everyone(true))
    ];
    prop_oneof![
        (2..=3i32).prop_map(|state| Body::SetPresence(proto::SetPresence { state })),
        (users, any::<bool>()).prop_map(|(user_ids, unsubscribe)| {
            Body::SubscribePresence(proto::SubscribePresence { user_ids, unsubscribe })
        }),
        (id(), label(), content()).prop_map(|(conversation_id, content_type, content)| {
            Body::SendEphemeral(proto::SendEphemeral {
                conversation_id,
                content_type: content_type.to_string(),
                content,
            })
        }),
        Just(Body::ListDevices(proto::ListDevices {})),
        id().prop_map(|device_id| Body::KickDevice(proto::KickDevice { device_id })),
        id().prop_map(|device_id| Body::RevokeDevice(proto::RevokeDevice { device_id })),
        ("[a-z]{0,64}", "[a-zA-Z0-9:_-]{0,300}").prop_map(|(provider, token)| {
            Body::RegisterPush(proto::RegisterPush { provider, token })
        }),
        (to, 1..=u64::MAX, label(), content()).prop_map(
            |(to, client_request_id, content_type, content)| {
                Body::SendNotice(proto::SendNotice {
                    to: Some(to),
                    client_request_id,
                    content_type: content_type.to_string(),
                    content,
                })
            }
        ),
    ]
}

fn hello() -> impl Strategy<Value = proto::Hello> {
    let resume = option::of((number(), number()))
        .prop_map(|resume| resume.map(|(epoch, seq)| proto::Position { epoch, seq }));
    let cursor = (id(), number(), number(), number()).prop_map(
        |(conversation_id, history_seq, mutation_seq, version)| proto::ConversationCursor {
            conversation_id,
            history_seq,
            mutation_seq,
            version,
        },
    );
    let cursors = prop::collection::vec(cursor, 0..5);
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
