//! Backups of a daemon under load: each is the data at one commit.

use std::{
    collections::BTreeSet,
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    place::{Place, lines, run},
    support::{Daemon, peer},
    witness::{Complaints, Depth, Launch, Ledger, Load, Outcome, Played, seed, setting},
};

/// How long one load lasts at most.
const LOAD_TIME_MAX: Duration = Duration::from_secs(5);

/// The witness of the crash tests: what was acked before a backup began is in the restored copy,
/// once and in order; what came meanwhile is there whole or not at all, and its retry makes it one.
#[test]
fn what_was_acked_before_a_backup_under_load_is_restored() {
    let seed = seed("TOOLS_SEED");
    let rounds = setting("TOOLS_ROUNDS", 2);
    println!("TOOLS_SEED={seed} TOOLS_ROUNDS={rounds} cargo test --test tools load");
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let place = Place::new();
        let launch = Launch::small_store(&place.path("data"));
        let (mut roamd, address) = launch.start().unwrap();
        let mut ledger = Ledger::open(&launch, address).unwrap();
        let first = Load::start(&ledger, address, rng.random());
        assert!(first.work(rng.random_range(300..1200), LOAD_TIME_MAX), "no load");
        roamd.kill();
        let mut complaints = ledger.take(first.end());

        let (mut roamd, address) = launch.start().unwrap();
        let acked = ledger.figures.acked;
        let second = Load::start(&ledger, address, rng.random());
        assert!(second.work(rng.random_range(1..300), LOAD_TIME_MAX), "no load");
        let backup = place.path("backup");
        let told = launch.tool(&["store", "backup", backup.to_str().unwrap()]).unwrap();
        assert!(told.starts_with("backup of commit"), "{told}");
        assert!(second.work(50, LOAD_TIME_MAX), "the daemon did not go on");
        roamd.kill();
        complaints.extend(ledger.take(second.end().into_iter().map(unsure).collect()));

        let restored = Launch { data: place.path("restored"), ..launch.clone() };
        restored.tool(&["store", "restore", backup.to_str().unwrap()]).unwrap();
        let verified = restored.verify().unwrap();
        assert!(verified.starts_with("sound"), "{verified}");
        // Everybody starts over.
        ledger.epoch = None;
        complaints.extend(whole(&mut ledger, &restored));
        assert!(
            complaints.is_empty(),
            "round {round}, seed {seed}:\n- {}",
            complaints.join("\n- ")
        );
        println!("{acked} sends acked before, {} settled after: {told}", ledger.figures.repeated);
    }
}

/// Checks, repeats what is open, and checks again.
fn whole(ledger: &mut Ledger, launch: &Launch) -> Complaints {
    let (mut roamd, address) = launch.start().unwrap();
    let mut complaints = ledger.check(address, Depth::Whole);
    if complaints.is_empty() {
        complaints = ledger.settle(address);
    }
    if complaints.is_empty() {
        complaints = ledger.check(address, Depth::Whole);
    }
    if !complaints.is_empty() {
        complaints.push(roamd.obituary("while checking"));
    }
    complaints
}

/// What a device did while the backup was taken, or after: each of it is in the backup or not. What
/// it has acked bounds its cursor from above, all the same.
fn unsure(mut play: Played) -> Played {
    for (_, outcome) in &mut play.sent {
        if let Outcome::Acked(_) = outcome {
            *outcome = Outcome::Open;
        }
    }
    Played { marks: Vec::new(), changes: Vec::new(), seen: Vec::new(), head: 0, floor: 0, ..play }
}

/// One who sends number after number, each to another conversation, and waits for each ack: of a copy
/// as of one commit the numbers are all up to one, in histories and inboxes alike.
#[test]
fn a_backup_under_load_is_a_cut_through_everything() {
    let rounds = setting("TOOLS_ROUNDS", 4);
    let daemon = Daemon::with(&[
        ("store.memory_bytes", "64KiB"),
        ("store.checkpoint_interval", "50ms"),
        ("store.segment_bytes", "256KiB"),
        ("limits.inbox_entries", "1000000"),
        ("limits.sends_per_second", "100000"),
        ("limits.sends_burst", "100000"),
    ]);
    let (stop, acked) = (AtomicBool::new(false), AtomicU64::new(0));
    let place = Place::new();
    let mut client = daemon.login("alice", "phone");
    thread::scope(|scope| {
        let (stop, acked) = (&stop, &acked);
        scope.spawn(move || {
            for number in (1..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                let to = peer(&format!("user-{}", number % 7));
                client.send(to, number, &format!("number-{number}"));
                acked.store(number, Ordering::SeqCst);
            }
        });
        let _stop = Stop(stop);
        let enough = |after: u64| {
            crate::support::daemon::until("more sends", || {
                (acked.load(Ordering::SeqCst) > after).then_some(())
            });
        };
        let mut past = 0;
        for round in 0..rounds {
            enough(acked.load(Ordering::SeqCst) + 200);
            let before = acked.load(Ordering::SeqCst);
            let backup = place.path(&format!("backup-{round}"));
            let output = daemon.run(&["store", "backup", backup.to_str().unwrap()]);
            let after = acked.load(Ordering::SeqCst) + 1;
            assert!(output.status.success(), "{output:?}");
            let restored = place.path(&format!("restored-{round}"));
            run(&restored, ["restore".as_ref(), backup.as_os_str()], 0);
            let (histories, inbox) = numbers(&lines(&restored));
            let last = histories.last().copied().unwrap_or(0);
            assert!(histories.iter().copied().eq(1..=last), "not a cut: {histories:?}");
            assert_eq!(inbox as u64, last, "alice has each of her own messages");
            assert!(before <= last && last <= after, "{before} {last} {after}");
            past += u64::from(last > before);
            assert!(run(&restored, ["verify"], 0).starts_with("sound"));
            fs::remove_dir_all(&backup).unwrap();
            fs::remove_dir_all(&restored).unwrap();
        }
        assert!(past > 0, "nothing was sent while backups were taken");
        println!("{} sends, {rounds} backups meanwhile", acked.load(Ordering::SeqCst));
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The numbers in all histories, and how many messages there are in alice's inbox.
fn numbers(lines: &[String]) -> (BTreeSet<u64>, usize) {
    let (mut numbers, mut inbox, mut alice) = (BTreeSet::new(), 0, false);
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap();
        if line.get("log").is_some() {
            alice = line["log"] == "inbox" && line["user"] == "alice";
        }
        if let Some(number) = line["content"].as_str().and_then(|c| c.strip_prefix("number-")) {
            assert!(numbers.insert(number.parse().unwrap()), "{number} is there twice");
        }
        inbox += usize::from(alice && line["kind"] == "message");
    }
    (numbers, inbox)
}
