//! Requests: what can be asked of the server, from any task. One file per topic of the proto.

mod devices;
mod groups;
mod messages;
mod own;
mod reads;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::oneshot, time::Instant};

pub use self::{
    messages::{Recipient, SendInFlight},
    own::Wishes,
    reads::Page,
};
use super::{
    error::ClientError,
    event::Status,
    outbox::{Outcome, Waiter},
    shared::Shared,
};
use crate::{
    limits::CLIENT_FRAME_BYTES_MAX,
    wire::{proto, proto::client_frame::Body, proto::server_frame::Body as Said},
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

    /// A request that is answered by Done; `what` names it when it is not.
    async fn done(&self, body: Body, what: &'static str) -> Result<proto::Done, ClientError> {
        match self.request(body).await? {
            Said::Done(done) => Ok(done),
            _ => Err(ClientError::UnexpectedReply(what)),
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

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
