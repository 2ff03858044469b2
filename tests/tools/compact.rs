//! Compaction: nothing is lost, what is gone is gone from the bytes, and a kill at any write leaves the
//! old data or the new.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::{
    id::ConversationId, message::HistoryPolicy, reply::Reply, request::Request, seq::HistorySeq,
    store::Store,
};

use crate::{
    export::damaged,
    place::{Place, copy, files, has, lines, refused, run, same, small, under},
    scenario::{World, group, text, to_group, to_peer, user},
    witness::{seed, setting},
};

/// What counts as a write, as in `tests/crash/first_boot.rs`.
const WRITES: &str = "write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,\
                      rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate,fallocate";
/// Kills of the slice.
const POINTS: u64 = 12;

/// A conversation with messages that stay and messages that do not.
fn secrets(dir: &Path) {
    let (store, writer) = Store::open(&small(dir)).unwrap();
    let mut world = World::new(&store, writer);
    let direct = ConversationId::direct(&user("alice"), &user("bob"));
    let filler = "x".repeat(20_000);
    for number in 1..=60 {
        let kind = if number % 3 == 0 { "STAYS" } else { "SECRET" };
        world.send("alice", to_peer("bob"), number, text(format!("{kind}-{number}-{filler}")));
    }
    let mut change = |request: Request| {
        let reply = world.request("alice", request);
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    };
    for number in (1..=60).filter(|number| number % 3 != 0) {
        let seq = HistorySeq::new(number);
        if number % 2 == 0 {
            change(Request::Edit {
                conversation: direct.clone(),
                seq,
                content_type: "text/plain".into(),
                content: format!("SECRET-edited-{number}").into(),
                base_revision: None,
            });
        }
        change(Request::Recall { conversation: direct.clone(), seq });
    }
    // In a group its owner deletes.
    world.create("alice", 200, "team", HistoryPolicy::Full, &["bob"]);
    world.send("bob", to_group("team"), 1, text("SECRET-deleted"));
    let seq = HistorySeq::new(1);
    let deleted = Request::DeleteForAll { conversation: group("team"), seq };
    let reply = world.request("alice", deleted);
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    // One edit of a message that stays.
    let edit = Request::Edit {
        conversation: direct,
        seq: HistorySeq::new(3),
        content_type: "text/plain".into(),
        content: "STAYS-edited".into(),
        base_revision: None,
    };
    let reply = world.request("alice", edit);
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    world.engine.flush().unwrap();
    store.close(world.engine.into_writer()).unwrap();
}

fn bytes(dir: &Path) -> u64 {
    files(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// The line of `store stat` with the bytes of the trees.
fn trees_bytes(dir: &Path) -> u64 {
    let stat = run(dir, ["stat"], 0);
    let line = stat.lines().find(|line| line.starts_with("trees")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_gone_leaves_the_bytes_and_gives_its_space_back() {
    let place = Place::new();
    let data = place.path("data");
    secrets(&data);
    assert!(
        has(&data, "SECRET-1-") && has(&data, "SECRET-deleted") && has(&data, "SECRET-edited-2"),
        "the test is blind"
    );
    let exported = lines(&data);
    let (before, trees) = (bytes(&data), trees_bytes(&data));
    let identity = |text: String| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("epoch")).map(str::to_owned).collect()
    };
    let epoch = identity(run(&data, ["stat"], 0));

    let told = run(&data, ["compact"], 0);
    assert!(told.starts_with("compacted"), "{told}");
    assert!(!has(&data, "SECRET"), "contents of messages that are gone are still there");
    for kept in ["STAYS-3-", "STAYS-60-", "STAYS-edited"] {
        assert!(has(&data, kept), "{kept} is lost");
    }
    same(&exported, &lines(&data));
    assert!(run(&data, ["verify"], 0).starts_with("sound"));
    assert_eq!(identity(run(&data, ["stat"], 0)), epoch, "nothing is lost, so nobody starts over");
    let (after, trees_after) = (bytes(&data), trees_bytes(&data));
    assert!(trees_after * 2 < trees, "{trees} bytes of trees before, {trees_after} now");
    assert!(after < before, "{before} bytes before, {after} now");
    println!("{before} bytes before, {after} now; trees {trees} before, {trees_after} now");

    // It is a data directory like any other: once more, and it goes on.
    run(&data, ["compact"], 0);
    same(&exported, &lines(&data));
    let (store, writer) = Store::open(&small(&data)).unwrap();
    let mut world = World::new(&store, writer);
    world.send("alice", to_peer("bob"), 300, text("afterwards"));
    world.engine.flush().unwrap();
    store.close(world.engine.into_writer()).unwrap();
    assert!(run(&data, ["verify"], 0).starts_with("sound"));
}

#[test]
fn everything_is_as_it_was() {
    let place = Place::new();
    let data = place.everything("data");
    let exported = lines(&data);
    run(&data, ["compact"], 0);
    same(&exported, &lines(&data));
    let verified = run(&data, ["verify"], 0);
    assert!(verified.starts_with("sound"), "{verified}");
}

#[test]
fn damage_is_not_compacted_away() {
    let place = Place::new();
    let data = place.path("data");
    damaged(&data);
    let exported = run(&data, ["export"], 9);
    let why = refused(&data, ["compact"], 9);
    assert!(why.contains("nothing was changed"), "{why}");
    assert!(!data.join("copy.new").exists());
    assert_eq!(run(&data, ["export"], 9), exported);
}

#[test]
fn a_compaction_killed_at_any_write_leaves_the_same_data() {
    if let Err(why) = may_trace() {
        println!("SKIPPED: {why}");
        return;
    }
    let seed = seed("TOOLS_SEED");
    let points = setting("TOOLS_POINTS", POINTS);
    println!("TOOLS_SEED={seed} TOOLS_POINTS={points} cargo test --test tools killed");
    let mut rng = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let data = place.everything("data");
    let exported = lines(&data);
    let writes = writes(&place, &data);
    let all = writes.len() as u64;
    assert!(all > 60, "{writes:?} is no compaction");
    let renames: Vec<_> = writes.iter().filter(|(call, _)| call == "rename").cloned().collect();
    assert!((2..POINTS as usize).contains(&renames.len()), "{renames:?}");
    let (mut killed, mut again, mut finished) = (0, 0, 0);
    for number in 0..points.min(all) {
        // All of them; or the renames, between which the new data goes in, and then a draw in which
        // removals and syncs come often.
        let (call, point) = match points >= all {
            true => writes[number as usize].clone(),
            false => loop {
                let (call, point) = match renames.get(number as usize) {
                    Some(rename) => rename.clone(),
                    None => writes[rng.random_range(0..writes.len())].clone(),
                };
                if number % 2 == 0 || ["rename", "unlinkat", "rmdir", "fsync"].contains(&&call[..])
                {
                    break (call, point);
                }
            },
        };
        let here = place.path("here");
        let _ = fs::remove_dir_all(&here);
        copy(&data, &here);
        killed += u64::from(!traced(&here, "compact", &call, point));
        finished += u64::from(here.join("copy.ready").exists());
        // What the kill left to do is interrupted as well, now and then.
        while rng.random_bool(0.5) {
            let call = ["rename", "unlinkat", "fsync", "pwrite64"][rng.random_range(0..4)];
            again += u64::from(!traced(&here, "stat", call, rng.random_range(1..5)));
        }
        same(&exported, &lines(&here));
        let verified = run(&here, ["verify"], 0);
        assert!(verified.starts_with("sound"), "killed at {call} {point}: {verified}");
        for left in ["copy.new", "copy.ready"] {
            assert!(!here.join(left).exists(), "killed at {call} {point}: {left} is still there");
        }
    }
    println!(
        "{} of {all} points: {killed} compactions killed, {finished} with the copy on its way \
         in, {again} opens behind them killed; all data as it was",
        points.min(all)
    );
    assert!(killed > 0 && finished > 0, "no kill came between the steps that count");
}

fn may_trace() -> Result<(), String> {
    match Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output() {
        Err(error) => Err(format!("strace cannot be started: {error}")),
        Ok(output) if output.status.success() && output.stderr.is_empty() => Ok(()),
        Ok(output) => {
            Err(format!("strace may not trace: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

/// Every write of one compaction: the call, and which one of a thread's it is. (strace counts so.)
fn writes(place: &Place, data: &Path) -> Vec<(String, u64)> {
    let here = place.path("counted");
    copy(data, &here);
    let log = place.path("trace");
    let trace = format!("trace={WRITES}");
    let tracer = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
    let output = under(&tracer, &here).args(["store", "compact"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut counts = BTreeMap::<(String, String), u64>::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let mut words = line.split_whitespace();
        if let (Some(thread), Some((call, _))) =
            (words.next(), words.next().and_then(|word| word.split_once('(')))
        {
            *counts.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
        }
    }
    let mut most = BTreeMap::<String, u64>::new();
    for ((call, _), count) in counts {
        let most = most.entry(call).or_default();
        *most = count.max(*most);
    }
    most.into_iter().flat_map(|(call, count)| (1..=count).map(move |n| (call.clone(), n))).collect()
}

/// Runs a command that is killed at the n-th such call of any thread; says whether it came to its end.
fn traced(data: &Path, command: &str, call: &str, point: u64) -> bool {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={point}");
    let tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = under(&tracer, data).args(["store", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("panicked"), "{text}");
    output.status.success()
}
