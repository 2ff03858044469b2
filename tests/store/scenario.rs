//! A small data set with one of everything, made by the engine itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use roamd::{
    engine::{Answer, Caller, Command, Engine, Now},
    id::{ClientMessageId, ConversationId, DeviceId, SessionId, UserId},
    limits::Limits,
    message::{Draft, HistoryPolicy, MessageFlags, Role},
    push::Settings,
    reply::Reply,
    request::{Destination, NoticeTo, Position, PreferencesChange, Request, Secret},
    seq::{HistorySeq, InboxSeq},
    store::{Store, Writer},
    time::Timestamp,
};

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Applies commands at a clock of its own.
pub struct World {
    pub engine: Engine,
    start: Instant,
    seconds: u64,
    /// One session each, with their place as its number.
    devices: Vec<(String, String)>,
}

impl World {
    pub fn new(store: &Store, writer: Writer) -> Self {
        Self::with(store, writer, Limits::default())
    }

    pub fn with(store: &Store, writer: Writer, limits: Limits) -> Self {
        let start = Instant::now();
        let now = Self::at(start, 0);
        let engine = Engine::new(writer, store.epoch(), limits, now).unwrap();
        Self { engine, start, seconds: 0, devices: Vec::new() }
    }

    fn now(&self) -> Now {
        Self::at(self.start, self.seconds)
    }

    fn at(start: Instant, seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        Now { wall: Timestamp::from_millis(1_800_000_000_000).plus(passed), mono: start + passed }
    }

    pub fn pass(&mut self, seconds: u64) {
        self.seconds += seconds;
        self.engine.on_timer(self.now()).unwrap();
    }

    pub fn command(&mut self, who: &str, device: &str, command: &Command) -> Answer {
        self.seconds += 1;
        let of = (who.to_owned(), device.to_owned());
        let place = self.devices.iter().position(|device| *device == of);
        let place = place.unwrap_or_else(|| {
            self.devices.push(of);
            self.devices.len() - 1
        });
        let caller = Caller {
            user: user(who),
            device: DeviceId::new(device).unwrap(),
            session: SessionId::new(1 + place as u64),
            admin: who == "root",
        };
        self.engine.apply(self.now(), &caller, command).unwrap()
    }

    pub fn request(&mut self, who: &str, request: Request) -> Reply {
        match self.command(who, "phone", &Command::Request(request)) {
            Answer::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn send(&mut self, who: &str, to: Destination, id: u64, draft: Draft) {
        let request = Request::Send { to, client_id: ClientMessageId::new(id), draft };
        let reply = self.request(who, request);
        assert!(matches!(reply, Reply::SendAck { .. }), "{reply:?}");
    }

    pub fn create(
        &mut self,
        who: &str,
        id: u64,
        name: &str,
        policy: HistoryPolicy,
        users: &[&str],
    ) {
        let reply = self.request(
            who,
            Request::CreateGroup {
                client_id: ClientMessageId::new(id),
                conversation: Some(group(name)),
                title: name.to_uppercase().into(),
                users: users.iter().map(|name| user(name)).collect(),
                policy,
            },
        );
        assert!(matches!(reply, Reply::GroupCreated { .. }), "{reply:?}");
    }

    pub fn read(&mut self, who: &str, conversation: ConversationId, seq: u64) {
        let read_seq = HistorySeq::new(seq);
        let reply =
            self.request(who, Request::MarkRead { conversation, read_seq, peer_visible: false });
        assert!(matches!(reply, Reply::MarkRead { .. }), "{reply:?}");
    }

    /// The newest message that the user sees.
    pub fn head(&mut self, who: &str, conversation: &ConversationId) -> HistorySeq {
        let conversations = vec![conversation.clone()];
        match self.request(who, Request::GetUnread { conversations, explain: true }) {
            Reply::Unread { conversations, .. } => conversations[0].visible_last,
            other => panic!("{other:?}"),
        }
    }

    pub fn members(&mut self, who: &str, add: bool, name: &str, users: &[&str]) {
        let users = users.iter().map(|name| user(name)).collect();
        let conversation = group(name);
        let request = match add {
            true => Request::AddMembers { conversation, users },
            false => Request::RemoveMembers { conversation, users },
        };
        let reply = self.request(who, request);
        assert!(matches!(reply, Reply::MemberItems { .. }), "{reply:?}");
    }

    pub fn attach(&mut self, who: &str, device: &str, seq: Option<u64>) {
        let resume =
            seq.map(|seq| Position { epoch: self.engine.epoch(), seq: InboxSeq::new(seq) });
        let platform = "test".into();
        let attach = Command::Attach {
            resume,
            missed_entries: 0,
            platform,
            issued: self.now().wall,
            background: false,
        };
        self.command(who, device, &attach);
    }
}

pub fn group(name: &str) -> ConversationId {
    ConversationId::new(name).unwrap()
}

pub fn to_peer(name: &str) -> Destination {
    Destination::Peer(user(name))
}

pub fn to_group(name: &str) -> Destination {
    Destination::Conversation(group(name))
}

pub fn text(content: impl Into<Bytes>) -> Draft {
    Draft {
        created_at: Timestamp::from_millis(5),
        content_type: "text/plain".into(),
        content: content.into(),
        reply_to: HistorySeq::ZERO,
        mentions: Vec::new(),
        flags: MessageFlags::default(),
    }
}

/// The first half: direct messages and a group.
pub fn first_half(world: &mut World) {
    for (who, device) in [("alice", "phone"), ("alice", "tablet"), ("bob", "phone")] {
        world.attach(who, device, None);
    }
    world.send("alice", to_peer("bob"), 1, text("hello bob"));
    world.send("alice", to_peer("bob"), 2, text("are you there?"));
    let quiet = MessageFlags { silent: true, uncounted: true, no_push: true };
    world.send("alice", to_peer("bob"), 5, Draft { flags: quiet, ..text("typing") });
    // Out of order: kept as a row of its own. And a retry.
    world.send("alice", to_peer("bob"), 4, text("this came late"));
    world.send("alice", to_peer("bob"), 2, text("are you there?"));
    let direct = ConversationId::direct(&user("alice"), &user("bob"));
    world.read("bob", direct.clone(), 2);
    let answer = Draft {
        reply_to: HistorySeq::new(2),
        mentions: vec![user("alice")],
        ..text("Grüße, ja: \u{1f600}")
    };
    world.send("bob", to_peer("alice"), 1, answer);
    world.send("bob", to_peer("alice"), 2, text(vec![b'x'; 20_000]));
    world.send("dave", to_peer("dave"), 7, text("note to self"));
    world.pass(3);
    world.read("bob", direct, 6);
    world.create("alice", 6, "team", HistoryPolicy::SinceJoin, &["bob", "carol"]);
    for number in 0..5 {
        world.send("carol", to_group("team"), 10 + number, text(format!("news {number}")));
    }
    let seen = InboxSeq::new(3);
    world.command("bob", "phone", &Command::Cursor(seen));
    world.pass(3);
    world.engine.flush().unwrap();
}

/// The second half: members come and go.
pub fn second_half(world: &mut World) {
    world.members("alice", true, "team", &["dave"]);
    world.send("bob", to_group("team"), 8, text("welcome dave"));
    world.members("alice", false, "team", &["carol"]);
    world.send("dave", to_group("team"), 8, text("carol does not see this"));
    world.members("alice", true, "team", &["carol"]);
    world.send("alice", to_group("team"), 9, text("carol again"));
    world.create("dave", 20, "open", HistoryPolicy::Full, &["alice"]);
    world.send("alice", to_group("open"), 10, text("before bob"));
    world.send("dave", to_group("open"), 21, text("before bob, too"));
    world.members("dave", true, "open", &["bob"]);
    world.create("erin", 1, "some", HistoryPolicy::LastN(1), &[]);
    world.send("erin", to_group("some"), 2, text("one"));
    world.send("erin", to_group("some"), 3, text("two"));
    world.members("erin", true, "some", &["bob"]);
    world.read("bob", group("team"), 7);
    let reply = world.request("alice", Request::LeaveGroup { conversation: group("team") });
    assert!(matches!(reply, Reply::Done { .. }));
    world.send("bob", to_group("team"), 9, text("alice has left"));
    world.attach("bob", "phone", Some(5));
    world.pass(3);
    world.engine.flush().unwrap();
}

/// Messages are changed, and an id is given up.
pub fn changes(world: &mut World) {
    let done = |world: &mut World, who: &str, request: Request| {
        let reply = world.request(who, request);
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    };
    let edit = |conversation: ConversationId, seq: u64, content: Bytes| Request::Edit {
        conversation,
        seq: HistorySeq::new(seq),
        content_type: "text/plain".into(),
        content,
        base_revision: None,
    };
    let direct = ConversationId::direct(&user("alice"), &user("bob"));
    done(world, "alice", edit(direct.clone(), 1, "hello, bob".into()));
    done(world, "bob", edit(direct.clone(), 5, vec![b'y'; 20_000].into()));
    done(world, "alice", edit(direct.clone(), 1, "Hello, Bob".into()));
    for (who, conversation, seq) in [("alice", direct.clone(), 2), ("bob", group("team"), 6)] {
        done(world, who, Request::Recall { conversation, seq: HistorySeq::new(seq) });
    }
    let seq = HistorySeq::new(1);
    done(world, "dave", Request::DeleteForAll { conversation: group("open"), seq });
    for unsent in [100, 99] {
        done(world, "carol", Request::CancelSend { client_id: ClientMessageId::new(unsent) });
    }
    world.engine.flush().unwrap();
}

/// Users hide, clear, pin and type; some are named in messages.
pub fn own_state(world: &mut World) {
    let done = |world: &mut World, who: &str, request: Request| {
        let reply = world.request(who, request);
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    };
    let (direct, team) = (ConversationId::direct(&user("alice"), &user("bob")), group("team"));
    let naming = |names: &[&str]| {
        let mentions = names.iter().map(|name| user(name)).collect();
        Draft { mentions, ..text("you") }
    };
    for (number, names) in [(30, &["bob", "carol"][..]), (31, &["carol", "erin"]), (32, &[])] {
        world.send("dave", to_group("team"), number, naming(names));
    }
    let head = world.head("bob", &team);
    let seqs = vec![HistorySeq::new(1), head];
    done(world, "bob", Request::DeleteForMe { conversation: team.clone(), seqs });
    let seq = HistorySeq::new(head.number() - 1);
    done(world, "dave", Request::Recall { conversation: team.clone(), seq });
    let to = HistorySeq::new(3);
    done(world, "alice", Request::ClearConversation { conversation: direct.clone(), to });
    done(world, "bob", Request::MarkUnread { conversation: team.clone() });
    for draft in ["so", "so far"] {
        let change = PreferencesChange {
            muted: Some(true),
            draft: Some(draft.into()),
            ..PreferencesChange::default()
        };
        done(world, "bob", Request::SetPreferences { conversation: team.clone(), change });
    }
    let read_seq = HistorySeq::new(6);
    let read = Request::MarkRead { conversation: direct, read_seq, peer_visible: true };
    assert!(matches!(world.request("alice", read), Reply::MarkRead { .. }));
    world.pass(3);
    world.engine.flush().unwrap();
}

/// What an administrator tells, what the push hook has to tell, and the end of a group and a device.
pub fn told_by_the_system(world: &mut World) {
    let settings = Settings {
        delay: Duration::from_secs(5),
        expiry: Duration::from_secs(24 * 3600),
        retry_first: Duration::from_secs(1),
        retry_max: Duration::from_secs(60),
        large_interval: Duration::from_secs(60),
        include_content: false,
    };
    world.engine.set_push_hook(settings, world.now()).unwrap();
    for (who, device) in [("bob", "watch"), ("dave", "phone")] {
        world.attach(who, device, None);
        let (provider, token) = ("apns".into(), Secret::new(format!("token of {who}")));
        let register = Command::Request(Request::RegisterPush { provider, token });
        world.command(who, device, &register);
        world.command(who, device, &Command::Detach);
    }
    world.send("alice", to_peer("bob"), 60, text("do you see me?"));
    world.members("bob", true, "team", &["erin", "frank"]);
    world.send("bob", to_group("team"), 61, text("to a crowd"));
    for (number, to) in [
        (1, NoticeTo::User(user("alice"))),
        (2, NoticeTo::Conversation(group("open"))),
        (3, NoticeTo::Everyone),
    ] {
        let notice = Request::SendNotice {
            to,
            client_id: ClientMessageId::new(number),
            content_type: "text/plain".into(),
            content: "maintenance".into(),
        };
        assert!(matches!(world.request("root", notice), Reply::Done { .. }));
    }
    let some = || group("some");
    for (who, request) in [
        ("erin", Request::SetRole { conversation: some(), user: user("bob"), role: Role::Admin }),
        ("bob", Request::SetTitle { conversation: some(), title: "The end".into() }),
        ("erin", Request::DisbandGroup { conversation: some() }),
        ("alice", Request::RevokeDevice { device: DeviceId::new("tablet").unwrap() }),
    ] {
        let reply = world.request(who, request);
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }
    world.engine.flush().unwrap();
}

/// Used by what only wants a store with everything in it.
pub fn everything(store: &Store, writer: Writer) -> Writer {
    let mut world = World::new(store, writer);
    first_half(&mut world);
    store.settle().unwrap();
    second_half(&mut world);
    changes(&mut world);
    own_state(&mut world);
    world.engine.into_writer()
}
