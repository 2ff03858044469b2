//! What one user no longer wants to see: messages deleted for me, conversations cleared.

use super::{Answer, Caller, Engine, Now, Stop, not_found, open};
use crate::{
    conversation::Hidden,
    history,
    id::ConversationId,
    inbox,
    message::{Entry, EntryKind},
    reply::Reply,
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit,
        catalogue::{LogKey, Table, membership_key, row_of_user_key},
    },
};

impl Engine {
    /// Hides those of the messages that the user sees; the others are none of its business.
    pub(super) fn delete_for_me(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        wanted: &[HistorySeq],
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        let mut own = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        let head = self.cache.tip(&self.writer, id)?.head;
        let log = LogKey::history(id);
        let mut commit = Commit::new();
        let mut seqs = Vec::new();
        for seq in wanted {
            let key = row_of_user_key(user, id, *seq);
            if *seq > head || !own.sees(*seq) || self.writer.row(Table::Hidden, &key)?.is_some() {
                continue;
            }
            let entry = self.writer.entry(&log, seq.number())?;
            let message = entry.and_then(|entry| history::parse(entry).1);
            let counted = message.is_some_and(|message| !message.draft.flags.uncounted);
            commit.put(Table::Hidden, key, Hidden { counted }.encode());
            seqs.push(*seq);
        }
        let Some(newest) = seqs.iter().max() else {
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        };
        own.hidden_max = own.hidden_max.max(*newest);
        own.hidden_count += seqs.len() as u64;
        commit.put(Table::Membership, membership_key(user, id), own.encode());
        let kind = EntryKind::Hidden { conversation: id.clone(), seqs: seqs.clone() };
        let answer = self.tell_own(now, caller, kind, commit)?;
        self.push_hidden(now, user, id, &seqs)?;
        Ok(answer)
    }

    /// Takes everything up to a message away from the user. What is gone is read.
    pub(super) fn clear_conversation(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        to: HistorySeq,
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        let mut own = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        let head = self.cache.tip(&self.writer, id)?.head;
        let to = to.min(own.hull(head).last);
        let ordinal = self.ordinal_at(id, to)?;
        let read_seq = own.read_seq;
        if !own.clear(to, ordinal) {
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        let mut commit = Commit::new();
        if own.read_seq > read_seq {
            // The entry tells of the marker as well.
            own.announced_seq = own.read_seq;
            self.forget_mentions(user, id, &mut own, &mut commit)?;
        }
        let cleared_to = own.cleared_to;
        commit.put(Table::Membership, membership_key(user, id), own.encode());
        let kind = EntryKind::Cleared { conversation: id.clone(), cleared_to };
        let answer = self.tell_own(now, caller, kind, commit)?;
        self.push_read(now, user, id, own.read_seq)?;
        Ok(answer)
    }

    /// Stages a commit with an entry for the user's own devices.
    fn tell_own(
        &mut self,
        now: Now,
        caller: &Caller,
        kind: EntryKind,
        mut commit: Commit,
    ) -> Result<Answer, Stop> {
        let inbox_seq = self.next_inbox_seq(&caller.user)?;
        let entry = Entry { time: now.wall, kind };
        commit.append(LogKey::inbox(&caller.user), inbox::encode(&entry));
        self.writer.stage(&commit)?;
        self.effects.inboxes.insert(caller.user.clone());
        Ok(Answer::Reply(Reply::Done { inbox_seq }))
    }
}
