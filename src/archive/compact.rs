//! Writing a store anew: what is gone leaves the bytes, and space comes back.

use super::{
    ArchiveError, Counted,
    walk::{Item, walk},
};
use crate::store::{Builder, Store, StoreConfig, StoreError, Writer};

/// Writes everything into a copy beside it and makes the copy the data, as of the next open. The epoch
/// and the commit numbers stay: nothing is lost. Nobody else uses the store, and nobody must use it
/// afterwards. `progress` is told how much is done.
///
/// # Errors
/// [`ArchiveError::Holes`] when anything is damaged: repair might still get at it. Everything is as
/// it was then, and after any other error too.
pub fn compact(
    store: &Store,
    writer: &Writer,
    config: &StoreConfig,
    progress: &mut dyn FnMut(&Counted),
) -> Result<Counted, ArchiveError> {
    store.discard_copy()?;
    let outcome = copy(store, writer, config, progress);
    if outcome.is_err() {
        // What cannot be removed now is removed by the next open.
        let _ = store.discard_copy();
    }
    outcome
}

fn copy(
    store: &Store,
    writer: &Writer,
    config: &StoreConfig,
    progress: &mut dyn FnMut(&Counted),
) -> Result<Counted, ArchiveError> {
    let mut counted = Counted::default();
    let mut builder =
        Builder::begin(&StoreConfig { dir: store.place_of_copy(), ..config.clone() })?;
    walk(&store.reader(), |item| {
        counted.add(&item);
        progress(&counted);
        put(&mut builder, item).map_err(ArchiveError::from)
    })?;
    let mut damaged = 0;
    store.check(|_, _| damaged += 1)?;
    if counted.holes + damaged > 0 {
        return Err(ArchiveError::Holes(counted.holes.max(damaged)));
    }
    builder.finish(store.epoch(), writer.last_commit().number())?;
    store.replace_by_copy()?;
    Ok(counted)
}

/// Writes an item into a directory that is being made.
pub(super) fn put(builder: &mut Builder, item: Item) -> Result<(), StoreError> {
    match item {
        Item::Log(log, bounds) => builder.log(&log, bounds),
        Item::Entry(_, record) => builder.entry(record),
        Item::Row(table, key, row) => builder.row(table, key, row),
    }
}
