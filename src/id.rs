//! Identifiers: who and what. Values that exist are valid; the constructor keeps the rule.
//!
//! Text ids are 1..=64 bytes of printable UTF-8 without white space or control characters. They are
//! cheap to clone (a shared string) and compare by value.

use std::{borrow::Borrow, fmt, sync::Arc};

/// Longest text id, in bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No bytes at all.
    #[error("is empty")]
    Empty,
    /// More than [`ID_BYTES_MAX`] bytes.
    #[error("is longer than 64 bytes")]
    TooLong,
    /// White space, a control character, or an invisible format character.
    #[error("contains white space or a character that is not printable")]
    NotPrintable,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong);
    }
    // Nearly all ids are of these, and each is checked whenever it is read.
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let hidden = |c: char| {
        matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || hidden(c)) {
        return Err(IdError::NotPrintable);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the rule for ids and keeps the text.
            ///
            /// # Errors
            /// [`IdError`] says which part of the rule is broken.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The bytes of the id, as stored in keys.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
    };
}

text_id! {
    /// An account.
    UserId
}
text_id! {
    /// One installation of an account.
    DeviceId
}
text_id! {
    /// A conversation: direct or group.
    ConversationId
}

impl ConversationId {
    /// The id of the direct conversation of two users: the same whoever starts.
    ///
    /// A 128-bit hash (XXH3) of the two length-prefixed ids in byte order, as `d.` and 26 base-32
    /// characters, so it neither names the two nor exceeds the id limit.
    #[must_use]
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut bytes = [0; 2 * (1 + ID_BYTES_MAX)];
        let mut len = 0;
        for id in [low.as_bytes(), high.as_bytes()] {
            bytes[len] = id.len() as u8;
            bytes[len + 1..=len + id.len()].copy_from_slice(id);
            len += 1 + id.len();
        }
        Self(named::<28>(b'd', xxhash_rust::xxh3::xxh3_128(&bytes[..len])))
    }

    /// The id of a group the server names: `g.` and 13 base-32 characters of a unique number.
    #[must_use]
    pub fn group(number: u64) -> Self {
        Self(named::<15>(b'g', u128::from(number)))
    }
}

impl ConversationId {
    /// Whether it is that of a direct conversation.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.0.starts_with("d.")
    }

    /// Whether the id is of the form the server itself gives (`d.` or `g.`), which no caller may
    /// choose: a chosen id must never meet a direct conversation of others.
    #[must_use]
    pub fn has_server_form(&self) -> bool {
        self.0.starts_with("d.") || self.0.starts_with("g.")
    }
}

/// Crockford's base 32.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A letter, a dot, and `value` in base 32 in the places that are left, most significant digit first.
fn named<const LEN: usize>(letter: u8, mut value: u128) -> Arc<str> {
    let mut text = [b'0'; LEN];
    for digit in text[2..].iter_mut().rev() {
        *digit = BASE32[(value & 31) as usize];
        value >>= 5;
    }
    text[0] = letter;
    text[1] = b'.';
    std::str::from_utf8(&text).unwrap_or_default().into()
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// A message, unique in the data set.
    MessageId
}
number_id! {
    /// One life of a device's connection; fences an older session of the same device.
    SessionId
}
number_id! {
    /// Names a data set; changes when it is restored or repaired.
    Epoch
}
number_id! {
    /// A sender's own number for a message, unique per device, best increasing. 0 = none.
    ClientMessageId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_the_rule() {
        for good in ["a", "alice", "日本語", "a|b`[]\\^", &"x".repeat(64)] {
            assert!(UserId::new(good).is_ok(), "{good}");
        }
        assert_eq!(UserId::new(""), Err(IdError::Empty));
        assert_eq!(UserId::new(&"x".repeat(65)), Err(IdError::TooLong));
        for bad in ["a b", "a\n", "\u{0}", "a\u{200b}b", "\u{feff}", "a\u{a0}"] {
            assert_eq!(UserId::new(bad), Err(IdError::NotPrintable), "{bad:?}");
        }
    }

    #[test]
    fn direct_id_is_symmetric_and_separates_pairs() {
        let id = |s: &str| UserId::new(s).unwrap();
        let ab = ConversationId::direct(&id("a"), &id("b"));
        assert_eq!(ab, ConversationId::direct(&id("b"), &id("a")));
        assert_ne!(
            ConversationId::direct(&id("ab"), &id("c")),
            ConversationId::direct(&id("a"), &id("bc"))
        );
        assert_eq!(ab.as_str(), "d.30tj006z0mgn3pchctma3caj69");
        assert_eq!(ConversationId::group(1 << 60).as_str(), "g.1000000000000");
        assert!(ab.has_server_form() && ConversationId::group(u64::MAX).has_server_form());
        assert!(!ConversationId::new("dogs").unwrap().has_server_form());
        assert!(ConversationId::new(ab.as_str()).is_ok());
    }
}
