//! `roam unread`: what is unread, and why.

use clap::Args;

use super::{Failure, login::Login};
use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output},
    },
    wire::proto,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam unread                what is unread, and where\n  \
    roam unread --explain      how each number was derived\n  \
    roam unread @bob -o json\n\n\
    unread = last ordinal - read ordinal - removed: messages are counted where they lie, and nothing\n\
    is counted up or down. --explain checks that, and that the sum is the total; 7 when it is not.")]
pub(super) struct UnreadArgs {
    /// Ids of conversations, or @USER; none = all with something unread.
    #[arg(value_name = "CONV|@USER")]
    conversations: Vec<String>,
    /// Show how each number was derived.
    #[arg(long)]
    explain: bool,
}

pub(super) async fn unread(
    login: &Login,
    args: &UnreadArgs,
    output: Output,
) -> Result<(), Failure> {
    let wanted: Result<Vec<_>, _> =
        args.conversations.iter().map(|target| login.conversation(target)).collect();
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let unread = client.unread(wanted?, args.explain).await?;
    client.close().await?;
    let items: Vec<_> = unread.conversations.iter().map(|it| unread_fields(it, args)).collect();
    let sum: u64 = unread.conversations.iter().map(|it| it.unread).sum();
    if output.is_table() {
        output.list(&items);
        output.item(&vec![("total", unread.unread_total.into())]);
        if args.explain {
            explain(&unread, sum, output);
        }
    } else {
        let objects = items.iter().map(|item| {
            item.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        });
        output.item(&vec![
            ("unread_total", unread.unread_total.into()),
            ("position", unread.position.into()),
            ("complete", unread.complete.into()),
            ("sum", sum.into()),
            ("conversations", objects.map(serde_json::Value::Object).collect()),
        ]);
    }
    if args.explain { check(&unread, sum, args.conversations.is_empty()) } else { Ok(()) }
}

/// Each number with its derivation, in words.
fn explain(unread: &proto::Unread, sum: u64, output: Output) {
    let mut text = String::new();
    for it in &unread.conversations {
        let (last, read) = (it.last_ordinal, it.read_ordinal);
        text.push_str(&format!(
            "\n{}: {} = {last} - {read} - {}\n  {last} countable messages up to #{}, {read} up to the \
             read marker at #{}, {} in between are gone or hidden\n",
            it.conversation_id, it.unread, it.removed, it.visible_last_seq, it.read_seq, it.removed
        ));
    }
    let named = unread.conversations.len();
    text.push_str(&format!(
        "\nThe sum of {named} conversation(s) is {sum}, the total is {}, both at entry {} of the inbox.\n",
        unread.unread_total, unread.position
    ));
    crate::cli::output::print(&output.dim(&text));
}

/// The derivation must give the number, and the numbers the total.
fn check(unread: &proto::Unread, sum: u64, all: bool) -> Result<(), Failure> {
    for it in &unread.conversations {
        let derived = i128::from(it.last_ordinal) - i128::from(it.read_ordinal);
        if derived - i128::from(it.removed) != i128::from(it.unread) {
            let text = format!(
                "{}: {} unread is not what it was derived from",
                it.conversation_id, it.unread
            );
            return Err(Failure::new(Exit::Violated, text, "please report it"));
        }
    }
    if all && unread.complete && sum != unread.unread_total {
        let text = format!("the total is {}, the sum {sum}", unread.unread_total);
        return Err(Failure::new(Exit::Violated, text, "please report it"));
    }
    Ok(())
}

fn unread_fields(unread: &proto::ConversationUnread, args: &UnreadArgs) -> Fields {
    let mut fields: Fields = vec![
        ("conversation", unread.conversation_id.as_str().into()),
        ("unread", unread.unread.into()),
        ("mentions", unread.unread_mentions.into()),
        ("marked_unread", unread.marked_unread.into()),
        ("read_seq", unread.read_seq.into()),
        ("last_seq", unread.visible_last_seq.into()),
    ];
    if args.explain {
        fields.push(("last_ordinal", unread.last_ordinal.into()));
        fields.push(("read_ordinal", unread.read_ordinal.into()));
        fields.push(("removed", unread.removed.into()));
    }
    fields
}
