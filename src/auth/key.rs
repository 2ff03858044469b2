//! One key: a name, one algorithm, and what signs and verifies with it.

use std::{fmt, io, path::PathBuf};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding},
};
use jsonwebtoken::{DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Shortest HS256 secret, in bytes: as long as its hash.
pub const SECRET_BYTES_MIN: usize = 32;
/// The `kid` of the HS256 secret. There is at most one, and a token may leave it out.
pub const SHARED_SECRET_KID: &str = "hs256";
/// Longest name of a key, in bytes.
const KID_BYTES_MAX: usize = 64;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519: the daemon's own keys.
    EdDsa,
    /// HMAC with SHA-256: a secret shared with whoever makes the tokens.
    Hs256,
}

impl Algorithm {
    pub(super) const fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
        }
    }
}

/// Why a key or a ring of keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// People other than the owner have access to a secret.
    #[error("{} is open to others (mode {mode:03o}); chmod it to {wanted:03o}", path.display())]
    OpenToOthers {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// A key's name breaks the rule: 1..=64 of letters, digits, `.`, `_`, `-`, not starting with `.`.
    #[error("{kid:?} is no name for a key: use at most 64 letters, digits, '.', '_' and '-'")]
    BadName {
        /// The name.
        kid: String,
    },
    /// Not an Ed25519 private key in PKCS #8 PEM.
    #[error("key {kid} is not an Ed25519 private key in PKCS #8 PEM form")]
    NotAKey {
        /// The key's name.
        kid: String,
    },
    /// A shared secret shorter than [`SECRET_BYTES_MIN`].
    #[error("the secret has {bytes} bytes and needs at least 32")]
    SecretTooShort {
        /// Its length without the line end.
        bytes: usize,
    },
    /// Larger than a key file can reasonably be.
    #[error("{} is too large for a key", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Two keys of one name.
    #[error("there are two keys named {kid}")]
    Duplicate {
        /// The name.
        kid: String,
    },
    /// A ring needs at least one key.
    #[error("there is no key")]
    NoKey,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// The token library refused to sign.
    #[error("cannot sign")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Tells keys apart by what they verify with, whatever they are called: a key that was replaced under
/// its name is another one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyMark([u8; 16]);

impl KeyMark {
    fn of(algorithm: Algorithm, verifies: &[u8]) -> Self {
        let name: &[u8] = match algorithm {
            Algorithm::EdDsa => b"roamd key EdDSA ",
            Algorithm::Hs256 => b"roamd key HS256 ",
        };
        let digest = Sha256::new().chain_update(name).chain_update(verifies).finalize();
        let mut first = [0; 16];
        first.iter_mut().zip(digest).for_each(|(to, byte)| *to = byte);
        Self(first)
    }
}

impl fmt::Debug for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a secret: it could be guessed by it.
        f.write_str("KeyMark")
    }
}

/// A named key with its one algorithm.
pub struct Key {
    kid: String,
    algorithm: Algorithm,
    mark: KeyMark,
    pub(super) signs: EncodingKey,
    pub(super) verifies: DecodingKey,
}

impl Key {
    /// A shared HS256 secret, named [`SHARED_SECRET_KID`].
    ///
    /// # Errors
    /// [`KeyError::SecretTooShort`].
    pub fn hs256(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort { bytes: secret.len() });
        }
        Ok(Self {
            kid: SHARED_SECRET_KID.to_owned(),
            algorithm: Algorithm::Hs256,
            mark: KeyMark::of(Algorithm::Hs256, secret),
            signs: EncodingKey::from_secret(secret),
            verifies: DecodingKey::from_secret(secret),
        })
    }

    /// An Ed25519 private key in PKCS #8 PEM form, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`KeyError::BadName`], [`KeyError::NotAKey`].
    pub fn ed25519(kid: &str, pem: &str) -> Result<Self, KeyError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=KID_BYTES_MAX).contains(&kid.len())
            || kid.starts_with('.')
            || kid == SHARED_SECRET_KID
            || !kid.chars().all(letter)
        {
            return Err(KeyError::BadName { kid: kid.to_owned() });
        }
        let not_a_key = || KeyError::NotAKey { kid: kid.to_owned() };
        let secret = SigningKey::from_pkcs8_pem(pem).map_err(|_| not_a_key())?;
        let der = secret.to_pkcs8_der().map_err(|_| not_a_key())?;
        Ok(Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::EdDsa,
            mark: KeyMark::of(Algorithm::EdDsa, secret.verifying_key().as_bytes()),
            signs: EncodingKey::from_ed_der(der.as_bytes()),
            verifies: DecodingKey::from_ed_der(secret.verifying_key().as_bytes()),
        })
    }

    /// Its name, as in the header of the tokens it signs.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it is recognised by.
    #[must_use]
    pub const fn mark(&self) -> KeyMark {
        self.mark
    }

    /// The only algorithm it is used with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.kid, self.algorithm)
    }
}

/// A fresh Ed25519 private key: the first 8 hexadecimal digits of its public half, and its PEM.
pub(super) fn generate() -> Result<(String, Zeroizing<String>), KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    let secret = SigningKey::from_bytes(&seed);
    let public = secret.verifying_key();
    let tag = public.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let pem = secret
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|_| KeyError::NotAKey { kid: String::from("new") })?;
    Ok((tag, pem))
}
