//! What happens in a run: the limits it runs under, who there is, and the next step.
//!
//! Steps are chosen by looking at the model, so that they mostly hit something: anchors near the
//! ends, cursors near the edge of what is kept, ids that exist, ids that are forbidden.

mod requests;
mod scripts;

use std::time::Duration;

use bytes::Bytes;
use roamd::{
    engine::{Caller, Command},
    id::{ConversationId, DeviceId, SessionId, UserId},
    limits::{Limits, MultiLogin},
    message::Role,
    request::{Position, Request},
    time::Timestamp,
};

use crate::{
    dice::Dice,
    model::{Model, PageKey},
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
        conversations_per_user: *dice.pick(&[3, 100, 100]),
        devices_per_user: *dice.pick(&[2, 3, 16]),
        fanout_members: *dice.pick(&[1, 2, 2, 3, 4, 500, 500]),
        recall_window: millis(*dice.pick(&[3_000, 300_000])),
        edit_window: millis(*dice.pick(&[3_000, 24 * 3_600_000])),
        multi_login: *dice.pick(&[MultiLogin::Many, MultiLogin::OnePerPlatform, MultiLogin::One]),
        heartbeat_interval: millis(*dice.pick(&[3_000, 30_000])),
        sends_per_second: 0,
        sessions_per_second: 0,
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
    /// A device of this user connects and catches up.
    Live(UserId),
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
    lives: u64,
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
    Readers(ConversationId, u64),
}

impl Plan {
    pub fn new(mut dice: Dice) -> Self {
        Self {
            crowd: dice.within(2, USERS.len() as u64),
            groups: dice.within(1, GROUPS.len() as u64),
            dice,
            attempts: Vec::new(),
            contents: 0,
            lives: 0,
            tokens: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// The next step; `Many` steps come as a vector.
    pub fn next(&mut self, model: &Model) -> Vec<Step> {
        const WEIGHTS: [u64; 16] = [300, 30, 45, 3, 45, 8, 4, 1, 2, 12, 12, 14, 12, 10, 14, 130];
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
            11 => self.regret(model),
            12 => self.tidy(model),
            13 => self.gather(model),
            14 => self.crowd(model),
            _ => vec![Step::Online],
        }
    }

    pub fn caller(&mut self, model: &Model) -> Caller {
        let user = if self.dice.chance(1, 40) { user(STRANGER) } else { self.anybody() };
        let devices = (model.limits.devices_per_user + 1).min(DEVICES.len());
        let at = if self.dice.chance(1, 2) { 0 } else { self.dice.below(devices as u64) };
        let device = device(at as usize);
        self.lives += 1;
        let online = model.sessions.online.get(&(user.clone(), device.clone()));
        let session = match online {
            Some(online) if self.dice.chance(3, 4) => online.session,
            // Connections count from one.
            _ => SessionId::new((1 << 20) + self.lives),
        };
        Caller { user, device, session, admin: false }
    }

    /// The same device in a new life.
    fn anew(&mut self, caller: Caller) -> Caller {
        self.lives += 1;
        Caller { session: SessionId::new((1 << 20) + self.lives), ..caller }
    }

    fn device(&mut self, model: &Model) -> DeviceId {
        let devices = (model.limits.devices_per_user + 1).min(DEVICES.len());
        device(self.dice.below(devices as u64) as usize)
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
}

/// A session opens, as most do.
pub fn attach(resume: Option<Position>, missed_entries: u32) -> Command {
    // Long after every revocation of a run.
    let issued = Timestamp::from_millis(crate::driver::WALL_MS * 2);
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
