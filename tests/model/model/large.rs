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
    /// After a change of members: a group that passes the limit goes the other way from now on.
    pub(super) fn decide_mode(&mut self, now: Now, id: &ConversationId) {
        let most = self.limits.fanout_members;
        let Some(talk) = self.talks.get_mut(id) else { return };
        let large = talk.kind == ConversationKind::Group && talk.members.len() > most;
        if large == talk.large {
            return;
        }
        talk.large = large;
        let from = HistorySeq::new(talk.head() + 1);
        let members: Vec<UserId> = talk.members.keys().cloned().collect();
        for user in members {
            let entry = EntryKind::Mode { conversation: id.clone(), large, from };
            self.deliver(now, &user, entry);
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
