//! `roamd config …`: what can be set, and what is.

use clap::Subcommand;

use super::{Common, fail, print};
use crate::{cli::exit::Exit, config::Config};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether file, environment and flags are right.
    Check,
    /// Print every setting in force and where it comes from.
    Show,
    /// Print a file of all settings with their meaning and default.
    #[command(alias = "defaults")]
    Doc,
}

pub(super) fn run(common: &Common, command: &ConfigCommand) -> Exit {
    if matches!(command, ConfigCommand::Doc) {
        print(&Config::defaults_doc());
        return Exit::Ok;
    }
    match common.load(&common.overrides()) {
        Ok(effective) => {
            if matches!(command, ConfigCommand::Show) {
                print(&effective.show());
            } else {
                eprintln!("the configuration is right");
            }
            Exit::Ok
        }
        Err(error) => fail(Exit::Configuration, &error, "see `roamd config doc` for every setting"),
    }
}
