//! `roamd key …`: the keys that sign tokens. A running daemon takes changes at SIGHUP.

use std::io;

use clap::Subcommand;

use super::{fail, print};
use crate::{auth::KeyRing, cli::exit::Exit, clock::Clock, config::Config};

/// What a change needs to come into force.
const HANGUP: &str = "a daemon that runs takes it at SIGHUP (kill -HUP)";

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List the keys; the last one signs.
    Ls,
    /// Make another key, which signs from now on. Tokens of older keys stay good.
    #[command(after_help = "Example, a rotation:\n  roamd key new\n  kill -HUP PID            \
        both keys are good\n  ... everybody gets new tokens ...\n  roamd key rm OLD\n  kill -HUP PID            \
        tokens and sessions of the old key end")]
    New,
    /// Delete a key. Its tokens are worth nothing, and sessions that began with one end.
    Rm {
        /// Its name, as `roamd key ls` prints it.
        name: String,
    },
}

pub(super) fn run(config: &Config, command: &KeyCommand) -> Exit {
    let data = &config.data.dir;
    let now = Clock::start().now().wall;
    let done = match command {
        KeyCommand::Ls => KeyRing::open(data, None, now).map(|ring| {
            ring.kids().for_each(|kid| print(&format!("{kid}\n")));
        }),
        KeyCommand::New => {
            KeyRing::open(data, None, now).and_then(|_| KeyRing::rotate(data, now)).map(|kid| {
                print(&format!("{kid}\n"));
                eprintln!("{HANGUP}; until then it refuses tokens of this key");
            })
        }
        KeyCommand::Rm { name } => match KeyRing::remove(data, name) {
            Ok(true) => {
                eprintln!("{HANGUP}");
                Ok(())
            }
            Ok(false) => {
                let error = io::Error::other(format!("there is no key {name:?}"));
                return fail(Exit::Failed, &error, "`roamd key ls` lists them");
            }
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => fail(Exit::Configuration, &error, "check --data"),
    }
}
