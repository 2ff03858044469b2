//! What a user keeps of a conversation: read marker, preferences, what is cleared.

use bytes::Bytes;

use super::Requests;
use crate::{
    client::error::ClientError,
    wire::{proto, proto::client_frame::Body, proto::server_frame::Body as Said},
};

impl Requests {
    /// Moves the read marker forward. Beyond the last message = the last message.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn mark_read(
        &self,
        conversation: impl Into<String>,
        read_seq: u64,
    ) -> Result<proto::MarkReadReply, ClientError> {
        let conversation_id = conversation.into();
        let mark = proto::MarkRead { conversation_id, read_seq, peer_visible: false };
        self.marked(mark).await
    }

    /// As [`Requests::mark_read`], and the other user of a direct conversation may see it.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn mark_read_visibly(
        &self,
        conversation: impl Into<String>,
        read_seq: u64,
    ) -> Result<proto::MarkReadReply, ClientError> {
        let conversation_id = conversation.into();
        let mark = proto::MarkRead { conversation_id, read_seq, peer_visible: true };
        self.marked(mark).await
    }

    async fn marked(&self, mark: proto::MarkRead) -> Result<proto::MarkReadReply, ClientError> {
        match self.request(Body::MarkRead(mark)).await? {
            Said::MarkReadReply(reply) => Ok(reply),
            _ => Err(ClientError::UnexpectedReply("MarkRead")),
        }
    }

    /// Shows a conversation as unread, on all devices, until it is read again.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn mark_unread(
        &self,
        conversation: impl Into<String>,
    ) -> Result<proto::Done, ClientError> {
        let mark = proto::MarkUnread { conversation_id: conversation.into() };
        self.done(Body::MarkUnread(mark), "MarkUnread").await
    }

    /// Hides everything up to `to_seq` from this user, for good. Beyond the last message = all.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn clear(
        &self,
        conversation: impl Into<String>,
        to_seq: u64,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let clear = proto::ClearConversation { conversation_id, to_seq };
        self.done(Body::ClearConversation(clear), "ClearConversation").await
    }

    /// Changes what is set in `wishes` and leaves the rest as it is.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn set_preferences(
        &self,
        conversation: impl Into<String>,
        wishes: Wishes,
    ) -> Result<proto::Done, ClientError> {
        let Wishes { pinned, muted, hidden, draft } = wishes;
        let conversation_id = conversation.into();
        let preferences =
            Some(proto::Preferences { conversation_id, pinned, muted, hidden, draft });
        let set = proto::SetPreferences { preferences };
        self.done(Body::SetPreferences(set), "SetPreferences").await
    }
}

/// What a user wants of a conversation; none = as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// First in the list.
    pub pinned: Option<bool>,
    /// No push notifications.
    pub muted: Option<bool>,
    /// Not in the list.
    pub hidden: Option<bool>,
    /// A message that is not finished; empty = there is none.
    pub draft: Option<Bytes>,
}
