//! What happens to messages, as far as devices without a session are to hear of it.

use hashbrown::HashSet;

use super::super::{
    Engine, Now,
    open::{self, Open},
};
use crate::{
    conversation::Preference,
    history::{self, Mutated},
    id::{ConversationId, DeviceId, UserId},
    inbox,
    message::{Draft, EntryKind, Message},
    push::{News, Outbox, Place},
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, ReadLimit, StoreError,
        catalogue::{LogKey, Table, membership_key, mutated_key, row_of_user_key},
    },
};

/// Newest entries that are looked at when a device has gone. What it has missed beyond them is
/// counted in the badge and not told one by one.
const MISSED_LOOK: usize = 1000;

impl Engine {
    /// A message is being sent: jobs for the devices of all members but the sender, in its commit.
    pub(in super::super) fn push_message(
        &mut self,
        now: Now,
        sender: &UserId,
        id: &ConversationId,
        open: &Open,
        seq: HistorySeq,
        draft: &Draft,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        if self.pushes.settings.is_none() || !self.pushes.any || !is_told(draft) {
            return Ok(());
        }
        if !open.row.large {
            for (user, _) in &open.members {
                let mention = draft.mentions.contains(user);
                self.push_to(now, sender, user, id, (seq, mention), true, commit)?;
            }
            return Ok(());
        }
        for user in &draft.mentions {
            if open.member(user).is_some() {
                self.push_to(now, sender, user, id, (seq, true), false, commit)?;
            }
        }
        self.round_of_message(now, id, seq, commit);
        Ok(())
    }

    fn push_to(
        &mut self,
        now: Now,
        sender: &UserId,
        user: &UserId,
        id: &ConversationId,
        (seq, mention): (HistorySeq, bool),
        has_entry: bool,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        if user == sender {
            return Ok(());
        }
        let Some(targets) = self.push_targets(user)? else { return Ok(()) };
        let mut muted = None;
        for (device, _) in targets.iter() {
            if self.presence.foreground(user, device) {
                continue;
            }
            if muted.is_none() {
                muted = Some(self.is_muted(user, id)?);
            }
            if muted == Some(true) {
                break;
            }
            let entry = if has_entry { self.next_inbox_seq(user)? } else { InboxSeq::ZERO };
            let due = now.wall.max(self.pushes.quiet_until(user, device));
            let news = News { seq, entry, mention, due };
            self.put_news(now, user, device, id, news, commit)?;
        }
        Ok(())
    }

    pub(super) fn put_news(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
        id: &ConversationId,
        news: News,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let (user, device) = (user.clone(), device.clone());
        let place = Place { user, device, conversation: id.clone() };
        let mut outbox = self.push_outbox(&place)?;
        let number = self.take_id(commit);
        if outbox.message(news, number, now.wall) {
            self.put_outbox(place, &outbox, commit);
        }
        Ok(())
    }

    /// A device has gone: jobs for messages it has not acked.
    pub(super) fn push_missed(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        for (id, news) in self.missed(now, user, device, None)? {
            self.put_news(now, user, device, &id, news, commit)?;
        }
        Ok(())
    }

    /// The newest message of each conversation (or of only one) that the device has not acked and
    /// that is still worth telling.
    pub(super) fn missed(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
        only: Option<&ConversationId>,
    ) -> Result<Vec<(ConversationId, News)>, StoreError> {
        let Some(settings) = &self.pushes.settings else { return Ok(Vec::new()) };
        let oldest = now.wall.minus(settings.expiry);
        let log = LogKey::inbox(user);
        let (first, head) = inbox::kept(self.writer.bounds(&log)?, self.limits.inbox_entries);
        let newest = head.number().saturating_sub(MISSED_LOOK as u64);
        let after = self.cursor_of(user, device)?.max(first.previous()).max(InboxSeq::new(newest));
        if after >= head {
            return Ok(Vec::new());
        }
        let due = now.wall.max(self.pushes.quiet_until(user, device));
        let most = ReadLimit { entries: MISSED_LOOK, bytes: usize::MAX };
        let mut decided = HashSet::new();
        let mut missed = Vec::new();
        for entry in self.writer.read(&log, after.next().number(), most)?.into_iter().rev() {
            let at = InboxSeq::new(entry.seq);
            let Some(Ok(entry)) = entry.record.map(inbox::decode) else { continue };
            if entry.time < oldest {
                break;
            }
            let EntryKind::Message { conversation: id, seq } = entry.kind else { continue };
            if only.is_some_and(|only| *only != id) || decided.contains(&id) {
                continue;
            }
            let own = open::membership(&self.writer, user, &id)?;
            let Some(own) = own.filter(|own| own.read_seq < seq) else {
                decided.insert(id);
                continue;
            };
            if self.is_muted(user, &id)? {
                decided.insert(id);
            } else if own.sees(seq)
                && !self.is_hidden(user, &id, seq)?
                && let Some(message) = self.living_message(&id, seq)?
                && message.sender != *user
                && is_told(&message.draft)
            {
                let mention =
                    own.mention_max > own.read_seq || message.draft.mentions.contains(user);
                missed.push((id.clone(), News { seq, entry: at, mention, due }));
                decided.insert(id);
            }
        }
        Ok(missed)
    }

    /// A user has read a conversation: what waits is dropped, what is shown is taken back.
    pub(in super::super) fn push_read(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        read_seq: HistorySeq,
    ) -> Result<(), StoreError> {
        let done = self.read_by_user(now, user, id, read_seq);
        self.spared(done)
    }

    fn read_by_user(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        read_seq: HistorySeq,
    ) -> Result<(), StoreError> {
        let Some(targets) = self.push_targets(user)? else { return Ok(()) };
        let mut commit = Commit::new();
        for (device, _) in targets.iter() {
            let (user, device) = (user.clone(), device.clone());
            let attended = self.presence.foreground(&user, &device);
            let place = Place { user, device, conversation: id.clone() };
            let mut outbox = self.push_outbox(&place)?;
            if outbox.is_empty() {
                continue;
            }
            let number = self.take_id(&mut commit);
            if outbox.read(read_seq, number, now.wall) {
                if attended {
                    outbox.attend(now.wall);
                }
                self.put_outbox(place, &outbox, &mut commit);
            }
        }
        self.writer.stage(&commit)
    }

    /// A message was recalled or deleted for all: what waits gives way to the one before, what is
    /// shown is taken back.
    pub(in super::super) fn push_gone(
        &mut self,
        now: Now,
        id: &ConversationId,
        open: &Open,
        seq: HistorySeq,
    ) -> Result<(), StoreError> {
        let done = self.gone_for_all(now, id, open, seq);
        self.spared(done)
    }

    fn gone_for_all(
        &mut self,
        now: Now,
        id: &ConversationId,
        open: &Open,
        seq: HistorySeq,
    ) -> Result<(), StoreError> {
        if self.pushes.settings.is_none() || !self.pushes.any {
            return Ok(());
        }
        let mut commit = Commit::new();
        if open.row.large {
            self.round_of_recall(id, seq, &mut commit)?;
        } else {
            for (user, _) in &open.members {
                let Some(targets) = self.push_targets(user)? else { continue };
                for (device, _) in targets.iter() {
                    self.push_without(now, user, device, id, &[seq], &mut commit)?;
                }
            }
        }
        self.writer.stage(&commit)
    }

    /// A user no longer wants to see these messages.
    pub(in super::super) fn push_hidden(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        seqs: &[HistorySeq],
    ) -> Result<(), StoreError> {
        let done = self.hidden_by_user(now, user, id, seqs);
        self.spared(done)
    }

    fn hidden_by_user(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        seqs: &[HistorySeq],
    ) -> Result<(), StoreError> {
        let Some(targets) = self.push_targets(user)? else { return Ok(()) };
        let mut commit = Commit::new();
        for (device, _) in targets.iter() {
            self.push_without(now, user, device, id, seqs, &mut commit)?;
        }
        self.writer.stage(&commit)
    }

    /// Takes back from one device what is gone.
    fn push_without(
        &mut self,
        now: Now,
        user: &UserId,
        device: &DeviceId,
        id: &ConversationId,
        gone: &[HistorySeq],
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let (user, device) = (user.clone(), device.clone());
        let place = Place { user, device, conversation: id.clone() };
        let mut outbox = self.push_outbox(&place)?;
        if !outbox.is_empty() && self.take_back(now, &place, &mut outbox, gone, commit)? {
            self.put_outbox(place, &outbox, commit);
        }
        Ok(())
    }

    /// Takes back from one device what is gone; says whether something changed.
    pub(super) fn take_back(
        &mut self,
        now: Now,
        place: &Place,
        outbox: &mut Outbox,
        gone: &[HistorySeq],
        commit: &mut Commit,
    ) -> Result<bool, StoreError> {
        let mut changed = false;
        for seq in gone {
            let earlier = self.earlier(now, place, outbox, *seq)?;
            let number = self.take_id(commit);
            changed |= outbox.gone(*seq, earlier, number, now.wall);
        }
        if changed && self.presence.foreground(&place.user, &place.device) {
            outbox.attend(now.wall);
        }
        Ok(changed)
    }

    /// What a device should hear of instead of a message that nobody has told it of.
    pub(super) fn earlier(
        &mut self,
        now: Now,
        place: &Place,
        outbox: &Outbox,
        gone: HistorySeq,
    ) -> Result<Option<News>, StoreError> {
        let asked = match outbox.wanted {
            Some(wanted) => wanted.seq == gone && wanted.attempts == 0,
            None => outbox.shown.is_some_and(|shown| !shown.sure && shown.seq > gone),
        };
        if !asked {
            return Ok(None);
        }
        let only = Some(&place.conversation);
        Ok(self.missed(now, &place.user, &place.device, only)?.pop().map(|(_, news)| news))
    }

    pub(super) fn is_muted(&self, user: &UserId, id: &ConversationId) -> Result<bool, StoreError> {
        let row = match self.writer.row(Table::Preference, &membership_key(user, id)) {
            // Rather a notification too many than none at all.
            Err(StoreError::Damaged(_)) => None,
            row => row?,
        };
        Ok(row.and_then(|row| Preference::decode(row).ok()).is_some_and(|row| row.wanted.muted))
    }

    /// Whether the user has deleted a message for itself. A damaged row says so, too.
    pub(super) fn is_hidden(
        &self,
        user: &UserId,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<bool, StoreError> {
        match self.writer.row(Table::Hidden, &row_of_user_key(user, id, seq)) {
            Ok(row) => Ok(row.is_some()),
            Err(StoreError::Damaged(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A message as it was written, unless it was recalled or deleted since.
    pub(super) fn living_message(
        &mut self,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<Option<Message>, StoreError> {
        if self.is_gone(id, seq)? {
            return Ok(None);
        }
        let entry = self.writer.entry(&LogKey::history(id), seq.number())?;
        Ok(entry.and_then(|entry| history::parse(entry).1))
    }

    /// Whether a message was recalled or deleted. One whose change cannot be read counts as gone.
    pub(super) fn is_gone(
        &mut self,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<bool, StoreError> {
        if self.cache.tip(&self.writer, id)?.mutation.number() == 0 {
            return Ok(false);
        }
        match self.writer.row(Table::Mutated, &mutated_key(id, seq)) {
            Ok(None) => Ok(false),
            Ok(Some(row)) => Ok(Mutated::decode(row).map_or(true, |row| row.gone)),
            Err(StoreError::Damaged(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether devices are told of a message of this kind.
pub(super) fn is_told(draft: &Draft) -> bool {
    !draft.flags.no_push && !draft.flags.uncounted
}
