//! Client frames to requests: the only place where arguments are checked.
//!
//! A frame that is not honest protobuf, or cannot be answered because it has no request id, ends the
//! connection. A request that breaks a rule is refused by itself and the connection goes on, except
//! for `Hello`, without which there is nothing to go on with.

use bytes::Bytes;
use prost::Message;

use crate::{
    limits,
    message::{Draft, MessageFlags},
    refusal::{ErrorCode, Refusal},
    request::{ClientLimits, Destination, Hello, Incoming, Request},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
    wire::{
        arguments as args,
        proto::{self, client_frame::Body},
        scan,
    },
};

/// A frame that is answered by a refusal and by nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The request that is refused; 0 when the refusal concerns the connection.
    pub req_id: u64,
    /// The ack on the frame. It counts even though the request is refused: the client will not
    /// repeat it.
    pub ack: InboxSeq,
    /// Why.
    pub refusal: Refusal,
}

impl Refused {
    fn connection(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { req_id: 0, ack: InboxSeq::ZERO, refusal: Refusal::fatal(code, detail) }
    }
}

impl From<scan::ScanError> for Refused {
    fn from(error: scan::ScanError) -> Self {
        let code = match error {
            scan::ScanError::Malformed | scan::ScanError::TwoBodies => ErrorCode::Malformed,
            scan::ScanError::TooManyFields => ErrorCode::TooManyItems,
        };
        Self::connection(code, error.to_string())
    }
}

/// Decodes the body of a client frame into a request whose arguments keep the fixed rules.
///
/// Content and tokens of the result are slices of `frame`. A frame without a body this server knows
/// is [`Request::Unknown`], with any request id; what follows is the session's decision, as is
/// whether the request belongs in its state.
///
/// # Errors
/// [`Refused`], fatal for the connection when the frame is malformed, has too many fields or lacks a
/// request id it needs, and for every mistake in a Hello.
///
/// ```
/// use roamd::{request::Request, wire};
///
/// // req_id = 7, Ping { client_time_ms: 5 }
/// let incoming = wire::decode_client(b"\x08\x07\x32\x02\x08\x05".as_slice().into()).unwrap();
/// assert_eq!(incoming.request, Request::Ping { client_time_ms: 5 });
/// ```
pub fn decode_client(frame: Bytes) -> Result<Incoming, Refused> {
    scan::scan(&frame)?;
    let frame = proto::ClientFrame::decode(frame).map_err(|_| scan::ScanError::Malformed)?;
    let (req_id, ack) = (frame.req_id, InboxSeq::new(frame.ack_seq));
    let Some(body) = frame.body else {
        return Ok(Incoming { req_id, ack, request: Request::Unknown });
    };
    if req_id == 0 && !matches!(body, Body::Ack(_) | Body::Bye(_)) {
        let detail = "a request that is answered needs a req_id above 0";
        return Err(Refused { ack, ..Refused::connection(ErrorCode::BadRequestId, detail) });
    }
    let opening = matches!(body, Body::Hello(_));
    match request(body) {
        Ok(request) => Ok(Incoming { req_id, ack, request }),
        Err(refusal) => {
            let fatal = refusal.fatal || opening;
            Err(Refused { req_id, ack, refusal: Refusal { fatal, ..refusal } })
        }
    }
}

fn request(body: Body) -> Result<Request, Refusal> {
    let off = |name| Ok(Request::FeatureOff(name));
    match body {
        Body::Hello(body) => hello(body),
        Body::Resume(body) => match body.position {
            Some(position) => Ok(Request::Resume(args::position(position))),
            None => Err(args::invalid("position", "is missing")),
        },
        Body::Ack(body) => Ok(Request::Ack(InboxSeq::new(body.seq))),
        Body::Ping(body) => Ok(Request::Ping { client_time_ms: body.client_time_ms }),
        Body::Bye(proto::Bye {}) => Ok(Request::Bye),

        Body::Send(body) => send(body),
        Body::Recall(_) => off("recall"),
        Body::Edit(_) => off("edit"),
        Body::DeleteForMe(_) => off("delete_for_me"),
        Body::DeleteForAll(_) => off("delete_for_all"),
        Body::CancelSend(_) => off("cancel_send"),

        Body::MarkRead(body) => Ok(Request::MarkRead {
            conversation: args::conversation(&body.conversation_id)?,
            read_seq: HistorySeq::new(body.read_seq),
        }),
        Body::MarkUnread(_) => off("mark_unread"),
        Body::ClearConversation(_) => off("clear_conversation"),
        Body::SetPreferences(_) => off("set_preferences"),

        Body::FetchHistory(body) => Ok(Request::FetchHistory {
            conversation: args::conversation(&body.conversation_id)?,
            direction: args::direction(body.direction, body.anchor_seq)?,
            limit: args::limit(body.limit, limits::HISTORY_PAGE_DEFAULT, limits::HISTORY_PAGE_MAX)?,
            max_bytes: args::page_bytes(body.max_bytes),
        }),
        Body::FetchMutations(_) => off("fetch_mutations"),
        Body::FetchMessages(_) => off("fetch_messages"),
        Body::ListConversations(body) => Ok(Request::ListConversations {
            since: Timestamp::from_millis(body.since_ms),
            snapshot: Some(body.snapshot_token).filter(|token| !token.is_empty()),
            page_token: body.page_token,
            limit: args::limit(body.limit, limits::LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX)?,
        }),
        Body::GetConversations(body) => Ok(Request::GetConversations {
            conversations: args::conversations(
                &body.conversation_ids,
                limits::LIST_PAGE_MAX as usize,
            )?,
        }),
        Body::GetUnread(body) => Ok(Request::GetUnread {
            conversations: args::conversations(&body.conversation_ids, limits::ITEMS_PER_CALL_MAX)?,
            explain: body.explain,
        }),
        Body::ListMembers(body) => Ok(Request::ListMembers {
            conversation: args::conversation(&body.conversation_id)?,
            page_token: body.page_token,
            limit: args::limit(body.limit, limits::MEMBER_PAGE_DEFAULT, limits::MEMBER_PAGE_MAX)?,
        }),
        Body::GetReaders(_) => off("get_readers"),
        Body::SyncPull(body) => Ok(Request::SyncPull {
            after: InboxSeq::new(body.after_seq),
            limit: args::limit(body.limit, limits::PULL_PAGE_DEFAULT, limits::PULL_PAGE_MAX)?,
        }),

        Body::CreateGroup(body) => create_group(body),
        Body::AddMembers(body) => Ok(Request::AddMembers {
            conversation: args::conversation(&body.conversation_id)?,
            users: args::some_users(&body.user_ids)?,
        }),
        Body::RemoveMembers(body) => Ok(Request::RemoveMembers {
            conversation: args::conversation(&body.conversation_id)?,
            users: args::some_users(&body.user_ids)?,
        }),
        Body::LeaveGroup(body) => {
            Ok(Request::LeaveGroup { conversation: args::conversation(&body.conversation_id)? })
        }
        Body::DisbandGroup(_) => off("disband_group"),
        Body::SetRole(_) => off("set_role"),

        Body::SetPresence(_) => off("set_presence"),
        Body::SubscribePresence(_) => off("subscribe_presence"),
        Body::SendEphemeral(_) => off("send_ephemeral"),
        Body::ListDevices(proto::ListDevices {}) => off("list_devices"),
        Body::KickDevice(_) => off("kick_device"),
        Body::RevokeDevice(_) => off("revoke_device"),
        Body::RegisterPush(_) => off("register_push"),
        Body::SendNotice(_) => off("send_notice"),
    }
}

fn hello(body: proto::Hello) -> Result<Request, Refusal> {
    if body.protocol_min == 0 {
        return Err(args::invalid("protocol_min", "is 0"));
    }
    if body.protocol_max < body.protocol_min {
        return Err(args::invalid("protocol_max", "is below protocol_min"));
    }
    args::features(&body.features)?;
    let limits = body.limits.unwrap_or_default();
    Ok(Request::Hello(Hello {
        protocol_min: body.protocol_min,
        protocol_max: body.protocol_max,
        token: body.token.into(),
        device: args::device("device_id", &body.device_id)?,
        platform: args::label("platform", body.platform, limits::PLATFORM_BYTES_MAX)?,
        resume: body.resume.map(args::position),
        limits: ClientLimits {
            unacked_entries: limits.max_unacked_entries,
            unacked_bytes: limits.max_unacked_bytes,
            batch_bytes: limits.max_batch_bytes,
            missed_entries: limits.max_missed_entries,
        },
    }))
}

fn send(body: proto::Send) -> Result<Request, Refusal> {
    use proto::send::To;
    let to = match body.to {
        Some(To::ConversationId(id)) => Destination::Conversation(args::conversation(&id)?),
        Some(To::Peer(id)) => Destination::Peer(args::user("peer", &id)?),
        None => return Err(args::invalid("to", "is missing")),
    };
    Ok(Request::Send {
        to,
        client_id: args::client_id("client_message_id", body.client_message_id)?,
        draft: Draft {
            created_at: Timestamp::from_millis(body.created_at_ms),
            content_type: args::label(
                "content_type",
                body.content_type,
                limits::CONTENT_TYPE_BYTES_MAX,
            )?,
            content: body.content,
            reply_to: HistorySeq::new(body.reply_to_seq),
            mentions: args::users("mentions", &body.mentions, limits::MENTIONS_MAX)?,
            flags: MessageFlags {
                silent: body.silent,
                uncounted: body.uncounted,
                no_push: body.no_push,
            },
        },
    })
}

fn create_group(body: proto::CreateGroup) -> Result<Request, Refusal> {
    Ok(Request::CreateGroup {
        client_id: args::client_id("client_request_id", body.client_request_id)?,
        conversation: args::wanted_conversation(&body.conversation_id)?,
        title: args::label("title", body.title, limits::TITLE_BYTES_MAX)?,
        users: args::users("user_ids", &body.user_ids, limits::ITEMS_PER_CALL_MAX)?,
        policy: args::history_policy(body.history_policy, body.history_last_n)?,
    })
}
