//! The rules for arguments, one function each: generated values to values that exist only when they
//! are valid.
//!
//! A refusal names the field and the rule. It never repeats what the client sent, so its size does
//! not depend on it.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, UserId},
    limits,
    message::{HistoryPolicy, Role},
    refusal::{ErrorCode, Refusal},
    request::{Direction, Feature, LargeCursor, Position},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    wire::proto,
};

/// INVALID_ARGUMENT: `field` and what is wrong with it.
pub(super) fn invalid(field: &'static str, rule: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, format!("{field} {rule}"))
}

pub(super) fn user(field: &'static str, text: &str) -> Result<UserId, Refusal> {
    UserId::new(text).map_err(|error| invalid(field, error))
}

pub(super) fn device(field: &'static str, text: &str) -> Result<DeviceId, Refusal> {
    DeviceId::new(text).map_err(|error| invalid(field, error))
}

pub(super) fn conversation(text: &str) -> Result<ConversationId, Refusal> {
    ConversationId::new(text).map_err(|error| invalid("conversation_id", error))
}

/// An id a client wants for its new group; empty leaves the choice to the server.
pub(super) fn wanted_conversation(text: &str) -> Result<Option<ConversationId>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let wanted = conversation(text)?;
    if wanted.has_server_form() {
        return Err(invalid("conversation_id", "has a form that only the server makes"));
    }
    Ok(Some(wanted))
}

pub(super) fn users(
    field: &'static str,
    texts: &[String],
    max: usize,
) -> Result<Vec<UserId>, Refusal> {
    at_most(field, texts.len(), max)?;
    texts.iter().map(|text| user(field, text)).collect()
}

/// As [`users`], and at least one.
pub(super) fn some_users(texts: &[String], max: usize) -> Result<Vec<UserId>, Refusal> {
    if texts.is_empty() {
        return Err(invalid("user_ids", "is empty"));
    }
    users("user_ids", texts, max)
}

/// The place of a message.
pub(super) fn placed(seq: u64) -> Result<HistorySeq, Refusal> {
    if seq == 0 {
        return Err(invalid("history_seq", "is 0"));
    }
    Ok(HistorySeq::new(seq))
}

/// Places of messages, at least one; in order and each once.
pub(super) fn places(seqs: &[u64], max: usize) -> Result<Vec<HistorySeq>, Refusal> {
    if seqs.is_empty() {
        return Err(invalid("history_seqs", "is empty"));
    }
    at_most("history_seqs", seqs.len(), max)?;
    let mut places = seqs.iter().map(|seq| placed(*seq)).collect::<Result<Vec<_>, _>>()?;
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

pub(super) fn refs(
    refs: &[proto::MessageRef],
) -> Result<Vec<(ConversationId, HistorySeq)>, Refusal> {
    at_most("refs", refs.len(), limits::MESSAGE_REFS_MAX)?;
    refs.iter()
        .map(|at| Ok((conversation(&at.conversation_id)?, HistorySeq::new(at.history_seq))))
        .collect()
}

pub(super) fn cursors(cursors: &[proto::ConversationCursor]) -> Result<Vec<LargeCursor>, Refusal> {
    at_most("conversation_cursors", cursors.len(), limits::HELLO_CURSORS_MAX)?;
    cursors
        .iter()
        .map(|at| {
            Ok(LargeCursor {
                conversation: conversation(&at.conversation_id)?,
                history: HistorySeq::new(at.history_seq),
                mutation: MutationSeq::new(at.mutation_seq),
                version: at.version,
            })
        })
        .collect()
}

pub(super) fn content_type(text: String) -> Result<Arc<str>, Refusal> {
    label("content_type", text, limits::CONTENT_TYPE_BYTES_MAX)
}

/// Content with a fixed limit.
pub(super) fn content(content: Bytes, max: usize) -> Result<Bytes, Refusal> {
    if content.len() > max {
        let detail = format!("content has more than {max} bytes");
        return Err(Refusal::new(ErrorCode::ContentTooLarge, detail));
    }
    Ok(content)
}

pub(super) fn role(role: i32) -> Result<Role, Refusal> {
    match proto::Role::try_from(role) {
        Ok(proto::Role::Member) => Ok(Role::Member),
        Ok(proto::Role::Admin) => Ok(Role::Admin),
        Ok(proto::Role::Owner) => Ok(Role::Owner),
        Ok(proto::Role::Unspecified) | Err(_) => Err(invalid("role", "is not known")),
    }
}

/// What a session may say of itself.
pub(super) fn is_background(state: i32) -> Result<bool, Refusal> {
    match proto::PresenceState::try_from(state) {
        Ok(proto::PresenceState::Online) => Ok(false),
        Ok(proto::PresenceState::Background) => Ok(true),
        _ => Err(invalid("state", "is neither ONLINE nor BACKGROUND")),
    }
}

pub(super) fn conversations(texts: &[String], max: usize) -> Result<Vec<ConversationId>, Refusal> {
    at_most("conversation_ids", texts.len(), max)?;
    texts.iter().map(|text| conversation(text)).collect()
}

fn at_most(field: &'static str, count: usize, max: usize) -> Result<(), Refusal> {
    if count > max {
        let detail = format!("{field} has more than {max} elements");
        return Err(Refusal::new(ErrorCode::TooManyItems, detail));
    }
    Ok(())
}

/// A short text for people or programs: bounded and without control characters.
pub(super) fn label(field: &'static str, text: String, max: usize) -> Result<Arc<str>, Refusal> {
    if text.len() > max {
        return Err(invalid(field, format_args!("is longer than {max} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(field, "contains a control character"));
    }
    Ok(text.into())
}

/// The size of a page, 1..=`max`; 0 asks for the default.
pub(super) fn limit(asked: u32, default: u32, max: u32) -> Result<u32, Refusal> {
    match asked {
        0 => Ok(default),
        _ if asked > max => Err(invalid("limit", format_args!("is more than {max}"))),
        _ => Ok(asked),
    }
}

/// The byte budget of a history page.
pub(super) fn page_bytes(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) => limits::HISTORY_PAGE_BYTES_DEFAULT,
        Ok(bytes) => bytes.min(limits::HISTORY_PAGE_BYTES_MAX),
        Err(_) => limits::HISTORY_PAGE_BYTES_MAX,
    }
}

/// An idempotency number.
pub(super) fn client_id(field: &'static str, number: u64) -> Result<ClientMessageId, Refusal> {
    if number == 0 {
        return Err(invalid(field, "is 0"));
    }
    Ok(ClientMessageId::new(number))
}

pub(super) fn position(position: proto::Position) -> Position {
    Position { epoch: Epoch::new(position.epoch), seq: InboxSeq::new(position.seq) }
}

pub(super) fn direction(direction: i32, anchor: u64) -> Result<Direction, Refusal> {
    let anchor = HistorySeq::new(anchor);
    match proto::Direction::try_from(direction) {
        Ok(proto::Direction::Newest) => Ok(Direction::Newest),
        Ok(proto::Direction::Older) => Ok(Direction::Older(anchor)),
        Ok(proto::Direction::Newer) => Ok(Direction::Newer(anchor)),
        Ok(proto::Direction::Unspecified) | Err(_) => Err(invalid("direction", "is not known")),
    }
}

pub(super) fn history_policy(policy: i32, last_n: u32) -> Result<HistoryPolicy, Refusal> {
    use proto::HistoryPolicy as Wire;
    let policy = match Wire::try_from(policy) {
        Ok(Wire::Unspecified | Wire::SinceJoin) => HistoryPolicy::SinceJoin,
        Ok(Wire::Full) => HistoryPolicy::Full,
        Ok(Wire::LastN) if last_n == 0 => return Err(invalid("history_last_n", "is 0")),
        Ok(Wire::LastN) => return Ok(HistoryPolicy::LastN(last_n)),
        Err(_) => return Err(invalid("history_policy", "is not known")),
    };
    if last_n > 0 {
        return Err(invalid("history_last_n", "goes with LAST_N only"));
    }
    Ok(policy)
}

/// What a client offers: features of a later protocol are passed over, "unspecified" is a mistake.
pub(super) fn features(offered: &[i32]) -> Result<Vec<Feature>, Refusal> {
    let mut features = Vec::new();
    for number in offered {
        features.extend(match proto::Feature::try_from(*number) {
            Ok(proto::Feature::Unspecified) => return Err(invalid("features", "contains 0")),
            Ok(proto::Feature::LargeGroups) => Some(Feature::LargeGroups),
            Ok(proto::Feature::Presence) => Some(Feature::Presence),
            Ok(proto::Feature::Push) => Some(Feature::Push),
            Ok(proto::Feature::Mutations) => Some(Feature::Mutations),
            Err(_) => None,
        });
    }
    features.sort_unstable();
    features.dedup();
    Ok(features)
}
