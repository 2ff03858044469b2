//! Requests of a plan as a client says them: the reverse of `wire::decode_client`.

use roamd::{
    message::{HistoryPolicy, Role},
    request::{Destination, Direction, NoticeTo, Position, Request},
    seq::HistorySeq,
    wire::proto::{self, client_frame::Body},
};

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

fn position(at: &Position) -> proto::Position {
    proto::Position { epoch: at.epoch.number(), seq: at.seq.number() }
}

/// The frame's body for a request.
pub fn body(request: &Request) -> Body {
    match request.clone() {
        Request::Hello(hello) => Body::Hello(proto::Hello {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            token: hello.token.to_string(),
            device_id: hello.device.to_string(),
            platform: hello.platform.to_string(),
            resume: hello.resume.as_ref().map(position),
            limits: Some(proto::ClientLimits {
                max_unacked_entries: hello.limits.unacked_entries,
                max_unacked_bytes: hello.limits.unacked_bytes,
                max_batch_bytes: hello.limits.batch_bytes,
                max_missed_entries: hello.limits.missed_entries,
            }),
            conversation_cursors: hello
                .cursors
                .iter()
                .map(|at| proto::ConversationCursor {
                    conversation_id: at.conversation.to_string(),
                    history_seq: at.history.number(),
                    mutation_seq: at.mutation.number(),
                    version: at.version,
                })
                .collect(),
            background: hello.background,
            ..Default::default()
        }),
        Request::Resume(at) => Body::Resume(proto::Resume { position: Some(position(&at)) }),
        Request::Ack(seq) => Body::Ack(proto::Ack { seq: seq.number() }),
        Request::Ping { client_time_ms } => Body::Ping(proto::Ping { client_time_ms }),
        Request::Bye | Request::Unknown => Body::Bye(proto::Bye {}),
        Request::Send { to, client_id, draft } => Body::Send(proto::Send {
            to: Some(match to {
                Destination::Conversation(id) => proto::send::To::ConversationId(id.to_string()),
                Destination::Peer(user) => proto::send::To::Peer(user.to_string()),
            }),
            client_message_id: client_id.number(),
            created_at_ms: draft.created_at.millis(),
            content_type: draft.content_type.to_string(),
            content: draft.content,
            reply_to_seq: draft.reply_to.number(),
            mentions: texts(&draft.mentions),
            silent: draft.flags.silent,
            uncounted: draft.flags.uncounted,
            no_push: draft.flags.no_push,
        }),
        Request::MarkRead { conversation, read_seq, peer_visible } => {
            Body::MarkRead(proto::MarkRead {
                conversation_id: conversation.to_string(),
                read_seq: read_seq.number(),
                peer_visible,
            })
        }
        Request::MarkUnread { conversation } => {
            Body::MarkUnread(proto::MarkUnread { conversation_id: conversation.to_string() })
        }
        Request::ClearConversation { conversation, to } => {
            Body::ClearConversation(proto::ClearConversation {
                conversation_id: conversation.to_string(),
                to_seq: to.number(),
            })
        }
        Request::SetPreferences { conversation, change } => {
            Body::SetPreferences(proto::SetPreferences {
                preferences: Some(proto::Preferences {
                    conversation_id: conversation.to_string(),
                    pinned: change.pinned,
                    muted: change.muted,
                    hidden: change.hidden,
                    draft: change.draft,
                }),
            })
        }
        Request::Recall { conversation, seq } => Body::Recall(proto::Recall {
            conversation_id: conversation.to_string(),
            history_seq: seq.number(),
        }),
        Request::Edit { conversation, seq, content_type, content, base_revision } => {
            Body::Edit(proto::Edit {
                conversation_id: conversation.to_string(),
                history_seq: seq.number(),
                content_type: content_type.to_string(),
                content,
                base_revision,
            })
        }
        Request::DeleteForMe { conversation, seqs } => Body::DeleteForMe(proto::DeleteForMe {
            conversation_id: conversation.to_string(),
            history_seqs: seqs.iter().map(|seq| seq.number()).collect(),
        }),
        Request::DeleteForAll { conversation, seq } => Body::DeleteForAll(proto::DeleteForAll {
            conversation_id: conversation.to_string(),
            history_seq: seq.number(),
        }),
        Request::CancelSend { client_id } => {
            Body::CancelSend(proto::CancelSend { client_message_id: client_id.number() })
        }
        Request::FetchMutations { conversation, after, limit } => {
            Body::FetchMutations(proto::FetchMutations {
                conversation_id: conversation.to_string(),
                after_mutation_seq: after.number(),
                limit,
            })
        }
        Request::FetchMessages { refs } => Body::FetchMessages(proto::FetchMessages {
            refs: refs
                .iter()
                .map(|(id, seq)| proto::MessageRef {
                    conversation_id: id.to_string(),
                    history_seq: seq.number(),
                })
                .collect(),
        }),
        Request::GetReaders { conversation, seq, page_token, limit } => {
            Body::GetReaders(proto::GetReaders {
                conversation_id: conversation.to_string(),
                history_seq: seq.number(),
                page_token,
                limit,
            })
        }
        Request::FetchHistory { conversation, direction, limit, max_bytes } => {
            let (direction, anchor) = match direction {
                Direction::Newest => (proto::Direction::Newest, HistorySeq::ZERO),
                Direction::Older(at) => (proto::Direction::Older, at),
                Direction::Newer(at) => (proto::Direction::Newer, at),
            };
            Body::FetchHistory(proto::FetchHistory {
                conversation_id: conversation.to_string(),
                direction: direction.into(),
                anchor_seq: anchor.number(),
                limit,
                max_bytes: max_bytes as u32,
            })
        }
        Request::ListConversations { since, snapshot, page_token, limit } => {
            Body::ListConversations(proto::ListConversations {
                since_ms: since.millis(),
                snapshot_token: snapshot.unwrap_or_default(),
                page_token,
                limit,
            })
        }
        Request::GetConversations { conversations } => {
            Body::GetConversations(proto::GetConversations {
                conversation_ids: texts(&conversations),
            })
        }
        Request::GetUnread { conversations, explain } => {
            Body::GetUnread(proto::GetUnread { conversation_ids: texts(&conversations), explain })
        }
        Request::ListMembers { conversation, page_token, limit } => {
            Body::ListMembers(proto::ListMembers {
                conversation_id: conversation.to_string(),
                page_token,
                limit,
            })
        }
        Request::SyncPull { after, limit } => {
            Body::SyncPull(proto::SyncPull { after_seq: after.number(), limit })
        }
        Request::CreateGroup { client_id, conversation, title, users, policy } => {
            let (policy, last_n) = match policy {
                HistoryPolicy::SinceJoin => (proto::HistoryPolicy::SinceJoin, 0),
                HistoryPolicy::LastN(count) => (proto::HistoryPolicy::LastN, count),
                HistoryPolicy::Full => (proto::HistoryPolicy::Full, 0),
            };
            Body::CreateGroup(proto::CreateGroup {
                client_request_id: client_id.number(),
                conversation_id: conversation.map(|id| id.to_string()).unwrap_or_default(),
                title: title.to_string(),
                user_ids: texts(&users),
                history_policy: policy.into(),
                history_last_n: last_n,
            })
        }
        Request::AddMembers { conversation, users } => Body::AddMembers(proto::AddMembers {
            conversation_id: conversation.to_string(),
            user_ids: texts(&users),
        }),
        Request::RemoveMembers { conversation, users } => {
            Body::RemoveMembers(proto::RemoveMembers {
                conversation_id: conversation.to_string(),
                user_ids: texts(&users),
            })
        }
        Request::LeaveGroup { conversation } => {
            Body::LeaveGroup(proto::LeaveGroup { conversation_id: conversation.to_string() })
        }
        Request::DisbandGroup { conversation } => {
            Body::DisbandGroup(proto::DisbandGroup { conversation_id: conversation.to_string() })
        }
        Request::SetRole { conversation, user, role } => Body::SetRole(proto::SetRole {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
            role: match role {
                Role::Member => proto::Role::Member,
                Role::Admin => proto::Role::Admin,
                Role::Owner => proto::Role::Owner,
            }
            .into(),
        }),
        Request::SetTitle { conversation, title } => Body::SetTitle(proto::SetTitle {
            conversation_id: conversation.to_string(),
            title: title.to_string(),
        }),
        Request::SetPresence { background } => Body::SetPresence(proto::SetPresence {
            state: match background {
                true => proto::PresenceState::Background,
                false => proto::PresenceState::Online,
            }
            .into(),
        }),
        Request::SubscribePresence { users, unsubscribe } => {
            Body::SubscribePresence(proto::SubscribePresence {
                user_ids: texts(&users),
                unsubscribe,
            })
        }
        Request::SendEphemeral { conversation, content_type, content } => {
            Body::SendEphemeral(proto::SendEphemeral {
                conversation_id: conversation.to_string(),
                content_type: content_type.to_string(),
                content,
            })
        }
        Request::ListDevices => Body::ListDevices(proto::ListDevices {}),
        Request::KickDevice { device } => {
            Body::KickDevice(proto::KickDevice { device_id: device.to_string() })
        }
        Request::RevokeDevice { device } => {
            Body::RevokeDevice(proto::RevokeDevice { device_id: device.to_string() })
        }
        Request::RegisterPush { provider, token } => Body::RegisterPush(proto::RegisterPush {
            provider: provider.to_string(),
            token: token.reveal().to_string(),
        }),
        Request::SendNotice { to, client_id, content_type, content } => {
            Body::SendNotice(proto::SendNotice {
                to: Some(match to {
                    NoticeTo::User(user) => proto::send_notice::To::UserId(user.to_string()),
                    NoticeTo::Conversation(id) => {
                        proto::send_notice::To::ConversationId(id.to_string())
                    }
                    NoticeTo::Everyone => proto::send_notice::To::Everyone(true),
                }),
                client_request_id: client_id.number(),
                content_type: content_type.to_string(),
                content,
            })
        }
    }
}
