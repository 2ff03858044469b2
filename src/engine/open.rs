//! Conversations the engine has at hand: a cache over the store, which is always the truth.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::command::Tip;
use crate::{
    conversation::{Conversation, Member, Membership},
    history,
    id::{ConversationId, UserId},
    seq::{HistorySeq, MutationSeq},
    store::{
        Condition, StoreError, Writer,
        catalogue::{LogKey, Table, conversation_key, member_key, membership_key, second_id},
    },
    time::Timestamp,
};

/// Cached conversations and members beyond which the cache starts anew.
const TIPS_MAX: usize = 1 << 20;
const MEMBERS_MAX: usize = 1 << 20;

/// A conversation with its members.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) row: Conversation,
    /// As stored; commits that rely on the members require it unchanged.
    pub(super) stored: Bytes,
    /// In order of id.
    pub(super) members: Vec<(UserId, Member)>,
    /// The members' inboxes, in the same order.
    pub(super) inboxes: Arc<[LogKey]>,
    pub(super) history: LogKey,
}

impl Open {
    pub(super) fn member(&self, user: &UserId) -> Option<&Member> {
        let index = self.members.binary_search_by(|(id, _)| id.cmp(user)).ok()?;
        self.members.get(index).map(|(_, member)| member)
    }

    pub(super) fn unchanged(&self, id: &ConversationId) -> Condition {
        Condition::Row(Table::Conversation, conversation_key(id), Some(self.stored.clone()))
    }

    pub(super) fn set_members(&mut self, mut members: Vec<(UserId, Member)>) {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        self.inboxes = members.iter().map(|(user, _)| LogKey::inbox(user)).collect();
        self.members = members;
    }
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    open: HashMap<ConversationId, Arc<Open>>,
    tips: HashMap<ConversationId, Tip>,
    members: usize,
}

impl Cache {
    /// The conversation; none when there is none.
    pub(super) fn open(
        &mut self,
        writer: &Writer,
        id: &ConversationId,
    ) -> Result<Option<Arc<Open>>, StoreError> {
        if let Some(open) = self.open.get(id) {
            return Ok(Some(Arc::clone(open)));
        }
        let key = conversation_key(id);
        let Some(stored) = writer.row(Table::Conversation, &key)? else { return Ok(None) };
        let mut members = Vec::new();
        for (member, row) in writer.rows(Table::Member, &key, &[], usize::MAX)? {
            let user = second_id(&member)
                .ok_or_else(|| StoreError::Damaged("a member key is malformed".into()))?;
            members.push((user, Member::decode(row)?));
        }
        let mut open = Open {
            row: Conversation::decode(stored.clone())?,
            stored,
            members: Vec::new(),
            inboxes: Arc::new([]),
            history: LogKey::history(id),
        };
        open.set_members(members);
        Ok(Some(self.keep(id, open)))
    }

    /// Caches a conversation that was made just now.
    pub(super) fn insert_new(&mut self, id: &ConversationId, open: Arc<Open>) {
        if !self.open.contains_key(id) {
            self.keep(id, Arc::unwrap_or_clone(open));
        }
    }

    /// Replaces what is cached after a change.
    pub(super) fn keep(&mut self, id: &ConversationId, open: Open) -> Arc<Open> {
        if self.members > MEMBERS_MAX {
            self.open.clear();
            self.members = 0;
        }
        self.members += open.members.len() + 1;
        let open = Arc::new(open);
        self.open.insert(id.clone(), Arc::clone(&open));
        open
    }

    /// The newest message.
    pub(super) fn tip(&mut self, writer: &Writer, id: &ConversationId) -> Result<Tip, StoreError> {
        if let Some(tip) = self.tips.get(id) {
            return Ok(*tip);
        }
        let log = LogKey::history(id);
        let last = writer.bounds(&log)?.last;
        let mut tip = Tip::new(Timestamp::default());
        tip.head = HistorySeq::new(last);
        tip.mutation = MutationSeq::new(writer.bounds(&LogKey::mutations(id))?.last);
        if let Some(entry) = writer.entry(&log, last)? {
            let message = history::parse(entry).1.ok_or_else(|| {
                StoreError::Damaged(format!("the newest message of conversation {id}"))
            })?;
            tip.ordinal = message.ordinal;
            tip.time = message.time;
        }
        self.set_tip(id, tip);
        Ok(tip)
    }

    pub(super) fn set_tip(&mut self, id: &ConversationId, tip: Tip) {
        if self.tips.len() >= TIPS_MAX {
            self.tips.clear();
        }
        self.tips.insert(id.clone(), tip);
    }
}

/// A user's own row of a conversation.
pub(super) fn membership(
    writer: &Writer,
    user: &UserId,
    conversation: &ConversationId,
) -> Result<Option<Membership>, StoreError> {
    let key = membership_key(user, conversation);
    match writer.row(Table::Membership, &key)? {
        None => Ok(None),
        Some(row) => Ok(Some(Membership::decode(row)?)),
    }
}

/// Adds the rows of a user that joins to a commit.
pub(super) fn put_member(
    commit: &mut crate::store::Commit,
    conversation: &ConversationId,
    user: &UserId,
    member: Member,
    membership: &Membership,
) {
    commit.put(Table::Member, member_key(conversation, user), member.encode());
    commit.put(Table::Membership, membership_key(user, conversation), membership.encode());
}
