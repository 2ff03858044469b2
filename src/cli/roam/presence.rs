//! `roam presence`, `typing`: who is there now.

use clap::Args;

use super::{Failure, interrupted, login::Login, show};
use crate::{
    cli::{
        exit::Exit,
        output::{Fields, Output, harmless},
    },
    client::{Client, ClientConfig, Event, Inbox},
    limits::SUBSCRIBE_PER_CALL_MAX,
    wire::proto,
};

/// The device of `roam presence --follow`: one of its own, so that it stands in nobody's way.
const WATCHES: &str = "roam-watch";

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam presence bob carol       which of their devices are there\n  \
    roam presence bob --follow    and every change; Ctrl-C ends it\n\n\
    Only users you share a conversation with; all others look offline.")]
pub(super) struct PresenceArgs {
    /// Whose.
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
    /// Go on with changes.
    #[arg(short, long)]
    pub(super) follow: bool,
}

pub(super) async fn presence(
    login: &Login,
    args: &PresenceArgs,
    output: Output,
) -> Result<(), Failure> {
    let users: Vec<String> =
        args.users.iter().map(|user| user.trim_start_matches('@').to_owned()).collect();
    if !args.follow {
        let asking = login.asking().await;
        let client = login.ask(&asking).await?;
        let devices = subscribe(&client, &users).await?;
        client.close().await?;
        output.list(&snapshot(&users, &devices));
        return Ok(());
    }
    let config = login.follows(login.device.as_deref().unwrap_or(WATCHES), Inbox::Ignore);
    let mut client = Client::connect(ClientConfig { background: true, ..config }).await?;
    loop {
        let event = tokio::select! {
            () = interrupted() => {
                client.close().await?;
                return Err(Failure::new(Exit::Interrupted, "", ""));
            }
            event = client.next_event() => event?,
        };
        let lines: Vec<_> = match event {
            // A subscription lives as long as its session.
            Event::Connected(_) => match subscribe(&client, &users).await {
                Ok(devices) => {
                    let fields = snapshot(&users, &devices);
                    fields.into_iter().map(|fields| (line(&fields), fields)).collect()
                }
                Err(crate::client::ClientError::Lost(_)) => continue,
                Err(error) => return Err(error.into()),
            },
            Event::Presence(devices) => devices.iter().map(|it| change(it, output)).collect(),
            Event::Disconnected { error, retry_in } => {
                eprintln!("roam: {error}; trying again in {:.1} s", retry_in.as_secs_f32());
                continue;
            }
            _ => continue,
        };
        output.stream(&lines);
    }
}

async fn subscribe(
    client: &Client,
    users: &[String],
) -> Result<Vec<proto::DevicePresence>, crate::client::ClientError> {
    let mut devices = Vec::new();
    for users in users.chunks(SUBSCRIBE_PER_CALL_MAX) {
        devices.extend(client.subscribe_presence(users.to_vec()).await?);
    }
    Ok(devices)
}

/// Every device that is there; a user without one is offline.
fn snapshot(users: &[String], devices: &[proto::DevicePresence]) -> Vec<Fields> {
    let of = |user: &String| {
        let mut own: Vec<_> = devices.iter().filter(|it| it.user_id == *user).map(fields).collect();
        if own.is_empty() {
            let offline = proto::DevicePresence {
                user_id: user.clone(),
                state: proto::PresenceState::Offline.into(),
                ..Default::default()
            };
            own.push(fields(&offline));
        }
        own
    };
    users.iter().flat_map(of).collect()
}

fn fields(device: &proto::DevicePresence) -> Fields {
    let since = match device.since_ms {
        0 => serde_json::Value::Null,
        since => show::time(since).into(),
    };
    vec![
        ("user", device.user_id.as_str().into()),
        ("device", device.device_id.as_str().into()),
        ("state", show::presence_state(device.state()).into()),
        ("since", since),
    ]
}

fn change(device: &proto::DevicePresence, output: Output) -> (String, Fields) {
    let fields = fields(device);
    let text = format!("{}  {}", output.dim(&show::time(device.since_ms)), line(&fields));
    (text, fields)
}

fn line(fields: &Fields) -> String {
    let words = fields.iter().take(3).filter_map(|(_, value)| value.as_str());
    harmless(&words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    roam typing @bob           bob's devices that are there hear of it (`roam recv -fa` shows it)\n\n\
    Nothing is kept, and nobody is told in large groups.")]
pub(super) struct TypingArgs {
    /// The id of a conversation, or @USER.
    #[arg(value_name = "CONV|@USER")]
    conversation: String,
    /// What it is called.
    #[arg(long, value_name = "TYPE", default_value = "typing")]
    content_type: String,
    /// What goes with it.
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

pub(super) async fn typing(
    login: &Login,
    args: &TypingArgs,
    output: Output,
) -> Result<(), Failure> {
    let conversation = login.conversation(&args.conversation)?;
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    client.send_ephemeral(&conversation, &args.content_type, args.text.join(" ")).await?;
    client.close().await?;
    let what = format!("{} is told in {conversation}", harmless(&args.content_type));
    output.stream(&[(what, vec![("conversation", conversation.into())])]);
    Ok(())
}
