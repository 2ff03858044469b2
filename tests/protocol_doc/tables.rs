//! The tables of `docs/protocol.md` against the registry, the limits and the decoder.

use std::time::Duration;

use roamd::{
    limits::{self, Limits},
    refusal::{ErrorCode, Retry},
};

use crate::document;

/// The rows of the table under a heading, as cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let (_, section) = document.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().unwrap();
    let table = section.lines().filter(|line| line.starts_with('|')).skip(2);
    table
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn the_error_table_is_the_registry() {
    let retry = |code: &ErrorCode| match code.retry() {
        Retry::Never => "never",
        Retry::AfterDelay(_) => "after delay",
        Retry::Reconnect(_) => "reconnect",
        Retry::Reauth => "reauth",
        Retry::Resync => "resync",
        Retry::SameId => "same id",
    };
    let registry: Vec<Vec<String>> = ErrorCode::ALL
        .iter()
        .map(|code| {
            vec![code.number().to_string(), format!("`{}`", code.name()), retry(code).into()]
        })
        .collect();
    let rows = rows("Errors");
    assert!(rows.iter().all(|row| row.len() == 4 && !row[3].is_empty()), "a row without meaning");
    let written: Vec<Vec<String>> = rows.into_iter().map(|row| row[..3].to_vec()).collect();
    assert_eq!(written, registry);
}

#[test]
fn the_limits_table_is_the_code() {
    let own = Limits::default();
    let values = [
        ("client frame before Welcome", size(limits::GREETING_FRAME_BYTES_MAX)),
        ("client frame after Welcome", size(limits::CLIENT_FRAME_BYTES_MAX)),
        ("server frame", size(limits::SERVER_FRAME_BYTES_MAX)),
        ("sync batch, aimed at", size(limits::BATCH_BYTES_TARGET)),
        ("fields and list elements in a client frame", limits::FRAME_FIELDS_MAX.to_string()),
        ("time to the complete Hello", time(limits::HELLO_TIMEOUT)),
        ("id", size(roamd::id::ID_BYTES_MAX)),
        ("platform", size(limits::PLATFORM_BYTES_MAX)),
        ("content type", size(limits::CONTENT_TYPE_BYTES_MAX)),
        ("content *", size(own.content_bytes)),
        ("group title", size(limits::TITLE_BYTES_MAX)),
        ("mentions in a message", limits::MENTIONS_MAX.to_string()),
        ("users in a call", limits::ITEMS_PER_CALL_MAX.to_string()),
        ("conversations in GetUnread", limits::ITEMS_PER_CALL_MAX.to_string()),
        ("conversations in GetConversations", limits::LIST_PAGE_MAX.to_string()),
        ("users named in a membership entry", limits::ENTRY_USERS_MAX.to_string()),
        ("history page", page(limits::HISTORY_PAGE_MAX, limits::HISTORY_PAGE_DEFAULT)),
        (
            "bytes of a history page",
            format!(
                "{}; 0 = {}",
                size(limits::HISTORY_PAGE_BYTES_MAX),
                size(limits::HISTORY_PAGE_BYTES_DEFAULT)
            ),
        ),
        ("page of mutations", page(limits::MUTATION_PAGE_MAX, limits::MUTATION_PAGE_DEFAULT)),
        ("messages in FetchMessages", limits::MESSAGE_REFS_MAX.to_string()),
        ("edits of a message", limits::EDITS_PER_MESSAGE_MAX.to_string()),
        ("a sender recalls within *", time(own.recall_window)),
        ("a sender edits within *", time(own.edit_window)),
        ("page of conversations", page(limits::LIST_PAGE_MAX, limits::LIST_PAGE_DEFAULT)),
        ("content of `last_message`", size(limits::PREVIEW_BYTES_MAX)),
        ("draft in preferences", size(limits::DRAFT_BYTES_MAX)),
        ("messages in DeleteForMe", limits::HIDE_PER_CALL_MAX.to_string()),
        (
            "entries about one thing of one conversation, held back",
            format!("one in {}", time(limits::READ_ENTRY_INTERVAL)),
        ),
        ("page of members", page(limits::MEMBER_PAGE_MAX, limits::MEMBER_PAGE_DEFAULT)),
        ("entries of a SyncPull", page(limits::PULL_PAGE_MAX, limits::PULL_PAGE_DEFAULT)),
        ("conversations in CaughtUp", limits::CAUGHT_UP_CONVERSATIONS_MAX.to_string()),
        ("hints in CaughtUp", limits::HINTS_MAX.to_string()),
        ("conversations named in Hello", limits::HELLO_CURSORS_MAX.to_string()),
        ("members of a group that is not large *", own.fanout_members.to_string()),
        ("entries without an ack *", own.unacked_entries.to_string()),
        ("bytes without an ack *", size(own.unacked_bytes as usize)),
        ("requests without a reply *", own.outstanding_requests.to_string()),
        ("heartbeat interval *", time(own.heartbeat_interval)),
        ("inbox entries of a user *", own.inbox_entries.to_string()),
        ("inbox age *", time(own.inbox_age)),
        ("members of a group *", own.members_per_group.to_string()),
        ("devices of a user *", own.devices_per_user.to_string()),
        ("users in SubscribePresence", limits::SUBSCRIBE_PER_CALL_MAX.to_string()),
        ("users a session follows", limits::SUBSCRIPTIONS_MAX.to_string()),
        ("content of an ephemeral", size(limits::EPHEMERAL_BYTES_MAX)),
        ("bad tokens of an address in a minute *", own.auth_failures_per_minute.to_string()),
        ("ephemerals of a session", rate(limits::EPHEMERALS_PER_SECOND, limits::EPHEMERALS_BURST)),
        ("sends, edits, recalls of a user *", rate(own.sends_per_second, own.sends_burst)),
        ("new sessions of a user *", rate(own.sessions_per_second, own.sessions_burst)),
        ("notices on their way", limits::NOTICE_ROUNDS_MAX.to_string()),
        ("push provider", size(limits::PROVIDER_BYTES_MAX)),
        ("push token", size(limits::PUSH_TOKEN_BYTES_MAX)),
        ("retries of a send are recognised for *", time(own.idempotency_window)),
    ];
    let right: Vec<Vec<String>> =
        values.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let rows = rows("Limits");
    assert!(rows.iter().all(|row| row.len() == 3 && !row[2].is_empty()), "a row without an answer");
    let written: Vec<Vec<String>> = rows.into_iter().map(|row| row[..2].to_vec()).collect();
    assert_eq!(written, right);
}

#[test]
fn the_ack_rule_is_the_code() {
    let rule = format!(
        "{} entries, {} or {}",
        limits::CLIENT_ACK_ENTRIES,
        size(limits::CLIENT_ACK_BYTES as usize),
        time(limits::CLIENT_ACK_DELAY_MAX)
    );
    assert!(document().contains(&rule), "{rule}");
}

fn rate(per_second: u32, burst: u32) -> String {
    format!("{per_second} a second, {burst} at once")
}

fn page(max: u32, default: u32) -> String {
    format!("{max}; 0 = {default}")
}

fn size(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    match bytes {
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

fn time(span: Duration) -> String {
    const DAY: u128 = 24 * 3600 * 1000;
    match span.as_millis() {
        DAY => "1 day".to_owned(),
        millis if millis.is_multiple_of(DAY) => format!("{} days", millis / DAY),
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}
