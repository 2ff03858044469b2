//! Replies to server frames, and the client's frames for the client library.
//!
//! The promise kept here: no frame passes [`SERVER_FRAME_BYTES_MAX`]. A stream batch over it becomes
//! several frames, and so does presence; a page that tells where it ends becomes shorter (answers to
//! SyncPull, FetchMutations, FetchMessages, GetUnread); any other reply over it becomes an error that
//! says so.

use bytes::BytesMut;
use prost::Message;

use crate::{
    limits::SERVER_FRAME_BYTES_MAX,
    refusal::{ErrorCode, Refusal, Retry},
    reply::{
        Batch, ConversationUnread, DevicePresence, EntryView, MessageItem, PlacedMessage, Reply,
    },
    seq::{InboxSeq, MutationSeq},
    wire::{
        frame::encode_delimited,
        proto::{self, server_frame::Body},
        raw::{
            BatchFields, FrameFields, ItemsFields, MutationPageFields, PageFields, entry_len,
            mutation_len,
        },
        reply as to,
        sink::Fields,
    },
};

/// Numbers in `ServerFrame.body` of what is written without generated types.
mod number {
    pub(super) const SYNC_BATCH: u32 = 4;
    pub(super) const HISTORY_PAGE: u32 = 30;
    pub(super) const MUTATION_PAGE: u32 = 31;
    pub(super) const MESSAGE_ITEMS: u32 = 32;
    pub(super) const CONVERSATION_PUSH: u32 = 60;
    pub(super) const PULLED: u32 = 38;
}

/// Bytes of a frame that holds a list, apart from its elements: request id, keys, lengths and four
/// numbers.
const LIST_FRAME_BYTES: usize = 80;

/// Appends `reply` as one delimited frame; a stream batch and presence may need more than one.
///
/// `req_id` is 0 for what was not asked for.
pub fn encode_server(req_id: u64, reply: &Reply, out: &mut BytesMut) {
    let body = match reply {
        Reply::SyncBatch(batch) => return write_stream(req_id, batch, out),
        Reply::Pulled(batch) => return write_pulled(req_id, batch, out),
        Reply::ConversationPush(news) => {
            let frame = FrameFields { req_id, number: number::CONVERSATION_PUSH, body: &**news };
            return frame.write_delimited(out);
        }
        Reply::MutationPage { mutations, last, complete } => {
            return write_mutations(req_id, mutations, *last, *complete, out);
        }
        Reply::MessageItems(items) => return write_items(req_id, items, out),
        Reply::HistoryPage { messages, visible_first, visible_last, mutation, complete } => {
            let page = PageFields {
                messages,
                visible_first: *visible_first,
                visible_last: *visible_last,
                mutation: *mutation,
                complete: *complete,
            };
            let frame = FrameFields { req_id, number: number::HISTORY_PAGE, body: &page };
            if frame.len() <= SERVER_FRAME_BYTES_MAX {
                return frame.write_delimited(out);
            }
            too_large()
        }
        Reply::Refused(refusal) => Body::Error(to::error(refusal)),
        Reply::Welcome(welcome) => Body::Welcome(to::welcome(welcome)),
        Reply::CaughtUp { seq, unread_total, changed, complete, hints } => {
            Body::CaughtUp(proto::CaughtUp {
                seq: seq.number(),
                unread_total: *unread_total,
                changed: changed.iter().map(|view| to::conversation_unread(view, false)).collect(),
                complete: *complete,
                hints: hints.iter().map(to::cursor).collect(),
            })
        }
        Reply::TooLong { epoch, head, first, reason, snapshot } => Body::TooLong(proto::TooLong {
            epoch: epoch.number(),
            head_seq: head.number(),
            first_seq: first.number(),
            reason: to::too_long_reason(*reason).into(),
            snapshot_token: snapshot.clone(),
        }),
        Reply::Resumed { head } => Body::Resumed(proto::Resumed { head_seq: head.number() }),
        Reply::Pong { client_time_ms, time } => Body::Pong(proto::Pong {
            client_time_ms: *client_time_ms,
            server_time_ms: time.millis(),
        }),
        Reply::GoAway { reason, retry_after } => Body::GoAway(to::go_away(*reason, *retry_after)),
        Reply::SendAck { id, conversation, seq, inbox_seq, time, duplicate } => {
            Body::SendAck(proto::SendAck {
                message_id: id.number(),
                conversation_id: conversation.to_string(),
                history_seq: seq.number(),
                inbox_seq: inbox_seq.number(),
                time_ms: time.millis(),
                duplicate: *duplicate,
            })
        }
        Reply::ReaderPage { users, reader_count, next_page_token } => {
            Body::ReaderPage(proto::ReaderPage {
                user_ids: users.iter().map(ToString::to_string).collect(),
                reader_count: *reader_count,
                complete: next_page_token.is_empty(),
                next_page_token: next_page_token.clone(),
            })
        }
        Reply::PresenceSnapshot(devices) => return write_presence(Some(req_id), devices, out),
        Reply::PresencePush(devices) => return write_presence(None, devices, out),
        Reply::DevicePage(devices) => Body::DevicePage(proto::DevicePage {
            devices: devices.iter().map(to::device).collect(),
        }),
        Reply::EphemeralPush(ephemeral) => Body::EphemeralPush(proto::EphemeralPush {
            conversation_id: ephemeral.conversation.to_string(),
            sender: ephemeral.sender.to_string(),
            sender_device: ephemeral.device.to_string(),
            content_type: ephemeral.content_type.to_string(),
            content: ephemeral.content.clone(),
        }),
        Reply::UnreadPush { total, position } => Body::UnreadPush(proto::UnreadPush {
            unread_total: *total,
            position: position.number(),
        }),
        Reply::Done { inbox_seq } => Body::Done(proto::Done { inbox_seq: inbox_seq.number() }),
        Reply::MarkRead { read_seq, unread, unread_total } => {
            Body::MarkReadReply(proto::MarkReadReply {
                read_seq: read_seq.number(),
                unread: *unread,
                unread_total: *unread_total,
            })
        }
        Reply::ConversationPage { conversations, next_page_token, position, unread_total } => {
            Body::ConversationPage(proto::ConversationPage {
                conversations: conversations.iter().map(to::conversation).collect(),
                complete: next_page_token.is_empty(),
                next_page_token: next_page_token.clone(),
                position: position.number(),
                unread_total: *unread_total,
            })
        }
        Reply::ConversationItems { items, position } => {
            let item = |view: &Option<_>| proto::ConversationItem {
                conversation: view.as_ref().map(to::conversation).map(Box::new),
            };
            Body::ConversationItems(proto::ConversationItems {
                items: items.iter().map(item).collect(),
                position: position.number(),
            })
        }
        Reply::Unread { total, conversations, position, explain } => {
            Body::Unread(unread(*total, conversations, *position, *explain))
        }
        Reply::MemberPage { members, next_page_token, member_count, version } => {
            Body::MemberPage(proto::MemberPage {
                members: members.iter().map(to::member).collect(),
                complete: next_page_token.is_empty(),
                next_page_token: next_page_token.clone(),
                member_count: *member_count,
                version: *version,
            })
        }
        Reply::GroupCreated { conversation, member_count, inbox_seq, duplicate } => {
            Body::GroupCreated(proto::GroupCreated {
                conversation_id: conversation.to_string(),
                member_count: *member_count,
                inbox_seq: inbox_seq.number(),
                duplicate: *duplicate,
            })
        }
        Reply::MemberItems { outcomes, member_count, inbox_seq } => {
            Body::MemberItems(proto::MemberItems {
                outcomes: outcomes.iter().map(|&o| to::member_outcome(o).into()).collect(),
                member_count: *member_count,
                inbox_seq: inbox_seq.number(),
            })
        }
    };
    write_body(req_id, body, out);
}

/// Appends one frame of a client.
pub fn encode_client(frame: &proto::ClientFrame, out: &mut BytesMut) {
    encode_delimited(frame, out);
}

fn write_body(req_id: u64, body: Body, out: &mut BytesMut) {
    let frame = proto::ServerFrame { req_id, body: Some(body) };
    if frame.encoded_len() <= SERVER_FRAME_BYTES_MAX {
        return encode_delimited(&frame, out);
    }
    encode_delimited(&proto::ServerFrame { req_id, body: Some(too_large()) }, out);
}

/// Takes the place of a reply that does not fit: the client asks for less, nothing is stuck.
fn too_large() -> Body {
    let detail = "the reply is larger than a frame may be; ask for less at once";
    let refusal = Refusal { retry: Retry::Never, ..Refusal::new(ErrorCode::Internal, detail) };
    Body::Error(to::error(&refusal))
}

fn write_stream(req_id: u64, batch: &Batch, out: &mut BytesMut) {
    let mut prev = batch.prev;
    let mut rest = batch.entries.as_slice();
    loop {
        let (entries, later) = split_to_fit(rest);
        let part = BatchFields { prev, head: batch.head, entries };
        FrameFields { req_id, number: number::SYNC_BATCH, body: &part }.write_delimited(out);
        if later.is_empty() {
            return;
        }
        prev = part.last();
        rest = later;
    }
}

fn write_pulled(req_id: u64, batch: &Batch, out: &mut BytesMut) {
    let (entries, _) = split_to_fit(&batch.entries);
    let part = BatchFields { prev: batch.prev, head: batch.head, entries };
    FrameFields { req_id, number: number::PULLED, body: &part }.write_delimited(out);
}

/// As many conversations as fit one frame: `complete` tells whether that is all.
fn unread(
    total: u64,
    conversations: &[ConversationUnread],
    position: InboxSeq,
    explain: bool,
) -> proto::Unread {
    let all = conversations.len();
    let views = conversations.iter().map(|view| to::conversation_unread(view, explain));
    let mut left = SERVER_FRAME_BYTES_MAX - LIST_FRAME_BYTES;
    let conversations: Vec<_> =
        views.take_while(|view| take(&mut left, element_len(view))).collect();
    let complete = conversations.len() == all;
    proto::Unread { unread_total: total, conversations, position: position.number(), complete }
}

/// Devices in as many frames as they need. What does not fit the answer to a subscription comes as
/// pushes right behind it, which say the same.
fn write_presence(snapshot: Option<u64>, devices: &[DevicePresence], out: &mut BytesMut) {
    let mut snapshot = snapshot;
    let mut devices = devices.iter().map(to::device_presence).peekable();
    loop {
        let mut left = SERVER_FRAME_BYTES_MAX - LIST_FRAME_BYTES;
        let mut part = Vec::new();
        while let Some(device) = devices.next_if(|device| take(&mut left, element_len(device))) {
            part.push(device);
        }
        match snapshot.take() {
            Some(req_id) => {
                let snapshot = proto::PresenceSnapshot { devices: part };
                write_body(req_id, Body::PresenceSnapshot(snapshot), out);
            }
            None => write_body(0, Body::PresencePush(proto::PresencePush { devices: part }), out),
        }
        if devices.peek().is_none() {
            return;
        }
    }
}

/// Takes `len` from what is left, if it is there.
fn take(left: &mut usize, len: usize) -> bool {
    let rest = left.checked_sub(len);
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

/// Bytes of an element of a list, key and length included; its field number is below 16.
fn element_len(element: &impl Message) -> usize {
    let len = element.encoded_len();
    1 + prost::length_delimiter_len(len) + len
}

/// As many mutations as fit one frame: a page tells where to go on.
fn write_mutations(
    req_id: u64,
    mutations: &[(MutationSeq, PlacedMessage)],
    last: MutationSeq,
    complete: bool,
    out: &mut BytesMut,
) {
    let mut bytes = LIST_FRAME_BYTES;
    let fitting = mutations.iter().take_while(|item| {
        bytes += mutation_len(item);
        bytes <= SERVER_FRAME_BYTES_MAX
    });
    let kept = fitting.count().max(1).min(mutations.len());
    let page = match (mutations.get(..kept), kept < mutations.len()) {
        (Some(mutations), true) => {
            let last = mutations.last().map_or(last, |(seq, _)| *seq);
            MutationPageFields { mutations, last, complete: false }
        }
        _ => MutationPageFields { mutations, last, complete },
    };
    FrameFields { req_id, number: number::MUTATION_PAGE, body: &page }.write_delimited(out);
}

/// Every item has its place; those that would not fit say so.
fn write_items(req_id: u64, items: &[MessageItem], out: &mut BytesMut) {
    let body = ItemsFields { items, bytes_max: SERVER_FRAME_BYTES_MAX - LIST_FRAME_BYTES };
    FrameFields { req_id, number: number::MESSAGE_ITEMS, body: &body }.write_delimited(out);
}

/// As many entries as fit one frame, and the others. At least one: an entry holds at most what fitted
/// a client frame, and that is far below the limit.
fn split_to_fit(entries: &[EntryView]) -> (&[EntryView], &[EntryView]) {
    let mut bytes = LIST_FRAME_BYTES;
    let fitting = entries
        .iter()
        .take_while(|entry| {
            bytes += entry_len(entry);
            bytes <= SERVER_FRAME_BYTES_MAX
        })
        .count();
    entries.split_at(fitting.max(1).min(entries.len()))
}
