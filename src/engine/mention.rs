//! Mentions: one row for every unread message that names a user, so that they can be counted apart.

use super::{
    Engine, Now,
    open::{self, Open},
};
use crate::{
    conversation::{MENTION, Membership},
    id::{ConversationId, UserId},
    message::Message,
    seq::HistorySeq,
    store::{
        Commit, StoreError,
        catalogue::{Table, last_seq, membership_key, row_of_user_key},
    },
};

/// Rows dropped at once when a read marker moves; the rest goes with its next moves.
const DROPPED_AT_ONCE_MAX: usize = 256;

impl Engine {
    /// Adds to a commit what the members that a new message names keep of it. Whoever has no row yet is
    /// made a member by the commit itself.
    pub(super) fn note_mentions(
        &self,
        now: Now,
        id: &ConversationId,
        open: &Open,
        seq: HistorySeq,
        message: &Message,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        if message.draft.flags.uncounted {
            return Ok(());
        }
        let mut named: Vec<&UserId> = message.draft.mentions.iter().collect();
        named.sort_unstable();
        named.dedup();
        for user in named {
            if *user == message.sender || open.member(user).is_none() {
                continue;
            }
            let row = open::membership(&self.writer, user, id)?;
            let mut own = row.unwrap_or_else(|| self.first_membership(now));
            own.mention_max = seq;
            commit.put(Table::Membership, membership_key(user, id), own.encode());
            let mention = bytes::Bytes::from_static(MENTION);
            commit.put(Table::Mention, row_of_user_key(user, id, seq), mention);
        }
        Ok(())
    }

    /// Adds to a commit that what is read names nobody any more.
    pub(super) fn forget_mentions(
        &self,
        user: &UserId,
        id: &ConversationId,
        own: &mut Membership,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        if own.mention_max == HistorySeq::ZERO {
            return Ok(());
        }
        let prefix = membership_key(user, id);
        let most = DROPPED_AT_ONCE_MAX;
        let rows = self.writer.rows_and_holes(Table::Mention, &prefix, &[], most)?;
        let mut all = rows.len() < most;
        for (key, _) in rows {
            if last_seq(&key).is_some_and(|seq| seq <= own.read_seq.number()) {
                commit.delete(Table::Mention, key);
            } else {
                all = false;
            }
        }
        if all {
            own.mention_max = HistorySeq::ZERO;
        }
        Ok(())
    }
}
