//! What administrators tell: one log of notices, and entries that point at them.
//!
//! A notice for one, or for few, is in their inboxes when it is answered. One for many goes on from
//! there in a round: a slice of inboxes whenever the timer is looked at, with other work in between.
//! Position and slice are one commit; after a crash the round goes on where it stood.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::{Answer, Caller, Engine, Now, Stop, not_found, refuse, send::stale};
use crate::{
    id::{ClientMessageId, UserId},
    inbox,
    limits::{NOTICE_ROUNDS_MAX, NOTICE_SLICE},
    message::{Entry, EntryKind},
    notice::{Notice, Round},
    refusal::ErrorCode,
    reply::Reply,
    request::NoticeTo,
    sent::{self, Known, NoticeSent, Remembered},
    seq::{InboxSeq, NoticeSeq},
    store::{
        Commit, Condition, StoreError, Writer,
        catalogue::{
            LogKey, Table, conversation_key, first_id, last_seq, notice_key, second_id, user_prefix,
        },
    },
};

/// The rounds under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    waiting: VecDeque<NoticeSeq>,
    due: Option<Instant>,
}

impl Rounds {
    /// Those that an end of the process has interrupted.
    pub(super) fn interrupted(writer: &Writer, now: Now) -> Result<Self, StoreError> {
        let rows = writer.rows_and_holes(Table::NoticeRound, &[], &[], usize::MAX)?;
        let waiting: VecDeque<_> =
            rows.iter().filter_map(|(key, _)| last_seq(key)).map(NoticeSeq::new).collect();
        if !waiting.is_empty() {
            tracing::info!(notices = waiting.len(), "notices that were on their way go on");
        }
        let mut rounds = Self { waiting, due: None };
        rounds.go_on(now);
        Ok(rounds)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn go_on(&mut self, now: Now) {
        self.due = (!self.waiting.is_empty()).then_some(now.mono);
    }
}

/// Whose a key is.
type UserOf = fn(&[u8]) -> Option<UserId>;

/// Users whose turn it is, and the key to go on after; none = that is all.
struct Slice {
    users: Vec<UserId>,
    rest: Option<Bytes>,
}

impl Engine {
    pub(super) fn send_notice(
        &mut self,
        now: Now,
        caller: &Caller,
        to: &NoticeTo,
        client_id: ClientMessageId,
        content_type: &Arc<str>,
        content: &Bytes,
    ) -> Result<Answer, Stop> {
        let payload_hash = payload_hash(to, content_type, content);
        let known = sent::look_up(&self.writer, &caller.user, &caller.device, client_id)?;
        let out_of_order = match known {
            Known::New => false,
            Known::NewOutOfOrder => true,
            Known::Notice(sent) if sent.payload_hash == payload_hash => {
                return Ok(done(sent.inbox_seq));
            }
            Known::Notice(_) | Known::Accepted(_) => {
                return Err(refuse(
                    ErrorCode::IdempotencyConflict,
                    "this client id was used for something else",
                ));
            }
            Known::UsedUp => return Err(refuse(ErrorCode::Gone, "this client id was cancelled")),
            Known::Stale => return Err(stale()),
        };
        if content.len() > self.limits.content_bytes {
            return Err(refuse(
                ErrorCode::ContentTooLarge,
                format!(
                    "content has {} bytes, at most {} are taken",
                    content.len(),
                    self.limits.content_bytes
                ),
            ));
        }
        if let NoticeTo::Conversation(id) = to
            && self.writer.row(Table::Conversation, &conversation_key(id))?.is_none()
        {
            return Err(not_found());
        }
        if self.rounds.waiting.len() >= NOTICE_ROUNDS_MAX {
            return Err(refuse(ErrorCode::Overloaded, "too many notices are on their way"));
        }

        let log = LogKey::notices();
        let last = self.writer.bounds(&log)?.last;
        let notice = NoticeSeq::new(last).next();
        let record = Notice {
            to: to.clone(),
            by: caller.user.clone(),
            time: now.wall,
            content_type: Arc::clone(content_type),
            content: content.clone(),
        };
        let mut commit = Commit::new();
        commit.require(Condition::Head(log.clone(), last));
        commit.append(log, record.encode());
        let Slice { users, rest } = self.slice(to, &[])?;
        tell(&mut commit, now, notice, &users);
        let inbox_seq = match users.contains(&caller.user) {
            true => self.next_inbox_seq(&caller.user)?,
            false => InboxSeq::ZERO,
        };
        let time = now.wall;
        let sent = NoticeSent { client_id, payload_hash, time, notice, inbox_seq };
        self.remember(now, caller, &Remembered::Notice(sent), out_of_order, &mut commit)?;
        let more = rest.is_some();
        if let Some(after) = rest {
            let round = Round { told: users.len() as u64, after };
            commit.put(Table::NoticeRound, notice_key(notice), round.encode());
        }
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(users);
        if more {
            self.rounds.waiting.push_back(notice);
            self.rounds.go_on(now);
        }
        Ok(done(inbox_seq))
    }

    /// The next slice of the oldest round.
    pub(super) fn go_on_with_notices(&mut self, now: Now) -> Result<(), StoreError> {
        if self.rounds.due.is_none_or(|due| due > now.mono) {
            return Ok(());
        }
        let Some(notice) = self.rounds.waiting.front().copied() else { return Ok(()) };
        let over = match self.next_slice(now, notice) {
            Ok(over) => over,
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(%error, notice = notice.number(), "a notice cannot go on");
                true
            }
            Err(error) => return Err(error),
        };
        if over {
            self.rounds.waiting.pop_front();
        }
        self.rounds.go_on(now);
        Ok(())
    }

    /// Says whether the round is over.
    fn next_slice(&mut self, now: Now, notice: NoticeSeq) -> Result<bool, StoreError> {
        let key = notice_key(notice);
        let Some(row) = self.writer.row(Table::NoticeRound, &key)? else { return Ok(true) };
        let round = Round::decode(row.clone())?;
        let entry = self.writer.entry(&LogKey::notices(), notice.number())?;
        let record = entry.and_then(|entry| entry.record);
        let record = record.ok_or_else(|| StoreError::Damaged(format!("notice {notice}")))?;
        let Slice { users, rest } = self.slice(&Notice::decode(record)?.to, &round.after)?;
        let told = round.told + users.len() as u64;
        let mut commit = Commit::new();
        commit.require(Condition::Row(Table::NoticeRound, key.clone(), Some(row)));
        tell(&mut commit, now, notice, &users);
        let over = rest.is_none();
        match rest {
            Some(after) => commit.put(Table::NoticeRound, key, Round { told, after }.encode()),
            None => commit.delete(Table::NoticeRound, key),
        }
        self.writer.stage(&commit)?;
        self.effects.inboxes.extend(users);
        if over {
            tracing::info!(notice = notice.number(), told, "a notice has reached everybody");
        }
        Ok(over)
    }

    /// Those whose turn it is after this key: those who are members, or known at all, at that moment.
    fn slice(&self, to: &NoticeTo, after: &[u8]) -> Result<Slice, StoreError> {
        let (table, prefix, user_of): (_, _, UserOf) = match to {
            NoticeTo::User(user) => return Ok(Slice { users: vec![user.clone()], rest: None }),
            NoticeTo::Conversation(id) => (Table::Member, conversation_key(id), second_id),
            NoticeTo::Everyone => (Table::Device, Bytes::new(), first_id),
        };
        // A damaged row still says whose it is.
        let rows = self.writer.rows_and_holes(table, &prefix, after, NOTICE_SLICE)?;
        let mut users: Vec<UserId> = rows.iter().filter_map(|(key, _)| user_of(key)).collect();
        users.dedup();
        let rest = match (to, users.last(), rows.last()) {
            _ if rows.len() < NOTICE_SLICE => None,
            // Further devices of the same user are passed over.
            (NoticeTo::Everyone, Some(last), _) => Some(behind(&user_prefix(last))),
            (_, _, last) => last.map(|(key, _)| key.clone()),
        };
        let mut readable = Vec::with_capacity(users.len());
        for user in users {
            match self.writer.bounds(&LogKey::inbox(&user)) {
                Ok(_) => readable.push(user),
                Err(error @ StoreError::Damaged(_)) => {
                    tracing::error!(%error, %user, "an inbox is passed over by a notice");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Slice { users: readable, rest })
    }
}

fn tell(commit: &mut Commit, now: Now, notice: NoticeSeq, users: &[UserId]) {
    let entry = Entry { time: now.wall, kind: EntryKind::Notice { notice } };
    commit.append_each(users.iter().map(LogKey::inbox).collect(), inbox::encode(&entry));
}

/// A key behind all keys with this prefix: no id is so long that its length byte is the greatest.
fn behind(prefix: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(prefix.len() + 1);
    key.put_slice(prefix);
    key.put_u8(u8::MAX);
    key.freeze()
}

fn done(inbox_seq: InboxSeq) -> Answer {
    Answer::Reply(Reply::Done { inbox_seq })
}

/// Everything that a retry must repeat, as one number.
fn payload_hash(to: &NoticeTo, content_type: &str, content: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match to {
        NoticeTo::User(user) => {
            part(b"user");
            part(user.as_bytes());
        }
        NoticeTo::Conversation(id) => {
            part(b"conversation");
            part(id.as_bytes());
        }
        NoticeTo::Everyone => part(b"everyone"),
    }
    part(content_type.as_bytes());
    part(content);
    hash.digest()
}
