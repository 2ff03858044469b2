//! The shapes of `src/wire/raw.rs` once more, through generated types.

use roamd::{
    message::{MembershipAction, MessageState, MutationRef, Role},
    reply::{Batch, EntryView, LargeNews, MessageItem, PlacedMessage},
    seq::MutationSeq,
    wire::proto::{self, entry::Kind},
};

pub fn message(placed: &PlacedMessage) -> proto::Message {
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
        state: match placed.state {
            MessageState::Normal => 1,
            MessageState::Recalled => 2,
            MessageState::Deleted => 3,
            MessageState::Hidden => 4,
        },
        revision: placed.revision,
        edited_at_ms: placed.edited.millis(),
        ..place
    }
}

/// The message, or the hole that stands for it.
fn whole(placed: &PlacedMessage, kind: impl FnOnce(proto::Message) -> Kind) -> Kind {
    match placed.message {
        Some(_) => kind(message(placed)),
        None => Kind::Hole(proto::Hole { detail: "the message is damaged".into() }),
    }
}

fn gone(mutation: &MutationRef) -> (String, u64, String, u64) {
    let MutationRef { conversation, seq, mutation, by } = mutation;
    (conversation.to_string(), seq.number(), by.to_string(), mutation.number())
}

fn role(role: Role) -> i32 {
    match role {
        Role::Member => 1,
        Role::Admin => 2,
        Role::Owner => 3,
    }
}

pub fn entry(entry: &EntryView) -> proto::Entry {
    let (time, kind) = match entry {
        EntryView::Message { time, message } => (time, whole(message, Kind::Message)),
        EntryView::Edited { time, mutation, message } => {
            let mutation_seq = mutation.number();
            let kind = |message| {
                let message = Some(message);
                Kind::Edited(proto::MessageEdited { message, mutation_seq })
            };
            (time, whole(message, kind))
        }
        EntryView::Recalled { time, mutation } => {
            let (conversation_id, history_seq, by, mutation_seq) = gone(mutation);
            let recalled =
                proto::MessageRecalled { conversation_id, history_seq, by, mutation_seq };
            (time, Kind::Recalled(recalled))
        }
        EntryView::Deleted { time, mutation } => {
            let (conversation_id, history_seq, by, mutation_seq) = gone(mutation);
            let deleted = proto::MessageDeleted { conversation_id, history_seq, by, mutation_seq };
            (time, Kind::Deleted(deleted))
        }
        EntryView::Hidden { time, conversation, seqs } => (
            time,
            Kind::Hidden(proto::MessageHidden {
                conversation_id: conversation.to_string(),
                history_seqs: seqs.iter().map(|seq| seq.number()).collect(),
            }),
        ),
        EntryView::PeerRead { time, conversation, user, read_seq } => (
            time,
            Kind::PeerRead(proto::PeerRead {
                conversation_id: conversation.to_string(),
                user_id: user.to_string(),
                read_seq: read_seq.number(),
            }),
        ),
        EntryView::Preferences { time, conversation, preferences } => (
            time,
            Kind::Preferences(proto::Preferences {
                conversation_id: conversation.to_string(),
                pinned: Some(preferences.pinned),
                muted: Some(preferences.muted),
                hidden: Some(preferences.hidden),
                draft: Some(preferences.draft.clone()),
            }),
        ),
        EntryView::Cleared { time, conversation, cleared_to } => (
            time,
            Kind::Cleared(proto::ConversationCleared {
                conversation_id: conversation.to_string(),
                cleared_to_seq: cleared_to.number(),
            }),
        ),
        EntryView::Notice { time, notice } => (
            time,
            Kind::Notice(proto::Notice {
                notice_id: notice.notice.number(),
                content_type: notice.content_type.to_string(),
                content: notice.content.clone(),
                conversation_id: notice
                    .conversation
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            }),
        ),
        EntryView::Mode { time, conversation, large, from } => (
            time,
            Kind::Mode(proto::ModeChange {
                conversation_id: conversation.to_string(),
                large: *large,
                history_seq: from.number(),
            }),
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
                role: change.role.map_or(0, role),
                title: change.title.to_string(),
            }),
        ),
        EntryView::Hole { time, detail } => {
            (time, Kind::Hole(proto::Hole { detail: (*detail).into() }))
        }
    };
    proto::Entry { time_ms: time.millis(), kind: Some(kind) }
}

pub fn batch(batch: &Batch) -> proto::SyncBatch {
    proto::SyncBatch {
        prev_seq: batch.prev.number(),
        first_seq: batch.prev.number() + 1,
        last_seq: batch.prev.number() + batch.entries.len() as u64,
        head_seq: batch.head.number(),
        entries: batch.entries.iter().map(entry).collect(),
    }
}

pub fn push(news: &LargeNews) -> proto::ConversationPush {
    let about = |placed: &PlacedMessage| proto::ConversationPush {
        message: Some(message(placed)),
        conversation_id: placed.conversation.to_string(),
        ..Default::default()
    };
    match news {
        LargeNews::Message { message, prev } => {
            proto::ConversationPush { prev_history_seq: prev.number(), ..about(message) }
        }
        LargeNews::Mutation { message, mutation, prev } => proto::ConversationPush {
            mutation_seq: mutation.number(),
            prev_mutation_seq: prev.number(),
            ..about(message)
        },
        LargeNews::Version { conversation, version } => proto::ConversationPush {
            conversation_id: conversation.to_string(),
            version: *version,
            ..Default::default()
        },
    }
}

pub fn mutations(
    mutations: &[(MutationSeq, PlacedMessage)],
    last: MutationSeq,
    complete: bool,
) -> proto::MutationPage {
    let one = |(mutation, placed): &(MutationSeq, PlacedMessage)| proto::Mutation {
        mutation_seq: mutation.number(),
        message: Some(message(placed)),
    };
    proto::MutationPage {
        mutations: mutations.iter().map(one).collect(),
        last_mutation_seq: last.number(),
        complete,
    }
}

pub fn items(items: &[MessageItem]) -> proto::MessageItems {
    let one = |item: &MessageItem| match item {
        MessageItem::Found(placed) => {
            proto::MessageItem { message: Some(Box::new(message(placed))), skipped: false }
        }
        MessageItem::Absent => proto::MessageItem::default(),
        MessageItem::Skipped => proto::MessageItem { message: None, skipped: true },
    };
    proto::MessageItems { items: items.iter().map(one).collect() }
}
