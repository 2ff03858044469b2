//! Who drives, and what is left to whom.

use crossbeam_channel::Receiver;

use super::*;
use crate::{
    engine::Answer,
    id::{ClientMessageId, DeviceId, Epoch, SessionId, UserId},
    limits::Limits,
    message::{Draft, MessageFlags},
    reply::Reply,
    request::{Destination, Position},
    seq::{HistorySeq, InboxSeq},
    store::{Store, StoreConfig, catalogue::LogKey},
    time::Timestamp,
};

/// A submitter whose thread is played by the test.
struct World {
    submitter: Submitter,
    sleeper: Sleeper<Task>,
    store: Store,
    _jobs: Receiver<Job>,
    _folder: tempfile::TempDir,
}

/// One that sends, and hears.
struct Device {
    caller: Caller,
    feed: Arc<Feed>,
    sent: u64,
}

impl Device {
    fn new(name: &str, session: u64) -> Self {
        let caller = Caller {
            user: UserId::new(name).unwrap(),
            device: DeviceId::new("phone").unwrap(),
            session: SessionId::new(session),
            admin: false,
        };
        Self { caller, feed: Feed::new(), sent: 0 }
    }

    fn submit(&self, submitter: &Submitter, number: u64, command: Command) -> bool {
        submitter.submit(&self.feed, number, self.caller.clone(), command).unwrap()
    }

    /// Whether it is to be driven.
    fn send(&mut self, submitter: &Submitter) -> bool {
        self.sent += 1;
        let draft = Draft {
            created_at: Timestamp::default(),
            content_type: "text/plain".into(),
            content: vec![b'x'; 200].into(),
            reply_to: HistorySeq::ZERO,
            mentions: Vec::new(),
            flags: MessageFlags::default(),
        };
        let to = Destination::Peer(UserId::new("bob").unwrap());
        let client_id = ClientMessageId::new(self.sent);
        let request = Request::Send { to, client_id, draft };
        self.submit(submitter, self.sent, Command::Request(request))
    }

    /// The numbers of what was answered, every one of them well.
    fn heard(&self) -> Vec<u64> {
        let answers = self.feed.take(true).answers;
        let refused = |answer: &Answer| matches!(answer, Answer::Reply(Reply::Refused(_)));
        assert!(!answers.iter().any(|(_, answer)| refused(answer)), "{answers:?}");
        answers.into_iter().map(|(number, _)| number).collect()
    }
}

impl World {
    fn new(shares: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            memory_bytes: 8 << 20,
            cache_bytes: 8 << 20,
            segment_bytes: 4 << 20,
            ..StoreConfig::new(folder.path().join("data"))
        };
        let (store, writer) = Store::open(&config).unwrap();
        let clock = Clock::start();
        let engine = Engine::new(writer, store.epoch(), Limits::default(), clock.now()).unwrap();
        let (hook, jobs) = crossbeam_channel::bounded(1);
        let waiting = Duration::from_secs(60);
        let (submitter, sleeper) = prepare(engine, store.reader(), clock, hook, waiting, shares);
        let world = Self { submitter, sleeper, store, _jobs: jobs, _folder: folder };
        world.rest_of_thread();
        world
    }

    /// Whatever the disk of this machine is busy with, it was quick of late.
    fn quick_disk(&self) {
        let pace = &self.submitter.pace;
        (0..200).for_each(|_| pace.did(1, false, Duration::ZERO, Duration::ZERO));
    }

    /// A connection is done with submitting.
    fn drive(&self) {
        self.quick_disk();
        self.submitter.drive();
        self.quick_disk();
    }

    /// Whether the thread would wake now.
    fn thread_wakes(&self) -> bool {
        self.sleeper.sleep(Instant::now()) == Next::Came
    }

    /// The thread does what waits, and sleeps.
    fn rest_of_thread(&self) {
        let mut state = self.submitter.state.lock();
        let batches = state.batches.as_mut().unwrap();
        while batches.batch().unwrap() && !batches.waiting.is_empty() {}
        let until = batches.rest();
        state.sleeps_until = until;
        self.quick_disk();
    }

    fn durable(&self, user: &str) -> u64 {
        self.store.reader().bounds(&LogKey::inbox(&UserId::new(user).unwrap())).unwrap().last
    }
}

#[test]
fn a_lone_command_is_done_where_it_came_without_the_thread() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    assert!(alice.send(&world.submitter), "the thread has not been told");
    assert_eq!((alice.heard(), world.durable("bob")), (vec![], 0));
    world.drive();
    assert_eq!((alice.heard(), world.durable("bob")), (vec![1], 1));
    assert!(!world.submitter.tasks.is_left() && !world.thread_wakes());
}

#[test]
fn where_connections_share_nothing_the_thread_does_it() {
    let world = World::new(false);
    let mut alice = Device::new("alice", 1);
    assert!(!alice.send(&world.submitter) && world.thread_wakes());
    assert_eq!(alice.heard(), [0; 0]);
    world.rest_of_thread();
    assert_eq!(alice.heard(), [1]);
}

#[test]
fn what_stands_behind_a_long_command_waits_for_the_thread_with_it() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    alice.send(&world.submitter);
    assert!(!alice.submit(&world.submitter, 100, Command::CaughtUp));
    alice.send(&world.submitter);
    world.drive();
    assert_eq!((alice.heard(), world.thread_wakes()), (vec![1], true));
    world.drive();
    assert_eq!(alice.heard(), [0; 0], "nothing is passed over");
    world.rest_of_thread();
    assert_eq!(alice.heard(), [100, 2]);
}

#[test]
fn whoever_holds_the_state_finds_what_came_meanwhile() {
    let world = World::new(true);
    let (mut alice, mut carol) = (Device::new("alice", 1), Device::new("carol", 2));
    alice.send(&world.submitter);
    {
        let _thread = world.submitter.state.lock();
        world.drive();
    }
    assert_eq!(alice.heard(), [0; 0]);
    assert!(world.thread_wakes(), "as the thread looks before it sleeps");
    carol.send(&world.submitter);
    world.drive();
    assert_eq!((alice.heard(), carol.heard()), (vec![1], vec![1]), "or another connection");
}

#[test]
fn a_slow_disk_is_waited_for_by_the_thread() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    let slow = 10 * FLUSH_MAX;
    (0..100).for_each(|_| world.submitter.pace.did(1, false, Duration::ZERO, slow));
    assert!(!alice.send(&world.submitter) && world.thread_wakes(), "at once");
    world.submitter.drive();
    assert_eq!(alice.heard(), [0; 0]);
    world.rest_of_thread();
    assert_eq!(alice.heard(), [1]);
}

#[test]
fn many_are_left_to_the_thread() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    (0..100).for_each(|_| assert!(alice.send(&world.submitter)));
    world.drive();
    assert_eq!((alice.heard(), world.thread_wakes()), (vec![], true));
    world.rest_of_thread();
    assert_eq!(alice.heard(), (1..=100).collect::<Vec<_>>());
}

#[test]
fn the_thread_wakes_for_a_time_that_a_connection_has_set() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    alice.send(&world.submitter);
    world.drive();
    assert!(!world.thread_wakes(), "not for what is done");
    alice.submit(&world.submitter, 100, attach(world.store.epoch()));
    world.rest_of_thread();
    while world.thread_wakes() {}
    world.submitter.state.lock().sleeps_until = Instant::now() + Duration::from_secs(60);
    alice.submit(&world.submitter, 0, Command::Cursor(InboxSeq::new(1)));
    world.drive();
    assert!(!world.submitter.tasks.is_left());
    assert!(world.thread_wakes(), "cursors are written soon");
    world.drive();
    assert!(!world.thread_wakes(), "once");
}

fn attach(epoch: Epoch) -> Command {
    Command::Attach {
        resume: Some(Position { epoch, seq: InboxSeq::ZERO }),
        missed_entries: 0,
        platform: "test".into(),
        issued: Timestamp::default(),
        background: false,
    }
}

#[test]
fn after_a_failure_nobody_drives_and_the_thread_ends_with_it() {
    let world = World::new(true);
    let mut alice = Device::new("alice", 1);
    world.submitter.state.lock().failed = Some(StoreError::NoSpace);
    alice.send(&world.submitter);
    world.drive();
    assert_eq!((alice.heard(), world.thread_wakes()), (vec![], true));
    let ended = run(&world.submitter.state, &world.sleeper);
    assert!(matches!(ended, Err(StoreError::NoSpace)), "{ended:?}");
    world.drive();
    assert_eq!((alice.heard(), world.durable("bob")), (vec![], 0));
}

/// Everybody at once: nothing is lost, nothing is done twice, and each is answered in its order.
#[test]
fn thread_and_connections_take_turns() {
    const EACH: u64 = 300;
    let world = World::new(true);
    let World { submitter, sleeper, .. } = &world;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| run(&submitter.state, sleeper));
        let devices: Vec<_> = (1..=4)
            .map(|number| {
                scope.spawn(move || {
                    let mut device = Device::new(&format!("user{number}"), number);
                    for turn in 0..EACH {
                        device.send(submitter);
                        // Some bring several at once.
                        if turn % (number + 1) == 0 || turn + 1 == EACH {
                            submitter.drive();
                        }
                    }
                    device
                })
            })
            .collect();
        let devices: Vec<_> = devices.into_iter().map(|device| device.join().unwrap()).collect();
        submitter.finish();
        thread.join().unwrap().unwrap();
        for device in devices {
            assert_eq!(device.heard(), (1..=EACH).collect::<Vec<_>>());
        }
    });
    assert_eq!(world.durable("bob"), 4 * EACH);
}
