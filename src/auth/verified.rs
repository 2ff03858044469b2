//! Tokens whose signature was found to hold: devices come back with the token that they had, and to check
//! a signature costs more than everything else of a Hello.
//!
//! Nothing else is remembered, and a token by its digest alone. What it says, its time above all, is read
//! from it whenever it is shown, and what was revoked since is the caller's question as always. The memory
//! belongs to one ring of keys: a reload begins with none.

use std::{fmt, mem};

use hashbrown::HashMap;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// So many are remembered for certain. One that is not shown while as many others come is forgotten.
const REMEMBERED: usize = 1 << 16;

/// The first half of a token's SHA-256: nobody finds another token that has it.
type Name = [u8; 16];

#[derive(Default)]
pub(super) struct Verified(Mutex<Memory>);

/// The place of the key among those of the ring, by token.
#[derive(Default)]
struct Memory {
    young: HashMap<Name, u16>,
    old: HashMap<Name, u16>,
}

impl Verified {
    /// The key that signed this very token.
    pub(super) fn signed_by(&self, token: &str) -> Option<usize> {
        let name = name(token);
        let mut memory = self.0.lock();
        let key = match memory.young.get(&name) {
            Some(key) => *key,
            None => {
                let key = memory.old.remove(&name)?;
                memory.remember(name, key);
                key
            }
        };
        Some(key.into())
    }

    /// The signature of this token holds under this key.
    pub(super) fn holds(&self, token: &str, key: usize) {
        if let Ok(key) = u16::try_from(key) {
            self.0.lock().remember(name(token), key);
        }
    }
}

impl Memory {
    fn remember(&mut self, name: Name, key: u16) {
        if self.young.len() >= REMEMBERED {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(name, key);
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}

fn name(token: &str) -> Name {
    let mut first = Name::default();
    first.iter_mut().zip(Sha256::digest(token)).for_each(|(to, byte)| *to = byte);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_forgotten_and_what_is_shown_is_not() {
        let verified = Verified::default();
        for index in 0..3 * REMEMBERED {
            verified.holds(&index.to_string(), index % 3);
            assert_eq!(verified.signed_by("0"), Some(0), "after {index}");
        }
        assert_eq!(verified.signed_by("1"), None);
        let memory = verified.0.lock();
        assert!(memory.young.len() <= REMEMBERED && memory.old.len() <= REMEMBERED);
    }

    #[test]
    fn one_byte_makes_another_token() {
        let verified = Verified::default();
        verified.holds("header.payload.signature", 0);
        assert_eq!(verified.signed_by("header.payload.signaturf"), None);
        assert_eq!(verified.signed_by("header.payload.signature "), None);
        assert_eq!(verified.signed_by("header.payload.signature"), Some(0));
    }
}
