//! Messages, conversations and times as people and programs see them.

use serde_json::Value;

use crate::{
    cli::output::{Fields, Output, harmless},
    time::Timestamp,
    wire::proto,
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
    if !message.mentions.is_empty() {
        fields.push(("mentions", message.mentions.clone().into()));
    }
    if message.revision > 0 {
        fields.push(("revision", message.revision.into()));
        fields.push(("edited_ms", message.edited_at_ms.into()));
    }
    fields
}

/// What a change was answered with: a line that says what is so now, and its fields.
pub(super) fn done(
    done: &proto::Done,
    what: String,
    more: &[(&'static str, Value)],
    output: Output,
) {
    let mut fields: Fields = more.to_vec();
    fields.push(("inbox_seq", done.inbox_seq.into()));
    let line = match done.inbox_seq {
        0 => what,
        seq => format!("{what} (entry {seq})"),
    };
    output.stream(&[(line, fields)]);
}

pub(super) fn presence_state(state: proto::PresenceState) -> String {
    state.as_str_name().trim_start_matches("PRESENCE_STATE_").to_lowercase()
}

/// What there is to read of a message.
pub(super) fn body(message: &proto::Message) -> String {
    let state = message.state();
    match (state, std::str::from_utf8(&message.content)) {
        (proto::MessageState::Normal, Ok(text)) if message.revision > 0 => {
            format!("{} (edited)", harmless(text))
        }
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
    let set = conversation.preferences.clone().unwrap_or_default();
    let marks = [
        (conversation.marked_unread, "unread"),
        (set.pinned(), "pinned"),
        (set.muted(), "muted"),
        (set.hidden(), "hidden"),
        (!set.draft().is_empty(), "draft"),
        (conversation.large, "large"),
        (conversation.left, "left"),
        (conversation.disbanded, "disbanded"),
    ];
    let marks: Vec<_> = marks.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    vec![
        ("conversation", conversation.conversation_id.as_str().into()),
        ("kind", kind.into()),
        ("name", name.as_str().into()),
        ("members", conversation.member_count.into()),
        ("unread", conversation.unread.into()),
        ("mentions", conversation.unread_mentions.into()),
        ("marks", marks.into()),
        ("last_seq", conversation.visible_last_seq.into()),
        ("activity", time(conversation.activity_ms).into()),
        ("last", last),
    ]
}

/// `2026-01-31 12:34:56` in UTC.
pub(super) fn time(millis: u64) -> String {
    Timestamp::from_millis(millis).utc()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
