//! Requests: what can be asked of the server, from any task.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    error::ClientError,
    event::Status,
    outbox::{Outcome, Waiter},
    shared::Shared,
};
use crate::{
    limits::CLIENT_FRAME_BYTES_MAX,
    wire::{proto, proto::client_frame::Body, proto::send::To, proto::server_frame::Body as Said},
};

/// Bytes of a frame apart from its body: two numbers with their keys.
const FRAME_FIELDS_BYTES: usize = 24;

/// Makes requests on a client's session. Cheap to clone; many may be in flight.
///
/// Requests are written in the order they were made. Without a session they wait for one. A request
/// beyond [`super::ClientConfig::in_flight`] waits for a reply to another. Dropping a future gives up
/// the reply, not the request: a send that was made is still sent.
#[derive(Clone)]
pub struct Requests {
    shared: Arc<Shared>,
}

impl Requests {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The client at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Any request, by its proto body.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's code, or why there is no answer.
    pub async fn request(&self, body: Body) -> Result<Said, ClientError> {
        self.begin(body).await?.await
    }

    /// As [`Requests::request`], but returns when the request has its place in the order of requests.
    ///
    /// # Errors
    /// [`ClientError::NotARequest`], [`ClientError::TooLarge`], or why the client has ended.
    pub async fn begin(&self, body: Body) -> Result<InFlight, ClientError> {
        match body {
            Body::Hello(_) => return Err(ClientError::NotARequest("Hello")),
            Body::Resume(_) => return Err(ClientError::NotARequest("Resume")),
            Body::Ack(_) => return Err(ClientError::NotARequest("Ack")),
            Body::Bye(_) => return Err(ClientError::NotARequest("Bye")),
            _ => {}
        }
        let bytes = body.encoded_len() + FRAME_FIELDS_BYTES;
        if bytes > CLIENT_FRAME_BYTES_MAX {
            return Err(ClientError::TooLarge { bytes, limit: CLIENT_FRAME_BYTES_MAX });
        }
        let permits = Arc::clone(&self.shared.permits);
        let Ok(permit) = permits.acquire_owned().await else {
            return Err(self.shared.why_closed());
        };
        let (waiter, reply) = oneshot::channel();
        let mut state = self.shared.lock();
        match &state.end {
            Some(end) => return Err(end.clone()),
            None if state.closing => return Err(ClientError::Closed),
            None => {}
        }
        state.outbox.push(body, Waiter::Caller(waiter, permit));
        drop(state);
        self.shared.wake.notify_one();
        Ok(InFlight { reply })
    }

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
                Ok(items.items.into_iter().map(|item| item.conversation).collect())
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
        match self.request(Body::MarkRead(mark)).await? {
            Said::MarkReadReply(reply) => Ok(reply),
            _ => Err(ClientError::UnexpectedReply("MarkRead")),
        }
    }

    /// Makes a group; a `client_request_id` of 0 stands for the next number of this device.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn create_group(
        &self,
        create: proto::CreateGroup,
    ) -> Result<proto::GroupCreated, ClientError> {
        match self.request(Body::CreateGroup(create)).await? {
            Said::GroupCreated(created) => Ok(created),
            _ => Err(ClientError::UnexpectedReply("CreateGroup")),
        }
    }

    /// Adds users to a group; one outcome for each, in order.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn add_members(
        &self,
        conversation: impl Into<String>,
        user_ids: Vec<String>,
    ) -> Result<proto::MemberItems, ClientError> {
        let conversation_id = conversation.into();
        let add = proto::AddMembers { conversation_id, user_ids };
        self.members_changed(Body::AddMembers(add)).await
    }

    /// Removes users from a group; one outcome for each, in order.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn remove_members(
        &self,
        conversation: impl Into<String>,
        user_ids: Vec<String>,
    ) -> Result<proto::MemberItems, ClientError> {
        let conversation_id = conversation.into();
        let remove = proto::RemoveMembers { conversation_id, user_ids };
        self.members_changed(Body::RemoveMembers(remove)).await
    }

    async fn members_changed(&self, body: Body) -> Result<proto::MemberItems, ClientError> {
        match self.request(body).await? {
            Said::MemberItems(items) => Ok(items),
            _ => Err(ClientError::UnexpectedReply("a change of members")),
        }
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn leave(&self, conversation: impl Into<String>) -> Result<proto::Done, ClientError> {
        let leave = proto::LeaveGroup { conversation_id: conversation.into() };
        match self.request(Body::LeaveGroup(leave)).await? {
            Said::Done(done) => Ok(done),
            _ => Err(ClientError::UnexpectedReply("LeaveGroup")),
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

    /// Asks whether the server is there: how long the answer took, and the server's time.
    ///
    /// # Errors
    /// As [`Requests::request`].
    pub async fn ping(&self) -> Result<(Duration, proto::Pong), ClientError> {
        let since = Instant::now();
        let ping = proto::Ping { client_time_ms: unix_millis() };
        match self.request(Body::Ping(ping)).await? {
            Said::Pong(pong) => Ok((since.elapsed(), pong)),
            _ => Err(ClientError::UnexpectedReply("Ping")),
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("status", &self.status()).finish()
    }
}

/// A request that has its place in the order of requests; resolves with its reply.
#[derive(Debug)]
#[must_use = "awaiting it gives the reply"]
pub struct InFlight {
    reply: oneshot::Receiver<Outcome>,
}

impl Future for InFlight {
    type Output = Result<Said, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = Pin::new(&mut self.reply).poll(context);
        reply.map(|reply| reply.unwrap_or(Err(ClientError::Closed)))
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

fn draft(to: Recipient, content_type: String, content: Bytes, created_at_ms: u64) -> proto::Send {
    let to = Some(to.into());
    proto::Send { to, created_at_ms, content_type, content, ..proto::Send::default() }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
