//! Messages: sending, taking back, changing, deleting.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::{InFlight, Requests, unix_millis};
use crate::{
    client::error::ClientError,
    wire::{proto, proto::client_frame::Body, proto::send::To, proto::server_frame::Body as Said},
};

impl Requests {
    /// Sends a message under the next number of this device. Ok = durable on the server.
    ///
    /// A lost connection in between does no harm: the message is sent again under the same number.
    ///
    /// # Errors
    /// As [`Requests::request`]. After [`ClientError::Closed`] and the like the outcome is unknown.
    pub async fn send(
        &self,
        to: Recipient,
        content_type: impl Into<String>,
        content: impl Into<Bytes>,
    ) -> Result<proto::SendAck, ClientError> {
        let draft = draft(to, content_type.into(), content.into(), unix_millis());
        self.begin_send(draft).await?.await
    }

    /// As [`Requests::send`], under a number that the caller has stored: repeat it with the same
    /// arguments until it is answered, also after a restart, and it is sent once.
    ///
    /// Numbers from [`Requests::next_client_message_id`] are unix microseconds, of which the message's
    /// time of creation is made.
    ///
    /// # Errors
    /// As [`Requests::send`].
    pub async fn send_with_id(
        &self,
        client_message_id: u64,
        to: Recipient,
        content_type: impl Into<String>,
        content: impl Into<Bytes>,
    ) -> Result<proto::SendAck, ClientError> {
        let created = client_message_id / 1000;
        let draft = draft(to, content_type.into(), content.into(), created);
        self.begin_send(proto::Send { client_message_id, ..draft }).await?.await
    }

    /// Sends a message with all its fields; a `client_message_id` of 0 stands for the next number.
    ///
    /// Returns when the message has its place in the order of requests; the future it gives resolves
    /// with the ack. Make the next send before awaiting it to have many in flight, in order.
    ///
    /// # Errors
    /// As [`Requests::begin`].
    pub async fn begin_send(&self, send: proto::Send) -> Result<SendInFlight, ClientError> {
        Ok(SendInFlight(self.begin(Body::Send(send)).await?))
    }

    /// A number for [`Requests::send_with_id`]: unix microseconds, made strictly increasing and
    /// greater than all the server has accepted from this device, once there was a session.
    #[must_use]
    pub fn next_client_message_id(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        self.shared.lock().outbox.next_client_id(micros)
    }

    /// Takes a message back for everyone: its sender within the window, owner and admins of a group at
    /// any time. `inbox_seq` 0 in the answer = it was gone already.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn recall(
        &self,
        conversation: impl Into<String>,
        history_seq: u64,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let recall = proto::Recall { conversation_id, history_seq };
        self.done(Body::Recall(recall), "Recall").await
    }

    /// Replaces the content of an own message. With a `base_revision` that is not the current one the
    /// answer is CONFLICT: somebody, or another device, was faster.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn edit(
        &self,
        conversation: impl Into<String>,
        history_seq: u64,
        content_type: impl Into<String>,
        content: impl Into<Bytes>,
        base_revision: Option<u32>,
    ) -> Result<proto::Done, ClientError> {
        let edit = proto::Edit {
            conversation_id: conversation.into(),
            history_seq,
            content_type: content_type.into(),
            content: content.into(),
            base_revision,
        };
        self.done(Body::Edit(edit), "Edit").await
    }

    /// Hides messages from this user, on all of its devices.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn delete_for_me(
        &self,
        conversation: impl Into<String>,
        history_seqs: Vec<u64>,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let delete = proto::DeleteForMe { conversation_id, history_seqs };
        self.done(Body::DeleteForMe(delete), "DeleteForMe").await
    }

    /// Takes a message away from everyone: owner and admins of a group.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn delete_for_all(
        &self,
        conversation: impl Into<String>,
        history_seq: u64,
    ) -> Result<proto::Done, ClientError> {
        let conversation_id = conversation.into();
        let delete = proto::DeleteForAll { conversation_id, history_seq };
        self.done(Body::DeleteForAll(delete), "DeleteForAll").await
    }

    /// Makes sure that a send of this device is not there: recalls it, or uses its number up. For sends
    /// whose outcome is unknown; do not repeat them afterwards.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn cancel_send(&self, client_message_id: u64) -> Result<proto::Done, ClientError> {
        let cancel = proto::CancelSend { client_message_id };
        self.done(Body::CancelSend(cancel), "CancelSend").await
    }

    /// Tells the members who are there now something that is not kept, such as that somebody types.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn send_ephemeral(
        &self,
        conversation: impl Into<String>,
        content_type: impl Into<String>,
        content: impl Into<Bytes>,
    ) -> Result<proto::Done, ClientError> {
        let ephemeral = proto::SendEphemeral {
            conversation_id: conversation.into(),
            content_type: content_type.into(),
            content: content.into(),
        };
        self.done(Body::SendEphemeral(ephemeral), "SendEphemeral").await
    }

    /// Sends a system notice; needs a token with the scope "admin". A `client_request_id` of 0 stands
    /// for the next number of this device.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn send_notice(&self, notice: proto::SendNotice) -> Result<proto::Done, ClientError> {
        self.done(Body::SendNotice(notice), "SendNotice").await
    }
}

/// A send that has its place in the order of requests; resolves with its ack.
#[derive(Debug)]
#[must_use = "awaiting it gives the ack"]
pub struct SendInFlight(InFlight);

impl Future for SendInFlight {
    type Output = Result<proto::SendAck, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|said| match said? {
            Said::SendAck(ack) => Ok(ack),
            _ => Err(ClientError::UnexpectedReply("Send")),
        })
    }
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient(To);

impl Recipient {
    /// A user; the direct conversation is made by the first message.
    pub fn user(user: impl Into<String>) -> Self {
        Self(To::Peer(user.into()))
    }

    /// A conversation, by its id.
    pub fn conversation(conversation: impl Into<String>) -> Self {
        Self(To::ConversationId(conversation.into()))
    }
}

impl From<Recipient> for To {
    fn from(recipient: Recipient) -> Self {
        recipient.0
    }
}

fn draft(to: Recipient, content_type: String, content: Bytes, created_at_ms: u64) -> proto::Send {
    let to = Some(to.into());
    proto::Send { to, created_at_ms, content_type, content, ..proto::Send::default() }
}
