//! The sections and settings: each with its type, its default and the words that document it.
//!
//! The macro keeps the three in one place: the doc comment of a field is what `config doc` prints.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    listen::ListenAddress,
    value::{duration, size},
};
use crate::limits::{Limits, MultiLogin};

/// What is known about a section without looking at a configuration.
pub(super) struct Section {
    pub name: &'static str,
    pub about: &'static [&'static str],
    pub settings: &'static [Setting],
}

/// What is known about a setting without looking at a configuration.
pub(super) struct Setting {
    pub name: &'static str,
    pub about: &'static [&'static str],
}

macro_rules! sections {
    ($(
        $(#[doc = $about:literal])*
        $name:ident: $kind:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $type:ty = $default:expr,
            )*
        }
    )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $kind {
                $($(#[doc = $doc])* $(#[serde($($serde)*)])? pub $field: $type,)*
            }

            impl Default for $kind {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }
        )*

        /// Everything that can be configured. [`Config::default`] is a working daemon.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $($(#[doc = $about])* pub $name: $kind,)*
        }

        /// All sections in the order in which they are shown.
        pub(super) const SECTIONS: &[Section] = &[$(Section {
            name: stringify!($name),
            about: &[$($about),*],
            settings: &[$(Setting { name: stringify!($field), about: &[$($doc),*] }),*],
        }),*];
    };
}

sections! {
    /// Where clients connect.
    listen: ListenSection {
        /// Address and port for clients that do not speak TLS. Port 0 = any free one, off = none.
        address: ListenAddress = ListenAddress::At(SocketAddr::from(([127, 0, 0, 1], 7100))),
    }

    /// Where clients connect that speak TLS.
    tls: TlsSection {
        /// Address and port for TLS. Port 0 = any free one. Not set: there is no TLS.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr> = None,
        /// File with the certificate of this server and those up to its authority (PEM). Not set: tls/cert.pem in
        /// the data directory, as `roamd cert dev` makes it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cert_file: Option<PathBuf> = None,
        /// File with the private key of the certificate (PEM), mode 0600 or 0640. Not set: tls/key.pem.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_file: Option<PathBuf> = None,
    }

    /// Where data lies.
    data: DataSection {
        /// The data directory: store, keys, lock. Made when it is not there.
        dir: PathBuf = PathBuf::from("roamd-data"),
    }

    /// What is bounded, and what happens at the bound.
    limits: LimitsSection {
        /// Inbox retention by count, per user. Older entries are trimmed, first in first out.
        inbox_entries: u64 = Limits::default().inbox_entries,
        /// Inbox retention by age.
        #[serde(with = "duration")]
        inbox_age: Duration = Limits::default().inbox_age,
        /// How long a retry of a send is recognised; at least 8 days.
        #[serde(with = "duration")]
        idempotency_window: Duration = Limits::default().idempotency_window,
        /// Largest content of a message, in bytes. Larger: CONTENT_TOO_LARGE.
        #[serde(with = "size")]
        content_bytes: usize = Limits::default().content_bytes,
        /// Members up to which a message is written to every member's inbox.
        fanout_members: usize = Limits::default().fanout_members,
        /// How long a sender may recall its message. Later: WINDOW_CLOSED (owner and admins: any time).
        #[serde(with = "duration")]
        recall_window: Duration = Limits::default().recall_window,
        /// How long a sender may edit its message. Later: WINDOW_CLOSED.
        #[serde(with = "duration")]
        edit_window: Duration = Limits::default().edit_window,
        /// Most members of a group. More: TOO_MANY_MEMBERS.
        members_per_group: usize = Limits::default().members_per_group,
        /// Most conversations of one user. More: FORBIDDEN to who starts one, outcome LIMIT for who is added.
        conversations_per_user: usize = Limits::default().conversations_per_user,
        /// Most devices of one user. More: TOO_MANY_DEVICES.
        devices_per_user: usize = Limits::default().devices_per_user,
        /// Devices of one user with a session at the same time: many, one_per_platform or one. A new
        /// session ends those that are too many: REPLACED.
        multi_login: MultiLogin = Limits::default().multi_login,
        /// Entries sent and not acked before the server stops reading the inbox for a session.
        unacked_entries: u32 = Limits::default().unacked_entries,
        /// Bytes sent and not acked before the server stops reading the inbox for a session.
        #[serde(with = "size")]
        unacked_bytes: u32 = Limits::default().unacked_bytes,
        /// Requests of one session without a reply. More: the server stops reading the socket.
        outstanding_requests: u32 = Limits::default().outstanding_requests,
        /// A client sends any frame at least this often; silent for three intervals: IDLE.
        #[serde(with = "duration")]
        heartbeat_interval: Duration = Limits::default().heartbeat_interval,
        /// A connection whose socket takes nothing for so long is closed: IDLE. One whose peer
        /// acknowledges nothing for so long ends.
        #[serde(with = "duration")]
        write_stall: Duration = Limits::default().write_stall,
        /// Open connections; `roamd` lowers it when too few files may be open. More: one that has not said
        /// Hello gives way; when there is none, the new one is accepted and told OVERLOADED.
        connections: usize = Limits::default().connections,
        /// Connections that have not said Hello. More: the oldest one, of the address with the most of them,
        /// is told OVERLOADED and closed.
        greeting_connections: usize = Limits::default().greeting_connections,
        /// Open connections of one IPv4 address or IPv6 network of 64 bits. 0 = no limit, since many may be
        /// behind one. More: accepted and told RATE_LIMITED.
        connections_per_address: usize = Limits::default().connections_per_address,
        /// Tokens that are not good which one address may show in a minute. 0 = no limit. More: RATE_LIMITED
        /// for a while, whatever the token.
        auth_failures_per_minute: u32 = Limits::default().auth_failures_per_minute,
        /// Bytes of large client frames under way on all connections together. A frame takes its share before
        /// memory is reserved for it. More: its socket is not read until there is room.
        #[serde(with = "size")]
        inbound_bytes: usize = Limits::default().inbound_bytes,
        /// Requests that would have to wait for so long are refused: OVERLOADED. What is accepted is done
        /// soon, and what is not is told at once.
        #[serde(with = "duration")]
        waiting_time: Duration = Limits::default().waiting_time,
        /// Sends, edits, recalls and deletions for all that one user may make per second on all devices
        /// together, sustained. 0 = no limit. More: RATE_LIMITED.
        sends_per_second: u32 = Limits::default().sends_per_second,
        /// Sends one user may make at once above the sustained rate.
        sends_burst: u32 = Limits::default().sends_burst,
        /// Sessions one user may open per second on all devices together, sustained. 0 = no limit. More:
        /// RATE_LIMITED, close.
        sessions_per_second: u32 = Limits::default().sessions_per_second,
        /// Sessions one user may open at once above the sustained rate.
        sessions_burst: u32 = Limits::default().sessions_burst,
    }

    /// How data is kept.
    store: StoreSection {
        /// Size at which the journal starts a new segment.
        #[serde(with = "size")]
        segment_bytes: u64 = 32 << 20,
        /// Memory for recent commits that are in the journal and not yet in the trees. They are moved there when
        /// half of it is in use; what is being moved counts.
        #[serde(with = "size")]
        memory_bytes: u64 = 192 << 20,
        /// Memory for pages of the trees.
        #[serde(with = "size")]
        cache_bytes: u64 = 256 << 20,
        /// How often the trees are brought up to the journal, at least.
        #[serde(with = "duration")]
        checkpoint_interval: Duration = Duration::from_secs(5),
    }

    /// Who may connect. Tokens by keys in the data directory are always accepted.
    auth: AuthSection {
        /// File with a secret of at least 32 bytes, mode 0600 or 0640. Set: HS256 tokens by it are accepted too.
        #[serde(skip_serializing_if = "Option::is_none")]
        hs256_secret_file: Option<PathBuf> = None,
        /// How long a minted token is valid.
        #[serde(with = "duration")]
        token_ttl: Duration = Duration::from_secs(24 * 3600),
    }

    /// The push hook: a web address that is told what devices without a session should hear of.
    push: PushSection {
        /// Where jobs are posted, http:// or https://. Not set: there is no hook.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<String> = None,
        /// File with a secret of at least 32 bytes, mode 0600 or 0640, that signs the jobs. Needed with url.
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_file: Option<PathBuf> = None,
        /// File with the certificates (PEM) to trust instead of the public ones.
        #[serde(skip_serializing_if = "Option::is_none")]
        ca_file: Option<PathBuf> = None,
        /// A device that lost its session is left alone for so long; most come back.
        #[serde(with = "duration")]
        delay: Duration = Duration::from_secs(5),
        /// How long one answer is waited for.
        #[serde(with = "duration")]
        timeout: Duration = Duration::from_secs(10),
        /// Jobs posted at the same time. More: they wait, and nothing is lost.
        connections: u32 = 8,
        /// Jobs carry the content of the message.
        include_content: bool = false,
        /// A job that is not accepted in this time is given up.
        #[serde(with = "duration")]
        expiry: Duration = Duration::from_secs(24 * 3600),
        /// Pause before a job is posted again; it doubles with every failure ...
        #[serde(with = "duration")]
        retry_first: Duration = Duration::from_secs(1),
        /// ... up to this.
        #[serde(with = "duration")]
        retry_max: Duration = Duration::from_secs(300),
        /// Members of a large conversation who are not named in a message are told at most once in this time.
        #[serde(with = "duration")]
        large_interval: Duration = Duration::from_secs(30),
    }

    /// What is logged, to stderr.
    log: LogSection {
        /// error, warn, info, debug or trace.
        level: LogLevel = LogLevel::Info,
        /// text for people, json for programs.
        format: LogFormat = LogFormat::Text,
    }
}

/// The least important lines that are still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Something is refused or repaired.
    Warn,
    /// The life of the daemon.
    Info,
    /// The life of sessions.
    Debug,
    /// Frames.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object per line.
    Json,
}

impl From<&LimitsSection> for Limits {
    fn from(set: &LimitsSection) -> Self {
        Self {
            inbox_entries: set.inbox_entries,
            inbox_age: set.inbox_age,
            idempotency_window: set.idempotency_window,
            content_bytes: set.content_bytes,
            fanout_members: set.fanout_members,
            recall_window: set.recall_window,
            edit_window: set.edit_window,
            members_per_group: set.members_per_group,
            conversations_per_user: set.conversations_per_user,
            devices_per_user: set.devices_per_user,
            multi_login: set.multi_login,
            unacked_entries: set.unacked_entries,
            unacked_bytes: set.unacked_bytes,
            outstanding_requests: set.outstanding_requests,
            heartbeat_interval: set.heartbeat_interval,
            write_stall: set.write_stall,
            connections: set.connections,
            greeting_connections: set.greeting_connections,
            connections_per_address: set.connections_per_address,
            auth_failures_per_minute: set.auth_failures_per_minute,
            inbound_bytes: set.inbound_bytes,
            waiting_time: set.waiting_time,
            sends_per_second: set.sends_per_second,
            sends_burst: set.sends_burst,
            sessions_per_second: set.sessions_per_second,
            sessions_burst: set.sessions_burst,
        }
    }
}
