//! Everything that can be read, held against the model: what is not flushed yet, inboxes, histories and
//! what is unread.

use roamd::{
    engine::{Answer, Command, read},
    history, inbox,
    reply::Reply,
    request::Request,
    seq::{HistorySeq, InboxSeq, Span},
    store::{ReadLimit, catalogue::LogKey},
};

use super::{
    compare::{Pending, name, same},
    driver::{Driver, Found},
    invariant::{Invariant, of_ends, of_entries},
    model::Chosen,
    plan,
};

impl Driver {
    /// Publish after commit: what is not flushed is not to be seen.
    pub(super) fn nothing_early(&mut self) -> Result<(), Found> {
        self.only_durable().map_err(|found| Invariant::I2.broken(found))
    }

    fn only_durable(&self) -> Result<(), Found> {
        let reader = self.reader();
        for user in plan::users() {
            let bounds = reader.bounds(&LogKey::inbox(&user)).map_err(|e| e.to_string())?;
            let head = self.durable.head(&user).number();
            same(&format!("inbox of {user} before the flush"), &bounds.last, &head)?;
        }
        for id in self.model.talks.keys() {
            let bounds = reader.bounds(&LogKey::history(id)).map_err(|e| e.to_string())?;
            let head = self.durable.talks.get(id).map_or(0, |talk| talk.head());
            same(&format!("history of {id} before the flush"), &bounds.last, &head)?;
        }
        Ok(())
    }

    /// Every inbox, read through from its first entry to its head in uneven pieces.
    pub(super) fn inboxes(&mut self) -> Result<(), Found> {
        let reader = self.reader();
        for user in plan::users() {
            let log = LogKey::inbox(&user);
            let bounds = reader.bounds(&log).map_err(|e| e.to_string())?;
            let kept = inbox::kept(bounds, self.model.limits.inbox_entries);
            let (first, head) = (self.model.first(&user), self.model.head(&user));
            if let Err(found) = same(&format!("ends of the inbox of {user}"), &kept, &(first, head))
            {
                let entries = usize::MAX;
                let most = ReadLimit { entries, bytes: entries };
                let count = self.model.limits.inbox_entries;
                let extra = read::entries(&reader, &user, head, kept.1, most, count);
                let extra = extra.ok().flatten().unwrap_or_default();
                let missing = self.model.entries(&user, kept.1.next().number(), head.number());
                let is_large = |message: &roamd::reply::PlacedMessage| {
                    self.model.talks.get(&message.conversation).is_some_and(|talk| talk.large)
                };
                let ends = (first, head);
                return Err(of_ends(kept, ends, &missing, &extra, is_large).broken(found));
            }
            let mut views = Vec::new();
            let mut at = first.previous();
            while at < head {
                let most = ReadLimit {
                    entries: self.plan.dice.within(1, 40) as usize,
                    bytes: self.plan.dice.below(40_000) as usize,
                };
                let kept = self.model.limits.inbox_entries;
                let piece = read::entries(&reader, &user, at, head, most, kept)
                    .map_err(|e| e.to_string())?
                    .ok_or_else(|| format!("the inbox of {user} is said to be trimmed at {at}"))?;
                if piece.is_empty() || piece.len() > most.entries {
                    return Err(format!("{} entries of {user} after {at}", piece.len()));
                }
                at = InboxSeq::new(at.number() + piece.len() as u64);
                views.extend(piece);
            }
            let model = self.model.entries(&user, first.number(), head.number());
            same(&format!("inbox of {user} from {first}"), &views, &model)
                .map_err(|found| of_entries(&views, &model).broken(found))?;
            if let Some(last) = views.last() {
                *self.tally.entry(format!("entry: {}", name(format!("{last:?}")))).or_default() +=
                    1;
            }
        }
        Ok(())
    }

    /// Unread of everybody, counted by hand; the total is the sum.
    pub(super) fn unread(&mut self) -> Result<(), Found> {
        self.count_unread().map_err(|found| Invariant::I9.broken(found))
    }

    fn count_unread(&mut self) -> Result<(), Found> {
        for user in plan::users() {
            let caller = plan::reader_of(&user);
            let all = Request::GetUnread { conversations: Vec::new(), explain: true };
            let command = Command::Request(all);
            let now = self.now;
            let answer = self.engine().apply(now, &caller, &command).map_err(|e| e.to_string())?;
            if let Answer::Reply(Reply::Unread { total, conversations, .. }) = &answer {
                let sum: u64 = conversations.iter().map(|c| c.unread).sum();
                same(&format!("sum of unread of {user}"), total, &sum)?;
            }
            let (expected, next) = self.model.apply(now, &caller, &command, &Chosen::default());
            let what = "after a flush".to_owned();
            let (origin, before) = (None, Vec::new());
            self.compare(Pending {
                before,
                origin,
                what,
                caller,
                command,
                answer,
                expected,
                next,
            })?;
        }
        Ok(())
    }

    /// Counts moments that a slice must have met.
    pub(super) fn survey(&mut self) {
        for moment in self.model.moments() {
            *self.tally.entry(moment).or_default() += 1;
        }
    }

    /// Every history, from its first message.
    pub(super) fn histories(&mut self) -> Result<(), Found> {
        let reader = self.reader();
        for (id, talk) in &self.model.talks {
            let log = LogKey::history(id);
            let bounds = reader.bounds(&log).map_err(|e| e.to_string())?;
            same(&format!("ends of {id}"), &(bounds.first, bounds.last), &(1, talk.head()))
                .map_err(|found| match bounds.last < talk.head() {
                    true => Invariant::I1.broken(found),
                    false => Invariant::I2.broken(found),
                })?;
            let span = Span { first: HistorySeq::new(1), last: HistorySeq::new(talk.head()) };
            let rows = history::read(&reader, &log, span).map_err(|e| e.to_string())?;
            let rows: Vec<_> = rows.into_iter().map(|(_, message)| message).collect();
            let model: Vec<_> = talk.rows.iter().cloned().map(Some).collect();
            same(&format!("history of {id}"), &rows, &model)
                .map_err(|found| Invariant::I4.broken(found))?;
        }
        Ok(())
    }
}
