//! What is due is decided again, handed to the hook, and its outcome noted.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::super::{Engine, Now, counts::UserCounts, open};
use crate::{
    history::{Change, Mutated, Mutation},
    limits::{PUSH_RETRY_AFTER_MAX, PUSHES_IN_FLIGHT_MAX, PUSHES_PER_TURN},
    message::Message,
    push::{
        Facts, Job, Kind, Next, Notification, Outbox, Outcome, Place, Settings, Target, Verdict,
        Wanted, back_off,
    },
    seq::HistorySeq,
    store::{
        Commit, StoreError,
        catalogue::{LogKey, Table, mutated_key},
    },
};

/// A job that is with the hook.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    told: Wanted,
    target: Target,
}

impl Engine {
    /// Does what is due for the hook.
    ///
    /// # Errors
    /// When the store fails: final.
    pub(in super::super) fn push_timer(&mut self, now: Now) -> Result<(), StoreError> {
        if self.pushes.settings.is_none() {
            return Ok(());
        }
        self.push_sweep(now)?;
        self.push_rounds(now)?;
        for _ in 0..PUSHES_PER_TURN {
            if self.pushes.in_flight.len() >= PUSHES_IN_FLIGHT_MAX {
                break;
            }
            let Some(place) = self.pushes.schedule.take_due(now.wall) else { break };
            if self.pushes.in_flight.contains_key(&place) {
                continue;
            }
            match self.push_due(now, &place) {
                Ok(()) => {}
                Err(error @ (StoreError::Damaged(_) | StoreError::TooLarge { .. })) => {
                    let Place { user, device, conversation } = &place;
                    tracing::error!(%error, %user, %device, %conversation, "a push is given up");
                    self.abandon_ids();
                    let mut commit = Commit::new();
                    self.put_outbox(place, &Outbox::default(), &mut commit);
                    self.writer.stage(&commit)?;
                }
                Err(StoreError::NoSpace) => {
                    // Nobody is told what would be told again.
                    self.pushes.in_flight.remove(&place);
                    self.effects.jobs.retain(|job| job.place != place);
                    self.pushes.schedule.set(place, now.wall);
                    return Err(StoreError::NoSpace);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn push_due(&mut self, now: Now, place: &Place) -> Result<(), StoreError> {
        let Some(settings) = self.pushes.settings.clone() else { return Ok(()) };
        let before = self.push_outbox(place)?;
        let mut outbox = before;
        let mut commit = Commit::new();
        let Some(target) = self.push_target(place)? else {
            self.put_outbox(place.clone(), &Outbox::default(), &mut commit);
            return self.writer.stage(&commit);
        };
        if outbox.forget(settings.expiry, now.wall) && outbox.wanted.is_none() {
            let Place { user, device, conversation } = place;
            tracing::warn!(%user, %device, %conversation, "a push has expired");
        }
        let mut again = None;
        if let Some(wanted) = outbox.wanted {
            let facts = self.push_facts(place, &wanted)?;
            let earlier = match facts.gone {
                true => self.earlier(now, place, &outbox, wanted.seq)?,
                false => None,
            };
            let number = self.take_id(&mut commit);
            match outbox.due(&facts, earlier, number, now.wall) {
                Next::Tell => self.push_tell(place, target, &mut outbox)?,
                Next::Wait(until) => again = Some(until),
                Next::Nothing => {}
            }
        }
        if outbox != before {
            self.put_outbox(place.clone(), &outbox, &mut commit);
        }
        self.writer.stage(&commit)?;
        if let Some(until) = again {
            self.pushes.schedule.set(place.clone(), until);
        }
        Ok(())
    }

    /// Hands to the hook what is wanted.
    fn push_tell(
        &mut self,
        place: &Place,
        target: Target,
        outbox: &mut Outbox,
    ) -> Result<(), StoreError> {
        let Some(wanted) = outbox.wanted else { return Ok(()) };
        let message = match wanted.kind {
            Kind::Message => self.notification(place, &wanted)?,
            Kind::Read | Kind::Recalled => None,
        };
        if wanted.kind == Kind::Message && message.is_none() {
            // There is nothing to say about a message that cannot be read.
            outbox.wanted = None;
            return Ok(());
        }
        outbox.told();
        let job = Job {
            place: place.clone(),
            id: wanted.id,
            attempt: wanted.attempts.saturating_add(1),
            kind: wanted.kind,
            seq: wanted.seq,
            provider: target.provider.clone(),
            token: target.token.clone(),
            message,
            badge: self.counted(&place.user, UserCounts::total)?,
            position: self.next_inbox_seq(&place.user)?.previous(),
        };
        let told = outbox.wanted.unwrap_or(wanted);
        self.pushes.in_flight.insert(place.clone(), Flight { told, target });
        self.effects.jobs.push(job);
        Ok(())
    }

    fn push_facts(&mut self, place: &Place, wanted: &Wanted) -> Result<Facts, StoreError> {
        let Place { user, device, conversation } = place;
        let own = open::membership(&self.writer, user, conversation)?;
        Ok(Facts {
            attended: self.presence.foreground(user, device),
            quiet_until: self.pushes.quiet_until(user, device),
            cursor: self.cursor_of(user, device)?,
            read_seq: own.as_ref().map_or(HistorySeq::ZERO, |own| own.read_seq),
            wants: own.is_some_and(|own| own.sees(wanted.seq))
                && !self.is_muted(user, conversation)?,
            gone: self.is_gone(conversation, wanted.seq)?
                || self.is_hidden(user, conversation, wanted.seq)?,
        })
    }

    fn notification(
        &mut self,
        place: &Place,
        wanted: &Wanted,
    ) -> Result<Option<Notification>, StoreError> {
        let id = &place.conversation;
        let Some(message) = self.living_message(id, wanted.seq)? else { return Ok(None) };
        let include = self.pushes.settings.as_ref().is_some_and(|it| it.include_content);
        Ok(Some(Notification {
            sender: message.sender.clone(),
            time: message.time,
            mention: wanted.mention || message.draft.mentions.contains(&place.user),
            silent: message.draft.flags.silent,
            content: if include { self.content(place, wanted.seq, message)? } else { None },
        }))
    }

    /// What a message says now, as far as its reader is certain to be one who may know it.
    fn content(
        &mut self,
        place: &Place,
        seq: HistorySeq,
        message: Message,
    ) -> Result<Option<(Arc<str>, Bytes)>, StoreError> {
        let id = &place.conversation;
        let Some(row) = self.writer.row(Table::Mutated, &mutated_key(id, seq))? else {
            return Ok(Some((message.draft.content_type, message.draft.content)));
        };
        let own = open::membership(&self.writer, &place.user, id)?;
        if !own.is_some_and(|own| own.is_member()) {
            return Ok(None);
        }
        let at = Mutated::decode(row)?.mutation;
        let entry = self.writer.entry(&LogKey::mutations(id), at.number())?;
        let record = entry.and_then(|entry| entry.record).map(Mutation::decode);
        match record.transpose()?.map(|mutation| mutation.change) {
            Some(Change::Edited { content_type, content, .. }) => Ok(Some((content_type, content))),
            _ => Ok(None),
        }
    }

    /// What was read or recalled while its job was out is shown all the same, and taken back.
    fn push_late(
        &mut self,
        now: Now,
        place: &Place,
        told: &Wanted,
        outbox: &mut Outbox,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let Place { user, device, .. } = place;
        if told.kind != Kind::Message || self.presence.foreground(user, device) {
            return Ok(());
        }
        let facts = self.push_facts(place, told)?;
        let number = self.take_id(commit);
        if told.seq <= facts.read_seq {
            outbox.read(facts.read_seq, number, now.wall);
        } else if facts.gone {
            let earlier = self.earlier(now, place, outbox, told.seq)?;
            outbox.gone(told.seq, earlier, number, now.wall);
        }
        Ok(())
    }

    /// Notes what became of a job. One that is not out changes nothing. Without room on the disk it
    /// is noted later; until then the job counts as out.
    ///
    /// # Errors
    /// When the store fails: final.
    pub fn settle_push(&mut self, now: Now, outcome: &Outcome) -> Result<(), StoreError> {
        self.writer.begin();
        let flight = self.pushes.in_flight.get(&outcome.place).cloned();
        match self.settle_job(now, outcome) {
            Err(StoreError::NoSpace) => {
                self.pushes.in_flight.extend(flight.map(|flight| (outcome.place.clone(), flight)));
                self.full.outcomes.push(outcome.clone());
                self.note_full(now);
                Ok(())
            }
            settled => settled,
        }
    }

    fn settle_job(&mut self, now: Now, outcome: &Outcome) -> Result<(), StoreError> {
        let Outcome { place, id, verdict } = outcome;
        if self.pushes.in_flight.get(place).is_none_or(|flight| flight.told.id != *id) {
            return Ok(());
        }
        let Some(Flight { told, target }) = self.pushes.in_flight.remove(place) else {
            return Ok(());
        };
        let settings = self.pushes.settings.clone();
        let (Some(settings), Some(current)) = (settings, self.push_target(place)?) else {
            return Ok(());
        };
        let mut commit = Commit::new();
        let mut outbox = self.push_outbox(place)?;
        match verdict {
            Verdict::Accepted => {
                outbox.accepted(&told, now.wall);
                let late = self.push_late(now, place, &told, &mut outbox, &mut commit);
                self.spared(late)?;
            }
            Verdict::Rejected if current.token == target.token => {
                let Place { user, device, .. } = place;
                tracing::info!(%user, %device, "the push token is rejected and forgotten");
                self.forget_pushes(user, device, &mut commit)?;
                return self.writer.stage(&commit);
            }
            // The device has given another token meanwhile.
            Verdict::Rejected => outbox.failed(Duration::ZERO, now.wall),
            Verdict::Failed(hint) => {
                let Settings { retry_first, retry_max, .. } = settings;
                let pause = back_off(told.attempts, retry_first, retry_max, told.id);
                outbox.failed(pause.max((*hint).min(PUSH_RETRY_AFTER_MAX)), now.wall);
            }
        }
        self.put_outbox(place.clone(), &outbox, &mut commit);
        self.writer.stage(&commit)
    }
}
