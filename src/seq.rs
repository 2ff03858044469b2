//! Sequence numbers of the logs: dense, 1-based, never reused.
//!
//! 0 stands for "before the first": a cursor at 0 has nothing, a log with head 0 is empty.

use std::fmt;

macro_rules! sequence {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// Wraps a number from the wire or the disk.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            #[must_use]
            pub const fn number(self) -> u64 {
                self.0
            }

            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before this; [`Self::ZERO`] stays.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// How many lie in `(earlier, self]`; 0 when `earlier` is not earlier.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

sequence! {
    /// Place of an entry in a user's inbox.
    InboxSeq
}
sequence! {
    /// Place of a message in a conversation's history.
    HistorySeq
}
sequence! {
    /// Place of a change in a conversation's mutation log.
    MutationSeq
}
sequence! {
    /// Place of a notice in the log of notices; its id on the wire.
    NoticeSeq
}

/// A range of history rows, both ends included; empty when `first > last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First row.
    pub first: HistorySeq,
    /// Last row.
    pub last: HistorySeq,
}

impl Span {
    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(self) -> u64 {
        if self.is_empty() { 0 } else { self.last.since(self.first) + 1 }
    }
}
