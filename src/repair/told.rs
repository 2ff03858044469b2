//! What a repair tells: what is lost, and what was made up for from something else.

use std::fmt;

use crate::store::Unreadable;

/// What was lost or made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// The file `ROAMD`.
    Checkpoint,
    /// The trees, or a file of theirs.
    Trees,
    /// A part of a tree whose keys are not known.
    Keys,
    /// The journal.
    Journal,
    /// Commits, whatever was in them.
    Commits,
    /// A message.
    Message,
    /// A change of a message: a recall, an edit, a deletion for everyone.
    Change,
    /// A notice of an administrator, or its way to inboxes.
    Notice,
    /// A conversation's row.
    Conversation,
    /// Who is in a conversation.
    Member,
    /// What a user has to do with a conversation.
    Membership,
    /// What a user wants of a conversation.
    Preference,
    /// That a message is deleted for one user.
    Hidden,
    /// That an unread message names a user.
    Mention,
    /// A device's row.
    Device,
    /// The memory that makes a device's retry the same request.
    Sent,
    /// What the push hook knows.
    Push,
    /// That tokens of a device are worth nothing.
    Revocation,
    /// A counter of the data set.
    Counter,
}

impl What {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Trees => "trees",
            Self::Keys => "keys",
            Self::Journal => "journal",
            Self::Commits => "commits",
            Self::Message => "message",
            Self::Change => "change",
            Self::Notice => "notice",
            Self::Conversation => "conversation",
            Self::Member => "member",
            Self::Membership => "membership",
            Self::Preference => "preference",
            Self::Hidden => "hidden",
            Self::Mention => "mention",
            Self::Device => "device",
            Self::Sent => "sent",
            Self::Push => "push",
            Self::Revocation => "revocation",
            Self::Counter => "counter",
        }
    }
}

/// One thing that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// It is gone. Otherwise it was made up for and nobody misses anything.
    pub lost: bool,
    /// What.
    pub what: What,
    /// Where and how, for people.
    pub detail: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = if self.lost { "lost" } else { "rebuilt" };
        write!(f, "{fate}: {}: {}", self.what.name(), self.detail)
    }
}

impl From<&Unreadable> for Told {
    fn from(what: &Unreadable) -> Self {
        let (lost, what, detail) = match what {
            Unreadable::Checkpoint => (false, What::Checkpoint, "ROAMD cannot be read".to_owned()),
            Unreadable::Trees(why) => (true, What::Trees, format!("they cannot be opened: {why}")),
            Unreadable::TreesFile(name) => (false, What::Trees, format!("read without {name}")),
            Unreadable::TreesEnd { applied, durable } => {
                let detail = format!("they end at commit {applied}, {durable} was durable in them");
                (true, What::Trees, detail)
            }
            Unreadable::Keys { tree, after, before } => {
                let end = before.as_ref().map_or("the end".to_owned(), |before| {
                    format!("about {}", before.escape_ascii())
                });
                let after = after.escape_ascii();
                (true, What::Keys, format!("tree {tree}: what stood between {after} and {end}"))
            }
            Unreadable::Journal => (true, What::Journal, "it is missing".to_owned()),
            Unreadable::End { after } => {
                (true, What::Commits, format!("what came after {after}, if anything did"))
            }
            Unreadable::Commits { first, last } => {
                (true, What::Commits, format!("{first} to {last}"))
            }
        };
        Self { lost, what, detail }
    }
}
