//! Requests of the plan as a client says them: the reverse of `wire::decode_client`.

use roamd::{
    id::{ConversationId, UserId},
    message::{HistoryPolicy, Role},
    request::{Destination, Direction, NoticeTo, Request},
    wire::proto::{self, client_frame::Body},
};

fn text(id: &ConversationId) -> String {
    id.as_str().to_owned()
}

fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}

/// None for what a client says by itself: Hello, Resume, acks, pings.
pub fn body(request: Request) -> Option<Body> {
    Some(match request {
        Request::Send { to, client_id, draft } => Body::Send(proto::Send {
            to: Some(match to {
                Destination::Conversation(id) => proto::send::To::ConversationId(text(&id)),
                Destination::Peer(user) => proto::send::To::Peer(user.as_str().into()),
            }),
            client_message_id: client_id.number(),
            created_at_ms: draft.created_at.millis(),
            content_type: draft.content_type.to_string(),
            content: draft.content,
            reply_to_seq: draft.reply_to.number(),
            mentions: names(&draft.mentions),
            silent: draft.flags.silent,
            uncounted: draft.flags.uncounted,
            no_push: draft.flags.no_push,
        }),
        Request::CreateGroup { client_id, conversation, title, users, policy } => {
            let (history_policy, history_last_n) = match policy {
                HistoryPolicy::SinceJoin => (proto::HistoryPolicy::SinceJoin, 0),
                HistoryPolicy::LastN(count) => (proto::HistoryPolicy::LastN, count),
                HistoryPolicy::Full => (proto::HistoryPolicy::Full, 0),
            };
            Body::CreateGroup(proto::CreateGroup {
                client_request_id: client_id.number(),
                conversation_id: conversation.map(|id| text(&id)).unwrap_or_default(),
                title: title.to_string(),
                user_ids: names(&users),
                history_policy: history_policy.into(),
                history_last_n,
            })
        }
        Request::SendNotice { to, client_id, content_type, content } => {
            use proto::send_notice::To;
            Body::SendNotice(proto::SendNotice {
                to: Some(match to {
                    NoticeTo::User(user) => To::UserId(user.as_str().into()),
                    NoticeTo::Conversation(id) => To::ConversationId(text(&id)),
                    NoticeTo::Everyone => To::Everyone(true),
                }),
                client_request_id: client_id.number(),
                content_type: content_type.to_string(),
                content,
            })
        }
        Request::AddMembers { conversation, users } => Body::AddMembers(proto::AddMembers {
            conversation_id: text(&conversation),
            user_ids: names(&users),
        }),
        Request::RemoveMembers { conversation, users } => {
            Body::RemoveMembers(proto::RemoveMembers {
                conversation_id: text(&conversation),
                user_ids: names(&users),
            })
        }
        Request::LeaveGroup { conversation } => {
            Body::LeaveGroup(proto::LeaveGroup { conversation_id: text(&conversation) })
        }
        Request::DisbandGroup { conversation } => {
            Body::DisbandGroup(proto::DisbandGroup { conversation_id: text(&conversation) })
        }
        Request::SetRole { conversation, user, role } => Body::SetRole(proto::SetRole {
            conversation_id: text(&conversation),
            user_id: user.as_str().into(),
            role: match role {
                Role::Member => proto::Role::Member,
                Role::Admin => proto::Role::Admin,
                Role::Owner => proto::Role::Owner,
            }
            .into(),
        }),
        Request::SetTitle { conversation, title } => Body::SetTitle(proto::SetTitle {
            conversation_id: text(&conversation),
            title: title.to_string(),
        }),
        Request::Recall { conversation, seq } => Body::Recall(proto::Recall {
            conversation_id: text(&conversation),
            history_seq: seq.number(),
        }),
        Request::Edit { conversation, seq, content_type, content, base_revision } => {
            Body::Edit(proto::Edit {
                conversation_id: text(&conversation),
                history_seq: seq.number(),
                content_type: content_type.to_string(),
                content,
                base_revision,
            })
        }
        Request::DeleteForAll { conversation, seq } => Body::DeleteForAll(proto::DeleteForAll {
            conversation_id: text(&conversation),
            history_seq: seq.number(),
        }),
        Request::DeleteForMe { conversation, seqs } => Body::DeleteForMe(proto::DeleteForMe {
            conversation_id: text(&conversation),
            history_seqs: seqs.iter().map(|seq| seq.number()).collect(),
        }),
        Request::CancelSend { client_id } => {
            Body::CancelSend(proto::CancelSend { client_message_id: client_id.number() })
        }
        Request::MarkRead { conversation, read_seq, peer_visible } => {
            Body::MarkRead(proto::MarkRead {
                conversation_id: text(&conversation),
                read_seq: read_seq.number(),
                peer_visible,
            })
        }
        Request::MarkUnread { conversation } => {
            Body::MarkUnread(proto::MarkUnread { conversation_id: text(&conversation) })
        }
        Request::ClearConversation { conversation, to } => {
            Body::ClearConversation(proto::ClearConversation {
                conversation_id: text(&conversation),
                to_seq: to.number(),
            })
        }
        Request::SetPreferences { conversation, change } => {
            Body::SetPreferences(proto::SetPreferences {
                preferences: Some(proto::Preferences {
                    conversation_id: text(&conversation),
                    pinned: change.pinned,
                    muted: change.muted,
                    hidden: change.hidden,
                    draft: change.draft,
                }),
            })
        }
        other => return reads(other),
    })
}

fn reads(request: Request) -> Option<Body> {
    Some(match request {
        Request::FetchHistory { conversation, direction, limit, max_bytes } => {
            let (direction, anchor_seq) = match direction {
                Direction::Newest => (proto::Direction::Newest, 0),
                Direction::Older(seq) => (proto::Direction::Older, seq.number()),
                Direction::Newer(seq) => (proto::Direction::Newer, seq.number()),
            };
            Body::FetchHistory(proto::FetchHistory {
                conversation_id: text(&conversation),
                direction: direction.into(),
                anchor_seq,
                limit,
                max_bytes: max_bytes as u32,
            })
        }
        Request::FetchMutations { conversation, after, limit } => {
            Body::FetchMutations(proto::FetchMutations {
                conversation_id: text(&conversation),
                after_mutation_seq: after.number(),
                limit,
            })
        }
        Request::FetchMessages { refs } => Body::FetchMessages(proto::FetchMessages {
            refs: refs
                .iter()
                .map(|(id, seq)| proto::MessageRef {
                    conversation_id: text(id),
                    history_seq: seq.number(),
                })
                .collect(),
        }),
        Request::GetReaders { conversation, seq, page_token, limit } => {
            Body::GetReaders(proto::GetReaders {
                conversation_id: text(&conversation),
                history_seq: seq.number(),
                page_token,
                limit,
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
                conversation_ids: conversations.iter().map(text).collect(),
            })
        }
        Request::GetUnread { conversations, explain } => Body::GetUnread(proto::GetUnread {
            conversation_ids: conversations.iter().map(text).collect(),
            explain,
        }),
        Request::ListMembers { conversation, page_token, limit } => {
            Body::ListMembers(proto::ListMembers {
                conversation_id: text(&conversation),
                page_token,
                limit,
            })
        }
        Request::SyncPull { after, limit } => {
            Body::SyncPull(proto::SyncPull { after_seq: after.number(), limit })
        }
        Request::SetPresence { background } => {
            let state = match background {
                true => proto::PresenceState::Background,
                false => proto::PresenceState::Online,
            };
            Body::SetPresence(proto::SetPresence { state: state.into() })
        }
        Request::SubscribePresence { users, unsubscribe } => {
            Body::SubscribePresence(proto::SubscribePresence {
                user_ids: names(&users),
                unsubscribe,
            })
        }
        Request::SendEphemeral { conversation, content_type, content } => {
            Body::SendEphemeral(proto::SendEphemeral {
                conversation_id: text(&conversation),
                content_type: content_type.to_string(),
                content,
            })
        }
        Request::ListDevices => Body::ListDevices(proto::ListDevices {}),
        Request::KickDevice { device } => {
            Body::KickDevice(proto::KickDevice { device_id: device.as_str().into() })
        }
        Request::RevokeDevice { device } => {
            Body::RevokeDevice(proto::RevokeDevice { device_id: device.as_str().into() })
        }
        Request::RegisterPush { provider, token } => Body::RegisterPush(proto::RegisterPush {
            provider: provider.to_string(),
            token: token.reveal().to_string(),
        }),
        _ => return None,
    })
}
