//! A disk that fails, dies and forgets, for unit tests and for the simulation of the whole store.
//!
//! While a simulation is on (per thread), every change is counted. At a chosen step the call fails
//! with an error number, or the process "dies": this call does nothing, or writes a part, and every
//! later one fails. Syncs are not made for real; instead the old content of what was not synced is
//! kept, and [`power_cut`] brings a random part of it back, sector by sector, and a random number
//! of the last changes of names. A sync that fails leaves its writes lost for good, as a kernel
//! does that calls the pages clean: only writing the same range again helps.
//!
//! The trees write through an engine of their own. Each of its batches and flushes is a step, too;
//! after a flush a copy of its files is kept, and a power cut brings that copy back, or leaves the
//! files as they are, or mixes the two at the end of the log. What the engine has flushed by itself
//! since is forgotten with it: older than a disk would be, never newer.
//!
//! While a simulation is on, a store that is opened on its thread does everything on that thread.

use std::{
    cell::RefCell,
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

const SECTOR: usize = 512;
/// Where the copy of the trees is kept.
const IMAGE: &str = "trees";
/// The engine writes its log in pieces of at least this size.
const PAGE: usize = 4096;

/// What happens at the chosen step.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The call fails with this error number and has no effect.
    Errno(i32),
    /// The process ends before the call; of a write this many thousandths are made.
    Kill(usize),
}

struct Write {
    inode: u64,
    file: File,
    offset: u64,
    /// What stood there; shorter than the write where the file ended.
    old: Vec<u8>,
    new: usize,
}

enum Renaming {
    Created(PathBuf),
    /// From, to, and what had that name before.
    Renamed(PathBuf, PathBuf, Option<PathBuf>),
    Removed(PathBuf, PathBuf),
}

#[derive(Default)]
struct Sim {
    steps: u64,
    fault: Option<(u64, Fault)>,
    fired: bool,
    dead: bool,
    unsynced: Vec<Write>,
    lost: Vec<Write>,
    names: Vec<Renaming>,
    /// Removed files are kept here, under numbers.
    kept: PathBuf,
    removed: u64,
    /// Nothing can grow.
    full: bool,
    /// The directory of the trees that were flushed; their copy is in `kept`.
    trees: Option<PathBuf>,
}

thread_local! {
    static SIM: RefCell<Option<Sim>> = const { RefCell::new(None) };
}

/// Begins a simulation on this thread; removed files are kept in `kept`.
pub fn start(kept: &Path) {
    let sim = Sim { kept: kept.to_owned(), ..Sim::default() };
    SIM.with_borrow_mut(|slot| *slot = Some(sim));
}

/// Ends it; the disk stays as the process saw it.
pub fn stop() {
    SIM.with_borrow_mut(|slot| *slot = None);
}

/// Whether a simulation is on here.
pub fn is_on() -> bool {
    with(|_| ()).is_some()
}

/// Whether the process has died in a step.
pub fn is_dead() -> bool {
    with(|sim| sim.dead).unwrap_or(false)
}

/// How many steps there were.
pub fn steps() -> u64 {
    with(|sim| sim.steps).unwrap_or(0)
}

/// From now on there is no room for anything new, or there is again.
pub fn set_full(full: bool) {
    with(|sim| sim.full = full);
}

/// What room there is said to be; none = what there really is.
pub(in crate::store) fn room() -> Option<u64> {
    with(|sim| sim.full.then_some(0)).flatten()
}

/// Before a batch or a flush of the trees.
pub(in crate::store) fn trees_step() -> io::Result<()> {
    with(Sim::names_step).unwrap_or(Ok(()))
}

/// The trees are durable as they are now.
pub(in crate::store) fn trees_flushed(dir: &Path) -> io::Result<()> {
    with(|sim| {
        sim.trees = Some(dir.to_owned());
        copy_dir(dir, &sim.kept.join(IMAGE))
    })
    .unwrap_or(Ok(()))
}

/// Lets the step after `steps` more fail.
pub fn fail_after(steps: u64, fault: Fault) {
    with(|sim| sim.fault = Some((sim.steps + steps, fault)));
}

/// No step is chosen any more.
pub fn disarm() {
    with(|sim| sim.fault = None);
}

/// Whether a step that fails lies ahead.
pub fn armed() -> bool {
    with(|sim| sim.fault.is_some()).unwrap_or(false)
}

/// Whether the chosen step was reached since the last restart.
pub fn fired() -> bool {
    with(|sim| sim.fired).unwrap_or(false)
}

/// The process is started again; what it did not sync is still in the kernel's memory.
pub fn restart() {
    with(|sim| {
        sim.dead = false;
        sim.fired = false;
        sim.fault = None;
    });
}

/// The power goes: a random part of what was not synced is gone.
pub fn power_cut(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    with(|sim| {
        for write in sim.unsynced.drain(..).rev() {
            let all = rng.random_range(0..4_u8);
            write.undo(|| match all {
                0 => true,
                1 => false,
                _ => rng.random(),
            });
        }
        for write in sim.lost.drain(..).rev() {
            write.undo(|| true);
        }
        let keep = rng.random_range(0..=sim.names.len());
        for name in sim.names.drain(keep..).rev() {
            match name {
                Renaming::Created(path) => fs::remove_file(path).expect("undo create"),
                Renaming::Renamed(from, to, before) => {
                    fs::rename(&to, from).expect("undo rename");
                    if let Some(before) = before {
                        fs::rename(before, to).expect("undo replacement");
                    }
                }
                Renaming::Removed(path, kept) => fs::rename(kept, path).expect("undo remove"),
            }
        }
        sim.names.clear();
        if let Some(dir) = &sim.trees {
            restore_trees(&sim.kept.join(IMAGE), dir, &mut rng).expect("restore the trees");
        }
    });
    restart();
}

/// What is left of the trees after a power cut.
fn restore_trees(image: &Path, dir: &Path, rng: &mut StdRng) -> io::Result<()> {
    let log = dir.join("db");
    let live = fs::read(&log)?;
    match rng.random_range(0..4_u8) {
        0 => return Ok(()),
        1..=2 => copy_dir(image, dir)?,
        _ => {
            copy_dir(image, dir)?;
            let durable = fs::read(&log)?;
            fs::write(&log, torn(durable, &live, rng))?;
        }
    }
    Ok(())
}

/// The log with the first of its newer pages, where these come after all that is durable.
fn torn(mut durable: Vec<u8>, live: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
    let used = durable.chunks(PAGE).rev().skip_while(zero).count();
    let differs = |page: &usize| {
        let at = page * PAGE;
        durable.get(at..).map(|rest| &rest[..rest.len().min(PAGE)])
            != live.get(at..).map(|rest| &rest[..rest.len().min(PAGE)])
    };
    let changed: Vec<usize> = (0..live.len().div_ceil(PAGE)).filter(differs).collect();
    let appended = changed.iter().all(|page| page + 1 >= used);
    if !appended || changed.is_empty() {
        return durable;
    }
    durable.resize(durable.len().max(live.len()), 0);
    for page in &changed[..rng.random_range(0..=changed.len())] {
        let end = live.len().min((page + 1) * PAGE);
        durable[page * PAGE..end].copy_from_slice(&live[page * PAGE..end]);
    }
    durable
}

/// Makes `to` a copy of `from`.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(to)? {
        let file = file?;
        if !from.join(file.file_name()).exists() {
            match file.file_type()?.is_dir() {
                true => fs::remove_dir_all(file.path())?,
                false => fs::remove_file(file.path())?,
            }
        }
    }
    for file in fs::read_dir(from)? {
        let file = file?;
        let target = to.join(file.file_name());
        if file.file_type()?.is_dir() {
            copy_dir(&file.path(), &target)?;
        } else {
            fs::copy(file.path(), target)?;
        }
    }
    Ok(())
}

impl Write {
    fn undo(&self, mut gone: impl FnMut() -> bool) {
        for at in (0..self.new).step_by(SECTOR) {
            let end = (at + SECTOR).min(self.new);
            if gone() {
                let mut sector = self.old.get(at..end.min(self.old.len())).unwrap_or(&[]).to_vec();
                sector.resize(end - at, 0);
                self.file.write_all_at(&sector, self.offset + at as u64).expect("undo write");
            }
        }
        if self.old.len() < self.new && gone() {
            self.file.set_len(self.offset + self.old.len() as u64).expect("undo growth");
        }
    }

    /// The part of this write that lies in the range, with what stood there before it.
    fn part(&self, range: Range<u64>) -> Option<Self> {
        let from = range.start.clamp(self.offset, self.offset + self.new as u64) - self.offset;
        let to = range.end.clamp(self.offset, self.offset + self.new as u64) - self.offset;
        if from >= to {
            return None;
        }
        let known = self.old.len();
        Some(Self {
            inode: self.inode,
            file: self.file.try_clone().expect("duplicate"),
            offset: self.offset + from,
            old: self.old[known.min(from as usize)..known.min(to as usize)].to_vec(),
            new: (to - from) as usize,
        })
    }
}

fn with<R>(run: impl FnOnce(&mut Sim) -> R) -> Option<R> {
    SIM.with_borrow_mut(|slot| slot.as_mut().map(run))
}

fn killed() -> io::Error {
    io::Error::other("the simulated process is dead")
}

impl Sim {
    fn step(&mut self) -> Result<(), Fault> {
        if self.dead {
            return Err(Fault::Kill(0));
        }
        self.steps += 1;
        match self.fault {
            Some((at, fault)) if self.steps > at => {
                self.fault = None;
                self.fired = true;
                self.dead = matches!(fault, Fault::Kill(_));
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn names_step(&mut self) -> io::Result<()> {
        self.step().map_err(|fault| match fault {
            Fault::Errno(number) => io::Error::from_raw_os_error(number),
            Fault::Kill(_) => killed(),
        })
    }

    /// Another name for a file that is about to lose its own.
    fn keep(&mut self, path: &Path) -> io::Result<PathBuf> {
        let kept = self.kept.join(self.removed.to_string());
        self.removed += 1;
        fs::hard_link(path, &kept)?;
        Ok(kept)
    }

    fn remember(&mut self, file: &File, bytes: usize, offset: u64) -> io::Result<()> {
        let metadata = file.metadata()?;
        let there = metadata.len().saturating_sub(offset).min(bytes as u64);
        let mut old = vec![0; there as usize];
        file.read_exact_at(&mut old, offset)?;
        let inode = metadata.ino();
        let write = Write { inode, file: file.try_clone()?, offset, old, new: bytes };
        // What is written again may reach the disk after all; the rest of it stays lost.
        let end = offset + bytes as u64;
        for lost in std::mem::take(&mut self.lost) {
            if lost.inode != inode {
                self.lost.push(lost);
                continue;
            }
            self.unsynced.extend(lost.part(offset..end));
            self.lost.extend(lost.part(0..offset));
            self.lost.extend(lost.part(end..u64::MAX));
        }
        self.unsynced.push(write);
        Ok(())
    }
}

pub(in crate::store) fn write(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    with(|sim| match sim.step() {
        Ok(()) if sim.full && file.metadata()?.len() < offset + bytes.len() as u64 => {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
        Ok(()) => sim.remember(file, bytes.len(), offset),
        Err(Fault::Errno(number)) => Err(io::Error::from_raw_os_error(number)),
        Err(Fault::Kill(thousandths)) => {
            let part = bytes.len() * thousandths / 1000;
            if part > 0 {
                sim.remember(file, part, offset)?;
                file.write_all_at(&bytes[..part], offset)?;
            }
            Err(killed())
        }
    })
    .unwrap_or(Ok(()))
}

/// Whether the sync was simulated.
pub(in crate::store) fn sync(file: &File) -> io::Result<bool> {
    with(|sim| {
        let inode = file.metadata()?.ino();
        let outcome = sim.names_step();
        if outcome.is_ok() || !sim.dead {
            let (synced, rest) =
                sim.unsynced.drain(..).partition(|write: &Write| write.inode == inode);
            sim.unsynced = rest;
            if outcome.is_err() {
                sim.lost.extend::<Vec<Write>>(synced);
            }
        }
        outcome.map(|()| true)
    })
    .unwrap_or(Ok(false))
}

/// Whether the sync was simulated.
pub(in crate::store) fn sync_dir(dir: &File) -> io::Result<bool> {
    with(|sim| {
        sim.names_step()?;
        let inode = dir.metadata()?.ino();
        sim.names.retain(|name| {
            let (Renaming::Created(path)
            | Renaming::Renamed(path, ..)
            | Renaming::Removed(path, _)) = name;
            let parent = path.parent().and_then(|parent| parent.metadata().ok());
            parent.is_none_or(|parent| parent.ino() != inode)
        });
        Ok(true)
    })
    .unwrap_or(Ok(false))
}

pub(in crate::store) fn create(path: &Path) -> io::Result<()> {
    with(|sim| {
        sim.names_step()?;
        if sim.full {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        sim.names.push(Renaming::Created(path.to_owned()));
        Ok(())
    })
    .unwrap_or(Ok(()))
}

pub(in crate::store) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with(|sim| {
        sim.names_step()?;
        let before = match to.exists() {
            true => Some(sim.keep(to)?),
            false => None,
        };
        sim.names.push(Renaming::Renamed(from.to_owned(), to.to_owned(), before));
        Ok(())
    })
    .unwrap_or(Ok(()))
}

pub(in crate::store) fn remove(path: &Path) -> io::Result<()> {
    with(|sim| {
        sim.names_step()?;
        let kept = sim.keep(path)?;
        sim.names.push(Renaming::Removed(path.to_owned(), kept));
        Ok(())
    })
    .unwrap_or(Ok(()))
}
