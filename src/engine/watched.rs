//! The store's writer as the engine uses it: what is staged through it is noted, so that those who
//! are online hear of a change whichever room of the engine made it.

use std::ops::Deref;

use bytes::Bytes;

use crate::store::{
    Change, Commit, StoreError, Writer,
    catalogue::{LogKind, Table},
};

/// A staged change that may concern large conversations or unread totals.
#[derive(Debug)]
pub(super) enum Changed {
    /// Messages, their changes or the row of the conversation with this key.
    Conversation(Bytes),
    /// What a user has to do with a conversation, or sees of it; the key begins with the two.
    OfUser(Bytes),
}

/// Room that must be left on the disk behind the first commit of a command, for those that follow
/// from it: so that a command is not refused in the middle.
const FOLLOW_UP_BYTES: usize = 1 << 20;

/// A writer that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    writer: Writer,
    changed: Vec<Changed>,
    /// The command has staged something.
    begun: bool,
    /// The disk is full: nothing is staged until somebody has looked for room.
    full: bool,
    /// Something was refused for want of room since this was last asked.
    refused: bool,
}

impl Watched {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, changed: Vec::new(), begun: false, full: false, refused: false }
    }

    /// A command begins.
    pub(super) fn begin(&mut self) {
        self.begun = false;
    }

    /// As [`Writer::stage`].
    pub(super) fn stage(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let staged = self.stage_in_room(commit);
        if let Err(StoreError::NoSpace) = staged {
            self.full = true;
            self.refused = true;
        }
        staged?;
        self.changed.extend(commit.changes().iter().filter_map(changed));
        Ok(())
    }

    fn stage_in_room(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if !commit.is_empty() {
            if self.full {
                return Err(StoreError::NoSpace);
            }
            if !self.begun {
                self.writer.reserve(commit.bytes_max() + FOLLOW_UP_BYTES)?;
            }
        }
        self.writer.stage(commit)?;
        self.begun |= !commit.is_empty();
        Ok(())
    }

    /// Whether nothing can be staged.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    #[cfg(feature = "simulation")]
    pub(super) fn last_commit(&self) -> u64 {
        self.writer.last_commit().number()
    }

    /// Whether something was refused for want of room; asking forgets it.
    pub(super) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Looks for room for so many bytes; when there is, commits are staged again.
    pub(super) fn look_for_room(&mut self, bytes: usize) -> Result<bool, StoreError> {
        match self.writer.reserve(bytes) {
            Ok(()) => self.full = false,
            Err(StoreError::NoSpace) => {}
            Err(error) => return Err(error),
        }
        Ok(!self.full)
    }

    /// As [`Writer::flush`].
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.writer.flush()
    }

    /// What was staged since this was last asked, in order.
    pub(super) fn take_changed(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.changed)
    }

    /// Will be asked for once more: nothing was staged since it was taken.
    pub(super) fn put_back(&mut self, changed: Vec<Changed>) {
        self.changed = changed;
    }

    pub(super) fn into_inner(self) -> Writer {
        self.writer
    }
}

/// Reading needs no watching.
impl Deref for Watched {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

fn changed(change: &Change) -> Option<Changed> {
    match change {
        Change::Append { logs, .. } => match logs.first()? {
            log if matches!(log.kind(), LogKind::History | LogKind::Mutation) => {
                Some(Changed::Conversation(log.bytes().clone()))
            }
            _ => None,
        },
        Change::Put(Table::Conversation, key, _) => Some(Changed::Conversation(key.clone())),
        Change::Put(Table::Membership | Table::Hidden, key, _)
        | Change::Delete(Table::Membership | Table::Hidden, key) => {
            Some(Changed::OfUser(key.clone()))
        }
        Change::Put(..) | Change::Delete(..) | Change::Trim(..) => None,
    }
}
