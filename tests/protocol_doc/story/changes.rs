//! Messages that are changed for everybody.

use super::*;

pub fn all() -> Vec<Example> {
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
