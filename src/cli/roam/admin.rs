//! `roam admin …`: needs a token with the scope "admin".

use clap::{Args, Subcommand};

use super::{Failure, login::Login, show};
use crate::{
    cli::output::Output,
    wire::proto::{self, send_notice::To},
};

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Send a system notice into the inboxes of users.
    #[command(after_help = "Examples:\n  \
        roam admin notice --everyone \"down for an hour at 23:00 UTC\"\n  \
        roam admin notice --to bob \"please choose another name\"\n  \
        roam admin notice --conversation g.5 --id 7 text   safe to repeat: the same id is sent once\n\n\
        The token: roamd token mint --user ops --scope \"client admin\"")]
    Notice(NoticeArgs),
}

#[derive(Debug, Args)]
pub(super) struct NoticeArgs {
    /// To this user.
    #[arg(long, value_name = "USER", required_unless_present_any = ["conversation", "everyone"])]
    to: Option<String>,
    /// To the members of this conversation.
    #[arg(long, value_name = "CONV", conflicts_with = "to")]
    conversation: Option<String>,
    /// To every user with a device.
    #[arg(long, conflicts_with_all = ["to", "conversation"])]
    everyone: bool,
    /// The notice.
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// What the notice is.
    #[arg(long, value_name = "TYPE", default_value = "text/plain")]
    content_type: String,
    /// An own number for the notice: repeating the command with it sends it once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
}

pub(super) async fn run(
    login: &Login,
    command: &AdminCommand,
    output: Output,
) -> Result<(), Failure> {
    let AdminCommand::Notice(args) = command;
    let (to, whom) = match (&args.to, &args.conversation) {
        (Some(user), _) => {
            let user = user.trim_start_matches('@');
            (To::UserId(user.to_owned()), user.to_owned())
        }
        (None, Some(conversation)) => {
            (To::ConversationId(conversation.clone()), format!("the members of {conversation}"))
        }
        (None, None) => (To::Everyone(args.everyone), "everyone".to_owned()),
    };
    let notice = proto::SendNotice {
        to: Some(to),
        client_request_id: args.id.unwrap_or(0),
        content_type: args.content_type.clone(),
        content: args.text.join(" ").into(),
    };
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    let done = client.send_notice(notice).await?;
    client.close().await?;
    let to = whom.as_str().into();
    show::done(&done, format!("a notice is on its way to {whom}"), &[("to", to)], output);
    Ok(())
}
