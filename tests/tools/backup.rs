//! Backup and restore: who may ask, what breaks off, what devices do afterwards, and every damaged
//! byte is seen.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::wire::proto::{Position, TooLongReason};

use crate::{
    place::{Place, copy, ended, files, lines, refused, run, same, store},
    support::{Daemon, daemon::until, peer},
    witness::{seed, setting},
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_stopped_directory_comes_back_as_it_was() {
    let place = Place::new();
    let data = place.everything("data");
    fs::create_dir(data.join("keys")).unwrap();
    fs::write(data.join("keys/one.pem"), "a key").unwrap();
    let exported = lines(&data);
    let backup = place.path("backup");
    let told = run(&data, ["backup".as_ref(), backup.as_os_str()], 0);
    let commit = told.split_whitespace().nth(3).unwrap().trim_end_matches(',').to_owned();
    assert_eq!((mode(&backup), mode(&backup.join("values"))), (0o700, 0o600));
    assert_eq!(mode(&backup.join("keys/one.pem")), 0o600);

    // A position by name: the restored directory goes on behind it.
    let restored = place.path("restored");
    let told = run(&restored, ["restore".as_ref(), backup.as_os_str()], 0);
    assert!(told.starts_with(&format!("restored commit {commit} of epoch")), "{told}");
    same(&exported, &lines(&restored));
    assert!(run(&restored, ["verify"], 0).starts_with("sound"));
    let stat = run(&restored, ["stat"], 0);
    assert!(stat.contains(&format!("applied   commit {commit}\n")), "{commit}: {stat}");
    assert_eq!(fs::read_to_string(restored.join("keys/one.pem")).unwrap(), "a key");
    // The backup itself is verified by the same command, and is not changed by that.
    let bytes =
        |dir: &Path| files(dir).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = bytes(&backup);
    let verified = run(&data, ["verify".as_ref(), backup.as_os_str()], 0);
    assert!(verified.starts_with("sound"), "{verified}");
    assert_eq!(bytes(&backup), before);

    let bare = place.path("bare");
    let arguments = ["backup".as_ref(), bare.as_os_str(), "--without-keys".as_ref()];
    run(&data, arguments, 0);
    assert!(!bare.join("keys").exists());
}

#[test]
fn every_damage_of_a_backup_is_seen() {
    let seed = seed("TOOLS_SEED");
    let damages = setting("TOOLS_DAMAGES", 25);
    println!("TOOLS_SEED={seed} TOOLS_DAMAGES={damages} cargo test --test tools damage");
    let mut rng = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let data = place.everything("data");
    let whole = place.path("whole");
    // Values alone when it is closed; with commits when a daemon was killed behind its checkpoint.
    run(&data, ["backup".as_ref(), whole.as_os_str()], 0);
    // A line feed that became other white space is damage as well.
    let mut bytes = fs::read(whole.join("BACKUP")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let spoilt = place.path("spoilt");
    copy(&whole, &spoilt);
    fs::write(spoilt.join("BACKUP"), bytes).unwrap();
    refused(&place.path("to"), ["verify".as_ref(), spoilt.as_os_str()], 9);
    for number in 0..damages {
        let backup = place.path("backup");
        copy(&whole, &backup);
        let parts = ["BACKUP", "values", "commits"].map(|name| backup.join(name));
        let parts: Vec<_> =
            parts.iter().filter(|path| fs::metadata(path).unwrap().len() > 0).collect();
        let path = parts[rng.random_range(0..parts.len())];
        let mut bytes = fs::read(path).unwrap();
        let at = rng.random_range(0..bytes.len());
        let what = match rng.random_range(0..5) {
            0 => {
                bytes.truncate(at);
                "cut"
            }
            1 => {
                let end = (at + 512).min(bytes.len());
                let zeroed = bytes[at..end].iter().any(|byte| *byte != 0);
                bytes[at..end].fill(0);
                if !zeroed {
                    bytes[at] ^= 1;
                }
                "zeroed"
            }
            2 => {
                fs::remove_file(path).unwrap();
                "missing"
            }
            _ => {
                bytes[at] ^= 1 << rng.random_range(0..8);
                "bit"
            }
        };
        if what != "missing" {
            fs::write(path, bytes).unwrap();
        }
        let to = place.path("to");
        for arguments in
            [["restore".as_ref(), backup.as_os_str()], ["verify".as_ref(), backup.as_os_str()]]
        {
            let output = store(&to, arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            let refused = output.status.code().is_some_and(|code| code == 9 || code == 1);
            assert!(refused, "damage {number}: {what} at {at} of {}: {output:?}", path.display());
            assert!(!error.contains("panicked") && error.contains("roamd: "), "{error}");
        }
        assert!(!to.join("ROAMD").exists() && !to.join("copy.new").exists());
        let _ = fs::remove_dir_all(&to);
        fs::remove_dir_all(&backup).unwrap();
    }
}

#[test]
fn devices_start_over_after_a_restore_and_end_in_the_restored_state() {
    let mut daemon = Daemon::start();
    let place = Place::new();
    let mut alice = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "before");
    bob.synced(1);
    let old = bob.position();
    let backup = place.path("backup");
    ended(&daemon.run(&["store", "backup", backup.to_str().unwrap()]), 0);
    alice.send(peer("bob"), 2, "after");
    bob.synced(2);
    let ahead = bob.position();
    daemon.kill();
    // The disk is lost, and with it everything but the backup.
    fs::remove_dir_all(daemon.data()).unwrap();
    ended(&daemon.run(&["store", "restore", backup.to_str().unwrap()]), 0);
    daemon.relaunch();

    for (number, at) in [(3, old), (4, ahead)] {
        // The key came back, too: the token of the old days is good.
        let mut bob = daemon.resume("bob", "phone", Position { ..at });
        let too_long = bob.too_long();
        assert_eq!(too_long.reason(), TooLongReason::Epoch);
        bob.adopt(&too_long);
        bob.caught_up();
        let mut alice = daemon.login("alice", "phone");
        // What was lost is sent again by who still has it, and is the same as ever.
        alice.send(peer("bob"), 2, "after");
        alice.send(peer("bob"), number, "live");
        bob.wait("the live message", |bob| bob.texts().contains(&"live".to_owned()).then_some(()));
    }
    daemon.terminate();
    assert!(daemon.ended().success());
    let lines = lines(daemon.data()).join("\n");
    assert_eq!(lines.matches("\"content\":\"after\"").count(), 1, "one message, whoever retries");
    assert_eq!(lines.matches("\"content\":\"before\"").count(), 1);
}

#[test]
fn only_the_owner_may_ask_and_nothing_but_a_backup() {
    let daemon = Daemon::start();
    let control = daemon.data().join("control");
    assert_eq!(mode(&control), 0o600);
    for words in [
        "roamd control 1 restore\n",
        "roamd control 9 backup\n",
        "GET / HTTP/1.1\r\nHost: here\r\n",
    ] {
        let mut stream = UnixStream::connect(&control).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{words}");
    }
    // Silent ones do not keep others out for good, and the daemon goes on.
    let _silent = UnixStream::connect(&control).unwrap();
    let place = Place::new();
    let backup = place.path("backup");
    ended(&daemon.run(&["store", "backup", backup.to_str().unwrap()]), 0);
    let mut alice = daemon.login("alice", "phone");
    alice.send(peer("bob"), 1, "hello");
}

#[test]
fn a_backup_that_breaks_off_is_none() {
    let mut daemon = Daemon::start();
    let place = Place::new();
    let mut alice = daemon.login("alice", "phone");
    alice.send(peer("bob"), 1, "hello");
    // Somebody asks and takes nothing: the next one is told that there is a copy under way, or gets
    // its own; nobody waits.
    let backup = place.path("backup");
    fs::create_dir(&backup).unwrap();
    fs::write(backup.join("mine"), "something").unwrap();
    let output = daemon.run(&["store", "backup", backup.to_str().unwrap()]);
    ended(&output, 1);
    assert_eq!(files(&backup).len(), 1, "nothing was written over it");
    // An incomplete one is not restored.
    let incomplete = place.path("incomplete");
    ended(&daemon.run(&["store", "backup", incomplete.to_str().unwrap()]), 0);
    fs::remove_file(incomplete.join("BACKUP")).unwrap();
    let why = refused(&place.path("to"), ["restore".as_ref(), incomplete.as_os_str()], 1);
    assert!(why.contains("no complete backup"), "{why}");
    // A life that was killed leaves its socket; the directory itself is copied then.
    daemon.kill();
    assert!(daemon.data().join("control").exists());
    let after = place.path("after");
    ended(&daemon.run(&["store", "backup", after.to_str().unwrap()]), 0);
    daemon.relaunch();
    let again = place.path("again");
    ended(&daemon.run(&["store", "backup", again.to_str().unwrap()]), 0);
    daemon.terminate();
    assert!(daemon.ended().success());
    assert!(!daemon.data().join("control").exists(), "it goes with the daemon");
}

#[test]
fn a_command_that_takes_nothing_stops_nobody_but_the_next_backup() {
    let daemon = Daemon::with(&[
        ("store.memory_bytes", "64KiB"),
        ("store.checkpoint_interval", "50ms"),
        ("limits.sends_per_second", "100000"),
        ("limits.sends_burst", "100000"),
    ]);
    let place = Place::new();
    let mut alice = daemon.login("alice", "phone");
    let large = "x".repeat(30_000);
    // More than a socket holds.
    for number in 1..=100 {
        alice.send(peer("bob"), number, &large);
    }
    let mut slow = UnixStream::connect(daemon.data().join("control")).unwrap();
    slow.write_all(b"roamd control 1 backup\n").unwrap();
    let mut first = [0];
    slow.read_exact(&mut first).unwrap();
    // It has begun and waits. Everybody else goes on, through rounds and rollovers.
    for number in 101..=300 {
        alice.send(peer("bob"), number, &large);
    }
    let backup = place.path("backup");
    let output = daemon.run(&["store", "backup", backup.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && why.contains("another copy"), "{output:?}");
    assert!(!backup.exists(), "nothing is left of it");
    drop(slow);
    let told = until("a backup", || {
        let output = daemon.run(&["store", "backup", backup.to_str().unwrap()]);
        output.status.success().then(|| ended(&output, 0))
    });
    assert!(told.starts_with("backup of commit"), "{told}");
    let restored = place.path("restored");
    run(&restored, ["restore".as_ref(), backup.as_os_str()], 0);
    assert_eq!(lines(&restored).join("").matches("\"content\":\"xxx").count(), 300);
}
