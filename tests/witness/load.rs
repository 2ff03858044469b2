//! Twelve devices at work: they send, read, change groups, store what they are shown and ack it,
//! with several requests on the way at any time, until the daemon is gone.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use roamd::wire::proto::{self, client_frame, server_frame};

use super::{
    Complaints,
    connection::{Connection, Trouble},
    ledger::{Kind, Ledger, Outcome},
    seen::Seen,
};

/// Requests of a device on the way.
const WINDOW: usize = 16;
/// Requests of a device in one round; afterwards it only listens.
const REQUESTS_MAX: usize = 150;
/// Entries that may be stored and not acked.
const UNACKED_MAX: u64 = 64;

/// What one device did and saw in one life of the daemon.
#[derive(Debug, Default)]
pub struct Played {
    pub device: usize,
    pub sent: Vec<(proto::Send, Outcome)>,
    pub marks: Vec<(String, u64)>,
    /// Acked changes of members: own inbox_seq, conversation, whether added, who.
    pub changes: Vec<(u64, String, bool, String)>,
    pub seen: Vec<(u64, Seen)>,
    pub head: u64,
    pub position: u64,
    pub acked: u64,
    pub floor: u64,
    pub next_client_id: u64,
    /// The daemon said GoAway.
    pub drained: bool,
    pub complaints: Complaints,
}

/// The devices at work.
pub struct Load {
    devices: Vec<JoinHandle<Played>>,
    replies: Receiver<()>,
}

impl Load {
    /// Connects all devices but the ones that chance leaves out, and lets them work.
    pub fn start(ledger: &Ledger, address: SocketAddr, seed: u64) -> Self {
        Self::with_window(ledger, address, seed, WINDOW)
    }

    /// The same with so many requests of a device on the way: few make many small commits.
    pub fn with_window(ledger: &Ledger, address: SocketAddr, seed: u64, window: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (reply, replies) = mpsc::channel();
        let mut devices = Vec::new();
        for index in 0..ledger.devices.len() {
            // Some stay away for a while and fall behind what is kept for them.
            let away = index % 4 == 3 && rng.random_bool(0.6);
            let mut player = Player::new(ledger, index, address, rng.random(), reply.clone());
            player.window = window;
            if !away {
                devices.push(std::thread::spawn(move || player.play()));
            }
        }
        Self { devices, replies }
    }

    /// Waits for so many replies, at most so long. False: every device has ended before.
    pub fn work(&self, replies: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        for _ in 0..replies {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.replies.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    /// What the devices did and saw, once the daemon is gone.
    pub fn end(self) -> Vec<Played> {
        let played = self.devices.into_iter().map(|device| device.join());
        played.map(|played| played.expect("a device does not panic")).collect()
    }
}

/// A request on the way.
enum Asked {
    Send(usize),
    Mark(String),
    Change(String, bool, String),
    Resume,
}

struct Player {
    address: SocketAddr,
    rng: StdRng,
    name: String,
    user: String,
    token: String,
    id: String,
    epoch: Option<u64>,
    others: Vec<String>,
    groups: Vec<String>,
    own_groups: Vec<String>,
    /// The newest message known of each conversation.
    heads: HashMap<String, u64>,
    asked: HashMap<u64, Asked>,
    /// The stream follows `position`, so that acks may be given.
    streams: bool,
    may_be_full: bool,
    window: usize,
    count: usize,
    reply: Sender<()>,
    played: Played,
}

impl Player {
    fn new(
        ledger: &Ledger,
        index: usize,
        address: SocketAddr,
        seed: u64,
        reply: Sender<()>,
    ) -> Self {
        let device = &ledger.devices[index];
        let user = &ledger.users[device.user];
        let names = ledger.users.iter().map(|user| user.name.clone());
        let mut player = Self {
            address,
            rng: StdRng::seed_from_u64(seed),
            name: format!("{}/{}", user.name, device.id),
            user: user.name.clone(),
            token: user.token.clone(),
            id: device.id.clone(),
            epoch: ledger.epoch,
            others: names.filter(|name| *name != user.name).collect(),
            groups: Vec::new(),
            own_groups: Vec::new(),
            heads: HashMap::new(),
            asked: HashMap::new(),
            streams: false,
            may_be_full: ledger.may_be_full,
            window: WINDOW,
            count: 0,
            reply,
            played: Played {
                device: index,
                position: device.position,
                acked: device.acked,
                floor: device.floor,
                next_client_id: device.next_client_id,
                ..Played::default()
            },
        };
        for (id, conversation) in &ledger.conversations {
            if let Kind::Group { owner } = conversation.kind {
                player.groups.push(id.clone());
                if owner == device.user {
                    player.own_groups.push(id.clone());
                }
            }
            if conversation.members.contains(&user.name) {
                player.heads.insert(id.clone(), conversation.rows.len() as u64);
            }
        }
        player
    }

    fn play(mut self) -> Played {
        match self.session() {
            Ok(()) | Err(Trouble::Gone(_)) => {}
            Err(Trouble::Wrong(text)) => self.complain(text),
        }
        self.played
    }

    fn complain(&mut self, text: String) {
        self.played.complaints.push(format!("{}: {text}", self.name));
    }

    fn session(&mut self) -> Result<(), Trouble> {
        let mut connection = Connection::open(self.address)?;
        self.greet(&mut connection)?;
        loop {
            while self.asked.len() < self.window
                && self.count < REQUESTS_MAX
                && !self.played.drained
            {
                self.count += 1;
                self.request(&mut connection);
            }
            connection.flush()?;
            let frame = connection.receive()?;
            self.handle(&mut connection, frame)?;
        }
    }

    /// Says Hello from where it stands, or from further back: what it is shown again must be the
    /// same.
    fn greet(&mut self, connection: &mut Connection) -> Result<(), Trouble> {
        let Played { position, acked, .. } = self.played;
        let back = match self.rng.random_range(0..10) {
            0 => self.rng.random_range(0..100),
            1 | 2 => position.saturating_sub(acked),
            _ => 0,
        };
        let position = position.saturating_sub(back);
        let resume = self.epoch.map(|epoch| (epoch, position));
        let welcome = connection.greet(&self.token, &self.id, resume);
        let played = &mut self.played;
        if let Err(Trouble::Gone(_)) = welcome {
            // The daemon may have taken it in and not lived to say so.
            played.acked = played.acked.max(position);
        }
        let welcome = welcome?;
        played.head = welcome.head_seq;
        let (low, high) = (played.floor, played.acked);
        let cursor = welcome.device_cursor;
        if cursor < low || cursor > high {
            self.complain(format!("stored cursor {cursor} is outside of {low}..={high}"));
        }
        let verdict = match resume {
            None => proto::Verdict::TooLong,
            Some((epoch, _)) if epoch != welcome.epoch => {
                let text = format!("the epoch was {epoch:#x} and is {:#x}", welcome.epoch);
                return Err(Trouble::Wrong(text));
            }
            Some((_, seq)) if seq > welcome.head_seq => {
                let head = welcome.head_seq;
                let text = format!("inbox lost its end: head is {head}, {seq} was shown");
                return Err(Trouble::Wrong(text));
            }
            Some((_, seq)) if seq + 1 < welcome.first_seq => proto::Verdict::TooLong,
            Some((_, seq)) if seq == welcome.head_seq => proto::Verdict::UpToDate,
            Some(_) => proto::Verdict::CatchUp,
        };
        if welcome.verdict() != verdict {
            self.complain(format!("verdict should be {verdict:?}: {welcome:?}"));
        }
        self.played.position = position;
        if verdict != proto::Verdict::TooLong {
            self.streams = true;
            self.played.acked = self.played.acked.max(position);
            // On a full disk the device is let in, and its row waits in memory.
            if !self.may_be_full {
                self.played.floor = self.played.floor.max(position);
            }
        }
        Ok(())
    }

    fn request(&mut self, connection: &mut Connection) {
        let kind = self.rng.random_range(0..100);
        let (body, asked) = if kind < 85 {
            let request = self.message();
            self.played.sent.push((request.clone(), Outcome::Open));
            (client_frame::Body::Send(request), Asked::Send(self.played.sent.len() - 1))
        } else if kind < 95 || self.own_groups.is_empty() {
            let mut known: Vec<_> = self.heads.iter().collect();
            known.sort();
            let Some((id, head)) = known.choose(&mut self.rng) else { return };
            let read_seq = head.saturating_sub(self.rng.random_range(0..6));
            let conversation_id = (*id).clone();
            let asked = Asked::Mark(conversation_id.clone());
            let mark = proto::MarkRead { conversation_id, read_seq, peer_visible: false };
            (client_frame::Body::MarkRead(mark), asked)
        } else {
            let index = self.rng.random_range(0..self.own_groups.len());
            let conversation_id = self.own_groups[index].clone();
            let user = self.others.choose(&mut self.rng).expect("there are others").clone();
            let user_ids = vec![user.clone()];
            let add = self.rng.random_bool(0.5);
            let asked = Asked::Change(conversation_id.clone(), add, user);
            let body = match add {
                true => {
                    client_frame::Body::AddMembers(proto::AddMembers { conversation_id, user_ids })
                }
                false => client_frame::Body::RemoveMembers(proto::RemoveMembers {
                    conversation_id,
                    user_ids,
                }),
            };
            (body, asked)
        };
        let ack = if self.rng.random_bool(0.3) { self.ack() } else { 0 };
        let number = connection.ask(body, ack);
        self.asked.insert(number, asked);
    }

    fn message(&mut self) -> proto::Send {
        let rng = &mut self.rng;
        let to = match rng.random_bool(0.5) {
            true => {
                let peer = self.others.choose(rng).expect("there are others");
                proto::send::To::Peer(peer.clone())
            }
            false => {
                let group = self.groups.choose(rng).expect("there are groups");
                proto::send::To::ConversationId(group.clone())
            }
        };
        // Around the sizes at which records are split and runs are closed, too.
        let bytes = match rng.random_range(0..100) {
            0..80 => rng.random_range(0..200),
            80..95 => rng.random_range(200..3000),
            95..99 => rng.random_range(3900..8300),
            _ => rng.random_range(10_000..40_000),
        };
        let id = self.played.next_client_id;
        self.played.next_client_id += rng.random_range(1..4);
        let mut content = format!("{} {id} ", self.name).into_bytes();
        content.extend((0..bytes).map(|_| rng.random::<u8>()));
        proto::Send {
            to: Some(to),
            client_message_id: id,
            created_at_ms: id * 7,
            content_type: "text/plain".to_owned(),
            content: Bytes::from(content),
            uncounted: rng.random_bool(0.05),
            ..Default::default()
        }
    }

    /// The ack that is due: everything stored. None (0) while the stream has to start over.
    fn ack(&mut self) -> u64 {
        if !self.streams {
            return 0;
        }
        self.played.acked = self.played.acked.max(self.played.position);
        self.played.position
    }

    fn handle(
        &mut self,
        connection: &mut Connection,
        frame: proto::ServerFrame,
    ) -> Result<(), Trouble> {
        use server_frame::Body;
        let wrong = |text: String| Err(Trouble::Wrong(text));
        let Some(body) = frame.body else { return wrong("a frame without a body".to_owned()) };
        if frame.req_id == 0 {
            match body {
                Body::SyncBatch(batch) => self.store(connection, &batch)?,
                Body::CaughtUp(up) if up.seq != self.played.position => {
                    let stored = self.played.position;
                    return wrong(format!("CaughtUp at {}, but {stored} was shown", up.seq));
                }
                Body::CaughtUp(_) => {}
                Body::TooLong(at) => {
                    self.streams = false;
                    self.played.head = self.played.head.max(at.head_seq);
                    self.played.position = at.head_seq;
                    self.played.acked = self.played.acked.max(at.head_seq);
                    let position = Some(proto::Position { epoch: at.epoch, seq: at.head_seq });
                    let resume = client_frame::Body::Resume(proto::Resume { position });
                    let number = connection.ask(resume, 0);
                    self.asked.insert(number, Asked::Resume);
                }
                Body::GoAway(away) if away.reason() == proto::GoAwayReason::Draining => {
                    self.played.drained = true;
                }
                // A daemon whose disk has failed takes nothing more from anybody.
                Body::Error(error) if error.code() == proto::ErrorCode::Overloaded => {
                    self.played.drained = true;
                }
                other => return wrong(format!("unsolicited {other:?}")),
            }
            return Ok(());
        }
        let Some(asked) = self.asked.remove(&frame.req_id) else {
            return wrong(format!("a second reply to a request: {body:?}"));
        };
        let _ = self.reply.send(());
        match (asked, body) {
            (Asked::Send(index), Body::SendAck(ack)) => {
                if ack.duplicate {
                    self.complain(format!("a first send is called a duplicate: {ack:?}"));
                }
                self.played.head = self.played.head.max(ack.inbox_seq);
                let head = self.heads.entry(ack.conversation_id.clone()).or_default();
                *head = ack.history_seq.max(*head);
                self.played.sent[index].1 = Outcome::Acked(ack);
            }
            (Asked::Send(index), Body::Error(error)) if self.may_refuse(index, &error) => {
                self.played.sent[index].1 = Outcome::Refused;
            }
            (Asked::Mark(id), Body::MarkReadReply(reply)) => {
                self.played.marks.push((id, reply.read_seq));
            }
            (Asked::Change(id, add, user), Body::MemberItems(items)) => {
                self.played.head = self.played.head.max(items.inbox_seq);
                if items.inbox_seq > 0 {
                    self.played.changes.push((items.inbox_seq, id, add, user));
                }
            }
            (_, Body::Error(error)) if self.says_full(&error) => {}
            // So says a daemon whose disk has failed, until it is gone.
            (_, Body::Error(error)) if error.code() == proto::ErrorCode::Overloaded => {}
            (Asked::Resume, Body::Resumed(_)) => self.streams = true,
            (_, other) => return wrong(format!("an unfitting reply: {other:?}")),
        }
        Ok(())
    }

    /// Only a group may refuse, and only one who is not in it; or a daemon that can take no more.
    fn may_refuse(&self, index: usize, error: &proto::Error) -> bool {
        let to = self.played.sent.get(index).and_then(|(request, _)| request.to.as_ref());
        let outside = match to {
            Some(proto::send::To::ConversationId(id)) => !self.own_groups.contains(id),
            _ => false,
        };
        match error.code() {
            proto::ErrorCode::NotFound => outside,
            code => code == proto::ErrorCode::Overloaded || self.says_full(error),
        }
    }

    fn says_full(&self, error: &proto::Error) -> bool {
        self.may_be_full && error.code() == proto::ErrorCode::StorageFull
    }

    fn store(
        &mut self,
        connection: &mut Connection,
        batch: &proto::SyncBatch,
    ) -> Result<(), Trouble> {
        let proto::SyncBatch { prev_seq, first_seq, last_seq, head_seq, entries } = batch;
        let stored = self.played.position;
        let whole = *prev_seq == stored
            && *first_seq == stored + 1
            && last_seq - prev_seq == entries.len() as u64;
        if !whole {
            let range = format!("after {prev_seq}: {first_seq}..={last_seq}");
            return Err(Trouble::Wrong(format!("a batch {range} does not follow {stored}")));
        }
        for (seq, entry) in (*first_seq..).zip(entries) {
            let seen = Seen::of(entry)
                .map_err(|text| Trouble::Wrong(format!("entry {seq} of {}: {text}", self.user)))?;
            if let Seen::Message { conversation, seq, .. } = &seen {
                let head = self.heads.entry(conversation.clone()).or_default();
                *head = (*head).max(*seq);
            }
            self.played.seen.push((seq, seen));
        }
        self.played.head = self.played.head.max(*head_seq);
        self.played.position = *last_seq;
        let unacked = self.played.position.saturating_sub(self.played.acked);
        if unacked >= UNACKED_MAX || self.rng.random_bool(0.2) {
            let seq = self.ack();
            connection.ask(client_frame::Body::Ack(proto::Ack { seq }), 0);
        }
        Ok(())
    }
}
