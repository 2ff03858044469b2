//! Groups too large to write every message to every inbox.

use roamd::{
    engine::Now,
    id::{ConversationId, UserId},
    message::{ConversationKind, EntryKind},
    request::LargeCursor,
    seq::{HistorySeq, MutationSeq},
};

use super::Model;

impl Model {
    pub(super) fn is_large_with(&self, kind: ConversationKind, members: usize) -> bool {
        kind == ConversationKind::Group && members > self.limits.fanout_members
    }

    /// After a change of members: a group that passes the limit goes the other way from now on.
    pub(super) fn decide_mode(&mut self, now: Now, id: &ConversationId) {
        let large = self.is_large_with(self.talks[id].kind, self.talks[id].members.len());
        let Some(talk) = self.talks.get_mut(id).filter(|talk| talk.large != large) else { return };
        talk.large = large;
        let members = talk.members.keys().cloned().collect();
        self.tell_mode(now, id, members);
    }

    /// Which way messages go from now on.
    pub(super) fn tell_mode(&mut self, now: Now, id: &ConversationId, users: Vec<UserId>) {
        let (large, from) = (self.talks[id].large, HistorySeq::new(self.talks[id].head() + 1));
        for user in users {
            let conversation = id.clone();
            self.deliver(now, &user, EntryKind::Mode { conversation, large, from });
        }
    }

    /// The ends of the user's large conversations.
    pub fn large_of(&self, user: &UserId) -> Vec<LargeCursor> {
        let own = |(_, talk): &(&ConversationId, &super::Talk)| {
            talk.large && talk.members.contains_key(user)
        };
        let talks = self.talks.iter().filter(own);
        let end = talks.map(|(id, talk)| LargeCursor {
            conversation: id.clone(),
            history: HistorySeq::new(talk.head()),
            mutation: MutationSeq::new(talk.last_mutation()),
            version: talk.version,
        });
        end.collect()
    }
}
