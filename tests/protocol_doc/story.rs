//! The rest of the story: a group, changed messages, bob's own state, presence, a large group.

use std::sync::Arc;

use bytes::Bytes;
use roamd::{
    id::{ClientMessageId, ConversationId, DeviceId, MessageId},
    message::{
        Draft, MembershipAction, MembershipChange, Message, MessageFlags, MessageState,
        MutationRef, Preferences, Role,
    },
    reply::{
        Batch, ConversationUnread, DevicePresence, DeviceView, EntryView, Ephemeral, LargeNews,
        MemberOutcome, MemberView, MessageItem, NoticeView, PlacedMessage, PresenceState, Reply,
    },
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
    time::Timestamp,
    wire::proto::{self, client_frame::Body},
};

use crate::examples::{Example, NOW, client, direct, hello_bob, server, user};

pub fn all() -> Vec<Example> {
    let mut all = changes();
    all.extend(own_state());
    all.extend(groups());
    all.extend(presence());
    all.extend(large());
    all.extend(others());
    all
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(NOW + seconds * 1000)
}

fn lunch() -> ConversationId {
    ConversationId::group(5)
}

fn town() -> ConversationId {
    ConversationId::new("town").unwrap()
}

fn batch(prev: u64, entries: Vec<EntryView>) -> Reply {
    let head = InboxSeq::new(prev + entries.len() as u64);
    Reply::SyncBatch(Batch { prev: InboxSeq::new(prev), head, entries })
}

fn done(inbox_seq: u64) -> Reply {
    Reply::Done { inbox_seq: InboxSeq::new(inbox_seq) }
}

/// Alice's message, edited once.
fn edited() -> PlacedMessage {
    let mut placed = hello_bob();
    if let Some(message) = &mut placed.message {
        message.draft.content = Bytes::from_static(b"hi Bob");
    }
    PlacedMessage { revision: 1, edited: at(40), ..placed }
}

fn change(seq: u64, mutation: u64, by: &str) -> MutationRef {
    MutationRef {
        conversation: direct(),
        seq: HistorySeq::new(seq),
        mutation: MutationSeq::new(mutation),
        by: user(by),
    }
}

fn changes() -> Vec<Example> {
    let place = |seq: u64| (direct().to_string(), seq);
    let (conversation_id, history_seq) = place(10);
    let recall = proto::Recall { conversation_id, history_seq };
    let (conversation_id, history_seq) = place(11);
    let edit = proto::Edit {
        conversation_id,
        history_seq,
        content_type: "text/plain".into(),
        content: Bytes::from_static(b"tomorrow"),
        base_revision: Some(0),
    };
    let (conversation_id, history_seq) = (lunch().to_string(), 12);
    let delete = proto::DeleteForAll { conversation_id, history_seq };
    vec![
        client("Recall", "Bob takes his answer back.", 10, 0, Body::Recall(recall)),
        server("Done", "The entry that tells bob's devices is 5049.", 10, &done(5049)),
        client(
            "Edit",
            "Only if nobody has edited it before: `base_revision` is 0, which is written because it \
             is not the same as absent.",
            11,
            0,
            Body::Edit(edit),
        ),
        client("DeleteForAll", "By an admin of the group.", 12, 0, Body::DeleteForAll(delete)),
        client(
            "CancelSend",
            "Bob's phone does not know whether number 8 was ever taken, and wants it gone.",
            13,
            0,
            Body::CancelSend(proto::CancelSend { client_message_id: 8 }),
        ),
        server(
            "SyncBatch: a recall, an edit, a deletion, and a message that was recalled",
            "Message 9 comes with its new content. Message 12 was recalled before the device came: it \
             has its place and its sender, and nothing else.",
            0,
            &batch(
                5048,
                vec![
                    EntryView::Recalled { time: at(39), mutation: change(10, 4, "bob") },
                    EntryView::Edited {
                        time: at(40),
                        mutation: MutationSeq::new(5),
                        message: edited(),
                    },
                    EntryView::Deleted { time: at(41), mutation: change(11, 6, "alice") },
                    EntryView::Message {
                        time: at(42),
                        message: PlacedMessage {
                            seq: HistorySeq::new(12),
                            ..hello_bob().blanked(MessageState::Recalled)
                        },
                    },
                ],
            ),
        ),
        client(
            "FetchMutations",
            "The phone has cached messages, and what it has reflects change 4.",
            14,
            0,
            Body::FetchMutations(proto::FetchMutations {
                conversation_id: direct().to_string(),
                after_mutation_seq: 4,
                limit: 0,
            }),
        ),
        server(
            "MutationPage",
            "Change 6 is of a message that bob does not see. The next page begins after it.",
            14,
            &Reply::MutationPage {
                mutations: vec![(MutationSeq::new(5), edited())],
                last: MutationSeq::new(6),
                complete: true,
            },
        ),
        client(
            "FetchMessages",
            "Two messages by place.",
            15,
            0,
            Body::FetchMessages(proto::FetchMessages {
                refs: [9, 99]
                    .map(|history_seq| proto::MessageRef {
                        conversation_id: direct().to_string(),
                        history_seq,
                    })
                    .to_vec(),
            }),
        ),
        server(
            "MessageItems",
            "The second is not there: its item is empty. One that found no room would say `skipped`.",
            15,
            &Reply::MessageItems(vec![MessageItem::Found(edited()), MessageItem::Absent]),
        ),
    ]
}

fn preferences() -> Preferences {
    Preferences { pinned: true, muted: false, hidden: false, draft: Bytes::from_static(b"so far") }
}

fn own_state() -> Vec<Example> {
    let conversation_id = || direct().to_string();
    vec![
        client(
            "DeleteForMe",
            "",
            16,
            0,
            Body::DeleteForMe(proto::DeleteForMe {
                conversation_id: conversation_id(),
                history_seqs: vec![3, 300],
            }),
        ),
        client(
            "ClearConversation",
            "",
            17,
            0,
            Body::ClearConversation(proto::ClearConversation {
                conversation_id: conversation_id(),
                to_seq: 8,
            }),
        ),
        client(
            "MarkUnread",
            "",
            18,
            0,
            Body::MarkUnread(proto::MarkUnread { conversation_id: conversation_id() }),
        ),
        client(
            "SetPreferences",
            "Pins the conversation and leaves the rest as it is.",
            19,
            0,
            Body::SetPreferences(proto::SetPreferences {
                preferences: Some(proto::Preferences {
                    conversation_id: conversation_id(),
                    pinned: Some(true),
                    ..Default::default()
                }),
            }),
        ),
        server(
            "SyncBatch: what bob did, and how far alice has read",
            "In an entry all preferences are set, `false` ones too.",
            0,
            &batch(
                5052,
                vec![
                    EntryView::Hidden {
                        time: at(50),
                        conversation: direct(),
                        seqs: vec![HistorySeq::new(3)],
                    },
                    EntryView::Cleared {
                        time: at(51),
                        conversation: direct(),
                        cleared_to: HistorySeq::new(8),
                    },
                    EntryView::Read {
                        time: at(52),
                        conversation: direct(),
                        read_seq: HistorySeq::new(12),
                        marked_unread: true,
                    },
                    EntryView::Preferences {
                        time: at(53),
                        conversation: direct(),
                        preferences: preferences(),
                    },
                    EntryView::PeerRead {
                        time: at(54),
                        conversation: direct(),
                        user: user("alice"),
                        read_seq: HistorySeq::new(12),
                    },
                ],
            ),
        ),
        client(
            "GetUnread",
            "One conversation, with the numbers behind it.",
            20,
            0,
            Body::GetUnread(proto::GetUnread {
                conversation_ids: vec![conversation_id()],
                explain: true,
            }),
        ),
        server(
            "Unread",
            "5 after the marker, 2 of them gone: 3 are unread, and one of these names bob.",
            20,
            &Reply::Unread {
                total: 4,
                conversations: vec![ConversationUnread {
                    conversation: direct(),
                    unread: 3,
                    mentions: 1,
                    marked_unread: false,
                    read_seq: HistorySeq::new(12),
                    visible_last: HistorySeq::new(17),
                    last_ordinal: 17,
                    read_ordinal: 12,
                    removed: 2,
                }],
                position: InboxSeq::new(5057),
                explain: true,
            },
        ),
        client(
            "GetConversations",
            "",
            21,
            0,
            Body::GetConversations(proto::GetConversations {
                conversation_ids: vec!["nowhere".into()],
            }),
        ),
        server(
            "ConversationItems",
            "Bob has nothing to do with it, or it is not there.",
            21,
            &Reply::ConversationItems { items: vec![None], position: InboxSeq::new(5057) },
        ),
    ]
}

fn membership(
    action: MembershipAction,
    by: &str,
    users: &[&str],
    role: Option<Role>,
) -> MembershipChange {
    MembershipChange {
        conversation: lunch(),
        action,
        by: user(by),
        users: users.iter().map(|name| user(name)).collect(),
        user_count: users.len() as u32,
        member_count: 3,
        at: HistorySeq::new(12),
        role,
        title: "late lunch".into(),
    }
}

fn groups() -> Vec<Example> {
    let conversation_id = || lunch().to_string();
    let users = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    vec![
        client(
            "CreateGroup",
            "A new member sees the last 20 messages from before it joined.",
            22,
            0,
            Body::CreateGroup(proto::CreateGroup {
                client_request_id: 9,
                conversation_id: String::new(),
                title: "lunch".into(),
                user_ids: users(&["alice", "carol"]),
                history_policy: proto::HistoryPolicy::LastN.into(),
                history_last_n: 20,
            }),
        ),
        server(
            "GroupCreated",
            "",
            22,
            &Reply::GroupCreated {
                conversation: lunch(),
                member_count: 3,
                inbox_seq: InboxSeq::new(5058),
                duplicate: false,
            },
        ),
        client(
            "AddMembers",
            "",
            23,
            0,
            Body::AddMembers(proto::AddMembers {
                conversation_id: conversation_id(),
                user_ids: users(&["dave", "alice"]),
            }),
        ),
        server(
            "MemberItems",
            "Dave is in now; alice was already.",
            23,
            &Reply::MemberItems {
                outcomes: vec![MemberOutcome::Changed, MemberOutcome::Unchanged],
                member_count: 4,
                inbox_seq: InboxSeq::new(5059),
            },
        ),
        client(
            "RemoveMembers",
            "",
            24,
            0,
            Body::RemoveMembers(proto::RemoveMembers {
                conversation_id: conversation_id(),
                user_ids: users(&["dave"]),
            }),
        ),
        client(
            "SetRole",
            "",
            25,
            0,
            Body::SetRole(proto::SetRole {
                conversation_id: conversation_id(),
                user_id: "carol".into(),
                role: proto::Role::Admin.into(),
            }),
        ),
        client(
            "SetTitle",
            "",
            26,
            0,
            Body::SetTitle(proto::SetTitle {
                conversation_id: conversation_id(),
                title: "late lunch".into(),
            }),
        ),
        client(
            "DisbandGroup",
            "",
            27,
            0,
            Body::DisbandGroup(proto::DisbandGroup { conversation_id: conversation_id() }),
        ),
        client(
            "LeaveGroup",
            "",
            28,
            0,
            Body::LeaveGroup(proto::LeaveGroup { conversation_id: conversation_id() }),
        ),
        server(
            "SyncBatch: a role, a title, the end of a group",
            "",
            0,
            &batch(
                5060,
                vec![
                    EntryView::Membership {
                        time: at(60),
                        change: membership(
                            MembershipAction::Role,
                            "bob",
                            &["carol"],
                            Some(Role::Admin),
                        ),
                    },
                    EntryView::Membership {
                        time: at(61),
                        change: membership(MembershipAction::Title, "carol", &[], None),
                    },
                    EntryView::Membership {
                        time: at(62),
                        change: membership(MembershipAction::Disbanded, "bob", &[], None),
                    },
                ],
            ),
        ),
        client(
            "ListMembers",
            "",
            29,
            0,
            Body::ListMembers(proto::ListMembers {
                conversation_id: conversation_id(),
                page_token: Bytes::new(),
                limit: 1,
            }),
        ),
        server(
            "MemberPage",
            "There are more: `complete` is not set, and the next request carries the token.",
            29,
            &Reply::MemberPage {
                members: vec![MemberView {
                    user: user("alice"),
                    role: Role::Member,
                    joined_seq: HistorySeq::new(1),
                    joined: at(55),
                }],
                next_page_token: Bytes::from_static(b"alice"),
                member_count: 3,
                version: 6,
            },
        ),
        client(
            "GetReaders",
            "",
            30,
            0,
            Body::GetReaders(proto::GetReaders {
                conversation_id: conversation_id(),
                history_seq: 12,
                page_token: Bytes::new(),
                limit: 0,
            }),
        ),
        server(
            "ReaderPage",
            "",
            30,
            &Reply::ReaderPage {
                users: vec![user("alice"), user("carol")],
                reader_count: 2,
                next_page_token: Bytes::new(),
            },
        ),
    ]
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn there(state: PresenceState, seconds: u64) -> DevicePresence {
    DevicePresence { user: user("alice"), device: device("laptop"), state, since: at(seconds) }
}

fn presence() -> Vec<Example> {
    vec![
        client(
            "SubscribePresence",
            "",
            31,
            0,
            Body::SubscribePresence(proto::SubscribePresence {
                user_ids: vec!["alice".into(), "carol".into()],
                unsubscribe: false,
            }),
        ),
        server(
            "PresenceSnapshot",
            "Alice's laptop is there. No device of carol has a session: she is offline.",
            31,
            &Reply::PresenceSnapshot(vec![there(PresenceState::Online, 0)]),
        ),
        server(
            "PresencePush",
            "",
            0,
            &Reply::PresencePush(vec![there(PresenceState::Offline, 70)]),
        ),
        client(
            "SetPresence",
            "Bob's app goes to the background.",
            32,
            0,
            Body::SetPresence(proto::SetPresence {
                state: proto::PresenceState::Background.into(),
            }),
        ),
        client(
            "SendEphemeral",
            "Bob is typing.",
            33,
            0,
            Body::SendEphemeral(proto::SendEphemeral {
                conversation_id: direct().to_string(),
                content_type: "typing".into(),
                content: Bytes::new(),
            }),
        ),
        server(
            "EphemeralPush",
            "Alice is typing.",
            0,
            &Reply::EphemeralPush(Arc::new(Ephemeral {
                conversation: direct(),
                sender: user("alice"),
                device: device("laptop"),
                content_type: "typing".into(),
                content: Bytes::new(),
            })),
        ),
        client("ListDevices", "", 34, 0, Body::ListDevices(proto::ListDevices {})),
        server(
            "DevicePage",
            "",
            34,
            &Reply::DevicePage(vec![DeviceView {
                device: device("phone"),
                platform: "ios 19".into(),
                state: PresenceState::Background,
                first_seen: at(0),
                last_seen: at(71),
                cursor: InboxSeq::new(5063),
                push_registered: true,
            }]),
        ),
        client(
            "KickDevice",
            "",
            35,
            0,
            Body::KickDevice(proto::KickDevice { device_id: "tablet".into() }),
        ),
        client(
            "RevokeDevice",
            "",
            36,
            0,
            Body::RevokeDevice(proto::RevokeDevice { device_id: "tablet".into() }),
        ),
        client(
            "RegisterPush",
            "",
            37,
            0,
            Body::RegisterPush(proto::RegisterPush {
                provider: "apns".into(),
                token: "5f3a".into(),
            }),
        ),
    ]
}

fn news(seq: u64) -> PlacedMessage {
    PlacedMessage::new(
        town(),
        HistorySeq::new(seq),
        Some(Message {
            id: MessageId::new(9000 + seq),
            sender: user("mayor"),
            device: device("desk"),
            client_id: ClientMessageId::new(seq),
            time: at(80),
            ordinal: seq,
            draft: Draft {
                created_at: at(80),
                content_type: "text/plain".into(),
                content: Bytes::from_static(b"news"),
                reply_to: HistorySeq::ZERO,
                mentions: Vec::new(),
                flags: MessageFlags::default(),
            },
        }),
    )
}

fn large() -> Vec<Example> {
    let push = |news| Reply::ConversationPush(Box::new(news));
    vec![
        server(
            "SyncBatch: a group becomes large",
            "Message 700 and all before it came as entries. From 701 on they come as pushes.",
            0,
            &batch(
                5063,
                vec![EntryView::Mode {
                    time: at(79),
                    conversation: town(),
                    large: true,
                    from: HistorySeq::new(701),
                }],
            ),
        ),
        server(
            "ConversationPush: a message",
            "The one before it was 700, which the device has: 701 is next.",
            0,
            &push(LargeNews::Message { message: news(701), prev: HistorySeq::new(700) }),
        ),
        server(
            "ConversationPush: a change",
            "The message as it is now.",
            0,
            &push(LargeNews::Mutation {
                message: news(701).blanked(MessageState::Recalled),
                mutation: MutationSeq::new(3),
                prev: MutationSeq::new(2),
            }),
        ),
        server(
            "ConversationPush: members or settings",
            "There is a version 905 now; nothing else is told.",
            0,
            &push(LargeNews::Version { conversation: town(), version: 905 }),
        ),
        server("UnreadPush", "", 0, &Reply::UnreadPush { total: 5, position: InboxSeq::new(5064) }),
        server(
            "CaughtUp with a hint",
            "Bob comes back. `town` is at 760; his phone knows it up to 701, and fetches the rest.",
            0,
            &Reply::CaughtUp {
                seq: InboxSeq::new(5064),
                unread_total: 64,
                changed: Vec::new(),
                complete: false,
                hints: vec![LargeCursor {
                    conversation: town(),
                    history: HistorySeq::new(760),
                    mutation: MutationSeq::new(4),
                    version: 905,
                }],
            },
        ),
    ]
}

fn others() -> Vec<Example> {
    vec![
        client(
            "SendNotice",
            "By an administrator.",
            38,
            0,
            Body::SendNotice(proto::SendNotice {
                client_request_id: 2,
                content_type: "text/plain".into(),
                content: Bytes::from_static(b"maintenance at 22:00"),
                to: Some(proto::send_notice::To::Everyone(true)),
            }),
        ),
        client(
            "SyncPull",
            "A tool reads the inbox from 5064 on.",
            39,
            0,
            Body::SyncPull(proto::SyncPull { after_seq: 5064, limit: 2 }),
        ),
        server(
            "SyncBatch as an answer: a notice, and an entry that cannot be read",
            "",
            39,
            &Reply::Pulled(Batch {
                prev: InboxSeq::new(5064),
                head: InboxSeq::new(5070),
                entries: vec![
                    EntryView::Notice {
                        time: at(90),
                        notice: NoticeView {
                            notice: NoticeSeq::new(1),
                            content_type: "text/plain".into(),
                            content: Bytes::from_static(b"maintenance at 22:00"),
                            conversation: None,
                        },
                    },
                    EntryView::Hole { time: at(91), detail: "damaged entry" },
                ],
            }),
        ),
    ]
}
