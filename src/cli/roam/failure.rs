//! Why a command failed: a status for scripts, and what to do for people.

use std::io;

use crate::{
    cli::exit::Exit,
    client::ClientError,
    refusal::{ErrorCode, Retry},
    wire::proto::GoAwayReason,
};

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    text: String,
    hint: String,
}

impl Failure {
    /// With what happened and, if there is one, a hint.
    pub fn new(exit: Exit, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: hint.into() }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text, "see --help")
    }

    /// Tells it to stderr, and gives the status.
    #[must_use]
    pub fn tell(&self) -> Exit {
        if !self.text.is_empty() {
            eprintln!("roam: {}", self.text);
        }
        if !self.hint.is_empty() {
            eprintln!("  hint: {}", self.hint);
        }
        self.exit
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Connect { .. } | ClientError::Lost(_) => Exit::Unreachable,
            ClientError::Timeout { .. } => Exit::Timeout,
            ClientError::Refused(_) | ClientError::GoAway(_) | ClientError::TooLarge { .. } => {
                Exit::Refused
            }
            ClientError::Stream(_) => Exit::Violated,
            ClientError::Frame(_)
            | ClientError::Malformed(_)
            | ClientError::UnexpectedReply(_)
            | ClientError::NotARequest(_)
            | ClientError::Closed => Exit::Failed,
        };
        Self::new(exit, error.to_string(), hint(&error))
    }
}

fn is_about_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}

fn hint(error: &ClientError) -> &'static str {
    match error {
        ClientError::Connect { source, .. } if is_about_tls(source) => {
            "does the server speak TLS there? --ca says whom to trust, --server-name who it is"
        }
        ClientError::Connect { .. } => "is roamd running there? --server or ROAM_SERVER say where",
        ClientError::Timeout { .. } => "is it a roamd? --timeout gives it longer",
        ClientError::Lost(_) => "try again; a send is safe to repeat with the same --id",
        ClientError::GoAway(bye) => match bye.reason() {
            GoAwayReason::Replaced => {
                "another program has connected as the same device; --device gives this one its own"
            }
            GoAwayReason::TokenExpired => "make another token with `roamd token mint`",
            GoAwayReason::Draining => "the server stops; try again in a moment",
            _ => "",
        },
        ClientError::Refused(refused) => match (refused.code(), refused.retry) {
            (Some(ErrorCode::Unauthenticated), _) => {
                "was the token made with this server's key, and for this device? \
                 `roamd token check` tells"
            }
            (Some(ErrorCode::TokenExpired), _) => "make another token with `roamd token mint`",
            (Some(ErrorCode::NotFound), _) => {
                "`roam convs` lists conversations; for the one with a user write @USER"
            }
            (Some(ErrorCode::TooManyDevices), _) => "use the name of a known device with --device",
            (Some(ErrorCode::Forbidden), _) => {
                "your role does not allow it: `roam group members` shows who is owner or admin"
            }
            (Some(ErrorCode::ForbiddenScope), _) => {
                "this needs another token: roamd token mint --user USER --scope \"client admin\""
            }
            (Some(ErrorCode::WindowClosed), _) => {
                "the server allows it only for some time after sending"
            }
            (Some(ErrorCode::Conflict), _) => {
                "somebody was faster: `roam history` shows what it is now"
            }
            (Some(ErrorCode::FeatureOff), _) => "this server does not do that; a newer one may",
            (Some(ErrorCode::IdempotencyConflict), _) => "use another --id for another message",
            (Some(ErrorCode::ClientTooOld), _) => "use a newer roam",
            (Some(ErrorCode::ServerTooOld), _) => "use an older roam, or a newer roamd",
            (_, Retry::AfterDelay(_) | Retry::Reconnect(_)) => "try again in a moment",
            _ => "",
        },
        ClientError::Stream(_) | ClientError::Frame(_) | ClientError::Malformed(_) => {
            "this is a defect of the server or of this program; please report it"
        }
        _ => "",
    }
}
