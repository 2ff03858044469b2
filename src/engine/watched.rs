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

/// A writer that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    writer: Writer,
    changed: Vec<Changed>,
}

impl Watched {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, changed: Vec::new() }
    }

    /// As [`Writer::stage`].
    pub(super) fn stage(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.writer.stage(commit)?;
        self.changed.extend(commit.changes().iter().filter_map(changed));
        Ok(())
    }

    /// As [`Writer::flush`].
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.writer.flush()
    }

    /// What was staged since this was last asked, in order.
    pub(super) fn take_changed(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.changed)
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
