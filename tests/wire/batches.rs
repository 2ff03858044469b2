//! Batches, pages and pushes are written by hand; they must be, byte for byte, what the generated
//! types write.

use bytes::BytesMut;
use proptest::prelude::*;
use prost::Message as _;
use roamd::{
    limits::SERVER_FRAME_BYTES_MAX,
    reply::{Batch, EntryView, Reply},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    time::Timestamp,
    wire::{
        self, FrameDecoder,
        proto::{self, server_frame::Body},
    },
};

use crate::{generated, values};

fn encoded(req_id: u64, reply: &Reply) -> BytesMut {
    let mut out = BytesMut::new();
    wire::encode_server(req_id, reply, &mut out);
    out
}

/// The frames of a reply; each within the limit.
pub fn decoded(req_id: u64, reply: &Reply) -> Vec<proto::ServerFrame> {
    let mut stream = encoded(req_id, reply);
    let mut decoder = FrameDecoder::new(SERVER_FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame(&mut stream).unwrap() {
        frames.push(wire::decode_server(frame).unwrap());
    }
    assert!(stream.is_empty());
    frames
}

/// That `reply` is one frame with this body, in the same bytes.
fn check(req_id: u64, reply: &Reply, body: Body) -> Result<(), TestCaseError> {
    let frame = proto::ServerFrame { req_id, body: Some(body) };
    let right = frame.encode_length_delimited_to_vec();
    prop_assert_eq!(&encoded(req_id, reply)[..], right);
    prop_assert_eq!(decoded(req_id, reply), [frame]);
    Ok(())
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
        let batch = generated::batch(&value);
        check(0, &Reply::SyncBatch(value.clone()), Body::SyncBatch(batch.clone()))?;
        check(req_id, &Reply::Pulled(value), Body::Pulled(batch))?;
    }

    #[test]
    fn pages_are_what_the_generated_types_write(
        req_id in values::number(),
        messages in prop::collection::vec(values::placed(), 0..12),
        visible in (values::number(), values::number()),
        mutation in values::number(),
        complete in any::<bool>(),
    ) {
        let page = proto::HistoryPage {
            messages: messages.iter().map(generated::message).collect(),
            first_seq: messages.first().map_or(0, |m| m.seq.number()),
            last_seq: messages.last().map_or(0, |m| m.seq.number()),
            visible_first_seq: visible.0,
            visible_last_seq: visible.1,
            mutation_seq: mutation,
            complete,
        };
        let reply = Reply::HistoryPage {
            messages,
            visible_first: HistorySeq::new(visible.0),
            visible_last: HistorySeq::new(visible.1),
            mutation: MutationSeq::new(mutation),
            complete,
        };
        check(req_id, &reply, Body::HistoryPage(page))?;
    }

    #[test]
    fn mutations_and_items_are_what_the_generated_types_write(
        req_id in values::number(),
        mutations in prop::collection::vec(values::mutation(), 0..12),
        items in prop::collection::vec(values::item(), 0..12),
        last in values::number(),
        complete in any::<bool>(),
    ) {
        let last = MutationSeq::new(last);
        let page = generated::mutations(&mutations, last, complete);
        let reply = Reply::MutationPage { mutations, last, complete };
        check(req_id, &reply, Body::MutationPage(page))?;
        let found = generated::items(&items);
        check(req_id, &Reply::MessageItems(items), Body::MessageItems(found))?;
    }

    #[test]
    fn pushes_are_what_the_generated_types_write(news in values::news()) {
        let push = generated::push(&news);
        check(0, &Reply::ConversationPush(Box::new(news)), Body::ConversationPush(push))?;
    }

    #[test]
    fn lengths_are_exact_and_weights_are_upper_bounds(
        view in values::entry(),
        (mutation, placed) in values::mutation(),
    ) {
        let one = proto::SyncBatch { entries: vec![generated::entry(&view)], ..Default::default() };
        prop_assert_eq!(wire::entry_len(&view), one.encoded_len());
        prop_assert!(wire::entry_len(&view) <= view.weight(), "{} > {}", wire::entry_len(&view), view.weight());

        let message = generated::message(&placed);
        let page = proto::HistoryPage { messages: vec![message.clone()], ..Default::default() };
        prop_assert_eq!(wire::message_len(&placed), page.encoded_len());
        let of_page = vec![(mutation, placed.clone())];
        let of_page = generated::mutations(&of_page, MutationSeq::ZERO, false).encoded_len();
        if let Some(message) = &placed.message {
            prop_assert!(wire::message_len(&placed) <= message.weight());
            prop_assert!(of_page <= message.weight());
            let time = Timestamp::from_millis(u64::MAX);
            for entry in [
                EntryView::Message { time, message: placed.clone() },
                EntryView::Edited { time, mutation: MutationSeq::new(u64::MAX), message: placed.clone() },
            ] {
                prop_assert!(wire::entry_len(&entry) <= message.weight());
            }
        }
    }
}
