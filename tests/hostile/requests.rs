//! Every request once, right in every way.

use bytes::Bytes;
use roamd::{
    limits,
    wire::proto::{self, client_frame::Body, send::To, send_notice},
};

pub fn id() -> String {
    "c".repeat(64)
}

pub fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("u{number}")).collect()
}

pub fn bytes(count: usize) -> Bytes {
    vec![7; count].into()
}

/// Each request once, with everything as large as it may be.
pub fn right() -> Vec<Body> {
    let conversation_id = id();
    let content_type = "t".repeat(127);
    let cursor = proto::ConversationCursor { conversation_id: id(), ..Default::default() };
    vec![
        Body::Hello(proto::Hello {
            platform: "p".repeat(64),
            device_id: id(),
            conversation_cursors: vec![cursor; limits::HELLO_CURSORS_MAX],
            features: vec![1, 2, 3, 4, 77],
            ..super::hello()
        }),
        Body::Resume(proto::Resume { position: Some(proto::Position::default()) }),
        Body::Ack(proto::Ack { seq: 1 }),
        Body::Ping(proto::Ping { client_time_ms: 1 }),
        Body::Bye(proto::Bye {}),
        Body::Send(proto::Send {
            to: Some(To::Peer(id())),
            client_message_id: 1,
            content_type: content_type.clone(),
            content: bytes(64 * 1024),
            mentions: ids(limits::MENTIONS_MAX),
            ..Default::default()
        }),
        Body::Recall(proto::Recall { conversation_id: id(), history_seq: 1 }),
        Body::Edit(proto::Edit {
            conversation_id: id(),
            history_seq: 1,
            content_type: content_type.clone(),
            content: bytes(64 * 1024),
            base_revision: Some(0),
        }),
        Body::DeleteForMe(proto::DeleteForMe {
            conversation_id: id(),
            history_seqs: (1..=100).collect(),
        }),
        Body::DeleteForAll(proto::DeleteForAll { conversation_id: id(), history_seq: 1 }),
        Body::CancelSend(proto::CancelSend { client_message_id: 1 }),
        Body::MarkRead(proto::MarkRead { conversation_id: id(), read_seq: 0, peer_visible: true }),
        Body::MarkUnread(proto::MarkUnread { conversation_id: id() }),
        Body::ClearConversation(proto::ClearConversation { conversation_id: id(), to_seq: 0 }),
        Body::SetPreferences(proto::SetPreferences { preferences: Some(preferences()) }),
        Body::FetchHistory(proto::FetchHistory {
            conversation_id: id(),
            direction: 1,
            limit: limits::HISTORY_PAGE_MAX,
            ..Default::default()
        }),
        Body::FetchMutations(proto::FetchMutations {
            conversation_id: id(),
            after_mutation_seq: 0,
            limit: limits::MUTATION_PAGE_MAX,
        }),
        Body::FetchMessages(proto::FetchMessages {
            refs: vec![message_ref(); limits::MESSAGE_REFS_MAX],
        }),
        Body::ListConversations(proto::ListConversations {
            limit: limits::LIST_PAGE_MAX,
            ..Default::default()
        }),
        Body::GetConversations(proto::GetConversations { conversation_ids: ids(200) }),
        Body::GetUnread(proto::GetUnread { conversation_ids: ids(1000), explain: true }),
        Body::ListMembers(proto::ListMembers {
            conversation_id: id(),
            limit: limits::MEMBER_PAGE_MAX,
            ..Default::default()
        }),
        Body::GetReaders(proto::GetReaders {
            conversation_id: id(),
            history_seq: 1,
            limit: limits::MEMBER_PAGE_MAX,
            ..Default::default()
        }),
        Body::SyncPull(proto::SyncPull { after_seq: 0, limit: limits::PULL_PAGE_MAX }),
        Body::CreateGroup(proto::CreateGroup {
            client_request_id: 1,
            conversation_id: id(),
            title: "t".repeat(256),
            user_ids: ids(limits::ITEMS_PER_CALL_MAX),
            history_policy: 2,
            history_last_n: 1,
        }),
        Body::AddMembers(proto::AddMembers {
            conversation_id: id(),
            user_ids: ids(limits::ITEMS_PER_CALL_MAX),
        }),
        Body::RemoveMembers(proto::RemoveMembers {
            conversation_id: id(),
            user_ids: ids(limits::ITEMS_PER_CALL_MAX),
        }),
        Body::LeaveGroup(proto::LeaveGroup { conversation_id: id() }),
        Body::DisbandGroup(proto::DisbandGroup { conversation_id: id() }),
        Body::SetRole(proto::SetRole { conversation_id: id(), user_id: id(), role: 3 }),
        Body::SetTitle(proto::SetTitle { conversation_id: id(), title: "t".repeat(256) }),
        Body::SetPresence(proto::SetPresence { state: 3 }),
        Body::SubscribePresence(proto::SubscribePresence {
            user_ids: ids(limits::SUBSCRIBE_PER_CALL_MAX),
            unsubscribe: false,
        }),
        Body::SendEphemeral(proto::SendEphemeral {
            conversation_id: id(),
            content_type: content_type.clone(),
            content: bytes(limits::EPHEMERAL_BYTES_MAX),
        }),
        Body::ListDevices(proto::ListDevices {}),
        Body::KickDevice(proto::KickDevice { device_id: id() }),
        Body::RevokeDevice(proto::RevokeDevice { device_id: id() }),
        Body::RegisterPush(proto::RegisterPush {
            provider: "p".repeat(64),
            token: "t".repeat(2048),
        }),
        Body::SendNotice(proto::SendNotice {
            to: Some(send_notice::To::ConversationId(conversation_id)),
            client_request_id: 1,
            content_type,
            content: bytes(64 * 1024),
        }),
    ]
}

pub fn preferences() -> proto::Preferences {
    proto::Preferences {
        conversation_id: id(),
        draft: Some(bytes(limits::DRAFT_BYTES_MAX)),
        ..Default::default()
    }
}

pub fn message_ref() -> proto::MessageRef {
    proto::MessageRef { conversation_id: id(), history_seq: 1 }
}
