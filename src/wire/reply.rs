//! Values of replies to generated types, for everything that is not written by `raw`.

use std::time::Duration;

use crate::{
    limits,
    message::{ConversationKind, HistoryPolicy, MessageState, Preferences, Role},
    refusal::{Refusal, Retry},
    reply::{
        ConversationUnread, ConversationView, DevicePresence, DeviceView, GoAwayReason,
        MemberOutcome, MemberView, PlacedMessage, PresenceState, ServerLimits, TooLongReason,
        Verdict, Welcome,
    },
    request::{Feature, LargeCursor},
    wire::proto,
};

pub(super) fn error(refusal: &Refusal) -> proto::Error {
    let (retry, after) = match refusal.retry {
        Retry::Never => (proto::Retry::Never, Duration::ZERO),
        Retry::AfterDelay(after) => (proto::Retry::AfterDelay, after),
        Retry::Reconnect(after) => (proto::Retry::Reconnect, after),
        Retry::Reauth => (proto::Retry::Reauth, Duration::ZERO),
        Retry::Resync => (proto::Retry::Resync, Duration::ZERO),
        Retry::SameId => (proto::Retry::SameId, Duration::ZERO),
    };
    proto::Error {
        code: refusal.code.number(),
        retry: retry.into(),
        retry_after_ms: millis(after),
        detail: refusal.detail.clone(),
        fatal: refusal.fatal,
    }
}

pub(super) fn welcome(welcome: &Welcome) -> proto::Welcome {
    let verdict = match welcome.verdict {
        Verdict::UpToDate => proto::Verdict::UpToDate,
        Verdict::CatchUp => proto::Verdict::CatchUp,
        Verdict::TooLong(_) => proto::Verdict::TooLong,
    };
    proto::Welcome {
        protocol: welcome.protocol,
        features: welcome.features.iter().map(|own| feature(*own).into()).collect(),
        session_id: welcome.session.number(),
        user_id: welcome.user.to_string(),
        epoch: welcome.epoch.number(),
        head_seq: welcome.head.number(),
        first_seq: welcome.first.number(),
        device_cursor: welcome.cursor.number(),
        verdict: verdict.into(),
        server_time_ms: welcome.time.millis(),
        heartbeat_interval_ms: millis(welcome.limits.heartbeat_interval),
        limits: Some(server_limits(&welcome.limits)),
        unread_total: welcome.unread_total,
        last_client_message_id: welcome.last_client_id.number(),
        server: concat!("roamd/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn feature(feature: Feature) -> proto::Feature {
    match feature {
        Feature::LargeGroups => proto::Feature::LargeGroups,
        Feature::Presence => proto::Feature::Presence,
        Feature::Push => proto::Feature::Push,
        Feature::Mutations => proto::Feature::Mutations,
    }
}

fn server_limits(limits: &ServerLimits) -> proto::ServerLimits {
    proto::ServerLimits {
        max_frame_bytes: count(limits::CLIENT_FRAME_BYTES_MAX),
        max_content_bytes: count(limits.content_bytes),
        max_unacked_entries: limits.unacked_entries,
        max_unacked_bytes: limits.unacked_bytes,
        max_batch_bytes: limits.batch_bytes,
        max_outstanding_requests: limits.outstanding_requests,
        max_history_page: limits::HISTORY_PAGE_MAX,
        max_list_page: limits::LIST_PAGE_MAX,
        max_members_per_call: count(limits::ITEMS_PER_CALL_MAX),
        inbox_entries: count(limits.inbox_entries),
        inbox_age_ms: limits.inbox_age.as_millis().try_into().unwrap_or(u64::MAX),
        fanout_limit: count(limits.fanout_members),
    }
}

pub(super) fn too_long_reason(reason: TooLongReason) -> proto::TooLongReason {
    match reason {
        TooLongReason::NewDevice => proto::TooLongReason::NewDevice,
        TooLongReason::Trimmed => proto::TooLongReason::Trimmed,
        TooLongReason::Epoch => proto::TooLongReason::Epoch,
        TooLongReason::Ahead => proto::TooLongReason::Ahead,
        TooLongReason::ClientLimit => proto::TooLongReason::ClientLimit,
    }
}

pub(super) fn go_away(reason: GoAwayReason, retry_after: Duration) -> proto::GoAway {
    use proto::GoAwayReason as Wire;
    let (reason, detail) = match reason {
        GoAwayReason::Draining => (Wire::Draining, "the server is stopping"),
        GoAwayReason::Replaced => (Wire::Replaced, "a newer session of this device took over"),
        GoAwayReason::Kicked => (Wire::Kicked, "the device was kicked"),
        GoAwayReason::Revoked => (Wire::Revoked, "the token was revoked"),
        GoAwayReason::TokenExpired => (Wire::TokenExpired, "the token has expired"),
        GoAwayReason::Idle => (Wire::Idle, "the connection was idle or stalled"),
        GoAwayReason::Protocol => (Wire::Protocol, "the error before this was fatal"),
    };
    proto::GoAway {
        reason: reason.into(),
        retry_after_ms: millis(retry_after),
        detail: detail.to_owned(),
    }
}

/// A conversation with its last message as a preview, so that a page of them fits one frame.
pub(super) fn conversation(view: &ConversationView) -> proto::Conversation {
    let kind = match view.kind {
        ConversationKind::Direct => proto::ConversationKind::Direct,
        ConversationKind::Group => proto::ConversationKind::Group,
    };
    let policy = match view.policy {
        HistoryPolicy::SinceJoin => proto::HistoryPolicy::SinceJoin,
        HistoryPolicy::LastN(_) => proto::HistoryPolicy::LastN,
        HistoryPolicy::Full => proto::HistoryPolicy::Full,
    };
    let (last_message, last_message_cut) = match view.last_message.as_ref().map(preview) {
        Some((message, cut)) => (Some(message), cut),
        None => (None, false),
    };
    proto::Conversation {
        conversation_id: view.conversation.to_string(),
        kind: kind.into(),
        title: view.title.to_string(),
        peer: view.peer.as_ref().map(ToString::to_string).unwrap_or_default(),
        member_count: view.member_count,
        role: view.role.map_or(proto::Role::Unspecified, role).into(),
        left: view.role.is_none(),
        history_policy: policy.into(),
        created_at_ms: view.created.millis(),
        visible_first_seq: view.visible_first.number(),
        visible_last_seq: view.visible_last.number(),
        last_message,
        last_message_cut,
        activity_ms: view.activity.millis(),
        read_seq: view.read_seq.number(),
        unread: view.unread,
        unread_mentions: view.unread_mentions,
        marked_unread: view.marked_unread,
        mutation_seq: view.mutation.number(),
        preferences: Some(preferences(&view.preferences)),
        hidden_count: view.hidden_count,
        large: view.large,
        disbanded: view.disbanded,
        version: view.version,
    }
}

/// All of a user's preferences of a conversation that is named elsewhere.
fn preferences(of: &Preferences) -> proto::Preferences {
    proto::Preferences {
        conversation_id: String::new(),
        pinned: Some(of.pinned),
        muted: Some(of.muted),
        hidden: Some(of.hidden),
        draft: Some(of.draft.clone()),
    }
}

pub(super) fn cursor(at: &LargeCursor) -> proto::ConversationCursor {
    proto::ConversationCursor {
        conversation_id: at.conversation.to_string(),
        history_seq: at.history.number(),
        mutation_seq: at.mutation.number(),
        version: at.version,
    }
}

fn presence_state(state: PresenceState) -> proto::PresenceState {
    match state {
        PresenceState::Offline => proto::PresenceState::Offline,
        PresenceState::Online => proto::PresenceState::Online,
        PresenceState::Background => proto::PresenceState::Background,
    }
}

pub(super) fn device_presence(view: &DevicePresence) -> proto::DevicePresence {
    proto::DevicePresence {
        user_id: view.user.to_string(),
        device_id: view.device.to_string(),
        state: presence_state(view.state).into(),
        since_ms: view.since.millis(),
    }
}

pub(super) fn device(view: &DeviceView) -> proto::Device {
    proto::Device {
        device_id: view.device.to_string(),
        platform: view.platform.to_string(),
        state: presence_state(view.state).into(),
        first_seen_ms: view.first_seen.millis(),
        last_seen_ms: view.last_seen.millis(),
        cursor: view.cursor.number(),
        push_registered: view.push_registered,
    }
}

fn preview(placed: &PlacedMessage) -> (proto::Message, bool) {
    let place = proto::Message {
        conversation_id: placed.conversation.to_string(),
        history_seq: placed.seq.number(),
        ..proto::Message::default()
    };
    let Some(message) = &placed.message else {
        return (place, false);
    };
    let draft = &message.draft;
    let kept = draft.content.len().min(limits::PREVIEW_BYTES_MAX);
    let preview = proto::Message {
        message_id: message.id.number(),
        sender: message.sender.to_string(),
        sender_device: message.device.to_string(),
        client_message_id: message.client_id.number(),
        time_ms: message.time.millis(),
        created_at_ms: draft.created_at.millis(),
        content_type: draft.content_type.to_string(),
        content: draft.content.slice(..kept),
        reply_to_seq: draft.reply_to.number(),
        silent: draft.flags.silent,
        uncounted: draft.flags.uncounted,
        state: state(placed.state).into(),
        revision: placed.revision,
        edited_at_ms: placed.edited.millis(),
        ..place
    };
    (preview, kept < draft.content.len())
}

pub(super) fn state(state: MessageState) -> proto::MessageState {
    match state {
        MessageState::Normal => proto::MessageState::Normal,
        MessageState::Recalled => proto::MessageState::Recalled,
        MessageState::Deleted => proto::MessageState::Deleted,
        MessageState::Hidden => proto::MessageState::Hidden,
    }
}

pub(super) fn conversation_unread(
    view: &ConversationUnread,
    explain: bool,
) -> proto::ConversationUnread {
    proto::ConversationUnread {
        conversation_id: view.conversation.to_string(),
        unread: view.unread,
        read_seq: view.read_seq.number(),
        visible_last_seq: view.visible_last.number(),
        last_ordinal: if explain { view.last_ordinal } else { 0 },
        read_ordinal: if explain { view.read_ordinal } else { 0 },
        removed: if explain { view.removed } else { 0 },
        unread_mentions: view.mentions,
        marked_unread: view.marked_unread,
    }
}

pub(super) fn member(view: &MemberView) -> proto::Member {
    proto::Member {
        user_id: view.user.to_string(),
        role: role(view.role).into(),
        joined_seq: view.joined_seq.number(),
        joined_at_ms: view.joined.millis(),
    }
}

pub(super) fn role(role: Role) -> proto::Role {
    match role {
        Role::Member => proto::Role::Member,
        Role::Admin => proto::Role::Admin,
        Role::Owner => proto::Role::Owner,
    }
}

pub(super) fn member_outcome(outcome: MemberOutcome) -> proto::MemberOutcome {
    match outcome {
        MemberOutcome::Changed => proto::MemberOutcome::Changed,
        MemberOutcome::Unchanged => proto::MemberOutcome::Unchanged,
        MemberOutcome::Forbidden => proto::MemberOutcome::Forbidden,
        MemberOutcome::Limit => proto::MemberOutcome::Limit,
    }
}

fn millis(span: Duration) -> u32 {
    span.as_millis().try_into().unwrap_or(u32::MAX)
}

fn count(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}
