//! `roam sync`: the version compare and the catch-up, seen from close by.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use clap::Args;
use tokio::time::timeout;

use super::{
    Failure, device_state,
    login::{Asking, Login},
    recv::GLANCE,
};
use crate::{
    cli::output::{Fields, Output},
    client::{Client, ClientConfig, Event, Inbox, LargeNews, Position, Trace, Tracer},
    wire::proto,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam sync                     would `roam recv` be up to date? what does it lack?\n  \
    roam sync --trace             with every step: versions, batches, acks\n  \
    roam sync --trace --from 0    as a device that has nothing of the inbox yet\n\n\
    It looks on as a device of its own: `roam recv` neither loses its position nor its messages.")]
pub(super) struct SyncArgs {
    /// Start after this inbox_seq instead of where `roam recv` is.
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Show every step.
    #[arg(long)]
    trace: bool,
}

#[derive(Debug, Default)]
struct Counts {
    batches: AtomicU64,
    bytes: AtomicU64,
    acks: AtomicU64,
}

pub(super) async fn run(login: &Login, args: &SyncArgs, output: Output) -> Result<(), Failure> {
    let device = login.receiving_device();
    let asking = login.asking().await;
    let (position, large) = match args.from {
        None => {
            let known = device_state::look(&login.server, &login.user, device)?;
            (known.position(), known.large())
        }
        Some(seq) => (Some(Position { epoch: epoch(login, &asking).await?, seq }), Vec::new()),
    };
    let counts = Arc::new(Counts::default());
    let (count, trace) = (Arc::clone(&counts), args.trace);
    let tracer = Tracer::new(move |step| {
        match step {
            Trace::Batch { bytes, .. } => {
                count.batches.fetch_add(1, Ordering::Relaxed);
                count.bytes.fetch_add(*bytes, Ordering::Relaxed);
            }
            Trace::Ack { .. } => {
                count.acks.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        if trace {
            output.stream(&[told(step)]);
        }
    });
    let config = login.follows(&asking.device, Inbox::Follow(position));
    let config = ClientConfig { tracer: Some(tracer), large, ..config };
    let mut client = Client::connect(config).await?;
    let (mut entries, mut large_messages, mut conversations) = (0u64, 0u64, None);
    let (mut welcome, mut caught_up) = (proto::Welcome::default(), None);
    loop {
        let status = client.status();
        if caught_up.is_some() && status.large_behind == 0 && status.events_waiting == 0 {
            break;
        }
        // What is missing of large groups may come to an end without an event.
        let Ok(event) = timeout(GLANCE, client.next_event()).await else { continue };
        match event? {
            Event::Connected(said) => welcome = *said,
            Event::Entry { seq, entry } => {
                entries += 1;
                // Of messages there may be many, and `roam recv` shows them.
                if args.trace && !matches!(entry.kind, Some(proto::entry::Kind::Message(_))) {
                    let (line, fields) = super::entries::entry(seq, &entry, output);
                    output.stream(&[(format!("  {seq:<10} {line}"), fields)]);
                }
            }
            Event::Large(event) => {
                large_messages += u64::from(matches!(event.news, LargeNews::Message(_)));
            }
            Event::Snapshot(snapshot) => conversations = Some(snapshot.conversations.len()),
            Event::CaughtUp(state) => caught_up = Some(*state),
            _ => {}
        }
    }
    let caught_up = caught_up.unwrap_or_default();
    client.close().await?;
    let verdict = welcome.verdict().as_str_name().trim_start_matches("VERDICT_").to_owned();
    let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let fields: Fields = vec![
        ("device_version", position.map(|at| at.seq).into()),
        ("server_version", welcome.head_seq.into()),
        ("server_first", welcome.first_seq.into()),
        ("epoch", format!("{:016x}", welcome.epoch).into()),
        ("verdict", verdict.into()),
        ("entries", entries.into()),
        ("large_messages", large_messages.into()),
        ("batches", total(&counts.batches).into()),
        ("bytes", total(&counts.bytes).into()),
        ("acks", total(&counts.acks).into()),
        ("snapshot_conversations", conversations.into()),
        ("caught_up_at", caught_up.seq.into()),
        ("unread_total", caught_up.unread_total.into()),
    ];
    output.item(&fields);
    Ok(())
}

/// The server's data set, which a position given by hand needs.
async fn epoch(login: &Login, asking: &Asking) -> Result<u64, Failure> {
    let mut client = login.ask(asking).await?;
    let epoch = loop {
        if let Event::Connected(welcome) = client.next_event().await? {
            break welcome.epoch;
        }
    };
    client.close().await?;
    Ok(epoch)
}

fn told(step: &Trace) -> (String, Fields) {
    match step {
        Trace::Hello { resume: Some(at) } => (
            format!("> Hello      device version {} of data set {:016x}", at.seq, at.epoch),
            vec![("step", "hello".into()), ("seq", at.seq.into())],
        ),
        Trace::Hello { resume: None } => (
            "> Hello      a device that has nothing yet".into(),
            vec![("step", "hello".into()), ("seq", serde_json::Value::Null)],
        ),
        Trace::Welcome(welcome) => {
            let verdict = welcome.verdict().as_str_name().trim_start_matches("VERDICT_");
            (
                format!(
                    "< Welcome    server version {}, keeps from {}: {verdict}",
                    welcome.head_seq, welcome.first_seq
                ),
                vec![
                    ("step", "welcome".into()),
                    ("head_seq", welcome.head_seq.into()),
                    ("first_seq", welcome.first_seq.into()),
                    ("verdict", verdict.into()),
                ],
            )
        }
        Trace::Batch { first, last, head, bytes, known } => (
            format!(
                "< SyncBatch  {first}..={last} of {head}, {bytes} bytes{}",
                if *known > 0 { format!(", {known} known already") } else { String::new() }
            ),
            vec![
                ("step", "batch".into()),
                ("first_seq", (*first).into()),
                ("last_seq", (*last).into()),
                ("head_seq", (*head).into()),
                ("bytes", (*bytes).into()),
                ("known", (*known).into()),
            ],
        ),
        Trace::Ack { seq, rides } => (
            format!("> Ack        {seq}{}", if *rides { " (rides on another frame)" } else { "" }),
            vec![("step", "ack".into()), ("seq", (*seq).into()), ("rides", (*rides).into())],
        ),
        Trace::CaughtUp { seq, unread_total } => (
            format!("< CaughtUp   {seq}, {unread_total} unread"),
            vec![
                ("step", "caught_up".into()),
                ("seq", (*seq).into()),
                ("unread_total", (*unread_total).into()),
            ],
        ),
        Trace::TooLong(too_long) => {
            let reason = too_long.reason().as_str_name().trim_start_matches("TOO_LONG_REASON_");
            (
                format!(
                    "< TooLong    {reason}: take a snapshot, go on after {}",
                    too_long.head_seq
                ),
                vec![
                    ("step", "too_long".into()),
                    ("reason", reason.into()),
                    ("head_seq", too_long.head_seq.into()),
                ],
            )
        }
        Trace::Page { conversations, complete } => (
            format!(
                "< Page       {conversations} conversations{}",
                if *complete { ", the last page" } else { "" }
            ),
            vec![
                ("step", "page".into()),
                ("conversations", (*conversations).into()),
                ("complete", (*complete).into()),
            ],
        ),
        Trace::Resume(at) => (
            format!("> Resume     after {}", at.seq),
            vec![("step", "resume".into()), ("seq", at.seq.into())],
        ),
        Trace::LargePush(push) => large_push(push),
        Trace::LargeFetch { conversation, changes, after } => {
            let name = if *changes { "FetchMutations" } else { "FetchHistory" };
            (
                format!("> Fetch      {conversation} after {after} ({name})"),
                vec![
                    ("step", "large_fetch".into()),
                    ("conversation", conversation.as_str().into()),
                    ("changes", (*changes).into()),
                    ("after", (*after).into()),
                ],
            )
        }
        Trace::LargePage { conversation, count, complete } => (
            format!(
                "< Page       {count} of {conversation}{}",
                if *complete { ", nothing more is missing" } else { "" }
            ),
            vec![
                ("step", "large_page".into()),
                ("conversation", conversation.as_str().into()),
                ("count", (*count).into()),
                ("complete", (*complete).into()),
            ],
        ),
    }
}

fn large_push(push: &proto::ConversationPush) -> (String, Fields) {
    let conversation = &push.conversation_id;
    let mut fields: Fields =
        vec![("step", "large_push".into()), ("conversation", conversation.as_str().into())];
    let line = match &push.message {
        Some(message) if push.mutation_seq == 0 => {
            fields.push(("history_seq", message.history_seq.into()));
            fields.push(("prev_history_seq", push.prev_history_seq.into()));
            format!("#{} after #{}", message.history_seq, push.prev_history_seq)
        }
        Some(message) => {
            fields.push(("history_seq", message.history_seq.into()));
            fields.push(("mutation_seq", push.mutation_seq.into()));
            fields.push(("prev_mutation_seq", push.prev_mutation_seq.into()));
            let (seq, prev) = (push.mutation_seq, push.prev_mutation_seq);
            format!("change {seq} after {prev}, of #{}", message.history_seq)
        }
        None => {
            fields.push(("version", push.version.into()));
            format!("members or settings changed: version {}", push.version)
        }
    };
    (format!("< Push       {conversation} {line}"), fields)
}
