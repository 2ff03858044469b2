//! The rest of the story: a group, changed messages, bob's own state, presence, a large group.

mod changes;
mod groups;
mod large;
mod own_state;
mod presence;

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
    let mut all = changes::all();
    all.extend(own_state::all());
    all.extend(groups::all());
    all.extend(presence::all());
    all.extend(large::all());
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

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}
