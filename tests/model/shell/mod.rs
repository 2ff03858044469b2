//! Stands for the daemon: connections with a session each, the directory of who is online, and the
//! order in which answers, displacements and news are handed out after a flush.

mod deliver;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use roamd::{
    auth::{Key, KeyRing, Scope, Scopes},
    engine::Caller,
    id::{DeviceId, SessionId, UserId},
    limits::HELLO_TIMEOUT,
    refusal::{ErrorCode, Refusal},
    reply::{DevicePresence, GoAwayReason, Reply},
    request::{ClientLimits, Hello, Incoming, Position, Request},
    seq::InboxSeq,
    session::{PROTOCOL, Session, SessionContext},
};

use crate::{
    client::{Client, End, Phase},
    driver::{Driver, Found},
    replica::Replica,
};

const SECRET: &[u8] = b"a secret for tests only, 32 bytes and more";
/// Connections at a time.
const CONNECTIONS_MAX: usize = 6;

pub struct Connection {
    pub id: u64,
    session: Session,
    pub client: Client,
    /// The socket takes nothing at the moment.
    stalled: bool,
    /// In the directory.
    online: bool,
    closed: bool,
    /// The engine has been told of it, and not of its end.
    attached: bool,
    /// Presence that waits for the socket.
    presence: BTreeMap<(UserId, DeviceId), DevicePresence>,
}

/// Everything that would be lost with the process, and what the devices keep.
pub struct Shell {
    pub connections: Vec<Connection>,
    context: Arc<SessionContext>,
    /// What devices have stored; they outlive connections and crashes.
    replicas: Vec<(Caller, Position, Replica)>,
    next_id: u64,
    /// So many commands find the engine too busy.
    overloaded: u64,
    /// Counts whatever goes into or comes out of a session.
    stirred: u64,
}

impl Shell {
    pub fn new(limits: roamd::limits::Limits) -> Result<Self, Found> {
        let key = Key::hs256(SECRET).map_err(|e| e.to_string())?;
        let keys = KeyRing::new([key]).map_err(|e| e.to_string())?;
        Ok(Self {
            connections: Vec::new(),
            context: Arc::new(SessionContext::new(keys, limits)),
            replicas: Vec::new(),
            next_id: 1,
            overloaded: 0,
            stirred: 0,
        })
    }
}

impl Driver {
    /// One thing that happens on a connection.
    pub fn online(&mut self) -> Result<(), Found> {
        let count = self.shell.connections.len();
        if count == 0 || (count < CONNECTIONS_MAX && self.plan.dice.chance(1, 5)) {
            return self.connect(None).map(|_| ());
        }
        let at = self.plan.dice.below(count as u64) as usize;
        let open = self.shell.connections[at].client.is_open();
        match self.plan.dice.below(40) {
            0..=11 if open => self.ack(at),
            12..=15 if open => self.resume(at),
            16 | 17 if open => {
                let (client, now) = (&self.shell.connections[at].client, self.now);
                let (ack, req_id) = (InboxSeq::new(client.ackable()), client.next_req_id);
                let client_time_ms = self.plan.dice.below(1 << 40);
                let pong = Reply::Pong { client_time_ms, time: now.wall };
                self.say(at, ack, Request::Ping { client_time_ms })?;
                self.owe(at, req_id, pong);
                Ok(())
            }
            18 | 19 if open => self.misbehave(at),
            20 if open => {
                self.end(at, End::Quiet);
                let ack = InboxSeq::new(self.shell.connections[at].client.ackable());
                self.say(at, ack, Request::Bye)
            }
            21..=25 => {
                let connection = &mut self.shell.connections[at];
                connection.stalled = !connection.stalled;
                let line = format!("{} stalled: {}", connection.id, connection.stalled);
                self.note(line);
                Ok(())
            }
            26 | 27 => {
                self.note(format!("{} is cut", self.shell.connections[at].id));
                self.leave(at)?;
                self.shell.connections.remove(at);
                Ok(())
            }
            28 if self.plan.dice.chance(1, 4) => {
                self.note("drain".into());
                for at in 0..self.shell.connections.len() {
                    self.end(at, End::Away(GoAwayReason::Draining));
                    self.shell.connections[at].session.handle_drain();
                }
                Ok(())
            }
            29 => {
                self.shell.overloaded = self.plan.dice.within(1, 3);
                self.note(format!("{} commands find no room", self.shell.overloaded));
                Ok(())
            }
            30..=33 => self.settle(),
            _ => self.connect(None).map(|_| ()),
        }
    }

    pub fn is_connected(&self, session: SessionId) -> bool {
        self.shell.connections.iter().any(|connection| connection.id == session.number())
    }

    /// Says a request on an open connection of the device, if there is one.
    pub fn say_for(&mut self, caller: &Caller, request: &Request) -> Result<bool, Found> {
        let of = |connection: &Connection| {
            let client = &connection.client;
            client.is_open() && (&client.user, &client.device) == (&caller.user, &caller.device)
        };
        let Some(at) = self.shell.connections.iter().position(of) else { return Ok(false) };
        let stored = self.shell.connections[at].client.ackable();
        let ack = if self.plan.dice.chance(1, 4) { stored } else { 0 };
        self.say(at, InboxSeq::new(ack), request.clone())?;
        Ok(true)
    }

    /// A device of the user comes and is brought up to date, as it should be.
    pub fn live(&mut self, user: &UserId) -> Result<(), Found> {
        let id = self.connect(Some(user))?;
        self.settle()?;
        let Some(at) = self.shell.connections.iter().position(|c| c.id == id) else {
            return Ok(());
        };
        if let Phase::TooLong(told) = self.shell.connections[at].client.phase {
            self.say(at, InboxSeq::ZERO, Request::Resume(told))?;
            self.settle()?;
        }
        Ok(())
    }

    /// A connection: of anybody, who may do odd things, or of this user, who does not.
    fn connect(&mut self, calm: Option<&UserId>) -> Result<u64, Found> {
        let mut caller = self.plan.caller(&self.model);
        if let Some(user) = calm {
            caller.user = user.clone();
        }
        let now = self.now;
        let id = self.shell.next_id;
        self.shell.next_id += 1;
        let context = Arc::clone(&self.shell.context);
        let mut client =
            Client::new(caller.user.clone(), caller.device.clone(), now.mono + HELLO_TIMEOUT);
        let session = Session::new(Arc::clone(&context), SessionId::new(id), now);
        let own = |held: &&(Caller, Position, Replica)| {
            (&held.0.user, &held.0.device) == (&caller.user, &caller.device)
        };
        let replica = self.shell.replicas.iter().find(own).cloned();
        let copy = replica.as_ref().map(|(.., copy)| copy.clone());
        let replica = replica.map(|(_, at, _)| at);
        if let Some(at) = replica
            && at.seq > self.durable.head(&caller.user)
        {
            return Err(format!("{caller:?} stored {} which the server does not have", at.seq));
        }
        let resume = match if calm.is_some() { 9 } else { self.plan.dice.below(10) } {
            0 => None,
            1 => Some(self.plan.position(&self.model, &caller)),
            _ => replica,
        };
        client.copy = match copy {
            Some(copy) if resume == replica => copy,
            // Whatever it has before this is not looked at.
            _ => Replica::of_everything(&self.model, &caller.user),
        };
        // What it claims beyond the end may be there before anybody looks.
        client.honest = resume.is_none_or(|at| at.seq <= self.model.head(&caller.user));
        let cursors = if self.plan.dice.chance(3, 4) { client.copy.cursors() } else { Vec::new() };
        let limits = ClientLimits {
            unacked_entries: *self.plan.dice.pick(&[0, 0, 1, 3, 10]),
            unacked_bytes: *self.plan.dice.pick(&[0, 0, 1, 300, 5_000]),
            batch_bytes: *self.plan.dice.pick(&[0, 0, 1, 500]),
            missed_entries: *self.plan.dice.pick(&[0, 0, 0, 3]),
        };
        let (mut lives, mut scopes) = (Duration::from_secs(86_400), Scopes::of(&[Scope::Client]));
        let (mut protocol, mut spoilt) = ((PROTOCOL, PROTOCOL + 1), "");
        let odd = if calm.is_some() { 59 } else { self.plan.dice.below(60) };
        let end = match odd {
            0 => {
                protocol = (0, 0);
                Some(ErrorCode::ClientTooOld)
            }
            1 => {
                protocol = (PROTOCOL + 1, PROTOCOL + 9);
                Some(ErrorCode::ServerTooOld)
            }
            2 => {
                spoilt = "x";
                Some(ErrorCode::Unauthenticated)
            }
            3 => {
                scopes = Scopes::NONE;
                Some(ErrorCode::ForbiddenScope)
            }
            4 => {
                lives = Duration::ZERO;
                Some(ErrorCode::TokenExpired)
            }
            5 | 6 => {
                lives = Duration::from_secs(3);
                None
            }
            7 => Some(ErrorCode::HelloExpected),
            _ => None,
        };
        let other = caller.device.as_str() == "p" && odd == 8;
        let device = roamd::id::DeviceId::new("q").ok().filter(|_| other);
        let end = if other { Some(ErrorCode::Unauthenticated) } else { end };
        // Whole seconds, rounded down first, so that the end is known to the millisecond.
        let made = roamd::time::Timestamp::from_millis(now.wall.millis() / 1000 * 1000);
        let token = context
            .keys
            .mint(&caller.user, device.as_ref(), scopes, lives, made)
            .map_err(|e| e.to_string())?;
        let left = made.plus(lives).millis().saturating_sub(now.wall.millis());
        client.agree(&self.model, limits, resume.map_or(0, |at| at.seq.number()));
        let background = self.plan.dice.chance(1, 4);
        let platform = *self.plan.dice.pick(&["ios 18", "IOS 19", "web", ""]);
        let hello = Hello {
            protocol_min: protocol.0,
            protocol_max: protocol.1,
            token: format!("{token}{spoilt}").into(),
            device: caller.device.clone(),
            platform: platform.into(),
            resume,
            limits,
            cursors,
            background,
            features: Vec::new(),
        };
        let line = format!("{id} connects: {caller:?} {resume:?} {limits:?} odd {odd}");
        self.note(line);
        let stalled = calm.is_none() && self.plan.dice.chance(1, 10);
        self.shell.connections.push(Connection {
            id,
            session,
            client,
            stalled,
            online: false,
            closed: false,
            attached: false,
            presence: BTreeMap::new(),
        });
        let at = self.shell.connections.len() - 1;
        if odd == 9 {
            // Says nothing at all.
            return Ok(id);
        }
        if let Some(code) = end {
            self.end(at, End::Error(code));
        } else {
            self.shell.connections[at].client.expires =
                Some(now.mono + Duration::from_millis(left));
        }
        let request = match odd {
            7 => Request::Ping { client_time_ms: 1 },
            _ => Request::Hello(hello),
        };
        self.say(at, InboxSeq::ZERO, request)?;
        Ok(id)
    }

    fn say(&mut self, at: usize, ack: InboxSeq, request: Request) -> Result<(), Found> {
        let hold = self.model.limits.heartbeat_interval * 3;
        let now = self.now;
        let connection = &mut self.shell.connections[at];
        if !connection.session.wants_input() {
            // As the daemon: what is not read waits in the socket; here it is not said at all.
            return Ok(());
        }
        let client = &mut connection.client;
        let req_id = client.next_req_id;
        client.next_req_id += 1;
        client.ack(ack.number());
        match &request {
            Request::Ack(seq) => client.ack(seq.number().min(client.stored)),
            Request::Bye | Request::Unknown => {}
            Request::Hello(_) if client.phase == Phase::Greeting(0) => {
                client.phase = Phase::Greeting(req_id);
                client.asked.insert(req_id, None);
            }
            Request::Resume(at) if matches!(client.phase, Phase::TooLong(_)) => {
                client.phase = Phase::Resuming(req_id, *at);
                client.asked.insert(req_id, None);
            }
            _ => {
                client.asked.insert(req_id, None);
            }
        }
        if connection.session.is_open() {
            connection.client.silence = now.mono + hold;
        }
        let line = format!("{} says {req_id}, ack {ack}: {request:?}", connection.id);
        self.note(line);
        self.shell.connections[at].session.handle_frame(now, Incoming { req_id, ack, request });
        Ok(())
    }

    fn ack(&mut self, at: usize) -> Result<(), Found> {
        let client = &self.shell.connections[at].client;
        let (acked, stored) = (client.acked, client.ackable());
        let seq = match self.plan.dice.below(4) {
            0 => self.plan.dice.within(acked.min(stored), stored),
            1 => self.plan.dice.below(stored + 1),
            _ => stored,
        };
        self.say(at, InboxSeq::ZERO, Request::Ack(InboxSeq::new(seq)))
    }

    /// After TooLong: usually what was told; sometimes something else.
    fn resume(&mut self, at: usize) -> Result<(), Found> {
        let client = &self.shell.connections[at].client;
        let Phase::TooLong(told) = client.phase else { return self.ack(at) };
        let caller = Caller {
            user: client.user.clone(),
            device: client.device.clone(),
            session: SessionId::new(0),
            admin: false,
        };
        let position = match self.plan.dice.below(6) {
            0 => self.plan.position(&self.model, &caller),
            _ => told,
        };
        self.say(at, InboxSeq::ZERO, Request::Resume(position))
    }

    fn misbehave(&mut self, at: usize) -> Result<(), Found> {
        let Connection { client, stalled, .. } = &self.shell.connections[at];
        let beyond = InboxSeq::new(self.model.head(&client.user).number().max(client.stored) + 5);
        // To whoever reads nothing a TooLong may be on its way, after which Resume is right.
        let streaming = matches!(client.phase, Phase::Streaming { .. }) && !stalled;
        let zero = InboxSeq::ZERO;
        match self.plan.dice.below(4) {
            0 => {
                self.end(at, End::Error(ErrorCode::AckBeyondSent));
                self.say(at, beyond, Request::GetUnread { conversations: vec![], explain: true })
            }
            1 => {
                self.end(at, End::Error(ErrorCode::AckBeyondSent));
                self.say(at, zero, Request::Ack(beyond))
            }
            2 if streaming => {
                self.end(at, End::Error(ErrorCode::WrongState));
                let position = Position { epoch: self.model.epoch, seq: zero };
                self.say(at, zero, Request::Resume(position))
            }
            _ => {
                let req_id = client.next_req_id;
                self.say(at, zero, Request::Unknown)?;
                let client = &mut self.shell.connections[at].client;
                client.asked.insert(req_id, None);
                let detail = "this server knows no such request";
                let refusal = Refusal::new(ErrorCode::UnknownRequest, detail);
                self.owe(at, req_id, Reply::Refused(refusal));
                Ok(())
            }
        }
    }

    fn end(&mut self, at: usize, end: End) {
        self.shell.connections[at].client.ends.push(end);
    }

    /// The reply to a request is known now.
    fn owe(&mut self, at: usize, req_id: u64, reply: Reply) {
        if let Some(due) = self.shell.connections[at].client.asked.get_mut(&req_id) {
            *due = Some(reply);
        }
    }
}
