//! Read markers. A marker is durable at once; the entries that tell the user's other devices, and
//! the other user of a direct conversation when it may know, are held back ([`super::held`]).

use super::{
    Answer, Caller, Engine, Now, Stop,
    counts::UserCounts,
    held::{About, Topic},
    not_found, open,
};
use crate::{
    conversation::Membership,
    history,
    id::{ConversationId, UserId},
    inbox,
    message::{ConversationKind, Entry, EntryKind},
    planted::{self, Bug},
    reply::Reply,
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, StoreError,
        catalogue::{LogKey, Table, membership_key},
    },
};

impl Engine {
    pub(super) fn mark_read(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        wanted: HistorySeq,
        peer_visible: bool,
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        let mut own = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        let tip = self.cache.tip(&self.writer, id)?;
        let seq = wanted.min(own.hull(tip.head).last);
        let mut commit = Commit::new();
        let mut about = Vec::new();
        let mut changed = false;
        // Marking anew what is marked already says that it is not to be shown as unread.
        if own.marked_unread && wanted >= own.read_seq {
            own.marked_unread = false;
            changed = true;
            about.push(About::Read);
        }
        if seq > own.read_seq {
            let ordinal = self.ordinal_at(id, seq)?;
            own.mark_read(seq, ordinal);
            self.forget_mentions(user, id, &mut own, &mut commit)?;
            changed = true;
            let topic = (user.clone(), id.clone(), About::Read);
            if about.is_empty() && !self.held.must_wait(&topic) {
                about.push(About::Read);
            }
        }
        if peer_visible && seq > own.peer_visible_seq && self.peer(user, id)?.is_some() {
            own.peer_visible_seq = seq;
            changed = true;
            let topic = (user.clone(), id.clone(), About::PeerRead);
            if !self.held.must_wait(&topic) {
                about.push(About::PeerRead);
            }
        }
        let read_seq = own.read_seq;
        let unread = self.count(user, id, &own, tip)?.unread;
        if changed && !planted::is(Bug::MarkLost) {
            self.write_own(now, user, id, own, commit, &about)?;
            self.push_read(now, user, id, read_seq)?;
        }
        let unread_total = self.counted(user, UserCounts::total)?;
        Ok(Answer::Reply(Reply::MarkRead { read_seq, unread, unread_total }))
    }

    pub(super) fn mark_unread(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
    ) -> Result<Answer, Stop> {
        let user = &caller.user;
        let mut own = open::membership(&self.writer, user, id)?.ok_or_else(not_found)?;
        if own.marked_unread {
            return Ok(Answer::Reply(Reply::Done { inbox_seq: InboxSeq::ZERO }));
        }
        own.marked_unread = true;
        let inbox_seq = self.next_inbox_seq(user)?;
        self.write_own(now, user, id, own, Commit::new(), &[About::Read])?;
        Ok(Answer::Reply(Reply::Done { inbox_seq }))
    }

    /// The ordinal at a row that is there.
    pub(super) fn ordinal_at(
        &mut self,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<u64, StoreError> {
        let tip = self.cache.tip(&self.writer, id)?;
        if seq == tip.head {
            return Ok(tip.ordinal);
        }
        let log = LogKey::history(id);
        // A damaged row does not lose the count: the row before it has it, but for one.
        for at in (1..=seq.number()).rev().take(64) {
            let record = self.writer.entry(&log, at)?.and_then(|entry| entry.record);
            if let Some(ordinal) = record.as_ref().and_then(history::ordinal) {
                return Ok(ordinal);
            }
        }
        Ok(0)
    }

    /// The other user of a direct conversation.
    fn peer(&mut self, user: &UserId, id: &ConversationId) -> Result<Option<UserId>, StoreError> {
        let Some(open) = self.cache.open(&self.writer, id)? else { return Ok(None) };
        if open.row.kind != ConversationKind::Direct {
            return Ok(None);
        }
        Ok(open.members.iter().map(|(other, _)| other).find(|other| *other != user).cloned())
    }

    /// Writes a user's row, and entries that tell of it; the next ones have to wait.
    fn write_own(
        &mut self,
        now: Now,
        user: &UserId,
        id: &ConversationId,
        mut own: Membership,
        mut commit: Commit,
        about: &[About],
    ) -> Result<(), StoreError> {
        let conversation = id.clone();
        let mut grown = Vec::new();
        for about in about {
            let (inbox, kind) = match about {
                About::Read => {
                    own.announced_seq = own.read_seq;
                    let Membership { read_seq, marked_unread, .. } = own;
                    let conversation = conversation.clone();
                    (user.clone(), EntryKind::Read { conversation, read_seq, marked_unread })
                }
                About::PeerRead => {
                    let read_seq = own.peer_visible_seq;
                    own.peer_told_seq = read_seq;
                    let Some(peer) = self.peer(user, id)? else { continue };
                    let (user, conversation) = (user.clone(), conversation.clone());
                    (peer, EntryKind::PeerRead { conversation, user, read_seq })
                }
                About::Preferences => continue,
            };
            commit.append(LogKey::inbox(&inbox), inbox::encode(&Entry { time: now.wall, kind }));
            grown.push(inbox);
        }
        commit.put(Table::Membership, membership_key(user, id), own.encode());
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(grown);
        for about in about {
            self.held.told(now.mono, (user.clone(), conversation.clone(), *about));
        }
        Ok(())
    }

    /// Writes entries whose time has come.
    pub(super) fn write_held(&mut self, now: Now) -> Result<(), StoreError> {
        let mut due = self.held.take_due(now.mono).into_iter();
        while let Some(topic) = due.next() {
            let told = self.tell(now, topic.clone());
            if let Err(StoreError::NoSpace) = told {
                for topic in std::iter::once(topic).chain(due) {
                    self.held.put_back(now.mono, topic);
                }
                return told;
            }
            told?;
        }
        Ok(())
    }

    /// Writes every entry that is held back.
    pub(super) fn write_all_held(&mut self, now: Now) -> Result<(), StoreError> {
        for topic in self.held.take_all() {
            self.tell(now, topic)?;
        }
        Ok(())
    }

    fn tell(&mut self, now: Now, (user, id, about): Topic) -> Result<(), StoreError> {
        if let About::Preferences = about {
            return self.tell_preferences(now, &user, &id);
        }
        match open::membership(&self.writer, &user, &id)? {
            Some(own) if is_untold(&own, about) => {
                self.write_own(now, &user, &id, own, Commit::new(), &[about])
            }
            _ => Ok(()),
        }
    }

    /// Makes up for entries about this user's state that a crash kept from being written.
    pub(super) fn make_up_for(&mut self, now: Now, user: &UserId) -> Result<(), StoreError> {
        for id in self.counted(user, UserCounts::untold)? {
            let Some(own) = open::membership(&self.writer, user, &id)? else { continue };
            let untold = |about: &About| {
                let topic = (user.clone(), id.clone(), *about);
                is_untold(&own, *about) && !self.held.is_silent(&topic)
            };
            let about: Vec<About> =
                [About::Read, About::PeerRead].into_iter().filter(untold).collect();
            if !about.is_empty() {
                self.write_own(now, user, &id, own, Commit::new(), &about)?;
            }
        }
        self.make_up_for_preferences(now, user)
    }
}

/// Whether anything of a user's row was never told.
pub(super) fn has_untold(own: &Membership) -> bool {
    is_untold(own, About::Read) || is_untold(own, About::PeerRead)
}

/// Whether something of a user's row was never told.
fn is_untold(own: &Membership, about: About) -> bool {
    match about {
        About::Read => own.announced_seq < own.read_seq,
        About::PeerRead => own.peer_told_seq < own.peer_visible_seq,
        About::Preferences => false,
    }
}
