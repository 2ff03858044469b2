//! The client library: one device of one user, kept in step with a daemon.
//!
//! ```no_run
//! use roamd::client::{Client, ClientConfig, Event, Recipient};
//!
//! # async fn example(token: String) -> Result<(), roamd::client::ClientError> {
//! let config = ClientConfig::new("127.0.0.1:7100", token, "laptop");
//! let mut client = Client::connect(config).await?;
//! client.send(Recipient::user("bob"), "text/plain", "hi bob").await?;
//! loop {
//!     match client.next_event().await? {
//!         Event::Snapshot(snapshot) => println!("{} conversations", snapshot.conversations.len()),
//!         Event::Entry { seq, entry } => println!("{seq}: {:?}", entry.kind),
//!         Event::CaughtUp(state) => {
//!             println!("{} unread", state.unread_total);
//!             break;
//!         }
//!         _ => {}
//!     }
//! }
//! client.close().await
//! # }
//! ```
//!
//! **Events and acks.** Events come in order from [`Client::next_event`]. Asking for the next one (or
//! [`Client::close`]) says that the one before is dealt with: stored, shown, whatever it takes so that
//! it may not come again. Only then is it acked, delayed and riding on other frames. A program that is
//! killed in between gets the event again after it has started with the position it stored.
//!
//! **Back-pressure.** While nobody takes events nothing is acked, so the server stops the stream at
//! what was agreed (1000 entries or 1 MiB) and the log waits on its disk. Replies to requests go on, so
//! an event loop may await them.
//!
//! **Lost connections.** The client comes back by itself, with growing pauses and jitter, and resumes
//! where the consumer stands. Sends without an ack are sent again, in order and with the same
//! `client_message_id`; other requests that were on their way fail with [`ClientError::Lost`].
//!
//! **TLS.** [`ClientConfig::tls`] says whom to trust. A device comes back with a ticket of its last
//! connection, which is cheap for both sides.
//!
//! **TooLong.** The client pages the list of conversations and gives it as [`Event::Snapshot`]; asking
//! for the next event adopts its position.
//!
//! **Large groups.** Messages of a group with many members are no entries of the inbox: the client
//! follows the group's history, fetches what it lacks by itself, and gives every message once and in
//! order as [`Event::Large`]. Store the cursor that comes with each, and give all back in
//! [`ClientConfig::large`]. Without room (the consumer takes nothing) pushes are forgotten and fetched
//! when there is some.
//!
//! ```text
//! Requests ──▶ outbox ┐                      ┌──▶ events ──▶ Client
//!                     ├─ task ⇄ connection ──┤
//!   replica (acks) ───┘                      └──▶ replies ─▶ Requests
//! ```
//!
//! One task per client owns the connection; the dialog on it, [`replica`], [`large`] and the outbox are
//! without input and output. Speaks generated types where people would otherwise need a copy of each.

mod backoff;
mod config;
mod connection;
mod dialog;
mod error;
mod event;
pub mod large;
mod outbox;
mod queue;
pub mod replica;
mod requests;
mod shared;
#[cfg(feature = "simulation")]
pub mod simulated;
mod task;
mod tls;
mod transport;

use std::{fmt, ops::Deref, sync::Arc};

use tokio::task::JoinHandle;

use self::shared::Shared;
pub use self::{
    config::{Backoff, ClientConfig, Inbox},
    error::{ClientError, RefusedBy},
    event::{Event, LargeEvent, LargeNews, Link, Snapshot, Status, Trace, Tracer},
    replica::Position,
    requests::{InFlight, Page, Recipient, Requests, SendInFlight, Wishes},
    tls::{Tls, TlsError},
};

/// A device's session with a daemon, across connections. See the head of this module.
///
/// Requests are those of [`Requests`]; [`Client::requests`] gives a handle for other tasks. Dropping a
/// client ends it at once, without a last ack; [`Client::close`] ends it properly.
pub struct Client {
    requests: Requests,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Client {
    /// Connects, and returns when the server has said Welcome.
    ///
    /// # Errors
    /// The first attempt's [`ClientError`]; no other is made. Later ones are, if the configuration says
    /// so.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let (client, first) = Self::spawn(config, true);
        match first.await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ClientError::Closed),
        }
    }

    /// Starts without waiting: connects, and connects again, in the background. Requests wait until
    /// there is a session.
    ///
    /// Must be called on a tokio runtime.
    #[must_use]
    pub fn start(config: ClientConfig) -> Self {
        Self::spawn(config, false).0
    }

    fn spawn(config: ClientConfig, once: bool) -> (Self, task::First) {
        let shared = Shared::new(&config);
        let (task, first) = task::Task::new(config, Arc::clone(&shared), once);
        let task = tokio::spawn(task.run());
        (Self { requests: Requests::new(Arc::clone(&shared)), shared, task }, first)
    }

    /// A handle to make requests with, for other tasks.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The next event. Says that the events given before are dealt with (see the head of the module).
    ///
    /// Cancel safe: an event is either returned or still there.
    ///
    /// # Errors
    /// Why the client has ended, once all events have been given; the same again when asked again.
    pub async fn next_event(&mut self) -> Result<Event, ClientError> {
        loop {
            if let Some(event) = self.shared.take_event(now())? {
                return Ok(event);
            }
            self.shared.events.notified().await;
        }
    }

    /// Waits for an event, then appends all that wait to `events`, at most `most`: for those who store
    /// many in one transaction.
    ///
    /// Says that the events given before are dealt with, as [`Client::next_event`] does. Cancel safe.
    ///
    /// # Errors
    /// As [`Client::next_event`].
    pub async fn next_events(
        &mut self,
        events: &mut Vec<Event>,
        most: usize,
    ) -> Result<(), ClientError> {
        loop {
            if self.shared.take_events(now(), events, most)? > 0 || most == 0 {
                return Ok(());
            }
            self.shared.events.notified().await;
        }
    }

    /// Gives up the connection at once, as if the network had lost it, and comes back: for a program that
    /// knows that the network has changed. Without a session nothing happens.
    pub fn reconnect(&self) {
        self.shared.reconnect();
    }

    /// Ends the session: acks what was dealt with (the event given last included), waits for replies
    /// still due, says Bye and waits until the server has closed.
    ///
    /// # Errors
    /// [`ClientError`] when the server could not be told. A send without an ack is then of unknown
    /// outcome.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.shared.close(now());
        let _ = (&mut self.task).await;
        self.shared.how_it_ended()
    }
}

impl Deref for Client {
    type Target = Requests;

    fn deref(&self) -> &Requests {
        &self.requests
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.end(ClientError::Closed);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}
