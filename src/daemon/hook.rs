//! The push hook: posts jobs to the operator's web address and brings back what became of them.
//!
//! A few threads, because a client that blocks is the simplest one that is right, and none of them
//! is waited for: the engine has at most [`PUSHES_IN_FLIGHT_MAX`] jobs out, which is what the channel
//! holds, and keeps the others. A job whose outcome is lost is posted again by the next process; an orderly stop
//! waits a moment for those that are being posted ([`Posts::stop`]).
//!
//! Neither tokens nor content are ever logged. `docs/push.md` is the contract with the other side.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crossbeam_channel::{Receiver, Sender};
use hmac::{Hmac, Mac};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use ureq::{
    Agent,
    http::{Response, StatusCode},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};
use zeroize::Zeroizing;

use super::writer::Submitter;
use crate::{
    limits::PUSHES_IN_FLIGHT_MAX,
    push::{Job, Kind, Outcome, Settings, Verdict},
};

/// An answer is read up to here; what comes behind does not matter.
const ANSWER_BYTES_MAX: u64 = 4096;

/// What a hook needs.
#[derive(Clone)]
pub struct HookConfig {
    /// When what is posted.
    pub settings: Settings,
    /// Where.
    pub url: String,
    /// Signs the jobs.
    pub secret: Zeroizing<Vec<u8>>,
    /// Certificates (PEM) to trust instead of the public ones.
    pub authorities: Option<Vec<u8>>,
    /// How long one answer is waited for.
    pub timeout: Duration,
    /// Jobs posted at the same time.
    pub connections: usize,
}

impl fmt::Debug for HookConfig {
    /// Not the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookConfig").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The way to the hook's threads.
pub(super) fn channel() -> (Sender<Job>, Receiver<Job>) {
    crossbeam_channel::bounded(PUSHES_IN_FLIGHT_MAX)
}

/// The posts that are under way, for who stops them.
#[derive(Debug, Default)]
pub(super) struct Posts {
    state: Mutex<PostsState>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct PostsState {
    stopped: bool,
    under_way: usize,
}

impl Posts {
    /// False = nothing is posted any more.
    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        state.under_way += usize::from(!state.stopped);
        !state.stopped
    }

    fn end(&self) {
        self.state.lock().under_way -= 1;
        self.ended.notify_all();
    }

    /// Begins no more posts, and waits for those under way and for their outcomes to be submitted. A
    /// job that was taken and whose outcome nobody noted is posted again by the next process.
    /// False when the time was not enough.
    pub(super) fn stop(&self, time_max: Duration) -> bool {
        let mut state = self.state.lock();
        state.stopped = true;
        let none = |state: &mut PostsState| state.under_way > 0;
        !self.ended.wait_while_for(&mut state, none, time_max).timed_out()
    }
}

/// Starts the threads. They end when the other end of the channel is gone.
pub(super) fn start(
    config: &HookConfig,
    jobs: &Receiver<Job>,
    submitter: &Submitter,
    posts: &Arc<Posts>,
) -> io::Result<()> {
    let hook = Arc::new(Hook {
        agent: agent(config)?,
        url: config.url.clone(),
        secret: config.secret.clone(),
        failing: AtomicBool::new(false),
    });
    for number in 0..config.connections {
        let (hook, jobs, submitter) = (Arc::clone(&hook), jobs.clone(), submitter.clone());
        let posts = Arc::clone(posts);
        std::thread::Builder::new().name(format!("hook {number}")).spawn(move || {
            for job in jobs {
                if !posts.begin() {
                    // It stays in its row.
                    continue;
                }
                // A job that is out comes back, whatever happens.
                let posted = catch_unwind(AssertUnwindSafe(|| hook.post(&job)));
                let verdict = posted.unwrap_or(Verdict::Failed(Duration::ZERO));
                submitter.settle(Outcome { place: job.place, id: job.id, verdict });
                posts.end();
            }
        })?;
    }
    Ok(())
}

fn agent(config: &HookConfig) -> io::Result<Agent> {
    let mut tls = TlsConfig::builder();
    if let Some(pem) = &config.authorities {
        let mut trusted: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => trusted.push(certificate),
                Ok(_) => {}
                Err(_) => return Err(io::Error::other("push.ca_file is not PEM")),
            }
        }
        if trusted.is_empty() {
            return Err(io::Error::other("push.ca_file has no certificate"));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(trusted)));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .timeout_global(Some(config.timeout))
        .user_agent(concat!("roamd/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections(config.connections)
        .max_idle_connections_per_host(config.connections)
        // Every answer is looked at here, and a job goes where the configuration says.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .build();
    Ok(config.into())
}

struct Hook {
    agent: Agent,
    url: String,
    secret: Zeroizing<Vec<u8>>,
    /// The last job was not taken.
    failing: AtomicBool,
}

impl Hook {
    fn post(&self, job: &Job) -> Verdict {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let body = body(job);
        let sent = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("roamd-job", job.id.to_string())
            .header("roamd-timestamp", now.to_string())
            .header("roamd-signature", format!("v1={}", sign(&self.secret, now, &body)))
            .send(&body[..]);
        let (verdict, why) = match sent {
            Ok(mut response) => (verdict(&mut response), response.status().to_string()),
            Err(error) => (Verdict::Failed(Duration::ZERO), error.to_string()),
        };
        let failed = matches!(verdict, Verdict::Failed(_));
        match (failed, self.failing.swap(failed, Ordering::Relaxed)) {
            (true, false) => tracing::warn!(job = job.id, why, "the push hook does not take jobs"),
            (true, true) => tracing::debug!(job = job.id, why, "a push job is not taken"),
            (false, true) => tracing::info!("the push hook takes jobs again"),
            (false, false) => {}
        }
        verdict
    }
}

fn verdict(response: &mut Response<ureq::Body>) -> Verdict {
    #[derive(Default, Deserialize)]
    struct Said {
        #[serde(default)]
        rejected: bool,
    }
    let status = response.status();
    let wait =
        response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
    let read = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    if status == StatusCode::GONE {
        return Verdict::Rejected;
    }
    if !status.is_success() {
        return Verdict::Failed(Duration::from_secs(wait.unwrap_or_default()));
    }
    let said: Said =
        read.ok().and_then(|said| serde_json::from_slice(&said).ok()).unwrap_or_default();
    if said.rejected { Verdict::Rejected } else { Verdict::Accepted }
}

/// HMAC-SHA256 of `<timestamp>.<body>`, in hexadecimal.
fn sign(secret: &[u8], timestamp: u64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize)]
struct Body<'a> {
    id: u64,
    attempt: u32,
    kind: &'static str,
    user: &'a str,
    device: &'a str,
    provider: &'a str,
    token: &'a str,
    conversation: &'a str,
    history_seq: u64,
    collapse_key: &'a str,
    badge: u64,
    position: u64,
    #[serde(flatten)]
    message: Option<About<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    sender: &'a str,
    time_ms: u64,
    mention: bool,
    silent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

fn body(job: &Job) -> Vec<u8> {
    let conversation = job.place.conversation.as_str();
    let message = job.message.as_ref().map(|message| About {
        sender: message.sender.as_str(),
        time_ms: message.time.millis(),
        mention: message.mention,
        silent: message.silent,
        content_type: message.content.as_ref().map(|(content_type, _)| &**content_type),
        content: message.content.as_ref().map(|(_, content)| BASE64_STANDARD.encode(content)),
    });
    let body = Body {
        id: job.id,
        attempt: job.attempt,
        kind: match job.kind {
            Kind::Message => "MESSAGE",
            Kind::Read => "READ",
            Kind::Recalled => "RECALLED",
        },
        user: job.place.user.as_str(),
        device: job.place.device.as_str(),
        provider: &job.provider,
        token: &job.token,
        conversation,
        history_seq: job.seq.number(),
        collapse_key: conversation,
        badge: job.badge,
        position: job.position.number(),
        message,
    };
    serde_json::to_vec(&body).expect("texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_documentation() {
        let secret = b"0123456789abcdef0123456789abcdef";
        assert_eq!(
            sign(secret, 1_700_000_000, b"{}"),
            "417adf36b901772f658597a76d329694e335e65fc0849d7715c3ca33406309b5"
        );
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let config = |pem: &[u8]| HookConfig {
            settings: Settings {
                delay: Duration::ZERO,
                expiry: Duration::from_secs(1),
                retry_first: Duration::from_secs(1),
                retry_max: Duration::from_secs(1),
                large_interval: Duration::from_secs(1),
                include_content: false,
            },
            url: "http://127.0.0.1/".into(),
            secret: Zeroizing::new(b"canary".to_vec()),
            authorities: Some(pem.to_vec()),
            timeout: Duration::from_secs(1),
            connections: 1,
        };
        assert!(agent(&config(b"")).is_err());
        assert!(agent(&config(b"no certificate")).is_err());
        assert!(!format!("{:?}", config(b"")).contains("canary"));
    }
}
