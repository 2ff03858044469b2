//! Unread counts: derived from rows that are written anyway, for one conversation or for all of a
//! user's. Nothing is counted up or down, so nothing can drift.

use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Caller, Engine, Stop, command::Tip, not_found, open};
use crate::{
    conversation::{Hidden, Membership, Unread, Without},
    id::{ConversationId, UserId},
    reply::{ConversationUnread, Reply},
    seq::{HistorySeq, MutationSeq},
    store::{
        StoreError,
        catalogue::{Table, last_seq, membership_key, row_of_user_key, second_id, user_prefix},
    },
};

impl Engine {
    pub(super) fn unread(
        &mut self,
        caller: &Caller,
        wanted: &[ConversationId],
        explain: bool,
    ) -> Result<Answer, Stop> {
        let (total, mut conversations) = self.counted(&caller.user, |counted| {
            let all = wanted.is_empty().then(|| counted.unread().cloned().collect());
            (counted.total(), all.unwrap_or_else(Vec::new))
        })?;
        for id in wanted {
            let own = open::membership(&self.writer, &caller.user, id)?.ok_or_else(not_found)?;
            let tip = self.cache.tip(&self.writer, id)?;
            conversations.push(self.count(&caller.user, id, &own, tip)?);
        }
        let position = self.position(caller)?;
        Ok(Answer::Reply(Reply::Unread { total, conversations, position, explain }))
    }

    /// Everything the user has to do with, those it has left included.
    pub(super) fn memberships(
        &self,
        user: &UserId,
    ) -> Result<Vec<(ConversationId, Membership)>, StoreError> {
        let rows = self.writer.rows(Table::Membership, &user_prefix(user), &[], usize::MAX)?;
        rows.into_iter()
            .map(|(key, row)| {
                let id = second_id(&key)
                    .ok_or_else(|| StoreError::Damaged("a membership key is malformed".into()))?;
                Ok((id, Membership::decode(row)?))
            })
            .collect()
    }

    /// Unread of one conversation. Costs no look at the store unless something after the read marker
    /// was recalled, deleted or hidden, or names the user.
    pub(super) fn count(
        &mut self,
        user: &UserId,
        id: &ConversationId,
        own: &Membership,
        tip: Tip,
    ) -> Result<ConversationUnread, StoreError> {
        let rows = Unread::rows(own, tip.head);
        let (mut gone, mut hidden, mut mentions) = (Arc::default(), Vec::new(), Vec::new());
        if !rows.is_empty() && own.visible_ordinal(tip.ordinal) > own.read_ordinal {
            if tip.mutation > MutationSeq::ZERO {
                gone = self.cache.gone(&self.writer, id)?;
            }
            if own.hidden_max > own.read_seq {
                for (seq, row) in self.rows_after(Table::Hidden, user, id, own.read_seq)? {
                    // One whose row is damaged is hidden all the same; it still counts.
                    let row = row.and_then(|row| Hidden::decode(row).ok());
                    hidden.push((seq, row.is_some_and(|row| row.counted)));
                }
            }
            if own.mention_max > own.read_seq {
                let rows = self.rows_after(Table::Mention, user, id, own.read_seq)?;
                mentions.extend(rows.into_iter().map(|(seq, _)| seq));
            }
        }
        let without = Without { gone: &gone, hidden: &hidden, mentions: &mentions };
        let derived = Unread::derive(own, tip.head, tip.ordinal, without);
        Ok(ConversationUnread {
            conversation: id.clone(),
            unread: derived.unread,
            mentions: derived.mentions,
            marked_unread: own.marked_unread,
            read_seq: own.read_seq,
            visible_last: rows.last,
            last_ordinal: derived.last_ordinal,
            read_ordinal: derived.read_ordinal,
            removed: derived.removed,
        })
    }

    /// Rows of a user in a conversation that are about messages after `after`.
    fn rows_after(
        &self,
        table: Table,
        user: &UserId,
        id: &ConversationId,
        after: HistorySeq,
    ) -> Result<Vec<(HistorySeq, Option<Bytes>)>, StoreError> {
        let prefix = membership_key(user, id);
        let after = row_of_user_key(user, id, after);
        let rows = self.writer.rows_and_holes(table, &prefix, &after, usize::MAX)?;
        let placed =
            rows.into_iter().map(|(key, row)| Some((HistorySeq::new(last_seq(&key)?), row)));
        Ok(placed.flatten().collect())
    }
}
