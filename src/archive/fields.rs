//! What a record or a row says, as named values for people and other programs. None when it has no
//! form that this program knows.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    conversation::{Conversation, Hidden, Member, Membership, Preference},
    history::{self, Change, Mutated, Mutation},
    id::{ConversationId, DeviceId, UserId},
    inbox::{self, Device, Revocation},
    message::{
        ConversationKind, EntryKind, HistoryPolicy, MembershipAction, MembershipChange,
        MutationRef, Role,
    },
    notice::{self, Notice},
    push::{Kind, Outbox, Round, Target},
    request::NoticeTo,
    sent::Remembered,
    store::{
        catalogue::{LogKind, Table, first_id, last_seq, second_id},
        codec::{read_id, read_varint},
    },
};

/// Named values in the order in which they are written.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// Collects named values.
macro_rules! fields {
    ($($name:literal : $value:expr),* $(,)?) => { vec![$(($name, json!($value))),*] };
}

/// Bytes as text if they are some, otherwise in base64.
fn content(bytes: &Bytes) -> (&'static str, Value) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("content", json!(text)),
        Err(_) => ("content_base64", json!(BASE64_STANDARD.encode(bytes))),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

/// Whose or which log or row a key names.
pub(super) fn of_log(kind: LogKind, key: &Bytes) -> Fields {
    match kind {
        LogKind::Inbox => fields! { "user": first_id::<UserId>(key).map(text) },
        LogKind::History | LogKind::Mutation => {
            fields! { "conversation": first_id::<ConversationId>(key).map(text) }
        }
        LogKind::Sent => fields! {
            "user": first_id::<UserId>(key).map(text),
            "device": second_id::<DeviceId>(key).map(text),
        },
        LogKind::Notice => Fields::new(),
    }
}

/// Whose or which row a key names.
pub(super) fn of_row(table: Table, key: &Bytes) -> Fields {
    let user = || first_id::<UserId>(key).map(text);
    let conversation = || first_id::<ConversationId>(key).map(text);
    let second = || second_id::<ConversationId>(key).map(text);
    let device = || second_id::<DeviceId>(key).map(text);
    match table {
        Table::Conversation | Table::PushRound => fields! { "conversation": conversation() },
        Table::Membership | Table::Preference => {
            fields! { "user": user(), "conversation": second() }
        }
        Table::Member => {
            fields! { "conversation": conversation(), "user": second_id::<UserId>(key).map(text) }
        }
        Table::Device | Table::PushTarget | Table::Revocation => {
            fields! { "user": user(), "device": device() }
        }
        Table::SentException => {
            fields! { "user": user(), "device": device(), "client_id": last_seq(key) }
        }
        Table::Counter => fields! { "name": String::from_utf8_lossy(key) },
        Table::Mutated => {
            fields! { "conversation": conversation(), "history_seq": last_seq(key) }
        }
        Table::Hidden | Table::Mention => fields! {
            "user": user(), "conversation": second(), "history_seq": last_seq(key),
        },
        Table::PushJob => {
            let mut ids = key.clone();
            let third = || {
                read_id::<UserId>(&mut ids).ok()?;
                read_id::<DeviceId>(&mut ids).ok()?;
                read_id::<ConversationId>(&mut ids).ok().map(text)
            };
            let mut third = third;
            fields! { "user": user(), "device": device(), "conversation": third() }
        }
        Table::NoticeRound => fields! { "notice": last_seq(key) },
    }
}

fn text(id: impl ToString) -> String {
    id.to_string()
}

/// An entry of a log.
pub(super) fn entry(kind: LogKind, record: &Bytes) -> Option<Fields> {
    match kind {
        LogKind::Inbox => inbox_entry(record),
        LogKind::History => message(record),
        LogKind::Sent => sent(record),
        LogKind::Mutation => mutation(record),
        LogKind::Notice => {
            let it = Notice::decode(record.clone()).ok()?;
            let to = match &it.to {
                NoticeTo::User(user) => ("to_user", json!(user.as_str())),
                NoticeTo::Conversation(id) => ("to_conversation", json!(id.as_str())),
                NoticeTo::Everyone => ("to_everyone", json!(true)),
            };
            let mut fields = vec![to];
            fields.extend(fields! {
                "by": it.by.as_str(), "time": it.time.millis(), "content_type": &*it.content_type,
            });
            fields.push(content(&it.content));
            Some(fields)
        }
    }
}

fn message(record: &Bytes) -> Option<Fields> {
    let it = history::decode(record.clone()).ok()?;
    let draft = &it.draft;
    let mentions: Vec<_> = draft.mentions.iter().map(UserId::as_str).collect();
    let mut fields = fields! {
        "message_id": it.id.number(),
        "sender": it.sender.as_str(),
        "device": it.device.as_str(),
        "client_id": it.client_id.number(),
        "time": it.time.millis(),
        "created_at": draft.created_at.millis(),
        "ordinal": it.ordinal,
        "reply_to": draft.reply_to.number(),
        "mentions": mentions,
        "silent": draft.flags.silent,
        "uncounted": draft.flags.uncounted,
        "no_push": draft.flags.no_push,
        "content_type": &*draft.content_type,
    };
    fields.push(content(&draft.content));
    Some(fields)
}

fn mutation(record: &Bytes) -> Option<Fields> {
    let it = Mutation::decode(record.clone()).ok()?;
    let what = match &it.change {
        Change::Recalled => "recalled",
        Change::Edited { .. } => "edited",
        Change::Deleted => "deleted",
    };
    let mut fields = fields! {
        "change": what,
        "history_seq": it.seq.number(),
        "previous": it.previous.number(),
        "by": it.by.as_str(),
        "time": it.time.millis(),
    };
    if let Change::Edited { revision, content_type, content: new } = &it.change {
        fields.extend(fields! { "revision": revision, "content_type": &**content_type });
        fields.push(content(new));
    }
    Some(fields)
}

fn sent(record: &Bytes) -> Option<Fields> {
    let hash = |hash: u64| format!("{hash:016x}");
    Some(match Remembered::decode(record.clone()).ok()? {
        Remembered::Accepted(it) => fields! {
            "what": "accepted",
            "client_id": it.client_id.number(),
            "hash": hash(it.payload_hash),
            "time": it.time.millis(),
            "conversation": it.conversation.as_str(),
            "history_seq": it.seq.number(),
            "message_id": it.id.number(),
            "inbox_seq": it.inbox_seq.number(),
        },
        Remembered::Notice(it) => fields! {
            "what": "notice",
            "client_id": it.client_id.number(),
            "hash": hash(it.payload_hash),
            "time": it.time.millis(),
            "notice": it.notice.number(),
            "inbox_seq": it.inbox_seq.number(),
        },
        Remembered::UsedUp { client_id, time } => fields! {
            "what": "given_up", "client_id": client_id.number(), "time": time.millis(),
        },
    })
}

fn inbox_entry(record: &Bytes) -> Option<Fields> {
    let entry = inbox::decode(record.clone()).ok()?;
    let changed = |it: &MutationRef| {
        fields! {
            "conversation": it.conversation.as_str(),
            "history_seq": it.seq.number(),
            "mutation_seq": it.mutation.number(),
            "by": it.by.as_str(),
        }
    };
    let (kind, rest) = match &entry.kind {
        EntryKind::Message { conversation, seq } => (
            "message",
            fields! {
                "conversation": conversation.as_str(), "history_seq": seq.number(),
            },
        ),
        EntryKind::Read { conversation, read_seq, marked_unread } => (
            "read",
            fields! {
                "conversation": conversation.as_str(),
                "read_seq": read_seq.number(),
                "marked_unread": marked_unread,
            },
        ),
        EntryKind::Membership(it) => ("membership", membership_change(it)),
        EntryKind::Recalled(it) => ("recalled", changed(it)),
        EntryKind::Edited(it) => ("edited", changed(it)),
        EntryKind::Deleted(it) => ("deleted", changed(it)),
        EntryKind::Hidden { conversation, seqs } => {
            let seqs: Vec<_> = seqs.iter().map(|seq| seq.number()).collect();
            ("hidden", fields! { "conversation": conversation.as_str(), "history_seqs": seqs })
        }
        EntryKind::PeerRead { conversation, user, read_seq } => (
            "peer_read",
            fields! {
                "conversation": conversation.as_str(),
                "user": user.as_str(),
                "read_seq": read_seq.number(),
            },
        ),
        EntryKind::Preferences { conversation } => {
            ("preferences", fields! { "conversation": conversation.as_str() })
        }
        EntryKind::Cleared { conversation, cleared_to } => (
            "cleared",
            fields! {
                "conversation": conversation.as_str(), "cleared_to": cleared_to.number(),
            },
        ),
        EntryKind::Notice { notice } => ("notice", fields! { "notice": notice.number() }),
        EntryKind::Mode { conversation, large, from } => (
            "mode",
            fields! {
                "conversation": conversation.as_str(), "large": large, "from": from.number(),
            },
        ),
        EntryKind::Unknown => return None,
    };
    let mut fields = fields! { "time": entry.time.millis(), "kind": kind };
    fields.extend(rest);
    Some(fields)
}

fn membership_change(it: &MembershipChange) -> Fields {
    let action = match it.action {
        MembershipAction::Created => "created",
        MembershipAction::Added => "added",
        MembershipAction::Removed => "removed",
        MembershipAction::Left => "left",
        MembershipAction::Role => "role",
        MembershipAction::Disbanded => "disbanded",
        MembershipAction::Title => "title",
    };
    let users: Vec<_> = it.users.iter().map(UserId::as_str).collect();
    fields! {
        "conversation": it.conversation.as_str(),
        "action": action,
        "by": it.by.as_str(),
        "users": users,
        "user_count": it.user_count,
        "member_count": it.member_count,
        "at": it.at.number(),
        "role": it.role.map(role),
        "title": &*it.title,
    }
}

/// A row of a table.
pub(super) fn row(table: Table, row: &Bytes) -> Option<Fields> {
    let bytes = row.clone();
    Some(match table {
        Table::Conversation => conversation(&Conversation::decode(bytes).ok()?),
        Table::Membership => membership(&Membership::decode(bytes).ok()?),
        Table::Member => {
            let it = Member::decode(bytes).ok()?;
            fields! {
                "role": role(it.role),
                "joined_seq": it.joined_seq.number(),
                "joined": it.joined.millis(),
            }
        }
        Table::Device => {
            let it = Device::decode(bytes).ok()?;
            fields! {
                "cursor": it.cursor.number(),
                "first_seen": it.first_seen.millis(),
                "last_seen": it.last_seen.millis(),
                "platform": &*it.platform,
            }
        }
        Table::SentException => return sent(row),
        Table::Counter => fields! { "value": read_varint(&mut row.clone()).ok()? },
        Table::Mutated => {
            let it = Mutated::decode(bytes).ok()?;
            fields! {
                "mutation_seq": it.mutation.number(), "gone": it.gone, "counted": it.counted,
            }
        }
        Table::Hidden => fields! { "counted": Hidden::decode(bytes).ok()?.counted },
        Table::Mention => Fields::new(),
        Table::Preference => {
            let it = Preference::decode(bytes).ok()?;
            let mut fields = fields! {
                "pinned": it.wanted.pinned,
                "muted": it.wanted.muted,
                "hidden": it.wanted.hidden,
                "untold": it.untold,
            };
            let (name, value) = content(&it.wanted.draft);
            fields.push((if name == "content" { "draft" } else { "draft_base64" }, value));
            fields
        }
        Table::PushTarget => {
            let it = Target::decode(bytes).ok()?;
            fields! {
                "provider": &*it.provider,
                "registered": it.registered.millis(),
                "foreground": it.attended,
            }
        }
        Table::PushJob => push_job(&Outbox::decode(bytes).ok()?),
        Table::PushRound => {
            let it = Round::decode(bytes).ok()?;
            fields! {
                "running": it.running,
                "recalled": it.recalled,
                "started": it.started.millis(),
                "told_of": it.upto.number(),
                "newest": it.newest.number(),
                "after": it.after.map(text),
            }
        }
        Table::Revocation => fields! { "time": Revocation::decode(bytes).ok()?.time.millis() },
        Table::NoticeRound => fields! { "told": notice::Round::decode(bytes).ok()?.told },
    })
}

fn conversation(it: &Conversation) -> Fields {
    let kind = match it.kind {
        ConversationKind::Direct => "direct",
        ConversationKind::Group => "group",
    };
    let (policy, last) = match it.policy {
        HistoryPolicy::SinceJoin => ("since_join", None),
        HistoryPolicy::LastN(last) => ("last_n", Some(last)),
        HistoryPolicy::Full => ("full", None),
    };
    fields! {
        "kind": kind,
        "version": it.version,
        "title": &*it.title,
        "created": it.created.millis(),
        "creator": it.creator.as_str(),
        "policy": policy,
        "last_n": last,
        "members": it.member_count,
        "large": it.large,
        "disbanded": it.disbanded,
    }
}

fn membership(it: &Membership) -> Fields {
    let intervals: Vec<_> = it
        .intervals
        .iter()
        .map(|interval| json!([interval.first.number(), interval.last.map(|last| last.number())]))
        .collect();
    fields! {
        "role": it.role.map(role),
        "joined": it.joined.millis(),
        "read_seq": it.read_seq.number(),
        "read_ordinal": it.read_ordinal,
        "announced_seq": it.announced_seq.number(),
        "intervals": intervals,
        "left_ordinal": it.left_ordinal,
        "left_mutation": it.left_mutation.number(),
        "left_title": &*it.left_title,
        "cleared_to": it.cleared_to.number(),
        "marked_unread": it.marked_unread,
        "hidden_max": it.hidden_max.number(),
        "hidden_count": it.hidden_count,
        "mention_max": it.mention_max.number(),
        "peer_visible_seq": it.peer_visible_seq.number(),
        "peer_told_seq": it.peer_told_seq.number(),
    }
}

fn push_job(it: &Outbox) -> Fields {
    let kind = |kind: Kind| match kind {
        Kind::Message => "message",
        Kind::Read => "read",
        Kind::Recalled => "recalled",
    };
    let mut fields = Fields::new();
    if let Some(wanted) = it.wanted {
        fields.extend(fields! {
            "kind": kind(wanted.kind),
            "job_id": wanted.id,
            "history_seq": wanted.seq.number(),
            "inbox_seq": wanted.entry.number(),
            "mention": wanted.mention,
            "since": wanted.since.millis(),
            "due": wanted.due.millis(),
            "attempts": wanted.attempts,
        });
    }
    if let Some(shown) = it.shown {
        fields.extend(fields! {
            "shown_seq": shown.seq.number(),
            "shown_at": shown.at.millis(),
            "shown_sure": shown.sure,
            "shown_before": shown.before.number(),
            "untrue": shown.untrue.map(|(why, _)| kind(why)),
            "untrue_seq": shown.untrue.map(|(_, seq)| seq.number()),
        });
    }
    fields
}
