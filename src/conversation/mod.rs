//! Conversations: what they are, who is in them, and what a member may see.
//!
//! Three rows: the conversation itself; a membership per (user, conversation) that also stays when
//! the user leaves, with the intervals it may read and its read marker; and a member row per
//! (conversation, user) for as long as the user is in it.

mod membership;
mod record;

pub use self::{
    membership::{Interval, Membership},
    record::{Conversation, Member},
};
