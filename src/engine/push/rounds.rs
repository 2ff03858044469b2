//! Telling the members of large conversations, pass by pass, a slice of members at a time.

use super::{
    super::{Engine, Now, open},
    news::is_told,
};
use crate::{
    id::{ConversationId, DeviceId, UserId},
    limits::PUSH_ROUND_MEMBERS,
    push::{Due, News, Place, Round},
    seq::{HistorySeq, InboxSeq},
    store::{
        Commit, StoreError,
        catalogue::{Table, conversation_key, first_id},
    },
    time::Timestamp,
};

/// Messages looked at to find one to tell of instead of a recalled one.
const EARLIER_LOOK: usize = 64;

impl Engine {
    /// Rounds that were under way when the process before this one ended.
    pub(super) fn load_rounds(&mut self) -> Result<(), StoreError> {
        for (key, row) in self.writer.rows_and_holes(Table::PushRound, &[], &[], usize::MAX)? {
            match (first_id::<ConversationId>(&key), row.map(Round::decode)) {
                (Some(id), Some(Ok(round))) => self.keep_round(id, round),
                _ => tracing::error!(key = %key.escape_ascii(), "a push round is damaged"),
            }
        }
        Ok(())
    }

    pub(super) fn round_of_message(
        &mut self,
        now: Now,
        id: &ConversationId,
        seq: HistorySeq,
        commit: &mut Commit,
    ) {
        let mut round = self.pushes.rounds.get(id).cloned();
        let round = match &mut round {
            Some(round) => {
                round.message(seq);
                round.clone()
            }
            None => Round::new(now.wall, seq),
        };
        commit.put(Table::PushRound, conversation_key(id), round.encode());
        self.keep_round(id.clone(), round);
    }

    pub(super) fn round_of_recall(
        &mut self,
        id: &ConversationId,
        seq: HistorySeq,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let mut round = self.pushes.rounds.get(id).cloned().unwrap_or_else(Round::of_recall);
        let earlier = self.told_before(id, seq)?;
        round.recall(seq, earlier);
        commit.put(Table::PushRound, conversation_key(id), round.encode());
        self.keep_round(id.clone(), round);
        Ok(())
    }

    /// The newest message before this one that devices are told of; zero when none is near.
    fn told_before(
        &mut self,
        id: &ConversationId,
        seq: HistorySeq,
    ) -> Result<HistorySeq, StoreError> {
        for at in (1..seq.number()).rev().take(EARLIER_LOOK).map(HistorySeq::new) {
            if self.living_message(id, at)?.is_some_and(|message| is_told(&message.draft)) {
                return Ok(at);
            }
        }
        Ok(HistorySeq::ZERO)
    }

    fn keep_round(&mut self, id: ConversationId, round: Round) {
        let Some(settings) = &self.pushes.settings else { return };
        let due = match round.due(settings.large_interval) {
            Due::Slice => Timestamp::default(),
            Due::Pass(at) | Due::End(at) => at,
        };
        self.pushes.round_times.set(id.clone(), due);
        self.pushes.rounds.insert(id, round);
    }

    /// Goes on with the round that is due first.
    pub(super) fn push_rounds(&mut self, now: Now) -> Result<(), StoreError> {
        let Some(id) = self.pushes.round_times.take_due(now.wall) else { return Ok(()) };
        let Some(settings) = &self.pushes.settings else { return Ok(()) };
        let Some(mut round) = self.pushes.rounds.remove(&id) else { return Ok(()) };
        let interval = settings.large_interval;
        let mut commit = Commit::new();
        match round.due(interval) {
            Due::End(_) => {
                commit.delete(Table::PushRound, conversation_key(&id));
                return self.writer.stage(&commit);
            }
            Due::Pass(_) => round.begin(now.wall, interval),
            Due::Slice => {}
        }
        match self.push_slice(now, &id, &round, &mut commit) {
            Ok(after) => round.advance(after),
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(%error, conversation = %id, "members of a conversation are not told");
                self.abandon_ids();
                commit = Commit::new();
                round.advance(None);
            }
            Err(error) => return Err(error),
        }
        commit.put(Table::PushRound, conversation_key(&id), round.encode());
        self.writer.stage(&commit)?;
        self.keep_round(id, round);
        Ok(())
    }

    /// Tells the next members; returns the last of them, none when that were all.
    fn push_slice(
        &mut self,
        now: Now,
        id: &ConversationId,
        round: &Round,
        commit: &mut Commit,
    ) -> Result<Option<UserId>, StoreError> {
        let Some(open) = self.cache.open(&self.writer, id)? else { return Ok(None) };
        let after = round.after.as_ref();
        let start =
            after.map_or(0, |after| open.members.partition_point(|(user, _)| user <= after));
        let mut slice = open.members.iter().skip(start).take(PUSH_ROUND_MEMBERS);
        let mut done = 0;
        for (user, _) in slice.clone() {
            done += 1;
            if let Some(targets) = self.push_targets(user)? {
                for (device, _) in targets.iter() {
                    self.push_member(now, id, round.upto, user, device, commit)?;
                }
            }
        }
        let more = start + done < open.members.len();
        Ok(slice.next_back().filter(|_| more).map(|(user, _)| user.clone()))
    }

    fn push_member(
        &mut self,
        now: Now,
        id: &ConversationId,
        upto: HistorySeq,
        user: &UserId,
        device: &DeviceId,
        commit: &mut Commit,
    ) -> Result<(), StoreError> {
        let (user, device) = (user.clone(), device.clone());
        let place = Place { user, device, conversation: id.clone() };
        let mut outbox = self.push_outbox(&place)?;
        let told = [outbox.wanted.map(|it| it.seq), outbox.shown.map(|it| it.seq)];
        let mut gone = Vec::new();
        for seq in told.into_iter().flatten() {
            if self.is_gone(id, seq)? || self.is_hidden(&place.user, id, seq)? {
                gone.push(seq);
            }
        }
        let mut changed = self.take_back(now, &place, &mut outbox, &gone, commit)?;
        let own = open::membership(&self.writer, &place.user, id)?;
        if own.is_some_and(|own| own.read_seq < upto && own.sees(upto))
            && !self.presence.foreground(&place.user, &place.device)
            && !self.is_muted(&place.user, id)?
            && !self.is_gone(id, upto)?
            && !self.is_hidden(&place.user, id, upto)?
        {
            let due = now.wall.max(self.pushes.quiet_until(&place.user, &place.device));
            let news = News { seq: upto, entry: InboxSeq::ZERO, mention: false, due };
            let number = self.take_id(commit);
            changed |= outbox.message(news, number, now.wall);
        }
        if changed {
            self.put_outbox(place, &outbox, commit);
        }
        Ok(())
    }
}
