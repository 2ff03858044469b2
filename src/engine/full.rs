//! A full disk. What would write is refused from the first commit that finds no room, and nothing
//! of it is done: staging is the last step that can fail before anything changes. Everything else
//! goes on: reading, sessions that come and go, streams, presence, what is never stored.
//!
//! What the engine itself wants to write waits in memory, bounded by those who are there: cursors,
//! the rows of devices that came meanwhile, entries held back, outcomes of the push hook. Room is
//! looked for by timer, and then all of it is made up for. A crash in between costs what a crash
//! always may: cursors stand further back, and a push is said twice.

use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use super::{Engine, Now};
use crate::{
    id::{DeviceId, UserId},
    inbox::Device,
    push::Outcome,
    store::{
        StoreError,
        catalogue::{Table, device_key},
    },
};

/// How often room is looked for.
const PAUSE: Duration = Duration::from_millis(500);
/// Room that must be there for writing to begin again.
const ROOM_BYTES: usize = 4 << 20;

/// What waits for room.
#[derive(Debug, Default)]
pub(super) struct Full {
    /// When room is looked for; none = the disk is not full.
    look_at: Option<Instant>,
    /// The rows of devices that came meanwhile.
    pub(super) arrived: HashMap<(UserId, DeviceId), Device>,
    /// Devices whose coming or going the push hook's rows do not say.
    pub(super) attendance: HashSet<(UserId, DeviceId)>,
    /// What became of push jobs.
    pub(super) outcomes: Vec<Outcome>,
}

impl Full {
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Engine {
    /// After every step: whether it has met the end of the disk.
    pub(super) fn note_full(&mut self, now: Now) {
        if !self.writer.take_refused() {
            return;
        }
        // The commit that reserved ids may be the one that was refused.
        self.reserved_ids = self.next_id;
        if self.full.look_at.is_none() {
            tracing::error!("no space left: what would write is refused until there is some");
            self.full.look_at = Some(now.mono + PAUSE);
        }
    }

    /// Looks for room if it is time, and says whether there is any.
    pub(super) fn has_room(&mut self, now: Now) -> Result<bool, StoreError> {
        match self.full.look_at {
            None => return Ok(true),
            Some(at) if at > now.mono => return Ok(false),
            Some(_) => {}
        }
        if !self.writer.look_for_room(ROOM_BYTES)? {
            self.full.look_at = Some(now.mono + PAUSE);
            return Ok(false);
        }
        self.full.look_at = None;
        tracing::info!("there is space again: writes are taken");
        self.pushes_again()?;
        for (user, device) in std::mem::take(&mut self.full.attendance) {
            self.push_attendance(now, &user, &device)?;
        }
        for outcome in std::mem::take(&mut self.full.outcomes) {
            self.settle_push(now, &outcome)?;
        }
        Ok(!self.writer.is_full())
    }

    /// Before the end: what waits for room is written if there is some by now.
    pub(super) fn look_once_more(&mut self, now: Now) -> Result<(), StoreError> {
        if self.full.look_at.is_some() {
            self.full.look_at = Some(now.mono);
            when_there_is_room(self.has_room(now).map(drop))?;
        }
        Ok(())
    }

    /// Whether the device has ever had a session.
    pub(super) fn is_known(&self, user: &UserId, device: &DeviceId) -> Result<bool, StoreError> {
        Ok(self.full.arrived.contains_key(&(user.clone(), device.clone()))
            || self.writer.row(Table::Device, &device_key(user, device))?.is_some())
    }
}

/// What is written besides, and waits when there is no room: that stops nobody.
pub(super) fn when_there_is_room(done: Result<(), StoreError>) -> Result<(), StoreError> {
    match done {
        Err(StoreError::NoSpace) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{Answer, Caller, Command},
        id::{ClientMessageId, SessionId},
        limits::Limits,
        message::{Draft, MessageFlags},
        refusal::ErrorCode,
        reply::{DeviceView, Reply, Verdict},
        request::{Destination, Position, Request},
        seq::{HistorySeq, InboxSeq},
        store::{Store, StoreConfig},
        time::Timestamp,
    };

    struct World {
        // Before the folder: closed first.
        engine: Engine,
        store: Store,
        now: Now,
        folder: tempfile::TempDir,
    }

    impl World {
        fn config(folder: &tempfile::TempDir) -> StoreConfig {
            StoreConfig {
                memory_bytes: 64 << 10,
                cache_bytes: 8 << 20,
                segment_bytes: 4 << 20,
                checkpoint_interval: Duration::from_secs(3600),
                ..StoreConfig::new(folder.path().join("data"))
            }
        }

        fn begin(folder: tempfile::TempDir) -> Self {
            let (store, writer) = Store::open(&Self::config(&folder)).unwrap();
            let wall = Timestamp::from_millis(1_700_000_000_000);
            let now = Now { wall, mono: Instant::now() };
            let epoch = store.epoch();
            let engine = Engine::new(writer, epoch, Limits::default(), now).unwrap();
            Self { engine, store, now, folder }
        }

        fn end(self) -> tempfile::TempDir {
            self.store.close(self.engine.into_writer()).unwrap();
            self.folder
        }

        fn pass(&mut self, time: Duration) {
            self.now.mono += time;
            self.now.wall = self.now.wall.plus(time);
            self.engine.on_timer(self.now).unwrap();
            self.engine.flush().unwrap();
        }

        fn apply(&mut self, caller: &Caller, command: &Command) -> Answer {
            let answer = self.engine.apply(self.now, caller, command).unwrap();
            self.engine.flush().unwrap();
            answer
        }

        fn ask(&mut self, caller: &Caller, request: Request) -> Answer {
            self.apply(caller, &Command::Request(request))
        }

        fn send(&mut self, caller: &Caller, number: u64) -> Reply {
            let draft = Draft {
                created_at: Timestamp::default(),
                content_type: "text/plain".into(),
                content: vec![b'x'; 2000].into(),
                reply_to: HistorySeq::ZERO,
                mentions: Vec::new(),
                flags: MessageFlags::default(),
            };
            let to = Destination::Peer(UserId::new("bob").unwrap());
            let client_id = ClientMessageId::new(number);
            match self.ask(caller, Request::Send { to, client_id, draft }) {
                Answer::Reply(reply) => reply,
                other => panic!("{other:?}"),
            }
        }

        fn attach(&mut self, caller: &Caller, resume: Option<InboxSeq>) -> Verdict {
            let epoch = self.engine.epoch();
            let command = Command::Attach {
                resume: resume.map(|seq| Position { epoch, seq }),
                missed_entries: 0,
                platform: "test".into(),
                issued: self.now.wall,
                background: false,
            };
            match self.apply(caller, &command) {
                Answer::Attached(compared) => compared.verdict,
                other => panic!("{other:?}"),
            }
        }

        fn unread(&mut self, caller: &Caller) -> u64 {
            let all = Request::GetUnread { conversations: Vec::new(), explain: false };
            match self.ask(caller, all) {
                Answer::Reply(Reply::Unread { total, .. }) => total,
                other => panic!("{other:?}"),
            }
        }

        fn devices(&mut self, caller: &Caller) -> Vec<DeviceView> {
            match self.ask(caller, Request::ListDevices) {
                Answer::Reply(Reply::DevicePage(devices)) => devices,
                other => panic!("{other:?}"),
            }
        }

        fn cursors(&mut self, caller: &Caller) -> Vec<(String, u64)> {
            let of = |device: &DeviceView| (device.device.to_string(), device.cursor.number());
            self.devices(caller).iter().map(of).collect()
        }

        /// Sends until the disk is full; how many messages it took.
        fn fill(&mut self, caller: &Caller) -> u64 {
            self.store.set_room(0);
            (1..1000).find(|number| is_full(&self.send(caller, *number))).unwrap() - 1
        }
    }

    fn caller(user: &str, device: &str, session: u64) -> Caller {
        Caller {
            user: UserId::new(user).unwrap(),
            device: DeviceId::new(device).unwrap(),
            session: SessionId::new(session),
            admin: false,
        }
    }

    fn is_full(reply: &Reply) -> bool {
        matches!(reply, Reply::Refused(refusal) if refusal.code == ErrorCode::StorageFull)
    }

    /// Cause: a flush without room made everybody wait, those who only read too. Fix: what would
    /// write is refused before it is staged, and what the engine itself wants to write waits.
    #[test]
    fn a_full_disk_refuses_writes_and_nothing_else() {
        let mut world = World::begin(tempfile::tempdir().unwrap());
        let (alice, bob) = (caller("alice", "laptop", 1), caller("bob", "phone", 2));
        world.attach(&alice, None);
        world.attach(&bob, None);
        world.store.set_room(0);
        let mut sent = 0;
        let refused = loop {
            match world.send(&alice, sent + 1) {
                Reply::SendAck { seq, .. } => assert_eq!(seq.number(), sent + 1),
                reply => break reply,
            }
            sent += 1;
            assert!(sent < 1000, "memory is not bounded");
        };
        assert!(is_full(&refused), "{refused:?}");
        assert_eq!(world.engine.staged_bytes(), 0);
        let conversation = crate::id::ConversationId::direct(&alice.user, &bob.user);
        let mark = || Request::MarkRead {
            conversation: conversation.clone(),
            read_seq: HistorySeq::new(1),
            peer_visible: true,
        };
        for _ in 0..3 {
            assert!(is_full(&world.send(&alice, sent + 1)), "until there is room");
            assert!(matches!(world.ask(&bob, mark()), Answer::Reply(reply) if is_full(&reply)));
            // What was acked before is acked again.
            let again = world.send(&alice, sent);
            assert!(matches!(again, Reply::SendAck { duplicate: true, .. }), "{again:?}");
            assert_eq!(world.unread(&bob), sent);
            world.pass(PAUSE);
        }

        // Devices come and go, are compared, and ack.
        let head = InboxSeq::new(sent);
        world.apply(&bob, &Command::Cursor(head));
        world.apply(&bob, &Command::Detach);
        let bob = caller("bob", "phone", 3);
        assert_eq!(world.attach(&bob, Some(InboxSeq::new(1))), Verdict::CatchUp);
        let tablet = caller("bob", "tablet", 4);
        assert!(matches!(world.attach(&tablet, None), Verdict::TooLong(_)));
        world.apply(&tablet, &Command::Cursor(InboxSeq::new(2)));
        let caught_up = world.apply(&tablet, &Command::CaughtUp);
        assert!(
            matches!(caught_up, Answer::CaughtUp { seq, unread_total, .. }
                if seq == head && unread_total == sent),
            "{caught_up:?}"
        );
        let both = [("phone".to_owned(), sent), ("tablet".to_owned(), 2)];
        assert_eq!(world.cursors(&bob), both);
        world.pass(PAUSE);
        assert_eq!(world.cursors(&bob), both);
        assert!(world.engine.deadline().unwrap() > world.now.mono, "it does not spin");

        world.store.set_room(u64::MAX);
        for _ in 0..100 {
            world.pass(PAUSE);
            if world.engine.full.look_at.is_none() {
                break;
            }
            // The filler is another thread; it was asked for a round.
            world.store.settle().unwrap();
        }
        let next = world.send(&alice, sent + 1);
        assert!(
            matches!(next, Reply::SendAck { seq, duplicate: false, .. } if seq.number() == sent + 1),
            "nothing is skipped: {next:?}"
        );
        assert!(matches!(world.send(&alice, sent + 1), Reply::SendAck { duplicate: true, .. }));
        assert_eq!(world.unread(&bob), sent + 1);
        world.pass(Duration::from_secs(60));

        // All of it was written.
        let mut world = World::begin(world.end());
        assert_eq!(world.cursors(&bob), both);
        assert_eq!(world.unread(&bob), sent + 1);
        let next = world.send(&alice, sent + 2);
        assert!(matches!(next, Reply::SendAck { seq, .. } if seq.number() == sent + 2), "{next:?}");
    }

    /// Cause: a daemon that was stopped less than half a second after the disk had been full, and no
    /// longer was, forgot which devices had come meanwhile and how far they were. Fix: the end looks
    /// for room once more. Found by errors injected into system calls (tests/faults/inject.rs).
    #[test]
    fn a_drain_looks_for_room_once_more() {
        let mut world = World::begin(tempfile::tempdir().unwrap());
        let (alice, bob) = (caller("alice", "laptop", 1), caller("bob", "phone", 2));
        world.attach(&alice, None);
        world.attach(&bob, None);
        let sent = world.fill(&alice);
        let head = InboxSeq::new(sent);
        assert_eq!(world.attach(&caller("bob", "phone", 3), Some(head)), Verdict::UpToDate);
        world.store.set_room(u64::MAX);
        world.store.settle().unwrap();
        assert_eq!(world.engine.finish(world.now).unwrap(), 0, "nobody is forgotten");
        world.engine.flush().unwrap();
        let mut world = World::begin(world.end());
        assert_eq!(world.cursors(&bob), [("phone".to_owned(), sent)]);
    }

    /// A drain that finds no room says how many devices it forgets: one that has acked and one that
    /// has come.
    #[test]
    fn a_drain_without_room_counts_whom_it_forgets() {
        let mut world = World::begin(tempfile::tempdir().unwrap());
        let (alice, bob) = (caller("alice", "laptop", 1), caller("bob", "phone", 2));
        world.attach(&alice, None);
        world.attach(&bob, None);
        let sent = world.fill(&alice);
        world.attach(&caller("bob", "tablet", 4), None);
        world.apply(&bob, &Command::Cursor(InboxSeq::new(sent)));
        world.apply(&bob, &Command::Cursor(InboxSeq::new(1)));
        assert_eq!(world.engine.finish(world.now).unwrap(), 2);
        assert!(world.engine.full.look_at.is_some(), "it is still known");
    }

    /// Cause: a device that came again while the disk was full was listed as it had been before, by
    /// the row that was stored. Fix: what waits for room counts. Found by the simulation, seed 3706.
    #[test]
    fn a_device_that_comes_again_on_a_full_disk_is_listed_as_it_is() {
        let mut world = World::begin(tempfile::tempdir().unwrap());
        let (alice, bob) = (caller("alice", "laptop", 1), caller("bob", "phone", 2));
        world.attach(&alice, None);
        world.attach(&bob, None);
        let first = world.now.wall;
        let sent = world.fill(&alice);
        world.now.wall = world.now.wall.plus(Duration::from_secs(1));
        world.attach(&caller("bob", "phone", 3), Some(InboxSeq::new(sent)));
        world.attach(&caller("bob", "laptop", 4), None);
        let [phone, laptop] = &world.devices(&bob)[..] else { panic!("two, in the rows' order") };
        assert_eq!((phone.first_seen, phone.last_seen), (first, world.now.wall));
        assert_eq!((phone.cursor.number(), laptop.first_seen), (sent, world.now.wall));
    }
}
