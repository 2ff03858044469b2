//! `roam profile …`: addresses and tokens by name, in a file that only its owner can read.
//!
//! The folder is `$ROAM_CONFIG`, else `$XDG_CONFIG_HOME/roam`, else `~/.config/roam`; what devices
//! remember between two runs lies in `state/` beside it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{Failure, Global, login};
use crate::cli::{exit::Exit, output::Output};

const FILE: &str = "profiles.toml";

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// Remember an address and a token under a name, and use it from now on.
    #[command(after_help = "Examples:\n  \
        roam profile add alice --token \"$(roamd token mint --user alice)\"\n  \
        roam profile add work --server chat.example:7100 --token-file token.txt --device desk\n\n\
        A name that exists is replaced. Also takes the global --server, --token, --user, --device,\n\
        --tls, --ca, --server-name.")]
    Add {
        /// Its name.
        name: String,
        /// Read the token from this file; - = stdin.
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
        /// Do not switch to it.
        #[arg(long)]
        no_use: bool,
    },
    /// List them; tokens are not shown.
    #[command(alias = "list")]
    Ls,
    /// Use this one when --profile is not given.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget one.
    Rm {
        /// Its name.
        name: String,
    },
}

/// One name's way in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) server: String,
    /// Speak TLS, also without an authority or a name of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) tls: bool,
    /// File with the authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    /// What the server's certificate must be for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    pub(super) token: String,
}

/// The file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profiles {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    profile: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads the file; without one there are no profiles.
    pub(super) fn load() -> Result<Self, Failure> {
        let path = folder()?.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable(&path, &error)),
        };
        toml::from_str(&text).map_err(|error| unusable(&path, &error))
    }

    /// The one named, or the current one.
    pub(super) fn choose(&self, name: Option<&str>) -> Result<Option<&Profile>, Failure> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        self.profile.get(name).map(Some).ok_or_else(|| unknown(name))
    }

    fn save(&self) -> Result<(), Failure> {
        let folder = folder()?;
        let path = folder.join(FILE);
        let text = toml::to_string(self).map_err(|error| unusable(&path, &error))?;
        write_private(&path, text.as_bytes()).map_err(|error| unusable(&path, &error))
    }
}

pub(super) fn run(
    global: &Global,
    command: &ProfileCommand,
    output: Output,
) -> Result<(), Failure> {
    let mut profiles = Profiles::load()?;
    match command {
        ProfileCommand::Add { name, token_file, no_use } => {
            let token = match (&global.token, token_file) {
                (Some(token), _) => token.clone(),
                (None, Some(path)) => read_token(path)?,
                (None, None) => {
                    let hint = "`roamd token mint --user USER` makes one";
                    return Err(Failure::new(
                        Exit::Usage,
                        "--token or --token-file is needed",
                        hint,
                    ));
                }
            };
            let claims = login::claims(&token)?;
            if let Some(user) = global.user.as_ref().filter(|user| **user != claims.sub) {
                return Err(login::foreign(user, &claims.sub));
            }
            // Another folder is the working directory next time.
            let ca = global.ca.as_deref().map(std::path::absolute).transpose();
            let ca = ca.map_err(|error| unusable(Path::new("--ca"), &error))?;
            let profile = Profile {
                tls: login::wants_tls(global),
                ca,
                server_name: global.server_name.clone(),
                server: global.server.clone().unwrap_or_else(|| login::DEFAULT_SERVER.into()),
                user: Some(claims.sub),
                device: global.device.clone().or(claims.device),
                token,
            };
            profiles.profile.insert(name.clone(), profile);
            if !no_use {
                profiles.current = Some(name.clone());
            }
            profiles.save()
        }
        ProfileCommand::Ls => {
            let items: Vec<_> = profiles
                .profile
                .iter()
                .map(|(name, profile)| {
                    vec![
                        ("name", name.as_str().into()),
                        ("current", (profiles.current.as_ref() == Some(name)).into()),
                        ("server", profile.server.as_str().into()),
                        ("tls", profile.tls.into()),
                        ("user", profile.user.clone().into()),
                        ("device", profile.device.clone().into()),
                    ]
                })
                .collect();
            output.list(&items);
            Ok(())
        }
        ProfileCommand::Use { name } => {
            if !profiles.profile.contains_key(name) {
                return Err(unknown(name));
            }
            profiles.current = Some(name.clone());
            profiles.save()
        }
        ProfileCommand::Rm { name } => {
            if profiles.profile.remove(name).is_none() {
                return Err(unknown(name));
            }
            profiles.current.take_if(|current| current == name);
            profiles.save()
        }
    }
}

/// Where everything of this program lies.
pub(super) fn folder() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ROAM_CONFIG")
        .or_else(|| set("XDG_CONFIG_HOME").map(|path| path.join("roam")))
        .or_else(|| set("HOME").map(|path| path.join(".config/roam")))
        .ok_or_else(|| {
            let text = "there is no home directory to keep profiles and positions in";
            Failure::new(Exit::Configuration, text, "set ROAM_CONFIG to a folder")
        })
}

/// Replaces a file by one that only its owner can read; whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension(format!("new{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&new, path)
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = match path.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()),
        false => fs::read_to_string(path),
    };
    text.map(|text| text.trim().to_owned()).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Configuration, format!("{}: {error}", path.display()), "")
}

fn unknown(name: &str) -> Failure {
    let text = format!("there is no profile {name:?}");
    Failure::new(Exit::Configuration, text, "`roam profile ls` lists them")
}
