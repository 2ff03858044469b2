//! What bob alone sees: read markers, hidden messages, preferences.

use super::*;

fn preferences() -> Preferences {
    Preferences { pinned: true, muted: false, hidden: false, draft: Bytes::from_static(b"so far") }
}

pub fn all() -> Vec<Example> {
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
