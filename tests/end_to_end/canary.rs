//! Nothing of what people write, and no token or secret, is in a log: words that occur nowhere else are
//! put wherever a client may put any, into good requests and bad ones, and searched for in every form
//! in which a log could have them.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration, time::SystemTime};

use base64::Engine as _;
use roamd::{
    auth::Scope,
    wire::proto::{
        self, ClientFrame, Hello, Position, client_frame::Body, send::To, send_notice, server_frame,
    },
};

use crate::support::{Client, Daemon, conversation, peer, text};

/// What no log may have. Long and without a regular pattern, so that it is nowhere by chance.
const CONTENT: &str = "Wj4kTq9-content-Vb2xLr";
const EDITED: &str = "Hn7pXs1-edited-Gd5mYc";
const TITLE: &str = "Qa3wEz8-title-Rf6vTg";
const DRAFT: &str = "Uj9iKo2-draft-Lp4nBh";
const EPHEMERAL: &str = "Zx5cVb7-ephemeral-Nm1aSd";
const NOTICE: &str = "Fg8hJk3-notice-Qw6eRt";
const PUSH_TOKEN: &str = "Ty2uIo7-pushtoken-Pa9sDf";
const BAD_TOKEN: &str = "Cv4bNm6-badtoken-Lk8jHg";
const BAD_ID: &str = "Er1tYu5 badid! Io3pAs";
const SECRET: &str = "Bn6mQw4-secret-Er9tYu2-Io1pAs8-Df3gHj7";

/// A text in the forms a log line could have it: as it is, as bytes in decimal and in hex, in Base64
/// from each of the three places at which it can begin.
fn forms(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let join = |form: fn(&u8) -> String, by| bytes.iter().map(form).collect::<Vec<_>>().join(by);
    let mut forms = vec![
        text.to_owned(),
        join(|byte| byte.to_string(), ", "),
        join(|byte| format!("{byte:02x}"), ""),
        join(|byte| format!("{byte:02X}"), ""),
    ];
    for engine in
        [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE]
    {
        for before in 0..3 {
            let encoded = engine.encode([&vec![0; before], bytes].concat());
            // The first and last group have bits of the neighbours in them.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

#[track_caller]
fn is_not_in(log: &str, what: &str, text: &str) {
    for form in forms(text) {
        if let Some(line) = log.lines().find(|line| line.contains(&form)) {
            panic!("{what} is in the log: {line}");
        }
    }
}

#[test]
fn every_form_is_found() {
    use base64::engine::general_purpose::STANDARD;
    let bytes = CONTENT.as_bytes();
    let found = |log: &str| forms(CONTENT).iter().any(|form| log.contains(form));
    assert!(found(&format!("{CONTENT:?}")));
    assert!(found(&format!("{bytes:?}")));
    assert!(found(&format!("{:?}", bytes::Bytes::from_static(bytes))));
    assert!(found(&format!("{:x?}", bytes).replace(", ", "")));
    for before in ["", "x", "xy", "xyz"] {
        assert!(found(&STANDARD.encode(format!("{before}{CONTENT} and more"))), "{before}");
    }
    assert!(!found("a line like any other"));
}

/// Every request that carries what people write, good ones first, then the same in ways that are
/// refused.
fn talk(daemon: &Daemon) {
    let mut bob = daemon.login("bob", "phone");
    let admin = daemon.mint(
        "alice",
        None,
        &[Scope::Client, Scope::Admin],
        Duration::from_secs(3600),
        SystemTime::now(),
    );
    let mut alice = daemon.open(Hello { token: admin, ..daemon.greeting("alice", "laptop") });
    let too_long = alice.too_long();
    alice.adopt(&too_long);
    let sent = alice.send(peer("bob"), 1, CONTENT);
    let direct = sent.conversation_id.clone();
    let edit = |seq| {
        Body::Edit(proto::Edit {
            conversation_id: direct.clone(),
            history_seq: seq,
            content_type: "text/plain".into(),
            content: EDITED.into(),
            base_revision: None,
        })
    };
    let group = "group-1".to_owned();
    let bodies = [
        edit(sent.history_seq),
        Body::CreateGroup(proto::CreateGroup {
            client_request_id: 2,
            conversation_id: group.clone(),
            title: TITLE.into(),
            user_ids: vec!["bob".into()],
            history_policy: 1,
            ..Default::default()
        }),
        text(conversation(&group), 3, CONTENT),
        Body::SetTitle(proto::SetTitle { conversation_id: group.clone(), title: TITLE.repeat(2) }),
        Body::SetPreferences(proto::SetPreferences {
            preferences: Some(proto::Preferences {
                conversation_id: group.clone(),
                draft: Some(DRAFT.into()),
                ..Default::default()
            }),
        }),
        Body::SendEphemeral(proto::SendEphemeral {
            conversation_id: direct.clone(),
            content_type: "text/plain".into(),
            content: EPHEMERAL.into(),
        }),
        Body::RegisterPush(proto::RegisterPush { provider: "p".into(), token: PUSH_TOKEN.into() }),
        Body::SendNotice(proto::SendNotice {
            to: Some(send_notice::To::UserId("bob".into())),
            client_request_id: 4,
            content_type: "text/plain".into(),
            content: NOTICE.into(),
        }),
        Body::Recall(proto::Recall { conversation_id: direct.clone(), history_seq: 1 }),
    ];
    for body in bodies {
        let reply = alice.call(body.clone());
        assert!(!matches!(reply, server_frame::Body::Error(_)), "{reply:?} to {body:?}");
    }
    let refused = [
        edit(999),
        text(conversation(BAD_ID), 10, CONTENT),
        text(To::Peer(BAD_ID.into()), 11, CONTENT),
        text(conversation("not-there"), 12, CONTENT),
        // Another content under a number that was used.
        text(peer("bob"), 1, &format!("{CONTENT} {EDITED}")),
        text(peer("bob"), 13, &CONTENT.repeat(3500)),
        Body::SetTitle(proto::SetTitle { conversation_id: group.clone(), title: TITLE.repeat(50) }),
        Body::RegisterPush(proto::RegisterPush {
            provider: BAD_ID.into(),
            token: PUSH_TOKEN.repeat(200),
        }),
        Body::KickDevice(proto::KickDevice { device_id: BAD_ID.into() }),
        Body::FetchHistory(proto::FetchHistory {
            conversation_id: BAD_ID.into(),
            ..Default::default()
        }),
    ];
    for body in refused {
        let reply = alice.call(body.clone());
        assert!(matches!(reply, server_frame::Body::Error(_)), "{reply:?} to {body:?}");
    }
    alice.settle();
    bob.settle();
    bob.send(conversation(&group), 1, CONTENT);
    let at = bob.bye();
    daemon.resume("bob", "phone", Position { seq: 0, ..at }).caught_up();
    // What is no frame, and what is no token.
    let mut garbage = CONTENT.as_bytes().to_vec();
    garbage.insert(0, u8::try_from(garbage.len()).unwrap());
    alice.write(&garbage);
    alice.end();
    let good = daemon.token("carol");
    for token in
        [BAD_TOKEN, &format!("{BAD_TOKEN}.{BAD_TOKEN}.{BAD_TOKEN}"), &good[..good.len() - 2]]
    {
        let mut client: Client = daemon.connect();
        client.post(Body::Hello(Hello {
            token: token.to_owned(),
            ..daemon.greeting("carol", "phone")
        }));
        client.end();
    }
    let mut client = daemon.connect();
    client.frame(&ClientFrame { req_id: 1, ack_seq: 0, body: Some(text(peer("bob"), 1, CONTENT)) });
    client.end();
}

#[test]
fn logs_keep_every_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{SECRET}-{name}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (shared, hook) = (file("shared"), file("hook"));
    for format in ["text", "json"] {
        let mut daemon = Daemon::with(&[
            ("log.level", "trace"),
            ("log.format", format),
            ("auth.hs256_secret_file", &shared),
            // Nobody is there: every job fails, and the log says so.
            ("push.url", "http://127.0.0.1:9/push"),
            ("push.secret_file", &hook),
            ("push.delay", "0s"),
            ("push.include_content", "true"),
            ("store.checkpoint_interval", "50ms"),
        ]);
        let token = daemon.token("alice");
        talk(&daemon);
        daemon.wait_log("job");
        daemon.crash();
        talk_again(&daemon);
        daemon.restart();
        daemon.terminate();
        daemon.ended();
        let log = daemon.log();
        for level in ["TRACE", "DEBUG", "INFO", "WARN"] {
            assert!(log.contains(level), "no line of level {level}");
        }
        let words = [
            ("content", CONTENT),
            ("what was edited", EDITED),
            ("a title", TITLE),
            ("a draft", DRAFT),
            ("an ephemeral", EPHEMERAL),
            ("a notice", NOTICE),
            ("a push token", PUSH_TOKEN),
            ("a bad token", BAD_TOKEN),
            ("what is no id", BAD_ID),
            ("a secret", SECRET),
        ];
        for (what, word) in words {
            is_not_in(&log, what, word);
        }
        for part in token.split('.').skip(1) {
            is_not_in(&log, "a token", part);
        }
        for key in fs::read_dir(daemon.data().join("keys")).unwrap() {
            let pem = fs::read_to_string(key.unwrap().path()).unwrap();
            for line in pem.lines().filter(|line| !line.starts_with("---")) {
                is_not_in(&log, "a key", line);
            }
        }
    }
}

/// After a kill: what is stored is read again.
fn talk_again(daemon: &Daemon) {
    let mut bob = daemon.open(daemon.greeting("bob", "tablet"));
    let too_long = bob.too_long();
    bob.adopt(&too_long);
    let recents = bob.recents();
    assert!(!recents.is_empty());
    bob.send(peer("alice"), 1, CONTENT);
    bob.settle();
}
