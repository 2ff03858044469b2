//! What goes wrong for a client, and what to do then.

use std::{fmt, io, sync::Arc, time::Duration};

use super::replica::StreamError;
use crate::{
    refusal::{ErrorCode, Retry},
    wire::{FrameError, MalformedFrame, proto},
};

/// Why a request failed or a client ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection can be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No connection or no Welcome in the time allowed.
    #[error("no answer from {address} within {} s", waited.as_secs_f32())]
    Timeout {
        /// Who.
        address: String,
        /// The time allowed.
        waited: Duration,
    },
    /// The server says no.
    #[error(transparent)]
    Refused(RefusedBy),
    /// The server has ended the session.
    #[error("the server ended the session: {}", goodbye(.0))]
    GoAway(proto::GoAway),
    /// The connection was lost. Whether a request that was on its way was done is unknown.
    #[error("the connection was lost: {0}")]
    Lost(Arc<io::Error>),
    /// The server breaks the order of the stream.
    #[error("the server broke the order of the stream: {0}")]
    Stream(#[from] StreamError),
    /// The server breaks the framing.
    #[error("the server broke the framing: {0}")]
    Frame(#[from] FrameError),
    /// The server sent something that is no frame of the protocol.
    #[error("the server broke the protocol: {0}")]
    Malformed(#[from] MalformedFrame),
    /// The server sent something else than belongs here.
    #[error("the server's answer is not one that belongs to {0}")]
    UnexpectedReply(&'static str),
    /// The request does not fit a frame.
    #[error("the request has {bytes} bytes, a frame may have {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Hello, Resume, Ack and Bye are made by the library.
    #[error("{0} belongs to the library, it is not a request")]
    NotARequest(&'static str),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

impl ClientError {
    /// The server's code, for programs; none = not a refusal, or a code newer than this library.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refused) => refused.code(),
            _ => None,
        }
    }

    /// What to do.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(refused) => refused.retry,
            Self::GoAway(bye) => match bye.reason() {
                proto::GoAwayReason::Replaced => Retry::Never,
                proto::GoAwayReason::Kicked
                | proto::GoAwayReason::Revoked
                | proto::GoAwayReason::TokenExpired => Retry::Reauth,
                _ => Retry::Reconnect(Duration::from_millis(bye.retry_after_ms.into())),
            },
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Lost(_)
            | Self::Stream(_)
            | Self::Frame(_)
            | Self::Malformed(_)
            | Self::UnexpectedReply(_) => Retry::Reconnect(Duration::ZERO),
            Self::TooLarge { .. } | Self::NotARequest(_) | Self::Closed => Retry::Never,
        }
    }

    /// The least time to wait before trying again.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self.retry() {
            Retry::AfterDelay(wait) | Retry::Reconnect(wait) => wait,
            Retry::Never | Retry::Reauth | Retry::Resync | Retry::SameId => Duration::ZERO,
        }
    }

    /// Whether a new connection may help, after this one ended with this error.
    pub(super) fn is_temporary(&self) -> bool {
        !matches!(self.retry(), Retry::Never | Retry::Reauth)
    }

    pub(super) fn lost(error: io::Error) -> Self {
        Self::Lost(Arc::new(error))
    }
}

fn goodbye(bye: &proto::GoAway) -> String {
    let name = bye.reason().as_str_name().trim_start_matches("GO_AWAY_REASON_");
    if bye.detail.is_empty() { name.to_owned() } else { format!("{name}: {}", bye.detail) }
}

/// A refusal of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBy {
    /// The code's number, as in the proto.
    pub number: i32,
    /// What to do.
    pub retry: Retry,
    /// For people.
    pub detail: String,
    /// The server closes the connection after it.
    pub fatal: bool,
}

impl RefusedBy {
    /// The code, if this library knows it.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.number() == self.number)
    }
}

impl std::error::Error for RefusedBy {}

impl fmt::Display for RefusedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{}: {}", code.name(), self.detail),
            None => write!(f, "error {}: {}", self.number, self.detail),
        }
    }
}

impl From<proto::Error> for RefusedBy {
    fn from(error: proto::Error) -> Self {
        let after = Duration::from_millis(error.retry_after_ms.into());
        let retry = match error.retry() {
            proto::Retry::Unspecified | proto::Retry::Never => Retry::Never,
            proto::Retry::AfterDelay => Retry::AfterDelay(after),
            proto::Retry::Reconnect => Retry::Reconnect(after),
            proto::Retry::Reauth => Retry::Reauth,
            proto::Retry::Resync => Retry::Resync,
            proto::Retry::SameId => Retry::SameId,
        };
        Self { number: error.code, retry, detail: error.detail, fatal: error.fatal }
    }
}
