//! `roam read`, `mark-unread`, `clear`, `prefs`: what a user keeps of a conversation.

use clap::Args;

use super::{Failure, login::Login, show};
use crate::{
    cli::{exit::Exit, output::Output},
    client::Wishes,
    wire::proto,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam read @bob             everything is read\n  \
    roam read @bob 17          up to and including #17\n  \
    roam read @bob --tell      and bob may know\n\n\
    The marker only moves forward; a smaller number changes nothing.")]
pub(super) struct ReadArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// The last message read (history_seq) [default: the newest].
    seq: Option<u64>,
    /// Tell the other user of a direct conversation.
    #[arg(long)]
    tell: bool,
}

pub(super) async fn read(login: &Login, args: &ReadArgs, output: Output) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    // Beyond the last message counts as the last one.
    let seq = args.seq.unwrap_or(u64::MAX);
    let reply = match args.tell {
        true => client.mark_read_visibly(&conversation, seq).await?,
        false => client.mark_read(&conversation, seq).await?,
    };
    client.close().await?;
    output.item(&vec![
        ("conversation", conversation.into()),
        ("read_seq", reply.read_seq.into()),
        ("unread", reply.unread.into()),
        ("unread_total", reply.unread_total.into()),
    ]);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam mark-unread @bob      shown as unread on all your devices, until it is read again\n\n\
    The read marker and the counts stay as they are.")]
pub(super) struct MarkUnreadArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
}

pub(super) async fn mark_unread(
    login: &Login,
    args: &MarkUnreadArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let done = client.mark_unread(&conversation).await?;
    client.close().await?;
    let what = format!("{conversation} is marked as unread");
    show::done(&done, what, &[("conversation", conversation.into())], output);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam clear @bob            all messages with bob are gone for you, for good; bob still has them\n  \
    roam clear @bob 17         those up to and including #17\n\n\
    It cannot be undone, and never moves back.")]
pub(super) struct ClearArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// The last message to go (history_seq) [default: the newest].
    seq: Option<u64>,
}

pub(super) async fn clear(login: &Login, args: &ClearArgs, output: Output) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let done = client.clear(&conversation, args.seq.unwrap_or(u64::MAX)).await?;
    client.close().await?;
    let what = format!("{conversation} is cleared for you");
    show::done(&done, what, &[("conversation", conversation.into())], output);
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam prefs @bob                    what is set\n  \
    roam prefs @bob --pin --mute       first in the list, no push notifications\n  \
    roam prefs @bob --draft \"dear b\"   a message to go on with on another device\n  \
    roam prefs @bob --no-draft --unpin\n\n\
    What is not named stays as it is. Muted conversations count as unread all the same.")]
pub(super) struct PrefsArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// First in the list.
    #[arg(long)]
    pin: bool,
    /// No longer first.
    #[arg(long, conflicts_with = "pin")]
    unpin: bool,
    /// No push notifications.
    #[arg(long)]
    mute: bool,
    /// Push notifications again.
    #[arg(long, conflicts_with = "mute")]
    unmute: bool,
    /// Not in the list.
    #[arg(long)]
    hide: bool,
    /// In the list again.
    #[arg(long, conflicts_with = "hide")]
    unhide: bool,
    /// A message that is not finished.
    #[arg(long, value_name = "TEXT")]
    draft: Option<String>,
    /// No such message.
    #[arg(long, conflicts_with = "draft")]
    no_draft: bool,
}

impl PrefsArgs {
    fn wishes(&self) -> Wishes {
        let either = |on: bool, off: bool| (on || off).then_some(on);
        let draft = self.draft.clone().or_else(|| self.no_draft.then(String::new));
        Wishes {
            pinned: either(self.pin, self.unpin),
            muted: either(self.mute, self.unmute),
            hidden: either(self.hide, self.unhide),
            draft: draft.map(Into::into),
        }
    }
}

pub(super) async fn prefs(login: &Login, args: &PrefsArgs, output: Output) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let wishes = args.wishes();
    if wishes != Wishes::default() {
        client.set_preferences(&conversation, wishes).await?;
    }
    let mut found = client.conversations_by_id(vec![conversation.clone()]).await?;
    client.close().await?;
    let Some(Some(found)) = found.pop() else {
        let text = format!("NOT_FOUND: there is no conversation {conversation} for you");
        return Err(Failure::new(Exit::Refused, text, "`roam convs` lists conversations"));
    };
    let set = found.preferences.unwrap_or_else(proto::Preferences::default);
    output.item(&vec![
        ("conversation", conversation.into()),
        ("pinned", set.pinned().into()),
        ("muted", set.muted().into()),
        ("hidden", set.hidden().into()),
        ("draft", String::from_utf8_lossy(set.draft()).into()),
        ("marked_unread", found.marked_unread.into()),
    ]);
    Ok(())
}
