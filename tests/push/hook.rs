//! What the hook may answer, and what becomes of a job then.

use std::time::Duration;

use roamd::wire::proto::{ListDevices, client_frame::Body};

use crate::{
    World, expect,
    support::{daemon::until, peer},
};

#[test]
fn a_job_is_posted_again_with_growing_pauses() {
    let world = World::with(&[("push.retry_first", "40ms"), ("push.retry_max", "10s")]);
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    let mut answers = vec![500, 302, 404, 429].into_iter();
    world.hook.answer(move |_| match answers.next() {
        Some(302) => (302, "location: http://127.0.0.1:9/\r\n", ""),
        Some(status) => (status, "", ""),
        None => (201, "", "no JSON at all"),
    });
    alice.send(peer("bob"), 1, "1");
    world.hook.taken(("bob", "phone", "MESSAGE", 1));
    let all = world.hook.all();
    let attempts: Vec<u64> = all.iter().map(|job| job.number("attempt")).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    assert!(all.iter().all(|job| job.body["id"] == all[0].body["id"]), "{all:?}");
    for (pair, pause) in all.windows(2).zip([30, 60, 120, 240]) {
        let passed = pair[1].came - pair[0].came;
        assert!(passed >= Duration::from_millis(pause), "{passed:?} instead of {pause} ms");
    }
}

#[test]
fn a_hook_says_when_to_come_back() {
    let world = World::start();
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    let mut first = true;
    world.hook.answer(move |_| match std::mem::take(&mut first) {
        true => (503, "retry-after: 1\r\n", ""),
        false => (200, "", "{}"),
    });
    alice.send(peer("bob"), 1, "1");
    world.hook.taken(("bob", "phone", "MESSAGE", 1));
    let all = world.hook.all();
    assert!(all.len() == 2 && all[1].came - all[0].came >= Duration::from_secs(1), "{all:?}");
}

#[test]
fn a_rejected_token_is_forgotten() {
    let mut world = World::start();
    let mut alice = world.daemon.login("alice", "phone");
    let mut laptop = world.daemon.login("bob", "laptop");
    let rejections: [(u16, &str); 2] = [(410, ""), (200, r#"{"rejected": true}"#)];
    for (number, (status, text)) in (1..).zip(rejections) {
        world.away("bob", "phone");
        world.hook.answer(move |_| (status, "", text));
        alice.send(peer("bob"), number * 2, "1");
        until("the token to be gone", || {
            let page = expect!(DevicePage, laptop.call(Body::ListDevices(ListDevices {})));
            page.devices.iter().all(|device| !device.push_registered).then_some(())
        });
        assert_eq!(world.hook.all().len(), 1);
        world.hook.open();
        world.hook.forget();
        alice.send(peer("bob"), number * 2 + 1, "2");
        world.came(&[]);
    }
}

#[test]
fn what_nobody_takes_is_given_up() {
    let mut world = World::with(&[("push.expiry", "1s")]);
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    world.hook.close();
    alice.send(peer("bob"), 1, "1");
    world.daemon.wait_log("a push has expired");
    world.hook.open();
    world.hook.forget();
    world.came(&[]);
    alice.send(peer("bob"), 2, "2");
    world.came(&[("bob", "phone", "MESSAGE", 2)]);
}

/// A hook that does not answer costs the users nothing but their notifications.
#[test]
fn a_hook_that_is_not_there_is_waited_for() {
    let world = World::with(&[("push.timeout", "100ms")]);
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    world.hook.answer(|_| {
        std::thread::park_timeout(Duration::from_millis(300));
        (200, "", "")
    });
    alice.send_many(&peer("bob"), 1..=100);
    world.hook.wait("tries", |jobs| (jobs.len() >= 3).then_some(()));
    assert_eq!(alice.unread_total(), 0);
    world.hook.open();
    world.hook.taken(("bob", "phone", "MESSAGE", 100));
}

#[test]
fn neither_tokens_nor_content_are_logged() {
    let mut world = World::with(&[("log.level", "trace"), ("push.include_content", "true")]);
    let mut phone = world.daemon.login("bob", "phone");
    crate::register(&mut phone, "canary-token-4711");
    phone.bye();
    let mut alice = world.daemon.login("alice", "phone");
    world.hook.close();
    alice.send(peer("bob"), 1, "canary-body-4711");
    world.hook.wait("tries", |jobs| (jobs.len() >= 2).then_some(()));
    world.hook.open();
    world.hook.taken(("bob", "phone", "MESSAGE", 1));
    world.daemon.terminate();
    assert!(world.daemon.ended().success());
    let log = world.daemon.log();
    assert!(log.contains("the push hook does not take jobs") && log.contains("takes jobs again"));
    // In base 64 as well.
    for canary in ["canary", "Y2FuYXJ5", crate::SECRET] {
        assert!(!log.contains(canary), "{canary}: {log}");
    }
}

#[test]
fn wrong_settings_are_refused() {
    let world = World::start();
    let cases = [
        (vec![("PUSH__URL", "ftp://x/")], "push.url: begins with neither"),
        (vec![("PUSH__URL", "http:///x")], "push.url: names no host"),
        (vec![("PUSH__URL", "https://me@x/")], "push.url: names a user"),
        (vec![("PUSH__URL", "http://x/"), ("PUSH__SECRET_FILE", "/nowhere/s")], "/nowhere/s"),
        (vec![("PUSH__EXPIRY", "7d")], "push.expiry: at most 6d"),
    ];
    for (settings, wanted) in cases {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roamd"));
        let folder = tempfile::tempdir().unwrap();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
        command.envs(settings.iter().map(|(name, value)| (format!("ROAMD_{name}"), value)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    drop(world);
}
