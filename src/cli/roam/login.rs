//! Who speaks, to which server, as which device: from flags, environment and profile.

use std::{fs::File, str::FromStr, time::Duration};

use serde::Deserialize;

use super::{
    Failure, Global, device_state,
    profile::{Profile, Profiles},
};
use crate::{
    cli::exit::Exit,
    client::{Client, ClientConfig, Inbox, Tls, TlsError},
    id::{ConversationId, UserId},
};

/// Where roamd listens unless told otherwise.
pub(super) const DEFAULT_SERVER: &str = "127.0.0.1:7100";
/// The device of `roam recv`.
const RECEIVES: &str = "roam";
/// The device of commands that only ask: one of its own, so that they do not displace a `roam recv -f`.
const ASKS: &str = "roam-ask";

/// A device's turn among commands that only ask; over when dropped.
pub(super) struct Asking {
    pub(super) device: String,
    _turn: Option<File>,
}

/// What a token says, unverified: only the server knows whether it is true.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) device: Option<String>,
}

pub(super) fn claims(token: &str) -> Result<Claims, Failure> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| {
        let hint = "copy all of it, or make another with `roamd token mint`";
        Failure::new(Exit::Configuration, "this is not a token", hint)
    })
}

/// Everything needed to connect.
pub(super) struct Login {
    pub(super) server: String,
    pub(super) user: String,
    tls: Option<Tls>,
    token: String,
    pub(super) device: Option<String>,
    pub(super) timeout: Duration,
}

impl Login {
    /// Flag before environment before profile.
    pub(super) fn find(global: &Global) -> Result<Self, Failure> {
        let wanted = global.profile.as_deref();
        // A token on the command line makes do without a profile.
        let profiles = Profiles::load()?;
        let profile = match (&global.token, wanted) {
            (Some(_), None) => None,
            (_, wanted) => profiles.choose(wanted)?,
        };
        let Some(token) = global.token.clone().or_else(|| profile.map(|it| it.token.clone()))
        else {
            let text = "there is no token to log in with";
            let user = global.user.as_deref().unwrap_or("USER");
            let hint = format!(
                "roam profile add {user} --token \"$(roamd token mint --user {user})\"; \
                 or give --token, or set ROAM_TOKEN"
            );
            return Err(Failure::new(Exit::Configuration, text, hint));
        };
        let claims = claims(&token)?;
        if let Some(user) = global.user.as_ref().filter(|user| **user != claims.sub) {
            return Err(foreign(user, &claims.sub));
        }
        let of_profile = |field: fn(&Profile) -> Option<String>| profile.and_then(field);
        Ok(Self {
            server: (global.server.clone())
                .or_else(|| of_profile(|it| Some(it.server.clone())))
                .unwrap_or_else(|| DEFAULT_SERVER.into()),
            tls: tls(global, profile)?,
            user: claims.sub,
            token,
            device: (global.device.clone())
                .or_else(|| of_profile(|it| it.device.clone()))
                .or(claims.device),
            timeout: global.timeout,
        })
    }

    /// The device that receives.
    pub(super) fn receiving_device(&self) -> &str {
        self.device.as_deref().unwrap_or(RECEIVES)
    }

    /// Configuration of a device that follows its inbox.
    pub(super) fn follows(&self, device: &str, inbox: Inbox) -> ClientConfig {
        ClientConfig {
            inbox,
            tls: self.tls.clone(),
            platform: format!("roam cli {}", std::env::consts::OS),
            connect_timeout: self.timeout,
            ..ClientConfig::new(&*self.server, &*self.token, device)
        }
    }

    /// The device of commands that only ask. They share it, so they take turns: a second session of
    /// a device would end the first.
    pub(super) async fn asking(&self) -> Asking {
        let device = self.device.clone().unwrap_or_else(|| ASKS.into());
        let turn = device_state::turn(&self.server, &self.user, &format!("{device}.asks")).await;
        Asking { device, _turn: turn }
    }

    /// Connects without following the inbox.
    pub(super) async fn ask(&self, asking: &Asking) -> Result<Client, Failure> {
        Ok(Client::connect(self.follows(&asking.device, Inbox::Ignore)).await?)
    }

    /// The conversation meant by an argument: `@USER` is the direct one with that user.
    pub(super) fn conversation(&self, target: &str) -> Result<String, Failure> {
        let Some(peer) = target.strip_prefix('@') else { return Ok(target.to_owned()) };
        let parse = |user: &str| {
            UserId::from_str(user).map_err(|error| Failure::usage(format!("{user:?}: {error}")))
        };
        Ok(ConversationId::direct(&parse(&self.user)?, &parse(peer)?).to_string())
    }
}

/// Whether the flags (or their variables) ask for TLS.
pub(super) fn wants_tls(global: &Global) -> bool {
    global.tls.unwrap_or(global.ca.is_some() || global.server_name.is_some())
}

/// Flag before environment before profile, for each of the three.
pub(super) fn tls(global: &Global, profile: Option<&Profile>) -> Result<Option<Tls>, Failure> {
    let given = global.tls.is_some() || wants_tls(global);
    if !(if given { wants_tls(global) } else { profile.is_some_and(|it| it.tls) }) {
        return Ok(None);
    }
    let of_profile = |field: fn(&Profile) -> Option<String>| profile.and_then(field);
    let ca = (global.ca.clone()).or_else(|| profile.and_then(|it| it.ca.clone()));
    let tls = match &ca {
        Some(path) => Tls::authorities_in(path),
        None => Tls::public(),
    };
    let name = global.server_name.clone().or_else(|| of_profile(|it| it.server_name.clone()));
    let failed = |error: TlsError| {
        let path = ca.as_deref().map_or_else(String::new, |path| format!("{}: ", path.display()));
        Failure::new(Exit::Configuration, format!("{path}{error}"), "see --ca and --server-name")
    };
    let tls = tls.and_then(|tls| match name {
        Some(name) => tls.server_name(&name),
        None => Ok(tls),
    });
    tls.map(Some).map_err(failed)
}

pub(super) fn foreign(wanted: &str, sub: &str) -> Failure {
    let text = format!("the token is {sub}'s, not {wanted}'s");
    Failure::new(Exit::Configuration, text, format!("`roamd token mint --user {wanted}` makes one"))
}
