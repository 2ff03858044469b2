//! Holds what the store and the engine say against the model.

use std::collections::BTreeMap;

use roamd::{
    engine::{Answer, Command, read},
    history, inbox,
    reply::Reply,
    request::Request,
    seq::{HistorySeq, InboxSeq, Span},
    store::{ReadLimit, catalogue::LogKey},
};

use crate::{
    compare::{Pending, kind, level, outcome, pages, same},
    device::Device,
    driver::Found,
    model::{Chosen, Model, Outcome},
    plan,
    world::World,
};

impl World {
    pub fn count(&mut self, kind: String) {
        *self.tally.entry(kind).or_default() += 1;
    }

    pub fn note_totals(&mut self) -> Result<(), Found> {
        let model = &self.model;
        let total = |user| {
            let at = (model.unread_total(&user), model.head(&user));
            (user, at)
        };
        let totals: BTreeMap<_, _> = plan::users().into_iter().map(total).collect();
        self.process()?.totals.push(totals);
        Ok(())
    }

    /// Holds an answer against the model's; gives back what leaves the process.
    pub fn compare(&mut self, pending: Pending) -> Result<Outcome, Found> {
        let Pending { what, caller, command, answer, expected, next, .. } = pending;
        let kept = self.model.limits.inbox_entries;
        let mut actual = outcome(&self.reader()?, &caller.user, kept, answer)?;
        let leaves = actual.clone();
        let mut expected = expected.at(&self.durable);
        self.count(kind(&command, &actual));
        match (&command, &actual) {
            (_, Outcome::Attached(_)) => self.count("sessions".into()),
            (Command::Request(_), _) => self.count("requests".into()),
            _ => {}
        }
        let token =
            level(&mut actual, &mut expected).map_err(|found| format!("{what}: {found}"))?;
        same(&format!("{what}, answer to {command:?}"), &actual, &expected)?;
        let next = match &leaves {
            Outcome::Reply(Reply::ReaderPage { users, .. }) => {
                users.last().map(|last| (0, last.to_string()))
            }
            _ => next,
        };
        if let (Some((pages, _)), Some(token), Some(key)) = (pages(&command), token, next) {
            self.plan.tokens.push((caller.user.clone(), pages, token, key));
        }
        if let Outcome::Attached(compared) | Outcome::Resumed(compared) = &leaves {
            self.plan.snapshots.retain(|(user, _)| *user != caller.user);
            self.plan.snapshots.push((caller.user, compared.snapshot.clone()));
        }
        Ok(leaves)
    }

    /// Every log and all unread, against what was durable.
    pub fn check(&mut self) -> Result<(), Found> {
        if self.process.is_none() || self.dying {
            return Ok(());
        }
        self.nothing_early()?;
        self.inboxes()?;
        self.histories()?;
        if self.process()?.pending.is_empty() {
            self.unread()?;
        }
        Ok(())
    }

    /// Publish after commit: the ends of all logs are those of the last flush.
    fn nothing_early(&self) -> Result<(), Found> {
        let reader = self.reader()?;
        for user in plan::users() {
            let bounds = reader.bounds(&LogKey::inbox(&user)).map_err(|e| e.to_string())?;
            let head = self.durable.head(&user).number();
            same(&format!("I1: inbox of {user}"), &bounds.last, &head)?;
        }
        for id in self.model.talks.keys() {
            let bounds = reader.bounds(&LogKey::history(id)).map_err(|e| e.to_string())?;
            let head = self.durable.talks.get(id).map_or(0, |talk| talk.head());
            same(&format!("I1: history of {id}"), &bounds.last, &head)?;
        }
        Ok(())
    }

    /// Every inbox, read through from its first entry to its head in uneven pieces.
    fn inboxes(&mut self) -> Result<(), Found> {
        let reader = self.reader()?;
        for user in plan::users() {
            let bounds = reader.bounds(&LogKey::inbox(&user)).map_err(|e| e.to_string())?;
            let kept = inbox::kept(bounds, self.model.limits.inbox_entries);
            let (mut first, head) = (self.durable.first(&user), self.durable.head(&user));
            // What was too old while the disk was full is removed by a later session.
            if self.was_full && kept.0 < first && kept.1 == head {
                first = kept.0;
                for model in [&mut self.durable, &mut self.model] {
                    if let Some(inbox) = model.inboxes.get_mut(&user) {
                        inbox.trimmed = first.number() - 1;
                    }
                }
            }
            same(&format!("I10: ends of the inbox of {user}"), &kept, &(first, head))?;
            let mut views = Vec::new();
            let mut at = first.previous();
            while at < head {
                let most = ReadLimit {
                    entries: self.dice.within(1, 40) as usize,
                    bytes: self.dice.below(40_000) as usize,
                };
                let kept = self.model.limits.inbox_entries;
                let piece = read::entries(&reader, &user, at, head, most, kept)
                    .map_err(|e| e.to_string())?
                    .ok_or_else(|| format!("I10: the inbox of {user} is trimmed at {at}"))?;
                if piece.is_empty() || piece.len() > most.entries {
                    return Err(format!("{} entries of {user} after {at}", piece.len()));
                }
                at = InboxSeq::new(at.number() + piece.len() as u64);
                views.extend(piece);
            }
            let model = self.durable.entries(&user, first.number(), head.number());
            same(&format!("I3: inbox of {user} from {first}"), &views, &model)?;
        }
        Ok(())
    }

    /// Every history, from its first message.
    fn histories(&self) -> Result<(), Found> {
        let reader = self.reader()?;
        for (id, talk) in &self.durable.talks {
            let log = LogKey::history(id);
            let bounds = reader.bounds(&log).map_err(|e| e.to_string())?;
            same(&format!("I4: ends of {id}"), &(bounds.first, bounds.last), &(1, talk.head()))?;
            let span = Span { first: HistorySeq::new(1), last: HistorySeq::new(talk.head()) };
            let rows = history::read(&reader, &log, span).map_err(|e| e.to_string())?;
            let rows: Vec<_> = rows.into_iter().map(|(_, message)| message).collect();
            let model: Vec<_> = talk.rows.iter().cloned().map(Some).collect();
            same(&format!("I4: history of {id}"), &rows, &model)?;
        }
        Ok(())
    }

    /// Unread of everybody, counted by hand; the total is the sum.
    fn unread(&mut self) -> Result<(), Found> {
        for user in plan::users() {
            let caller = plan::reader_of(&user);
            let command =
                Command::Request(Request::GetUnread { conversations: Vec::new(), explain: true });
            let now = self.now;
            let answer = self.process()?.engine.apply(now, &caller, &command);
            let answer = answer.map_err(|e| e.to_string())?;
            if let Answer::Reply(Reply::Unread { total, conversations, .. }) = &answer {
                let sum: u64 = conversations.iter().map(|c| c.unread).sum();
                same(&format!("I9: sum of unread of {user}"), total, &sum)?;
            }
            let (expected, next) = self.model.apply(now, &caller, &command, &Chosen::default());
            let (origin, before, what) = (None, Vec::new(), "I9: unread".to_owned());
            let pending = Pending { before, origin, what, caller, command, answer, expected, next };
            self.compare(pending)?;
        }
        Ok(())
    }

    /// The network is whole and nothing is asked any more: all devices have what they should.
    pub fn converged(&mut self, all: bool) -> Result<(), Found> {
        let model: &Model = &self.model;
        let ready = |device: &&Device| all || !device.narrow;
        if all && let Some(process) = &self.process {
            for conn in &process.conns {
                let settled = conn.tap.settled(model);
                settled.map_err(|found| format!("connection {}: {found}", conn.id))?;
            }
            if process.conns.len() != self.devices.iter().filter(|d| d.app.is_some()).count() {
                return Err(format!("I12: {} connections", process.conns.len()));
            }
        }
        self.devices.iter().filter(ready).try_for_each(|device| device.settled(model))
    }
}
