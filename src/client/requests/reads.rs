//! Reads: histories, changes, conversations, unread, members, readers, the inbox.

use bytes::Bytes;

use super::Requests;
use crate::{
    client::error::ClientError,
    wire::{proto, proto::client_frame::Body, proto::server_frame::Body as Said},
};

impl Requests {
    /// A page of a conversation's history; `limit` 0 = the server's default.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn history(
        &self,
        conversation: impl Into<String>,
        page: Page,
        limit: u32,
    ) -> Result<proto::HistoryPage, ClientError> {
        let (direction, anchor_seq) = match page {
            Page::Newest => (proto::Direction::Newest, 0),
            Page::Older(anchor) => (proto::Direction::Older, anchor),
            Page::Newer(anchor) => (proto::Direction::Newer, anchor),
        };
        let fetch = proto::FetchHistory {
            conversation_id: conversation.into(),
            direction: direction.into(),
            anchor_seq,
            limit,
            max_bytes: 0,
        };
        match self.request(Body::FetchHistory(fetch)).await? {
            Said::HistoryPage(page) => Ok(page),
            _ => Err(ClientError::UnexpectedReply("FetchHistory")),
        }
    }

    /// Conversations with activity after `since_ms`, newest first. `page_token`: empty, then that of
    /// the page before.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn conversations(
        &self,
        since_ms: u64,
        page_token: Bytes,
        limit: u32,
    ) -> Result<proto::ConversationPage, ClientError> {
        let snapshot_token = Bytes::new();
        let list = proto::ListConversations { since_ms, snapshot_token, page_token, limit };
        match self.request(Body::ListConversations(list)).await? {
            Said::ConversationPage(page) => Ok(page),
            _ => Err(ClientError::UnexpectedReply("ListConversations")),
        }
    }

    /// Conversations by id, in the order asked; absent = not there for this user.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn conversations_by_id(
        &self,
        conversation_ids: Vec<String>,
    ) -> Result<Vec<Option<proto::Conversation>>, ClientError> {
        let wanted = proto::GetConversations { conversation_ids };
        match self.request(Body::GetConversations(wanted)).await? {
            Said::ConversationItems(items) => {
                Ok(items.items.into_iter().map(|item| item.conversation.map(|it| *it)).collect())
            }
            _ => Err(ClientError::UnexpectedReply("GetConversations")),
        }
    }

    /// Unread counts of these conversations, or of all that are not zero when none is named.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn unread(
        &self,
        conversation_ids: Vec<String>,
        explain: bool,
    ) -> Result<proto::Unread, ClientError> {
        let wanted = proto::GetUnread { conversation_ids, explain };
        match self.request(Body::GetUnread(wanted)).await? {
            Said::Unread(unread) => Ok(unread),
            _ => Err(ClientError::UnexpectedReply("GetUnread")),
        }
    }

    /// What changed in the messages of a conversation after a mutation number, as they are now.
    /// `limit` 0 = the server's default.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn mutations(
        &self,
        conversation: impl Into<String>,
        after_mutation_seq: u64,
        limit: u32,
    ) -> Result<proto::MutationPage, ClientError> {
        let conversation_id = conversation.into();
        let fetch = proto::FetchMutations { conversation_id, after_mutation_seq, limit };
        match self.request(Body::FetchMutations(fetch)).await? {
            Said::MutationPage(page) => Ok(page),
            _ => Err(ClientError::UnexpectedReply("FetchMutations")),
        }
    }

    /// Messages by their places, in the order asked, at most 200. An item without a message does not
    /// exist or may not be seen, unless it says `skipped`: ask for that again.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn messages(
        &self,
        refs: Vec<proto::MessageRef>,
    ) -> Result<Vec<proto::MessageItem>, ClientError> {
        match self.request(Body::FetchMessages(proto::FetchMessages { refs })).await? {
            Said::MessageItems(items) => Ok(items.items),
            _ => Err(ClientError::UnexpectedReply("FetchMessages")),
        }
    }

    /// A page of a conversation's members. `page_token`: empty, then that of the page before.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn members(
        &self,
        conversation: impl Into<String>,
        page_token: Bytes,
        limit: u32,
    ) -> Result<proto::MemberPage, ClientError> {
        let list = proto::ListMembers { conversation_id: conversation.into(), page_token, limit };
        match self.request(Body::ListMembers(list)).await? {
            Said::MemberPage(page) => Ok(page),
            _ => Err(ClientError::UnexpectedReply("ListMembers")),
        }
    }

    /// A page of those who have read a message of a group. `page_token`: empty, then that of the page
    /// before.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn readers(
        &self,
        conversation: impl Into<String>,
        history_seq: u64,
        page_token: Bytes,
        limit: u32,
    ) -> Result<proto::ReaderPage, ClientError> {
        let conversation_id = conversation.into();
        let wanted = proto::GetReaders { conversation_id, history_seq, page_token, limit };
        match self.request(Body::GetReaders(wanted)).await? {
            Said::ReaderPage(page) => Ok(page),
            _ => Err(ClientError::UnexpectedReply("GetReaders")),
        }
    }

    /// Reads the inbox after `after_seq` without moving anything; for tools.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn pull(&self, after_seq: u64, limit: u32) -> Result<proto::SyncBatch, ClientError> {
        match self.request(Body::SyncPull(proto::SyncPull { after_seq, limit })).await? {
            Said::Pulled(batch) => Ok(batch),
            _ => Err(ClientError::UnexpectedReply("SyncPull")),
        }
    }
}

/// Which part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The newest messages.
    Newest,
    /// The messages right before this history_seq.
    Older(u64),
    /// The messages right after this history_seq.
    Newer(u64),
}
