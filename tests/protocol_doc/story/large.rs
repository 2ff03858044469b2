//! A large conversation.

use super::*;

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

pub fn all() -> Vec<Example> {
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
