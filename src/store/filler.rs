//! The thread behind the journal: moves what is durable there into the trees, so that the journal
//! and the memory it stands for stay small.
//!
//! One round: freeze the active generation; write it; flush the trees; note in them and in the
//! checkpoint file up to which commit they are complete; give the journal's old segments back. A
//! failure is final: the store is marked failed and the writer stops at its next flush.

use std::{sync::Arc, time::Duration};

use super::{
    Shared, checkpoint::Checkpoint, error::StoreError, journal::Recycler, memory::Generation,
};

/// What the filler and the writer tell each other.
#[derive(Debug, Default)]
pub(super) struct FillState {
    wanted: bool,
    stop: bool,
    rounds: u64,
}

/// Called by the writer after each group commit: starts a round when memory is due, and waits for
/// one when memory is at twice its limit.
pub(super) fn after_commit(shared: &Shared, active_bytes: usize) -> Result<(), StoreError> {
    if active_bytes < shared.memory_bytes {
        return Ok(());
    }
    let mut fill = shared.fill.lock();
    if !fill.wanted {
        fill.wanted = true;
        shared.fill_changed.notify_all();
    }
    if active_bytes < shared.memory_bytes * 2 {
        return Ok(());
    }
    let rounds = fill.rounds;
    while fill.rounds == rounds && !shared.failed() {
        shared.fill_changed.wait(&mut fill);
    }
    if shared.failed() { Err(StoreError::Poisoned) } else { Ok(()) }
}

/// Asks the filler to end after one more round (or at once when `abandon`).
pub(super) fn stop(shared: &Shared) {
    shared.fill.lock().stop = true;
    shared.fill_changed.notify_all();
}

pub(super) fn run(shared: &Arc<Shared>, recycler: &Recycler, interval: Duration) {
    let mut reopened = true;
    loop {
        let stop = {
            let mut fill = shared.fill.lock();
            if !fill.wanted && !fill.stop {
                shared.fill_changed.wait_for(&mut fill, interval);
            }
            fill.wanted = false;
            fill.stop
        };
        if stop && shared.abandoned() {
            return;
        }
        match round(shared, recycler, reopened) {
            Ok(wrote) => reopened = reopened && !wrote,
            Err(error) => {
                tracing::error!(%error, "the trees cannot be written; stopping");
                shared.fail();
            }
        }
        shared.fill.lock().rounds += 1;
        shared.fill_changed.notify_all();
        if stop || shared.failed() {
            return;
        }
    }
}

fn round(shared: &Shared, recycler: &Recycler, reopened: bool) -> Result<bool, StoreError> {
    let (frozen, commit) = {
        let mut recent = shared.recent.write();
        if recent.active.is_empty() {
            return Ok(false);
        }
        let active: Generation = std::mem::take(&mut recent.active);
        recent.frozen = Arc::new(active);
        (Arc::clone(&recent.frozen), recent.active_commit)
    };
    shared.trees.write(&frozen, reopened)?;
    shared.trees.flush()?;
    shared.trees.set_applied(commit.number())?;
    shared.trees.flush()?;
    Checkpoint { epoch: shared.epoch, applied: commit.number() }.save(&shared.dir)?;
    recycler.recycle(commit)?;
    tracing::debug!(commit = commit.number(), bytes = frozen.bytes(), "checkpoint");
    Ok(true)
}
