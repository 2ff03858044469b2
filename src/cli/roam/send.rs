//! `roam send`: one message, or one per line.

use std::{io, time::Duration};

use clap::Args;
use tokio::{sync::mpsc, time::timeout};

use super::{Failure, login::Login};
use crate::{
    cli::output::{Fields, Output},
    client::{Client, Recipient},
    wire::proto,
};

/// Lines that are read ahead.
const LINES_AHEAD: usize = 1024;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam send @bob hi bob                     to a user; makes the conversation if need be\n  \
    roam send g.0000000000005 \"lunch?\"        to a conversation, by its id (`roam convs`)\n  \
    git log -1 | roam send @bob -             one message from stdin\n  \
    tail -f app.log | roam send @ops - --lines   a message per line, in order\n  \
    roam send @bob --id 1767225600000000 pay    safe to repeat: the same id is sent once\n\n\
    A target that begins with @ is a user, any other the id of a conversation. With --peer the target\n\
    is a user as it stands, with --conversation a conversation as it stands.\n\
    When the command ends with 0, every message would survive a power cut of the server.")]
pub(super) struct SendArgs {
    /// @USER or the id of a conversation.
    #[arg(value_name = "CONV|@USER")]
    target: String,
    /// The message; - reads it from stdin.
    #[arg(required = true, value_name = "TEXT|-")]
    text: Vec<String>,
    /// The target is a user.
    #[arg(long, conflicts_with = "conversation")]
    peer: bool,
    /// The target is a conversation.
    #[arg(long)]
    conversation: bool,
    /// Send every line of stdin as a message of its own.
    #[arg(long)]
    lines: bool,
    /// What the message is.
    #[arg(long, value_name = "TYPE", default_value = "text/plain")]
    content_type: String,
    /// The number (history_seq) of the message that is answered.
    #[arg(long, value_name = "N", default_value_t = 0)]
    reply_to: u64,
    /// An own number for the message: repeating the command with it sends it once. Above 0, best
    /// increasing, such as unix microseconds.
    #[arg(long, value_name = "N", conflicts_with = "lines", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// Say nothing about what was sent.
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(login: &Login, args: &SendArgs, output: Output) -> Result<(), Failure> {
    let stdin = args.text == ["-"];
    if args.lines && !stdin {
        return Err(Failure::usage("--lines reads stdin: give - as the text"));
    }
    // Stdin may take its time, the server may not.
    if args.lines {
        let asking = login.asking().await;
        let client = login.ask(&asking).await?;
        send_lines(&client, login.timeout, args, output).await?;
        client.close().await?;
        return Ok(());
    }
    let text = if stdin { read_all().await? } else { args.text.join(" ") };
    let send_one = async {
        let asking = login.asking().await;
        let client = login.ask(&asking).await?;
        let ack = client.begin_send(send(args, text.into())).await?.await?;
        report(&ack, args, output);
        client.close().await?;
        Ok(())
    };
    timeout(login.timeout, send_one).await.unwrap_or_else(|_| Err(super::no_answer()))
}

async fn send_lines(
    client: &Client,
    patience: Duration,
    args: &SendArgs,
    output: Output,
) -> Result<(), Failure> {
    let (lines, mut read) = mpsc::channel(LINES_AHEAD);
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lines() {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let (acks, mut waiting) = mpsc::channel(LINES_AHEAD);
    let make = async move {
        while let Some(line) = read.recv().await {
            let line = line.map_err(|error| unreadable(&error))?;
            let ack = client.begin_send(send(args, line.into())).await?;
            if acks.send(ack).await.is_err() {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    let wait = async {
        while let Some(ack) = waiting.recv().await {
            let ack = timeout(patience, ack).await.map_err(|_| super::no_answer())??;
            report(&ack, args, output);
        }
        Ok::<(), Failure>(())
    };
    tokio::try_join!(make, wait)?;
    Ok(())
}

fn send(args: &SendArgs, content: bytes::Bytes) -> proto::Send {
    let user = match args.target.strip_prefix('@') {
        _ if args.peer => Some(&*args.target),
        _ if args.conversation => None,
        user => user,
    };
    let to = user.map_or_else(|| Recipient::conversation(&args.target), Recipient::user);
    proto::Send {
        to: Some(to.into()),
        client_message_id: args.id.unwrap_or(0),
        // Made of the id, so that a repeated command repeats the message exactly.
        created_at_ms: args.id.map_or_else(super::unix_millis, |id| id / 1000),
        content_type: args.content_type.clone(),
        content,
        reply_to_seq: args.reply_to,
        ..proto::Send::default()
    }
}

fn report(ack: &proto::SendAck, args: &SendArgs, output: Output) {
    if args.quiet {
        return;
    }
    let again = if ack.duplicate { " (was sent before)" } else { "" };
    let line = format!("sent #{} to {}{again}", ack.history_seq, ack.conversation_id);
    let fields: Fields = vec![
        ("conversation", ack.conversation_id.as_str().into()),
        ("history_seq", ack.history_seq.into()),
        ("message_id", ack.message_id.into()),
        ("inbox_seq", ack.inbox_seq.into()),
        ("time_ms", ack.time_ms.into()),
        ("duplicate", ack.duplicate.into()),
    ];
    output.stream(&[(line, fields)]);
}

async fn read_all() -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await;
    match read {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(Failure::new(crate::cli::exit::Exit::Failed, "stdin was not read", "")),
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(crate::cli::exit::Exit::Failed, format!("cannot read stdin: {error}"), "")
}
