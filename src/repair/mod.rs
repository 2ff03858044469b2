//! Making a sound data directory of what can still be read of a damaged one.
//!
//! ```text
//! store::Salvage ─▶ rows, logs with holes ─▶ the rules of this module ─▶ store::Builder
//! ```
//! The outcome is another data set: it gets a new epoch, and every client starts over by TooLong. So
//! the inboxes are empty in it; what users had in them they find in the conversations. Everything else
//! keeps its place and number. What is named by something and not there is lost for good and stays as
//! a hole ([`crate::store::codec::LOST`]), so that nobody takes a shorter history for the whole; what
//! follows from something else is made up for.
//!
//! The rules, by what they are about: [`conversation`] histories, changes, members and users in one
//! conversation; [`requests`] what devices have sent; [`others`] devices, notices, the push hook,
//! counters. Rows of tables are held in memory, logs one at a time.

mod conversation;
mod found;
mod others;
mod requests;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

pub use self::told::{Told, What};
use self::{found::Groups, requests::Requests};
use crate::{
    id::{ConversationId, Epoch, UserId},
    inbox,
    message::{EntryKind, MutationRef},
    seq::{HistorySeq, InboxSeq, NoticeSeq},
    store::{
        Bounds, Builder, LogLeft, Salvage, StoreError,
        catalogue::{LogKey, LogKind, Table, first_id},
    },
    time::Timestamp,
};

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that was wrong, in the order in which it was found.
    pub told: Vec<Told>,
    /// Conversations there are now.
    pub conversations: u64,
    /// Messages there are now.
    pub messages: u64,
}

impl Report {
    /// Whether something is gone.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.told.iter().any(|told| told.lost)
    }

    /// Whether anything was wrong at all.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.told.is_empty()
    }
}

/// The rows of all tables; none = the key is known and the row is not.
#[derive(Debug)]
pub(crate) struct Rows(BTreeMap<Table, BTreeMap<Bytes, Option<Bytes>>>);

impl Rows {
    fn take(&mut self, table: Table) -> BTreeMap<Bytes, Option<Bytes>> {
        self.0.remove(&table).unwrap_or_default()
    }

    /// Those of tables that no rule has taken.
    fn rest(self) -> impl Iterator<Item = (Table, Bytes, Option<Bytes>)> {
        let of = |(table, rows): (Table, BTreeMap<_, _>)| {
            rows.into_iter().map(move |(key, row)| (table, key, row))
        };
        self.0.into_iter().flat_map(of)
    }
}

/// A change that an inbox tells of: of which message, and whether that is gone.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    seq: HistorySeq,
    gone: bool,
}

/// A repair under way.
struct Repair<'a> {
    salvage: &'a Salvage,
    names: BTreeMap<LogKind, BTreeMap<LogKey, Option<Bounds>>>,
    builder: &'a mut Builder,
    now: Timestamp,
    fanout_members: usize,
    report: Report,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    /// Something is gone and nobody knows what it was.
    blind: bool,
    /// Newest entry of each inbox that anything names.
    inboxes: BTreeMap<UserId, InboxSeq>,
    /// What inboxes tell of changes, by conversation and number of the change.
    changes: HashMap<(ConversationId, u64), Evidence>,
    /// The newest read marker that an inbox tells of.
    read: HashMap<(UserId, ConversationId), HistorySeq>,
    /// Newest notice that anything names.
    notice: NoticeSeq,
    newest_id: u64,
    /// Everybody who is named anywhere.
    users: BTreeSet<UserId>,
    /// Newest message of each conversation there is now.
    heads: HashMap<ConversationId, HistorySeq>,
}

/// Makes in `builder` what follows from what `salvage` can read, and ends it with the new `epoch`.
///
/// `now` stamps what has to have a time, `fanout_members` says which conversations are large whose
/// row is gone.
///
/// # Errors
/// When the disk fails. Damage is told and is no error.
pub fn repair(
    salvage: &mut Salvage,
    mut builder: Builder,
    epoch: Epoch,
    now: Timestamp,
    fanout_members: usize,
    progress: &mut dyn FnMut(&Report),
) -> Result<Report, StoreError> {
    let mut rows = Rows(Table::ALL.map(|table| (table, salvage.rows(table))).into());
    let names = LogKind::ALL.map(|kind| (kind, salvage.logs(kind))).into();
    let told: Vec<Told> = salvage.unreadable().iter().map(Told::from).collect();
    let mut repair = Repair {
        blind: told.iter().any(|told| told.lost),
        salvage,
        names,
        builder: &mut builder,
        now,
        fanout_members,
        report: Report { told, ..Report::default() },
        rows: BTreeMap::new(),
        inboxes: BTreeMap::new(),
        changes: HashMap::new(),
        read: HashMap::new(),
        notice: NoticeSeq::default(),
        newest_id: 0,
        users: BTreeSet::new(),
        heads: HashMap::new(),
    };
    let mut heard = Vec::new();
    let mut groups = found::groups(&mut rows, |what, detail| heard.push((what, detail)));
    heard.into_iter().for_each(|(what, detail)| repair.lost(what, detail));
    let mut requests = repair.read_requests(&mut rows, &mut groups)?;
    repair.read_inboxes()?;
    repair.conversations(groups, &mut requests, progress)?;
    repair.write_requests(requests)?;
    repair.others(rows)?;
    let Repair { rows, report, .. } = repair;
    let last = salvage.last_commit();
    for ((table, key), row) in rows {
        builder.row(table, key, Some(row))?;
    }
    builder.finish(epoch, last)?;
    Ok(report)
}

impl Repair<'_> {
    fn lost(&mut self, what: What, detail: impl Into<String>) {
        self.report.told.push(Told { lost: true, what, detail: detail.into() });
    }

    fn rebuilt(&mut self, what: What, detail: impl Into<String>) {
        self.report.told.push(Told { lost: false, what, detail: detail.into() });
    }

    fn put(&mut self, table: Table, key: Bytes, row: Bytes) {
        self.rows.insert((table, key), row);
    }

    fn logs(&self, kind: LogKind) -> Vec<(LogKey, Option<Bounds>)> {
        let names = self.names.get(&kind);
        names.into_iter().flatten().map(|(log, bounds)| (log.clone(), *bounds)).collect()
    }

    /// What is left of a log by its name.
    fn left(&self, log: &LogKey) -> LogLeft {
        match self.names.get(&log.kind()).and_then(|names| names.get(log)) {
            Some(bounds) => self.salvage.log(log, *bounds),
            None => LogLeft { first: 1, bounded: true, ..LogLeft::default() },
        }
    }

    fn name_entry(&mut self, user: &UserId, seq: InboxSeq) {
        let known = self.inboxes.entry(user.clone()).or_default();
        *known = seq.max(*known);
    }

    /// How far each inbox goes, and what inboxes know that others may have lost.
    fn read_inboxes(&mut self) -> Result<(), StoreError> {
        for (log, bounds) in self.logs(LogKind::Inbox) {
            let Some(user) = first_id::<UserId>(log.bytes()) else {
                self.lost(What::Keys, format!("inbox {} names nobody", log.bytes().escape_ascii()));
                continue;
            };
            let left = self.salvage.log(&log, bounds);
            self.name_entry(&user, InboxSeq::new(left.last));
            let whole = left.bounded && left.entries.len() as u64 == left.last + 1 - left.first;
            let mut malformed = false;
            for record in left.entries.into_values() {
                match inbox::decode(record) {
                    Ok(entry) => self.hear(&user, entry.kind),
                    Err(_) => malformed = true,
                }
            }
            if !whole || malformed {
                // Every client starts over, so nobody misses the entries.
                self.rebuilt(What::Keys, format!("the inbox of {user} has holes, and is emptied"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, user: &UserId, entry: EntryKind) {
        let mut change = |told: MutationRef, gone| {
            let MutationRef { conversation, seq, mutation, .. } = told;
            self.changes.insert((conversation, mutation.number()), Evidence { seq, gone });
        };
        match entry {
            EntryKind::Recalled(told) | EntryKind::Deleted(told) => change(told, true),
            EntryKind::Edited(told) => change(told, false),
            EntryKind::Read { conversation, read_seq, .. } => {
                let known = self.read.entry((user.clone(), conversation)).or_default();
                *known = read_seq.max(*known);
            }
            _ => {}
        }
    }

    fn conversations(
        &mut self,
        mut groups: Groups,
        requests: &mut Requests,
        progress: &mut dyn FnMut(&Report),
    ) -> Result<(), StoreError> {
        for kind in [LogKind::History, LogKind::Mutation] {
            for (log, _) in self.logs(kind) {
                match first_id::<ConversationId>(log.bytes()) {
                    Some(id) => drop(groups.entry(id).or_default()),
                    None => {
                        let detail = format!("{} {}", kind.tree(), log.bytes().escape_ascii());
                        self.lost(What::Message, format!("{detail} names no conversation"));
                    }
                }
            }
        }
        self.users.extend(self.inboxes.keys().cloned());
        self.users.extend(groups.values().flat_map(|group| group.people.keys().cloned()));
        for (id, group) in groups {
            self.conversation(&id, group, requests)?;
            progress(&self.report);
        }
        Ok(())
    }

    /// Writes a log whose entries are all there.
    fn write_log(
        &mut self,
        log: &LogKey,
        first: u64,
        records: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let last = first + records.len() as u64 - 1;
        if last == 0 {
            return Ok(());
        }
        self.builder.log(log, Some(Bounds { first, last }))?;
        records.into_iter().try_for_each(|record| self.builder.entry(Some(record)))
    }
}
