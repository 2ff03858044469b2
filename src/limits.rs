//! Every limit of the product, with its default: what it bounds and what happens when it is hit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest client frame before Welcome. Larger: FRAME_TOO_LARGE, close.
pub const GREETING_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Largest client frame after Welcome. Larger: FRAME_TOO_LARGE, close.
pub const CLIENT_FRAME_BYTES_MAX: usize = 128 * 1024;
/// Largest server frame; no batch passes it.
pub const SERVER_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// A sync batch aims at this size.
pub const BATCH_BYTES_TARGET: usize = 256 * 1024;
/// Nothing more is read for a session or made for its socket while so many bytes wait for it: what a
/// reader that never reads costs.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes by which a reader's buffer grows towards an announced frame, so that an announcement alone
/// costs no more than this.
pub const FRAME_GROWTH_BYTES_MAX: usize = 64 * 1024;
/// A client frame up to this size may wait for its end without a share of `inbound_bytes`.
pub const FRAME_FREE_BYTES_MAX: usize = 16 * 1024;
/// A client frame that has a share of `inbound_bytes` must be complete by then: IDLE.
pub const FRAME_TIME_MAX: Duration = Duration::from_secs(30);
/// Most fields counted in one client frame before it is decoded. More: TOO_MANY_ITEMS, close.
pub const FRAME_FIELDS_MAX: usize = 4096;
/// Memory that the lists of any server frame may take once decoded, in bytes.
pub const DECODED_BYTES_FREE: usize = 4096;
/// Memory that they may take beyond it for each byte of the frame. More: the client closes.
pub const DECODED_BYTES_FACTOR: usize = 16;
/// First frame must be complete by then: HELLO_TIMEOUT, close.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest content type, in bytes. Longer: INVALID_ARGUMENT.
pub const CONTENT_TYPE_BYTES_MAX: usize = 127;
/// Longest group title, in bytes. Longer: INVALID_ARGUMENT.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest name of a platform, in bytes. Longer: INVALID_ARGUMENT.
pub const PLATFORM_BYTES_MAX: usize = 64;
/// Most users named in one message. More: TOO_MANY_ITEMS.
pub const MENTIONS_MAX: usize = 64;
/// Most users or conversations in one call. More: TOO_MANY_ITEMS.
pub const ITEMS_PER_CALL_MAX: usize = 1000;
/// Most users written out in one membership entry; the rest is counted.
pub const ENTRY_USERS_MAX: usize = 32;
/// Largest history page. Larger requests: INVALID_ARGUMENT.
pub const HISTORY_PAGE_MAX: u32 = 200;
/// Messages in a history page when the request says 0.
pub const HISTORY_PAGE_DEFAULT: u32 = 50;
/// Largest byte budget of a history page, counted by [`crate::message::Message::weight`]. Larger
/// requests count as this.
pub const HISTORY_PAGE_BYTES_MAX: usize = 512 * 1024;
/// Byte budget of a history page when the request says 0.
pub const HISTORY_PAGE_BYTES_DEFAULT: usize = 256 * 1024;
/// Largest page of conversations. Larger requests: INVALID_ARGUMENT.
pub const LIST_PAGE_MAX: u32 = 200;
/// Conversations in a page when the request says 0.
pub const LIST_PAGE_DEFAULT: u32 = 50;
/// Content bytes of `last_message` in a conversation; the rest is cut off and marked.
pub const PREVIEW_BYTES_MAX: usize = 1024;
/// Largest page of members. Larger requests: INVALID_ARGUMENT.
pub const MEMBER_PAGE_MAX: u32 = 1000;
/// Members in a page when the request says 0.
pub const MEMBER_PAGE_DEFAULT: u32 = 200;
/// Most entries in one SyncPull. Larger requests: INVALID_ARGUMENT.
pub const PULL_PAGE_MAX: u32 = 1000;
/// Entries in one SyncPull when the request says 0.
pub const PULL_PAGE_DEFAULT: u32 = 200;
/// Most conversations named in CaughtUp; `complete` tells when there are more.
pub const CAUGHT_UP_CONVERSATIONS_MAX: usize = 200;
/// A client sends at most one ack per so many entries ...
pub const CLIENT_ACK_ENTRIES: u64 = 64;
/// ... or so many bytes ...
pub const CLIENT_ACK_BYTES: u64 = 64 * 1024;
/// ... or this long after the first un-acked entry.
pub const CLIENT_ACK_DELAY_MAX: Duration = Duration::from_millis(200);
/// The server writes cursors when so many devices are dirty ...
pub const CURSOR_FLUSH_DEVICES: u64 = 256;
/// ... or this long after the first.
pub const CURSOR_FLUSH_DELAY_MAX: Duration = Duration::from_millis(250);
/// How often the engine writes down the time it knows. A start that finds the wall clock ...
pub const CLOCK_RECORD_INTERVAL: Duration = Duration::from_secs(3600);
/// ... further than this from what was written down takes it for set: ages count from that start.
pub const CLOCK_JUMP_MIN: Duration = Duration::from_secs(24 * 3600);
/// Longest draft of a message, in bytes. Longer: INVALID_ARGUMENT.
pub const DRAFT_BYTES_MAX: usize = 2048;
/// Most messages hidden in one call. More: TOO_MANY_ITEMS.
pub const HIDE_PER_CALL_MAX: usize = 100;
/// Largest page of mutations. Larger requests: INVALID_ARGUMENT.
pub const MUTATION_PAGE_MAX: u32 = 200;
/// Mutations in a page when the request says 0.
pub const MUTATION_PAGE_DEFAULT: u32 = 50;
/// Most edits of one message. More: WINDOW_CLOSED. So the way back to what somebody saw who has left
/// is short.
pub const EDITS_PER_MESSAGE_MAX: u32 = 1000;
/// Most messages fetched by reference in one call. More: TOO_MANY_ITEMS.
pub const MESSAGE_REFS_MAX: usize = 200;
/// Most users in one presence subscription call. More: TOO_MANY_ITEMS.
pub const SUBSCRIBE_PER_CALL_MAX: usize = 200;
/// Most users whose presence one session follows. More: TOO_MANY_ITEMS.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
/// Largest content of an ephemeral, in bytes. Larger: CONTENT_TOO_LARGE.
pub const EPHEMERAL_BYTES_MAX: usize = 1024;
/// Longest name of a push provider, in bytes. Longer: INVALID_ARGUMENT.
pub const PROVIDER_BYTES_MAX: usize = 64;
/// Longest push token, in bytes. Longer: INVALID_ARGUMENT.
pub const PUSH_TOKEN_BYTES_MAX: usize = 2048;
/// Push jobs that are with the hook at once. More: they wait in their outboxes.
pub const PUSHES_IN_FLIGHT_MAX: usize = 256;
/// Push jobs handed to the hook between two flushes; the others come right after.
pub const PUSHES_PER_TURN: usize = 16;
/// Members of a large conversation told by the push hook between two flushes.
pub const PUSH_ROUND_MEMBERS: usize = 256;
/// Push targets and outboxes looked at between two flushes after a start.
pub const PUSH_SWEEP_ROWS: usize = 512;
/// Longest pause the push hook may ask for. A longer one counts as this.
pub const PUSH_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Most large conversations named in CaughtUp.hints; the others are found by ListConversations.
pub const HINTS_MAX: usize = 1000;
/// Most cursors of large conversations in a Hello. More: TOO_MANY_ITEMS.
pub const HELLO_CURSORS_MAX: usize = 64;
/// Whose total has moved because of large conversations is told within this time ...
pub const UNREAD_PUSH_DELAY: Duration = Duration::from_millis(200);
/// ... or at once when so many wait; and so many at once.
pub const UNREAD_PUSH_USERS: usize = 512;
/// At most one entry about a user's read marker, to its own devices and to the peer, and one about
/// its preferences, per conversation in this time.
pub const READ_ENTRY_INTERVAL: Duration = Duration::from_secs(2);

/// Ephemerals one session may send per second, sustained. More: RATE_LIMITED.
pub const EPHEMERALS_PER_SECOND: u32 = 10;
/// Ephemerals one session may send at once above the sustained rate.
pub const EPHEMERALS_BURST: u32 = 20;

/// Inboxes that get a notice in one commit; a notice for more goes on in a round.
pub const NOTICE_SLICE: usize = 256;
/// Notices on their way at the same time. More: OVERLOADED.
pub const NOTICE_ROUNDS_MAX: usize = 64;

/// How many devices of one user may have a session at the same time. A new session ends those that
/// are too many: REPLACED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MultiLogin {
    /// All of them, one session each.
    #[default]
    Many,
    /// One of each platform: of each first word of Hello.platform.
    OnePerPlatform,
    /// One.
    One,
}

/// What an operator may set. Every field has its default in [`Limits::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Inbox retention by count, per user. Older entries are trimmed, first in first out.
    pub inbox_entries: u64,
    /// Inbox retention by age.
    pub inbox_age: Duration,
    /// How long a retry of a send is recognised; at least 8 days.
    pub idempotency_window: Duration,
    /// Largest content of a message, in bytes. Larger: CONTENT_TOO_LARGE.
    pub content_bytes: usize,
    /// Members up to which a message is written to every member's inbox.
    pub fanout_members: usize,
    /// How long a sender may recall its message. Later: WINDOW_CLOSED (owner and admins: any time).
    pub recall_window: Duration,
    /// How long a sender may edit its message. Later: WINDOW_CLOSED.
    pub edit_window: Duration,
    /// Most members of a group. More: TOO_MANY_MEMBERS.
    pub members_per_group: usize,
    /// Most conversations of one user. More: FORBIDDEN to who starts one, outcome LIMIT for who is added.
    pub conversations_per_user: usize,
    /// Most devices of one user. More: TOO_MANY_DEVICES.
    pub devices_per_user: usize,
    /// Devices of one user with a session at the same time: many, one_per_platform or one. A new
    /// session ends those that are too many: REPLACED.
    pub multi_login: MultiLogin,
    /// Entries sent and not acked before the server stops reading the inbox for a session.
    pub unacked_entries: u32,
    /// Bytes sent and not acked before the server stops reading the inbox for a session.
    pub unacked_bytes: u32,
    /// Requests of one session without a reply. More: the server stops reading the socket.
    pub outstanding_requests: u32,
    /// A client sends any frame at least this often; silent for three intervals: IDLE.
    pub heartbeat_interval: Duration,
    /// A connection whose socket takes nothing for so long is closed: IDLE. One whose peer
    /// acknowledges nothing for so long ends.
    pub write_stall: Duration,
    /// Open connections; `roamd` lowers it when too few files may be open. More: one that has not said
    /// Hello gives way; when there is none, the new one is accepted and told OVERLOADED.
    pub connections: usize,
    /// Connections that have not said Hello. More: the oldest one, of the address with the most of them,
    /// is told OVERLOADED and closed.
    pub greeting_connections: usize,
    /// Open connections of one IPv4 address or IPv6 network of 64 bits. 0 = no limit, since many may be
    /// behind one. More: accepted and told RATE_LIMITED.
    pub connections_per_address: usize,
    /// Tokens that are not good which one address may show in a minute. 0 = no limit. More: RATE_LIMITED
    /// for a while, whatever the token.
    pub auth_failures_per_minute: u32,
    /// Bytes of large client frames under way on all connections together. A frame takes its share before
    /// memory is reserved for it. More: its socket is not read until there is room.
    pub inbound_bytes: usize,
    /// Requests that would have to wait for so long are refused: OVERLOADED. What is accepted is done
    /// soon, and what is not is told at once.
    pub waiting_time: Duration,
    /// Sends, edits, recalls and deletions for all that one user may make per second on all devices
    /// together, sustained. 0 = no limit. More: RATE_LIMITED.
    pub sends_per_second: u32,
    /// Sends one user may make at once above the sustained rate.
    pub sends_burst: u32,
    /// Sessions one user may open per second on all devices together, sustained. 0 = no limit. More:
    /// RATE_LIMITED, close.
    pub sessions_per_second: u32,
    /// Sessions one user may open at once above the sustained rate.
    pub sessions_burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            inbox_entries: 1000,
            inbox_age: DAY * 7,
            idempotency_window: DAY * 9,
            content_bytes: 64 * 1024,
            fanout_members: 500,
            recall_window: Duration::from_secs(5 * 60),
            edit_window: DAY,
            members_per_group: 100_000,
            conversations_per_user: 5000,
            devices_per_user: 16,
            multi_login: MultiLogin::Many,
            unacked_entries: 1000,
            unacked_bytes: 1024 * 1024,
            outstanding_requests: 256,
            heartbeat_interval: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            connections: 20_000,
            greeting_connections: 4000,
            connections_per_address: 0,
            auth_failures_per_minute: 120,
            inbound_bytes: 64 << 20,
            waiting_time: Duration::from_secs(1),
            sends_per_second: 50,
            sends_burst: 100,
            sessions_per_second: 5,
            sessions_burst: 50,
        }
    }
}

impl Limits {
    /// What a running daemon goes on with when these are loaded anew: the new ones, but for those that
    /// its stored state, its clients and what is under way rest on ([`Limits::FIXED`]).
    #[must_use]
    pub fn reload(&self, new: Self) -> Self {
        let Self { inbox_entries, fanout_members, inbound_bytes, waiting_time, .. } = *self;
        Self { inbox_entries, fanout_members, inbound_bytes, waiting_time, ..new }
    }

    /// Limits that only a start changes.
    pub const FIXED: [&str; 4] =
        ["inbox_entries", "fanout_members", "inbound_bytes", "waiting_time"];
}
