//! Nicks to ids: every nick its own valid user id, whatever bytes it is made of.

use xxhash_rust::xxh3::xxh3_64;

use crate::id::{ID_BYTES_MAX, UserId};

/// The user id of a nick.
///
/// What an id may hold stays as it is; every other byte, and `%`, becomes `%` and two hex digits, so
/// two nicks never meet. A nick too long for that keeps its beginning, `%%` and a hash of the whole.
#[must_use]
pub fn user_id(nick: &[u8]) -> UserId {
    let mut id = String::new();
    for chunk in nick.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut text = [0; 4];
            let text: &str = c.encode_utf8(&mut text);
            if c != '%' && UserId::new(text).is_ok() {
                id.push(c);
            } else {
                text.bytes().for_each(|byte| escape(&mut id, byte));
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut id, *byte));
    }
    if id.is_empty() {
        id.push_str("%%");
    }
    if id.len() > ID_BYTES_MAX {
        let mut keep = ID_BYTES_MAX - 18;
        while !id.is_char_boundary(keep) {
            keep -= 1;
        }
        id.truncate(keep);
        id.push_str(&format!("%%{:016x}", xxh3_64(nick)));
    }
    UserId::new(&id).expect("every character was checked or escaped, and the length is bounded")
}

fn escape(id: &mut String, byte: u8) {
    id.push_str(&format!("%{byte:02x}"));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nicks_stay_readable_and_apart() {
        for nick in ["frenkel", "a|b`[]\\^_{}", "Größe"] {
            assert_eq!(user_id(nick.as_bytes()).as_str(), nick);
        }
        let odd: [&[u8]; 9] = [
            b"",
            b"a b",
            b"a%20b",
            b"a\xff",
            b"a%ff",
            b"%%",
            b"\xe2\x80\x8b",
            &[b'x'; 200],
            &[b'x'; 201],
        ];
        let ids: BTreeSet<_> = odd.iter().map(|nick| user_id(nick)).collect();
        assert_eq!(ids.len(), odd.len());
    }

    proptest! {
        #[test]
        fn different_nicks_get_different_ids(a: Vec<u8>, b: Vec<u8>) {
            prop_assert_eq!(user_id(&a) == user_id(&b), a == b);
        }
    }
}
