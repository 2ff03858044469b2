//! `roamd token …`: tokens signed with the keys of the data directory.

use std::time::Duration;

use clap::Subcommand;

use super::{fail, print};
use crate::{
    auth::{AuthError, KeyRing, Scopes},
    cli::exit::Exit,
    clock::Clock,
    config::Config,
    id::{DeviceId, UserId},
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a new token. Makes the key when the data directory has none yet.
    #[command(after_help = "Examples:\n  roamd token mint --user alice\n  \
        roamd token mint --user alice --device phone --ttl 30d\n  \
        roamd token mint --user ops --scope \"client admin\"")]
    Mint {
        /// Whose token.
        #[arg(long)]
        user: UserId,
        /// Only this device may use it.
        #[arg(long)]
        device: Option<DeviceId>,
        /// How long it is valid, such as 90m, 24h, 30d [default: auth.token_ttl].
        #[arg(long, value_parser = crate::config::parse_duration)]
        ttl: Option<Duration>,
        /// What it allows: client, admin, push.
        #[arg(long, default_value = "client")]
        scope: Scopes,
    },
    /// Say whose a token is, what it allows and until when; exit 5 when it is not valid.
    Check {
        /// The token.
        token: String,
    },
}

pub(super) fn run(config: &Config, command: &TokenCommand) -> Exit {
    let now = Clock::start().now().wall;
    let secret = config.auth.hs256_secret_file.as_deref();
    let ring = match KeyRing::open(&config.data.dir, secret, now) {
        Ok(ring) => ring,
        Err(error) => return fail(Exit::Configuration, &error, "check --data"),
    };
    match command {
        TokenCommand::Mint { user, device, ttl, scope } => {
            let ttl = ttl.unwrap_or(config.auth.token_ttl);
            match ring.mint(user, device.as_ref(), *scope, ttl, now) {
                Ok(token) => {
                    print(&format!("{token}\n"));
                    Exit::Ok
                }
                Err(error) => fail(Exit::Failed, &error, ""),
            }
        }
        TokenCommand::Check { token } => match ring.verify(token, now) {
            Ok(claims) => {
                let device = claims.device.as_ref().map_or("any", DeviceId::as_str);
                let left =
                    Duration::from_millis(claims.expires.millis().saturating_sub(now.millis()));
                print(&format!(
                    "user {}\ndevice {device}\nscopes {}\nexpires in {} s\n",
                    claims.user,
                    claims.scopes,
                    left.as_secs()
                ));
                Exit::Ok
            }
            Err(error) => {
                let hint = match error {
                    AuthError::Invalid => "was it made with this data directory's key?",
                    AuthError::Expired => "make another with `roamd token mint`",
                };
                fail(Exit::Refused, &error, hint)
            }
        },
    }
}
