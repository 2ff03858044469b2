//! `roam recall`, `edit`, `delete`, `cancel`: messages that were sent.

use clap::Args;

use super::{Failure, login::Login, show};
use crate::cli::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam recall @bob 17        everybody sees that #17 was recalled, nobody its content any more\n\n\
    Your own messages within the time the server allows; owner and admins of a group at any time.\n\
    Repeating it does no harm.")]
pub(super) struct RecallArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// The message's number (history_seq).
    #[arg(value_name = "N")]
    seq: u64,
}

pub(super) async fn recall(
    login: &Login,
    args: &RecallArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let done = client.recall(&conversation, args.seq).await?;
    client.close().await?;
    let what = format!("#{} in {conversation} is recalled", args.seq);
    show::done(&done, what, &[("conversation", conversation.into())], output);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam edit @bob 17 \"8 pm, not 7\"      a new text for your own message #17\n  \
    roam edit @bob 17 --base 0 new text    only if nobody edited it since revision 0\n\n\
    Only your own messages, within the time the server allows.")]
pub(super) struct EditArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// The message's number (history_seq).
    #[arg(value_name = "N")]
    seq: u64,
    /// The new text.
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// The revision that is edited; CONFLICT when there is a newer one.
    #[arg(long, value_name = "REVISION")]
    base: Option<u32>,
    /// What the message is.
    #[arg(long, value_name = "TYPE", default_value = "text/plain")]
    content_type: String,
}

pub(super) async fn edit(login: &Login, args: &EditArgs, output: Output) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let text = args.text.join(" ");
    let edited = client.edit(&conversation, args.seq, &args.content_type, text, args.base);
    let done = edited.await?;
    client.close().await?;
    let what = format!("#{} in {conversation} is edited", args.seq);
    show::done(&done, what, &[("conversation", conversation.into())], output);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam delete @bob 17 18          gone on all your devices; bob still has them\n  \
    roam delete g.5 17 --for-all    gone for everybody; by the owner and admins of a group")]
pub(super) struct DeleteArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// The messages' numbers (history_seq).
    #[arg(required = true, value_name = "N")]
    seqs: Vec<u64>,
    /// For yourself only; this is what happens without a flag.
    #[arg(long)]
    for_me: bool,
    /// For everybody.
    #[arg(long, conflicts_with = "for_me")]
    for_all: bool,
}

pub(super) async fn delete(
    login: &Login,
    args: &DeleteArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let field = ("conversation", conversation.as_str().into());
    if args.for_all {
        for seq in &args.seqs {
            let done = client.delete_for_all(&conversation, *seq).await?;
            let what = format!("#{seq} in {conversation} is deleted for everybody");
            show::done(&done, what, std::slice::from_ref(&field), output);
        }
    } else {
        let done = client.delete_for_me(&conversation, args.seqs.clone()).await?;
        let seqs: Vec<_> = args.seqs.iter().map(|seq| format!("#{seq}")).collect();
        let what = format!("{} in {conversation}: hidden from you", seqs.join(" "));
        show::done(&done, what, &[field], output);
    }
    client.close().await?;
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam send @bob --id 1767225600000000 pay    the connection broke: was it sent?\n  \
    roam cancel 1767225600000000                whatever it was, it is not there now\n\n\
    Ids belong to a device: cancel with the same --device as the send.")]
pub(super) struct CancelArgs {
    /// The id the message was sent with, or would have been.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
}

pub(super) async fn cancel(
    login: &Login,
    args: &CancelArgs,
    output: Output,
) -> Result<(), Failure> {
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let done = client.cancel_send(args.id).await?;
    client.close().await?;
    let what = match done.inbox_seq {
        0 => format!("id {} is used up: a message sent with it is refused", args.id),
        _ => format!("the message sent with id {} is recalled", args.id),
    };
    show::done(&done, what, &[("id", args.id.into())], output);
    Ok(())
}
