//! Rules that a value of the right kind can still break.

use std::{path::Path, time::Duration};

use super::{
    Config, ListenAddress,
    value::{format_duration, format_size},
};
use crate::limits;

/// Room in a client frame for everything that is not content: ids, mentions, content type.
const FRAME_OVERHEAD_BYTES: usize = 8 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);
const SECOND: Duration = Duration::from_secs(1);

/// The first broken rule: `section.key` and a text for people.
pub(super) fn broken(config: &Config) -> Option<(&'static str, String)> {
    let Config { listen, tls, data, limits: set, store, auth, push, .. } = config;
    let content_max = limits::CLIENT_FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES;
    [
        (listen.address == ListenAddress::Off && tls.address.is_none()).then(|| {
            (
                "listen.address",
                "off, and tls.address is not set: there is nowhere to connect".into(),
            )
        }),
        not_empty("tls.cert_file", tls.cert_file.as_deref()),
        not_empty("tls.key_file", tls.key_file.as_deref()),
        (tls.cert_file.is_some() && tls.key_file.is_none())
            .then(|| ("tls.key_file", "is needed with tls.cert_file".into())),
        (tls.key_file.is_some() && tls.cert_file.is_none())
            .then(|| ("tls.cert_file", "is needed with tls.key_file".into())),
        not_empty("data.dir", Some(&data.dir)),
        not_empty("auth.hs256_secret_file", auth.hs256_secret_file.as_deref()),
        lasts("auth.token_ttl", auth.token_ttl, SECOND),
        counts("limits.inbox_entries", set.inbox_entries, 1),
        lasts("limits.inbox_age", set.inbox_age, SECOND),
        lasts("limits.idempotency_window", set.idempotency_window, DAY * 8),
        counts("limits.content_bytes", set.content_bytes as u64, 1),
        (set.content_bytes > content_max).then(|| {
            let most = format_size(content_max as u64);
            ("limits.content_bytes", format!("at most {most}, so that a message fits a frame"))
        }),
        // A direct conversation is never a large one.
        counts("limits.fanout_members", set.fanout_members as u64, 2),
        counts("limits.members_per_group", set.members_per_group as u64, 1),
        counts("limits.conversations_per_user", set.conversations_per_user as u64, 1),
        counts("limits.devices_per_user", set.devices_per_user as u64, 1),
        counts("limits.unacked_entries", u64::from(set.unacked_entries), 1),
        ((set.unacked_bytes as usize) < set.content_bytes).then(|| {
            ("limits.unacked_bytes", "at least limits.content_bytes, or one message stalls".into())
        }),
        counts("limits.outstanding_requests", u64::from(set.outstanding_requests), 1),
        lasts("limits.heartbeat_interval", set.heartbeat_interval, SECOND),
        lasts("limits.write_stall", set.write_stall, SECOND),
        counts("limits.connections", set.connections as u64, 1),
        counts("limits.greeting_connections", set.greeting_connections as u64, 1),
        holds(
            "limits.inbound_bytes",
            set.inbound_bytes as u64,
            limits::CLIENT_FRAME_BYTES_MAX as u64 * 2,
        ),
        lasts("limits.waiting_time", set.waiting_time, Duration::from_millis(100)),
        counts("limits.sends_burst", u64::from(set.sends_burst), 1),
        counts("limits.sessions_burst", u64::from(set.sessions_burst), 1),
        holds("store.segment_bytes", store.segment_bytes, 64 << 10),
        holds("store.memory_bytes", store.memory_bytes, 64 << 10),
        holds("store.cache_bytes", store.cache_bytes, 1 << 20),
        lasts("store.checkpoint_interval", store.checkpoint_interval, Duration::from_millis(10)),
        push.url.as_deref().and_then(|url| Some(("push.url", web_address(url).err()?.to_owned()))),
        (push.url.is_some() && push.secret_file.is_none()).then(|| {
            (
                "push.secret_file",
                "is needed with push.url: the hook must know who speaks".to_owned(),
            )
        }),
        not_empty("push.secret_file", push.secret_file.as_deref()),
        not_empty("push.ca_file", push.ca_file.as_deref()),
        lasts("push.timeout", push.timeout, Duration::from_millis(100)),
        counts("push.connections", u64::from(push.connections), 1),
        (push.connections as usize > limits::PUSHES_IN_FLIGHT_MAX)
            .then(|| ("push.connections", format!("at most {}", limits::PUSHES_IN_FLIGHT_MAX))),
        lasts("push.expiry", push.expiry, SECOND),
        (push.expiry > DAY * 6).then(|| {
            ("push.expiry", "at most 6d: what a device was told of is remembered for 7 days".into())
        }),
        lasts("push.retry_first", push.retry_first, Duration::from_millis(10)),
        lasts("push.retry_max", push.retry_max, push.retry_first),
        lasts("push.large_interval", push.large_interval, SECOND),
    ]
    .into_iter()
    .flatten()
    .next()
}

/// Whether jobs can be posted there. Credentials have no place in it: it may be logged.
fn web_address(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.ok_or("begins with neither https: nor http:")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Err("names no host");
    }
    if host.contains('@') {
        return Err("names a user; the signature says who speaks");
    }
    if rest.contains('#') || !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err("has characters that no web address has");
    }
    Ok(())
}

type Broken = Option<(&'static str, String)>;

fn not_empty(key: &'static str, path: Option<&Path>) -> Broken {
    path.is_some_and(|path| path.as_os_str().is_empty()).then(|| (key, "is empty".to_owned()))
}

fn counts(key: &'static str, value: u64, least: u64) -> Broken {
    (value < least).then(|| (key, format!("at least {least}")))
}

fn holds(key: &'static str, bytes: u64, least: u64) -> Broken {
    (bytes < least).then(|| (key, format!("at least {}", format_size(least))))
}

fn lasts(key: &'static str, span: Duration, least: Duration) -> Broken {
    (span < least).then(|| (key, format!("at least {}", format_duration(least))))
}
