//! The push hook: the shipped daemon, and a web server that takes its jobs.
//!
//! That nothing is posted is shown without waiting: jobs are posted one at a time in the order they
//! are due, so when one that is due later has come, nothing before it is still to come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod devices;
mod document;
mod hook;
mod large;
mod messages;
mod model;
mod receiver;
mod restart;
mod taking_back;

use std::{fs, os::unix::fs::PermissionsExt};

use receiver::{Job, Receiver, SECRET};
use roamd::wire::proto::{
    MarkRead, PresenceState, Recall, RegisterPush, Send, SetPresence, client_frame::Body, send::To,
};
use support::{Client, Daemon, peer};
use tempfile::TempDir;

/// A daemon and its hook.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) hook: Receiver,
    yan: Option<Client>,
    sent: u64,
    secret: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With some settings changed. Without, nothing is delayed and a closed hook is asked often.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let hook = Receiver::start();
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, format!("{SECRET}\n")).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let url = hook.url();
        let own = [
            ("push.url", url.as_str()),
            ("push.secret_file", secret.to_str().unwrap()),
            ("push.delay", "0s"),
            ("push.connections", "1"),
            ("push.retry_first", "20ms"),
            ("push.retry_max", "200ms"),
        ];
        let all: Vec<_> = own.into_iter().chain(settings.iter().copied()).collect();
        let daemon = Daemon::with(&all);
        Self { daemon, hook, yan: None, sent: 0, secret: folder }
    }

    pub(crate) fn secret_file(&self) -> std::path::PathBuf {
        self.secret.path().join("secret")
    }

    /// A device that was there, has registered, has acked everything and is gone.
    pub(crate) fn away(&self, user: &str, device: &str) {
        self.registered(user, device).bye();
    }

    /// A device that is there and has registered.
    pub(crate) fn registered(&self, user: &str, device: &str) -> Client {
        let mut client = self.daemon.login(user, device);
        register(&mut client, &format!("token-of-{user}-{device}"));
        client
    }

    /// Everything posted until now: until a job comes that is due now.
    #[track_caller]
    pub(crate) fn until_now(&mut self) -> Vec<Job> {
        let yan = match &mut self.yan {
            Some(yan) => yan,
            none => {
                self.daemon.login("zoe", "z").bye();
                let mut zoe = self.daemon.login("zoe", "z");
                register(&mut zoe, "zoe");
                zoe.bye();
                none.insert(self.daemon.login("yan", "y"))
            }
        };
        self.sent += 1;
        let seq = yan.send(peer("zoe"), self.sent, "now").history_seq;
        self.hook.taken(("zoe", "z", "MESSAGE", seq));
        let mut all = self.hook.all();
        self.hook.forget();
        all.retain(|job| job.text("user") != "zoe");
        all
    }

    /// What was posted until now is this.
    #[track_caller]
    pub(crate) fn came(&mut self, gists: &[(&str, &str, &str, u64)]) -> Vec<Job> {
        let jobs = self.until_now();
        let came: Vec<_> = jobs.iter().map(Job::gist).collect();
        assert_eq!(came, gists);
        jobs
    }

    /// After a restart sessions are to be made again.
    pub(crate) fn forget_sessions(&mut self) {
        self.yan = None;
    }
}

#[track_caller]
pub(crate) fn register(client: &mut Client, token: &str) {
    let request = RegisterPush { provider: "apns".into(), token: token.into() };
    expect!(Done, client.call(Body::RegisterPush(request)));
}

#[track_caller]
pub(crate) fn mark(client: &mut Client, conversation: &str, read_seq: u64) {
    let request = MarkRead { conversation_id: conversation.into(), read_seq, peer_visible: false };
    expect!(MarkReadReply, client.call(Body::MarkRead(request)));
}

#[track_caller]
pub(crate) fn recall(client: &mut Client, conversation: &str, history_seq: u64) {
    let request = Recall { conversation_id: conversation.into(), history_seq };
    expect!(Done, client.call(Body::Recall(request)));
}

#[track_caller]
pub(crate) fn presence(client: &mut Client, state: PresenceState) {
    expect!(Done, client.call(Body::SetPresence(SetPresence { state: state.into() })));
}

/// The request that sends a text, with something special about it.
pub(crate) fn special(to: To, number: u64, change: impl FnOnce(&mut Send)) -> Body {
    let Body::Send(mut send) = support::text(to, number, &number.to_string()) else {
        unreachable!()
    };
    change(&mut send);
    Body::Send(send)
}

/// See [`model`].
#[test]
fn model_of_random_histories() {
    if let Ok(seed) = std::env::var("ROAMD_PUSH_SEED") {
        let seed = seed.parse().unwrap();
        return model::run(seed, seed % 2 == 1, true);
    }
    let seeds = std::env::var("ROAMD_PUSH_SEEDS").map_or(12, |count| count.parse().unwrap());
    for seed in 1..=seeds {
        println!("ROAMD_PUSH_SEED={seed}");
        model::run(seed, seed % 2 == 1, false);
    }
}
