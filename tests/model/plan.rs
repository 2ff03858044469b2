//! What happens in a run: the limits it runs under, who there is, and the next step.
//!
//! Steps are chosen by looking at the model, so that they mostly hit something: anchors near the
//! ends, cursors near the edge of what is kept, ids that exist, ids that are forbidden.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, SessionId, UserId},
    limits::Limits,
    message::{ConversationKind, Draft, HistoryPolicy, MessageFlags, Role},
    request::{Destination, Direction, Position, Request},
    seq::{HistorySeq, InboxSeq},
    time::Timestamp,
};

use super::{
    dice::Dice,
    model::{Model, PageKey, Talk},
};

/// Ids of which one is the beginning of another: keys must not mix them up.
const USERS: [&str; 5] = ["a", "aa", "ab", "b", "日本"];
const DEVICES: [&str; 4] = ["p", "pp", "t", "x"];
const GROUPS: [&str; 4] = ["c", "cc", "team", "a"];
/// Never in any conversation.
const STRANGER: &str = "stranger";

pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid id")
}

fn device(at: usize) -> DeviceId {
    DeviceId::new(DEVICES[at]).expect("a valid id")
}

/// Everybody there is.
pub fn users() -> Vec<UserId> {
    USERS.iter().chain([&STRANGER]).map(|name| user(name)).collect()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Small enough that every limit is met within one run; some runs have room.
pub fn limits(dice: &mut Dice) -> Limits {
    Limits {
        inbox_entries: *dice.pick(&[5, 5, 8, 30, 1000]),
        inbox_age: millis(*dice.pick(&[5_000, 60_000, 7 * 24 * 3_600_000])),
        idempotency_window: millis(*dice.pick(&[20_000, 9 * 24 * 3_600_000])),
        content_bytes: *dice.pick(&[40, 40, 20_000]),
        members_per_group: *dice.pick(&[2, 3, 100, 100]),
        conversations_per_user: *dice.pick(&[5, 100, 100]),
        devices_per_user: *dice.pick(&[2, 3, 16]),
        heartbeat_interval: millis(*dice.pick(&[3_000, 30_000])),
        ..Limits::default()
    }
}

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Step {
    Do(Caller, Command),
    /// Time passes, and timers run when they are due.
    Wait(Duration),
    /// The wall clock is set; the monotonic one is not.
    SetClock(i64),
    /// Something happens on a connection.
    Online,
    Flush,
    /// The process dies: what is not flushed is gone.
    Crash,
    /// An orderly stop and a new start.
    Reopen,
}

/// A request whose outcome its sender may not know.
type Attempt = (Caller, Request);

/// Chooses steps, and remembers what a client would.
pub struct Plan {
    pub dice: Dice,
    /// How many users act; the fewer, the more they have to do with each other.
    crowd: u64,
    /// What a name is picked from when a group is made.
    groups: u64,
    attempts: Vec<Attempt>,
    contents: u64,
    /// Tokens given for pages and what they mean: user, request name, token, key.
    pub tokens: Vec<(UserId, Pages, Bytes, PageKey)>,
    /// The latest snapshot token of each user.
    pub snapshots: Vec<(UserId, Bytes)>,
}

/// Lists that come in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    Recents,
    Snapshot,
    Members(ConversationId),
}

impl Plan {
    pub fn new(mut dice: Dice) -> Self {
        Self {
            crowd: dice.within(2, USERS.len() as u64),
            groups: dice.within(1, GROUPS.len() as u64),
            dice,
            attempts: Vec::new(),
            contents: 0,
            tokens: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// The next step; `Many` steps come as a vector.
    pub fn next(&mut self, model: &Model) -> Vec<Step> {
        const WEIGHTS: [u64; 12] = [300, 30, 45, 3, 45, 8, 4, 1, 2, 12, 12, 130];
        match self.dice.weighted(&WEIGHTS) {
            0 => vec![self.command(model)],
            1 => {
                let wait = *self.dice.pick(&[1, 100, 249, 250, 1_000, 1_999, 2_000, 5_000, 9_000]);
                vec![Step::Wait(millis(wait))]
            }
            2 => vec![Step::Wait(millis(self.dice.below(20)))],
            3 => vec![Step::SetClock(*self.dice.pick(&[-3_000, -1, 0, 1_500, 70_000]))],
            4 => vec![Step::Flush],
            5 => vec![Step::Crash],
            6 => vec![Step::Reopen],
            7 => self.burst(model),
            8 => self.walk(model),
            9 => self.reading(model),
            10 => self.churn(model),
            _ => vec![Step::Online],
        }
    }

    pub fn caller(&mut self, model: &Model) -> Caller {
        let user = if self.dice.chance(1, 40) { user(STRANGER) } else { self.anybody() };
        let devices = (model.limits.devices_per_user + 1).min(DEVICES.len());
        let at = if self.dice.chance(1, 2) { 0 } else { self.dice.below(devices as u64) };
        Caller {
            user,
            device: device(at as usize),
            session: SessionId::new(self.dice.below(1 << 20)),
            admin: false,
        }
    }

    fn anybody(&mut self) -> UserId {
        user(USERS[self.dice.below(self.crowd) as usize])
    }

    fn name(&mut self) -> ConversationId {
        ConversationId::new(GROUPS[self.dice.below(self.groups) as usize]).expect("a valid id")
    }

    fn others(&mut self, most: u64) -> Vec<UserId> {
        (0..self.dice.within(1, most)).map(|_| self.anybody()).collect()
    }

    /// Usually one the user has to do with; sometimes any; sometimes none there is.
    fn conversation(&mut self, model: &Model, user: &UserId) -> ConversationId {
        let own: Vec<_> =
            model.talks.iter().filter(|(_, talk)| talk.places.contains_key(user)).collect();
        if !own.is_empty() && self.dice.chance(8, 10) {
            return self.dice.pick(&own).0.clone();
        }
        let all: Vec<_> = model.talks.keys().collect();
        if !all.is_empty() && self.dice.chance(8, 10) {
            return (*self.dice.pick(&all)).clone();
        }
        self.name()
    }

    fn group(&mut self, model: &Model, user: &UserId) -> ConversationId {
        let role = |id: &ConversationId| {
            model.talks[id].members.get(user).is_some_and(|m| m.role > Role::Member)
        };
        let own: Vec<_> = model.talks.keys().filter(|id| role(id)).cloned().collect();
        if !own.is_empty() && self.dice.chance(8, 10) {
            return self.dice.pick(&own).clone();
        }
        self.conversation(model, user)
    }

    fn near(&mut self, seqs: &[u64]) -> u64 {
        let at = *self.dice.pick(seqs);
        (at + self.dice.below(4)).saturating_sub(self.dice.below(4))
    }

    fn command(&mut self, model: &Model) -> Step {
        const WEIGHTS: [u64; 20] =
            [60, 12, 8, 10, 6, 5, 16, 22, 8, 5, 4, 6, 5, 8, 14, 4, 3, 8, 4, 6];
        let caller = self.caller(model);
        let kind = self.dice.weighted(&WEIGHTS);
        if (kind == 1 || kind == 19) && !self.attempts.is_empty() {
            return self.again(kind == 19);
        }
        let request = match kind {
            0 | 1 | 19 => self.send(model, &caller),
            2 => self.create(model, &caller),
            3 => Request::AddMembers {
                conversation: self.group(model, &caller.user),
                users: self.others(4),
            },
            4 => Request::RemoveMembers {
                conversation: self.group(model, &caller.user),
                users: self.others(3),
            },
            5 => Request::LeaveGroup { conversation: self.conversation(model, &caller.user) },
            6 => {
                let conversation = self.conversation(model, &caller.user);
                let head = model.talks.get(&conversation).map_or(0, |talk| talk.head());
                let read_seq = HistorySeq::new(self.near(&[0, head / 2, head, head + 9]));
                Request::MarkRead { conversation, read_seq, peer_visible: false }
            }
            7 => {
                let conversation = self.conversation(model, &caller.user);
                self.fetch(model, &caller, conversation)
            }
            8 => self.list(&caller),
            9 => {
                let conversations =
                    (0..3).map(|_| self.conversation(model, &caller.user)).collect();
                Request::GetConversations { conversations }
            }
            10 => {
                let count = self.dice.below(3);
                let wanted = (0..count).map(|_| self.conversation(model, &caller.user));
                Request::GetUnread { conversations: wanted.collect(), explain: true }
            }
            11 => self.members(model, &caller),
            12 | 13 => {
                let at = self.position(model, &caller);
                Request::SyncPull { after: at.seq, limit: self.dice.within(1, 8) as u32 }
            }
            14 => {
                let resume = self.dice.chance(9, 10).then(|| self.position(model, &caller));
                let missed_entries = *self.dice.pick(&[0, 0, 0, 1, 4]);
                let command = attach(resume, missed_entries);
                return Step::Do(caller, command);
            }
            15 => {
                let at = self.position(model, &caller);
                return Step::Do(caller, Command::Resume(at));
            }
            16 => return Step::Do(caller, Command::CaughtUp),
            17 => {
                let head = model.head(&caller.user).number();
                let seq = InboxSeq::new(self.dice.within(0, head));
                return Step::Do(caller, Command::Cursor(seq));
            }
            _ => Request::CreateGroup {
                client_id: self.client_id(model, &caller),
                conversation: None,
                title: "".into(),
                users: Vec::new(),
                policy: HistoryPolicy::SinceJoin,
            },
        };
        self.attempt(&caller, &request);
        Step::Do(caller, Command::Request(request))
    }

    fn attempt(&mut self, caller: &Caller, request: &Request) {
        if matches!(request, Request::Send { .. } | Request::CreateGroup { .. }) {
            self.attempts.push((caller.clone(), request.clone()));
        }
    }

    /// Asks for something again that was asked before: the same, or another under the same id.
    fn again(&mut self, otherwise: bool) -> Step {
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
                _ => {}
            }
        }
        Step::Do(caller, Command::Request(request))
    }

    /// Mostly the next one with some numbers left out; sometimes one that was left out.
    fn client_id(&mut self, model: &Model, caller: &Caller) -> ClientMessageId {
        let last = model.last_client_id(caller);
        if last > 1 && self.dice.chance(1, 12) {
            return ClientMessageId::new(self.dice.within(1, last));
        }
        ClientMessageId::new(last + self.dice.within(1, 3))
    }

    fn draft(&mut self, model: &Model, head: u64) -> Draft {
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

    fn send(&mut self, model: &Model, caller: &Caller) -> Request {
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

    fn create(&mut self, model: &Model, caller: &Caller) -> Request {
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

    fn fetch(&mut self, model: &Model, caller: &Caller, conversation: ConversationId) -> Request {
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
    fn token(&mut self, user: &UserId, pages: &Pages) -> Bytes {
        let own = self.tokens.iter().filter(|(u, p, ..)| (u, p) == (user, pages));
        let own: Vec<_> = own.map(|(_, _, token, _)| token.clone()).collect();
        match self.dice.below(20) {
            0 => Bytes::from_static(b"a foreign one"),
            1..=9 if !own.is_empty() => self.dice.pick(&own).clone(),
            _ => Bytes::new(),
        }
    }

    fn list(&mut self, caller: &Caller) -> Request {
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
                0 => Timestamp::from_millis(super::driver::WALL_MS + self.dice.below(60_000)),
                _ => Timestamp::default(),
            },
            snapshot,
            page_token: self.token(&caller.user, &pages),
            limit: *self.dice.pick(&[1, 2, 3, 200]),
        }
    }

    fn members(&mut self, model: &Model, caller: &Caller) -> Request {
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

    /// So many sends of one device that what is remembered of them is cut; then some of them again.
    fn burst(&mut self, model: &Model) -> Vec<Step> {
        let caller = Caller { device: device(0), ..self.caller(model) };
        let mut last = model.last_client_id(&caller);
        let peer = self.anybody();
        let mut steps = vec![Step::Flush];
        for _ in 0..self.dice.within(250, 330) {
            last += self.dice.within(1, 2);
            let request = Request::Send {
                to: Destination::Peer(peer.clone()),
                client_id: ClientMessageId::new(last),
                draft: Draft {
                    content: Bytes::from(format!("burst {last}")),
                    ..self.draft(model, 0)
                },
            };
            self.attempt(&caller, &request);
            steps.push(Step::Do(caller.clone(), Command::Request(request)));
            if self.dice.chance(1, 40) {
                steps.push(Step::Wait(millis(self.dice.below(8_000))));
            }
        }
        steps.push(Step::Flush);
        for _ in 0..4 {
            let otherwise = self.dice.chance(1, 3);
            steps.push(self.again(otherwise));
        }
        let late = Request::Send {
            to: Destination::Peer(peer),
            client_id: ClientMessageId::new(self.dice.within(1, last)),
            draft: self.draft(model, 0),
        };
        steps.push(Step::Do(caller, Command::Request(late)));
        steps
    }

    /// One user comes and goes in one group, while others write; what it may see is looked at.
    fn churn(&mut self, model: &Model) -> Vec<Step> {
        fn owned(talk: &Talk) -> Option<&UserId> {
            let owner = talk.members.iter().find(|(_, member)| member.role == Role::Owner);
            owner.map(|(user, _)| user)
        }
        let groups = model.talks.iter().filter(|(_, talk)| talk.kind == ConversationKind::Group);
        let groups: Vec<_> = groups.filter_map(|(id, t)| Some((id, owned(t)?))).collect();
        if groups.is_empty() {
            return vec![self.command(model)];
        }
        let (group, owner) = *self.dice.pick(&groups);
        let (group, owner) = (group.clone(), Caller { user: owner.clone(), ..self.caller(model) });
        let guest = Caller { user: self.anybody(), ..self.caller(model) };
        let mut steps = Vec::new();
        for turn in 0..self.dice.within(4, 24) {
            let (conversation, users) = (group.clone(), vec![guest.user.clone()]);
            let who = if self.dice.chance(1, 2) { &owner } else { &guest };
            let (who, request) = match self.dice.below(12) {
                0 | 1 => (&owner, Request::AddMembers { conversation, users }),
                2 => (&owner, Request::RemoveMembers { conversation, users }),
                3 => (&guest, Request::LeaveGroup { conversation }),
                4..=7 => {
                    let to = Destination::Conversation(conversation);
                    let client_id = ClientMessageId::new(model.last_client_id(who) + turn + 1);
                    let draft = self.draft(model, 0);
                    (who, Request::Send { to, client_id, draft })
                }
                8 => {
                    let row = self.dice.below(model.talks[&group].head() + turn + 2);
                    let read_seq = HistorySeq::new(row);
                    (&guest, Request::MarkRead { conversation, read_seq, peer_visible: false })
                }
                9 => (&guest, Request::GetConversations { conversations: vec![conversation] }),
                _ => (&guest, self.fetch(model, &guest, conversation)),
            };
            steps.push(Step::Do(who.clone(), Command::Request(request)));
            if self.dice.chance(1, 6) {
                steps.push(Step::Flush);
            }
        }
        steps
    }

    /// Somebody reads on in all conversations, while the server may go down.
    fn reading(&mut self, model: &Model) -> Vec<Step> {
        let caller = self.caller(model);
        let places = |talk: &Talk| talk.places.contains_key(&caller.user);
        let own: Vec<_> = model.talks.iter().filter(|(_, talk)| places(talk)).collect();
        let mut steps = Vec::new();
        for (id, talk) in own {
            let read = talk.places[&caller.user].read_seq();
            for row in (read + 1..=talk.head() + 1).take(4) {
                let read_seq = HistorySeq::new(row);
                let request =
                    Request::MarkRead { conversation: id.clone(), read_seq, peer_visible: false };
                steps.push(Step::Do(caller.clone(), Command::Request(request)));
            }
        }
        // Turns of the conversations mix.
        for at in (1..steps.len()).rev() {
            let other = self.dice.below(at as u64 + 1) as usize;
            steps.swap(at, other);
        }
        let at = Position { epoch: model.epoch, seq: model.head(&caller.user) };
        let attach = attach(Some(at), 0);
        let extra = [
            vec![],
            vec![Step::Flush, Step::Crash, Step::Do(caller.clone(), attach.clone())],
            vec![Step::Reopen],
            vec![Step::Do(caller.clone(), attach)],
            vec![Step::Wait(millis(2_000))],
        ];
        let place = self.dice.below(steps.len() as u64 + 1) as usize;
        steps.splice(place..place, self.dice.pick(&extra).clone());
        steps
    }

    /// A device without anything: attach, page the snapshot, resume.
    fn walk(&mut self, model: &Model) -> Vec<Step> {
        let caller = self.caller(model);
        let attach = attach(None, 0);
        let at = Position { epoch: model.epoch, seq: model.head(&caller.user) };
        vec![
            Step::Do(caller.clone(), attach),
            Step::Flush,
            Step::Do(caller.clone(), Command::Resume(at)),
            Step::Do(caller, Command::CaughtUp),
            Step::Flush,
        ]
    }
}

/// A session opens, as most do.
pub fn attach(resume: Option<Position>, missed_entries: u32) -> Command {
    let issued = Timestamp::from_millis(super::driver::WALL_MS);
    let platform = "test".into();
    Command::Attach { resume, missed_entries, platform, issued, background: false }
}

/// Somebody who only looks.
pub fn reader_of(user: &UserId) -> Caller {
    Caller {
        user: user.clone(),
        device: DeviceId::new("reader").expect("a valid id"),
        session: SessionId::new(0),
        admin: false,
    }
}
