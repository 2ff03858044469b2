//! `roam recv`: gives every message of the inbox once, across runs.
//!
//! The order is: print, remember, ack. The client acks an event when the next is asked for, so this
//! loop prints and saves in between.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout};

use super::{Failure, device_state::DeviceState, entries, interrupted, login::Login, show};
use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output},
    },
    client::{
        Client, ClientConfig, ClientError, Event, Inbox, LargeEvent, LargeNews, Page, Snapshot,
    },
    wire::proto::{self, TooLongReason, entry::Kind},
};

/// Events that are printed at once, and remembered at once.
const EVENTS_AT_ONCE: usize = 64;
/// How long to wait for more before looking whether everything is there.
pub(super) const GLANCE: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam recv                 what came since the last run, then end\n  \
    roam recv -f              and go on with what comes; Ctrl-C ends it\n  \
    roam recv -f -o jsonl     for programs: an object per line\n  \
    roam recv --device pi     another device of the same user: it has its own position\n\n\
    Every message is printed once, however often the command is run or killed. The position of the\n\
    device is kept in the folder of the profiles. A device that is new, or was away for longer than the\n\
    server keeps the inbox, gets what it missed from the history: a new one what is unread, a known one\n\
    what came after the last message it was given.")]
pub(super) struct RecvArgs {
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Also print what is no message: read markers, changes of members, preferences, typing, totals.
    #[arg(short, long)]
    all: bool,
    /// Be there as an application in the background is.
    #[arg(long)]
    background: bool,
    /// After a snapshot, do not print what was missed from the history.
    #[arg(long)]
    no_history: bool,
}

pub(super) async fn run(login: &Login, args: &RecvArgs, output: Output) -> Result<(), Failure> {
    let device = login.receiving_device();
    let mut state = DeviceState::open(&login.server, &login.user, device)?;
    let config = ClientConfig {
        large: state.known.large(),
        background: args.background,
        ..login.follows(device, Inbox::Follow(state.known.position()))
    };
    let patience = config.connect_timeout;
    let mut client = Client::connect(config).await?;
    let (mut events, mut caught_up, mut heard) = (Vec::new(), false, Instant::now());
    loop {
        events.clear();
        let next = client.next_events(&mut events, EVENTS_AT_ONCE);
        tokio::select! {
            () = interrupted() => {
                client.close().await?;
                return Err(Failure::new(Exit::Interrupted, "", ""));
            }
            next = wait(next, args.follow, caught_up, patience) => match next {
                Some(outcome) => outcome?,
                None if heard.elapsed() < patience => {}
                None => {
                    let text = "the server has not said everything in time";
                    return Err(Failure::new(Exit::Timeout, text, "--timeout gives it longer"));
                }
            },
        }
        if !events.is_empty() {
            heard = Instant::now();
        }
        let mut lines = Vec::new();
        let mut moved = false;
        for event in events.drain(..) {
            match event {
                Event::Entry { seq, entry } => {
                    if is_new(&entry, &mut state, args) {
                        lines.push(entries::entry(seq, &entry, output));
                    }
                    state.known.advance(seq);
                    moved = true;
                }
                Event::Large(event) => {
                    if large_is_new(&event, &mut state, args) {
                        lines.push(entries::large(&event, output));
                    }
                    moved = true;
                }
                Event::Snapshot(snapshot) => {
                    if matches!(snapshot.reason, TooLongReason::Epoch | TooLongReason::Ahead) {
                        state.known.start_over();
                    }
                    lines.extend(missed(&client, &snapshot, &mut state, args, output).await?);
                    state.known.move_to(snapshot.position);
                    state.known.follow_only(&snapshot.large);
                    moved = true;
                }
                Event::CaughtUp(_) => caught_up = true,
                Event::Disconnected { error, retry_in } if args.follow => {
                    eprintln!("roam: {error}; trying again in {:.1} s", retry_in.as_secs_f32());
                }
                push if args.all => lines.extend(entries::push(&push)),
                _ => {}
            }
        }
        output.stream(&lines);
        if moved {
            state.save()?;
        }
        let status = client.status();
        let whole = caught_up && status.large_behind == 0 && status.events_waiting == 0;
        if whole && !args.follow {
            client.close().await?;
            return Ok(());
        }
    }
}

/// The next events; none = there were none for a while.
async fn wait(
    next: impl Future<Output = Result<(), ClientError>>,
    follow: bool,
    caught_up: bool,
    patience: Duration,
) -> Option<Result<(), ClientError>> {
    if follow {
        return Some(next.await);
    }
    // Large conversations may turn out to be whole without another event.
    timeout(if caught_up { GLANCE } else { patience }, next).await.ok()
}

fn is_new(entry: &proto::Entry, state: &mut DeviceState, args: &RecvArgs) -> bool {
    match &entry.kind {
        // What the history gave after a snapshot may come again as an entry.
        Some(Kind::Message(message)) => {
            state.known.give(&message.conversation_id, message.history_seq)
        }
        Some(Kind::Recalled(_) | Kind::Edited(_) | Kind::Deleted(_) | Kind::Notice(_)) => true,
        _ => args.all,
    }
}

fn large_is_new(event: &LargeEvent, state: &mut DeviceState, args: &RecvArgs) -> bool {
    let conversation = &event.cursor.conversation_id;
    match &event.news {
        LargeNews::Ends => state.known.unfollow(conversation),
        _ => state.known.follow(&event.cursor),
    }
    match &event.news {
        LargeNews::Message(message) => state.known.give(conversation, message.history_seq),
        LargeNews::Changed(_) => true,
        LargeNews::Begins | LargeNews::Version | LargeNews::Ends => args.all,
    }
}

/// What the inbox no longer has, from the history.
async fn missed(
    client: &Client,
    snapshot: &Snapshot,
    state: &mut DeviceState,
    args: &RecvArgs,
    output: Output,
) -> Result<Vec<(String, Fields)>, Failure> {
    let reason = snapshot.reason.as_str_name().trim_start_matches("TOO_LONG_REASON_");
    eprintln!(
        "roam: starting from a snapshot: {} conversation(s), {} unread ({})",
        snapshot.conversations.len(),
        snapshot.unread_total,
        reason.to_lowercase().replace('_', " ")
    );
    let mut lines = Vec::new();
    for conversation in &snapshot.conversations {
        let id = &conversation.conversation_id;
        // What follows in a large one comes by itself.
        let large = snapshot.large.iter().find(|cursor| cursor.conversation_id == *id);
        let last = large.map_or(conversation.visible_last_seq, |cursor| cursor.history_seq);
        let floor = conversation.visible_first_seq.saturating_sub(1);
        let known = state.known.last(id).unwrap_or(conversation.read_seq);
        // A position of another data set may be past the end of this one.
        let mut after = if known > last { conversation.read_seq } else { known }.max(floor);
        while !args.no_history && after < last {
            let page = client.history(id, Page::Newer(after), 0).await?;
            let new = page.messages.iter().filter(|message| message.history_seq <= last);
            lines.extend(
                new.map(|message| (show::received(message, output), show::message_fields(message))),
            );
            if page.complete || page.last_seq <= after {
                break;
            }
            after = page.last_seq;
        }
        state.known.give(id, last);
    }
    Ok(lines)
}
