//! Conversations the engine has at hand: a cache over the store, which is always the truth.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::{Stop, command::Tip, refuse};
use crate::{
    conversation::{Conversation, Member, Membership},
    history::{self, Mutated},
    id::{ConversationId, UserId},
    refusal::ErrorCode,
    seq::{HistorySeq, MutationSeq},
    store::{
        Condition, StoreError, Writer,
        catalogue::{
            LogKey, Table, conversation_key, last_seq, member_key, membership_key, second_id,
            user_prefix,
        },
    },
    time::Timestamp,
};

/// Cached conversations, members and gone messages beyond which the cache starts anew.
const TIPS_MAX: usize = 1 << 20;
const MEMBERS_MAX: usize = 1 << 20;
const GONE_MAX: usize = 1 << 20;
/// Messages that are looked at, from the newest one down, for one that can be read.
const TIP_LOOK_MAX: usize = 1000;
/// Users whose conversations are counted, beyond which the counts start anew.
const COUNTS_MAX: usize = 1 << 20;

/// A conversation with its members.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) row: Conversation,
    /// As stored; commits that rely on the members require it unchanged.
    pub(super) stored: Bytes,
    /// In order of id.
    pub(super) members: Vec<(UserId, Member)>,
    /// The members' inboxes, in the same order. None when it is large: nothing is written to them.
    pub(super) inboxes: Arc<[LogKey]>,
    pub(super) history: LogKey,
}

impl Open {
    pub(super) fn member(&self, user: &UserId) -> Option<&Member> {
        let index = self.members.binary_search_by(|(id, _)| id.cmp(user)).ok()?;
        self.members.get(index).map(|(_, member)| member)
    }

    /// Nothing is changed in a group that is closed.
    pub(super) fn must_live(&self) -> Result<(), Stop> {
        if self.row.disbanded {
            return Err(refuse(ErrorCode::Gone, "the group is disbanded"));
        }
        Ok(())
    }

    pub(super) fn unchanged(&self, id: &ConversationId) -> Condition {
        // Row and log have one key, which is here already.
        let key = self.history.bytes().clone();
        debug_assert_eq!(key, conversation_key(id));
        Condition::Row(Table::Conversation, key, Some(self.stored.clone()))
    }

    /// The inbox of a member.
    pub(super) fn inbox(&self, user: &UserId) -> Option<&LogKey> {
        let index = self.members.binary_search_by(|(id, _)| id.cmp(user)).ok()?;
        self.inboxes.get(index)
    }

    pub(super) fn set_members(&mut self, mut members: Vec<(UserId, Member)>) {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        self.members = members;
        self.name_inboxes();
    }

    pub(super) fn set_large(&mut self, large: bool) {
        if self.row.large != large {
            self.row.large = large;
            self.name_inboxes();
        }
    }

    fn name_inboxes(&mut self) {
        self.inboxes = match self.row.large {
            true => Arc::new([]),
            false => self.members.iter().map(|(user, _)| LogKey::inbox(user)).collect(),
        };
    }
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    open: HashMap<ConversationId, Arc<Open>>,
    tips: HashMap<ConversationId, Tip>,
    members: usize,
    gone: HashMap<ConversationId, Arc<Vec<HistorySeq>>>,
    /// What is in `gone`: messages, and one for each conversation.
    gone_count: usize,
    /// How many conversations a user has or had.
    counts: HashMap<UserId, usize>,
    /// Whether a conversation is large, of those that were asked for without their members.
    large: HashMap<ConversationId, bool>,
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
        if let Some(large) = self.large.get_mut(id) {
            *large = open.row.large;
        }
        let open = Arc::new(open);
        if let Some(old) = self.open.insert(id.clone(), Arc::clone(&open)) {
            self.members -= old.members.len() + 1;
        }
        open
    }

    /// Whether the conversation is large; costs no look at its members.
    pub(super) fn is_large(
        &mut self,
        writer: &Writer,
        id: &ConversationId,
    ) -> Result<bool, StoreError> {
        if let Some(open) = self.open.get(id) {
            return Ok(open.row.large);
        }
        if let Some(large) = self.large.get(id) {
            return Ok(*large);
        }
        let large = match writer.row(Table::Conversation, &conversation_key(id))? {
            Some(row) => Conversation::decode(row)?.large,
            None => false,
        };
        if self.large.len() >= TIPS_MAX {
            self.large.clear();
        }
        self.large.insert(id.clone(), large);
        Ok(large)
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
        // A message that cannot be read counts: whoever has read up to it has read it.
        let mut unknown = 0;
        let mut counted = None;
        for at in (1..=last).rev().take(TIP_LOOK_MAX) {
            let record = writer.entry(&log, at)?.and_then(|entry| entry.record);
            if counted.is_none() {
                counted = record.as_ref().and_then(history::ordinal);
                unknown += u64::from(counted.is_none());
            }
            if let Some(message) = record.and_then(|record| history::decode(record).ok()) {
                tip.time = message.time;
                break;
            }
        }
        if counted.is_none() && last > TIP_LOOK_MAX as u64 {
            return Err(StoreError::Damaged(format!("the newest messages of conversation {id}")));
        }
        tip.ordinal = counted.unwrap_or_default() + unknown;
        self.set_tip(id, tip);
        Ok(tip)
    }

    /// How many conversations a user has or had: membership rows, which are never removed. They are
    /// counted once in the life of the process, staged ones included, and from then on with every
    /// new row that is staged ([`Cache::has_one_more`]).
    pub(super) fn conversations_of(
        &mut self,
        writer: &Writer,
        user: &UserId,
    ) -> Result<usize, StoreError> {
        if let Some(count) = self.counts.get(user) {
            return Ok(*count);
        }
        let count = writer.rows(Table::Membership, &user_prefix(user), &[], usize::MAX)?.len();
        if self.counts.len() >= COUNTS_MAX {
            self.counts.clear();
        }
        self.counts.insert(user.clone(), count);
        Ok(count)
    }

    /// A commit with the user's first membership of a conversation was staged.
    pub(super) fn has_one_more(&mut self, user: &UserId) {
        if let Some(count) = self.counts.get_mut(user) {
            *count += 1;
        }
    }

    pub(super) fn set_tip(&mut self, id: &ConversationId, tip: Tip) {
        if self.tips.len() >= TIPS_MAX {
            self.tips.clear();
        }
        self.tips.insert(id.clone(), tip);
    }

    /// The messages that counted as unread until they were recalled or deleted for all, ascending.
    /// One whose row is damaged is not among them.
    pub(super) fn gone(
        &mut self,
        writer: &Writer,
        id: &ConversationId,
    ) -> Result<Arc<Vec<HistorySeq>>, StoreError> {
        if let Some(gone) = self.gone.get(id) {
            return Ok(Arc::clone(gone));
        }
        let mut gone = Vec::new();
        if self.tip(writer, id)?.mutation > MutationSeq::ZERO {
            // Keys end in the sequence, big-endian, so they come in its order.
            let prefix = conversation_key(id);
            for (key, row) in writer.rows_and_holes(Table::Mutated, &prefix, &[], usize::MAX)? {
                let mutated = row.and_then(|row| Mutated::decode(row).ok());
                if mutated.is_some_and(|mutated| mutated.gone && mutated.counted) {
                    gone.extend(last_seq(&key).map(HistorySeq::new));
                }
            }
        }
        if self.gone_count > GONE_MAX {
            self.gone.clear();
            self.gone_count = 0;
        }
        self.gone_count += gone.len() + 1;
        let gone = Arc::new(gone);
        self.gone.insert(id.clone(), Arc::clone(&gone));
        Ok(gone)
    }

    /// A message that counted as unread is gone for everyone.
    pub(super) fn add_gone(&mut self, id: &ConversationId, seq: HistorySeq) {
        if let Some(gone) = self.gone.get_mut(id)
            && let Err(place) = gone.binary_search(&seq)
        {
            Arc::make_mut(gone).insert(place, seq);
            self.gone_count += 1;
        }
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
