//! Too few descriptors, too little memory, a log that cannot be written: sessions that are there go
//! on, and nothing acked is lost.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use roamd::wire::proto::{Direction, Ping, client_frame::Body};

use crate::{
    expect,
    support::{Client, Daemon, daemon::until, peer},
    tools::{ONE_AT_A_TIME, folder, is_root, kib, none, possible},
    witness::{Complaints, Depth, Launch, Load, look, seed},
};

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn limit(pid: u32, what: &str) {
    let status = Command::new("prlimit").args(["--pid", &pid.to_string(), what]).status().unwrap();
    assert!(status.success());
}

/// Cause: connections could take the last descriptor, and the store's next file was a failed write,
/// which ends the daemon. Fix: there are as many connections as leave enough for everything else.
#[test]
fn descriptors_are_left_for_the_store_whoever_connects() {
    if !possible("prlimit", &["--nofile=300:300", "true"]) {
        return;
    }
    let mut daemon = Daemon::with(&[
        ("store.segment_bytes", "64KiB"),
        ("store.memory_bytes", "64KiB"),
        ("store.checkpoint_interval", "20ms"),
    ]);
    daemon.terminate();
    assert!(daemon.ended().success());
    daemon.under(&["prlimit", "--nofile=300:300"]);
    daemon.relaunch();
    daemon.wait_log("too few files may be open");
    let mut alice = daemon.login("alice", "phone");
    let mut sessions: Vec<Client> = Vec::new();
    let mut strangers: Vec<TcpStream> = Vec::new();
    let body = "x".repeat(4000);
    for number in 1..=400 {
        // Some say nothing, some have a session; at some point there is no place for either.
        strangers.extend(TcpStream::connect(daemon.address()));
        if number <= 100 {
            sessions.push(daemon.login(&format!("user-{number}"), "phone"));
        }
        let ack = alice.send(peer("bob"), number, &body);
        assert_eq!((ack.history_seq, ack.duplicate), (number, false));
    }
    assert!(descriptors(daemon.pid()) < 300);
    for session in &mut sessions {
        expect!(Pong, session.call(Body::Ping(Ping { client_time_ms: 1 })));
    }
    drop(strangers);
    let mut bob = daemon.login("bob", "phone");
    let id = bob.recents()[0].conversation_id.clone();
    assert_eq!(bob.history(&id, Direction::Newest, 0, 1).messages[0].history_seq, 400);
    assert!(daemon.runs());
}

/// All descriptors are gone, by whatever: accepting waits, sessions go on, and when there are some
/// again whoever waited is served.
#[test]
fn descriptors_that_are_gone_stop_accepting_and_nothing_else() {
    if !possible("prlimit", &["--nofile=300:300", "true"]) {
        return;
    }
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "x");
    limit(daemon.pid(), &format!("--nofile={}:4096", descriptors(daemon.pid())));
    // The kernel takes the connection; the daemon cannot yet.
    let mut waiting = daemon.connect();
    let hello = waiting.post(Body::Hello(daemon.greeting("carol", "phone")));
    daemon.wait_log("cannot accept");
    for number in 2..=20 {
        let ack = alice.send(peer("bob"), number, "x");
        bob.synced(ack.history_seq);
    }
    limit(daemon.pid(), "--nofile=4096:4096");
    expect!(Welcome, waiting.reply(hello));
}

/// Half a hundred readers that never read, in so much memory that a queue of all they have not
/// taken would not fit.
#[test]
fn memory_of_a_cgroup_is_enough_for_readers_that_never_read() {
    let _turn = ONE_AT_A_TIME.lock();
    if !is_root() {
        return;
    }
    let Some(group) = MemoryGroup::make(160 << 20) else {
        println!("SKIPPED: no memory cgroup can be made");
        return;
    };
    let daemon = Daemon::with(&[
        ("store.memory_bytes", "4MiB"),
        ("limits.fanout_members", "100"),
        ("limits.sends_per_second", "0"),
    ]);
    group.take(daemon.pid());
    let mut alice = daemon.login("alice", "phone");
    let readers: Vec<String> = (0..50).map(|number| format!("reader-{number}")).collect();
    let group_of_all = roamd::wire::proto::CreateGroup {
        client_request_id: 1,
        conversation_id: "all".into(),
        title: "all".into(),
        user_ids: readers.iter().cloned().chain(["bob".into()]).collect(),
        ..Default::default()
    };
    expect!(GroupCreated, alice.call(Body::CreateGroup(group_of_all)));
    let _stalled: Vec<Client> =
        readers.iter().map(|reader| daemon.open(daemon.greeting(reader, "phone"))).collect();
    let mut bob = daemon.login("bob", "phone");
    let body = "x".repeat(60_000);
    // 18 MB for each of fifty.
    for number in 2..=300 {
        let ack = alice.send(crate::support::conversation("all"), number, &body);
        bob.wait("the message", |bob| {
            (bob.messages().last()?.history_seq == ack.history_seq).then_some(())
        });
        bob.ack(bob.seq);
        bob.inbox.clear();
        bob.came.clear();
        bob.inbox.shrink_to_fit();
    }
    println!("VmHWM {} KiB", kib(daemon.pid(), "VmHWM"));
    expect!(Pong, alice.call(Body::Ping(Ping { client_time_ms: 1 })));
}

/// A cgroup with a limit of memory; of either version, whichever is there.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn make(bytes: u64) -> Option<Self> {
        let name = format!("roamd-faults-{}", std::process::id());
        let roots =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, limit)| {
            let made = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&made.0).ok()?;
            fs::write(made.0.join(limit), bytes.to_string()).ok()?;
            Some(made)
        })
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // When its last process is gone.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Memory that ends in the middle of the work: whatever becomes of the daemon, what it acked is there.
#[test]
fn memory_that_ends_loses_nothing_acked() {
    let _turn = ONE_AT_A_TIME.lock();
    if !possible("prlimit", &["--as=1000000000", "true"]) {
        return;
    }
    let seed = seed("FAULT_SEED");
    let again = format!("FAULT_SEED={seed} cargo test --test faults memory_that_ends");
    let dir = folder();
    let launch = Launch::small_store(&dir.path().join("data"));
    let mut dir = Some(dir);
    let mut ledger = None;
    for more in [0, 256, 4096] {
        let mut complaints = Complaints::new();
        match look(&launch, &mut ledger, Depth::New) {
            Err(found) => complaints = found,
            Ok((mut roamd, address)) => {
                let ledger = ledger.as_mut().unwrap();
                let load = Load::start(ledger, address, seed + more);
                load.work(200, Duration::from_secs(2));
                let bytes = (kib(roamd.pid(), "VmSize") + more) << 10;
                limit(roamd.pid(), &format!("--as={bytes}"));
                load.work(600, Duration::from_secs(2));
                println!("{more} KiB more: ended by itself: {:?}", roamd.ended());
                roamd.kill();
                complaints.extend(ledger.take(load.end()));
            }
        }
        none(&complaints, &format!("{more} KiB more"), &again, &mut dir);
    }
    let complaints = look(&launch, &mut ledger, Depth::Whole).err().unwrap_or_default();
    none(&complaints, "at the end", &again, &mut dir);
}

/// Cause: what cannot be written to stderr made `eprintln!` panic, in the writer's thread too, as
/// when the log is a file on a full disk. Fix: it is left out.
#[test]
fn log_that_cannot_be_written_stops_nobody() {
    let dir = folder();
    let data = dir.path().join("data");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut roamd = Command::new(env!("CARGO_BIN_EXE_roamd"))
        .args(["serve", "--listen", &free.to_string(), "--data"])
        .arg(&data)
        .env("ROAMD_LOG__LEVEL", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::options().write(true).open("/dev/full").unwrap())
        .spawn()
        .unwrap();
    let stream = until("the daemon", || {
        assert!(roamd.try_wait().unwrap().is_none(), "it has ended");
        TcpStream::connect(free).ok()
    });
    let mut client = Client::new(stream);
    client.write(b"\x10no frame at all.");
    client.end();
    let status = Command::new("kill").args(["-TERM", &roamd.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert!(roamd.wait().unwrap().success());
}
