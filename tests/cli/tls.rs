//! `roam` over TLS: by flags, by profile, and what it says when the server is not to be trusted.

use super::{Daemon, Desk, printed};

/// A desk whose daemon speaks TLS; its profiles are plain.
fn desk() -> Desk {
    Desk { daemon: Daemon::with_tls(&[]), folder: tempfile::tempdir().unwrap() }
}

#[test]
fn flags_and_profiles_say_whom_to_trust() {
    let desk = desk();
    let (server, token) = (desk.daemon.tls_address().to_string(), desk.daemon.token("alice"));
    let authority = desk.daemon.authority().display().to_string();
    let base = ["ping", "--server", &server, "--token", &token];
    let run = |more: &[&str]| desk.command(&[&base, more].concat()).output().unwrap();
    assert!(printed(run(&["--ca", &authority])).contains("alice"));
    assert!(run(&["--ca", &authority, "--server-name", "localhost"]).status.success());

    let add = ["profile", "add", "safe", "--server", &server, "--token", &token];
    let added = desk.command(&[&add[..], &["--ca", &authority]].concat()).output().unwrap();
    assert!(added.status.success(), "{added:?}");
    assert!(desk.says("safe", &["send", "@bob", "hi"]).contains("#1"));
    assert!(desk.says("safe", &["profile", "ls", "-o", "jsonl"]).contains("\"tls\":true"));
    // A flag wins over the profile.
    assert_eq!(desk.run("safe", &["ping", "--tls=no"]).status.code(), Some(4));

    let wrong: [(&[&str], i32, &str); 4] = [
        (&["--tls"], 4, "UnknownIssuer"),
        (&["--ca", &authority, "--server-name", "elsewhere.test"], 4, "not valid for name"),
        (&["--ca", "/nowhere.pem"], 3, "/nowhere.pem"),
        (&["--ca", &authority, "--server-name", "no name"], 3, "no name of a server"),
    ];
    for (more, status, text) in wrong {
        let output = run(more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{more:?}: {said}");
        assert!(said.contains(text) && said.contains("--ca"), "{more:?}: {said}");
    }
}
