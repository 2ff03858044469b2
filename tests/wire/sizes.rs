//! Whatever is said, with everything in it as large as it may be: no frame passes the limit, and
//! nothing is lost by that.

use bytes::Bytes;
use prost::Message as _;
use roamd::{
    id::{ConversationId, DeviceId, UserId},
    limits::{
        CAUGHT_UP_CONVERSATIONS_MAX, CONTENT_TYPE_BYTES_MAX, DRAFT_BYTES_MAX, ENTRY_USERS_MAX,
        EPHEMERAL_BYTES_MAX, HIDE_PER_CALL_MAX, HINTS_MAX, HISTORY_PAGE_BYTES_MAX,
        HISTORY_PAGE_MAX, ITEMS_PER_CALL_MAX, LIST_PAGE_MAX, Limits, MEMBER_PAGE_MAX, MENTIONS_MAX,
        MESSAGE_REFS_MAX, MUTATION_PAGE_MAX, PLATFORM_BYTES_MAX, PREVIEW_BYTES_MAX,
        SERVER_FRAME_BYTES_MAX, SUBSCRIBE_PER_CALL_MAX, SUBSCRIPTIONS_MAX, TITLE_BYTES_MAX,
    },
    message::{
        ConversationKind, HistoryPolicy, MembershipAction, MembershipChange, Message, MutationRef,
        Preferences, Role,
    },
    refusal::ErrorCode,
    reply::{
        Batch, ConversationUnread, ConversationView, DevicePresence, DeviceView, EntryView,
        Ephemeral, LargeNews, MemberOutcome, MemberView, MessageItem, NoticeView, PlacedMessage,
        PresenceState, Reply,
    },
    request::LargeCursor,
    seq::{HistorySeq, InboxSeq, MutationSeq, NoticeSeq},
    time::Timestamp,
    wire::{
        self,
        proto::{self, server_frame::Body},
    },
};

use crate::batches::decoded;

const LAST: Timestamp = Timestamp::from_millis(u64::MAX);

fn seq() -> HistorySeq {
    HistorySeq::new(u64::MAX)
}

fn user() -> UserId {
    UserId::new(&"x".repeat(64)).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::new(&"x".repeat(64)).unwrap()
}

fn device() -> DeviceId {
    DeviceId::new(&"x".repeat(64)).unwrap()
}

fn label(bytes: usize) -> std::sync::Arc<str> {
    "t".repeat(bytes).into()
}

fn bytes(count: usize) -> Bytes {
    vec![7; count].into()
}

/// The only frame of a reply.
fn one(reply: &Reply) -> Body {
    let mut frames = decoded(u64::MAX, reply);
    assert_eq!(frames.len(), 1);
    let frame = frames.remove(0);
    let len = frame.encoded_len();
    assert!(len <= SERVER_FRAME_BYTES_MAX, "{len}");
    let body = frame.body.unwrap();
    assert!(!matches!(body, Body::Error(_)), "{body:?}");
    body
}

/// A message as heavy as `content` bytes and everything else at its limit make it.
fn heavy(content: usize) -> PlacedMessage {
    let id = "x".repeat(64);
    let user = UserId::new(&id).unwrap();
    let message = PlacedMessage::new(
        ConversationId::new(&id).unwrap(),
        HistorySeq::new(u64::MAX),
        Some(Message {
            id: roamd::id::MessageId::new(u64::MAX),
            sender: user.clone(),
            device: roamd::id::DeviceId::new(&id).unwrap(),
            client_id: roamd::id::ClientMessageId::new(u64::MAX),
            time: LAST,
            ordinal: u64::MAX,
            draft: roamd::message::Draft {
                created_at: LAST,
                content_type: label(CONTENT_TYPE_BYTES_MAX),
                content: bytes(content),
                reply_to: HistorySeq::new(u64::MAX),
                mentions: vec![user; MENTIONS_MAX],
                flags: roamd::message::MessageFlags {
                    silent: true,
                    uncounted: true,
                    no_push: true,
                },
            },
        }),
    );
    PlacedMessage { revision: u32::MAX, edited: LAST, ..message }
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
        mutation: MutationSeq::ZERO,
        complete: false,
    };
    // As many as the largest budget allows and one more, which is how a page may overshoot.
    let one = heavy(1024);
    let weight = one.message.as_ref().unwrap().weight();
    let mut messages = vec![one; HISTORY_PAGE_BYTES_MAX / weight];
    messages.push(heavy(128 * 1024));
    assert!(messages.len() <= HISTORY_PAGE_MAX as usize);
    assert!(matches!(decoded(3, &page(messages))[0].body, Some(Body::HistoryPage(_))));

    let frames = decoded(3, &page(vec![heavy(64 * 1024); 200]));
    let [proto::ServerFrame { req_id: 3, body: Some(Body::Error(error)) }] = &frames[..] else {
        panic!("{} frames", frames.len())
    };
    assert_eq!((error.code, error.fatal), (ErrorCode::Internal.number(), false));
}

/// One of every kind of entry.
fn entries() -> Vec<EntryView> {
    let time = LAST;
    let conversation = conversation();
    let mutation = MutationRef {
        conversation: conversation.clone(),
        seq: seq(),
        mutation: MutationSeq::new(u64::MAX),
        by: user(),
    };
    let change = |action| MembershipChange {
        conversation: conversation.clone(),
        action,
        by: user(),
        users: vec![user(); ENTRY_USERS_MAX],
        user_count: u32::MAX,
        member_count: u32::MAX,
        at: seq(),
        role: Some(Role::Owner),
        title: label(TITLE_BYTES_MAX),
    };
    let notice = NoticeView {
        notice: NoticeSeq::new(u64::MAX),
        content_type: label(CONTENT_TYPE_BYTES_MAX),
        content: bytes(64 * 1024),
        conversation: Some(conversation.clone()),
    };
    let damaged = PlacedMessage::new(conversation.clone(), seq(), None);
    vec![
        EntryView::Message { time, message: heavy(64 * 1024) },
        EntryView::Message { time, message: damaged.clone() },
        EntryView::Edited { time, mutation: MutationSeq::new(u64::MAX), message: damaged },
        EntryView::Edited { time, mutation: MutationSeq::new(u64::MAX), message: heavy(64 * 1024) },
        EntryView::Recalled { time, mutation: mutation.clone() },
        EntryView::Deleted { time, mutation },
        EntryView::Hidden {
            time,
            conversation: conversation.clone(),
            seqs: vec![seq(); HIDE_PER_CALL_MAX],
        },
        EntryView::Read {
            time,
            conversation: conversation.clone(),
            read_seq: seq(),
            marked_unread: true,
        },
        EntryView::PeerRead {
            time,
            conversation: conversation.clone(),
            user: user(),
            read_seq: seq(),
        },
        EntryView::Membership { time, change: change(MembershipAction::Created) },
        EntryView::Membership { time, change: change(MembershipAction::Title) },
        EntryView::Preferences {
            time,
            conversation: conversation.clone(),
            preferences: preferences(),
        },
        EntryView::Cleared { time, conversation: conversation.clone(), cleared_to: seq() },
        EntryView::Notice { time, notice },
        EntryView::Mode { time, conversation, large: true, from: seq() },
        EntryView::Hole { time, detail: "entry of a newer version" },
    ]
}

fn preferences() -> Preferences {
    Preferences { pinned: true, muted: true, hidden: true, draft: bytes(DRAFT_BYTES_MAX) }
}

#[test]
fn an_entry_is_never_heavier_than_it_says() {
    for entry in entries() {
        assert!(wire::entry_len(&entry) <= entry.weight(), "{entry:?}");
    }
}

#[test]
fn a_stream_of_everything_is_cut_and_joins() {
    let entries: Vec<_> = (0..20).flat_map(|_| entries()).collect();
    let count = entries.len() as u64;
    let batch = Batch { prev: InboxSeq::ZERO, head: InboxSeq::new(u64::MAX), entries };
    let mut at = 0;
    for frame in decoded(0, &Reply::SyncBatch(batch)) {
        assert!(frame.encoded_len() <= SERVER_FRAME_BYTES_MAX);
        let Some(Body::SyncBatch(batch)) = frame.body else { panic!() };
        assert_eq!((batch.prev_seq, batch.first_seq), (at, at + 1));
        at += batch.entries.len() as u64;
        assert_eq!(batch.last_seq, at);
    }
    assert_eq!(at, count);
}

#[test]
fn a_page_of_mutations_over_the_limit_says_where_to_go_on() {
    let mutation = |number: u64| (MutationSeq::new(number), heavy(64 * 1024));
    let last = u64::from(MUTATION_PAGE_MAX);
    let mut mutations: Vec<_> = (1..=last).map(mutation).collect();
    let mut seen = Vec::new();
    // As a client pages: each answer begins after the last one.
    while !mutations.is_empty() {
        let reply = Reply::MutationPage {
            mutations: mutations.clone(),
            // Later ones were passed over, because the user does not see them.
            last: MutationSeq::new(last + 7),
            complete: true,
        };
        let Body::MutationPage(page) = one(&reply) else { panic!() };
        seen.extend(page.mutations.iter().map(|mutation| mutation.mutation_seq));
        let kept = page.mutations.len();
        mutations.drain(..kept);
        let all = mutations.is_empty();
        assert_eq!(page.complete, all);
        let end = if all { last + 7 } else { *seen.last().unwrap() };
        assert_eq!(page.last_mutation_seq, end);
    }
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());

    let none =
        Reply::MutationPage { mutations: Vec::new(), last: MutationSeq::new(9), complete: true };
    let Body::MutationPage(page) = one(&none) else { panic!() };
    assert_eq!((page.mutations.len(), page.last_mutation_seq, page.complete), (0, 9, true));
}

/// Cause: with the frame full, an item that was not there was marked as skipped, and the client
/// asked for it again and again. Fix: what takes no room always fits.
#[test]
fn items_over_the_limit_are_skipped_each_in_its_place() {
    let mut items = vec![MessageItem::Found(heavy(64 * 1024)); MESSAGE_REFS_MAX];
    for gap in (0..MESSAGE_REFS_MAX).step_by(3) {
        items[gap] = MessageItem::Absent;
    }
    // A small one after many large ones still fits.
    items[MESSAGE_REFS_MAX - 1] =
        MessageItem::Found(PlacedMessage::new(conversation(), seq(), None));
    let Body::MessageItems(found) = one(&Reply::MessageItems(items.clone())) else { panic!() };
    assert_eq!(found.items.len(), items.len());
    let mut skipped = 0;
    for (item, asked) in found.items.iter().zip(&items) {
        let absent = *asked == MessageItem::Absent;
        if absent || item.skipped {
            assert_eq!(item.message, None);
            assert!(!absent || !item.skipped, "an absent item has nothing to wait for");
        } else {
            assert!(item.message.is_some());
        }
        skipped += usize::from(item.skipped);
    }
    assert!(skipped > 100, "{skipped}");
    assert!(found.items[MESSAGE_REFS_MAX - 1].message.is_some());
    // What was skipped comes when asked for again, so a client gets on.
    assert!(found.items[1].message.is_some());
}

fn view() -> ConversationView {
    ConversationView {
        conversation: conversation(),
        kind: ConversationKind::Group,
        title: label(TITLE_BYTES_MAX),
        peer: Some(user()),
        member_count: u32::MAX,
        role: Some(Role::Owner),
        policy: HistoryPolicy::Full,
        created: LAST,
        visible_first: seq(),
        visible_last: seq(),
        last_message: Some(heavy(64 * 1024)),
        activity: LAST,
        read_seq: seq(),
        unread: u64::MAX,
        unread_mentions: u64::MAX,
        marked_unread: true,
        mutation: MutationSeq::new(u64::MAX),
        preferences: preferences(),
        large: true,
        disbanded: true,
        hidden_count: u64::MAX,
        version: u64::MAX,
    }
}

#[test]
fn a_page_of_the_heaviest_conversations_fits_because_previews_are_cut() {
    let reply = Reply::ConversationPage {
        conversations: vec![view(); LIST_PAGE_MAX as usize],
        next_page_token: Bytes::from_static(b"next"),
        position: InboxSeq::new(4),
        unread_total: 5,
    };
    let Body::ConversationPage(page) = one(&reply) else { panic!("no page") };
    assert_eq!(page.conversations.len(), LIST_PAGE_MAX as usize);
    let first = &page.conversations[0];
    let last = first.last_message.as_ref().unwrap();
    assert_eq!((last.content.len(), last.mentions.len()), (PREVIEW_BYTES_MAX, 0));
    assert_eq!((last.revision, last.edited_at_ms), (u32::MAX, u64::MAX));
    assert_eq!(first.preferences.as_ref().unwrap().draft().len(), DRAFT_BYTES_MAX);
    assert!(first.last_message_cut && !page.complete);

    let items = vec![Some(view()); LIST_PAGE_MAX as usize];
    let items = one(&Reply::ConversationItems { items, position: InboxSeq::new(u64::MAX) });
    assert!(matches!(items, Body::ConversationItems(items) if items.items.len() == 200));
}

fn unread() -> ConversationUnread {
    ConversationUnread {
        conversation: conversation(),
        unread: u64::MAX,
        mentions: u64::MAX,
        marked_unread: true,
        read_seq: seq(),
        visible_last: seq(),
        last_ordinal: u64::MAX,
        read_ordinal: u64::MAX,
        removed: u64::MAX,
    }
}

#[test]
fn caught_up_names_all_it_may() {
    let hint = LargeCursor {
        conversation: conversation(),
        history: seq(),
        mutation: MutationSeq::new(u64::MAX),
        version: u64::MAX,
    };
    let reply = Reply::CaughtUp {
        seq: InboxSeq::new(u64::MAX),
        unread_total: u64::MAX,
        changed: vec![unread(); CAUGHT_UP_CONVERSATIONS_MAX],
        complete: true,
        hints: vec![hint; HINTS_MAX],
    };
    let Body::CaughtUp(told) = one(&reply) else { panic!() };
    assert_eq!((told.changed.len(), told.hints.len()), (CAUGHT_UP_CONVERSATIONS_MAX, HINTS_MAX));
    let hint = &told.hints[0];
    let numbers = (hint.history_seq, hint.mutation_seq, hint.version);
    assert_eq!(numbers, (u64::MAX, u64::MAX, u64::MAX));
}

#[test]
fn unread_of_more_than_a_frame_holds_says_so() {
    let reply = |count| Reply::Unread {
        total: 7,
        conversations: vec![unread(); count],
        position: InboxSeq::new(u64::MAX),
        explain: true,
    };
    for (count, complete) in [
        (ITEMS_PER_CALL_MAX, true),
        (Limits::default().conversations_per_user, true),
        (20_000, false),
    ] {
        let Body::Unread(told) = one(&reply(count)) else { panic!() };
        assert_eq!((told.unread_total, told.complete), (7, complete));
        assert_eq!(told.conversations.len() == count, complete);
        assert!(told.conversations.len() >= ITEMS_PER_CALL_MAX);
    }
}

fn presence() -> DevicePresence {
    DevicePresence { user: user(), device: device(), state: PresenceState::Background, since: LAST }
}

/// Cause: a thousand users with 16 devices each took more than a frame, and an error took the place
/// of the push, which is never told again. Fix: more than one push.
#[test]
fn presence_of_more_than_a_frame_holds_goes_on_in_pushes() {
    let devices = Limits::default().devices_per_user;
    let some = vec![presence(); SUBSCRIBE_PER_CALL_MAX * devices];
    let Body::PresenceSnapshot(snapshot) = one(&Reply::PresenceSnapshot(some.clone())) else {
        panic!()
    };
    assert_eq!(snapshot.devices.len(), some.len());
    assert!(matches!(
        one(&Reply::PresenceSnapshot(Vec::new())),
        Body::PresenceSnapshot(none) if none.devices.is_empty()
    ));

    let all = vec![presence(); SUBSCRIPTIONS_MAX * devices];
    for (req_id, reply) in
        [(0, Reply::PresencePush(all.clone())), (9, Reply::PresenceSnapshot(all.clone()))]
    {
        let frames = decoded(req_id, &reply);
        assert!(frames.len() > 2);
        assert!(frames.iter().all(|frame| frame.encoded_len() <= SERVER_FRAME_BYTES_MAX));
        let mut told = 0;
        for (number, frame) in frames.into_iter().enumerate() {
            told += match frame.body.unwrap() {
                Body::PresenceSnapshot(part) => {
                    assert_eq!((frame.req_id, number), (9, 0));
                    part.devices.len()
                }
                Body::PresencePush(part) => {
                    assert_eq!(frame.req_id, 0);
                    assert!(number > 0 || req_id == 0);
                    part.devices.len()
                }
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(told, all.len());
    }
}

#[test]
fn everything_else_fits_at_its_limit() {
    let own = DeviceView {
        device: device(),
        platform: label(PLATFORM_BYTES_MAX),
        state: PresenceState::Background,
        first_seen: LAST,
        last_seen: LAST,
        cursor: InboxSeq::new(u64::MAX),
        push_registered: true,
    };
    // What an operator may allow is far above the default.
    let Body::DevicePage(page) = one(&Reply::DevicePage(vec![own; 4000])) else { panic!() };
    assert_eq!(page.devices.len(), 4000);

    let member = MemberView { user: user(), role: Role::Owner, joined_seq: seq(), joined: LAST };
    one(&Reply::MemberPage {
        members: vec![member; MEMBER_PAGE_MAX as usize],
        next_page_token: bytes(200),
        member_count: u32::MAX,
        version: u64::MAX,
    });
    let readers = one(&Reply::ReaderPage {
        users: vec![user(); MEMBER_PAGE_MAX as usize],
        reader_count: u32::MAX,
        next_page_token: bytes(200),
    });
    let Body::ReaderPage(readers) = readers else { panic!() };
    assert_eq!((readers.user_ids.len(), readers.complete), (MEMBER_PAGE_MAX as usize, false));
    one(&Reply::MemberItems {
        outcomes: vec![MemberOutcome::Limit; ITEMS_PER_CALL_MAX],
        member_count: u32::MAX,
        inbox_seq: InboxSeq::new(u64::MAX),
    });
    one(&Reply::EphemeralPush(std::sync::Arc::new(Ephemeral {
        conversation: conversation(),
        sender: user(),
        device: device(),
        content_type: label(CONTENT_TYPE_BYTES_MAX),
        content: bytes(EPHEMERAL_BYTES_MAX),
    })));
    let prev = MutationSeq::new(u64::MAX);
    for news in [
        LargeNews::Message { message: heavy(128 * 1024), prev: seq() },
        LargeNews::Mutation { message: heavy(128 * 1024), mutation: prev, prev },
        LargeNews::Version { conversation: conversation(), version: u64::MAX },
    ] {
        one(&Reply::ConversationPush(Box::new(news)));
    }
    one(&Reply::UnreadPush { total: u64::MAX, position: InboxSeq::new(u64::MAX) });
}
