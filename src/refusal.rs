//! Refusals: the error registry, and what a client does after each code.

use std::time::Duration;

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After a while.
    AfterDelay(Duration),
    /// On a new connection, after a while.
    Reconnect(Duration),
    /// With a fresh token.
    Reauth,
    /// After the TooLong path.
    Resync,
    /// With the same client id.
    SameId,
}

impl Retry {
    /// The same advice with a wait between one and two times as long, by `seed`: those who are refused
    /// together do not come back together.
    #[must_use]
    pub fn spread(self, seed: u64) -> Self {
        // Neighbours in `seed` are far apart in what comes out.
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let longer = |wait: Duration| wait + wait.mul_f64(mixed as f64 / 4_294_967_296.0);
        match self {
            Self::AfterDelay(wait) => Self::AfterDelay(longer(wait)),
            Self::Reconnect(wait) => Self::Reconnect(longer(wait)),
            other => other,
        }
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retry:expr;)*) => {
        /// The error registry: what programs branch on. Numbers as in `proto/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As on the wire.
            #[must_use]
            pub const fn number(self) -> i32 { self as i32 }

            /// The registry's name, as in the proto without its prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What a client does by default after this code.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

const SOON: Duration = Duration::from_millis(500);

error_codes! {
    /// Length of zero, or a varint longer than it needs to be.
    BadFrame = 100, "BAD_FRAME", Retry::Never;
    /// Over the frame limit.
    FrameTooLarge = 101, "FRAME_TOO_LARGE", Retry::Never;
    /// Not a ClientFrame.
    Malformed = 102, "MALFORMED", Retry::Never;
    /// No known body.
    UnknownRequest = 103, "UNKNOWN_REQUEST", Retry::Never;
    /// An argument breaks a rule.
    InvalidArgument = 104, "INVALID_ARGUMENT", Retry::Never;
    /// Too many repeated elements.
    TooManyItems = 105, "TOO_MANY_ITEMS", Retry::Never;
    /// Not switched on.
    FeatureOff = 106, "FEATURE_OFF", Retry::Never;
    /// Zero or still outstanding.
    BadRequestId = 107, "BAD_REQUEST_ID", Retry::Never;
    /// More outstanding than allowed.
    TooManyRequests = 108, "TOO_MANY_REQUESTS", Retry::AfterDelay(SOON);
    /// First frame was something else.
    HelloExpected = 200, "HELLO_EXPECTED", Retry::Reconnect(SOON);
    /// First frame came too late.
    HelloTimeout = 201, "HELLO_TIMEOUT", Retry::Reconnect(SOON);
    /// The client's protocol is older than the server's.
    ClientTooOld = 202, "CLIENT_TOO_OLD", Retry::Never;
    /// The server's protocol is older than the client's.
    ServerTooOld = 203, "SERVER_TOO_OLD", Retry::Never;
    /// Token not accepted.
    Unauthenticated = 204, "UNAUTHENTICATED", Retry::Reauth;
    /// Token expired.
    TokenExpired = 205, "TOKEN_EXPIRED", Retry::Reauth;
    /// Token lacks the scope.
    ForbiddenScope = 206, "FORBIDDEN_SCOPE", Retry::Never;
    /// Not in this state.
    WrongState = 207, "WRONG_STATE", Retry::Reconnect(SOON);
    /// The user has too many devices.
    TooManyDevices = 208, "TOO_MANY_DEVICES", Retry::Never;
    /// Ack of something never sent on this session.
    AckBeyondSent = 300, "ACK_BEYOND_SENT", Retry::Resync;
    /// Foreign snapshot or page token.
    BadToken = 301, "BAD_TOKEN", Retry::Never;
    /// The position is gone.
    ResyncNeeded = 302, "RESYNC_NEEDED", Retry::Resync;
    /// Not there or not for this user.
    NotFound = 400, "NOT_FOUND", Retry::Never;
    /// May see, may not do.
    Forbidden = 401, "FORBIDDEN", Retry::Never;
    /// Same client id, other payload.
    IdempotencyConflict = 402, "IDEMPOTENCY_CONFLICT", Retry::Never;
    /// Older than what is remembered.
    Stale = 403, "STALE", Retry::Never;
    /// Content over the limit.
    ContentTooLarge = 404, "CONTENT_TOO_LARGE", Retry::Never;
    /// Anchor below what is visible.
    BelowFloor = 405, "BELOW_FLOOR", Retry::Never;
    /// Somebody else was faster.
    Conflict = 406, "CONFLICT", Retry::Never;
    /// Group is full.
    TooManyMembers = 407, "TOO_MANY_MEMBERS", Retry::Never;
    /// Too late for that.
    WindowClosed = 408, "WINDOW_CLOSED", Retry::Never;
    /// Was there, is no more.
    Gone = 409, "GONE", Retry::Never;
    /// The id is taken.
    AlreadyExists = 410, "ALREADY_EXISTS", Retry::Never;
    /// A defect of the server.
    Internal = 500, "INTERNAL", Retry::SameId;
    /// The server stops.
    Draining = 501, "DRAINING", Retry::Reconnect(SOON);
    /// The server has too much to do.
    Overloaded = 502, "OVERLOADED", Retry::AfterDelay(SOON);
    /// The caller does too much.
    RateLimited = 503, "RATE_LIMITED", Retry::AfterDelay(SOON);
    /// No space left; reads work.
    StorageFull = 504, "STORAGE_FULL", Retry::AfterDelay(Duration::from_secs(5));
    /// Repeat with the same id.
    TimeoutUnknownOutcome = 505, "TIMEOUT_UNKNOWN_OUTCOME", Retry::SameId;
}

/// A refusal: a code for programs, a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct Refusal {
    /// What programs branch on.
    pub code: ErrorCode,
    /// What to do.
    pub retry: Retry,
    /// For people; says nothing about what the caller may not know.
    pub detail: String,
    /// The connection closes after it.
    pub fatal: bool,
}

impl Refusal {
    /// A refusal that leaves the connection open, with the code's default advice.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, retry: code.retry(), detail: detail.into(), fatal: false }
    }

    /// A refusal that closes the connection.
    #[must_use]
    pub fn fatal(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { fatal: true, ..Self::new(code, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_refused_together_come_back_apart() {
        let wait = |seed| match Retry::AfterDelay(SOON).spread(seed) {
            Retry::AfterDelay(wait) => wait,
            other => panic!("{other:?}"),
        };
        // A thousand in a row, over the half second: about a hundred in every twentieth of it.
        let mut twentieths = [0; 10];
        for seed in 1_700_000_000_000 << 20..(1_700_000_000_000 << 20) + 1000 {
            let more = wait(seed) - SOON;
            assert!(more <= SOON);
            twentieths[(more.as_millis() / 50).min(9) as usize] += 1;
        }
        assert!(twentieths.iter().all(|count| (80..120).contains(count)), "{twentieths:?}");
        assert_eq!(Retry::Resync.spread(7), Retry::Resync);
        assert_eq!(Retry::Reconnect(Duration::ZERO).spread(7), Retry::Reconnect(Duration::ZERO));
    }
}
