//! A copy taken while the writer and the filler go on is the store at one commit: everything up to
//! it, nothing after it.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use bytes::Bytes;
use roamd::{
    id::Epoch,
    store::{
        Builder, Commit, Part, Position, Reader, Store, StoreConfig, StoreError,
        catalogue::{LogKey, Table},
    },
};

use crate::{
    killed::{commit, config, verify},
    place::{ALL, Place, history, inbox, quiet},
};

/// Builds what the reader shows into another directory; `pause` is called between the parts.
fn copy(
    reader: &Reader,
    to: &StoreConfig,
    mut pause: impl FnMut(),
) -> Result<Position, StoreError> {
    let mut builder = Builder::begin(to)?;
    let position = reader.copy(|part| {
        pause();
        match part {
            Part::Value { tree, key, value, sound } => {
                assert!(sound, "nothing is damaged here");
                builder.value(tree, key, value)
            }
            Part::Commit(_, operations) => builder.commit(operations),
        }
    })?;
    builder.finish(Epoch::new(77), position.commit)?;
    Ok(position)
}

#[test]
fn a_copy_under_load_is_the_store_at_its_position() {
    let place = Place::new();
    let (store, mut writer) = Store::open(&config(place.dir())).unwrap();
    let stop = AtomicBool::new(false);
    let durable = AtomicU64::new(0);
    thread::scope(|scope| {
        let (stop, durable) = (&stop, &durable);
        scope.spawn(move || {
            for number in (1..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                writer.stage(&commit(number)).unwrap();
                if number.is_multiple_of(3) {
                    writer.flush().unwrap();
                    durable.store(number, Ordering::SeqCst);
                }
            }
        });
        // However the checks end, the writer does.
        let _stop = Stop(stop);
        let (mut moved, mut behind) = (0, 0);
        for _ in 0..12 {
            let before = durable.load(Ordering::SeqCst);
            let target = Place::new();
            // The trees change while they are read: rounds go on between some of the parts.
            let mut parts = 0;
            let pause = || {
                parts += 1;
                let wanted = durable.load(Ordering::SeqCst) + 60;
                while [3, 50, 150].contains(&parts) && durable.load(Ordering::SeqCst) < wanted {
                    thread::park_timeout(Duration::from_millis(1));
                }
            };
            let position = copy(&store.reader(), &config(target.dir()), pause).unwrap();
            let after = durable.load(Ordering::SeqCst);
            assert_eq!(position.epoch, store.epoch());
            let last = position.commit * 3;
            assert!(before <= last && last <= after + 3, "{before} {last} {after}");
            moved += u64::from(after > before + 3);
            behind += u64::from(position.commit > position.applied);
            let (copied, writer) = Store::open(&config(target.dir())).unwrap();
            assert_eq!(copied.epoch(), Epoch::new(77));
            assert_eq!(writer.last_commit().number(), position.commit);
            verify(&copied, last);
            copied.close(writer).unwrap();
        }
        assert!(moved > 6 && behind > 6, "the writer stood still: {moved} {behind}");
    });
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn commits_of_many_segments_are_kept_until_the_copy_has_them() {
    let place = Place::new();
    let (store, mut writer) = Store::open(&config(place.dir())).unwrap();
    let mut write = |from: u64, to: u64| {
        for number in from..=to {
            writer.stage(&commit(number)).unwrap();
            writer.flush().unwrap();
        }
    };
    write(1, 50);
    let target = Place::new();
    let mut builder = Builder::begin(&config(target.dir())).unwrap();
    let mut grown = false;
    let position = store
        .reader()
        .copy(|part| match part {
            Part::Value { tree, key, value, .. } => {
                if !std::mem::replace(&mut grown, true) {
                    // Rollovers and rounds that would give the segments back.
                    write(51, 1500);
                    store.settle()?;
                    let refused = store.reader().copy(|_| Ok::<_, StoreError>(()));
                    assert!(matches!(refused, Err(StoreError::CopyUnderWay)), "{refused:?}");
                }
                builder.value(tree, key, value)
            }
            Part::Commit(_, operations) => builder.commit(operations),
        })
        .unwrap();
    assert!(grown, "the trees were empty");
    assert_eq!(position.commit, 1500);
    builder.finish(Epoch::new(5), position.commit).unwrap();
    let (copied, _writer) = Store::open(&config(target.dir())).unwrap();
    verify(&copied, 1500);
    let segments = || live_segments(place.dir());
    let held = segments();
    write(1501, 1502);
    store.settle().unwrap();
    assert!(segments() < held, "the segments are given back afterwards: {held}");
}

fn live_segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("journal")).unwrap();
    names
        .filter(|name| name.as_ref().unwrap().path().to_string_lossy().contains("/segment-"))
        .count()
}

#[test]
fn what_is_built_keeps_holes_and_damage_as_they_are() {
    let place = Place::new();
    let config = quiet(place.dir());
    let mut builder = Builder::begin(&config).unwrap();
    let large = Bytes::from(vec![7; 20_000]);
    let entries = [Some("a".into()), None, Some(large.clone()), None, None, Some("z".into())];
    let bounds = roamd::store::Bounds { first: 5, last: 11 };
    builder.log(&history("c"), Some(bounds)).unwrap();
    entries.iter().for_each(|entry| builder.entry(entry.clone()).unwrap());
    builder.log(&inbox("u"), None).unwrap();
    builder.row(Table::Counter, "whole".into(), Some("1".into())).unwrap();
    builder.row(Table::Counter, "hole".into(), None).unwrap();
    builder.finish(Epoch::new(9), 3).unwrap();
    assert!(matches!(Builder::begin(&config), Err(StoreError::NotEmpty(_))));

    let (store, mut writer) = Store::open(&config).unwrap();
    let reader = store.reader();
    assert_eq!(reader.bounds(&history("c")).unwrap(), bounds);
    let read = |log: &LogKey| -> Vec<_> {
        reader.read(log, 1, ALL).unwrap().into_iter().map(|entry| entry.record).collect()
    };
    let all: Vec<_> = entries.iter().cloned().chain([None]).collect();
    assert_eq!(read(&history("c")), all);
    assert!(matches!(reader.bounds(&inbox("u")), Err(StoreError::Damaged(_))));
    assert_eq!(reader.row(Table::Counter, b"whole").unwrap(), Some("1".into()));
    assert!(matches!(reader.row(Table::Counter, b"hole"), Err(StoreError::Damaged(_))));
    // It goes on where the other one was.
    let mut next = Commit::new();
    next.append(history("c"), "new".into());
    writer.stage(&next).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.last_commit().number(), 4);
    assert_eq!(reader.bounds(&history("c")).unwrap().last, 12);
}
