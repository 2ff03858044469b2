//! An engine over a store in a temporary directory, driven as the daemon drives it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use roamd::{
    engine::{Answer, Caller, Command, Engine, Now, read},
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, SessionId, UserId},
    limits::Limits,
    message::{Draft, HistoryPolicy},
    reply::{Batch, EntryView, Reply},
    request::{Destination, Request},
    seq::InboxSeq,
    store::{ReadLimit, Reader, Store, StoreConfig},
    time::Timestamp,
    wire::encode_server,
};
use tempfile::TempDir;

/// Bytes of content of every message.
pub const CONTENT_BYTES: usize = 200;
const KEPT: u64 = 1000;

pub struct World {
    pub dir: TempDir,
    // Before the store: an engine holds its writer.
    pub engine: Engine,
    pub reader: Reader,
    content: Bytes,
    sent: u64,
    _store: Store,
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).expect("an id")
}

pub fn caller(name: &str) -> Caller {
    Caller {
        user: user(name),
        device: DeviceId::new("phone").expect("an id"),
        session: SessionId::new(1),
        admin: false,
    }
}

pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Now { wall: Timestamp::from_millis(wall.as_millis() as u64), mono: Instant::now() }
}

impl World {
    pub fn new() -> Self {
        let dir = match std::env::var_os("ROAMD_BENCH_DIR") {
            Some(parent) => tempfile::tempdir_in(parent),
            None => tempfile::tempdir(),
        };
        let dir = dir.expect("a directory");
        let config = StoreConfig {
            checkpoint_interval: Duration::from_secs(3600),
            inbox_entries: KEPT,
            new_epoch: Epoch::new(1),
            ..StoreConfig::new(dir.path().join("data"))
        };
        let (store, writer) = Store::open(&config).expect("a store");
        let engine = Engine::new(writer, store.epoch(), Limits::default(), now());
        let engine = engine.expect("an engine");
        let content = Bytes::from(vec![b'x'; CONTENT_BYTES]);
        Self { dir, engine, reader: store.reader(), content, sent: 0, _store: store }
    }

    pub fn apply(&mut self, caller: &Caller, command: &Command) -> Answer {
        self.engine.apply(now(), caller, command).expect("a store that works")
    }

    pub fn flush(&mut self) {
        self.engine.flush().expect("a store that works");
    }

    pub fn ask(&mut self, caller: &Caller, request: Request) -> Answer {
        self.apply(caller, &Command::Request(request))
    }

    /// One message; durable after the next flush.
    pub fn send(&mut self, from: &Caller, to: &Destination) {
        self.sent += 1;
        let draft = Draft {
            created_at: Timestamp::default(),
            content_type: "text/plain".into(),
            content: self.content.clone(),
            reply_to: Default::default(),
            mentions: Vec::new(),
            flags: Default::default(),
        };
        let client_id = ClientMessageId::new(self.sent);
        let answer = self.ask(from, Request::Send { to: to.clone(), client_id, draft });
        assert!(matches!(answer, Answer::Reply(Reply::SendAck { .. })), "{answer:?}");
    }

    /// A group of the first of these and all others.
    pub fn group(&mut self, owner: &Caller, others: Vec<UserId>) -> ConversationId {
        self.sent += 1;
        let id = ConversationId::new("group").expect("an id");
        let create = Request::CreateGroup {
            client_id: ClientMessageId::new(self.sent),
            conversation: Some(id.clone()),
            title: "".into(),
            users: others,
            policy: HistoryPolicy::SinceJoin,
        };
        let answer = self.ask(owner, create);
        assert!(matches!(answer, Answer::Reply(Reply::GroupCreated { .. })), "{answer:?}");
        self.flush();
        id
    }

    /// As a session reads: so many entries after this one.
    pub fn entries(&self, user: &UserId, after: u64, count: usize) -> Vec<EntryView> {
        let most = ReadLimit { entries: count, bytes: usize::MAX };
        let (after, upto) = (InboxSeq::new(after), InboxSeq::new(after + count as u64));
        let entries = read::entries(&self.reader, user, after, upto, most, KEPT);
        let entries = entries.expect("a store that works").expect("not trimmed");
        assert_eq!(entries.len(), count);
        entries
    }

    /// The same, as they go to the device.
    pub fn batch(&self, user: &UserId, after: u64, count: usize, head: u64, out: &mut BytesMut) {
        let entries = self.entries(user, after, count);
        let (prev, head) = (InboxSeq::new(after), InboxSeq::new(head));
        encode_server(0, &Reply::SyncBatch(Batch { prev, head, entries }), out);
    }

    /// As a session completes an answer that has something to be read.
    pub fn complete(&self, user: &UserId, answer: Answer) -> Reply {
        let reply = read::complete(&self.reader, user, KEPT, answer).expect("a store that works");
        reply.expect("a reply")
    }
}
