//! The engine's part of the hook under random histories: messages, reads, recalls, devices that come
//! and go, answers that fail or never come, ends of the process. Whatever happens: every job is one
//! the rules name, every badge is the total at its position, nothing untrue stays shown, and
//! everything that should have been told was told. No sockets, no clock: a seed repeats everything.
//!
//! `ROAMD_PUSH_SEED=17 cargo test --test push model` runs one seed and prints its steps;
//! `ROAMD_PUSH_SEEDS=500` runs so many instead of a dozen.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use roamd::{
    engine::{Answer, Caller, Command, Engine, Now},
    id::{ClientMessageId, ConversationId, DeviceId, SessionId, UserId},
    limits::Limits,
    message::{Draft, HistoryPolicy, MessageFlags},
    push::{Job, Kind, Outcome, Place, Settings, Verdict},
    reply::Reply,
    request::{Destination, Request, Secret},
    seq::{HistorySeq, InboxSeq},
    store::{Store, StoreConfig},
    time::Timestamp,
};

/// A small generator: the same numbers for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const DELAY: Duration = Duration::from_secs(5);
/// Users and devices that can be told; alice only writes and recalls.
const DEVICES: [(&str, &str); 4] =
    [("bob", "phone"), ("bob", "tablet"), ("carol", "phone"), ("dave", "phone")];

/// What the test knows of a message.
struct Message {
    sender: &'static str,
    told: bool,
    /// Gone for these users; recalled: for all.
    gone: BTreeSet<&'static str>,
}

/// One device: what it shows by conversation, and what the rules need to know of it.
#[derive(Default)]
struct Device {
    session: Option<(SessionId, bool)>,
    shows: BTreeMap<usize, u64>,
    /// What the hook was asked to tell it of, successfully or not.
    tried: BTreeSet<(usize, u64)>,
    /// The greatest message it was told of, per conversation.
    told: BTreeMap<usize, u64>,
    /// The greatest message whose acceptance the engine knows, until something is taken back.
    accepted: BTreeMap<usize, u64>,
    /// When it was last there in the foreground.
    left: Timestamp,
    acked: InboxSeq,
}

struct World {
    config: StoreConfig,
    _folder: tempfile::TempDir,
    store: Option<Store>,
    engine: Option<Engine>,
    start: Instant,
    now: Now,
    dice: Dice,
    settings: Settings,
    limits: Limits,
    sessions: u64,
    client_ids: u64,
    conversations: Vec<ConversationId>,
    messages: Vec<Vec<Message>>,
    read: BTreeMap<(&'static str, usize), u64>,
    devices: Vec<Device>,
    out: Vec<Job>,
    loud: bool,
    /// What the hook does: 0 takes everything, 1 fails and forgets at times.
    moody: bool,
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

impl World {
    fn new(seed: u64, large: bool, loud: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            segment_bytes: 256 << 10,
            cache_bytes: 8 << 20,
            checkpoint_interval: Duration::from_secs(3600),
            ..StoreConfig::new(folder.path().join("data"))
        };
        let start = Instant::now();
        let now = Now { wall: Timestamp::from_millis(1_800_000_000_000), mono: start };
        let limits = Limits {
            fanout_members: if large { 2 } else { 500 },
            recall_window: Duration::from_secs(1 << 30),
            ..Limits::default()
        };
        let settings = Settings {
            delay: DELAY,
            expiry: Duration::from_secs(86_400),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(20),
            large_interval: Duration::from_secs(30),
            include_content: false,
        };
        let mut world = Self {
            config,
            _folder: folder,
            store: None,
            engine: None,
            start,
            now,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            settings,
            limits,
            sessions: 0,
            client_ids: 0,
            conversations: Vec::new(),
            messages: Vec::new(),
            read: BTreeMap::new(),
            devices: Vec::new(),
            out: Vec::new(),
            loud,
            moody: true,
        };
        world.open();
        for (number, (name, device)) in DEVICES.into_iter().enumerate() {
            world.devices.push(Device::default());
            world.attach(number, false);
            let token = Secret::new(format!("{name} {device}"));
            let request = Request::RegisterPush { provider: "test".into(), token };
            world.request(name, device, request);
        }
        for (number, users) in
            [&["bob", "carol", "dave"][..], &["bob"], &["carol", "bob"]].into_iter().enumerate()
        {
            let id = ConversationId::new(&format!("c{number}")).unwrap();
            let users = users.iter().map(|name| user(name)).collect();
            world.client_ids += 1;
            let request = Request::CreateGroup {
                client_id: ClientMessageId::new(world.client_ids),
                conversation: Some(id.clone()),
                title: "t".into(),
                users,
                policy: HistoryPolicy::SinceJoin,
            };
            world.request("alice", "desk", request);
            world.conversations.push(id);
            world.messages.push(Vec::new());
        }
        world.flush();
        world
    }

    fn open(&mut self) {
        let (store, writer) = Store::open(&self.config).unwrap();
        let mut engine = Engine::new(writer, store.epoch(), self.limits.clone(), self.now).unwrap();
        engine.set_push_hook(self.settings.clone(), self.now).unwrap();
        (self.store, self.engine) = (Some(store), Some(engine));
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    /// The process ends; what is out is lost.
    fn end(&mut self) {
        let writer = self.engine.take().unwrap().into_writer();
        self.store.take().unwrap().close(writer).unwrap();
        self.out.clear();
        for number in 0..DEVICES.len() {
            self.leave(number);
        }
        self.open();
    }

    fn apply(&mut self, name: &str, device: &str, session: SessionId, command: &Command) -> Answer {
        if self.loud && !matches!(command, Command::Request(_)) {
            println!("{name} {device}: {command:?}");
        }
        let caller = Caller {
            user: user(name),
            device: DeviceId::new(device).unwrap(),
            session,
            admin: false,
        };
        let now = self.now;
        self.engine().apply(now, &caller, command).unwrap()
    }

    #[track_caller]
    fn request(&mut self, name: &str, device: &str, request: Request) -> Reply {
        if self.loud {
            println!("{name} {device}: {request:?}");
        }
        let number = DEVICES.iter().position(|it| *it == (name, device));
        let session = number.and_then(|number| self.devices[number].session);
        let session = session.map_or(SessionId::new(1 << 40), |(session, _)| session);
        match self.apply(name, device, session, &Command::Request(request)) {
            Answer::Reply(Reply::Refused(refusal)) => panic!("{refusal:?}"),
            Answer::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn attach(&mut self, number: usize, background: bool) {
        self.detach(number);
        self.sessions += 1;
        let (name, device) = DEVICES[number];
        let session = SessionId::new(self.sessions);
        let attach = Command::Attach {
            resume: None,
            missed_entries: 0,
            platform: "test".into(),
            issued: self.now.wall,
            background,
        };
        self.apply(name, device, session, &attach);
        self.devices[number].session = Some((session, background));
        // A session outlasts what the hook has in its hands: a job that is out when the application
        // comes to the front arrives before it goes again (decision 0012 names what is left).
        while !background
            && let Some(at) = self.out.iter().position(|job| is_at(&job.place, number))
        {
            self.answer_one(at);
        }
        if !background {
            self.devices[number].accepted.clear();
            self.look(number);
        }
    }

    /// A device is not there any more, at least not in the foreground.
    fn leave(&mut self, number: usize) {
        if self.devices[number].session.take().is_some_and(|(_, background)| !background) {
            self.look(number);
            self.devices[number].left = self.now.wall;
        }
    }

    /// The application is there and takes away what is not true.
    fn look(&mut self, number: usize) {
        let shows = std::mem::take(&mut self.devices[number].shows);
        let name = DEVICES[number].0;
        let kept = shows.into_iter().filter(|(c, seq)| self.is_true(name, *c, *seq)).collect();
        self.devices[number].shows = kept;
    }

    /// A message is neither read nor gone.
    fn is_true(&self, name: &'static str, c: usize, seq: u64) -> bool {
        let read = self.read.get(&(name, c)).copied().unwrap_or(0);
        seq > read && !self.messages[c][seq as usize - 1].gone.contains(name)
    }

    fn detach(&mut self, number: usize) {
        let (name, device) = DEVICES[number];
        if let Some((session, _)) = self.devices[number].session {
            self.apply(name, device, session, &Command::Detach);
            self.leave(number);
        }
    }

    /// Makes everything durable and hears what the hook is told.
    fn flush(&mut self) {
        let jobs = self.engine().flush().unwrap().jobs;
        for job in jobs {
            self.check(&job);
            self.out.push(job);
        }
    }

    /// A job is one the rules name.
    fn check(&mut self, job: &Job) {
        if self.loud {
            println!("    job {job:?}");
        }
        let Place { user, device, conversation } = &job.place;
        let is_it = |(name, id): &(&str, &str)| *name == user.as_str() && *id == device.as_str();
        let number = DEVICES.iter().position(is_it).unwrap();
        let name = DEVICES[number].0;
        let c = self.conversations.iter().position(|id| id == conversation).unwrap();
        let seq = job.seq.number();
        let read = self.read.get(&(name, c)).copied().unwrap_or(0);
        let wanted = Request::GetUnread { conversations: Vec::new(), explain: false };
        let Reply::Unread { total, position, .. } = self.request(name, "desk", wanted) else {
            panic!("no answer")
        };
        assert_eq!((job.badge, job.position), (total, position));
        let message = &self.messages[c][seq as usize - 1];
        let gone = message.gone.contains(name);
        let it = &mut self.devices[number];
        assert!(it.session.is_none_or(|(_, background)| background), "it is there");
        assert!(it.left.plus(DELAY) <= self.now.wall, "it has just gone");
        match job.kind {
            Kind::Message => {
                assert!(message.told && message.sender != name && seq > read && !gone);
                // What was taken is told again only after a newer one was tried: nobody knows which of
                // the two the device shows.
                let accepted = it.accepted.get(&c).copied().unwrap_or(0);
                let doubtful = it.tried.range((c, accepted + 1)..=(c, u64::MAX)).next().is_some();
                assert!(accepted < seq || doubtful, "told twice");
                assert_eq!(job.message.as_ref().unwrap().sender.as_str(), message.sender);
                it.tried.insert((c, seq));
            }
            Kind::Read => assert!(seq <= read && it.tried.contains(&(c, seq))),
            Kind::Recalled => assert!(gone && it.tried.contains(&(c, seq))),
        }
    }

    /// The hook answers one of the jobs that are out.
    fn answer(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let at = self.dice.roll(self.out.len() as u64) as usize;
        self.answer_one(at);
    }

    fn answer_one(&mut self, at: usize) {
        let job = self.out.swap_remove(at);
        let mood = if self.moody { self.dice.roll(6) } else { 9 };
        let number = (0..DEVICES.len()).find(|number| is_at(&job.place, *number)).unwrap();
        let c = self.conversations.iter().position(|id| *id == job.place.conversation).unwrap();
        let it = &mut self.devices[number];
        // 0: it never came. 1: it came, and the answer was lost.
        if mood != 0 {
            let seq = job.seq.number();
            match job.kind {
                Kind::Message => {
                    it.shows.insert(c, seq);
                    it.told.insert(c, seq.max(it.told.get(&c).copied().unwrap_or(0)));
                }
                Kind::Read | Kind::Recalled => {
                    it.shows.remove(&c);
                }
            }
        }
        if self.loud {
            println!("    answer {mood} to job {}", job.id);
        }
        let verdict = match mood {
            0 | 1 => Verdict::Failed(Duration::ZERO),
            _ => {
                let there = it.session.is_some_and(|(_, background)| !background);
                match job.kind {
                    // While a device is there, what it shows is its own affair.
                    Kind::Message if !there => it.accepted.insert(c, job.seq.number()),
                    _ => it.accepted.remove(&c),
                };
                Verdict::Accepted
            }
        };
        let now = self.now;
        let outcome = Outcome { place: job.place, id: job.id, verdict };
        self.engine().settle_push(now, &outcome).unwrap();
        self.flush();
    }

    /// Time passes, and everything that is due happens when it is.
    fn pass(&mut self, span: Duration) {
        let until = self.now.mono + span;
        for _ in 0..100_000 {
            let due = self.engine().deadline().filter(|due| *due <= until);
            self.at(due.unwrap_or(until).max(self.now.mono));
            if due.is_none() {
                return;
            }
            let now = self.now;
            self.engine().on_timer(now).unwrap();
            self.flush();
        }
        panic!("timers never rest");
    }

    fn at(&mut self, mono: Instant) {
        let passed = mono - self.start;
        self.now = Now { wall: Timestamp::from_millis(1_800_000_000_000).plus(passed), mono };
    }

    fn step(&mut self) {
        let c = self.dice.roll(3) as usize;
        let members: &[&'static str] =
            [&["bob", "carol", "dave"][..], &["bob"], &["carol", "bob"]][c];
        let name = members[self.dice.roll(members.len() as u64) as usize];
        let number = self.dice.roll(4) as usize;
        let id = self.conversations[c].clone();
        let newest = self.messages[c].len() as u64;
        match self.dice.roll(20) {
            0..=6 => {
                let sender = if self.dice.roll(5) == 0 { name } else { "alice" };
                let flags = MessageFlags {
                    silent: false,
                    uncounted: self.dice.roll(10) == 0,
                    no_push: self.dice.roll(10) == 0,
                };
                let mentions = if self.dice.roll(4) == 0 { vec![user(name)] } else { Vec::new() };
                self.client_ids += 1;
                let request = Request::Send {
                    to: Destination::Conversation(id),
                    client_id: ClientMessageId::new(self.client_ids),
                    draft: Draft {
                        created_at: Timestamp::default(),
                        content_type: "text/plain".into(),
                        content: "x".into(),
                        reply_to: HistorySeq::ZERO,
                        mentions,
                        flags,
                    },
                };
                self.request(sender, "desk", request);
                let told = !flags.no_push && !flags.uncounted;
                self.messages[c].push(Message { sender, told, gone: BTreeSet::new() });
                self.read.insert((sender, c), newest + 1);
            }
            7 | 8 if newest > 0 => {
                let seq = newest - self.dice.roll(newest.min(3));
                let read_seq = HistorySeq::new(seq);
                let request = Request::MarkRead { conversation: id, read_seq, peer_visible: false };
                let device = if self.dice.roll(2) == 0 { "desk" } else { "phone" };
                self.request(name, device, request);
                let read = self.read.entry((name, c)).or_default();
                *read = (*read).max(seq);
            }
            9 | 10 if newest > 0 => {
                let seq = newest - self.dice.roll(newest.min(3));
                if self.messages[c][seq as usize - 1].gone.contains("all") {
                    return;
                }
                // Alice owns every group.
                let request = Request::Recall { conversation: id, seq: HistorySeq::new(seq) };
                self.request("alice", "desk", request);
                let gone = ["bob", "carol", "dave", "all"];
                self.messages[c][seq as usize - 1].gone.extend(gone);
            }
            11 if newest > 0 => {
                let seq = newest - self.dice.roll(newest.min(3));
                let seqs = vec![HistorySeq::new(seq)];
                self.request(name, "desk", Request::DeleteForMe { conversation: id, seqs });
                self.messages[c][seq as usize - 1].gone.insert(name);
            }
            12 => {
                let background = self.dice.roll(3) == 0;
                self.attach(number, background);
            }
            13 | 14 => self.detach(number),
            15 => self.acknowledge(number),
            16 => {
                let Some((session, before)) = self.devices[number].session else { return };
                let (name, device) = DEVICES[number];
                let background = !before;
                self.request(name, device, Request::SetPresence { background });
                self.devices[number].session = Some((session, background));
                self.look(number);
                match background {
                    true => self.devices[number].left = self.now.wall,
                    false => self.devices[number].accepted.clear(),
                }
            }
            17 => {
                let span = Duration::from_millis(self.dice.roll(12_000));
                self.pass(span);
            }
            18 if self.dice.roll(4) == 0 => {
                self.flush();
                if self.loud {
                    println!("the process ends");
                }
                self.end();
            }
            _ => self.answer(),
        }
        if self.dice.roll(2) == 0 {
            self.flush();
        }
    }

    /// A device that is there stores everything; its application shows what is true.
    fn acknowledge(&mut self, number: usize) {
        let (name, device) = DEVICES[number];
        let Some((session, _)) = self.devices[number].session else { return };
        let wanted = Request::GetUnread { conversations: Vec::new(), explain: false };
        let Reply::Unread { position, .. } = self.request(name, "desk", wanted) else { return };
        self.apply(name, device, session, &Command::Cursor(position));
        self.devices[number].acked = position;
        // From here on it knows all messages there are.
        let known: Vec<u64> = self.messages.iter().map(|all| all.len() as u64).collect();
        let it = &mut self.devices[number];
        for (c, newest) in known.into_iter().enumerate() {
            it.told.insert(c, newest);
        }
    }

    /// The hook takes everything until nothing more comes.
    fn settle(&mut self) {
        self.moody = false;
        for number in 0..DEVICES.len() {
            self.attach(number, false);
            self.detach(number);
        }
        self.rest();
    }

    fn rest(&mut self) {
        self.flush();
        for _ in 0..100 {
            self.pass(Duration::from_secs(31));
            while !self.out.is_empty() {
                self.answer();
            }
        }
    }

    /// What every device shows is true, and what it should have been told it was.
    fn agree(&self, large: bool) {
        for (number, (name, device)) in DEVICES.into_iter().enumerate() {
            let it = &self.devices[number];
            for (c, all) in self.messages.iter().enumerate() {
                if c > 0 && name == "dave" || c == 1 && name == "carol" {
                    continue;
                }
                let read = self.read.get(&(name, c)).copied().unwrap_or(0);
                if let Some(seq) = it.shows.get(&c) {
                    assert!(
                        self.is_true(name, c, *seq),
                        "{name} {device} still shows {seq} of c{c}"
                    );
                }
                let newest = (1..).zip(all).filter(|(seq, message)| {
                    *seq > read
                        && message.told
                        && message.sender != name
                        && !message.gone.contains(name)
                });
                // A device that was there hears of a large conversation in other ways.
                if let Some((newest, _)) = newest.last()
                    && !large
                {
                    // One that was recalled after the hook was asked to tell it has had its turn.
                    let tried = it.tried.range(..=(c, u64::MAX)).next_back();
                    let tried = tried.filter(|(at, _)| *at == c).map_or(0, |(_, seq)| *seq);
                    let known = it.told.get(&c).copied().unwrap_or(0).max(tried);
                    assert!(known >= newest, "{name} {device} never heard of {newest} of c{c}");
                }
            }
        }
    }
}

pub(crate) fn run(seed: u64, large: bool, loud: bool) {
    let mut world = World::new(seed, large, loud);
    for _ in 0..250 {
        world.step();
    }
    world.moody = false;
    world.rest();
    for number in 0..DEVICES.len() {
        world.detach(number);
    }
    world.rest();
    world.agree(large);
    world.settle();
    world.agree(large);
}

/// Whether a job is for this device.
fn is_at(place: &Place, number: usize) -> bool {
    (place.user.as_str(), place.device.as_str()) == DEVICES[number]
}
