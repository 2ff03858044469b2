//! `roamd store repair`: makes a sound data set of what can still be read, and says what is lost.

use std::fmt::Write;

use super::{fail, print, serve::store_config, store::verdict};
use crate::{
    cli::exit::Exit,
    clock::Clock,
    config::Config,
    id::Epoch,
    inspect,
    repair::{self, Report, Told, What},
    store::{Builder, Salvage, Store, StoreConfig, StoreError},
};

/// Told one by one; what is beyond is only counted.
const TOLD_MAX: usize = 10_000;

pub(super) fn run(config: &Config, dry_run: bool) -> Exit {
    match attempt(config, dry_run) {
        Ok(exit) => exit,
        Err(error @ StoreError::InUse(_)) => fail(Exit::Failed, &error, "stop the daemon first"),
        Err(error @ StoreError::NoSpace) => {
            fail(Exit::Failed, &error, "a repair needs room for two copies of trees/ beside it")
        }
        Err(error) => fail(Exit::Storage, &error, "nothing was changed"),
    }
}

fn attempt(config: &Config, dry_run: bool) -> Result<Exit, StoreError> {
    let store = store_config(config);
    let (salvage, mut report, epoch) = make(config, &store)?;
    if report.is_clean() {
        salvage.discard()?;
        // Only now is it harmless to open it: the trees have opened as a copy, and had everything.
        let Some(refusal) = refusal(&store) else {
            print("sound: there is nothing to repair, and nothing was changed\n");
            return Ok(Exit::Ok);
        };
        let (salvage, _, epoch) = make(config, &store)?;
        report.told.push(Told { lost: false, what: What::Trees, detail: refusal });
        return end(salvage, &store, &report, epoch, dry_run);
    }
    end(salvage, &store, &report, epoch, dry_run)
}

/// Why a directory is not sound as it is; none = it is.
fn refusal(config: &StoreConfig) -> Option<String> {
    match Store::open(config) {
        Ok((store, writer)) => {
            let report = inspect::verify(&store, &mut |_| ());
            let closed = store.close(writer);
            match report.findings.first() {
                Some(finding) => Some(finding.to_string()),
                None => closed.err().map(|error| error.to_string()),
            }
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Makes the new data set beside the old one.
fn make(config: &Config, store: &StoreConfig) -> Result<(Salvage, Report, Epoch), StoreError> {
    let bar = indicatif::ProgressBar::no_length();
    let mut salvage = Salvage::begin(store)?;
    let builder = Builder::begin(&salvage.place_of_repaired()?)?;
    let epoch = loop {
        let epoch = Epoch::new(rand::random());
        if epoch != Epoch::new(0) && Some(epoch) != salvage.epoch() {
            break epoch;
        }
    };
    let now = Clock::start().now().wall;
    let fanout_members = config.limits.fanout_members;
    let report =
        repair::repair(&mut salvage, builder, epoch, now, fanout_members, &mut |report| {
            let Report { conversations, messages, .. } = report;
            bar.set_message(format!("{conversations} conversations, {messages} messages"));
            bar.tick();
        })?;
    bar.finish_and_clear();
    Ok((salvage, report, epoch))
}

/// Verifies what was made, tells what was wrong, and puts the one in the place of the other.
fn end(
    salvage: Salvage,
    config: &StoreConfig,
    report: &Report,
    epoch: Epoch,
    dry_run: bool,
) -> Result<Exit, StoreError> {
    let (made, writer) = Store::open(&salvage.place_of_repaired_as_made())?;
    let verified = inspect::verify(&made, &mut |_| ());
    made.close(writer)?;
    print(&told(report));
    if !verified.is_sound() {
        print(&verdict(&verified));
        eprintln!("roamd: what was made of it is not sound, so nothing was changed");
        eprintln!("  hint: restore a backup (`roamd store restore`)");
        salvage.discard()?;
        return Ok(Exit::Storage);
    }
    let mut text = String::new();
    if dry_run {
        salvage.discard()?;
        text.push_str("dry run: nothing was changed\n");
    } else {
        let kept = salvage.replace()?;
        let _ = writeln!(text, "repaired: {}, epoch {epoch}", config.dir.display());
        let _ = writeln!(text, "clients start over and end in what is here");
        let _ = writeln!(text, "what was damaged is kept in {}", kept.display());
    }
    print(&text);
    Ok(if report.has_lost() { Exit::Violated } else { Exit::Ok })
}

fn told(report: &Report) -> String {
    let mut text = String::new();
    for told in report.told.iter().take(TOLD_MAX) {
        let _ = writeln!(text, "{told}");
    }
    if let Some(more) = report.told.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more");
    }
    let lost = report.told.iter().filter(|told| told.lost).count();
    let _ = writeln!(
        text,
        "{lost} lost, {} rebuilt; {} conversations and {} messages are there",
        report.told.len() - lost,
        report.conversations,
        report.messages
    );
    text
}
