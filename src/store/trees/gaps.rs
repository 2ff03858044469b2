//! Reading trees of which pages cannot be read: what stands before such a page and behind it.
//!
//! A key on a page that cannot be read cannot be looked up either, and one behind it can. So where the
//! reading goes on is found by looking keys up.

use std::ops::Bound;

use crate::store::{error::StoreError, guard::guarded};

/// Keys are looked for so many bytes deep.
const DEPTH_MAX: usize = 160;
/// Pages that cannot be read, beyond which a tree is given up.
const GAPS_MAX: usize = 10_000;

/// A part of a tree that cannot be read: what stood between two keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Gap {
    /// Stood before it; empty = nothing.
    pub(in crate::store) after: Vec<u8>,
    /// Where the reading went on; none = nowhere.
    pub(in crate::store) before: Option<Vec<u8>>,
}

/// Gives every value whose key begins with `prefix` and can be read, in order; returns what lies
/// between that cannot.
pub(super) fn each(
    tree: &sled::Tree,
    prefix: &[u8],
    mut take: impl FnMut(&[u8], &[u8]),
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut start = Bound::Included(prefix.to_vec());
    loop {
        let mut last: Option<Vec<u8>> = None;
        let read = guarded("reading a tree", || {
            for item in tree.range((start.clone(), Bound::Unbounded)) {
                let (key, value) = item?;
                if !key.starts_with(prefix) {
                    return Ok(());
                }
                // Pages that lead in a circle come to no end.
                if last.as_ref().is_some_and(|last| key[..] <= last[..]) {
                    return Err(StoreError::Damaged("keys out of order".into()));
                }
                take(&key, &value);
                last = Some(key.to_vec());
            }
            Ok(())
        });
        if read.is_ok() {
            return gaps;
        }
        let after = match (last, start) {
            (Some(last), _) => last,
            (None, Bound::Included(key) | Bound::Excluded(key)) => key,
            (None, Bound::Unbounded) => Vec::new(),
        };
        let before = next_readable(tree, &after)
            .filter(|key| key.starts_with(prefix) || key.as_slice() < prefix);
        gaps.push(Gap { after: after.clone(), before: before.clone() });
        match before {
            Some(key) if key > after && gaps.len() < GAPS_MAX => start = Bound::Included(key),
            _ => return gaps,
        }
    }
}

/// Whether the place of a key can be read.
fn readable(tree: &sled::Tree, key: &[u8]) -> bool {
    let first = guarded("looking for what can be read", || {
        Ok(tree.range(key..).next().transpose()?.map(drop))
    });
    first.is_ok()
}

/// About the first key behind `after` whose place can be read, when that of `after` cannot.
fn next_readable(tree: &sled::Tree, after: &[u8]) -> Option<Vec<u8>> {
    // Longer keys come directly behind, shorter ones with a greater last byte further away.
    let mut found = None;
    for keep in (0..=after.len()).rev() {
        let known = after.get(..keep)?;
        let least = after.get(keep).map_or(0, |byte| u16::from(*byte) + 1);
        if let Some(byte) = least_readable(tree, known, least) {
            found = Some([known, &[byte]].concat());
            break;
        }
    }
    // The end of what cannot be read lies between the key that was found and the one before it.
    let mut key = found?;
    while key.len() < DEPTH_MAX {
        let Some(last) = key.last().copied().filter(|last| *last > 0) else { break };
        let mut below = key.clone();
        if let Some(byte) = below.last_mut() {
            *byte = last - 1;
        }
        // What begins as `after` was looked at before.
        if below.as_slice() <= after {
            break;
        }
        match least_readable(tree, &below, 0) {
            Some(byte) => key = [&below[..], &[byte]].concat(),
            None => break,
        }
    }
    Some(key)
}

/// The least last byte with which a key can be looked up.
fn least_readable(tree: &sled::Tree, known: &[u8], least: u16) -> Option<u8> {
    let (mut low, mut high) = (least, 256_u16);
    while low < high {
        let middle = (low + high) / 2;
        let key = [known, &[middle as u8]].concat();
        match readable(tree, &key) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    u8::try_from(low).ok()
}
