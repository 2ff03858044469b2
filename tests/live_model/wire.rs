//! Values of the plan as frames, and frames as values: as much as the checker needs of both.

use bytes::BytesMut;
use roamd::{
    engine::Compared,
    id::{ConversationId, DeviceId, Epoch, UserId},
    refusal::{ErrorCode, Refusal, Retry},
    reply::{
        ConversationUnread, DevicePresence, Ephemeral, GoAwayReason, PresenceState, Reply,
        ServerLimits, TooLongReason, Verdict, Welcome,
    },
    request::{LargeCursor, Request},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    time::Timestamp,
    wire::{
        self, FrameDecoder,
        proto::{self, server_frame},
    },
};

use super::{bodies::body, driver::Found};

/// A request as the daemon's wire reads it, or how that refuses it.
pub fn as_read(request: &Request) -> Result<Request, Refusal> {
    let frame = proto::ClientFrame { req_id: 1, ack_seq: 0, body: Some(body(request)) };
    let mut bytes = BytesMut::new();
    wire::encode_client(&frame, &mut bytes);
    let frame = FrameDecoder::new(bytes.len()).next_frame(&mut bytes);
    let frame = frame.ok().flatten().expect("a whole frame");
    wire::decode_client(frame).map(|incoming| incoming.request).map_err(|refused| refused.refusal)
}

/// A reply as the frame that it would be.
pub fn framed(req_id: u64, reply: &Reply) -> Result<proto::ServerFrame, Found> {
    let mut bytes = BytesMut::new();
    wire::encode_server(req_id, reply, &mut bytes);
    let mut decoder = FrameDecoder::new(roamd::limits::SERVER_FRAME_BYTES_MAX);
    let frame = decoder.next_frame(&mut bytes).map_err(|e| e.to_string())?;
    wire::decode_server(frame.ok_or("a reply without a frame")?).map_err(|e| e.to_string())
}

fn bad(error: impl std::fmt::Display) -> Found {
    error.to_string()
}

pub fn user(id: &str) -> Result<UserId, Found> {
    UserId::new(id).map_err(bad)
}

pub fn conversation(id: &str) -> Result<ConversationId, Found> {
    ConversationId::new(id).map_err(bad)
}

fn device(id: &str) -> Result<DeviceId, Found> {
    DeviceId::new(id).map_err(bad)
}

pub fn refusal(error: &proto::Error) -> Result<Refusal, Found> {
    let code = ErrorCode::ALL.iter().find(|code| code.number() == error.code);
    let code = *code.ok_or_else(|| format!("a code that nobody knows: {error:?}"))?;
    let refusal = Refusal::new(code, error.detail.clone());
    Ok(Refusal { fatal: error.fatal, retry: Retry::Never, ..refusal })
}

fn cursor(at: &proto::ConversationCursor) -> Result<LargeCursor, Found> {
    Ok(LargeCursor {
        conversation: conversation(&at.conversation_id)?,
        history: HistorySeq::new(at.history_seq),
        mutation: MutationSeq::new(at.mutation_seq),
        version: at.version,
    })
}

fn presence(of: &proto::DevicePresence) -> Result<DevicePresence, Found> {
    Ok(DevicePresence {
        user: user(&of.user_id)?,
        device: device(&of.device_id)?,
        state: match of.state() {
            proto::PresenceState::Online => PresenceState::Online,
            proto::PresenceState::Background => PresenceState::Background,
            _ => PresenceState::Offline,
        },
        since: Timestamp::default(),
    })
}

/// Frames whose content is numbers and names, as they are. None: the model has to say what they are.
pub fn plain(
    body: &server_frame::Body,
    compared: Option<&Compared>,
) -> Result<Option<Reply>, Found> {
    use server_frame::Body::*;
    Ok(Some(match body {
        Welcome(told) => Reply::Welcome(Box::new(welcome(told, compared)?)),
        TooLong(told) => Reply::TooLong {
            epoch: Epoch::new(told.epoch),
            head: InboxSeq::new(told.head_seq),
            first: InboxSeq::new(told.first_seq),
            reason: match told.reason() {
                proto::TooLongReason::Trimmed => TooLongReason::Trimmed,
                proto::TooLongReason::Epoch => TooLongReason::Epoch,
                proto::TooLongReason::Ahead => TooLongReason::Ahead,
                proto::TooLongReason::ClientLimit => TooLongReason::ClientLimit,
                _ => TooLongReason::NewDevice,
            },
            snapshot: told.snapshot_token.clone(),
        },
        Resumed(told) => Reply::Resumed { head: InboxSeq::new(told.head_seq) },
        CaughtUp(told) => {
            let mut changed = Vec::new();
            for item in &told.changed {
                changed.push(ConversationUnread {
                    conversation: conversation(&item.conversation_id)?,
                    unread: item.unread,
                    mentions: item.unread_mentions,
                    marked_unread: item.marked_unread,
                    read_seq: HistorySeq::new(item.read_seq),
                    visible_last: HistorySeq::new(item.visible_last_seq),
                    last_ordinal: item.last_ordinal,
                    read_ordinal: item.read_ordinal,
                    removed: item.removed,
                });
            }
            Reply::CaughtUp {
                seq: InboxSeq::new(told.seq),
                unread_total: told.unread_total,
                changed,
                complete: told.complete,
                hints: told.hints.iter().map(cursor).collect::<Result<_, _>>()?,
            }
        }
        GoAway(told) => Reply::GoAway {
            reason: match told.reason() {
                proto::GoAwayReason::Draining => GoAwayReason::Draining,
                proto::GoAwayReason::Replaced => GoAwayReason::Replaced,
                proto::GoAwayReason::Kicked => GoAwayReason::Kicked,
                proto::GoAwayReason::Revoked => GoAwayReason::Revoked,
                proto::GoAwayReason::TokenExpired => GoAwayReason::TokenExpired,
                proto::GoAwayReason::Idle => GoAwayReason::Idle,
                _ => GoAwayReason::Protocol,
            },
            retry_after: Default::default(),
        },
        PresencePush(told) => {
            Reply::PresencePush(told.devices.iter().map(presence).collect::<Result<_, _>>()?)
        }
        EphemeralPush(told) => Reply::EphemeralPush(std::sync::Arc::new(Ephemeral {
            conversation: conversation(&told.conversation_id)?,
            sender: user(&told.sender)?,
            device: device(&told.sender_device)?,
            content_type: told.content_type.as_str().into(),
            content: told.content.clone(),
        })),
        UnreadPush(told) => {
            Reply::UnreadPush { total: told.unread_total, position: InboxSeq::new(told.position) }
        }
        Error(told) => Reply::Refused(refusal(told)?),
        _ => return Ok(None),
    }))
}

/// The limits that are told once for all are the server's; the client looks at what was agreed.
fn welcome(told: &proto::Welcome, compared: Option<&Compared>) -> Result<Welcome, Found> {
    let limits = told.limits.unwrap_or_default();
    Ok(Welcome {
        protocol: told.protocol,
        features: Vec::new(),
        session: roamd::id::SessionId::new(told.session_id),
        user: user(&told.user_id)?,
        epoch: Epoch::new(told.epoch),
        head: InboxSeq::new(told.head_seq),
        first: InboxSeq::new(told.first_seq),
        cursor: InboxSeq::new(told.device_cursor),
        verdict: match (told.verdict(), compared.map(|compared| compared.verdict)) {
            // Why, TooLong tells.
            (proto::Verdict::TooLong, Some(why @ Verdict::TooLong(_))) => why,
            (proto::Verdict::TooLong, _) => Verdict::TooLong(TooLongReason::NewDevice),
            (proto::Verdict::UpToDate, _) => Verdict::UpToDate,
            _ => Verdict::CatchUp,
        },
        time: Timestamp::from_millis(told.server_time_ms),
        limits: ServerLimits {
            content_bytes: limits.max_content_bytes as usize,
            unacked_entries: limits.max_unacked_entries,
            unacked_bytes: limits.max_unacked_bytes,
            batch_bytes: limits.max_batch_bytes,
            outstanding_requests: limits.max_outstanding_requests,
            inbox_entries: u64::from(limits.inbox_entries),
            inbox_age: std::time::Duration::from_millis(limits.inbox_age_ms),
            fanout_members: limits.fanout_limit as usize,
            heartbeat_interval: std::time::Duration::from_millis(told.heartbeat_interval_ms.into()),
        },
        unread_total: told.unread_total,
        last_client_id: roamd::id::ClientMessageId::new(told.last_client_message_id),
    })
}

/// Takes out of two frames what is the server's own: page tokens (if both have one), texts of errors
/// that say more, numbers that a derivation consists of (which must add up), the order of devices in a
/// snapshot.
pub fn level(actual: &mut server_frame::Body, model: &mut server_frame::Body) -> Result<(), Found> {
    use server_frame::Body::*;
    let token = |actual: &bytes::Bytes, model: &mut bytes::Bytes| {
        if !actual.is_empty() && !model.is_empty() {
            *model = actual.clone();
        }
    };
    match (actual, model) {
        (ConversationPage(a), ConversationPage(m)) => {
            token(&a.next_page_token, &mut m.next_page_token);
        }
        (MemberPage(a), MemberPage(m)) => token(&a.next_page_token, &mut m.next_page_token),
        (ReaderPage(a), ReaderPage(m)) => token(&a.next_page_token, &mut m.next_page_token),
        (Error(a), Error(m)) => {
            if !a.detail.contains(&m.detail) {
                return Err(format!("{:?} does not say {:?}", a.detail, m.detail));
            }
            // How long to wait is spread.
            (m.detail, m.retry_after_ms) = (a.detail.clone(), a.retry_after_ms);
        }
        (Unread(a), _) => {
            for item in &mut a.conversations {
                let counted = item.last_ordinal.checked_sub(item.read_ordinal);
                let derived = counted.and_then(|counted| counted.checked_sub(item.removed));
                if derived.is_some_and(|derived| derived != item.unread) && item.last_ordinal > 0 {
                    return Err(format!("the derivation does not add up: {item:?}"));
                }
                (item.last_ordinal, item.read_ordinal, item.removed) = (0, 0, 0);
            }
        }
        (PresenceSnapshot(a), PresenceSnapshot(m)) => {
            let key = |of: &proto::DevicePresence| (of.user_id.clone(), of.device_id.clone());
            a.devices.sort_by_key(key);
            m.devices.sort_by_key(key);
        }
        _ => {}
    }
    Ok(())
}

/// Without what only the server's clock can know.
pub fn timeless(frame: &server_frame::Body) -> String {
    const OF_THE_SERVER: [&str; 9] = [
        " time_ms: ",
        "server_time_ms: ",
        "edited_at_ms: ",
        "since_ms: ",
        "joined_at_ms: ",
        "activity_ms: ",
        "first_seen_ms: ",
        "last_seen_ms: ",
        " created_at_ms: ",
    ];
    let mut text = format!("{frame:?}");
    for name in OF_THE_SERVER {
        let mut out = String::with_capacity(text.len());
        let mut parts = text.split(name);
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            out.push_str(name);
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        text = out;
    }
    text
}
