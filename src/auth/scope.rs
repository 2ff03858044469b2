//! What a token allows.

use std::{fmt, str::FromStr};

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Open sessions as the user.
    Client,
    /// Tell users something as the system; use the admin port.
    Admin,
    /// Take jobs from the push outbox.
    Push,
}

impl Scope {
    /// All scopes, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Client, Self::Admin, Self::Push];

    /// The word for it in a token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Push => "push",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Scope`]s. Written as words parted by a space; read with spaces or commas.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No permission at all.
    pub const NONE: Self = Self(0);

    /// The set of these.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Whether the set has this one.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The scopes among these words. Others, perhaps of a newer version, grant nothing.
    pub(super) fn known(text: &str) -> Self {
        let known = words(text).filter_map(|word| word.parse().ok());
        Self(known.fold(0, |bits, scope: Scope| bits | scope.bit()))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|word| !word.is_empty())
}

/// A word that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no scope; there are client, admin and push")]
pub struct ScopeError(String);

impl FromStr for Scope {
    type Err = ScopeError;
    fn from_str(word: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.name() == word)
            .ok_or_else(|| ScopeError(word.to_owned()))
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        words(text).try_fold(Self::NONE, |set, word| Ok(Self(set.0 | word.parse::<Scope>()?.bit())))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Scope::name).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for bits in 0..8 {
            let set = Scopes(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        let set: Scopes = "push,client".parse().unwrap();
        assert_eq!(set, Scopes::of(&[Scope::Client, Scope::Push]));
        assert_eq!(set.to_string(), "client push");
        assert!(!set.contains(Scope::Admin));
        assert_eq!("client root".parse::<Scopes>(), Err(ScopeError("root".into())));
        assert_eq!(Scopes::known("client root Admin"), Scopes::of(&[Scope::Client]));
    }
}
