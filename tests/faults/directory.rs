//! Data directories that are taken, too new, old, or on a disk without room.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use roamd::{store::FORMAT_VERSION, wire::proto::Direction};

use crate::{
    support::{Daemon, daemon::until, peer},
    tools::folder,
};

/// Every file below, with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => drop(all.insert(path.display().to_string(), fs::read(&path).unwrap())),
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Many processes start on one new directory at the same moment: one serves, the others say why not.
#[test]
fn directory_is_taken_by_one_of_many_that_start_at_once() {
    for _ in 0..2 {
        let dir = folder();
        let data = dir.path().join("data");
        let start = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_roamd"));
            command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
            let file =
                fs::File::create(dir.path().join(format!("{:?}", std::time::Instant::now())));
            command.env_remove("ROAMD_DATA__DIR").stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(file.unwrap()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..5).map(|_| start()).collect();
        until("all but one to end", || {
            let ended = children.iter_mut().filter_map(|child| child.try_wait().unwrap());
            let codes: Vec<_> = ended.map(|status| status.code()).collect();
            assert!(codes.iter().all(|code| *code == Some(1)), "{codes:?}");
            (codes.len() == 4).then_some(())
        });
        let said = || -> Vec<String> {
            let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            files
                .filter(|path| path.is_file())
                .map(|path| fs::read_to_string(path).unwrap())
                .collect()
        };
        let count = |text: &str| said().iter().filter(|said| said.contains(text)).count();
        until("one to serve", || (count(" listens on ") == 1).then_some(()));
        assert_eq!(count("hint: stop the other roamd"), 4, "{:?}", said());
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn directory_of_a_newer_format_is_refused_and_untouched() {
    let mut daemon = Daemon::start();
    daemon.login("alice", "phone").send(peer("bob"), 1, "x");
    daemon.terminate();
    assert!(daemon.ended().success());
    let path = daemon.data().join("ROAMD");
    let text = fs::read_to_string(&path).unwrap();
    let newer = format!("format {}", FORMAT_VERSION + 1);
    let newer = text.replace(&format!("format {FORMAT_VERSION}"), &newer);
    fs::write(&path, &newer).unwrap();
    let before = contents(daemon.data());
    let refused = daemon.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(9), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("format") && !said.contains("panicked"), "{said}");
    assert!(contents(daemon.data()) == before, "something has changed");
    // The right program finds everything.
    fs::write(&path, text).unwrap();
    daemon.relaunch();
    let mut bob = daemon.login("bob", "phone");
    assert_eq!(bob.recents().len(), 1);
}

#[test]
fn directory_of_an_older_format_is_raised_and_served() {
    for format in 1..FORMAT_VERSION {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut daemon = Daemon::start();
        daemon.terminate();
        assert!(daemon.ended().success());
        for part in ["journal", "trees"] {
            fs::remove_dir_all(daemon.data().join(part)).unwrap();
        }
        copy(&golden.join(format!("format-{format}")), daemon.data());
        daemon.relaunch();
        let mut bob = daemon.login("bob", "new-phone");
        let all = bob.recents();
        assert!(all.iter().any(|view| view.conversation_id == "team"), "{all:?}");
        let page = bob.history("team", Direction::Newest, 0, 5);
        assert!(!page.messages.is_empty());
        let ack = bob.send(peer("alice"), 1, "by the new program");
        bob.synced(ack.inbox_seq);
        daemon.terminate();
        assert!(daemon.ended().success());
        let verified = daemon.run(&["store", "verify"]);
        assert!(verified.status.success(), "{verified:?}");
        let text = fs::read_to_string(daemon.data().join("ROAMD")).unwrap();
        assert!(text.contains(&format!("format {FORMAT_VERSION}")), "{text}");
    }
}

/// The lock is the process's: it is free when the process is gone, however it went.
#[test]
fn directory_is_free_again_after_any_end() {
    let mut daemon = Daemon::start();
    for end in ["KILL", "ABRT", "TERM"] {
        daemon.login("alice", "phone").bye();
        daemon.signal(end);
        daemon.ended();
        daemon.relaunch();
    }
    daemon.login("alice", "phone").bye();
}
