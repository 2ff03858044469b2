//! All keys that are accepted, the one that signs, and the form of a token.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    Algorithm, AuthError, Claims, Key, KeyError, KeyMark, SHARED_SECRET_KID, Scopes,
    verified::Verified,
};
use crate::{
    id::{DeviceId, UserId},
    limits,
    time::Timestamp,
};

/// Longest token that is looked at, in bytes: no longer one fits the first frame.
pub const TOKEN_BYTES_MAX: usize = limits::GREETING_FRAME_BYTES_MAX;

/// The keys in force. A value: a reload makes a new ring. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// By name; never empty.
    keys: Arc<BTreeMap<String, Key>>,
    /// Of this ring's keys; shared by all that were cloned from it.
    verified: Arc<Verified>,
}

impl KeyRing {
    /// A ring of these keys. The Ed25519 key whose name sorts last signs; without one, the secret.
    ///
    /// # Errors
    /// [`KeyError::NoKey`], [`KeyError::Duplicate`].
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let mut ring = BTreeMap::new();
        for key in keys {
            let kid = key.kid().to_owned();
            if ring.insert(kid.clone(), key).is_some() {
                return Err(KeyError::Duplicate { kid });
            }
        }
        if ring.is_empty() {
            return Err(KeyError::NoKey);
        }
        Ok(Self { keys: Arc::new(ring), verified: Arc::default() })
    }

    /// Whether the token is genuine and in time at `now`, and what it says.
    ///
    /// # Errors
    /// [`AuthError::Expired`] for a genuine token from its `exp` on, without leeway;
    /// [`AuthError::Invalid`] for everything else.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, AuthError> {
        let (said, key) = self.genuine(token).ok_or(AuthError::Invalid)?;
        let claims = said.claims(key).ok_or(AuthError::Invalid)?;
        if now >= claims.expires {
            return Err(AuthError::Expired);
        }
        if said.nbf.is_some_and(|NumericDate(from)| now < from) {
            return Err(AuthError::Invalid);
        }
        Ok(claims)
    }

    /// A token for `user`, of `ttl` from `now` on, rounded up to a whole second.
    ///
    /// # Errors
    /// [`KeyError::Sign`] when the token library refuses.
    pub fn mint(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        scopes: Scopes,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<String, KeyError> {
        let key = self.signing().ok_or(KeyError::NoKey)?;
        let mut header = Header::new(key.algorithm().jwt());
        header.kid = Some(key.kid().to_owned());
        let said = Minted {
            sub: user.as_str(),
            device: device.map(DeviceId::as_str),
            scope: scopes.to_string(),
            iat: now.millis() / 1000,
            exp: now.plus(ttl).millis().div_ceil(1000),
        };
        jsonwebtoken::encode(&header, &said, &key.signs).map_err(KeyError::Sign)
    }

    /// Whether this key is accepted.
    #[must_use]
    pub fn has(&self, key: KeyMark) -> bool {
        self.keys.values().any(|own| own.mark() == key)
    }

    /// The names of all keys, in order.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The key that signs new tokens.
    #[must_use]
    pub fn signing(&self) -> Option<&Key> {
        let own = self.keys.values().rev().find(|key| key.algorithm() == Algorithm::EdDsa);
        own.or_else(|| self.keys.values().next_back())
    }

    /// The content of a token whose signature holds under the key it names.
    fn genuine(&self, token: &str) -> Option<(Said, KeyMark)> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        if let Some(place) = self.verified.signed_by(token) {
            // The very bytes that were found good when they were shown first: they are only read again.
            let said = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
            return Some((said, self.keys.values().nth(place)?.mark()));
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        // Extensions that must be understood are not understood here.
        if header.crit.is_some() {
            return None;
        }
        let kid = header.kid.as_deref().unwrap_or(SHARED_SECRET_KID);
        let key = self.keys.get(kid)?;
        let mut validation = Validation::new(key.algorithm().jwt());
        // The library would read the system's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        // The library compares signatures in constant time.
        let said = jsonwebtoken::decode(token, &key.verifies, &validation).ok()?.claims;
        if let Some(place) = self.keys.keys().position(|own| own == kid) {
            self.verified.holds(token, place);
        }
        Some((said, key.mark()))
    }
}

#[derive(Serialize)]
struct Minted<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    scope: String,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Said {
    sub: String,
    device: Option<String>,
    #[serde(default)]
    scope: String,
    exp: NumericDate,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
}

impl Said {
    fn claims(&self, key: KeyMark) -> Option<Claims> {
        Some(Claims {
            user: UserId::new(&self.sub).ok()?,
            device: self.device.as_deref().map(DeviceId::new).transpose().ok()?,
            scopes: Scopes::known(&self.scope),
            expires: self.exp.0,
            issued: self.iat.map_or(Timestamp::default(), |NumericDate(time)| time),
            key,
        })
    }
}

/// Unix seconds, possibly with a fraction (RFC 7519, section 2).
#[derive(Clone, Copy)]
struct NumericDate(Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(Timestamp::from_millis(seconds.saturating_mul(1000))))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<NumericDate, E> {
                if !seconds.is_finite() || seconds < 0.0 {
                    return Err(E::custom("out of range"));
                }
                Ok(NumericDate(Timestamp::from_millis((seconds * 1000.0) as u64)))
            }
        }
        from.deserialize_any(Visitor)
    }
}
