//! Devices with connections: what they say, what they wait for, when all have come to rest.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use roamd::{
    auth::{Scope, Scopes},
    engine::{Answer, Caller, Command},
    id::{DeviceId, UserId},
    reply::{PresenceState, Reply, Verdict},
    request::{ClientLimits, Hello, Position, Request},
    seq::InboxSeq,
    session::PROTOCOL,
    wire::proto::{self, server_frame::Body},
};

use super::{
    bodies::body,
    client::{Client, End, Phase},
    compare::{chosen, pages},
    driver::{Found, Live},
    invariant::Invariant,
    model::Outcome,
    replica::Replica,
    wire,
    witness::{Connection as Socket, Trouble},
};

/// How long a reply may take, and all to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time; the oldest gives way.
const CONNECTIONS_MAX: usize = 6;

pub struct Connection {
    pub id: u64,
    pub caller: Caller,
    pub client: Client,
    socket: Socket,
    /// Frames that came and were not looked at.
    pub waiting: VecDeque<proto::ServerFrame>,
    /// Requests and what the server was asked by them.
    pub commands: BTreeMap<u64, Command>,
    pub gone: bool,
    /// States of devices that may be told, in order.
    pub presence: BTreeMap<(UserId, DeviceId), Vec<PresenceState>>,
}

impl Connection {
    pub fn flush(&mut self) -> Result<(), Found> {
        // Whether it is gone, reading tells.
        let _ = self.socket.flush();
        Ok(())
    }

    /// One more frame; false: the connection is gone.
    pub fn read(&mut self) -> Result<bool, Found> {
        match self.socket.receive() {
            Ok(frame) => {
                self.waiting.push_back(frame);
                Ok(true)
            }
            Err(Trouble::Gone(_)) => {
                self.gone = true;
                Ok(false)
            }
            Err(Trouble::Wrong(text)) => Err(text),
        }
    }

    fn is_useful(&self) -> bool {
        !self.gone && self.client.is_open()
    }
}

impl Live {
    pub(super) fn at(&self, id: u64) -> Option<usize> {
        self.connections.iter().position(|connection| connection.id == id)
    }

    pub(super) fn open_of(&self, user: &UserId, device: &DeviceId) -> Option<u64> {
        let of =
            |c: &&Connection| c.is_useful() && (&c.caller.user, &c.caller.device) == (user, device);
        self.connections.iter().find(of).map(|connection| connection.id)
    }

    /// The session of a device, which comes if it is not there; none: it may not.
    pub(super) fn session_of(
        &mut self,
        user: &UserId,
        device: &DeviceId,
    ) -> Result<Option<u64>, Found> {
        match self.open_of(user, device) {
            Some(id) => Ok(Some(id)),
            None => self.login(user, device),
        }
    }

    /// A device comes and is brought up to date.
    pub(super) fn login(&mut self, user: &UserId, device: &DeviceId) -> Result<Option<u64>, Found> {
        if self.connections.len() >= CONNECTIONS_MAX {
            let id = self.connections[1].id;
            self.bye(id)?;
            self.settle()?;
        }
        let id = self.connect(user, device)?;
        self.settle()?;
        let Some(at) = self.at(id) else { return Ok(None) };
        if let Phase::TooLong(told) = self.connections[at].client.phase {
            let request = Request::Resume(told);
            let req_id = self.say(at, InboxSeq::ZERO, &request)?;
            self.connections[at].flush()?;
            if let Some(body) = self.reply_to(at, req_id)? {
                self.apply(at, req_id, Command::Resume(told), &body)?;
            }
            self.settle()?;
        }
        Ok(self.open_of(user, device))
    }

    pub(super) fn hello(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        resume: Option<Position>,
        client: &Client,
    ) -> Result<(Request, Command, ClientLimits), Found> {
        let limits = ClientLimits {
            unacked_entries: *self.plan.dice.pick(&[0, 0, 0, 3, 10]),
            unacked_bytes: *self.plan.dice.pick(&[0, 0, 0, 5_000]),
            batch_bytes: *self.plan.dice.pick(&[0, 0, 500]),
            missed_entries: *self.plan.dice.pick(&[0, 0, 0, 3]),
        };
        let cursors = if self.plan.dice.chance(3, 4) { client.copy.cursors() } else { Vec::new() };
        let background = self.plan.dice.chance(1, 4);
        let platform: std::sync::Arc<str> =
            (*self.plan.dice.pick(&["ios 18", "IOS 19", "web", ""])).into();
        let (issued, lives) = (self.issued(), Duration::from_secs(86_400));
        let scopes = Scopes::of(&[Scope::Client, Scope::Admin]);
        let token = self.keys.mint(user, None, scopes, lives, issued).map_err(|e| e.to_string())?;
        let hello = Hello {
            protocol_min: PROTOCOL,
            protocol_max: PROTOCOL,
            token: token.as_str().into(),
            device: device.clone(),
            platform: platform.clone(),
            resume,
            limits,
            cursors,
            background,
            features: Vec::new(),
        };
        let missed_entries = limits.missed_entries;
        let attach = Command::Attach { resume, missed_entries, platform, issued, background };
        Ok((Request::Hello(hello), attach, limits))
    }

    /// A connection that has not said anything.
    pub(super) fn accept(&mut self, caller: Caller, id: u64) -> Result<usize, Found> {
        let socket = Socket::open(self.address).map_err(|e| e.to_string())?;
        socket.be_patient(PATIENCE).map_err(|e| e.to_string())?;
        let far = Instant::now() + Duration::from_secs(3600);
        let client = Client::new(caller.user.clone(), caller.device.clone(), far);
        self.connections.push(Connection {
            id,
            caller,
            client,
            socket,
            waiting: VecDeque::new(),
            commands: BTreeMap::new(),
            gone: false,
            presence: BTreeMap::new(),
        });
        Ok(self.connections.len() - 1)
    }

    pub(super) fn connect(&mut self, user: &UserId, device: &DeviceId) -> Result<u64, Found> {
        let id = self.next_id;
        self.next_id += 1;
        let caller = self.caller(user, device, id);
        let own =
            |held: &&(Caller, Position, Replica)| (&held.0.user, &held.0.device) == (user, device);
        let held = self.replicas.iter().find(own).cloned();
        let resume = match self.plan.dice.below(8) {
            0 => None,
            _ => held.as_ref().map(|(_, at, _)| *at),
        };
        let at = self.accept(caller, id)?;
        self.connections[at].client.copy = match held {
            Some((_, _, copy)) if resume.is_some() => copy,
            _ => Replica::of_everything(&self.model, user),
        };
        let empty = Client::new(user.clone(), device.clone(), Instant::now());
        let client = std::mem::replace(&mut self.connections[at].client, empty);
        let (request, attach, limits) = self.hello(user, device, resume, &client)?;
        let connection = &mut self.connections[at];
        connection.client = client;
        connection.client.agree(&self.model, limits, resume.map_or(0, |at| at.seq.number()));
        self.note(format!("{id} connects: {user} {device} {resume:?} {limits:?}"));
        self.count("connections");
        let sent = Instant::now();
        let req_id = self.say(at, InboxSeq::ZERO, &request)?;
        self.connections[at].flush()?;
        if let Some(body) = self.reply_to(at, req_id)? {
            self.took(sent);
            if let (Body::Welcome(welcome), 0) = (&body, self.model.epoch.number()) {
                self.model.epoch = roamd::id::Epoch::new(welcome.epoch);
            }
            self.apply(at, req_id, attach, &body)?;
        }
        Ok(id)
    }

    /// Puts a frame into the buffer of a connection.
    pub(super) fn say(
        &mut self,
        at: usize,
        ack: InboxSeq,
        request: &Request,
    ) -> Result<u64, Found> {
        let connection = &mut self.connections[at];
        let req_id = connection.socket.ask(body(request), ack.number());
        let client = &mut connection.client;
        let before = client.acked;
        client.ack(ack.number());
        match request {
            Request::Ack(seq) => client.ack(seq.number().min(client.stored)),
            Request::Bye => {}
            Request::Hello(_) => {
                client.phase = Phase::Greeting(req_id);
                client.asked.insert(req_id, None);
            }
            Request::Resume(at) => {
                client.phase = Phase::Resuming(req_id, *at);
                client.asked.insert(req_id, None);
            }
            _ => {
                client.asked.insert(req_id, None);
            }
        }
        // An ack on the way is a command as well; the daemon writes it down by time.
        let seq = match request {
            Request::Ack(seq) => ack.max(*seq),
            _ => ack,
        };
        if seq.number() > before {
            let (now, caller) = (self.now(), self.connections[at].caller.clone());
            self.model.apply(now, &caller, &Command::Cursor(seq), &Default::default());
        }
        Ok(req_id)
    }

    /// Reads until the reply has come; none: the connection is gone.
    pub(super) fn reply_to(&mut self, at: usize, req_id: u64) -> Result<Option<Body>, Found> {
        let connection = &mut self.connections[at];
        loop {
            let reply = connection.waiting.iter().find(|frame| frame.req_id == req_id);
            if let Some(body) = reply.and_then(|frame| frame.body.clone()) {
                return Ok(Some(body));
            }
            if connection.gone || !connection.read()? {
                return Ok(None);
            }
        }
    }

    /// A command was done: so does the model, and what it says is what the reply must be.
    pub(super) fn apply(
        &mut self,
        at: usize,
        req_id: u64,
        command: Command,
        body: &Body,
    ) -> Result<(), Found> {
        let mut now = self.now();
        let mut what = Default::default();
        match body {
            Body::SendAck(ack) if !ack.duplicate => {
                now.wall = roamd::time::Timestamp::from_millis(ack.time_ms);
                what = roamd_chosen_message(ack.message_id);
            }
            Body::GroupCreated(made) if !made.duplicate => {
                what = chosen(&Answer::Reply(Reply::GroupCreated {
                    conversation: wire::conversation(&made.conversation_id)?,
                    member_count: 0,
                    inbox_seq: InboxSeq::ZERO,
                    duplicate: false,
                }));
            }
            Body::Error(error) => {
                what = chosen(&Answer::Reply(Reply::Refused(wire::refusal(error)?)));
            }
            _ => {}
        }
        let caller = self.connections[at].caller.clone();
        if let Some((of, token)) = pages(&command) {
            let known = self.plan.tokens.iter();
            let mut known = known.filter(|(u, p, t, _)| (u, p, t) == (&caller.user, &of, &token));
            what.page = known.next().map(|(.., key)| key.clone());
        }
        let (expected, next) = self.model.apply(now, &caller, &command, &what);
        let outcome = expected.at(&self.model);
        let next = match &outcome {
            Outcome::Reply(Reply::ReaderPage { users, .. }) => {
                users.last().map(|last| (0, last.to_string()))
            }
            _ => next,
        };
        let token = match body {
            Body::ConversationPage(page) => page.next_page_token.clone(),
            Body::MemberPage(page) => page.next_page_token.clone(),
            Body::ReaderPage(page) => page.next_page_token.clone(),
            _ => Default::default(),
        };
        if let (Some((of, _)), Some(key), false) = (pages(&command), next, token.is_empty()) {
            self.plan.tokens.push((caller.user.clone(), of, token, key));
        }
        let attached = matches!(outcome, Outcome::Attached(_));
        if let (Command::Resume(at), Outcome::Resumed(compared)) = (&command, &outcome)
            && !matches!(compared.verdict, Verdict::TooLong(_))
        {
            // Whoever goes on from there has everything before it.
            self.model.apply(now, &caller, &Command::Cursor(at.seq), &Default::default());
        }
        let connection = &mut self.connections[at];
        let client = &mut connection.client;
        match outcome {
            Outcome::Reply(reply) => {
                if let (Command::Attach { .. }, Reply::Refused(refusal)) = (&command, &reply) {
                    client.ends.push(End::Error(refusal.code));
                }
                client.asked.insert(req_id, Some(reply));
            }
            Outcome::Attached(compared) | Outcome::Resumed(compared) => {
                client.compared = Some(compared);
            }
            _ => {}
        }
        connection.commands.insert(req_id, command);
        if attached {
            let (own, of) = (connection.id, caller);
            for other in &mut self.connections {
                let same = (&other.caller.user, &other.caller.device) == (&of.user, &of.device);
                if same && other.id != own && !other.gone {
                    other.client.ends.push(End::Away(roamd::reply::GoAwayReason::Replaced));
                }
            }
        }
        self.tell();
        Ok(())
    }

    /// Hands out what the model has for those who are online.
    pub(super) fn tell(&mut self) {
        let news = std::mem::take(&mut self.model.news);
        self.model.grown.clear();
        for ((_, session), of) in &news.unfollowed {
            if let Some(at) = self.at(session.number()) {
                self.connections[at].presence.retain(|(user, _), _| user != of);
            }
        }
        for ((_, session), reason) in &news.ends {
            let reason = match reason.as_str() {
                "Kicked" => roamd::reply::GoAwayReason::Kicked,
                "Revoked" => roamd::reply::GoAwayReason::Revoked,
                _ => roamd::reply::GoAwayReason::Replaced,
            };
            if let Some(at) = self.at(session.number()) {
                self.connections[at].client.ends.push(End::Away(reason));
            }
        }
        for (users, but, push) in &news.spread {
            for connection in &mut self.connections {
                if users.contains(&connection.caller.user) && connection.id != but.number() {
                    connection.client.may_come(push.clone());
                }
            }
        }
        for ((_, session), changes) in &news.presence {
            if let Some(at) = self.at(session.number()) {
                for (device, change) in changes {
                    let states = self.connections[at].presence.entry(device.clone()).or_default();
                    states.push(change.state);
                }
            }
        }
        for user in self.connections.iter().map(|c| &c.caller.user) {
            let moment = (self.model.unread_total(user), self.model.head(user));
            let moments = self.moments.entry(user.clone()).or_default();
            if moments.last() != Some(&moment) {
                moments.push(moment);
            }
        }
    }

    /// Asks the one that only watches; what was done before is told to everybody by then.
    pub(super) fn ask_the_watch(&mut self) -> Result<(), Found> {
        let request = Request::GetUnread { conversations: Vec::new(), explain: true };
        let sent = Instant::now();
        let req_id = self.say(0, InboxSeq::ZERO, &request)?;
        self.connections[0].flush()?;
        let Some(body) = self.reply_to(0, req_id)? else {
            return Err("the daemon is gone".into());
        };
        self.took(sent);
        self.apply(0, req_id, Command::Request(request), &body)
    }

    /// Lets everything come to rest, and looks whether everything has arrived.
    pub(super) fn settle(&mut self) -> Result<(), Found> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // First who goes: others hear of it.
            self.bury()?;
            // Twice: answers go out before the news of the same flush.
            for _ in 0..2 {
                if self.connections.first().is_some_and(|watch| watch.client.is_open()) {
                    self.ask_the_watch()?;
                }
            }
            let mut pings = Vec::new();
            for at in 0..self.connections.len() {
                if self.connections[at].is_useful() {
                    // The answer to the first may come before what was told before it.
                    for _ in 0..2 {
                        let time = self.now().wall;
                        let ping = Request::Ping { client_time_ms: 1 };
                        let req_id = self.say(at, InboxSeq::ZERO, &ping)?;
                        let pong = Reply::Pong { client_time_ms: 1, time };
                        self.connections[at].client.asked.insert(req_id, Some(pong));
                        pings.push((at, req_id));
                    }
                    self.connections[at].flush()?;
                }
            }
            for (at, req_id) in pings {
                self.reply_to(at, req_id)?;
            }
            for at in 0..self.connections.len() {
                self.hear(at)?;
            }
            self.bury()?;
            let mut late = None;
            for at in 0..self.connections.len() {
                let client = &self.connections[at].client;
                if client.is_open() && client.acked < client.ackable() {
                    let seq = InboxSeq::new(client.ackable());
                    self.say(at, InboxSeq::ZERO, &Request::Ack(seq))?;
                    self.connections[at].flush()?;
                    late = Some("entries that are not acked".to_owned());
                } else if let Err(found) = client.settled(&self.model) {
                    late = Some(format!("connection {}: {found}", self.connections[at].id));
                }
            }
            match late {
                None => return Ok(()),
                Some(found) if Instant::now() > deadline => return Err(found),
                Some(_) => {}
            }
        }
    }

    /// Connections that are to end, or have ended.
    fn bury(&mut self) -> Result<(), Found> {
        while let Some(at) =
            self.connections.iter().position(|c| c.gone || !c.client.ends.is_empty())
        {
            while !self.connections[at].gone {
                let read = self.connections[at].read();
                let due = &self.connections[at].client.ends;
                read.map_err(|found| {
                    Invariant::I12.broken(format!("still open, though {due:?} is due: {found}"))
                })?;
            }
            self.hear(at)?;
            let mut connection = self.connections.remove(at);
            let id = connection.id;
            connection.client.closed().map_err(|found| format!("connection {id}: {found}"))?;
            if connection.client.compared.take().is_some() {
                let now = self.now();
                let detach = Command::Detach;
                self.model.apply(now, &connection.caller, &detach, &Default::default());
                self.tell();
            }
        }
        Ok(())
    }

    /// A device says that it goes.
    pub(super) fn bye(&mut self, id: u64) -> Result<(), Found> {
        let Some(at) = self.at(id) else { return Ok(()) };
        self.connections[at].client.ends.push(End::Quiet);
        self.say(at, InboxSeq::ZERO, &Request::Bye)?;
        self.connections[at].flush()
    }

    /// What the device has is on its own disk.
    pub(super) fn store_replica(&mut self, at: usize) {
        let Connection { client, caller, .. } = &self.connections[at];
        let too_long =
            |compared: &roamd::engine::Compared| matches!(compared.verdict, Verdict::TooLong(_));
        let streams = matches!(client.phase, Phase::Streaming { .. });
        if !streams || !client.honest || client.compared.as_ref().is_some_and(too_long) {
            return;
        }
        let position = Position { epoch: self.model.epoch, seq: InboxSeq::new(client.stored) };
        let (caller, copy) = (caller.clone(), client.copy.clone());
        let same = |held: &Caller| (&held.user, &held.device) == (&caller.user, &caller.device);
        self.replicas.retain(|(held, ..)| !same(held));
        self.replicas.push((caller, position, copy));
    }
}

pub(super) fn roamd_chosen_message(id: u64) -> super::model::Chosen {
    super::model::Chosen { message: Some(roamd::id::MessageId::new(id)), ..Default::default() }
}
