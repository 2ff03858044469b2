//! The reference: what the protocol says, in the plainest data and the plainest code.
//!
//! Written from `docs/protocol.md` and the comments of `roamd.proto`, not from the engine. Histories
//! and inboxes are vectors that nothing is ever taken out of; what may be seen are ranges; what was
//! read is a set of rows; unread is counted one by one. Nothing here is fast, and nothing is derived
//! from anything but the data itself. [`super::answers`] has the requests that only read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use roamd::{
    engine::{Caller, Command, Compared, Now},
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, MessageId, UserId},
    limits::{CURSOR_FLUSH_DELAY_MAX, ENTRY_USERS_MAX, Limits, READ_ENTRY_INTERVAL},
    message::{
        ConversationKind, Draft, EntryKind, HistoryPolicy, MembershipAction, MembershipChange,
        Message, Role,
    },
    refusal::{ErrorCode, Refusal},
    reply::{ConversationUnread, MemberOutcome, Reply, TooLongReason, Verdict},
    request::{Destination, Position, Request},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
};

/// What comes back for one command, when it has left the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Nothing,
    Reply(Reply),
    Attached(Compared),
    Resumed(Compared),
    CaughtUp { seq: InboxSeq, unread_total: u64, changed: Vec<ConversationUnread>, complete: bool },
}

/// Where a list continues: the sort key of the last item of a page.
pub type PageKey = (u64, String);

/// What only the server can know: the numbers and names it chose, and what it chose to forget.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    pub message: Option<MessageId>,
    pub group: Option<ConversationId>,
    pub stale: bool,
    /// The meaning of the page token in the request.
    pub page: Option<PageKey>,
}

/// What the model says, and where the next page of a list would begin.
pub struct Expected {
    pub outcome: Outcome,
    pub next: Option<PageKey>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub role: Role,
    pub joined_seq: u64,
    pub joined: Timestamp,
}

/// What one user has, or had, to do with a conversation.
#[derive(Clone, Debug)]
pub struct Place {
    /// Rows it may see: first, and last once it has left.
    pub stays: Vec<(u64, Option<u64>)>,
    pub joined: Timestamp,
    /// Every row that is read.
    pub read: BTreeSet<u64>,
    /// The read marker its devices know of.
    pub told: u64,
}

impl Place {
    pub fn read_seq(&self) -> u64 {
        self.read.last().copied().unwrap_or(0)
    }

    pub fn sees(&self, row: u64) -> bool {
        self.stays.iter().any(|(first, last)| *first <= row && last.is_none_or(|last| row <= last))
    }

    fn read_up_to(&mut self, row: u64) {
        self.read.extend(1..=row);
    }
}

#[derive(Clone, Debug)]
pub struct Talk {
    pub kind: ConversationKind,
    pub title: Arc<str>,
    pub policy: HistoryPolicy,
    pub created: Timestamp,
    pub version: u64,
    /// Row `n` is at `n - 1`.
    pub rows: Vec<Message>,
    pub members: BTreeMap<UserId, Member>,
    pub places: BTreeMap<UserId, Place>,
}

impl Talk {
    pub fn head(&self) -> u64 {
        self.rows.len() as u64
    }

    fn join(&mut self, user: &UserId, role: Role, now: Now) {
        let head = self.head();
        let first = match self.policy {
            HistoryPolicy::SinceJoin => head + 1,
            HistoryPolicy::LastN(count) => (head + 1).saturating_sub(u64::from(count)).max(1),
            HistoryPolicy::Full => 1,
        };
        let place = self.places.entry(user.clone()).or_insert(Place {
            stays: Vec::new(),
            joined: now.wall,
            read: BTreeSet::new(),
            told: 0,
        });
        place.stays.push((first, None));
        place.joined = now.wall;
        // What was written before it joined is never unread.
        place.read_up_to(head);
        place.told = place.read_seq();
        let member = Member { role, joined_seq: head + 1, joined: now.wall };
        self.members.insert(user.clone(), member);
    }

    fn leave(&mut self, user: &UserId) {
        let head = self.head();
        self.members.remove(user);
        if let Some(open) = self.places.get_mut(user).and_then(|place| place.stays.last_mut()) {
            open.1 = Some(head);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Inbox {
    /// Entry `n` is at `n - 1`.
    pub entries: Vec<(Timestamp, EntryKind)>,
    /// Entries below this are trimmed.
    pub trimmed: u64,
}

impl Inbox {
    pub fn head(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn first(&self) -> u64 {
        self.trimmed + 1
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Payload {
    Message(ConversationId, Draft),
    Group(Option<ConversationId>, Arc<str>, Vec<UserId>, HistoryPolicy),
}

#[derive(Clone, Debug)]
struct Accepted {
    payload: Payload,
    reply: Reply,
    time: Timestamp,
}

/// Everything the server would know, in one value that can be copied: the state at a flush.
#[derive(Clone, Debug)]
pub struct Model {
    pub limits: Limits,
    pub epoch: Epoch,
    pub talks: BTreeMap<ConversationId, Talk>,
    pub inboxes: BTreeMap<UserId, Inbox>,
    /// Cursor of every device that ever attached.
    pub devices: BTreeMap<(UserId, DeviceId), u64>,
    /// Users whose inbox grew since the last flush.
    pub grown: BTreeSet<UserId>,
    accepted: BTreeMap<(UserId, DeviceId), BTreeMap<u64, Accepted>>,
    message_ids: BTreeSet<MessageId>,
    latest: Timestamp,
    // Lost in a crash, and allowed to be.
    cursors: BTreeMap<(UserId, DeviceId), u64>,
    cursors_due: Option<Instant>,
    quiet: BTreeMap<(UserId, ConversationId), Instant>,
}

pub fn refused(code: ErrorCode) -> Outcome {
    Outcome::Reply(Reply::Refused(Refusal::new(code, "")))
}

impl Model {
    pub fn new(limits: Limits, epoch: Epoch) -> Self {
        Self {
            limits,
            epoch,
            talks: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            devices: BTreeMap::new(),
            grown: BTreeSet::new(),
            accepted: BTreeMap::new(),
            message_ids: BTreeSet::new(),
            latest: Timestamp::default(),
            cursors: BTreeMap::new(),
            cursors_due: None,
            quiet: BTreeMap::new(),
        }
    }

    pub fn apply(
        &mut self,
        now: Now,
        caller: &Caller,
        command: &Command,
        chosen: &Chosen,
    ) -> Expected {
        self.latest = self.latest.max(now.wall);
        let mut next = None;
        let outcome = match command {
            Command::Attach { resume, missed_entries, .. } => {
                self.attach(now, caller, *resume, u64::from(*missed_entries))
            }
            Command::Resume(at) => {
                let compared = self.compare(now, caller, Some(*at), 0, 0);
                Outcome::Resumed(compared)
            }
            Command::CaughtUp => self.caught_up(caller),
            Command::Detach => Outcome::Nothing,
            Command::Cursor(seq) => {
                let device = (caller.user.clone(), caller.device.clone());
                let waiting = self.cursors.entry(device).or_default();
                *waiting = (*waiting).max(seq.number());
                self.cursors_due.get_or_insert(now.mono + CURSOR_FLUSH_DELAY_MAX);
                Outcome::Nothing
            }
            Command::Request(request) => match request {
                Request::Send { to, client_id, draft } => {
                    self.send(now, caller, to, *client_id, draft, chosen)
                }
                Request::MarkRead { conversation, read_seq, peer_visible: _ } => {
                    self.mark_read(now, caller, conversation, read_seq.number())
                }
                Request::CreateGroup { client_id, conversation, title, users, policy } => {
                    let payload = Payload::Group(
                        conversation.clone(),
                        Arc::clone(title),
                        users.clone(),
                        *policy,
                    );
                    self.create_group(now, caller, *client_id, payload, chosen)
                }
                Request::AddMembers { conversation, users } => {
                    self.add_members(now, caller, conversation, users)
                }
                Request::RemoveMembers { conversation, users } => {
                    self.remove_members(now, caller, conversation, users)
                }
                Request::LeaveGroup { conversation } => self.leave_group(now, caller, conversation),
                reads => self.read(caller, reads, chosen, &mut next),
            },
        };
        Expected { outcome, next }
    }

    // Messages -----------------------------------------------------------------------------------

    fn send(
        &mut self,
        now: Now,
        caller: &Caller,
        to: &Destination,
        client_id: ClientMessageId,
        draft: &Draft,
        chosen: &Chosen,
    ) -> Outcome {
        let id = match to {
            Destination::Conversation(id) => id.clone(),
            Destination::Peer(peer) => ConversationId::direct(&caller.user, peer),
        };
        let payload = Payload::Message(id.clone(), draft.clone());
        if let Some(outcome) = self.accepted_before(caller, client_id, &payload, chosen) {
            return outcome;
        }
        if draft.content.len() > self.limits.content_bytes {
            return refused(ErrorCode::ContentTooLarge);
        }
        let mut talk = match (self.talks.get(&id), to) {
            (Some(talk), _) if talk.members.contains_key(&caller.user) => talk.clone(),
            (None, Destination::Peer(peer)) => {
                if self.is_full(&caller.user) || self.is_full(peer) {
                    return refused(ErrorCode::Forbidden);
                }
                let mut talk = self.empty(ConversationKind::Direct, "", HistoryPolicy::SinceJoin);
                talk.created = now.wall;
                talk.join(&caller.user, Role::Member, now);
                talk.join(peer, Role::Member, now);
                talk
            }
            _ => return refused(ErrorCode::NotFound),
        };
        if draft.reply_to.number() > talk.head() {
            return refused(ErrorCode::InvalidArgument);
        }
        let Some(message_id) = chosen.message else { return refused(ErrorCode::Unauthenticated) };
        assert!(self.message_ids.insert(message_id), "message id {message_id} was given before");
        let seq = talk.head() + 1;
        let before = talk.rows.iter().filter(|row| !row.draft.flags.uncounted).count() as u64;
        talk.rows.push(Message {
            id: message_id,
            sender: caller.user.clone(),
            device: caller.device.clone(),
            client_id,
            time: now.wall,
            ordinal: before + u64::from(!draft.flags.uncounted),
            draft: draft.clone(),
        });
        if let Some(place) = talk.places.get_mut(&caller.user) {
            // A sender has read what it writes; the message itself says so to its devices.
            place.read_up_to(seq);
            place.told = seq;
        }
        let members: Vec<UserId> = talk.members.keys().cloned().collect();
        self.talks.insert(id.clone(), talk);
        let pointer = EntryKind::Message { conversation: id.clone(), seq: HistorySeq::new(seq) };
        for user in &members {
            self.deliver(now, user, pointer.clone());
        }
        let reply = Reply::SendAck {
            id: message_id,
            conversation: id,
            seq: HistorySeq::new(seq),
            inbox_seq: self.head(&caller.user),
            time: now.wall,
            duplicate: false,
        };
        self.accept(now, caller, client_id, payload, reply)
    }

    /// The answer to an id that was used before.
    fn accepted_before(
        &self,
        caller: &Caller,
        client_id: ClientMessageId,
        payload: &Payload,
        chosen: &Chosen,
    ) -> Option<Outcome> {
        let device = (caller.user.clone(), caller.device.clone());
        let accepted = self.accepted.get(&device)?;
        let old = |known: &Accepted| known.time < self.latest.minus(self.limits.idempotency_window);
        match accepted.get(&client_id.number()) {
            Some(known) if chosen.stale && old(known) => Some(refused(ErrorCode::Stale)),
            Some(known) if known.payload != *payload => {
                Some(refused(ErrorCode::IdempotencyConflict))
            }
            Some(known) => {
                let mut reply = known.reply.clone();
                if let Reply::SendAck { duplicate, .. } | Reply::GroupCreated { duplicate, .. } =
                    &mut reply
                {
                    *duplicate = true;
                }
                Some(Outcome::Reply(reply))
            }
            // Once something is forgotten, nobody can say of an id below whether it was it.
            None if chosen.stale
                && accepted.values().any(old)
                && accepted.keys().any(|id| *id > client_id.number()) =>
            {
                Some(refused(ErrorCode::Stale))
            }
            None => None,
        }
    }

    fn accept(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        payload: Payload,
        reply: Reply,
    ) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        let accepted = Accepted { payload, reply: reply.clone(), time: now.wall };
        self.accepted.entry(device).or_default().insert(client_id.number(), accepted);
        Outcome::Reply(reply)
    }

    pub fn last_client_id(&self, caller: &Caller) -> u64 {
        let device = (caller.user.clone(), caller.device.clone());
        let last = self.accepted.get(&device).and_then(|ids| ids.keys().last());
        last.copied().unwrap_or(0)
    }

    // Members ------------------------------------------------------------------------------------

    fn empty(&self, kind: ConversationKind, title: &str, policy: HistoryPolicy) -> Talk {
        Talk {
            kind,
            title: title.into(),
            policy,
            created: Timestamp::default(),
            version: 1,
            rows: Vec::new(),
            members: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// Whether the user may have no more conversations.
    fn is_full(&self, user: &UserId) -> bool {
        let have = self.talks.values().filter(|talk| talk.places.contains_key(user)).count();
        have >= self.limits.conversations_per_user
    }

    fn create_group(
        &mut self,
        now: Now,
        caller: &Caller,
        client_id: ClientMessageId,
        payload: Payload,
        chosen: &Chosen,
    ) -> Outcome {
        if let Some(outcome) = self.accepted_before(caller, client_id, &payload, chosen) {
            return outcome;
        }
        let Payload::Group(wanted, title, users, policy) = &payload else { unreachable!() };
        let all: BTreeSet<&UserId> = users.iter().chain([&caller.user]).collect();
        if all.len() > self.limits.members_per_group {
            return refused(ErrorCode::TooManyMembers);
        }
        if all.iter().any(|user| self.is_full(user)) {
            return refused(ErrorCode::Forbidden);
        }
        let id = match wanted {
            Some(id) => id.clone(),
            None => match &chosen.group {
                Some(id) => id.clone(),
                None => return refused(ErrorCode::Unauthenticated),
            },
        };
        if self.talks.contains_key(&id) {
            assert!(wanted.is_some(), "the server chose an id that is taken: {id}");
            return refused(ErrorCode::AlreadyExists);
        }
        assert!(wanted.is_some() || id.has_server_form(), "not of the server's form: {id}");
        let mut talk = self.empty(ConversationKind::Group, title, *policy);
        talk.created = now.wall;
        for user in &all {
            let role = if **user == caller.user { Role::Owner } else { Role::Member };
            talk.join(user, role, now);
        }
        let everybody: Vec<UserId> = talk.members.keys().cloned().collect();
        let member_count = everybody.len() as u32;
        self.talks.insert(id.clone(), talk);
        let told = everybody.iter().cloned().collect();
        self.tell(now, caller, &id, MembershipAction::Created, &everybody, &told);
        let reply = Reply::GroupCreated {
            conversation: id,
            member_count,
            inbox_seq: self.head(&caller.user),
            duplicate: false,
        };
        self.accept(now, caller, client_id, payload, reply)
    }

    fn add_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Outcome {
        if let Err(outcome) = self.managed(caller, id) {
            return outcome;
        }
        let mut talk = self.talks[id].clone();
        let mut added = Vec::new();
        let mut outcomes = Vec::new();
        for user in users {
            outcomes.push(if talk.members.contains_key(user) {
                MemberOutcome::Unchanged
            } else if talk.members.len() >= self.limits.members_per_group
                || (self.is_full(user) && !talk.places.contains_key(user))
            {
                MemberOutcome::Limit
            } else {
                talk.join(user, Role::Member, now);
                added.push(user.clone());
                MemberOutcome::Changed
            });
        }
        let told = talk.members.keys().cloned().collect();
        self.changed(now, caller, id, talk, MembershipAction::Added, &added, &told, outcomes)
    }

    fn remove_members(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        users: &[UserId],
    ) -> Outcome {
        if let Err(outcome) = self.managed(caller, id) {
            return outcome;
        }
        let mut talk = self.talks[id].clone();
        let told = talk.members.keys().cloned().collect();
        let own = talk.members[&caller.user].role;
        let mut removed = Vec::new();
        let mut outcomes = Vec::new();
        for user in users {
            outcomes.push(match talk.members.get(user) {
                None => MemberOutcome::Unchanged,
                Some(member) if member.role >= own => MemberOutcome::Forbidden,
                Some(_) => {
                    talk.leave(user);
                    removed.push(user.clone());
                    MemberOutcome::Changed
                }
            });
        }
        self.changed(now, caller, id, talk, MembershipAction::Removed, &removed, &told, outcomes)
    }

    fn leave_group(&mut self, now: Now, caller: &Caller, id: &ConversationId) -> Outcome {
        let done = |inbox_seq| Outcome::Reply(Reply::Done { inbox_seq });
        let Some(mut talk) = self.talks.get(id).cloned() else {
            return refused(ErrorCode::NotFound);
        };
        let Some(own) = talk.members.get(&caller.user).cloned() else {
            let was_here = talk.places.contains_key(&caller.user);
            return if was_here { done(InboxSeq::ZERO) } else { refused(ErrorCode::NotFound) };
        };
        if talk.kind == ConversationKind::Direct {
            return refused(ErrorCode::Forbidden);
        }
        let told = talk.members.keys().cloned().collect();
        talk.leave(&caller.user);
        if own.role == Role::Owner {
            // A group does not stay without an owner: the longest there takes over.
            let heir = talk
                .members
                .iter_mut()
                .min_by_key(|(user, member)| (member.joined_seq, (*user).clone()));
            if let Some((_, heir)) = heir {
                heir.role = Role::Owner;
            }
        }
        let left = [caller.user.clone()];
        self.changed(now, caller, id, talk, MembershipAction::Left, &left, &told, Vec::new());
        done(self.head(&caller.user))
    }

    #[expect(clippy::too_many_arguments, reason = "one step shared by three requests")]
    fn changed(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        mut talk: Talk,
        action: MembershipAction,
        users: &[UserId],
        told: &BTreeSet<UserId>,
        outcomes: Vec<MemberOutcome>,
    ) -> Outcome {
        let member_count = talk.members.len() as u32;
        let mut inbox_seq = InboxSeq::ZERO;
        if !users.is_empty() {
            talk.version += 1;
            self.talks.insert(id.clone(), talk);
            self.tell(now, caller, id, action, users, told);
            inbox_seq = self.head(&caller.user);
        }
        Outcome::Reply(Reply::MemberItems { outcomes, member_count, inbox_seq })
    }

    fn managed(&self, caller: &Caller, id: &ConversationId) -> Result<(), Outcome> {
        let talk = self.talks.get(id).ok_or_else(|| refused(ErrorCode::NotFound))?;
        let member = talk.members.get(&caller.user).ok_or_else(|| refused(ErrorCode::NotFound))?;
        match talk.kind {
            ConversationKind::Group if member.role > Role::Member => Ok(()),
            _ => Err(refused(ErrorCode::Forbidden)),
        }
    }

    /// One membership entry for everybody who is or was concerned.
    fn tell(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        action: MembershipAction,
        users: &[UserId],
        told: &BTreeSet<UserId>,
    ) {
        let talk = &self.talks[id];
        let change = MembershipChange {
            conversation: id.clone(),
            action,
            by: caller.user.clone(),
            users: users.iter().take(ENTRY_USERS_MAX).cloned().collect(),
            user_count: users.len() as u32,
            member_count: talk.members.len() as u32,
            at: HistorySeq::new(talk.head()),
            role: None,
            title: Arc::clone(&talk.title),
        };
        for user in told {
            self.deliver(now, user, EntryKind::Membership(change.clone()));
        }
    }

    // Inboxes and read markers -------------------------------------------------------------------

    fn deliver(&mut self, now: Now, user: &UserId, kind: EntryKind) {
        let inbox = self.inboxes.entry(user.clone()).or_default();
        inbox.entries.push((now.wall, kind));
        inbox.trimmed = inbox.trimmed.max(inbox.head().saturating_sub(self.limits.inbox_entries));
        self.grown.insert(user.clone());
    }

    pub fn head(&self, user: &UserId) -> InboxSeq {
        InboxSeq::new(self.inboxes.get(user).map_or(0, Inbox::head))
    }

    pub fn first(&self, user: &UserId) -> InboxSeq {
        InboxSeq::new(self.inboxes.get(user).map_or(1, Inbox::first))
    }

    fn mark_read(
        &mut self,
        now: Now,
        caller: &Caller,
        id: &ConversationId,
        wanted: u64,
    ) -> Outcome {
        let newest = self.visible(&caller.user, id).last().copied().unwrap_or(0);
        let talk = self.talks.get_mut(id);
        let Some(place) = talk.and_then(|talk| talk.places.get_mut(&caller.user)) else {
            return refused(ErrorCode::NotFound);
        };
        let row = wanted.min(newest);
        if row > place.read_seq() {
            place.read_up_to(row);
            let key = (caller.user.clone(), id.clone());
            if !self.quiet.contains_key(&key) {
                self.announce(now, &key);
            }
        }
        let read_seq = self.talks[id].places[&caller.user].read_seq();
        Outcome::Reply(Reply::MarkRead {
            read_seq: HistorySeq::new(read_seq),
            unread: self.unread(&caller.user, id),
            unread_total: self.unread_total(&caller.user),
        })
    }

    /// Tells the user's devices where its marker is; then there is silence for a while.
    fn announce(&mut self, now: Now, key: &(UserId, ConversationId)) {
        let (user, id) = key;
        let talk = self.talks.get_mut(id);
        let Some(place) = talk.and_then(|talk| talk.places.get_mut(user)) else { return };
        place.told = place.read_seq();
        let read_seq = HistorySeq::new(place.told);
        self.deliver(
            now,
            user,
            EntryKind::Read { conversation: id.clone(), read_seq, marked_unread: false },
        );
        self.quiet.insert(key.clone(), now.mono + READ_ENTRY_INTERVAL);
    }

    fn is_untold(&self, (user, id): &(UserId, ConversationId)) -> bool {
        let place = self.talks.get(id).and_then(|talk| talk.places.get(user));
        place.is_some_and(|place| place.told < place.read_seq())
    }

    // Sessions -----------------------------------------------------------------------------------

    fn attach(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_max: u64,
    ) -> Outcome {
        let device = (caller.user.clone(), caller.device.clone());
        let have = self.devices.keys().filter(|(user, _)| *user == caller.user).count();
        if !self.devices.contains_key(&device) && have >= self.limits.devices_per_user {
            return refused(ErrorCode::TooManyDevices);
        }
        // READ entries that a crash swallowed. Between conversations no order is promised; the
        // store goes by key, in which an id comes after its length.
        let mut ids: Vec<ConversationId> = self.talks.keys().cloned().collect();
        ids.sort_by_key(|id| (id.as_str().len(), id.clone()));
        for id in ids {
            let key = (caller.user.clone(), id);
            if self.is_untold(&key) && !self.quiet.contains_key(&key) {
                self.announce(now, &key);
            }
        }
        let stored = self.devices.get(&device).copied().unwrap_or(0);
        let mut cursor = stored.max(self.cursors.get(&device).copied().unwrap_or(0));
        let compared = self.compare(now, caller, resume, missed_max, cursor);
        if let (Some(at), Verdict::UpToDate | Verdict::CatchUp) = (resume, compared.verdict) {
            cursor = cursor.max(at.seq.number());
        }
        self.devices.insert(device, cursor);
        Outcome::Attached(compared)
    }

    fn compare(
        &mut self,
        now: Now,
        caller: &Caller,
        resume: Option<Position>,
        missed_max: u64,
        cursor: u64,
    ) -> Compared {
        let oldest = now.wall.minus(self.limits.inbox_age);
        if let Some(inbox) = self.inboxes.get_mut(&caller.user) {
            while inbox.entries.get(inbox.trimmed as usize).is_some_and(|entry| entry.0 < oldest) {
                inbox.trimmed += 1;
            }
        }
        let (first, head) = (self.first(&caller.user), self.head(&caller.user));
        let too_long = match resume {
            None => Some(TooLongReason::NewDevice),
            Some(at) if at.epoch != self.epoch => Some(TooLongReason::Epoch),
            Some(at) if at.seq > head => Some(TooLongReason::Ahead),
            Some(at) if at.seq.number() + 1 < first.number() => Some(TooLongReason::Trimmed),
            Some(at) if missed_max > 0 && head.since(at.seq) > missed_max => {
                Some(TooLongReason::ClientLimit)
            }
            Some(_) => None,
        };
        let verdict = match too_long {
            Some(reason) => Verdict::TooLong(reason),
            None if resume.is_some_and(|at| at.seq == head) => Verdict::UpToDate,
            None => Verdict::CatchUp,
        };
        Compared {
            epoch: self.epoch,
            head,
            first,
            cursor: InboxSeq::new(cursor),
            verdict,
            snapshot: Default::default(),
            unread_total: self.unread_total(&caller.user),
            last_client_id: ClientMessageId::new(self.last_client_id(caller)),
        }
    }

    // Time, crashes ------------------------------------------------------------------------------

    /// When [`Model::on_timer`] next has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.quiet.values().copied().chain(self.cursors_due).min()
    }

    pub fn on_timer(&mut self, now: Now) {
        if self.cursors_due.is_some_and(|due| due <= now.mono) {
            self.write_cursors();
        }
        let due = self.quiet.iter().filter(|(_, until)| **until <= now.mono);
        let mut due: Vec<_> = due.map(|(key, until)| (*until, key.clone())).collect();
        due.sort();
        for (_, key) in due {
            self.quiet.remove(&key);
            if self.is_untold(&key) {
                self.announce(now, &key);
            }
        }
    }

    fn write_cursors(&mut self) {
        self.cursors_due = None;
        for (device, seq) in std::mem::take(&mut self.cursors) {
            if let Some(cursor) = self.devices.get_mut(&device) {
                *cursor = (*cursor).max(seq);
            }
        }
    }

    /// An orderly stop writes what waits.
    pub fn finish(&mut self, now: Now) {
        self.write_cursors();
        for until in self.quiet.values_mut() {
            *until = now.mono;
        }
        self.on_timer(now);
    }

    /// What a process loses when it ends.
    pub fn restart(&mut self) {
        self.cursors.clear();
        self.cursors_due = None;
        self.quiet.clear();
        self.grown.clear();
    }
}
