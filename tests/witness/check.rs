//! The comparison: everything the daemon shows against everything it promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use roamd::wire::proto;

use super::{
    Complaints,
    connection::Trouble,
    ledger::{Conversation, Kind, Ledger, Outcome, Target},
    seen::{Change, Row, Seen},
    survey::{self, OVERLAP, Shown},
};

/// How much is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What is new, and a little before it.
    New,
    /// Everything.
    Whole,
}

/// What an inbox says of one conversation, in order.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Message(u64),
    Change(Change),
}

type Items = BTreeMap<(usize, String), Vec<Item>>;

impl Ledger {
    /// Reads the daemon, which nobody else uses now, and compares. Empty: every promise is kept.
    pub fn check(&mut self, address: SocketAddr, depth: Depth) -> Complaints {
        let mut complaints = Vec::new();
        if let Err(trouble) = self.compare(address, depth, &mut complaints) {
            complaints.push(trouble.text());
        }
        complaints
    }

    fn compare(
        &mut self,
        address: SocketAddr,
        depth: Depth,
        complaints: &mut Complaints,
    ) -> Result<(), Trouble> {
        let whole = depth == Depth::Whole;
        let mut all = Vec::new();
        for user in 0..self.users.len() {
            all.push(survey::user(self, user, address, whole)?);
        }
        for (user, shown) in all.iter().enumerate() {
            self.meet(user, shown);
        }
        let ids: Vec<String> = self.conversations.keys().cloned().collect();
        for id in &ids {
            self.rows(id, &mut all, whole, complaints)?;
        }
        self.inboxes(&mut all, complaints);
        for (user, shown) in all.iter().enumerate() {
            self.unread(user, shown, complaints);
        }
        self.promises(whole, complaints);
        for (id, conversation) in &self.conversations {
            if let Kind::Group { owner } = conversation.kind {
                let members = survey::members(&mut all[owner].connection, id)?;
                if !members.iter().eq(&conversation.members) {
                    let known = &conversation.members;
                    complaints.push(format!("members of {id} are {members:?}, not {known:?}"));
                }
            }
        }
        for (user, shown) in self.users.iter_mut().zip(&all) {
            user.pulled = shown.head;
            user.inbox = user.inbox.split_off(&shown.first);
        }
        Ok(())
    }

    /// Notes direct conversations that are new.
    fn meet(&mut self, user: usize, shown: &Shown) {
        let name = &self.users[user].name;
        for (id, view) in &shown.views {
            if view.kind() == proto::ConversationKind::Direct {
                let (a, b) = (name.min(&view.peer).clone(), name.max(&view.peer).clone());
                let new = || Conversation::new(Kind::Direct(a, b));
                self.conversations.entry(id.clone()).or_insert_with(new);
            }
        }
    }

    /// Reads one history. Known rows are the same, new ones follow them, and each is one send that
    /// somebody made, as it was made.
    fn rows(
        &mut self,
        id: &str,
        all: &mut [Shown],
        whole: bool,
        complaints: &mut Complaints,
    ) -> Result<(), Trouble> {
        let known = self.conversations[id].rows.len() as u64;
        let reader = match &self.conversations[id].kind {
            Kind::Group { owner } => *owner,
            Kind::Direct(a, _) => self.user_index(a),
        };
        let shown = &mut all[reader];
        let last = shown.views.get(id).map_or(0, |view| view.visible_last_seq);
        if last < known {
            complaints
                .push(format!("history of {id} lost its end: {last} rows, {known} were there"));
            return Ok(());
        }
        let after = if whole { 0 } else { known.saturating_sub(OVERLAP) };
        for (seq, row) in survey::history(&mut shown.connection, id, after, last)? {
            match self.conversations[id].rows.get(seq as usize - 1) {
                Some(before) if *before == row => {}
                Some(before) => complaints.push(format!(
                    "history_seq used twice: row {seq} of {id} was {before:?} and is now {row:?}"
                )),
                None => complaints.extend(self.add_row(id, seq, row)),
            }
        }
        Ok(())
    }

    fn add_row(&mut self, id: &str, seq: u64, row: Row) -> Complaints {
        let mut complaints = Vec::new();
        let here = format!("row {seq} of {id} ({row:?})");
        let conversation = self.conversations.get_mut(id).expect("it is being read");
        let place = self
            .devices
            .iter_mut()
            .find(|device| device.id == row.device && self.users[device.user].name == row.sender);
        let sent = place.and_then(|device| device.sent.get_mut(&row.client_id));
        let in_turn = sent.as_ref().is_some_and(|sent| !sent.late);
        match sent {
            None => complaints.push(format!("phantom: nobody sent {here}")),
            Some(sent) => {
                let right = match (&sent.target, &conversation.kind) {
                    (Target::Group(group), Kind::Group { .. }) => group == id,
                    (Target::Direct(peer), Kind::Direct(a, b)) => {
                        [a, b].contains(&peer) && [a, b].contains(&&row.sender)
                    }
                    _ => false,
                };
                if !right || sent.hash != row.hash {
                    complaints.push(format!("damaged: {here} was sent otherwise: {sent:?}"));
                }
                if sent.outcome == Outcome::Refused {
                    complaints.push(format!("refused and yet done: {here}"));
                }
                if let Some(before) = sent.found.replace((id.to_owned(), seq)) {
                    complaints.push(format!("sent once, there twice: {before:?} and {here}"));
                }
                if sent.outcome == Outcome::Open {
                    self.figures.done_without_reply += 1;
                }
            }
        }
        if !self.message_ids.insert(row.message_id) {
            complaints.push(format!("message_id used twice: {here}"));
        }
        if in_turn {
            let device = format!("{}/{}", row.sender, row.device);
            let before = conversation.last_client_id.insert(device, row.client_id);
            if before.is_some_and(|before| before >= row.client_id) {
                complaints.push(format!("out of order behind {before:?}: {here}"));
            }
        }
        conversation.last_own.insert(row.sender.clone(), seq);
        conversation.rows.push(row);
        complaints
    }

    /// Every inbox has every message and every change of members of its user's time, once and in
    /// order; what retention has taken is a beginning, never a hole.
    fn inboxes(&mut self, all: &mut [Shown], complaints: &mut Complaints) {
        let mut shown = Items::new();
        let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for (user, inbox) in all.iter_mut().enumerate() {
            let pulled = self.users[user].pulled;
            for (seq, seen) in std::mem::take(&mut inbox.entries) {
                complaints.extend(self.see(user, seq, seen.clone()).err());
                let (id, item) = match seen {
                    Seen::Message { conversation, seq: row_seq, row } => {
                        let known = self.conversations.get(&conversation);
                        let known = known.and_then(|c| c.rows.get(row_seq as usize - 1));
                        if known != Some(&row) {
                            let name = &self.users[user].name;
                            complaints.push(format!(
                                "entry {seq} of {name} shows {row:?}, \
                                 row {row_seq} of {conversation} is {known:?}"
                            ));
                        }
                        (conversation, Item::Message(row_seq))
                    }
                    Seen::Change { conversation, change } => {
                        let kind = self.conversations.get(&conversation).map(|c| &c.kind);
                        if seq > pulled
                            && matches!(kind, Some(Kind::Group { owner }) if *owner == user)
                        {
                            changes.entry(conversation.clone()).or_default().push(change.clone());
                        }
                        (conversation, Item::Change(change))
                    }
                    Seen::Read { .. } => continue,
                };
                if seq > pulled {
                    shown.entry((user, id)).or_default().push(item);
                }
            }
        }
        let mut owed = Items::new();
        let ids: Vec<String> = self.conversations.keys().cloned().collect();
        for id in ids {
            let changes = changes.remove(&id).unwrap_or_default();
            complaints.extend(self.owe(&id, changes, &mut owed));
        }
        let keys: BTreeSet<_> = shown.keys().chain(owed.keys()).cloned().collect();
        for key in keys {
            let (user, id) = &key;
            let empty = Vec::new();
            let shown = shown.get(&key).unwrap_or(&empty);
            let owed = owed.get(&key).unwrap_or(&empty);
            // What was trimmed before anybody looked can only be missing at the beginning.
            let trimmed = all[*user].first > self.users[*user].pulled + 1;
            let kept = match trimmed {
                true => owed.get(owed.len().saturating_sub(shown.len())..).unwrap_or_default(),
                false => owed,
            };
            if shown != kept {
                let at = shown.iter().zip(kept).take_while(|(a, b)| a == b).count();
                complaints.push(format!(
                    "inbox of {} differs from what {id} owes it: at place {at} it has {:?}, \
                     owed is {:?} ({} entries, {} owed)",
                    self.users[*user].name,
                    shown.get(at),
                    kept.get(at),
                    shown.len(),
                    kept.len(),
                ));
            }
        }
    }

    /// What the new rows and changes of a conversation owe to every inbox.
    fn owe(&mut self, id: &str, changes: Vec<Change>, owed: &mut Items) -> Complaints {
        let mut complaints = Vec::new();
        let give = |owed: &mut Items, ledger: &Self, users: &BTreeSet<String>, item: &Item| {
            for user in users {
                let key = (ledger.user_index(user), id.to_owned());
                owed.entry(key).or_default().push(item.clone());
            }
        };
        let last = self.conversations[id].rows.len();
        let mut next = self.conversations[id].compared + 1;
        let end = last as u64;
        for change in changes.into_iter().map(Some).chain([None]) {
            let upto = change.as_ref().map_or(end, |change| change.at) as usize;
            if upto > last || upto + 1 < next {
                complaints.push(format!("a change out of place in {id} ({last} rows): {change:?}"));
            }
            while next <= upto.min(last) {
                let members = self.conversations[id].members.clone();
                give(owed, self, &members, &Item::Message(next as u64));
                next += 1;
            }
            if let Some(change) = change {
                let mut told = self.conversations[id].members.clone();
                complaints.extend(self.change_members(id, &change));
                told.extend(self.conversations[id].members.iter().cloned());
                give(owed, self, &told, &Item::Change(change));
            }
        }
        if let Some(conversation) = self.conversations.get_mut(id) {
            conversation.compared = last;
        }
        complaints
    }

    /// Unread of every conversation is what a count gives; nothing more is visible than was the
    /// user's time; the read marker has not moved back.
    fn unread(&self, user: usize, shown: &Shown, complaints: &mut Complaints) {
        let user = &self.users[user];
        let name = &user.name;
        for (id, conversation) in &self.conversations {
            let Some(intervals) = conversation.intervals.get(name) else {
                if shown.views.contains_key(id) {
                    complaints.push(format!("{name} is shown {id} and was never in it"));
                }
                continue;
            };
            let Some(view) = shown.views.get(id) else {
                complaints.push(format!("{name} is not shown {id}"));
                continue;
            };
            let rows = (1..).zip(&conversation.rows);
            let visible = rows.filter(|(seq, _)| conversation.sees(name, *seq));
            let count =
                visible.clone().filter(|(seq, row)| *seq > view.read_seq && row.counts).count();
            if view.unread != count as u64 {
                let read = view.read_seq;
                complaints.push(format!(
                    "unread of {name} in {id} is {}, counted {count} behind {read} in {intervals:?}",
                    view.unread
                ));
            }
            let hull = (visible.clone().next(), visible.last());
            if let (Some((first, _)), Some((last, _))) = hull
                && (first, last) != (view.visible_first_seq, view.visible_last_seq)
            {
                complaints.push(format!("{name} may see {first}..={last} of {id}, but {view:?}"));
            }
            if view.left == conversation.members.contains(name) {
                complaints.push(format!("whether {name} has left {id} is wrong: {view:?}"));
            }
            let marked = user.marks.get(id).copied().unwrap_or(0);
            let own = conversation.last_own.get(name).copied().unwrap_or(0);
            if view.read_seq < marked.max(own) || view.read_seq > conversation.rows.len() as u64 {
                let read = view.read_seq;
                let text = format!("acked {marked}, last own {own}, now {read}");
                complaints.push(format!("read marker of {name} in {id}: {text}"));
            }
        }
    }

    /// Every reply is still true.
    fn promises(&mut self, whole: bool, complaints: &mut Complaints) {
        for device in &self.devices {
            let from = if whole { 0 } else { device.settled };
            let user = &self.users[device.user];
            for (client_id, sent) in device.sent.range(from..) {
                let Outcome::Acked(ack) = &sent.outcome else { continue };
                let place = (ack.conversation_id.clone(), ack.history_seq);
                let who = format!("{}/{} {client_id}", user.name, device.id);
                if sent.found.as_ref() != Some(&place) {
                    let found = &sent.found;
                    complaints.push(format!("acked send lost: {who}, {ack:?}, found {found:?}"));
                    continue;
                }
                let rows = self.conversations.get(&place.0).map(|c| &c.rows);
                let row = rows.and_then(|rows| rows.get(place.1 as usize - 1));
                if row.is_none_or(|row| {
                    row.message_id != ack.message_id || row.time_ms != ack.time_ms
                }) {
                    complaints.push(format!("not as acked: {who}, {ack:?}, is {row:?}"));
                }
                match user.inbox.get(&ack.inbox_seq) {
                    Some(Seen::Message { conversation, seq, .. })
                        if *conversation == place.0 && *seq == place.1 => {}
                    None if user.inbox.range(..ack.inbox_seq).next().is_none() => {}
                    other => complaints.push(format!(
                        "own entry not as acked: {who}, {ack:?}, entry is {other:?}"
                    )),
                }
            }
        }
        for (owner, inbox_seq, id, add, who) in std::mem::take(&mut self.changes) {
            let user = &self.users[owner];
            let action = match add {
                true => proto::MembershipAction::Added,
                false => proto::MembershipAction::Removed,
            };
            match user.inbox.get(&inbox_seq) {
                Some(Seen::Change { conversation, change })
                    if *conversation == id
                        && change.action == action
                        && change.users == [who.clone()] => {}
                None if user.inbox.range(..inbox_seq).next().is_none() => {}
                other => complaints.push(format!(
                    "acked change of members lost: {action:?} {who} in {id} at {inbox_seq} of \
                     {}, entry is {other:?}",
                    user.name
                )),
            }
        }
    }

    pub(super) fn user_index(&self, name: &str) -> usize {
        let index = self.users.iter().position(|user| user.name == name);
        index.unwrap_or_else(|| panic!("{name} is a user nobody made"))
    }
}
