//! One request or command of some device.

use std::sync::Arc;

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, ConversationId, Epoch, UserId},
    message::{Draft, HistoryPolicy, MessageFlags, Role},
    request::{Destination, Direction, NoticeTo, Position, PreferencesChange, Request, Secret},
    seq::{HistorySeq, InboxSeq, MutationSeq},
    time::Timestamp,
};

use super::{Pages, Plan, STRANGER, Step, attach, user};
use crate::model::Model;

/// What a device may do next, and how often it does.
#[derive(Clone, Copy)]
enum What {
    Send,
    Again,
    Otherwise,
    Create,
    CreateEmpty,
    Add,
    Remove,
    Leave,
    Role,
    Title,
    Disband,
    MarkRead,
    MarkUnread,
    Hide,
    Clear,
    Prefer,
    Recall,
    Edit,
    Delete,
    Cancel,
    FetchMutations,
    FetchMessages,
    Readers,
    Fetch,
    List,
    Get,
    Unread,
    Members,
    Pull,
    Attach,
    Resume,
    CaughtUp,
    Cursor,
    Detach,
    Background,
    Follow,
    Ephemeral,
    Devices,
    Kick,
    Revoke,
    Notice,
    Register,
}

const WEIGHTS: [(u64, What); 42] = [
    (60, What::Send),
    (12, What::Again),
    (6, What::Otherwise),
    (8, What::Create),
    (4, What::CreateEmpty),
    (14, What::Add),
    (6, What::Remove),
    (4, What::Leave),
    (12, What::Role),
    (3, What::Title),
    (3, What::Disband),
    (16, What::MarkRead),
    (4, What::MarkUnread),
    (8, What::Hide),
    (3, What::Clear),
    (6, What::Prefer),
    (10, What::Recall),
    (14, What::Edit),
    (5, What::Delete),
    (4, What::Cancel),
    (8, What::FetchMutations),
    (8, What::FetchMessages),
    (8, What::Readers),
    (22, What::Fetch),
    (8, What::List),
    (5, What::Get),
    (4, What::Unread),
    (6, What::Members),
    (13, What::Pull),
    (14, What::Attach),
    (4, What::Resume),
    (3, What::CaughtUp),
    (8, What::Cursor),
    (4, What::Detach),
    (6, What::Background),
    (10, What::Follow),
    (8, What::Ephemeral),
    (4, What::Devices),
    (2, What::Kick),
    (1, What::Revoke),
    (8, What::Notice),
    (16, What::Register),
];

impl Plan {
    pub(super) fn command(&mut self, model: &Model) -> Step {
        let caller = self.caller(model);
        let what = WEIGHTS[self.dice.weighted(&WEIGHTS.map(|(weight, _)| weight))].1;
        if matches!(what, What::Again | What::Otherwise) && !self.attempts.is_empty() {
            return self.again(matches!(what, What::Otherwise));
        }
        let request = match what {
            What::Send | What::Again | What::Otherwise => self.send(model, &caller),
            What::Create => self.create(model, &caller),
            What::CreateEmpty => Request::CreateGroup {
                client_id: self.client_id(model, &caller),
                conversation: None,
                title: "".into(),
                users: Vec::new(),
                policy: HistoryPolicy::SinceJoin,
            },
            What::Add => Request::AddMembers {
                conversation: self.group(model, &caller.user),
                users: self.others(4),
            },
            What::Remove => Request::RemoveMembers {
                conversation: self.group(model, &caller.user),
                users: self.others(3),
            },
            What::Leave => {
                Request::LeaveGroup { conversation: self.conversation(model, &caller.user) }
            }
            What::Role => Request::SetRole {
                conversation: self.group(model, &caller.user),
                user: self.anybody(),
                role: *self.dice.pick(&[Role::Member, Role::Admin, Role::Admin, Role::Owner]),
            },
            What::Title => Request::SetTitle {
                conversation: self.group(model, &caller.user),
                title: Arc::from(*self.dice.pick(&["", "Tea", "Café"])),
            },
            What::Disband => {
                Request::DisbandGroup { conversation: self.group(model, &caller.user) }
            }
            What::MarkRead => {
                let conversation = self.conversation(model, &caller.user);
                let head = model.talks.get(&conversation).map_or(0, |talk| talk.head());
                let read_seq = HistorySeq::new(self.near(&[0, head / 2, head, head + 9]));
                let peer_visible = self.dice.chance(1, 2);
                Request::MarkRead { conversation, read_seq, peer_visible }
            }
            What::MarkUnread => {
                Request::MarkUnread { conversation: self.conversation(model, &caller.user) }
            }
            What::Hide => self.hide(model, &caller),
            What::Clear => {
                let (conversation, to) = self.message(model, &caller);
                Request::ClearConversation { conversation, to }
            }
            What::Prefer => self.prefer(model, &caller),
            What::Recall => {
                let (conversation, seq) = self.message(model, &caller);
                Request::Recall { conversation, seq }
            }
            What::Edit => self.edit(model, &caller),
            What::Delete => {
                let (conversation, seq) = self.message(model, &caller);
                Request::DeleteForAll { conversation, seq }
            }
            What::Cancel => {
                let client_id = self.client_id(model, &caller);
                let last = model.last_client_id(&caller);
                let old = last > 0 && self.dice.chance(2, 3);
                let client_id = if old { ClientMessageId::new(last) } else { client_id };
                Request::CancelSend { client_id }
            }
            What::FetchMutations => {
                let conversation = self.conversation(model, &caller.user);
                let head = model.talks.get(&conversation).map_or(0, |talk| talk.last_mutation());
                let after = MutationSeq::new(self.near(&[0, head / 2, head]));
                let limit = *self.dice.pick(&[1, 2, 5, 200]);
                Request::FetchMutations { conversation, after, limit }
            }
            What::FetchMessages => {
                let count = self.dice.below(4);
                Request::FetchMessages {
                    refs: (0..count).map(|_| self.message(model, &caller)).collect(),
                }
            }
            What::Readers => {
                let (conversation, seq) = self.message(model, &caller);
                let pages = Pages::Readers(conversation.clone(), seq.number());
                let page_token = self.token(&caller.user, &pages);
                let limit = *self.dice.pick(&[1, 2, 1000]);
                Request::GetReaders { conversation, seq, page_token, limit }
            }
            What::Fetch => {
                let conversation = self.conversation(model, &caller.user);
                self.fetch(model, &caller, conversation)
            }
            What::List => self.list(&caller),
            What::Get => {
                let conversations =
                    (0..3).map(|_| self.conversation(model, &caller.user)).collect();
                Request::GetConversations { conversations }
            }
            What::Unread => {
                let count = self.dice.below(3);
                let wanted = (0..count).map(|_| self.conversation(model, &caller.user));
                Request::GetUnread { conversations: wanted.collect(), explain: true }
            }
            What::Members => self.members(model, &caller),
            What::Pull => {
                let at = self.position(model, &caller);
                Request::SyncPull { after: at.seq, limit: self.dice.within(1, 8) as u32 }
            }
            What::Attach => {
                let resume = self.dice.chance(9, 10).then(|| self.position(model, &caller));
                let missed_entries = *self.dice.pick(&[0, 0, 0, 1, 4]);
                let mut attach = attach(resume, missed_entries);
                if let Command::Attach { platform, issued, background, .. } = &mut attach {
                    *platform = Arc::from(*self.dice.pick(&["ios 18", "ios 19", "web", ""]));
                    *background = self.dice.chance(1, 4);
                    if self.dice.chance(1, 4) {
                        *issued = Timestamp::from_millis(crate::driver::WALL_MS);
                    }
                }
                return Step::Do(self.anew(caller), attach);
            }
            What::Detach => return Step::Do(caller, Command::Detach),
            What::Background => Request::SetPresence { background: self.dice.chance(1, 2) },
            What::Follow => Request::SubscribePresence {
                users: self.others(3),
                unsubscribe: self.dice.chance(1, 4),
            },
            What::Ephemeral => Request::SendEphemeral {
                conversation: self.conversation(model, &caller.user),
                content_type: "typing".into(),
                content: Bytes::from_static(b"..."),
            },
            What::Notice => {
                let caller = Caller { admin: self.dice.chance(3, 4), ..caller };
                let to = match self.dice.below(4) {
                    0 => NoticeTo::Everyone,
                    1 => NoticeTo::User(self.anybody()),
                    _ => NoticeTo::Conversation(self.conversation(model, &caller.user)),
                };
                let client_id = self.client_id(model, &caller);
                self.contents += 1;
                let content = format!("notice {}", self.contents).into_bytes();
                let content = Bytes::from(content);
                let content_type = "text/plain".into();
                let request = Request::SendNotice { to, client_id, content_type, content };
                self.attempt(&caller, &request);
                return Step::Do(caller, Command::Request(request));
            }
            What::Register => Request::RegisterPush {
                provider: "hook".into(),
                token: Secret::new(*self.dice.pick(&["", "one", "two", "two", "two", "two"])),
            },
            What::Devices => Request::ListDevices,
            What::Kick => Request::KickDevice { device: self.device(model) },
            What::Revoke => Request::RevokeDevice { device: self.device(model) },
            What::Resume => {
                let at = self.position(model, &caller);
                return Step::Do(caller, Command::Resume(at));
            }
            What::CaughtUp => return Step::Do(caller, Command::CaughtUp),
            What::Cursor => {
                let head = model.head(&caller.user).number();
                let seq = InboxSeq::new(self.dice.within(0, head));
                return Step::Do(caller, Command::Cursor(seq));
            }
        };
        self.attempt(&caller, &request);
        Step::Do(caller, Command::Request(request))
    }

    /// Usually a message there is, often a new one; sometimes one that is not for the caller.
    pub(super) fn message(
        &mut self,
        model: &Model,
        caller: &Caller,
    ) -> (ConversationId, HistorySeq) {
        let conversation = self.conversation(model, &caller.user);
        let visible = model.visible(&caller.user, &conversation);
        let own =
            |row: &&u64| model.talks[&conversation].rows[**row as usize - 1].sender == caller.user;
        let own: Vec<u64> = visible.iter().filter(own).copied().collect();
        let newest = |rows: &[u64]| rows[rows.len().saturating_sub(6)..].to_vec();
        let row = match self.dice.below(10) {
            0..=4 if !own.is_empty() => *self.dice.pick(&newest(&own)),
            5..=7 if !visible.is_empty() => *self.dice.pick(&newest(&visible)),
            8 if !visible.is_empty() => *self.dice.pick(&visible),
            _ => {
                let head = model.talks.get(&conversation).map_or(0, |talk| talk.head());
                self.near(&[0, head / 2, head])
            }
        };
        (conversation, HistorySeq::new(row))
    }

    pub(super) fn edit(&mut self, model: &Model, caller: &Caller) -> Request {
        let (conversation, seq) = self.message(model, caller);
        self.contents += 1;
        let most = model.limits.content_bytes;
        let content = match self.dice.below(8) {
            0 => "the same".into(),
            1 => ".".repeat(most + 1),
            _ => format!("edit {}", self.contents),
        };
        Request::Edit {
            conversation,
            seq,
            content_type: Arc::from(*self.dice.pick(&["text/plain", "text/plain", "text/html"])),
            content: content.into(),
            base_revision: *self.dice.pick(&[None, None, None, Some(0), Some(1)]),
        }
    }

    pub(super) fn hide(&mut self, model: &Model, caller: &Caller) -> Request {
        let (conversation, seq) = self.message(model, caller);
        let count = self.dice.within(1, 3);
        let mut seqs: Vec<_> =
            (0..count).map(|_| HistorySeq::new(self.near(&[seq.number()]).max(1))).collect();
        // As a frame is read.
        seqs.sort_unstable();
        seqs.dedup();
        Request::DeleteForMe { conversation, seqs }
    }

    pub(super) fn prefer(&mut self, model: &Model, caller: &Caller) -> Request {
        let maybe =
            |dice: &mut crate::dice::Dice| *dice.pick(&[None, None, Some(true), Some(false)]);
        let dice = &mut self.dice;
        let change = PreferencesChange {
            pinned: maybe(dice),
            muted: maybe(dice),
            hidden: maybe(dice),
            draft: dice
                .pick(&[None, Some("so far"), Some("so far so good"), Some("")])
                .map(Bytes::from),
        };
        Request::SetPreferences { conversation: self.conversation(model, &caller.user), change }
    }

    pub(super) fn attempt(&mut self, caller: &Caller, request: &Request) {
        if matches!(
            request,
            Request::Send { .. } | Request::CreateGroup { .. } | Request::SendNotice { .. }
        ) {
            self.attempts.push((caller.clone(), request.clone()));
        }
    }

    /// Asks for something again that was asked before: the same, or another under the same id.
    pub(super) fn again(&mut self, otherwise: bool) -> Step {
        let from = self.attempts.len().saturating_sub(*self.dice.pick(&[1, 4, 1_000_000]));
        let at = self.dice.within(from as u64, self.attempts.len() as u64 - 1);
        let (caller, mut request) = self.attempts[at as usize].clone();
        if otherwise {
            match &mut request {
                Request::Send { draft, .. } => match self.dice.below(3) {
                    0 => draft.content = Bytes::from_static(b"other"),
                    1 => draft.mentions.push(user("b")),
                    _ => draft.flags.silent = !draft.flags.silent,
                },
                Request::CreateGroup { users, .. } => users.push(user("ab")),
                Request::SendNotice { content, .. } => *content = Bytes::from_static(b"other"),
                _ => {}
            }
        }
        Step::Do(caller, Command::Request(request))
    }

    /// Mostly the next one with some numbers left out; sometimes one that was left out.
    pub(super) fn client_id(&mut self, model: &Model, caller: &Caller) -> ClientMessageId {
        let last = model.last_client_id(caller);
        if last > 1 && self.dice.chance(1, 12) {
            return ClientMessageId::new(self.dice.within(1, last));
        }
        ClientMessageId::new(last + self.dice.within(1, 3))
    }

    pub(super) fn draft(&mut self, model: &Model, head: u64) -> Draft {
        self.contents += 1;
        let most = model.limits.content_bytes as u64;
        let bytes = match self.dice.below(20) {
            0 => most + 1,
            1..=3 => most,
            _ => 0,
        };
        let mut content = format!("message {}", self.contents).into_bytes();
        content.resize(content.len().max(bytes as usize), b'.');
        Draft {
            created_at: Timestamp::from_millis(self.dice.below(1 << 40)),
            content_type: "text/plain".into(),
            content: content.into(),
            reply_to: match self.dice.below(10) {
                0 => HistorySeq::new(self.near(&[head])),
                _ => HistorySeq::ZERO,
            },
            mentions: if self.dice.chance(1, 10) { self.others(2) } else { Vec::new() },
            flags: MessageFlags {
                silent: self.dice.chance(1, 8),
                uncounted: self.dice.chance(1, 5),
                no_push: self.dice.chance(1, 8),
            },
        }
    }

    pub(super) fn send(&mut self, model: &Model, caller: &Caller) -> Request {
        let to = match self.dice.below(3) {
            0 if caller.user.as_str() != STRANGER => Destination::Peer(self.anybody()),
            _ => Destination::Conversation(self.conversation(model, &caller.user)),
        };
        let head = match &to {
            Destination::Conversation(id) => model.talks.get(id).map_or(0, |talk| talk.head()),
            Destination::Peer(_) => 0,
        };
        let client_id = self.client_id(model, caller);
        Request::Send { to, client_id, draft: self.draft(model, head) }
    }

    pub(super) fn create(&mut self, model: &Model, caller: &Caller) -> Request {
        let policy = match self.dice.below(3) {
            0 => HistoryPolicy::SinceJoin,
            1 => HistoryPolicy::LastN(self.dice.within(1, 5) as u32),
            _ => HistoryPolicy::Full,
        };
        let chosen = self.dice.chance(1, 2);
        let name = self.name();
        Request::CreateGroup {
            client_id: self.client_id(model, caller),
            conversation: chosen.then_some(name),
            title: Arc::from(*self.dice.pick(&["", "Tea", "日本"])),
            users: self.others(4),
            policy,
        }
    }

    pub(super) fn fetch(
        &mut self,
        model: &Model,
        caller: &Caller,
        conversation: ConversationId,
    ) -> Request {
        let visible = model.visible(&caller.user, &conversation);
        let head = model.talks.get(&conversation).map_or(0, |talk| talk.head());
        let ends = [
            0,
            head,
            visible.first().copied().unwrap_or(0),
            visible.get(visible.len() / 2).copied().unwrap_or(0),
        ];
        let anchor = HistorySeq::new(self.near(&ends));
        Request::FetchHistory {
            conversation,
            direction: match self.dice.below(3) {
                0 => Direction::Newest,
                1 => Direction::Older(anchor),
                _ => Direction::Newer(anchor),
            },
            limit: *self.dice.pick(&[1, 2, 5, 50, 200]),
            max_bytes: *self.dice.pick(&[1, 700, 30_000, 512 * 1024]),
        }
    }

    /// A token given before for these pages, a foreign one, or none.
    pub(super) fn token(&mut self, user: &UserId, pages: &Pages) -> Bytes {
        let own = self.tokens.iter().filter(|(u, p, ..)| (u, p) == (user, pages));
        let own: Vec<_> = own.map(|(_, _, token, _)| token.clone()).collect();
        match self.dice.below(20) {
            0 => Bytes::from_static(b"a foreign one"),
            1..=9 if !own.is_empty() => self.dice.pick(&own).clone(),
            _ => Bytes::new(),
        }
    }

    pub(super) fn list(&mut self, caller: &Caller) -> Request {
        let own = self.snapshots.iter().find(|(user, _)| *user == caller.user);
        let own = own.map(|(_, token)| token.clone());
        let snapshot = match self.dice.below(8) {
            0 => Some(Bytes::from_static(b"short")),
            1..=3 => own,
            _ => None,
        };
        let pages = if snapshot.is_some() { Pages::Snapshot } else { Pages::Recents };
        Request::ListConversations {
            since: match self.dice.below(4) {
                0 => Timestamp::from_millis(crate::driver::WALL_MS + self.dice.below(60_000)),
                _ => Timestamp::default(),
            },
            snapshot,
            page_token: self.token(&caller.user, &pages),
            limit: *self.dice.pick(&[1, 2, 3, 200]),
        }
    }

    pub(super) fn members(&mut self, model: &Model, caller: &Caller) -> Request {
        let conversation = self.conversation(model, &caller.user);
        let page_token = self.token(&caller.user, &Pages::Members(conversation.clone()));
        Request::ListMembers { conversation, page_token, limit: *self.dice.pick(&[1, 2, 1000]) }
    }

    /// Where a device might say that its copy ends.
    pub fn position(&mut self, model: &Model, caller: &Caller) -> Position {
        let (first, head) = (model.first(&caller.user), model.head(&caller.user));
        let epoch = match self.dice.below(20) {
            0 => Epoch::new(model.epoch.number().wrapping_add(1)),
            _ => model.epoch,
        };
        let seq = match self.dice.below(6) {
            0 => head.number(),
            1 => self.near(&[first.number()]),
            2 => head.number() + self.dice.within(1, 3),
            _ => self.dice.within(first.number().saturating_sub(1), head.number()),
        };
        Position { epoch, seq: InboxSeq::new(seq) }
    }
}
