//! Entries of an inbox, large conversations and pushes as people and programs see them: a line, and
//! named values.

use super::show::{self, time};
use crate::{
    cli::output::{Fields, Output, harmless},
    client::{Event, LargeEvent, LargeNews},
    wire::proto::{self, entry::Kind},
};

/// One entry.
pub(super) fn entry(seq: u64, entry: &proto::Entry, output: Output) -> (String, Fields) {
    let mut fields: Fields = vec![("inbox_seq", seq.into())];
    let at = output.dim(&time(entry.time_ms));
    let (kind, more, text) = told(entry.kind.as_ref(), output);
    fields.push(("kind", kind.into()));
    fields.extend(more);
    let line = match &entry.kind {
        Some(Kind::Message(message)) => show::received(message, output),
        _ => format!("{at}  {text}"),
    };
    (line, fields)
}

/// The name of a kind, what an entry of it says, and that in words.
fn told(kind: Option<&Kind>, output: Output) -> (&'static str, Fields, String) {
    match kind {
        Some(Kind::Message(message)) => ("message", show::message_fields(message), String::new()),
        Some(Kind::Recalled(it)) => {
            let what = [&it.conversation_id, &it.by];
            gone("recalled", what, it.history_seq, it.mutation_seq)
        }
        Some(Kind::Deleted(it)) => {
            let what = [&it.conversation_id, &it.by];
            gone("deleted", what, it.history_seq, it.mutation_seq)
        }
        Some(Kind::Edited(it)) => {
            let message = it.message.clone().unwrap_or_default();
            let mut fields = show::message_fields(&message);
            fields.push(("mutation_seq", it.mutation_seq.into()));
            ("edited", fields, changed(&message, output))
        }
        Some(Kind::Hidden(it)) => {
            let seqs: Vec<_> = it.history_seqs.iter().map(|seq| format!("#{seq}")).collect();
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("history_seqs", it.history_seqs.clone().into()),
            ];
            let text = format!("{} {}  deleted for you", it.conversation_id, seqs.join(" "));
            ("hidden", fields, text)
        }
        Some(Kind::Read(it)) => {
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("read_seq", it.read_seq.into()),
                ("marked_unread", it.marked_unread.into()),
            ];
            let mark = if it.marked_unread { ", marked as unread" } else { "" };
            ("read", fields, format!("{}  read up to #{}{mark}", it.conversation_id, it.read_seq))
        }
        Some(Kind::PeerRead(it)) => {
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("user", it.user_id.as_str().into()),
                ("read_seq", it.read_seq.into()),
            ];
            let user = harmless(&it.user_id);
            let text = format!("{}  {user} has read up to #{}", it.conversation_id, it.read_seq);
            ("peer_read", fields, text)
        }
        Some(Kind::Membership(change)) => membership(change),
        Some(Kind::Preferences(it)) => {
            let draft = String::from_utf8_lossy(it.draft()).into_owned();
            let mut set: Vec<_> =
                [(it.pinned(), "pinned"), (it.muted(), "muted"), (it.hidden(), "hidden")]
                    .iter()
                    .filter(|(set, _)| *set)
                    .map(|(_, name)| (*name).to_owned())
                    .collect();
            if !draft.is_empty() {
                set.push(format!("draft \"{}\"", harmless(&draft)));
            }
            let text = if set.is_empty() { "nothing".to_owned() } else { set.join(", ") };
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("pinned", it.pinned().into()),
                ("muted", it.muted().into()),
                ("hidden", it.hidden().into()),
                ("draft", draft.into()),
            ];
            ("preferences", fields, format!("{}  preferences: {text}", it.conversation_id))
        }
        Some(Kind::Cleared(it)) => {
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("cleared_to_seq", it.cleared_to_seq.into()),
            ];
            let text = format!("{}  cleared up to #{}", it.conversation_id, it.cleared_to_seq);
            ("cleared", fields, text)
        }
        Some(Kind::Notice(it)) => notice(it, output),
        Some(Kind::Mode(it)) => {
            let fields = vec![
                ("conversation", it.conversation_id.as_str().into()),
                ("large", it.large.into()),
                ("from_seq", it.history_seq.into()),
            ];
            let how = if it.large { "a large group" } else { "no longer a large group" };
            let text = format!("{}  {how} from #{} on", it.conversation_id, it.history_seq);
            ("mode", fields, text)
        }
        Some(Kind::Hole(hole)) => {
            let fields = vec![("detail", hole.detail.as_str().into())];
            ("hole", fields, format!("a damaged entry: {}", harmless(&hole.detail)))
        }
        None => {
            let text = "an entry of a kind this program does not know";
            ("other", Vec::new(), text.to_owned())
        }
    }
}

fn gone(
    kind: &'static str,
    [conversation, by]: [&String; 2],
    seq: u64,
    mutation: u64,
) -> (&'static str, Fields, String) {
    let fields = vec![
        ("conversation", conversation.as_str().into()),
        ("history_seq", seq.into()),
        ("by", by.as_str().into()),
        ("mutation_seq", mutation.into()),
    ];
    (kind, fields, format!("{conversation} #{seq}  {kind} by {}", harmless(by)))
}

fn changed(message: &proto::Message, output: Output) -> String {
    format!(
        "{} #{}  {} now: {}",
        message.conversation_id,
        message.history_seq,
        output.bold(&harmless(&message.sender)),
        show::body(message)
    )
}

fn membership(change: &proto::MembershipChange) -> (&'static str, Fields, String) {
    let action = change.action().as_str_name().trim_start_matches("MEMBERSHIP_ACTION_");
    let action = action.to_lowercase();
    let role = change.role().as_str_name().trim_start_matches("ROLE_").to_lowercase();
    let mut fields: Fields = vec![
        ("conversation", change.conversation_id.as_str().into()),
        ("action", action.as_str().into()),
        ("by", change.by.as_str().into()),
        ("users", change.users.clone().into()),
        ("user_count", change.user_count.into()),
        ("member_count", change.member_count.into()),
        ("title", change.title.as_str().into()),
    ];
    let mut text = format!("{}  {} {action}", change.conversation_id, harmless(&change.by));
    if !change.users.is_empty() {
        text.push_str(&format!(" {}", harmless(&change.users.join(" "))));
    }
    let unnamed = (change.user_count as usize).saturating_sub(change.users.len());
    if unnamed > 0 {
        text.push_str(&format!(" and {unnamed} more"));
    }
    if change.action() == proto::MembershipAction::Role {
        text.push_str(&format!(" {role}"));
        fields.push(("role", role.into()));
    }
    if !change.title.is_empty() {
        text.push_str(&format!("  \"{}\"", harmless(&change.title)));
    }
    ("membership", fields, text)
}

fn notice(notice: &proto::Notice, output: Output) -> (&'static str, Fields, String) {
    let mut fields: Fields = vec![
        ("notice_id", notice.notice_id.into()),
        ("conversation", notice.conversation_id.as_str().into()),
        ("content_type", notice.content_type.as_str().into()),
    ];
    let text = match std::str::from_utf8(&notice.content) {
        Ok(text) => {
            fields.push(("text", text.into()));
            harmless(text)
        }
        Err(_) => {
            fields.push(("content_hex", show::hex(&notice.content).into()));
            let kind = harmless(&notice.content_type);
            format!("({} bytes of {kind})", notice.content.len())
        }
    };
    let to = match notice.conversation_id.as_str() {
        "" => String::new(),
        conversation => format!(" to {conversation}"),
    };
    ("notice", fields, format!("{}{to}: {text}", output.bold("SYSTEM NOTICE")))
}

/// What comes of a large conversation.
pub(super) fn large(event: &LargeEvent, output: Output) -> (String, Fields) {
    let conversation = &event.cursor.conversation_id;
    let place = |kind: &'static str| -> Fields {
        vec![("kind", kind.into()), ("conversation", conversation.as_str().into())]
    };
    match &event.news {
        LargeNews::Message(message) => {
            let mut fields: Fields = vec![("kind", "message".into()), ("large", true.into())];
            fields.extend(show::message_fields(message));
            (show::received(message, output), fields)
        }
        LargeNews::Changed(message) => {
            let mut fields: Fields = vec![("kind", "changed".into()), ("large", true.into())];
            fields.extend(show::message_fields(message));
            fields.push(("mutation_seq", event.cursor.mutation_seq.into()));
            let at = output.dim(&time(message.edited_at_ms.max(message.time_ms)));
            (format!("{at}  {}", changed(message, output)), fields)
        }
        LargeNews::Begins => {
            let after = event.cursor.history_seq;
            let mut fields = place("large_begins");
            fields.push(("after_seq", after.into()));
            (format!("{conversation}  followed as a large group after #{after}"), fields)
        }
        LargeNews::Version => {
            let mut fields = place("large_version");
            fields.push(("version", event.cursor.version.into()));
            (format!("{conversation}  members or settings have changed"), fields)
        }
        LargeNews::Ends => {
            let line = format!("{conversation}  no longer followed as a large group");
            (line, place("large_ends"))
        }
    }
}

/// What only tells the state now; none = something else.
pub(super) fn push(event: &Event) -> Option<(String, Fields)> {
    match event {
        Event::Ephemeral(it) => {
            let text = String::from_utf8_lossy(&it.content).into_owned();
            let fields = vec![
                ("kind", "ephemeral".into()),
                ("conversation", it.conversation_id.as_str().into()),
                ("sender", it.sender.as_str().into()),
                ("sender_device", it.sender_device.as_str().into()),
                ("content_type", it.content_type.as_str().into()),
                ("text", text.as_str().into()),
            ];
            let (who, what) = (harmless(&it.sender), harmless(&it.content_type));
            let line = format!("{}  {who}: {what} {}", it.conversation_id, harmless(&text));
            Some((line.trim_end().to_owned(), fields))
        }
        Event::Unread(it) => {
            let fields = vec![
                ("kind", "unread".into()),
                ("unread_total", it.unread_total.into()),
                ("position", it.position.into()),
            ];
            Some((format!("{} unread in all", it.unread_total), fields))
        }
        _ => None,
    }
}
