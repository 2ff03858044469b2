//! `roam recv`: gives every message of the inbox once, across runs.
//!
//! The order is: print, remember, ack. The client acks an event when the next is asked for, so this
//! loop prints and saves in between.

use clap::Args;
use tokio::time::timeout;

use super::{Failure, device_state::DeviceState, interrupted, login::Login, show};
use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output},
    },
    client::{Client, Event, Inbox, Page, Snapshot},
    wire::proto::{self, entry::Kind},
};

/// Events that are printed at once, and remembered at once.
const EVENTS_AT_ONCE: usize = 64;

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
    /// Also print what is no message: read markers, changes of members.
    #[arg(short, long)]
    all: bool,
    /// After a snapshot, do not print what was missed from the history.
    #[arg(long)]
    no_history: bool,
}

pub(super) async fn run(login: &Login, args: &RecvArgs, output: Output) -> Result<(), Failure> {
    let device = login.receiving_device();
    let mut state = DeviceState::open(&login.server, &login.user, device)?;
    let config = login.follows(device, Inbox::Follow(state.known.position()));
    let patience = config.connect_timeout;
    let mut client = Client::connect(config).await?;
    let mut events = Vec::new();
    loop {
        events.clear();
        let next = client.next_events(&mut events, EVENTS_AT_ONCE);
        tokio::select! {
            () = interrupted() => {
                client.close().await?;
                return Err(Failure::new(Exit::Interrupted, "", ""));
            }
            next = async {
                if args.follow { Ok(next.await) } else { timeout(patience, next).await }
            } => match next {
                Ok(outcome) => outcome?,
                Err(_) => {
                    let text = "the server has not said everything in time";
                    return Err(Failure::new(Exit::Timeout, text, "--timeout gives it longer"));
                }
            },
        }
        let mut lines = Vec::new();
        let (mut caught_up, mut moved) = (false, false);
        for event in events.drain(..) {
            match event {
                Event::Entry { seq, entry } => {
                    if is_new(&entry, &mut state, args) {
                        lines.push(show::entry(seq, &entry, output));
                    }
                    state.known.advance(seq);
                    moved = true;
                }
                Event::Snapshot(snapshot) => {
                    lines.extend(missed(&client, &snapshot, &mut state, args, output).await?);
                    state.known.move_to(snapshot.position);
                    moved = true;
                }
                Event::CaughtUp(_) => caught_up = true,
                Event::Disconnected { error, retry_in } if args.follow => {
                    eprintln!("roam: {error}; trying again in {:.1} s", retry_in.as_secs_f32());
                }
                _ => {}
            }
        }
        output.stream(&lines);
        if moved {
            state.save()?;
        }
        if caught_up && !args.follow {
            client.close().await?;
            return Ok(());
        }
    }
}

fn is_new(entry: &proto::Entry, state: &mut DeviceState, args: &RecvArgs) -> bool {
    match &entry.kind {
        // What the history gave after a snapshot may come again as an entry.
        Some(Kind::Message(message)) => {
            state.known.give(&message.conversation_id, message.history_seq)
        }
        _ => args.all,
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
        let last = conversation.visible_last_seq;
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
