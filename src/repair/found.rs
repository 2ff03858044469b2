//! The rows of a damaged directory, put together by what they are about.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Rows, told::What};
use crate::{
    conversation::{Conversation, Hidden, Member, Membership, Preference},
    history::Mutated,
    id::{ConversationId, UserId},
    seq::{HistorySeq, MutationSeq},
    store::{
        catalogue::{Table, first_id, last_seq, second_id},
        codec::Malformed,
    },
};

/// What stands under a key.
#[derive(Clone, Debug, Default)]
pub(super) enum Slot<T> {
    /// Nothing.
    #[default]
    Absent,
    /// Something that cannot be read.
    Broken,
    Whole(T),
}

impl<T> Slot<T> {
    fn of(row: Option<Bytes>, decode: impl FnOnce(Bytes) -> Result<T, Malformed>) -> Self {
        row.and_then(|row| decode(row).ok()).map_or(Self::Broken, Self::Whole)
    }

    pub(super) fn whole(&self) -> Option<&T> {
        match self {
            Self::Whole(row) => Some(row),
            _ => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A user in a conversation.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) own: Slot<Membership>,
    pub(super) member: Slot<Member>,
    pub(super) preference: Slot<Preference>,
    pub(super) hidden: BTreeMap<HistorySeq, Slot<Hidden>>,
    pub(super) mentions: BTreeMap<HistorySeq, Slot<Bytes>>,
}

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) row: Slot<Conversation>,
    pub(super) people: BTreeMap<UserId, Person>,
    pub(super) mutated: BTreeMap<HistorySeq, Slot<Mutated>>,
    /// The newest message and change that anything names.
    pub(super) named: HistorySeq,
    pub(super) named_change: MutationSeq,
}

impl Group {
    pub(super) fn name(&mut self, seq: HistorySeq) {
        self.named = self.named.max(seq);
    }

    /// Everything that a user's row names was there.
    fn name_all(&mut self, own: &Membership) {
        for seq in [own.read_seq, own.cleared_to, own.hidden_max, own.mention_max] {
            self.name(seq);
        }
        for interval in &own.intervals {
            self.name(interval.last.unwrap_or_else(|| interval.first.previous()));
        }
        self.named_change = self.named_change.max(own.left_mutation);
    }
}

pub(super) type Groups = BTreeMap<ConversationId, Group>;

/// Takes the rows of conversations and puts them together; `told` hears of keys that name nothing.
pub(super) fn groups(rows: &mut Rows, mut told: impl FnMut(What, String)) -> Groups {
    let mut all = Groups::new();
    let mut nothing = |table: Table, what, key: &Bytes| {
        told(what, format!("tree {}: key {} names nothing", table.tree(), key.escape_ascii()));
    };
    for (key, row) in rows.take(Table::Conversation) {
        match first_id::<ConversationId>(&key) {
            Some(id) => all.entry(id).or_default().row = Slot::of(row, Conversation::decode),
            None => nothing(Table::Conversation, What::Conversation, &key),
        }
    }
    for (key, row) in rows.take(Table::Membership) {
        let ids = (first_id::<UserId>(&key), second_id::<ConversationId>(&key));
        let (Some(user), Some(id)) = ids else {
            nothing(Table::Membership, What::Membership, &key);
            continue;
        };
        let own = Slot::of(row, Membership::decode);
        let group = all.entry(id).or_default();
        if let Slot::Whole(own) = &own {
            group.name_all(own);
        }
        group.people.entry(user).or_default().own = own;
    }
    for (key, row) in rows.take(Table::Member) {
        let ids = (first_id::<ConversationId>(&key), second_id::<UserId>(&key));
        let (Some(id), Some(user)) = ids else {
            nothing(Table::Member, What::Member, &key);
            continue;
        };
        let person = all.entry(id).or_default().people.entry(user).or_default();
        person.member = Slot::of(row, Member::decode);
    }
    for (key, row) in rows.take(Table::Preference) {
        let ids = (first_id::<UserId>(&key), second_id::<ConversationId>(&key));
        let (Some(user), Some(id)) = ids else {
            nothing(Table::Preference, What::Preference, &key);
            continue;
        };
        let person = all.entry(id).or_default().people.entry(user).or_default();
        person.preference = Slot::of(row, Preference::decode);
    }
    for (key, row) in rows.take(Table::Mutated) {
        let place = (first_id::<ConversationId>(&key), last_seq(&key).map(HistorySeq::new));
        let (Some(id), Some(seq)) = place else {
            nothing(Table::Mutated, What::Change, &key);
            continue;
        };
        let group = all.entry(id).or_default();
        group.name(seq);
        let row = Slot::of(row, Mutated::decode);
        if let Slot::Whole(row) = &row {
            group.named_change = group.named_change.max(row.mutation);
        }
        group.mutated.insert(seq, row);
    }
    for table in [Table::Hidden, Table::Mention] {
        for (key, row) in rows.take(table) {
            let ids = (first_id::<UserId>(&key), second_id::<ConversationId>(&key));
            let ((Some(user), Some(id)), Some(seq)) = (ids, last_seq(&key)) else {
                nothing(table, What::Hidden, &key);
                continue;
            };
            let seq = HistorySeq::new(seq);
            let group = all.entry(id).or_default();
            group.name(seq);
            let person = group.people.entry(user).or_default();
            if table == Table::Hidden {
                person.hidden.insert(seq, Slot::of(row, Hidden::decode));
            } else {
                person.mentions.insert(seq, Slot::of(row, Ok));
            }
        }
    }
    all
}
