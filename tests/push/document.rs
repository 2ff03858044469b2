//! `docs/push.md` is right: its fields are those of a job, and its receiver works.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Command, Stdio},
    sync::mpsc,
};

use crate::{
    World,
    support::{DEADLINE, peer},
};

fn document() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/push.md")).unwrap()
}

#[test]
fn every_field_is_described() {
    let mut world = World::with(&[("push.include_content", "true")]);
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    alice.send(peer("bob"), 1, "1");
    let job = world.came(&[("bob", "phone", "MESSAGE", 1)]).remove(0);
    let text = document();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for field in job.body.as_object().unwrap().keys() {
        let named = format!("`{field}`");
        let described = |row: &str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&named));
        assert!(rows.iter().any(|row| described(row)), "{field}");
    }
    for name in ["READ", "RECALLED", "roamd-timestamp", "roamd-signature", "roamd-job"] {
        assert!(text.contains(name), "{name}");
    }
}

/// The receiver of the documentation, as it stands there but for its port.
#[test]
fn the_receiver_takes_jobs() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("WITHOUT python3: the receiver of docs/push.md is not tried");
        return;
    }
    let text = document();
    let code = text.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{free}/hook");
    let world = World::with(&[("push.url", &url)]);
    let secret = format!("{:?}", world.secret_file());
    let code = code.replace("8080", &free.to_string()).replace("\"hook.secret\"", &secret);
    let mut python = Command::new("python3")
        .args(["-c", &code])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = told.send(line);
        }
    });
    world.away("bob", "phone");
    world.daemon.login("alice", "phone").send(peer("bob"), 1, "1");
    let line = heard.recv_timeout(DEADLINE);
    let _ = python.kill();
    let _ = python.wait();
    let line = line.expect("a job");
    assert!(line.contains("'kind': 'MESSAGE'") && line.contains("'badge': 1"), "{line}");
}
