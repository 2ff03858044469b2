//! `roam devices …`: the devices of this user.

use clap::{Args, Subcommand};

use super::{Failure, device_state::DeviceState, login::Login, show};
use crate::{
    cli::output::Output,
    client::{Client, Inbox},
};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    roam devices                    which there are, and how far each has the inbox\n  \
    roam devices kick phone         ends its session; it may come back\n  \
    roam devices revoke phone       lost or stolen: tokens it has are good for nothing from now on\n  \
    roam devices push apns 0a1b2c   where the push hook may reach this device"
)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    command: Option<DevicesCommand>,
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// End the session of a device.
    Kick {
        /// Its id.
        #[arg(value_name = "DEVICE")]
        which: String,
    },
    /// Lock a device out and forget it.
    #[command(after_help = "Examples:\n  roam devices revoke phone\n\n\
        Tokens made for it until now are refused. A token made afterwards lets it in again.")]
    Revoke {
        /// Its id.
        #[arg(value_name = "DEVICE")]
        which: String,
    },
    /// Tell where the push hook may reach the device of `roam recv`, or the one given by --device.
    #[command(after_help = "Examples:\n  roam devices push apns 0a1b2c\n  \
        roam devices push fcm TOKEN --device phone\n  roam devices push --off")]
    Push {
        /// A short label the operator's hook understands.
        #[arg(required_unless_present = "off")]
        provider: Option<String>,
        /// What the provider knows the device by.
        #[arg(required_unless_present = "off", value_name = "TOKEN")]
        push_token: Option<String>,
        /// Nowhere.
        #[arg(long, conflicts_with = "provider")]
        off: bool,
    },
}

pub(super) async fn run(login: &Login, args: &DevicesArgs, output: Output) -> Result<(), Failure> {
    if let Some(DevicesCommand::Push { provider, push_token, .. }) = &args.command {
        return push(login, provider.as_deref(), push_token.as_deref(), output).await;
    }
    let asking = login.asking().await;
    let client = login.ask(&asking).await?;
    match &args.command {
        Some(DevicesCommand::Kick { which: device }) => {
            let done = client.kick_device(device).await?;
            let what = format!("the session of {device} is over");
            show::done(&done, what, &[("device", device.as_str().into())], output);
        }
        Some(DevicesCommand::Revoke { which: device }) => {
            let done = client.revoke_device(device).await?;
            let what = format!("{device} is locked out until it has a new token");
            show::done(&done, what, &[("device", device.as_str().into())], output);
        }
        Some(DevicesCommand::Push { .. }) | None => {
            let devices = client.devices().await?;
            let items: Vec<_> = devices
                .iter()
                .map(|device| {
                    vec![
                        ("device", device.device_id.as_str().into()),
                        ("platform", device.platform.as_str().into()),
                        ("state", show::presence_state(device.state()).into()),
                        ("first_seen", show::time(device.first_seen_ms).into()),
                        ("last_seen", show::time(device.last_seen_ms).into()),
                        ("has_inbox_to", device.cursor.into()),
                        ("push", device.push_registered.into()),
                    ]
                })
                .collect();
            output.list(&items);
        }
    }
    client.close().await?;
    Ok(())
}

async fn push(
    login: &Login,
    provider: Option<&str>,
    token: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let device = login.receiving_device();
    // A second session of the device would end a `roam recv -f`.
    let _turn = DeviceState::open(&login.server, &login.user, device)?;
    let client = Client::connect(login.follows(device, Inbox::Ignore)).await?;
    let done =
        client.register_push(provider.unwrap_or_default(), token.unwrap_or_default()).await?;
    client.close().await?;
    let what = match token {
        Some(_) => format!("the push hook may reach {device}"),
        None => format!("the push hook does not reach {device}"),
    };
    show::done(&done, what, &[("device", device.into())], output);
    Ok(())
}
