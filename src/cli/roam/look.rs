//! `roam ping`, `history`, `convs`, `mutations`, `readers`: what the server knows.

use std::time::Instant;

use bytes::Bytes;
use clap::Args;

use super::{Failure, login::Login, show};
use crate::{
    cli::output::{Fields, Output},
    client::{Event, Page},
    config::parse_duration,
    limits::{HISTORY_PAGE_MAX, LIST_PAGE_MAX, MEMBER_PAGE_MAX, MUTATION_PAGE_MAX},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  roam ping\n  roam ping -n 10 -o jsonl")]
pub(super) struct PingArgs {
    /// How often.
    #[arg(short = 'n', long, default_value_t = 3)]
    count: u32,
}

pub(super) async fn ping(login: &Login, args: &PingArgs, output: Output) -> Result<(), Failure> {
    let since = Instant::now();
    let asking = login.asking().await;
    let mut client = login.ask(&asking).await?;
    let opened = since.elapsed();
    let welcome = loop {
        if let Event::Connected(welcome) = client.next_event().await? {
            break welcome;
        }
    };
    let mut best = None;
    for _ in 0..args.count.max(1) {
        let (took, _) = client.ping().await?;
        best = best.min(Some(took)).or(Some(took));
    }
    client.close().await?;
    let millis = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    output.item(&vec![
        ("server", login.server.as_str().into()),
        ("version", welcome.server.as_str().into()),
        ("user", welcome.user_id.as_str().into()),
        ("open_ms", millis(opened).into()),
        ("ping_ms", best.map(millis).into()),
        ("inbox_head", welcome.head_seq.into()),
        ("unread_total", welcome.unread_total.into()),
    ]);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam history @bob                  the last 20 messages with bob\n  \
    roam history g.0000000000005 -n 100\n  \
    roam history @bob --before 500     the 20 before #500\n  \
    roam history @bob --after 500      the 20 after #500\n  \
    roam history @bob --all -o jsonl   everything this user may see\n\nTimes are UTC.")]
pub(super) struct HistoryArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// Messages before this number (history_seq).
    #[arg(long, value_name = "N", conflicts_with = "after")]
    before: Option<u64>,
    /// Messages after this number (history_seq).
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// How many.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    count: u32,
    /// All of them.
    #[arg(long, conflicts_with = "count")]
    all: bool,
}

pub(super) async fn history(
    login: &Login,
    args: &HistoryArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let mut left = if args.all { usize::MAX } else { args.count as usize };
    let mut pages = Vec::new();
    let mut next = match (args.before, args.after) {
        (Some(before), _) => Page::Older(before),
        (None, Some(after)) => Page::Newer(after),
        (None, None) => Page::Newest,
    };
    let forward = args.after.is_some();
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(HISTORY_PAGE_MAX);
        let page = client.history(&conversation, next, limit).await?;
        left -= page.messages.len().min(left);
        next = if forward { Page::Newer(page.last_seq) } else { Page::Older(page.first_seq) };
        let done = page.complete || page.messages.is_empty();
        pages.push(page.messages);
        if done {
            break;
        }
    }
    client.close().await?;
    if !forward {
        pages.reverse();
    }
    let lines: Vec<_> = pages.iter().flatten().map(|it| show::message(it, output)).collect();
    if output.is_table() {
        output.stream(&lines);
    } else {
        output.list(&lines.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>());
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam convs                 all conversations, the newest first\n  \
    roam convs --since 24h     those with a message in the last day\n\nTimes are UTC.")]
pub(super) struct ConvsArgs {
    /// Only those with activity since then: a duration such as 90m or 7d, or unix milliseconds.
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    since: Option<u64>,
    /// At most so many.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<usize>,
}

fn parse_since(text: &str) -> Result<u64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    let ago = u64::try_from(parse_duration(text)?.as_millis()).unwrap_or(u64::MAX);
    Ok(super::unix_millis().saturating_sub(ago))
}

pub(super) async fn convs(login: &Login, args: &ConvsArgs, output: Output) -> Result<(), Failure> {
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let (mut items, mut token) = (Vec::new(), Bytes::new());
    let most = args.count.unwrap_or(usize::MAX);
    while items.len() < most {
        let page = client.conversations(args.since.unwrap_or(0), token, LIST_PAGE_MAX).await?;
        items.extend(page.conversations.iter().map(show::conversation));
        token = page.next_page_token;
        if page.complete {
            break;
        }
    }
    items.truncate(most);
    client.close().await?;
    output.list(&items);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam mutations @bob              every change of a message: recalled, edited, deleted\n  \
    roam mutations @bob --after 12   those after change 12\n\n\
    A device asks with the last number it knows and brings what it has cached up to date.")]
pub(super) struct MutationsArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// After this change (mutation_seq).
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
}

pub(super) async fn mutations(
    login: &Login,
    args: &MutationsArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let (mut lines, mut after) = (Vec::new(), args.after);
    loop {
        let page = client.mutations(&conversation, after, MUTATION_PAGE_MAX).await?;
        for change in page.mutations {
            let (line, more) = show::message(&change.message.unwrap_or_default(), output);
            let mut fields: Fields = vec![("mutation_seq", change.mutation_seq.into())];
            fields.extend(more);
            lines.push((format!("change {}:  {line}", change.mutation_seq), fields));
        }
        if page.complete || page.last_mutation_seq <= after {
            break;
        }
        after = page.last_mutation_seq;
    }
    client.close().await?;
    if output.is_table() {
        output.stream(&lines);
    } else {
        output.list(&lines.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>());
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam readers g.5 17        members whose read marker is at #17 or beyond\n\n\
    In a direct conversation `roam recv -a` tells what the other has read.")]
pub(super) struct ReadersArgs {
    /// The id of a group.
    #[arg(value_name = "CONV")]
    conversation: String,
    /// The message's number (history_seq).
    #[arg(value_name = "N")]
    seq: u64,
}

pub(super) async fn readers(
    login: &Login,
    args: &ReadersArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let (mut users, mut token) = (Vec::new(), Bytes::new());
    let count = loop {
        let page = client.readers(&conversation, args.seq, token, MEMBER_PAGE_MAX).await?;
        users.extend(page.user_ids);
        token = page.next_page_token;
        if page.complete {
            break page.reader_count;
        }
    };
    client.close().await?;
    output.item(&vec![
        ("conversation", conversation.into()),
        ("history_seq", args.seq.into()),
        ("reader_count", count.into()),
        ("readers", users.into()),
    ]);
    Ok(())
}
