//! Batches and pages are written by hand; they must be, byte for byte, what the generated types
//! write. And whatever is encoded, no frame passes the limit.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;
use roamd::{
    id::{ConversationId, UserId},
    limits::{HISTORY_PAGE_MAX, LIST_PAGE_MAX, PREVIEW_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
    message::{ConversationKind, HistoryPolicy, MembershipAction, Message, Role},
    refusal::ErrorCode,
    reply::{Batch, ConversationView, EntryView, PlacedMessage, Reply},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
    wire::{
        self, FrameDecoder,
        proto::{self, entry::Kind, server_frame::Body},
    },
};

use crate::values;

fn encoded(req_id: u64, reply: &Reply) -> BytesMut {
    let mut out = BytesMut::new();
    wire::encode_server(req_id, reply, &mut out);
    out
}

fn decoded(req_id: u64, reply: &Reply) -> Vec<proto::ServerFrame> {
    let mut stream = encoded(req_id, reply);
    let mut decoder = FrameDecoder::new(SERVER_FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame(&mut stream).unwrap() {
        frames.push(wire::decode_server(frame).unwrap());
    }
    assert!(stream.is_empty());
    frames
}

// The same shapes once more, through generated types.

fn message(placed: &PlacedMessage) -> proto::Message {
    let place = proto::Message {
        conversation_id: placed.conversation.to_string(),
        history_seq: placed.seq.number(),
        ..Default::default()
    };
    let Some(message) = &placed.message else { return place };
    proto::Message {
        message_id: message.id.number(),
        sender: message.sender.to_string(),
        sender_device: message.device.to_string(),
        client_message_id: message.client_id.number(),
        time_ms: message.time.millis(),
        created_at_ms: message.draft.created_at.millis(),
        content_type: message.draft.content_type.to_string(),
        content: message.draft.content.clone(),
        reply_to_seq: message.draft.reply_to.number(),
        mentions: message.draft.mentions.iter().map(ToString::to_string).collect(),
        silent: message.draft.flags.silent,
        uncounted: message.draft.flags.uncounted,
        state: proto::MessageState::Normal.into(),
        ..place
    }
}

fn entry(entry: &EntryView) -> proto::Entry {
    let (time, kind) = match entry {
        EntryView::Message { time, message: placed } => (
            time,
            match placed.message {
                Some(_) => Kind::Message(message(placed)),
                None => Kind::Hole(proto::Hole { detail: "the message is damaged".into() }),
            },
        ),
        EntryView::Read { time, conversation, read_seq, marked_unread } => (
            time,
            Kind::Read(proto::ReadMarker {
                conversation_id: conversation.to_string(),
                read_seq: read_seq.number(),
                marked_unread: *marked_unread,
            }),
        ),
        EntryView::Membership { time, change } => (
            time,
            Kind::Membership(proto::MembershipChange {
                conversation_id: change.conversation.to_string(),
                action: match change.action {
                    MembershipAction::Created => 1,
                    MembershipAction::Added => 2,
                    MembershipAction::Removed => 3,
                    MembershipAction::Left => 4,
                    MembershipAction::Role => 5,
                    MembershipAction::Disbanded => 6,
                    MembershipAction::Title => 7,
                },
                by: change.by.to_string(),
                users: change.users.iter().map(ToString::to_string).collect(),
                user_count: change.user_count,
                member_count: change.member_count,
                history_seq: change.at.number(),
                role: 0,
                title: change.title.to_string(),
            }),
        ),
        EntryView::Hole { time, detail } => {
            (time, Kind::Hole(proto::Hole { detail: (*detail).into() }))
        }
        other => panic!("{other:?} is not among the values yet"),
    };
    proto::Entry { time_ms: time.millis(), kind: Some(kind) }
}

fn batch(batch: &Batch) -> proto::SyncBatch {
    proto::SyncBatch {
        prev_seq: batch.prev.number(),
        first_seq: batch.prev.number() + 1,
        last_seq: batch.prev.number() + batch.entries.len() as u64,
        head_seq: batch.head.number(),
        entries: batch.entries.iter().map(entry).collect(),
    }
}

proptest! {
    #[test]
    fn batches_are_what_the_generated_types_write(
        req_id in values::number(),
        prev in 0..u64::MAX / 2,
        head in values::number(),
        entries in prop::collection::vec(values::entry(), 0..12),
    ) {
        let value = Batch { prev: InboxSeq::new(prev), head: InboxSeq::new(head), entries };
        let stream = Body::SyncBatch(batch(&value));
        let frame = proto::ServerFrame { req_id: 0, body: Some(stream) };
        prop_assert_eq!(&encoded(0, &Reply::SyncBatch(value.clone()))[..], frame.encode_length_delimited_to_vec());
        prop_assert_eq!(decoded(0, &Reply::SyncBatch(value.clone())), [frame]);

        let frame = proto::ServerFrame { req_id, body: Some(Body::Pulled(batch(&value))) };
        prop_assert_eq!(&encoded(req_id, &Reply::Pulled(value))[..], frame.encode_length_delimited_to_vec());
    }

    #[test]
    fn pages_are_what_the_generated_types_write(
        req_id in values::number(),
        messages in prop::collection::vec(values::placed(), 0..12),
        visible in (values::number(), values::number()),
        complete in any::<bool>(),
    ) {
        let page = proto::HistoryPage {
            messages: messages.iter().map(message).collect(),
            first_seq: messages.first().map_or(0, |m| m.seq.number()),
            last_seq: messages.last().map_or(0, |m| m.seq.number()),
            visible_first_seq: visible.0,
            visible_last_seq: visible.1,
            mutation_seq: 0,
            complete,
        };
        let reply = Reply::HistoryPage {
            messages,
            visible_first: HistorySeq::new(visible.0),
            visible_last: HistorySeq::new(visible.1),
            mutation: roamd::seq::MutationSeq::ZERO,
            complete,
        };
        let frame = proto::ServerFrame { req_id, body: Some(Body::HistoryPage(page)) };
        prop_assert_eq!(&encoded(req_id, &reply)[..], frame.encode_length_delimited_to_vec());
        prop_assert_eq!(decoded(req_id, &reply), [frame]);
    }

    #[test]
    fn lengths_are_exact_and_weights_are_upper_bounds(
        view in values::entry(),
        placed in values::placed(),
    ) {
        let one = proto::SyncBatch { entries: vec![entry(&view)], ..Default::default() };
        prop_assert_eq!(wire::entry_len(&view), one.encoded_len());
        let page = proto::HistoryPage { messages: vec![message(&placed)], ..Default::default() };
        prop_assert_eq!(wire::message_len(&placed), page.encoded_len());
        if let Some(message) = &placed.message {
            prop_assert!(wire::message_len(&placed) <= message.weight());
            let time = Timestamp::from_millis(u64::MAX);
            let entry = EntryView::Message { time, message: placed.clone() };
            prop_assert!(wire::entry_len(&entry) <= message.weight());
        }
    }
}

/// A message as heavy as `content` bytes and everything else at its limit make it.
fn heavy(content: usize) -> PlacedMessage {
    let id = "x".repeat(64);
    let user = UserId::new(&id).unwrap();
    PlacedMessage::new(
        ConversationId::new(&id).unwrap(),
        HistorySeq::new(u64::MAX),
        Some(Message {
            id: roamd::id::MessageId::new(u64::MAX),
            sender: user.clone(),
            device: roamd::id::DeviceId::new(&id).unwrap(),
            client_id: roamd::id::ClientMessageId::new(u64::MAX),
            time: Timestamp::from_millis(u64::MAX),
            ordinal: u64::MAX,
            draft: roamd::message::Draft {
                created_at: Timestamp::from_millis(u64::MAX),
                content_type: "t".repeat(127).into(),
                content: Bytes::from(vec![7; content]),
                reply_to: HistorySeq::new(u64::MAX),
                mentions: vec![user; 64],
                flags: roamd::message::MessageFlags {
                    silent: true,
                    uncounted: true,
                    no_push: true,
                },
            },
        }),
    )
}

fn heavy_batch(count: usize, content: usize) -> Batch {
    let entry = EntryView::Message { time: Timestamp::from_millis(1), message: heavy(content) };
    Batch { prev: InboxSeq::new(10), head: InboxSeq::new(9999), entries: vec![entry; count] }
}

#[test]
fn a_stream_batch_over_the_limit_becomes_several_that_join() {
    let frames = decoded(0, &Reply::SyncBatch(heavy_batch(40, 64 * 1024)));
    assert_eq!(frames.len(), 3);
    let (mut prev, mut entries) = (10, 0);
    for frame in frames {
        assert!(frame.encoded_len() <= SERVER_FRAME_BYTES_MAX);
        let Some(Body::SyncBatch(batch)) = frame.body else { panic!("{frame:?}") };
        assert_eq!((batch.prev_seq, batch.first_seq), (prev, prev + 1));
        assert_eq!(batch.last_seq, prev + batch.entries.len() as u64);
        prev = batch.last_seq;
        entries += batch.entries.len();
    }
    assert_eq!(entries, 40);
}

#[test]
fn a_pulled_batch_over_the_limit_becomes_shorter() {
    let frames = decoded(5, &Reply::Pulled(heavy_batch(1000, 64 * 1024)));
    let [proto::ServerFrame { req_id: 5, body: Some(Body::Pulled(batch)) }] = &frames[..] else {
        panic!("{} frames", frames.len())
    };
    assert_eq!(batch.last_seq, 10 + batch.entries.len() as u64);
    assert!(batch.last_seq < batch.head_seq && batch.entries.len() > 10);
}

#[test]
fn a_page_within_its_budget_fits_and_one_beyond_it_is_refused() {
    let page = |messages: Vec<PlacedMessage>| Reply::HistoryPage {
        messages,
        visible_first: HistorySeq::new(1),
        visible_last: HistorySeq::new(u64::MAX),
        mutation: roamd::seq::MutationSeq::ZERO,
        complete: false,
    };
    // As many as the largest budget allows and one more, which is how a page may overshoot.
    let one = heavy(1024);
    let weight = one.message.as_ref().unwrap().weight();
    let mut messages = vec![one; roamd::limits::HISTORY_PAGE_BYTES_MAX / weight];
    messages.push(heavy(128 * 1024));
    assert!(messages.len() <= HISTORY_PAGE_MAX as usize);
    assert!(matches!(decoded(3, &page(messages))[0].body, Some(Body::HistoryPage(_))));

    let frames = decoded(3, &page(vec![heavy(64 * 1024); 200]));
    let [proto::ServerFrame { req_id: 3, body: Some(Body::Error(error)) }] = &frames[..] else {
        panic!("{} frames", frames.len())
    };
    assert_eq!((error.code, error.fatal), (ErrorCode::Internal.number(), false));
}

#[test]
fn a_page_of_the_heaviest_conversations_fits_because_previews_are_cut() {
    let placed = heavy(64 * 1024);
    let view = ConversationView {
        conversation: placed.conversation.clone(),
        kind: ConversationKind::Group,
        title: "t".repeat(256).into(),
        peer: Some(UserId::new(&"x".repeat(64)).unwrap()),
        member_count: u32::MAX,
        role: Some(Role::Owner),
        policy: HistoryPolicy::Full,
        created: Timestamp::from_millis(u64::MAX),
        visible_first: HistorySeq::new(u64::MAX),
        visible_last: HistorySeq::new(u64::MAX),
        last_message: Some(placed),
        activity: Timestamp::from_millis(u64::MAX),
        read_seq: HistorySeq::new(u64::MAX),
        unread: u64::MAX,
        unread_mentions: u64::MAX,
        marked_unread: true,
        mutation: roamd::seq::MutationSeq::new(u64::MAX),
        preferences: roamd::message::Preferences {
            draft: vec![7; roamd::limits::DRAFT_BYTES_MAX].into(),
            ..Default::default()
        },
        hidden_count: u64::MAX,
        large: true,
        disbanded: true,
        version: u64::MAX,
    };
    let frames = decoded(
        3,
        &Reply::ConversationPage {
            conversations: vec![view; LIST_PAGE_MAX as usize],
            next_page_token: Bytes::from_static(b"next"),
            position: InboxSeq::new(4),
            unread_total: 5,
        },
    );
    let Some(Body::ConversationPage(page)) = &frames[0].body else { panic!("no page") };
    assert_eq!(page.conversations.len(), LIST_PAGE_MAX as usize);
    let last = page.conversations[0].last_message.as_ref().unwrap();
    assert_eq!((last.content.len(), last.mentions.len()), (PREVIEW_BYTES_MAX, 0));
    assert!(page.conversations[0].last_message_cut && !page.complete);
}
