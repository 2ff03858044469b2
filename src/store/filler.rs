//! The thread behind the journal: moves what is durable there into the trees, so that the journal
//! and the memory it stands for stay small.
//!
//! One round: freeze the active generation; write it; flush the trees; note in them and in the
//! checkpoint file up to which commit they are complete; give the journal's old segments back. After the
//! last one room is made in the trees' file (`trees/tidy.rs`).
//!
//! A disk without room for a round is no failure as long as it is seen before the trees are touched:
//! rounds are put off, memory fills up, and the writer refuses with [`StoreError::NoSpace`] until
//! there is room. Any other failure is final: the store is marked failed and the writer stops at
//! its next flush.

use std::{sync::Arc, time::Duration};

use super::{
    Shared,
    checkpoint::Checkpoint,
    error::StoreError,
    guard::guarded,
    journal::{CommitNo, JournalError, Recycler},
    memory::Generation,
};
use crate::planted::{self, Bug};

/// Room a round must find on the disk: so many times the bytes it moves ...
const ROOM_FACTOR: u64 = 4;
/// ... and so much more.
const ROOM_BYTES: u64 = 8 << 20;

/// Room that tidying must find on the disk.
const TIDY_ROOM_BYTES: u64 = 64 << 20;
/// Below so many bytes the trees' file is not tidied: there is little to gain.
const TIDY_BYTES: u64 = 16 << 20;
/// Steps of tidying (64 pages each) that an orderly stop waits for.
const TIDY_STEPS: u32 = 256;

/// What the filler and the writer tell each other.
#[derive(Debug, Default)]
pub(super) struct FillState {
    wanted: bool,
    stop: bool,
    ended: bool,
    rounds: u64,
    /// The last round was put off because the disk is full.
    full: bool,
}

/// Called by the writer before anything is staged: refuses when memory is full and cannot be emptied
/// because the disk is full as well.
pub(super) fn before_commit(shared: &Shared) -> Result<(), StoreError> {
    if shared.fill.lock().full && shared.recent.read().active.bytes() >= shared.memory_bytes {
        ask(shared);
        return Err(StoreError::NoSpace);
    }
    Ok(())
}

/// Called by the writer after each group commit: starts a round when half of the memory is in use, and
/// waits for one when all of it is, what is being moved included.
pub(super) fn after_commit(
    shared: &Shared,
    active_bytes: usize,
    moving_bytes: usize,
) -> Result<(), StoreError> {
    if active_bytes < shared.memory_bytes / 2 {
        return Ok(());
    }
    let rounds = ask(shared);
    if active_bytes.saturating_add(moving_bytes) < shared.memory_bytes {
        return Ok(());
    }
    wait(shared, rounds)
}

/// Makes a round begin after this call, and waits for its end.
pub(super) fn settle(shared: &Shared) -> Result<(), StoreError> {
    // The round that runs now may have begun before; the one after it has not.
    for _ in 0..2 {
        let rounds = ask(shared);
        wait(shared, rounds)?;
    }
    if shared.fill.lock().full { Err(StoreError::NoSpace) } else { Ok(()) }
}

/// Asks for a round; returns how many there were.
fn ask(shared: &Shared) -> u64 {
    let rounds = {
        let mut fill = shared.fill.lock();
        fill.wanted = true;
        shared.fill_changed.notify_all();
        fill.rounds
    };
    #[cfg(feature = "simulation")]
    inline(shared);
    rounds
}

fn wait(shared: &Shared, rounds: u64) -> Result<(), StoreError> {
    let mut fill = shared.fill.lock();
    while fill.rounds == rounds && !fill.ended {
        shared.fill_changed.wait(&mut fill);
    }
    if shared.failed() || fill.ended { Err(StoreError::Poisoned) } else { Ok(()) }
}

/// Asks the filler to end after one more round (or at once when the store is abandoned).
pub(super) fn stop(shared: &Shared) {
    shared.fill.lock().stop = true;
    shared.fill_changed.notify_all();
    #[cfg(feature = "simulation")]
    inline(shared);
}

/// In a simulation rounds are run by whoever asks for one, so that all happens in one order.
#[cfg(feature = "simulation")]
fn inline(shared: &Shared) {
    let mut filler = shared.inline.lock();
    if let Some((recycler, reopened)) = &mut *filler
        && !shared.fill.lock().ended
        && !turn(shared, recycler, reopened)
    {
        shared.fill.lock().ended = true;
        *filler = None;
    }
}

/// `rested` tells that the journal has no segment of full size: then the first are made at once.
pub(super) fn run(shared: &Arc<Shared>, recycler: &Recycler, interval: Duration, rested: bool) {
    let mut reopened = true;
    if rested && let Err(error) = give_back(shared, recycler, CommitNo::ZERO, false) {
        tracing::error!(%error, "the journal cannot be written; stopping");
        shared.fail();
    }
    loop {
        {
            let mut fill = shared.fill.lock();
            if !fill.wanted && !fill.stop {
                shared.fill_changed.wait_for(&mut fill, interval);
            }
        }
        if !turn(shared, recycler, &mut reopened) {
            break;
        }
    }
    shared.fill.lock().ended = true;
    shared.fill_changed.notify_all();
}

/// One round and its outcome. False = it was the last one.
fn turn(shared: &Shared, recycler: &Recycler, reopened: &mut bool) -> bool {
    let stop = {
        let mut fill = shared.fill.lock();
        fill.wanted = false;
        fill.stop
    };
    if stop && shared.abandoned() {
        return false;
    }
    let outcome = guarded("a round of the filler", || round(shared, recycler, *reopened, stop));
    let full = matches!(outcome, Err(StoreError::NoSpace));
    match outcome {
        Ok(wrote) => *reopened = *reopened && !wrote,
        Err(StoreError::NoSpace) => {
            shared.hold.break_off();
            // It is in the trees; its memory is for what cannot go there now.
            shared.recent.write().frozen = Arc::default();
            if !shared.fill.lock().full {
                tracing::error!("the disk is full: recent data stays in the journal and in memory");
            }
        }
        Err(error) => {
            tracing::error!(%error, "the trees cannot be written; stopping");
            shared.fail();
        }
    }
    shared.recent.write().moving_bytes = 0;
    {
        let mut fill = shared.fill.lock();
        fill.rounds += 1;
        fill.full = full;
        shared.fill_changed.notify_all();
    }
    if stop && !*reopened && !shared.failed() {
        tidy(shared);
    }
    !stop && !shared.failed()
}

/// Makes room in the trees' file. Everything is durable already: what cannot be moved stays where it is.
fn tidy(shared: &Shared) {
    let mut steps = 0;
    let go_on = || {
        steps += 1;
        // What is moved may need new room before it makes some.
        steps <= TIDY_STEPS && shared.room().is_ok_and(|room| room >= TIDY_ROOM_BYTES)
    };
    let tidied = match shared.trees.disk_bytes() {
        Ok(bytes) if bytes >= TIDY_BYTES => shared.trees.tidy(go_on),
        Ok(_) => return,
        Err(error) => Err(error),
    };
    match tidied {
        Ok(_) => tracing::debug!(steps, "the trees' file is tidied"),
        Err(error) => tracing::warn!(%error, "the trees' file is not tidied"),
    }
}

/// Gives back the journal's segments up to `applied`, and keeps spares ready unless it is the last time.
fn give_back(
    shared: &Shared,
    recycler: &Recycler,
    applied: CommitNo,
    last: bool,
) -> Result<(), StoreError> {
    let applied = shared.hold.limit(applied);
    match if last { recycler.retire(applied) } else { recycler.recycle(applied) } {
        // A spare segment is a convenience; the writer makes its own or refuses.
        Ok(()) | Err(JournalError::NoSpace { .. }) => Ok(()),
        Err(error) => Err(StoreError::from(error)),
    }
}

fn round(
    shared: &Shared,
    recycler: &Recycler,
    reopened: bool,
    last: bool,
) -> Result<bool, StoreError> {
    let give_back = |applied| give_back(shared, recycler, applied, last);
    let bytes = shared.recent.read().active.bytes() as u64;
    if bytes == 0 {
        return if last { give_back(CommitNo::ZERO).map(|()| false) } else { Ok(false) };
    }
    let needed = bytes.saturating_mul(ROOM_FACTOR).saturating_add(ROOM_BYTES);
    if shared.room()? < needed {
        return Err(StoreError::NoSpace);
    }
    let (frozen, commit) = {
        let _still = shared.still.write();
        let mut recent = shared.recent.write();
        let active: Generation = std::mem::take(&mut recent.active);
        recent.moving_bytes = active.bytes();
        recent.frozen = Arc::new(active);
        (Arc::clone(&recent.frozen), recent.active_commit)
    };
    if planted::is(Bug::CheckpointEarly) {
        Checkpoint { epoch: shared.epoch, applied: commit.number() }.save(&shared.dir)?;
    }
    shared.trees.write(&frozen, reopened)?;
    shared.trees.flush()?;
    shared.trees.set_applied(commit.number())?;
    shared.trees.flush()?;
    Checkpoint { epoch: shared.epoch, applied: commit.number() }.save(&shared.dir)?;
    give_back(commit)?;
    tracing::debug!(commit = commit.number(), bytes = frozen.bytes(), "checkpoint");
    Ok(true)
}
