//! Messages, entries and times as people and programs see them.

use serde_json::Value;

use crate::{
    cli::output::{Fields, Output, harmless},
    wire::proto::{self, entry::Kind},
};

/// One message of a history: a line and its fields.
pub(super) fn message(message: &proto::Message, output: Output) -> (String, Fields) {
    let line = format!(
        "{}  #{} {}  {}",
        output.dim(&time(message.time_ms)),
        message.history_seq,
        output.bold(&harmless(&message.sender)),
        body(message),
    );
    (line, message_fields(message))
}

/// One entry of an inbox: a line and its fields.
pub(super) fn entry(seq: u64, entry: &proto::Entry, output: Output) -> (String, Fields) {
    let at = output.dim(&time(entry.time_ms));
    let mut fields: Fields = vec![("inbox_seq", seq.into())];
    let line = match &entry.kind {
        Some(Kind::Message(message)) => {
            fields.push(("kind", "message".into()));
            fields.extend(message_fields(message));
            received(message, output)
        }
        Some(Kind::Read(read)) => {
            fields.push(("kind", "read".into()));
            fields.push(("conversation", read.conversation_id.as_str().into()));
            fields.push(("read_seq", read.read_seq.into()));
            format!("{at}  {}  read up to #{}", read.conversation_id, read.read_seq)
        }
        Some(Kind::Membership(change)) => {
            let action = change.action().as_str_name().trim_start_matches("MEMBERSHIP_ACTION_");
            let action = action.to_lowercase();
            fields.push(("kind", "membership".into()));
            fields.push(("conversation", change.conversation_id.as_str().into()));
            fields.push(("action", action.as_str().into()));
            fields.push(("by", change.by.as_str().into()));
            fields.push(("users", change.users.clone().into()));
            fields.push(("user_count", change.user_count.into()));
            fields.push(("member_count", change.member_count.into()));
            fields.push(("title", change.title.as_str().into()));
            format!(
                "{at}  {}  {} {action} {}{}",
                change.conversation_id,
                harmless(&change.by),
                harmless(&change.users.join(" ")),
                if change.title.is_empty() {
                    String::new()
                } else {
                    format!("  \"{}\"", harmless(&change.title))
                }
            )
        }
        Some(Kind::Hole(hole)) => {
            fields.push(("kind", "hole".into()));
            format!("{at}  a damaged entry: {}", harmless(&hole.detail))
        }
        Some(_) | None => {
            fields.push(("kind", "other".into()));
            format!("{at}  an entry of a kind this program does not show")
        }
    };
    (line, fields)
}

/// A message as the receiver sees it.
pub(super) fn received(message: &proto::Message, output: Output) -> String {
    format!(
        "{}  {} #{}  {}  {}",
        output.dim(&time(message.time_ms)),
        message.conversation_id,
        message.history_seq,
        output.bold(&harmless(&message.sender)),
        body(message),
    )
}

pub(super) fn message_fields(message: &proto::Message) -> Fields {
    let text = std::str::from_utf8(&message.content).ok();
    let state = message.state().as_str_name().trim_start_matches("MESSAGE_STATE_").to_lowercase();
    let mut fields: Fields = vec![
        ("conversation", message.conversation_id.as_str().into()),
        ("history_seq", message.history_seq.into()),
        ("message_id", message.message_id.into()),
        ("sender", message.sender.as_str().into()),
        ("sender_device", message.sender_device.as_str().into()),
        ("client_message_id", message.client_message_id.into()),
        ("time_ms", message.time_ms.into()),
        ("state", state.into()),
        ("content_type", message.content_type.as_str().into()),
    ];
    fields.push(match text {
        Some(text) => ("text", text.into()),
        None => ("content_hex", hex(&message.content).into()),
    });
    if message.reply_to_seq > 0 {
        fields.push(("reply_to", message.reply_to_seq.into()));
    }
    fields
}

fn body(message: &proto::Message) -> String {
    let state = message.state();
    match (state, std::str::from_utf8(&message.content)) {
        (proto::MessageState::Normal, Ok(text)) => harmless(text),
        (proto::MessageState::Normal, Err(_)) => {
            format!("({} bytes of {})", message.content.len(), harmless(&message.content_type))
        }
        (proto::MessageState::Unspecified, _) => "(damaged)".into(),
        (state, _) => {
            let name = state.as_str_name().trim_start_matches("MESSAGE_STATE_");
            format!("({})", name.to_lowercase())
        }
    }
}

pub(super) fn conversation(conversation: &proto::Conversation) -> Fields {
    let kind = match conversation.kind() {
        proto::ConversationKind::Direct => "direct",
        proto::ConversationKind::Group => "group",
        proto::ConversationKind::Unspecified => "other",
    };
    let name = if conversation.peer.is_empty() { &conversation.title } else { &conversation.peer };
    let last = conversation.last_message.as_ref().map_or(Value::Null, |message| {
        let text: String = body(message).chars().take(40).collect();
        format!("{}: {text}", message.sender).into()
    });
    vec![
        ("conversation", conversation.conversation_id.as_str().into()),
        ("kind", kind.into()),
        ("name", name.as_str().into()),
        ("members", conversation.member_count.into()),
        ("unread", conversation.unread.into()),
        ("last_seq", conversation.visible_last_seq.into()),
        ("activity", time(conversation.activity_ms).into()),
        ("last", last),
    ]
}

/// `2026-01-31 12:34:56` in UTC.
pub(super) fn time(millis: u64) -> String {
    let (days, second) = (millis / 86_400_000, millis / 1000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The date so many days after 1970-01-01: years are counted from 1 March of year 0, so that a leap
/// day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_399_999), "2000-02-28 23:59:59");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_767_225_600_000), "2026-01-01 00:00:00");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00");
    }

    #[test]
    fn what_is_no_text_is_counted_and_kept_for_programs() {
        let mut message = proto::Message {
            content: vec![0xff, 0].into(),
            content_type: "image/x".into(),
            state: proto::MessageState::Normal.into(),
            ..Default::default()
        };
        assert_eq!(body(&message), "(2 bytes of image/x)");
        let fields = message_fields(&message);
        assert!(fields.contains(&("content_hex", "ff00".into())));
        message.state = proto::MessageState::Recalled.into();
        assert_eq!(body(&message), "(recalled)");
    }
}
