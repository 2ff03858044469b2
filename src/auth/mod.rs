//! Who is calling: signed tokens and the keys that sign them.
//!
//! A token is a JWT: `sub` = user, optional `device`, `scope` = words parted by a space, `exp`,
//! optional `nbf` and `iat`, and in its header the `kid` of the key. Nothing is stored to verify
//! one; whether it was revoked since is the caller's question, who has [`Claims::issued`] for it, as
//! is whether [`Claims::device`] is the device that says Hello.
//!
//! Invariants: a key has one algorithm and verifies nothing else, whatever a header claims; nothing
//! of a token is believed before its signature holds; a refusal tells the outside only invalid or
//! expired; secrets are wiped when dropped and never shown by `Debug`; time is an argument.

mod files;
mod key;
mod ring;
mod scope;
#[cfg(test)]
mod tests;
mod verified;

pub use files::{KEY_FOLDER, SECRET_BYTES_MAX, secret_file};
pub use key::{Algorithm, Key, KeyError, KeyMark, SECRET_BYTES_MIN, SHARED_SECRET_KID};
pub use ring::{KeyRing, TOKEN_BYTES_MAX};
pub use scope::{Scope, ScopeError, Scopes};

use crate::{
    id::{DeviceId, UserId},
    time::Timestamp,
};

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The account.
    pub user: UserId,
    /// The only installation that may use the token; none = any of the user's.
    pub device: Option<DeviceId>,
    /// What it allows; may be nothing.
    pub scopes: Scopes,
    /// From then on it is not accepted.
    pub expires: Timestamp,
    /// When it was made, in whole seconds rounded down; 1970 when the token does not say, so that
    /// any revocation of the user's older tokens includes it.
    pub issued: Timestamp,
    /// The key that signed it; a session outlives its token's key by nothing.
    pub key: KeyMark,
}

/// Why a token is not accepted. Says no more than the bearer may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Damaged, forged, for someone else, from an unknown key, or not yet valid.
    #[error("the token is not valid")]
    Invalid,
    /// Genuine, but its time is over.
    #[error("the token has expired")]
    Expired,
}
