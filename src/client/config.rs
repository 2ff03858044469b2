//! What a client needs to know before it starts.

use std::{fmt, time::Duration};

use super::{event::Tracer, replica::Position, tls::Tls};
use crate::{ack::AckConfig, wire::proto};

/// How a client connects and behaves. [`ClientConfig::new`] has the defaults.
#[derive(Clone)]
pub struct ClientConfig {
    /// `host:port`.
    pub address: String,
    /// Speak TLS, and trust these; none = the connection is plain.
    pub tls: Option<Tls>,
    /// The signed token; who the user is comes from it alone.
    pub token: String,
    /// The id of this installation.
    pub device: String,
    /// Free text for lists of devices, at most 64 bytes.
    pub platform: String,
    /// Name and version of the program, for the server's logs.
    pub program: String,
    /// What to do with the inbox.
    pub inbox: Inbox,
    /// What this client can take; zeros = the server's defaults.
    pub limits: proto::ClientLimits,
    /// How far this device has large conversations: the cursors of the last [`super::LargeEvent`] of
    /// each and of the last [`super::Snapshot`].
    pub large: Vec<proto::ConversationCursor>,
    /// The application is in the background: sessions begin as "away", and pushes are still sent.
    pub background: bool,
    /// When entries are acked.
    pub ack: AckConfig,
    /// Pauses before connecting again; none = a lost connection ends the client.
    pub reconnect: Option<Backoff>,
    /// From the first attempt to connect until Welcome.
    pub connect_timeout: Duration,
    /// Requests without a reply; one more waits.
    pub in_flight: usize,
    /// Is told what happens on the wire.
    pub tracer: Option<Tracer>,
}

impl ClientConfig {
    /// A device without a copy of the inbox, that follows it and reconnects by itself.
    #[must_use]
    pub fn new(
        address: impl Into<String>,
        token: impl Into<String>,
        device: impl Into<String>,
    ) -> Self {
        Self {
            address: address.into(),
            tls: None,
            token: token.into(),
            device: device.into(),
            platform: String::new(),
            program: concat!("roam/", env!("CARGO_PKG_VERSION")).into(),
            inbox: Inbox::Follow(None),
            limits: proto::ClientLimits::default(),
            large: Vec::new(),
            background: false,
            ack: AckConfig::CLIENT,
            reconnect: Some(Backoff::default()),
            connect_timeout: Duration::from_secs(10),
            in_flight: 256,
            tracer: None,
        }
    }

    /// Resumes after the last entry stored.
    #[must_use]
    pub fn resume(self, position: Position) -> Self {
        Self { inbox: Inbox::Follow(Some(position)), ..self }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token, which is a secret.
        f.debug_struct("ClientConfig")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .field("device", &self.device)
            .field("inbox", &self.inbox)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}

/// What a client does with the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbox {
    /// Gives every entry after this position as an event; none = there is no copy yet, so a snapshot
    /// comes first.
    Follow(Option<Position>),
    /// Only makes requests: the inbox is neither streamed nor acked, and there are no events of it.
    Ignore,
}

/// Exponential pauses with full jitter: a random part of `first`, then of twice that, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first pause.
    pub first: Duration,
    /// The longest of all pauses.
    pub most: Duration,
}

impl Default for Backoff {
    /// 100 ms to 10 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }
}
