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
    request::{
        ClientLimits, Destination, Hello, Incoming, NoticeTo, PreferencesChange, Request, Secret,
    },
    seq::{HistorySeq, InboxSeq, MutationSeq},
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
            scan::ScanError::TooManyFields | scan::ScanError::Hollow => ErrorCode::TooManyItems,
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
    scan::scan_client(&frame)?;
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
        Body::Recall(body) => Ok(Request::Recall {
            conversation: args::conversation(&body.conversation_id)?,
            seq: args::placed(body.history_seq)?,
        }),
        Body::Edit(body) => Ok(Request::Edit {
            conversation: args::conversation(&body.conversation_id)?,
            seq: args::placed(body.history_seq)?,
            content_type: args::content_type(body.content_type)?,
            content: body.content,
            base_revision: body.base_revision,
        }),
        Body::DeleteForMe(body) => Ok(Request::DeleteForMe {
            conversation: args::conversation(&body.conversation_id)?,
            seqs: args::places(&body.history_seqs, limits::HIDE_PER_CALL_MAX)?,
        }),
        Body::DeleteForAll(body) => Ok(Request::DeleteForAll {
            conversation: args::conversation(&body.conversation_id)?,
            seq: args::placed(body.history_seq)?,
        }),
        Body::CancelSend(body) => Ok(Request::CancelSend {
            client_id: args::client_id("client_message_id", body.client_message_id)?,
        }),

        Body::MarkRead(body) => Ok(Request::MarkRead {
            conversation: args::conversation(&body.conversation_id)?,
            read_seq: HistorySeq::new(body.read_seq),
            peer_visible: body.peer_visible,
        }),
        Body::MarkUnread(body) => {
            Ok(Request::MarkUnread { conversation: args::conversation(&body.conversation_id)? })
        }
        Body::ClearConversation(body) => Ok(Request::ClearConversation {
            conversation: args::conversation(&body.conversation_id)?,
            to: HistorySeq::new(body.to_seq),
        }),
        Body::SetPreferences(body) => set_preferences(body),

        Body::FetchHistory(body) => Ok(Request::FetchHistory {
            conversation: args::conversation(&body.conversation_id)?,
            direction: args::direction(body.direction, body.anchor_seq)?,
            limit: args::limit(body.limit, limits::HISTORY_PAGE_DEFAULT, limits::HISTORY_PAGE_MAX)?,
            max_bytes: args::page_bytes(body.max_bytes),
        }),
        Body::FetchMutations(body) => Ok(Request::FetchMutations {
            conversation: args::conversation(&body.conversation_id)?,
            after: MutationSeq::new(body.after_mutation_seq),
            limit: args::limit(
                body.limit,
                limits::MUTATION_PAGE_DEFAULT,
                limits::MUTATION_PAGE_MAX,
            )?,
        }),
        Body::FetchMessages(body) => Ok(Request::FetchMessages { refs: args::refs(&body.refs)? }),
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
        Body::GetReaders(body) => Ok(Request::GetReaders {
            conversation: args::conversation(&body.conversation_id)?,
            seq: args::placed(body.history_seq)?,
            page_token: body.page_token,
            limit: args::limit(body.limit, limits::MEMBER_PAGE_DEFAULT, limits::MEMBER_PAGE_MAX)?,
        }),
        Body::SyncPull(body) => Ok(Request::SyncPull {
            after: InboxSeq::new(body.after_seq),
            limit: args::limit(body.limit, limits::PULL_PAGE_DEFAULT, limits::PULL_PAGE_MAX)?,
        }),

        Body::CreateGroup(body) => create_group(body),
        Body::AddMembers(body) => Ok(Request::AddMembers {
            conversation: args::conversation(&body.conversation_id)?,
            users: args::some_users(&body.user_ids, limits::ITEMS_PER_CALL_MAX)?,
        }),
        Body::RemoveMembers(body) => Ok(Request::RemoveMembers {
            conversation: args::conversation(&body.conversation_id)?,
            users: args::some_users(&body.user_ids, limits::ITEMS_PER_CALL_MAX)?,
        }),
        Body::LeaveGroup(body) => {
            Ok(Request::LeaveGroup { conversation: args::conversation(&body.conversation_id)? })
        }
        Body::DisbandGroup(body) => {
            Ok(Request::DisbandGroup { conversation: args::conversation(&body.conversation_id)? })
        }
        Body::SetRole(body) => Ok(Request::SetRole {
            conversation: args::conversation(&body.conversation_id)?,
            user: args::user("user_id", &body.user_id)?,
            role: args::role(body.role)?,
        }),
        Body::SetTitle(body) => Ok(Request::SetTitle {
            conversation: args::conversation(&body.conversation_id)?,
            title: args::label("title", body.title, limits::TITLE_BYTES_MAX)?,
        }),

        Body::SetPresence(body) => {
            Ok(Request::SetPresence { background: args::is_background(body.state)? })
        }
        Body::SubscribePresence(body) => Ok(Request::SubscribePresence {
            users: args::some_users(&body.user_ids, limits::SUBSCRIBE_PER_CALL_MAX)?,
            unsubscribe: body.unsubscribe,
        }),
        Body::SendEphemeral(body) => Ok(Request::SendEphemeral {
            conversation: args::conversation(&body.conversation_id)?,
            content_type: args::content_type(body.content_type)?,
            content: args::content(body.content, limits::EPHEMERAL_BYTES_MAX)?,
        }),
        Body::ListDevices(proto::ListDevices {}) => Ok(Request::ListDevices),
        Body::KickDevice(body) => {
            Ok(Request::KickDevice { device: args::device("device_id", &body.device_id)? })
        }
        Body::RevokeDevice(body) => {
            Ok(Request::RevokeDevice { device: args::device("device_id", &body.device_id)? })
        }
        Body::RegisterPush(body) => Ok(Request::RegisterPush {
            provider: args::label("provider", body.provider, limits::PROVIDER_BYTES_MAX)?,
            token: Secret::new(args::label("token", body.token, limits::PUSH_TOKEN_BYTES_MAX)?),
        }),
        Body::SendNotice(body) => send_notice(body),
    }
}

fn hello(body: proto::Hello) -> Result<Request, Refusal> {
    if body.protocol_min == 0 {
        return Err(args::invalid("protocol_min", "is 0"));
    }
    if body.protocol_max < body.protocol_min {
        return Err(args::invalid("protocol_max", "is below protocol_min"));
    }
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
        cursors: args::cursors(&body.conversation_cursors)?,
        background: body.background,
        features: args::features(&body.features)?,
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
            content_type: args::content_type(body.content_type)?,
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

fn set_preferences(body: proto::SetPreferences) -> Result<Request, Refusal> {
    let Some(wanted) = body.preferences else {
        return Err(args::invalid("preferences", "is missing"));
    };
    if wanted.draft.as_ref().is_some_and(|draft| draft.len() > limits::DRAFT_BYTES_MAX) {
        let rule = format_args!("is longer than {} bytes", limits::DRAFT_BYTES_MAX);
        return Err(args::invalid("draft", rule));
    }
    Ok(Request::SetPreferences {
        conversation: args::conversation(&wanted.conversation_id)?,
        change: PreferencesChange {
            pinned: wanted.pinned,
            muted: wanted.muted,
            hidden: wanted.hidden,
            draft: wanted.draft,
        },
    })
}

fn send_notice(body: proto::SendNotice) -> Result<Request, Refusal> {
    use proto::send_notice::To;
    let to = match body.to {
        Some(To::UserId(user)) => NoticeTo::User(args::user("user_id", &user)?),
        Some(To::ConversationId(id)) => NoticeTo::Conversation(args::conversation(&id)?),
        Some(To::Everyone(true)) => NoticeTo::Everyone,
        Some(To::Everyone(false)) => return Err(args::invalid("everyone", "is false")),
        None => return Err(args::invalid("to", "is missing")),
    };
    Ok(Request::SendNotice {
        to,
        client_id: args::client_id("client_request_id", body.client_request_id)?,
        content_type: args::content_type(body.content_type)?,
        content: body.content,
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
