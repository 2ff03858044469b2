//! What a user wants of a conversation: pin, mute, hide, draft. Durable at once; the entry that tells
//! the user's devices is held back ([`super::held`]) and says nothing but where to look, so that
//! fifty states of a draft are one entry that has the last of them.

use hashbrown::HashMap;

use super::{Answer, Caller, Engine, Now, Stop, held::About, not_found, open};
use crate::{
    conversation::Preference,
    id::{ConversationId, UserId},
    inbox,
    message::{Entry, EntryKind, Preferences},
    reply::{ConversationView, Reply},
    request::PreferencesChange,
    seq::InboxSeq,
    store::{
        Commit, Reader, StoreError,
        catalogue::{LogKey, Table, membership_key, second_id, user_prefix},
    },
};

/// A user with so many conversations of which it wants something is asked about each one alone.
const ROWS_AT_ONCE_MAX: usize = 256;

impl Engine {
    pub(super) fn set_preferences(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        change: &PreferencesChange,
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        let mut row = self.preference(user, id)?;
        let before = row.wanted.clone();
        let PreferencesChange { pinned, muted, hidden, draft } = change;
        let wanted = &mut row.wanted;
        wanted.pinned = pinned.unwrap_or(wanted.pinned);
        wanted.muted = muted.unwrap_or(wanted.muted);
        wanted.hidden = hidden.unwrap_or(wanted.hidden);
        if let Some(draft) = draft {
            wanted.draft = draft.clone();
        }
        if *wanted == before {
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        if self.held.must_wait(&(user.clone(), id.clone(), About::Preferences)) {
            row.untold = true;
            let mut commit = Commit::new();
            commit.put(Table::Preference, membership_key(user, id), row.encode());
            self.writer.stage(&commit)?;
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        let inbox_seq = self.next_inbox_seq(user)?;
        self.write_preference(now, user, id, row)?;
        Ok(Answer::Reply(Reply::Done { inbox_seq }))
    }

    /// What the user wants of a conversation.
    pub(super) fn preference(
        &self,
        user: &UserId,
        id: &ConversationId,
    ) -> Result<Preference, StoreError> {
        match self.writer.row(Table::Preference, &membership_key(user, id))? {
            None => Ok(Preference::default()),
            Some(row) => Ok(Preference::decode(row)?),
        }
    }

    /// Writes the row and the entry that tells of it; the next one has to wait.
    fn write_preference(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        mut row: Preference,
    ) -> Result<(), StoreError> {
        row.untold = false;
        let key = membership_key(user, id);
        let mut commit = Commit::new();
        if row == Preference::default() {
            commit.delete(Table::Preference, key);
        } else {
            commit.put(Table::Preference, key, row.encode());
        }
        let kind = EntryKind::Preferences { conversation: id.clone() };
        commit.append(LogKey::inbox(user), inbox::encode(&Entry { time: now.wall, kind }));
        self.writer.stage(&commit)?;
        self.effects.inboxes.insert(user.clone());
        self.held.told(now.mono, (user.clone(), id.clone(), About::Preferences));
        Ok(())
    }

    /// Writes the entry of a change that was not told, if there is one.
    pub(super) fn tell_preferences(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
    ) -> Result<(), StoreError> {
        let row = self.preference(user, id)?;
        if row.untold { self.write_preference(now, user, id, row) } else { Ok(()) }
    }

    /// Makes up for entries that a crash kept from being written.
    pub(super) fn make_up_for_preferences(
        &mut self,
        now: Now,
        user: &UserId,
    ) -> Result<(), StoreError> {
        let rows =
            self.writer.rows_and_holes(Table::Preference, &user_prefix(user), &[], usize::MAX)?;
        for (key, row) in rows {
            // A damaged row stops what needs it, not the user.
            let row = row.and_then(|row| Preference::decode(row).ok());
            let (Some(row), Some(id)) = (row, second_id::<ConversationId>(&key)) else { continue };
            let topic = (user.clone(), id, About::Preferences);
            if row.untold && !self.held.is_silent(&topic) {
                self.write_preference(now, user, &topic.1, row)?;
            }
        }
        Ok(())
    }
}

/// What a user wants of a conversation, as it is durable; none when the row is damaged.
pub(super) fn read(
    reader: &Reader,
    user: &UserId,
    id: &ConversationId,
) -> Result<Option<Preferences>, StoreError> {
    match reader.row(Table::Preference, &membership_key(user, id)) {
        Ok(None) => Ok(Some(Preferences::default())),
        Ok(Some(row)) => Ok(Preference::decode(row).ok().map(|row| row.wanted)),
        Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fills in what the user wants of each of these conversations: one look at the store for all, as
/// long as that is less than one for each. A damaged row counts as none.
pub(super) fn fill<'a>(
    reader: &Reader,
    user: &UserId,
    views: impl Iterator<Item = &'a mut ConversationView>,
) -> Result<(), StoreError> {
    let prefix = user_prefix(user);
    let rows = reader.rows_and_holes(Table::Preference, &prefix, &[], ROWS_AT_ONCE_MAX)?;
    let all = (rows.len() < ROWS_AT_ONCE_MAX).then(|| {
        let wanted = rows.into_iter().filter_map(|(key, row)| {
            let row = Preference::decode(row?).ok()?;
            Some((second_id(&key)?, row.wanted))
        });
        wanted.collect::<HashMap<ConversationId, Preferences>>()
    });
    for view in views {
        view.preferences = match &all {
            Some(all) => all.get(&view.conversation).cloned(),
            None => read(reader, user, &view.conversation)?,
        }
        .unwrap_or_default();
    }
    Ok(())
}
