//! `roamd store backup | restore | export | import | compact`: a data directory in other forms.

use std::{
    fs::{DirBuilder, File},
    io::{self, BufReader, BufWriter, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use indicatif::ProgressBar;

use super::{fail, print, serve::store_config, store};
use crate::{
    archive::{self, ArchiveError, Backup, BackupWriter, Counted, Taken},
    cli::exit::Exit,
    config::Config,
    daemon::ask_for_backup,
    store::{Site, Store, StoreConfig, StoreError},
};

/// Progress is shown once in so many steps.
const PROGRESS_STEPS: u64 = 1024;

/// How often a daemon that is being started or stopped is asked again, beside the patience of an open ...
const START_TRIES: u32 = 50;
/// ... and how long after.
const START_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Subcommand)]
pub(super) enum ArchiveCommand {
    /// Copy everything as of one commit into a new directory, while the daemon serves or when it is
    /// stopped. Prints the commit. Exit 9 when something in the copy is damaged, as it was.
    Backup {
        /// Where; made, and must not have anything in it.
        to: PathBuf,
        /// Leave out the keys that sign tokens.
        #[arg(long)]
        without_keys: bool,
    },
    /// Make the data directory from a backup. It has a new epoch: devices start over by themselves.
    Restore {
        /// The backup.
        from: PathBuf,
    },
    /// Write everything as lines of JSON (docs/export.md). Exit 9 when there are damaged records:
    /// they are written as holes.
    Export {
        /// Where to [default: standard output].
        to: Option<PathBuf>,
    },
    /// Make the data directory from an export. It has a new epoch.
    Import {
        /// Where from [default: standard input].
        from: Option<PathBuf>,
    },
    /// Write the data directory anew, without the contents of recalled and deleted messages, and give
    /// space back. Does nothing when something is damaged.
    Compact,
}

pub(super) fn run(config: &Config, command: &ArchiveCommand) -> Exit {
    let outcome = match command {
        ArchiveCommand::Backup { to, without_keys } => backup(config, to, !without_keys),
        ArchiveCommand::Restore { from } => restore(config, from),
        ArchiveCommand::Export { to } => export(config, to.as_deref()),
        ArchiveCommand::Import { from } => import(config, from.as_deref()),
        ArchiveCommand::Compact => compact(config),
    };
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &ArchiveError) -> Exit {
    let (exit, hint) = match error {
        ArchiveError::Store(StoreError::InUse(_)) => (Exit::Failed, "stop the daemon first"),
        ArchiveError::Store(StoreError::NotEmpty(_)) => {
            (Exit::Failed, "name a new directory; nothing is ever written over data")
        }
        ArchiveError::Store(StoreError::CopyUnderWay) => (Exit::Failed, "wait until it is done"),
        ArchiveError::Holes(_) => {
            (Exit::Storage, "`roamd store verify` says what; `roamd store repair` puts it in order")
        }
        ArchiveError::Store(_) | ArchiveError::Damaged(_) => (Exit::Storage, ""),
        _ => (Exit::Failed, ""),
    };
    fail(exit, error, hint)
}

/// The store's settings for what must neither lose nor change anything: whatever the configuration
/// says, nothing is trimmed.
fn whole(config: &Config) -> StoreConfig {
    StoreConfig { inbox_entries: u64::MAX, ..store_config(config) }
}

fn open(config: &Config) -> Result<(Store, crate::store::Writer), ArchiveError> {
    let dir = &config.data.dir;
    if !dir.join("ROAMD").exists() {
        let source = io::Error::new(io::ErrorKind::NotFound, "this is no data directory");
        return Err(ArchiveError::Io { what: "opening", path: dir.clone(), source });
    }
    Ok(Store::open(&whole(config))?)
}

/// Shows how far it is, on stderr if that is a terminal.
struct Progress {
    bar: ProgressBar,
    step: u64,
}

impl Progress {
    fn new() -> Self {
        Self { bar: ProgressBar::no_length(), step: 0 }
    }

    fn bytes(&mut self, bytes: u64) {
        self.bar.set_message(format!("{} MiB", bytes >> 20));
        self.bar.tick();
    }

    fn counted(&mut self, counted: &Counted) {
        self.step += 1;
        if self.step.is_multiple_of(PROGRESS_STEPS) {
            let Counted { logs, entries, rows, .. } = counted;
            self.bar.set_message(format!("{logs} logs, {entries} entries, {rows} rows"));
            self.bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn backup(config: &Config, to: &Path, with_keys: bool) -> Result<Exit, ArchiveError> {
    let data = &config.data.dir;
    let mut writer = BackupWriter::begin(to)?;
    let taken = take(config, &mut writer).and_then(|taken| {
        if with_keys {
            writer.keys(data)?;
        }
        Ok(taken)
    });
    let bytes = writer.bytes();
    match taken {
        Ok(taken) => {
            writer.finish(&taken)?;
            let commit = taken.position.commit;
            let epoch = taken.position.epoch;
            print(&format!("backup of commit {commit}, epoch {epoch}, {bytes} bytes\n"));
            if taken.damaged == 0 {
                return Ok(Exit::Ok);
            }
            eprintln!("roamd: {} values were damaged and are so in the backup", taken.damaged);
            eprintln!("  hint: keep older backups; `roamd store verify` says what is damaged");
            Ok(Exit::Storage)
        }
        Err(error) => {
            writer.abandon();
            Err(error)
        }
    }
}

/// Asks the daemon; without one the directory itself is opened.
fn take(config: &Config, writer: &mut BackupWriter) -> Result<Taken, ArchiveError> {
    let data = &config.data.dir;
    let mut progress = Progress::new();
    let mut tries = 0;
    let (store, owner) = loop {
        match ask_for_backup(data) {
            Ok(mut stream) => {
                return archive::receive(&mut stream, writer, &mut |bytes| progress.bytes(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(file_error("asking the daemon of", data, error));
            }
            Err(_) => {}
        }
        match open(config) {
            // It has taken the directory and does not listen yet, or not any more.
            Err(ArchiveError::Store(StoreError::InUse(_))) if tries < START_TRIES => {
                tries += 1;
                std::thread::sleep(START_PAUSE);
            }
            opened => break opened?,
        }
    };
    let taken = archive::copy(&store.reader(), &mut |block| {
        writer.add(block)?;
        progress.bytes(writer.bytes());
        Ok(())
    });
    store.close(owner)?;
    taken
}

fn restore(config: &Config, from: &Path) -> Result<Exit, ArchiveError> {
    let backup = Backup::open(from)?;
    let position = backup.taken().position;
    let epoch = make(config, |to| {
        let mut progress = Progress::new();
        backup.build(to, &mut |bytes| progress.bytes(bytes))?;
        backup.keys(&config.data.dir)
    })?;
    let (commit, old) = (position.commit, position.epoch);
    print(&format!("restored commit {commit} of epoch {old}; the epoch is {epoch} now\n"));
    Ok(Exit::Ok)
}

/// Makes the data in a directory that has none, or leaves it without.
fn make(
    config: &Config,
    build: impl FnOnce(&StoreConfig) -> Result<(), ArchiveError>,
) -> Result<crate::id::Epoch, ArchiveError> {
    let site = Site::take(&config.data.dir)?;
    let to = StoreConfig { dir: site.place_of_copy(), ..whole(config) };
    match build(&to) {
        Ok(()) => site.fill()?,
        Err(error) => {
            // The next open removes what cannot be removed now.
            let _ = site.leave();
            return Err(error);
        }
    }
    Ok(to.new_epoch)
}

fn export(config: &Config, to: Option<&Path>) -> Result<Exit, ArchiveError> {
    let (store, owner) = open(config)?;
    let mut progress = Progress::new();
    let mut tell = |counted: &Counted| progress.counted(counted);
    let counted = match to {
        None => archive::export(
            &store.reader(),
            &mut BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            &mut tell,
        )?,
        Some(path) => {
            let made = File::options().write(true).create_new(true).open(path);
            let file = made.map_err(|error| file_error("making", path, error))?;
            let mut out = BufWriter::with_capacity(1 << 16, &file);
            let counted = archive::export(&store.reader(), &mut out, &mut tell)?;
            file.sync_all().map_err(|error| file_error("syncing", path, error))?;
            counted
        }
    };
    drop(progress);
    store.close(owner)?;
    let Counted { logs, entries, rows, holes } = counted;
    eprintln!("{logs} logs, {entries} entries, {rows} rows, {holes} damaged");
    Ok(if holes == 0 { Exit::Ok } else { Exit::Storage })
}

fn import(config: &Config, from: Option<&Path>) -> Result<Exit, ArchiveError> {
    let input: Box<dyn Read> = match from {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            Box::new(File::open(path).map_err(|error| file_error("opening", path, error))?)
        }
    };
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut counted = Counted::default();
    let epoch = make(config, |to| {
        let mut progress = Progress::new();
        counted = archive::import(&mut input, to, &mut |counted| progress.counted(counted))?;
        Ok(())
    })?;
    let Counted { logs, entries, rows, holes } = counted;
    print(&format!("imported {logs} logs, {entries} entries, {rows} rows; the epoch is {epoch}\n"));
    if holes == 0 {
        return Ok(Exit::Ok);
    }
    eprintln!("roamd: {holes} records were damaged when they were exported, and still are");
    Ok(Exit::Storage)
}

fn compact(config: &Config) -> Result<Exit, ArchiveError> {
    let (store, owner) = open(config)?;
    store.settle()?;
    let before = store.stat()?.trees_bytes;
    let mut progress = Progress::new();
    let outcome =
        archive::compact(&store, &owner, &whole(config), &mut |all| progress.counted(all));
    drop(progress);
    store.close(owner)?;
    let Counted { logs, entries, rows, .. } = outcome?;
    // The next open puts the copy in its place, whoever does it.
    let (store, owner) = open(config)?;
    let after = store.stat()?.trees_bytes;
    store.close(owner)?;
    print(&format!(
        "compacted {logs} logs, {entries} entries, {rows} rows: {before} bytes on disk before, {after} now\n"
    ));
    Ok(Exit::Ok)
}

/// Restores a backup for a moment and verifies what comes of it.
pub(super) fn verify(config: &Config, from: &Path, scratch: Option<&Path>) -> Exit {
    verify_backup(config, from, scratch).unwrap_or_else(|error| failed(&error))
}

fn verify_backup(
    config: &Config,
    from: &Path,
    scratch: Option<&Path>,
) -> Result<Exit, ArchiveError> {
    let backup = Backup::open(from)?;
    let scratch = scratch.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let scratch = scratch.join(format!("roamd-verify-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&scratch);
    made.map_err(|error| file_error("making", &scratch, error))?;
    let scratch = Scratch(scratch);
    let to = StoreConfig { dir: scratch.0.clone(), ..whole(config) };
    let mut progress = Progress::new();
    backup.build(&to, &mut |bytes| progress.bytes(bytes))?;
    drop(progress);
    let (store, owner) = Store::open(&to)?;
    let exit = store::verify(&store);
    store.close(owner)?;
    Ok(exit)
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io { what, path: path.to_path_buf(), source }
}
