//! Mistakes put into the code on purpose, to see that those who check it notice.
//!
//! `planted::is(Bug::X)` stands where the mistake would be made. Without the feature `simulation` it
//! is the constant `false`: the optimiser takes the mistake out, and neither names nor a switch are
//! in the build. With it one mistake at a time is switched on for the whole process: by a test
//! through [`set`], for the daemon by [`VARIABLE`]. `tests/planted` has each of them found.

macro_rules! bugs {
    ($($(#[$meaning:meta])* $bug:ident = $name:literal,)*) => {
        /// A mistake that can be switched on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[$meaning])* $bug,)*
        }

        #[cfg(feature = "simulation")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// What it is called in [`VARIABLE`] and in the table of found bugs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// Answers leave before the flush that makes them true.
    AckBeforeSync = "ack_before_sync",
    /// After a crash the newest sequence numbers are given out once more.
    SequenceReused = "sequence_reused",
    /// An inbox that is too long loses its newest entries.
    NewestTrimmed = "newest_trimmed",
    /// The inbox entry that tells of a recall or an edit is not written.
    InstructionLost = "instruction_lost",
    /// A message counts twice as unread.
    UnreadTwice = "unread_twice",
    /// A new member sees what was written before it joined.
    LeakBeforeJoin = "leak_before_join",
    /// A late ack takes the cursor of its device back.
    CursorBackwards = "cursor_backwards",
    /// A stream that finds its place trimmed goes on with the oldest entry left.
    OverflowSkipped = "overflow_skipped",
    /// What does not fit into the queue of a connection is dropped.
    FullQueueDrops = "full_queue_drops",
    /// A session is live before it was told that it has caught up.
    LiveBeforeCaughtUp = "live_before_caught_up",
    /// The retry of a send is a second message.
    RetryMakesTwo = "retry_makes_two",
    /// The same client_message_id with another payload is taken for a retry.
    PayloadIgnored = "payload_ignored",
    /// The content of a recalled message still goes out.
    RecalledContentLeaves = "recalled_content_leaves",
    /// The total of unread messages is not the sum of the conversations.
    TotalIsNoSum = "total_is_no_sum",
    /// A cursor below the oldest entry is not told that it is too old.
    TooLongNotSaid = "too_long_not_said",
    /// Older pages of a history come newest first.
    HistoryReversed = "history_reversed",
    /// Those who are online are not told that their inbox has grown.
    GrowthNotTold = "growth_not_told",
    /// Half of the members of a conversation do not get the entry.
    HalfFanOut = "half_fan_out",
    /// The newest two entries of a batch swap their places.
    OrderSwapped = "order_swapped",
    /// A newer session of a device does not end the older one.
    SessionNotFenced = "session_not_fenced",
    /// A notification is given up when the daemon stops before it was told.
    PushJobLost = "push_job_lost",
    /// A message to a large group is not pushed while the group changes its mode.
    LargePushLost = "large_push_lost",
    /// Readers see what is not durable yet.
    UnflushedReads = "unflushed_reads",
    /// A read marker is acked and not written.
    MarkLost = "mark_lost",
    /// A device whose connection ended stays online for those who watch it.
    PresenceStays = "presence_stays",
    /// A request is taken and never answered.
    AnswerLost = "answer_lost",
    /// A message to a large group is written for every member.
    LargeFanOut = "large_fan_out",
    /// Checkpoints do not write down every log that changed.
    CheckpointLosesLog = "checkpoint_loses_log",
    /// A checkpoint is noted before the trees are written.
    CheckpointEarly = "checkpoint_early",
}

/// The environment variable that plants a bug in a daemon.
#[cfg(feature = "simulation")]
pub const VARIABLE: &str = "ROAMD_PLANTED";

/// Whether this mistake is to be made.
#[cfg(not(feature = "simulation"))]
#[inline]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(feature = "simulation")]
pub use switch::{is, set, set_by_name};

#[cfg(feature = "simulation")]
mod switch {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Bug;

    /// The bug that is planted, as one more than its place in the enum; 0 = none.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as usize + 1
    }

    /// Switches a mistake on for the whole process, in the place of any other; none = all off.
    pub fn set(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
    }

    /// The same by name; false when no bug has it.
    #[must_use]
    pub fn set_by_name(name: &str) -> bool {
        let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
        bug.inspect(|bug| set(Some(**bug))).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(feature = "simulation"))]
    fn without_the_feature_nothing_is_planted() {
        const PLANTED: bool = is(Bug::AckBeforeSync);
        const { assert!(!PLANTED) };
    }

    #[test]
    #[cfg(feature = "simulation")]
    fn names_are_found_again() {
        let names: std::collections::BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        assert!(!set_by_name("no such bug"));
    }
}
