//! `roam group …`: groups and their members.

use bytes::Bytes;
use clap::{Subcommand, ValueEnum};

use super::{Failure, login::Login, show};
use crate::{
    cli::output::{Output, harmless},
    limits::MEMBER_PAGE_MAX,
    wire::proto::{self, HistoryPolicy, Role},
};

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// Make a group; the caller becomes its owner.
    #[command(after_help = "Examples:\n  \
        roam group create lunch bob carol\n  \
        roam group create archive bob --history full     members see what was before them")]
    Create {
        /// Its title.
        title: String,
        /// Its members, besides the caller.
        #[arg(value_name = "USER")]
        users: Vec<String>,
        /// An id of its own [default: the server chooses one].
        #[arg(long, value_name = "CONV")]
        id: Option<String>,
        /// From where new members may read: since-join, full, or last:N.
        #[arg(long, value_name = "POLICY", default_value = "since-join", value_parser = parse_policy)]
        history: (HistoryPolicy, u32),
    },
    /// Add users.
    Add {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
        /// Whom.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
    /// Remove users.
    Remove {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
        /// Whom.
        #[arg(required = true, value_name = "USER")]
        users: Vec<String>,
    },
    /// Leave a group.
    Leave {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
    },
    /// Give a member a role; by the owner.
    #[command(after_help = "Examples:\n  \
        roam group role g.5 bob admin\n  \
        roam group role g.5 bob member\n  \
        roam group role g.5 bob owner     hands the group over; you become an admin")]
    Role {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
        /// Whom.
        #[arg(value_name = "USER")]
        whom: String,
        /// Which.
        role: RoleName,
    },
    /// Give it another title; by owner and admins.
    Title {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
        /// The new title.
        #[arg(required = true)]
        title: Vec<String>,
    },
    /// Close it for good; by the owner. Everybody can still read it.
    Disband {
        /// The id of the group.
        #[arg(value_name = "CONV")]
        conversation: String,
    },
    /// List the members of a conversation.
    Members {
        /// The id of the group, or @USER.
        #[arg(value_name = "CONV|@USER")]
        conversation: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleName {
    Member,
    Admin,
    Owner,
}

fn parse_policy(text: &str) -> Result<(HistoryPolicy, u32), String> {
    match text {
        "since-join" => Ok((HistoryPolicy::SinceJoin, 0)),
        "full" => Ok((HistoryPolicy::Full, 0)),
        _ => text
            .strip_prefix("last:")
            .and_then(|count| count.parse().ok())
            .filter(|count| *count > 0)
            .map(|count| (HistoryPolicy::LastN, count))
            .ok_or_else(|| "since-join, full, or last:N with N above 0".to_owned()),
    }
}

pub(super) async fn run(
    login: &Login,
    command: &GroupCommand,
    output: Output,
) -> Result<(), Failure> {
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    match command {
        GroupCommand::Create { title, users, id, history: (policy, last_n) } => {
            let create = proto::CreateGroup {
                conversation_id: id.clone().unwrap_or_default(),
                title: title.clone(),
                user_ids: users.clone(),
                history_policy: (*policy).into(),
                history_last_n: *last_n,
                ..proto::CreateGroup::default()
            };
            let created = client.create_group(create).await?;
            output.item(&vec![
                ("conversation", created.conversation_id.into()),
                ("members", created.member_count.into()),
            ]);
        }
        GroupCommand::Add { conversation, users } => {
            let changed = client.add_members(conversation, users.clone()).await?;
            report(users, &changed, output);
        }
        GroupCommand::Remove { conversation, users } => {
            let changed = client.remove_members(conversation, users.clone()).await?;
            report(users, &changed, output);
        }
        GroupCommand::Leave { conversation } => {
            let done = client.leave(conversation).await?;
            told(&done, format!("you have left {conversation}"), conversation, output);
        }
        GroupCommand::Role { conversation, whom, role } => {
            let user = whom.trim_start_matches('@');
            let (role, name) = match role {
                RoleName::Member => (Role::Member, "a member"),
                RoleName::Admin => (Role::Admin, "an admin"),
                RoleName::Owner => (Role::Owner, "the owner"),
            };
            let done = client.set_role(conversation, user, role).await?;
            told(&done, format!("{user} is {name} of {conversation}"), conversation, output);
        }
        GroupCommand::Title { conversation, title } => {
            let title = title.join(" ");
            let done = client.set_title(conversation, &title).await?;
            let what = format!("the title of {conversation} is \"{}\"", harmless(&title));
            told(&done, what, conversation, output);
        }
        GroupCommand::Disband { conversation } => {
            let done = client.disband(conversation).await?;
            told(&done, format!("{conversation} is closed for good"), conversation, output);
        }
        GroupCommand::Members { conversation } => {
            let conversation = login.conversation(conversation)?;
            let (mut items, mut token) = (Vec::new(), Bytes::new());
            loop {
                let page = client.members(&conversation, token, MEMBER_PAGE_MAX).await?;
                items.extend(page.members.iter().map(|member| {
                    let role = member.role().as_str_name().trim_start_matches("ROLE_");
                    vec![
                        ("user", member.user_id.as_str().into()),
                        ("role", role.to_lowercase().into()),
                        ("sees_from", member.joined_seq.into()),
                        ("joined", show::time(member.joined_at_ms).into()),
                    ]
                }));
                token = page.next_page_token;
                if page.complete {
                    break;
                }
            }
            output.list(&items);
        }
    }
    client.close().await?;
    Ok(())
}

fn told(done: &proto::Done, what: String, conversation: &str, output: Output) {
    show::done(done, what, &[("conversation", conversation.into())], output);
}

fn report(users: &[String], changed: &proto::MemberItems, output: Output) {
    let items: Vec<_> = users
        .iter()
        .zip(changed.outcomes())
        .map(|(user, outcome)| {
            let outcome = outcome.as_str_name().trim_start_matches("MEMBER_OUTCOME_");
            vec![("user", user.as_str().into()), ("outcome", outcome.to_lowercase().into())]
        })
        .collect();
    output.list(&items);
}
