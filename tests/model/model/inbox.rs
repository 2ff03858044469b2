//! Inboxes: what is written to them and how their entries read.

use roamd::{
    engine::Now, id::UserId, message::EntryKind, reply::EntryView, seq::InboxSeq, time::Timestamp,
};

use super::Model;

#[derive(Clone, Debug, Default)]
pub struct Inbox {
    /// Entry `n` is at `n - 1`.
    pub entries: Vec<(Timestamp, EntryKind)>,
    /// Entries below this are trimmed.
    pub trimmed: u64,
}

impl Inbox {
    pub fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn first(&self) -> u64 {
        self.trimmed + 1
    }
}

impl Model {
    pub(super) fn deliver(&mut self, now: Now, user: &UserId, kind: EntryKind) {
        let inbox = self.inboxes.entry(user.clone()).or_default();
        inbox.entries.push((now.wall, kind));
        inbox.trimmed = inbox.trimmed.max(inbox.head().saturating_sub(self.limits.inbox_entries));
        self.grown.insert(user.clone());
    }

    pub fn head(&self, user: &UserId) -> InboxSeq {
        InboxSeq::new(self.inboxes.get(user).map_or(0, Inbox::head))
    }

    pub fn first(&self, user: &UserId) -> InboxSeq {
        InboxSeq::new(self.inboxes.get(user).map_or(1, Inbox::first))
    }

    /// The user's entries `first..=last` as a reader sees them now.
    pub fn entries(&self, user: &UserId, first: u64, last: u64) -> Vec<EntryView> {
        let Some(inbox) = self.inboxes.get(user) else { return Vec::new() };
        let entries = inbox.entries.iter().take(last as usize).skip(first as usize - 1);
        entries.map(|(time, kind)| self.entry(user, *time, kind)).collect()
    }

    fn entry(&self, user: &UserId, time: Timestamp, kind: &EntryKind) -> EntryView {
        match kind.clone() {
            EntryKind::Message { conversation, seq } => {
                EntryView::Message { time, message: self.show(user, &conversation, seq.number()) }
            }
            EntryKind::Read { conversation, read_seq, marked_unread } => {
                EntryView::Read { time, conversation, read_seq, marked_unread }
            }
            EntryKind::Membership(change) => EntryView::Membership { time, change },
            EntryKind::Recalled(mutation) => EntryView::Recalled { time, mutation },
            EntryKind::Deleted(mutation) => EntryView::Deleted { time, mutation },
            EntryKind::Edited(named) => {
                let message = self.show(user, &named.conversation, named.seq.number());
                EntryView::Edited { time, mutation: named.mutation, message }
            }
            EntryKind::Hidden { conversation, seqs } => {
                EntryView::Hidden { time, conversation, seqs }
            }
            EntryKind::PeerRead { conversation, user, read_seq } => {
                EntryView::PeerRead { time, conversation, user, read_seq }
            }
            EntryKind::Preferences { conversation } => {
                let place = &self.talks[&conversation].places[user];
                let preferences = place.preferences.clone();
                EntryView::Preferences { time, conversation, preferences }
            }
            EntryKind::Cleared { conversation, cleared_to } => {
                EntryView::Cleared { time, conversation, cleared_to }
            }
            EntryKind::Mode { conversation, large, from } => {
                EntryView::Mode { time, conversation, large, from }
            }
            EntryKind::Notice { notice } => {
                let notice = self.notices[notice.number() as usize - 1].clone();
                EntryView::Notice { time, notice }
            }
            EntryKind::Unknown => unreachable!("the model writes no unknown entries"),
        }
    }
}
