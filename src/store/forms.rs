//! The store's own stored forms, tried on any bytes: what fuzzing calls, since nobody else outside may
//! see them.

use bytes::Bytes;

use super::{
    catalogue::{first_id, last_seq, second_id},
    checkpoint,
    codec::Malformed,
    commit, journal, trees,
};
use crate::id::ConversationId;

/// How many forms take the bytes: a value of a tree, a commit in the journal, a piece of a segment file,
/// the file `ROAMD`, keys.
///
/// # Panics
/// When a form that takes them does not come back from what it is written as.
#[must_use]
pub fn taking(bytes: &[u8]) -> usize {
    let shared = Bytes::copy_from_slice(bytes);
    let key = bytes.get(..9).unwrap_or(bytes);
    let body = bytes.get(9..).unwrap_or_default();
    let commit = commit::decode(shared, |_| Ok::<_, Malformed>(()));
    let file = std::str::from_utf8(bytes).ok().and_then(checkpoint::parse);
    let (one, two) = (first_id::<ConversationId>(bytes), second_id::<ConversationId>(bytes));
    let keys = [one.is_some(), two.is_some(), last_seq(bytes).is_some()];
    trees::forms_of(key, body)
        + journal::forms_of(bytes)
        + usize::from(commit.is_ok())
        + usize::from(file.is_some())
        + keys.into_iter().filter(|taken| *taken).count()
}
