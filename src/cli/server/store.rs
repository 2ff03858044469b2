//! `roamd store …`: a look into a data directory whose daemon is stopped.

use clap::Subcommand;

use super::{fail, serve::store_config};
use crate::{
    cli::exit::Exit,
    config::Config,
    store::{Store, StoreError, catalogue::LogKind},
};

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Print figures: records, bytes, position.
    Stat,
}

pub(super) fn run(config: &Config, command: &StoreCommand) -> Exit {
    if !config.data.dir.join("ROAMD").exists() {
        eprintln!("roamd: {} is not a data directory", config.data.dir.display());
        return Exit::Failed;
    }
    let outcome = Store::open(&store_config(config)).and_then(|(store, writer)| {
        match command {
            StoreCommand::Stat => stat(&store)?,
        }
        store.close(writer)
    });
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error @ StoreError::InUse(_)) => fail(Exit::Failed, &error, "stop the daemon first"),
        Err(error) => fail(Exit::Storage, &error, ""),
    }
}

fn stat(store: &Store) -> Result<(), StoreError> {
    let stat = store.stat()?;
    let mut text = format!("epoch {}\napplied {}\n", store.epoch(), stat.applied);
    for kind in LogKind::ALL {
        let logs = store.reader().logs(kind)?;
        let bounds = logs.iter().filter_map(|(_, bounds)| *bounds);
        let records: u64 = bounds.map(|bounds| bounds.last + 1 - bounds.first).sum();
        text.push_str(&format!("{} {} logs {records} records\n", kind.tree(), logs.len()));
    }
    text.push_str(&format!("trees {} bytes\n", stat.trees_bytes));
    super::print(&text);
    Ok(())
}
