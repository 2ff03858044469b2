//! What can be broken, and how it is told.

use std::fmt;

use crate::swarm::world::World;

/// A broken guarantee, and where it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The device that saw it.
    pub bot: u32,
    /// In which conversation, if it is about one.
    pub talk: Option<u32>,
    /// What.
    pub broken: Broken,
}

/// What is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// An entry of the inbox that is not the next.
    Inbox {
        /// The last one before.
        last: u64,
        /// The one that came.
        came: u64,
    },
    /// A message that is not the next of its conversation.
    Order {
        /// The last one before.
        last: u64,
        /// The one that came.
        came: u64,
    },
    /// The content is not as anybody has sent it.
    Damaged {
        /// Its place.
        seq: u64,
    },
    /// The content is somebody else's, of another conversation, or was never sent.
    Foreign {
        /// Its place.
        seq: u64,
    },
    /// A message of a conversation that the user is not in.
    Leaked {
        /// Its place.
        seq: u64,
    },
    /// A message is not what was sent: recalled, edited or a hole without anybody's doing.
    Changed {
        /// What the entry says.
        what: String,
    },
    /// Two sends of one device are in the history the other way round.
    Sender {
        /// Where one is.
        seq: u64,
        /// Where the other is.
        other: u64,
    },
    /// The history has more messages than were acked.
    Invented {
        /// How many were acked.
        acked: u64,
        /// How many there are.
        last: u64,
    },
    /// Acked messages have not come.
    Missing {
        /// The last one that has.
        last: u64,
        /// The last one acked.
        acked: u64,
    },
    /// As many messages as were acked, and not the same ones at the same places.
    Differs {
        /// The last one.
        last: u64,
    },
    /// An unread count that a recount does not give.
    Unread {
        /// What the daemon says.
        told: u64,
        /// The recount.
        counted: u64,
    },
    /// The total is not the sum.
    Total {
        /// What the daemon says.
        told: u64,
        /// The sum.
        sum: u64,
    },
    /// The daemon broke the protocol.
    Protocol {
        /// What the client library says.
        why: String,
    },
    /// A request that had to be possible was refused for good, or was never answered.
    Refused {
        /// What it was, and the answer.
        why: String,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox { last, came } if came <= last => {
                write!(f, "entry {came} came again after entry {last}")
            }
            Self::Inbox { last, came } => write!(f, "entry {came} came right after entry {last}"),
            Self::Order { last, came } if came <= last => {
                write!(f, "message {came} came again after message {last}")
            }
            Self::Order { last, came } => {
                write!(f, "message {came} came right after message {last}: lost or out of order")
            }
            Self::Damaged { seq } => write!(f, "message {seq} has a content that nobody sent"),
            Self::Foreign { seq } => {
                write!(f, "message {seq} is another's, of another conversation, or was never sent")
            }
            Self::Leaked { seq } => {
                write!(f, "message {seq} is of a conversation that the user is not in")
            }
            Self::Changed { what } => write!(f, "nobody asked for this: {what}"),
            Self::Sender { seq, other } => {
                write!(f, "the sends at {seq} and {other} were made the other way round")
            }
            Self::Invented { acked, last } => {
                write!(f, "the history has {last} messages, {acked} were acked")
            }
            Self::Missing { last, acked } => {
                write!(f, "acked up to message {acked}, and only {last} came")
            }
            Self::Differs { last } => {
                write!(f, "the {last} messages are not those that were acked, at these places")
            }
            Self::Unread { told, counted } => write!(f, "unread {told}, a recount gives {counted}"),
            Self::Total { told, sum } => write!(f, "unread in total {told}, the sum is {sum}"),
            Self::Protocol { why } | Self::Refused { why } => write!(f, "{why}"),
        }
    }
}

impl Violation {
    /// For people: where, what, and the seed that leads there.
    #[must_use]
    pub fn tell(&self, world: &World, seed: u64) -> String {
        let user = world.user_id(world.user_of(self.bot));
        let device = world.device_id(self.bot);
        let talk = self.talk.and_then(|talk| world.talks.get(talk as usize));
        let place = talk.map_or_else(String::new, |talk| format!(", conversation {}", talk.id));
        format!("user {user}, device {device}{place}: {} (seed {seed})", self.broken)
    }
}
