//! The engine: the rules, applied to one command at a time.
//!
//! [`Engine::apply`] takes a command and the time, stages at most one commit, and returns the
//! answer. Nothing it returns may leave the process before [`Engine::flush`] has made what it rests
//! on durable; the shell applies a batch of commands, flushes once, and then delivers. The engine
//! owns the store's writer and is the only place where rights are decided. It knows no sockets, no
//! protobuf and no clock.
//!
//! State it keeps of its own is a cache over the store ([`open`]) or may be lost without harm:
//! cursors waiting to be written (a crash moves a cursor back, which means redelivery, never loss),
//! who is online ([`presence`]: ends with the process, as the sessions do)
//! when the push hook is to be told of what ([`push`]: known from its rows as well)
//! and entries held back ([`held`]: what they tell is durable at once; the entry is made up for when
//! the user's next device connects).

mod attach;
mod clock;
mod command;
mod counts;
mod devices;
mod effects;
mod full;
mod gate;
mod group;
mod held;
mod hide;
mod large;
mod lists;
mod mark;
mod mention;
mod mutate;
mod notice;
mod open;
mod page;
mod preferences;
mod presence;
mod push;
pub mod read;
mod readers;
mod send;
mod sight;
mod unread;
mod watched;

use std::time::Instant;

use hashbrown::HashMap;

use self::{
    clock::KnownTime,
    counts::Counts,
    full::{Full, when_there_is_room},
    held::HeldBack,
    large::Large,
    notice::Rounds,
    open::Cache,
    push::Pushes,
    watched::Watched,
};
pub use self::{
    command::{Answer, Caller, Command, Compared, HistoryGrant, MutationGrant, ReadersGrant},
    effects::{Effects, LargeNotice, LargeSign, PresenceChanges, Sign},
};
use crate::{
    ack::{AckConfig, DelayedAck},
    id::{DeviceId, Epoch, UserId},
    limits::Limits,
    presence::Presence,
    refusal::{ErrorCode, Refusal},
    reply::Reply,
    request::Request,
    seq::InboxSeq,
    store::{StoreError, Writer},
    time::Timestamp,
};

/// Why a command was not done: refused to the caller, or the store failed for all.
#[derive(Debug)]
enum Stop {
    Refused(Refusal),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<crate::store::codec::Malformed> for Stop {
    fn from(error: crate::store::codec::Malformed) -> Self {
        Self::Store(error.into())
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn refuse(code: ErrorCode, detail: impl Into<String>) -> Stop {
    Stop::Refused(Refusal::new(code, detail))
}

/// Missing and forbidden look the same.
fn not_found() -> Stop {
    refuse(ErrorCode::NotFound, "no such conversation")
}

/// Wall clock for what is stored, monotonic clock for timers.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall clock.
    pub wall: Timestamp,
    /// Monotonic clock.
    pub mono: Instant,
}

/// The owner of all state. One per store.
#[derive(Debug)]
pub struct Engine {
    writer: Watched,
    epoch: Epoch,
    limits: Limits,
    clock: KnownTime,
    cache: Cache,
    counts: Counts,
    cursors: HashMap<(UserId, DeviceId), InboxSeq>,
    /// When devices that have gone since were there last; written with the cursors.
    seen: HashMap<(UserId, DeviceId), Timestamp>,
    cursor_timer: DelayedAck,
    presence: Presence,
    large: Large,
    rounds: Rounds,
    held: HeldBack,
    next_id: u64,
    reserved_ids: u64,
    pushes: Pushes,
    full: Full,
    effects: Effects,
}

impl Engine {
    /// An engine over an open store. What the last one left under way goes on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(writer: Writer, epoch: Epoch, limits: Limits, now: Now) -> Result<Self, StoreError> {
        let next_id = send::stored_ids(&writer)?;
        let rounds = Rounds::interrupted(&writer, now)?;
        let clock = KnownTime::read(&writer, now)?;
        Ok(Self {
            writer: Watched::new(writer),
            epoch,
            limits,
            clock,
            cache: Cache::default(),
            counts: Counts::default(),
            cursors: HashMap::new(),
            seen: HashMap::new(),
            presence: Presence::default(),
            large: Large::default(),
            cursor_timer: DelayedAck::new(AckConfig::CURSORS),
            rounds,
            held: HeldBack::default(),
            next_id,
            reserved_ids: next_id,
            pushes: Pushes::default(),
            full: Full::default(),
            effects: Effects::default(),
        })
    }

    /// From now on these are the limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Does one command. The answer may leave after the next [`Engine::flush`].
    ///
    /// # Errors
    /// When the store fails: final, nothing more may be answered.
    pub fn apply(
        &mut self,
        now: Now,
        caller: &Caller,
        command: &Command,
    ) -> Result<Answer, StoreError> {
        self.writer.begin();
        if command.tells_total() {
            self.may_tell_total(&caller.user);
        }
        let mut outcome = self.dispatch(now, caller, command);
        if matches!(outcome, Err(Stop::Store(StoreError::Conflict))) {
            // Something cached was out of date. Look again, once.
            self.cache = Cache::default();
            self.counts.begin_anew();
            self.pushes.look_again();
            self.reserved_ids = self.next_id;
            outcome = self.dispatch(now, caller, command);
        }
        if outcome.is_err() {
            // The commit that reserved ids may be the one that was not staged.
            self.reserved_ids = self.next_id;
        }
        self.note_full(now);
        self.tell_changes(now)?;
        match outcome {
            Ok(answer) => Ok(answer),
            Err(Stop::Refused(refusal)) => Ok(Answer::Reply(Reply::Refused(refusal))),
            Err(Stop::Store(error @ StoreError::Damaged(_))) => {
                // One damaged record stops the request that needs it, not the others.
                tracing::error!(%error, user = %caller.user, "request refused");
                let refusal = Refusal::new(ErrorCode::Internal, "stored data is damaged");
                Ok(Answer::Reply(Reply::Refused(refusal)))
            }
            Err(Stop::Store(error @ StoreError::TooLarge { .. })) => {
                tracing::error!(%error, user = %caller.user, "request refused");
                Ok(Answer::Reply(Reply::Refused(Refusal::new(
                    ErrorCode::Internal,
                    "a stored row would grow above its limit",
                ))))
            }
            Err(Stop::Store(StoreError::NoSpace)) => Ok(Answer::Reply(Reply::Refused(
                Refusal::new(ErrorCode::StorageFull, "no space left; nothing was done"),
            ))),
            Err(Stop::Store(error)) => Err(error),
        }
    }

    fn dispatch(&mut self, now: Now, caller: &Caller, command: &Command) -> Result<Answer, Stop> {
        match command {
            Command::Attach { resume, missed_entries, platform, issued, background } => {
                let (resume, missed) = (*resume, *missed_entries);
                self.attach(now, caller, resume, missed, platform, *issued, *background)
            }
            Command::Detach => {
                self.listen_no_more(caller);
                self.detach(now, caller)?;
                Ok(Answer::Nothing)
            }
            Command::Resume(position) => self.resume(now, caller, *position),
            Command::CaughtUp => self.caught_up(caller),
            Command::Cursor(seq) => self.cursor(now, caller, *seq),
            Command::Request(request) => {
                self.permit(caller, gate::right(request))?;
                self.request(now, caller, request)
            }
        }
    }

    fn request(&mut self, now: Now, caller: &Caller, request: &Request) -> Result<Answer, Stop> {
        match request {
            Request::Send { to, client_id, draft } => self.send(now, caller, to, *client_id, draft),
            Request::Recall { conversation, seq } => self.recall(now, caller, conversation, *seq),
            Request::Edit { conversation, seq, content_type, content, base_revision } => {
                let base = *base_revision;
                self.edit(now, caller, conversation, *seq, content_type, content, base)
            }
            Request::DeleteForAll { conversation, seq } => {
                self.delete_for_all(now, caller, conversation, *seq)
            }
            Request::CancelSend { client_id } => self.cancel_send(now, caller, *client_id),
            Request::FetchMutations { conversation, after, limit } => {
                self.fetch_mutations(caller, conversation, *after, *limit)
            }
            Request::FetchMessages { refs } => self.fetch_messages(caller, refs),
            Request::MarkRead { conversation, read_seq, peer_visible } => {
                self.mark_read(now, caller, conversation, *read_seq, *peer_visible)
            }
            Request::MarkUnread { conversation } => self.mark_unread(now, caller, conversation),
            Request::DeleteForMe { conversation, seqs } => {
                self.delete_for_me(now, caller, conversation, seqs)
            }
            Request::ClearConversation { conversation, to } => {
                self.clear_conversation(now, caller, conversation, *to)
            }
            Request::SetPreferences { conversation, change } => {
                self.set_preferences(now, caller, conversation, change)
            }
            Request::GetReaders { conversation, seq, page_token, limit } => {
                self.readers(caller, conversation, *seq, page_token, *limit)
            }
            Request::FetchHistory { conversation, direction, limit, max_bytes } => {
                self.fetch_history(caller, conversation, *direction, *limit, *max_bytes)
            }
            Request::ListConversations { since, snapshot, page_token, limit } => {
                self.list_conversations(caller, *since, snapshot.as_ref(), page_token, *limit)
            }
            Request::GetConversations { conversations } => {
                self.conversation_items(caller, conversations)
            }
            Request::GetUnread { conversations, explain } => {
                self.unread(caller, conversations, *explain)
            }
            Request::ListMembers { conversation, page_token, limit } => {
                self.list_members(caller, conversation, page_token, *limit)
            }
            Request::SyncPull { after, limit } => self.sync_pull(caller, *after, *limit),
            Request::CreateGroup { client_id, conversation, title, users, policy } => self
                .create_group(
                    now,
                    caller,
                    *client_id,
                    conversation.as_ref(),
                    title,
                    users,
                    *policy,
                ),
            Request::AddMembers { conversation, users } => {
                self.add_members(now, caller, conversation, users)
            }
            Request::RemoveMembers { conversation, users } => {
                self.remove_members(now, caller, conversation, users)
            }
            Request::LeaveGroup { conversation } => self.leave_group(now, caller, conversation),
            Request::DisbandGroup { conversation } => self.disband_group(now, caller, conversation),
            Request::SetRole { conversation, user, role } => {
                self.set_role(now, caller, conversation, user, *role)
            }
            Request::SetTitle { conversation, title } => {
                self.set_title(now, caller, conversation, title)
            }
            Request::SetPresence { background } => self.set_presence(now, caller, *background),
            Request::SubscribePresence { users, unsubscribe } => {
                self.subscribe_presence(caller, users, *unsubscribe)
            }
            Request::SendEphemeral { conversation, content_type, content } => {
                self.send_ephemeral(caller, conversation, content_type, content)
            }
            Request::ListDevices => self.list_devices(caller),
            Request::KickDevice { device } => self.kick_device(now, caller, device),
            Request::RevokeDevice { device } => self.revoke_device(now, caller, device),
            Request::RegisterPush { provider, token } => {
                self.register_push(now, caller, provider, token.reveal())
            }
            Request::SendNotice { to, client_id, content_type, content } => {
                self.send_notice(now, caller, to, *client_id, content_type, content)
            }
            Request::Hello(_)
            | Request::Resume(_)
            | Request::Ack(_)
            | Request::Ping { .. }
            | Request::Bye
            | Request::Unknown => Err(gate::not_the_engines()),
        }
    }

    /// The next time [`Engine::on_timer`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let writes = match self.full.look_at() {
            Some(at) => Some(at),
            None => {
                let timers = [
                    self.cursor_timer.deadline(),
                    self.held.deadline(),
                    self.pushes.deadline(),
                    self.rounds.deadline(),
                ];
                timers.into_iter().flatten().min()
            }
        };
        writes.into_iter().chain(self.totals_deadline()).min()
    }

    /// Writes cursors and entries held back, does what is due for notices and the push hook, and
    /// tells totals.
    ///
    /// # Errors
    /// When the store fails: final.
    pub fn on_timer(&mut self, now: Now) -> Result<(), StoreError> {
        self.writer.begin();
        when_there_is_room(self.write_what_is_due(now))?;
        self.note_full(now);
        self.tell_changes(now)?;
        self.tell_totals(now)
    }

    fn write_what_is_due(&mut self, now: Now) -> Result<(), StoreError> {
        if !self.has_room(now)? {
            return Ok(());
        }
        if self.cursor_timer.due(now.mono) {
            self.write_cursors(now)?;
        }
        self.write_held(now)?;
        self.go_on_with_notices(now)?;
        self.push_timer(now)
    }

    /// Writes everything that waits for a timer, if there is room: before a drain ends. Notices
    /// under way go on after the next start. Returns how many devices are forgotten for want of
    /// room: where they stand, when they were there last, or that they ever came.
    ///
    /// # Errors
    /// When the store fails: final.
    pub fn finish(&mut self, now: Now) -> Result<usize, StoreError> {
        self.writer.begin();
        self.look_once_more(now)?;
        when_there_is_room(self.write_cursors(now))?;
        when_there_is_room(self.write_all_held(now))?;
        self.note_full(now);
        Ok(self.waiting_devices().len())
    }

    /// Makes everything applied so far durable; returns what those who are online want to know.
    ///
    /// # Errors
    /// When the store fails. [`StoreError::NoSpace`] is not to be expected, since room is made sure of
    /// before anything is applied; after it this may be called again.
    pub fn flush(&mut self) -> Result<Effects, StoreError> {
        self.writer.flush()?;
        Ok(std::mem::take(&mut self.effects))
    }

    /// What is to be told of large conversations because of what was applied so far. Whoever asks
    /// for the state at the head is told it by the answer, so this goes before.
    pub fn take_large(&mut self) -> Vec<LargeNotice> {
        self.effects.take_large()
    }

    /// Bytes applied and not yet flushed.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.writer.staged_bytes()
    }

    /// What commands have cost so far; see [`Writer::operations`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.writer.operations()
    }

    /// False once the store has failed.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.writer.healthy()
    }

    /// Whether commits of so many bytes in all will wait for nothing but their flush.
    #[must_use]
    pub fn is_at_ease(&self, bytes: usize) -> bool {
        self.full.look_at().is_none() && self.writer.is_at_ease(bytes)
    }

    /// Whether what would write is refused for want of room.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.look_at().is_some()
    }

    /// Whether anything about a device is in memory only.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn devices_wait(&self) -> bool {
        !self.waiting_devices().is_empty()
    }

    /// The number of the last durable commit.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.writer.last_commit()
    }

    /// The data set.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Gives the store's writer back, to close the store.
    #[must_use]
    pub fn into_writer(self) -> Writer {
        self.writer.into_inner()
    }
}
