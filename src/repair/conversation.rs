//! One conversation: its history, the changes of its messages, its members, and what each user has to do
//! with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    Repair,
    found::{Group, Person, Slot},
    requests::Requests,
    told::What,
};
use crate::{
    conversation::{Conversation, Hidden, Interval, MENTION, Member, Membership},
    history::{self, Change, Mutated, Mutation},
    id::{ConversationId, UserId},
    message::{ConversationKind, HistoryPolicy, Message, Role},
    seq::{HistorySeq, MutationSeq},
    store::{
        LogLeft, StoreError,
        catalogue::{
            LogKey, Table, conversation_key, member_key, membership_key, mutated_key,
            row_of_user_key,
        },
        codec::{LOST, is_lost},
    },
};

/// A history that is whole again.
struct History {
    first: u64,
    records: Vec<Bytes>,
    messages: BTreeMap<HistorySeq, Message>,
    /// By place, from `first` on.
    ordinals: Vec<u64>,
}

impl History {
    fn head(&self) -> HistorySeq {
        HistorySeq::new(self.first + self.records.len() as u64 - 1)
    }

    fn ordinal(&self, seq: HistorySeq) -> u64 {
        let at = seq.number().checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.ordinals.get(at).copied()).unwrap_or_default()
    }

    /// Whether the row counts as unread, as far as can be known.
    fn counts(&self, seq: HistorySeq) -> bool {
        match self.messages.get(&seq) {
            Some(message) => !message.draft.flags.uncounted,
            None => self.ordinal(seq) > self.ordinal(seq.previous()),
        }
    }
}

impl Repair<'_> {
    pub(super) fn conversation(
        &mut self,
        id: &ConversationId,
        mut group: Group,
        requests: &mut Requests,
    ) -> Result<(), StoreError> {
        let changes = self.left(&LogKey::mutations(id));
        let left = self.left(&LogKey::history(id));
        let mutations: BTreeMap<u64, Mutation> = changes
            .entries
            .iter()
            .filter_map(|(at, record)| Some((*at, Mutation::decode(record.clone()).ok()?)))
            .collect();
        mutations.values().for_each(|mutation| group.name(mutation.seq));
        let history = self.history(id, &group, left);
        for (seq, message) in &history.messages {
            requests.hear(id, *seq, message);
            self.newest_id = self.newest_id.max(message.id.number());
        }
        self.mutations(id, &mut group, &history, changes, &mutations)?;
        let exists = history.head() > HistorySeq::ZERO || !group.people.is_empty();
        if !exists && group.row.is_absent() {
            return Ok(());
        }
        self.direct(id, &mut group, &history);
        let last_change = group.named_change;
        let mut members = Vec::new();
        for (user, person) in std::mem::take(&mut group.people) {
            let role = self.person(id, &user, person, &history, last_change);
            members.extend(role.map(|role| (user, role)));
        }
        self.row(id, group.row, &members, &history);
        self.report.conversations += 1;
        self.report.messages += history.messages.len() as u64;
        self.heads.insert(id.clone(), history.head());
        self.write_log(&LogKey::history(id), history.first, history.records)
    }

    /// Every row has its place; the ones that are gone count so that the others do as before.
    fn history(&mut self, id: &ConversationId, group: &Group, mut left: LogLeft) -> History {
        let first = left.first.max(1);
        let last = left.last.max(group.named.number()).max(first - 1);
        let count = usize::try_from(last + 1 - first).unwrap_or_default();
        let mut history = History {
            first,
            records: Vec::with_capacity(count),
            messages: BTreeMap::new(),
            ordinals: Vec::with_capacity(count),
        };
        let mut gone: Vec<u64> = Vec::new();
        let mut newly = Vec::new();
        let mut before = 0;
        for seq in first..=last {
            let record = left.entries.remove(&seq);
            let known = record.and_then(|record| Some((history::ordinal(&record)?, record)));
            let Some((ordinal, record)) = known else {
                gone.push(seq);
                newly.push(seq);
                continue;
            };
            let message = history::decode(record.clone()).ok();
            let own = message.as_ref().is_none_or(|message| !message.draft.flags.uncounted);
            // So many of those that are gone before it counted.
            let counted = ordinal.saturating_sub(u64::from(own)).saturating_sub(before);
            history.fill(&mut gone, before, counted);
            before = ordinal;
            history.records.push(record);
            history.ordinals.push(ordinal);
            if let Some(message) = message {
                history.messages.insert(HistorySeq::new(seq), message);
            }
        }
        let counted = gone.len() as u64;
        history.fill(&mut gone, before, counted);
        for (from, to) in spans(&newly) {
            self.lost(What::Message, format!("history {id}: {from} to {to}"));
        }
        history
    }

    /// The log of changes, and which change of each message is the latest.
    fn mutations(
        &mut self,
        id: &ConversationId,
        group: &mut Group,
        history: &History,
        left: LogLeft,
        mutations: &BTreeMap<u64, Mutation>,
    ) -> Result<(), StoreError> {
        let first = left.first.max(1);
        let last = left.last.max(group.named_change.number()).max(first - 1);
        group.named_change = MutationSeq::new(last);
        let mut records = Vec::new();
        let (mut newly, mut unknown) = (Vec::new(), Vec::new());
        for at in first..=last {
            let record = left.entries.get(&at);
            match record.filter(|record| mutations.contains_key(&at) || is_lost(record)) {
                Some(record) => records.push(record.clone()),
                None => {
                    newly.push(at);
                    records.push(Bytes::from_static(&[LOST]));
                }
            }
            if !mutations.contains_key(&at) {
                unknown.push(at);
            }
        }
        for (from, to) in spans(&newly) {
            self.lost(What::Change, format!("changes of {id}: {from} to {to}"));
        }
        let mut latest = BTreeMap::<HistorySeq, Mutated>::new();
        for (at, mutation) in mutations {
            let gone = !matches!(mutation.change, Change::Edited { .. });
            let row = Mutated {
                mutation: MutationSeq::new(*at),
                gone,
                counted: history.counts(mutation.seq),
            };
            latest.insert(mutation.seq, row);
        }
        // Of which message a change is that cannot be read: a row says it, or a later change, or an inbox.
        for at in unknown {
            let number = MutationSeq::new(at);
            let named =
                group.mutated.values().filter_map(Slot::whole).any(|r| r.mutation == number)
                    || mutations.values().any(|mutation| mutation.previous == number);
            if named {
                continue;
            }
            let told = self.changes.get(&(id.clone(), at)).copied();
            let broken = || {
                let mut rows = group.mutated.iter().filter(|(_, row)| row.whole().is_none());
                rows.next().map(|(seq, _)| *seq)
            };
            match told {
                Some(told) => {
                    let known = latest.get(&told.seq).map(|row| row.mutation);
                    if known < Some(number) {
                        let counted = history.counts(told.seq);
                        latest.insert(
                            told.seq,
                            Mutated { mutation: number, gone: told.gone, counted },
                        );
                    }
                }
                // It is one of those whose rows cannot be read either: these show nothing (below).
                None if broken().is_some() => {}
                None => {
                    let detail = format!(
                        "change {at} of {id} is of a message that nothing names: what it took back may be shown"
                    );
                    self.lost(What::Change, detail);
                }
            }
        }
        let lost_last = (first..=last).rev().find(|at| !mutations.contains_key(at));
        for (seq, slot) in std::mem::take(&mut group.mutated) {
            let found = latest.get(&seq).copied();
            match (slot, found) {
                (Slot::Whole(row), found)
                    if found.is_none_or(|found| found.mutation < row.mutation) =>
                {
                    latest.insert(seq, row);
                }
                (Slot::Whole(row), Some(found)) if row != found => {
                    self.rebuilt(What::Change, format!("the latest change of {id} {seq}"));
                }
                (Slot::Whole(_), _) => {}
                (_, found) => {
                    // The change that was the latest may be one that is gone. Then nothing is shown.
                    let lost = lost_last.map(MutationSeq::new);
                    if let Some(lost) = lost.filter(|lost| found.is_none_or(|f| f.mutation < *lost))
                    {
                        let counted = history.counts(seq);
                        latest.insert(seq, Mutated { mutation: lost, gone: false, counted });
                        let detail = format!("the latest change of {id} {seq}: it is not shown");
                        self.lost(What::Change, detail);
                    } else {
                        self.rebuilt(What::Change, format!("the latest change of {id} {seq}"));
                    }
                }
            }
        }
        for (seq, mut row) in latest {
            let counted = history.counts(seq);
            if history.messages.contains_key(&seq) {
                row.counted = counted;
            }
            self.put(Table::Mutated, mutated_key(id, seq), row.encode());
        }
        self.write_log(&LogKey::mutations(id), first, records)
    }

    /// The two users of a direct conversation, whose id proves who they are: neither leaves, and a message
    /// to one that is missing would reach nobody.
    fn direct(&mut self, id: &ConversationId, group: &mut Group, history: &History) {
        let is_there = |person: &Person| person.own.whole().is_some();
        if !id.is_direct() || group.people.values().filter(|person| is_there(person)).count() > 1 {
            return;
        }
        let senders = history.messages.values().map(|message| &message.sender);
        let some: BTreeSet<&UserId> = group.people.keys().chain(senders).collect();
        let some = if some.is_empty() { self.users.iter().collect() } else { some };
        let is_it = |(a, b): &(&UserId, &UserId)| ConversationId::direct(a, b) == *id;
        let all = self.users.iter().chain(some.iter().copied());
        let pairs = all.flat_map(|a| some.iter().map(move |b| (a, *b)));
        let Some((a, b)) = pairs.filter(is_it).map(|(a, b)| (a.clone(), b.clone())).next() else {
            return;
        };
        let joined = history.messages.values().next().map_or(self.now, |message| message.time);
        for user in [a, b] {
            let person = group.people.entry(user).or_default();
            if !is_there(person) && person.member.whole().is_none() {
                let joined_seq = HistorySeq::new(1);
                person.member = Slot::Whole(Member { role: Role::Member, joined_seq, joined });
            }
        }
    }

    /// A user in a conversation; returns its role when it is a member.
    fn person(
        &mut self,
        id: &ConversationId,
        user: &UserId,
        person: Person,
        history: &History,
        last_change: MutationSeq,
    ) -> Option<Role> {
        let head = history.head();
        let Person { own, member, preference, hidden, mentions } = person;
        let of = format!("{user} in {id}");
        let stored = own.whole().cloned();
        let mut row = match (own, &member) {
            (Slot::Whole(row), _) => row,
            (_, Slot::Whole(member)) => {
                self.lost(What::Membership, format!("read marker and earlier stays of {of}"));
                self.joined(id, user, member, history)
            }
            (Slot::Absent, Slot::Absent) => {
                // Only small rows are left, of no use without it.
                self.lost(What::Membership, format!("what {of} may see"));
                return None;
            }
            _ => {
                self.lost(
                    What::Membership,
                    format!("what {of} may see, and whether it is a member"),
                );
                return None;
            }
        };
        if row.is_member() && row.intervals.last().is_none_or(|interval| interval.last.is_some()) {
            row.intervals.push(Interval { first: head.next(), last: None });
        }
        row.read_ordinal = match history.messages.get(&row.read_seq) {
            Some(message) => message.ordinal,
            None if row.read_seq == HistorySeq::ZERO => 0,
            None => row.read_ordinal.max(history.ordinal(row.read_seq)),
        };
        row.announced_seq = row.announced_seq.min(row.read_seq);
        row.left_mutation = row.left_mutation.min(last_change);
        self.hidden(id, user, &mut row, hidden, history);
        self.mentions(id, user, &mut row, mentions, history);
        if stored.as_ref().is_some_and(|stored| *stored != row) {
            self.rebuilt(What::Membership, format!("what is derived for {of}"));
        }
        let key = membership_key(user, id);
        match preference {
            Slot::Whole(wanted) => self.put(Table::Preference, key.clone(), wanted.encode()),
            Slot::Broken => self.lost(What::Preference, format!("what {of} wants")),
            Slot::Absent => {}
        }
        self.put(Table::Membership, key, row.encode());
        let Some(role) = row.role else {
            if !member.is_absent() {
                self.rebuilt(What::Member, format!("{of} has left"));
            }
            return None;
        };
        let joined_seq = row.intervals.last().map_or(head.next(), |interval| interval.first);
        let member = match member {
            Slot::Whole(member) if member.role == role => member,
            _ => {
                self.rebuilt(What::Member, of);
                Member { role, joined_seq, joined: row.joined }
            }
        };
        self.put(Table::Member, member_key(id, user), member.encode());
        Some(role)
    }

    /// A member of whom nothing else is known: it sees what came since it joined, and has read what its
    /// inbox says.
    fn joined(
        &self,
        id: &ConversationId,
        user: &UserId,
        member: &Member,
        history: &History,
    ) -> Membership {
        let before = member.joined_seq.previous().min(history.head());
        let policy = HistoryPolicy::SinceJoin;
        let ordinal = history.ordinal(before);
        let mut row = Membership::join(member.role, policy, before, ordinal, member.joined);
        if let Some(read) = self.read.get(&(user.clone(), id.clone())) {
            let read = (*read).min(history.head());
            row.mark_read(read, history.ordinal(read));
        }
        row.announced_seq = row.read_seq;
        row
    }

    fn hidden(
        &mut self,
        id: &ConversationId,
        user: &UserId,
        row: &mut Membership,
        hidden: BTreeMap<HistorySeq, Slot<Hidden>>,
        history: &History,
    ) {
        let mut count = 0;
        for (seq, slot) in hidden {
            if !row.was_shown(seq) {
                self.rebuilt(What::Hidden, format!("{user} in {id}: {seq} was never shown"));
                continue;
            }
            let counted = match slot {
                Slot::Whole(hidden) if !history.messages.contains_key(&seq) => hidden.counted,
                _ => history.counts(seq),
            };
            if !matches!(slot, Slot::Whole(_)) {
                self.rebuilt(What::Hidden, format!("{user} in {id}: {seq}"));
            }
            count += 1;
            row.hidden_max = row.hidden_max.max(seq);
            self.put(Table::Hidden, row_of_user_key(user, id, seq), Hidden { counted }.encode());
        }
        if count < row.hidden_count {
            let detail =
                format!("{} messages that {user} had deleted in {id}", row.hidden_count - count);
            self.lost(What::Hidden, detail);
        }
        row.hidden_count = count;
    }

    fn mentions(
        &mut self,
        id: &ConversationId,
        user: &UserId,
        row: &mut Membership,
        mentions: BTreeMap<HistorySeq, Slot<Bytes>>,
        history: &History,
    ) {
        let names = |message: &Message| {
            let draft = &message.draft;
            draft.mentions.contains(user) && !draft.flags.uncounted && message.sender != *user
        };
        let mut kept = Vec::new();
        for (seq, slot) in mentions {
            if !matches!(slot, Slot::Whole(_)) {
                self.rebuilt(What::Mention, format!("{user} in {id}: {seq}"));
            }
            match history.messages.get(&seq) {
                Some(message) if !names(message) => {
                    self.rebuilt(What::Mention, format!("{user} in {id}: {seq} does not name it"));
                }
                _ => kept.push(seq),
            }
        }
        if self.blind && row.is_member() {
            // Rows may be gone that nobody misses.
            let unread = history.messages.range(row.read_seq.next()..);
            for (seq, _) in unread.filter(|(seq, message)| row.was_shown(**seq) && names(message)) {
                if !kept.contains(seq) {
                    self.rebuilt(What::Mention, format!("{user} in {id}: {seq}"));
                    kept.push(*seq);
                }
            }
        }
        for seq in kept {
            row.mention_max = row.mention_max.max(seq);
            let row = Bytes::from_static(MENTION);
            self.put(Table::Mention, row_of_user_key(user, id, seq), row);
        }
    }

    /// The conversation's own row.
    fn row(
        &mut self,
        id: &ConversationId,
        slot: Slot<Conversation>,
        members: &[(UserId, Role)],
        history: &History,
    ) {
        let member_count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let large = member_count as usize > self.fanout_members;
        let row = match slot {
            Slot::Whole(mut row) => {
                if row.member_count != member_count {
                    let was = row.member_count;
                    self.rebuilt(
                        What::Conversation,
                        format!("{id} has {member_count} members, not {was}"),
                    );
                    row.member_count = member_count;
                    row.version += 1;
                }
                row.large &= row.kind == ConversationKind::Group;
                row
            }
            _ => {
                self.lost(What::Conversation, format!("title and policy of {id}"));
                let oldest = history.messages.values().next();
                let owner = members.iter().find(|(_, role)| *role == Role::Owner);
                let creator = owner.or(members.first()).map(|(user, _)| user.clone());
                let creator = creator.or_else(|| oldest.map(|message| message.sender.clone()));
                let unknown = || UserId::new("unknown").expect("these letters are an id");
                let kind = match id.is_direct() {
                    true => ConversationKind::Direct,
                    false => ConversationKind::Group,
                };
                Conversation {
                    // Above whatever it was: clients go by it.
                    version: 1 << 32,
                    kind,
                    title: "".into(),
                    created: oldest.map_or(self.now, |message| message.time),
                    creator: creator.unwrap_or_else(unknown),
                    policy: HistoryPolicy::SinceJoin,
                    member_count,
                    large: large && kind == ConversationKind::Group,
                    disbanded: false,
                }
            }
        };
        self.put(Table::Conversation, conversation_key(id), row.encode());
    }
}

impl History {
    /// Puts the rows that are gone in their place; the first `counted` of them count.
    fn fill(&mut self, gone: &mut Vec<u64>, before: u64, counted: u64) {
        for (index, _) in gone.drain(..).enumerate() {
            let ordinal = before + counted.min(index as u64 + 1);
            self.records.push(history::encode_lost(ordinal));
            self.ordinals.push(ordinal);
        }
    }
}

/// Numbers that follow each other, as their ends.
fn spans(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for &number in numbers {
        match spans.last_mut() {
            Some((_, to)) if *to + 1 == number => *to = number,
            _ => spans.push((number, number)),
        }
    }
    spans
}
