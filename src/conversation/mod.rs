//! Conversations: what they are, who is in them, and what a member may see.
//!
//! Three rows: the conversation itself; a membership per (user, conversation) that also stays when
//! the user leaves, with the intervals it may read and its read marker; and a member row per
//! (conversation, user) for as long as the user is in it. Small rows of one user beside them: its
//! preferences, messages deleted for it, messages that name it.

mod membership;
mod preference;
mod record;
mod unread;

pub use self::{
    membership::{Interval, Membership},
    preference::{Hidden, MENTION, Preference},
    record::{Conversation, Member},
    unread::{Unread, Without},
};
