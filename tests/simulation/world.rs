//! The whole: a clock, a network, a server that can die, and devices. One thing happens after the
//! other, in the order of a clock that stands still in between.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use roamd::{
    auth::{Key, KeyRing, Scope, Scopes},
    client::simulated::{SimulatedClient, Time},
    engine::{Engine, Now},
    id::{DeviceId, Epoch, UserId},
    session::SessionContext,
    store::{Store, StoreConfig, simulated_disk as disk},
    time::Timestamp,
    wire::proto,
};

use crate::{
    acts::Death,
    device::Device,
    dice::Dice,
    driver::{Found, WALL_MS},
    model::Model,
    network::{Arrival, End, Link},
    plan::{self, Plan},
    server::Process,
};

const SECRET: &[u8] = b"a secret for tests only, 32 bytes and more";
/// Lines shown when a run fails.
const SHOWN: usize = 40;
/// So often time goes on by a step although something was due before it.
const STUCK_MAX: u32 = 60_000;
pub struct World {
    pub now: Now,
    began: Instant,
    /// Luck of the current step.
    pub dice: Dice,
    pub plan: Plan,
    pub model: Model,
    /// The model at the last flush.
    pub durable: Model,
    /// The model whose flush was tried and did not return.
    pub attempted: Option<Model>,
    pub context: Arc<SessionContext>,
    pub process: Option<Process>,
    /// The process ends now.
    pub dying: bool,
    /// When it is started again.
    pub up_at: Option<Instant>,
    commit: u64,
    pub links: Vec<Link>,
    next_link: u64,
    pub devices: Vec<Device>,
    config: StoreConfig,
    /// How the first wall clock after the next start differs.
    pub(super) clock_set: i64,
    pub(super) full_until: Option<Instant>,
    /// The disk was full at some time.
    pub was_full: bool,
    pub stirred: u64,
    pub step: usize,
    pub tally: BTreeMap<String, u64>,
    shown: VecDeque<String>,
    talk: bool,
    _dirs: [tempfile::TempDir; 2],
}

/// In memory where the machine has such a place: the simulated disk needs no real one.
fn directory() -> Result<tempfile::TempDir, Found> {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).map_err(|e| e.to_string())
}

impl World {
    pub fn new(seed: u64, talk: bool) -> Result<Self, Found> {
        let mut dice = Dice::new(seed);
        let limits = plan::limits(&mut dice);
        let dirs = [directory()?, directory()?];
        disk::start(dirs[1].path());
        let epoch = Epoch::new(seed + 7);
        let config = StoreConfig {
            memory_bytes: *dice.pick(&[1 << 10, 16 << 10, 64 << 20]),
            segment_bytes: *dice.pick(&[16 << 10, 64 << 10]),
            cache_bytes: 16 << 20,
            inbox_entries: limits.inbox_entries,
            new_epoch: epoch,
            ..StoreConfig::new(dirs[0].path())
        };
        let key = Key::hs256(SECRET).map_err(|e| e.to_string())?;
        let keys = KeyRing::new([key]).map_err(|e| e.to_string())?;
        let model = Model::new(limits.clone(), epoch);
        let began = Instant::now();
        let mut world = Self {
            now: Now { wall: Timestamp::from_millis(WALL_MS), mono: began },
            began,
            plan: Plan::new(Dice::new(dice.below(1 << 40))),
            dice,
            durable: model.clone(),
            model,
            attempted: None,
            context: Arc::new(SessionContext::new(keys, limits)),
            process: None,
            dying: false,
            up_at: None,
            commit: 0,
            links: Vec::new(),
            next_link: 1,
            devices: Vec::new(),
            config,
            clock_set: 0,
            full_until: None,
            was_full: false,
            stirred: 0,
            step: 0,
            tally: BTreeMap::new(),
            shown: VecDeque::new(),
            talk,
            _dirs: dirs,
        };
        world.up()?;
        Ok(world)
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>9.3} {}", (self.now.mono - self.began).as_secs_f64(), line());
        if self.talk {
            eprintln!("{line}");
        }
        self.shown.push_back(line);
        if self.shown.len() > SHOWN {
            self.shown.pop_front();
        }
    }

    pub fn shown(&self) -> String {
        self.shown.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn time(&self) -> Time {
        Time { mono: self.now.mono, micros: self.now.wall.millis() * 1000 }
    }

    // The process and its disk.

    /// The store has failed: the daemon acks nothing more and ends.
    pub fn failed(&mut self, error: &str) -> Result<(), Found> {
        if !disk::fired() {
            return Err(format!("the store failed on a disk that is well: {error}"));
        }
        self.note(|| format!("the store fails: {error}"));
        self.dying = true;
        Ok(())
    }

    /// The process ends, at whatever it is.
    pub(super) fn die(&mut self, death: Death) {
        self.note(|| format!("the server ends: {death:?}"));
        self.count(format!("death: {death:?}"));
        if let Some(process) = self.process.take() {
            self.commit = process.commit;
            drop(process);
        }
        self.dying = false;
        for link in &mut self.links {
            match death {
                Death::Power if self.dice.chance(1, 2) => link.darken(),
                _ => link.cut(self.now.mono, &mut self.dice),
            }
            link.leave(End::Server, self.now.mono);
        }
        disk::set_full(false);
        self.full_until = None;
        match death {
            Death::Power => disk::power_cut(self.dice.below(1 << 40)),
            _ => disk::restart(),
        }
        let down = Duration::from_millis(self.dice.below(1_500));
        self.up_at = Some(self.now.mono + down);
    }

    /// The process is started.
    fn up(&mut self) -> Result<(), Found> {
        self.up_at = None;
        let by = std::mem::take(&mut self.clock_set);
        self.now.wall = Timestamp::from_millis(self.now.wall.millis().saturating_add_signed(by));
        if self.commit > 0 && self.dice.chance(1, 8) {
            disk::fail_after(self.dice.below(30), disk::Fault::Kill(500));
        }
        let (now, limits) = (self.now, self.model.limits.clone());
        let opened = Store::open(&self.config).and_then(|(store, writer)| {
            let epoch = store.epoch();
            let mut engine = Engine::new(writer, epoch, limits, now)?;
            // Few have many conversations here: in every other life that is enough.
            engine.keep_counts_from(if self.commit.is_multiple_of(2) { 1 } else { 32 });
            Ok((store, engine))
        });
        let (store, engine) = match opened {
            Ok(opened) if !disk::is_dead() => opened,
            other => {
                let error = other.err().map(|error| error.to_string());
                if !disk::fired() {
                    return Err(format!("I1: it does not open again: {error:?}"));
                }
                self.note(|| format!("killed while it opens: {error:?}"));
                self.count("death: while opening".into());
                match self.dice.chance(1, 2) {
                    true => disk::power_cut(self.dice.below(1 << 40)),
                    false => disk::restart(),
                }
                self.up_at = Some(self.now.mono + Duration::from_millis(10));
                return Ok(());
            }
        };
        disk::restart();
        same_epoch(&self.model, store.epoch())?;
        let process = Process::new(store, engine);
        // A flush that did not return may have been made, as a whole, or not.
        let (found, before) = (process.commit, self.commit);
        let attempted = self.attempted.take();
        self.model = match attempted {
            Some(attempted) if found == before + 1 => {
                self.count("flush: made, not told".into());
                attempted
            }
            _ if found == before => self.durable.clone(),
            _ => return Err(format!("I1: commit {before} was durable, the last one is {found}")),
        };
        self.commit = found;
        self.model.restart();
        self.durable = self.model.clone();
        self.process = Some(process);
        // A peer that was not there is heard of now: what it still says is answered by a reset.
        let now = self.now.mono;
        for link in self.links.iter_mut().filter(|link| link.is_dark()) {
            link.cut(now, &mut self.dice);
        }
        self.note(|| format!("the server is up, commit {found}"));
        self.stirred += 1;
        self.check()
    }

    /// An orderly stop.
    pub(super) fn stop(&mut self) -> Result<(), Found> {
        self.drain()?;
        let now = self.now;
        if !self.dying && self.process()?.engine.finish(now).is_ok() && !disk::is_dead() {
            // On a full disk nothing of what waits is written.
            if !self.process()?.engine.is_full() {
                self.model.finish(now);
            }
            self.flush()?;
        } else if !self.dying {
            self.failed("it could not finish")?;
        }
        if self.dying {
            return Ok(());
        }
        let Some(process) = self.process.take() else { return Ok(()) };
        self.commit = process.commit;
        let closed = process.store.close(process.engine.into_writer());
        if let Err(error) = closed {
            self.failed(&error.to_string())?;
        }
        self.die(Death::Stop);
        Ok(())
    }

    // Time.

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) -> Result<(), Found> {
        let until = self.now.mono + span;
        let mut stuck = 0;
        loop {
            self.work()?;
            let due = self.next();
            // Something may wait for what is not there yet, but not for ever.
            stuck = if due.is_some_and(|due| due <= self.now.mono) { stuck + 1 } else { 0 };
            if stuck > STUCK_MAX {
                return Err(format!("something is always due: {}", self.who_waits()));
            }
            let due = due.map(|due| due.max(self.now.mono + Duration::from_millis(1)));
            match due.filter(|due| *due <= until) {
                Some(due) => self.clock(due),
                None => break,
            }
        }
        self.clock(until);
        self.work()
    }

    fn who_waits(&self) -> String {
        let now = self.now.mono;
        let mut all =
            vec![format!("server {}", self.server_deadline().is_some_and(|at| at <= now))];
        for device in &self.devices {
            if device.deadline().is_some_and(|at| at <= now) {
                let app = device.app.as_ref();
                let status = app.map(|app| (app.client.status(), app.link, app.asleep_until));
                all.push(format!("{} {} {status:?}", device.user, device.device));
            }
        }
        all.join(", ")
    }

    fn clock(&mut self, to: Instant) {
        let span = to.saturating_duration_since(self.now.mono);
        // The wall clock has milliseconds: it moves when they are full.
        let millis = |at: Instant| (at - self.began).as_millis() as u64;
        let step = millis(to.max(self.now.mono)) - millis(self.now.mono);
        self.now.mono += span;
        self.now.wall = Timestamp::from_millis(self.now.wall.millis() + step);
    }

    fn next(&self) -> Option<Instant> {
        let devices = self.devices.iter().flat_map(|device| {
            let link = device.app.as_ref().and_then(|app| app.link);
            let link = self.links.iter().find(|it| Some(it.id) == link);
            [device.deadline(), link.and_then(|link| link.next(End::Device))]
        });
        let own = [self.server_deadline(), self.full_until];
        own.into_iter().chain(devices).flatten().min()
    }

    /// Does everything that is due now.
    pub(super) fn work(&mut self) -> Result<(), Found> {
        for turn in 0.. {
            let before = self.stirred;
            if self.full_until.is_some_and(|at| at <= self.now.mono) {
                self.full_until = None;
                disk::set_full(false);
                self.note(|| "there is room again".into());
            }
            if self.up_at.is_some_and(|at| at <= self.now.mono) {
                self.up()?;
            }
            self.serve()?;
            if self.dying {
                let power = self.dice.chance(1, 2);
                self.die(if power { Death::Power } else { Death::Fault });
            }
            for at in 0..self.devices.len() {
                self.device(at)?;
            }
            self.links.retain(|link| !link.is_over());
            if self.stirred == before {
                return Ok(());
            }
            if turn > 10_000 {
                return Err("it never comes to rest".into());
            }
        }
        Ok(())
    }

    // Devices.

    fn device(&mut self, at: usize) -> Result<(), Found> {
        let (now, time) = (self.now.mono, self.time());
        let device = &mut self.devices[at];
        let Some(app) = &mut device.app else { return Ok(()) };
        if app.retry_at.is_some_and(|at| at <= now) {
            app.retry_at = None;
            self.stirred += 1;
            return self.connect(at);
        }
        let mut broken = None;
        let link = self.links.iter_mut().find(|link| Some(link.id) == app.link);
        if let Some(link) = link {
            while broken.is_none() {
                match link.take(End::Device, now) {
                    Some(Arrival::Piece(piece)) => {
                        self.stirred += 1;
                        broken = app.client.receive(time, &piece).err();
                    }
                    Some(Arrival::End) => broken = Some(SimulatedClient::cut()),
                    None => break,
                }
            }
            if broken.is_none() && app.client.deadline().is_some_and(|due| due <= now) {
                broken = app.client.on_time(time).err();
            }
        } else if app.link.is_some() {
            broken = Some(SimulatedClient::cut());
        }
        if device.take_events(&self.durable, time)? {
            self.stirred += 1;
        }
        let Some(app) = &mut device.app else { return Ok(()) };
        if broken.is_none()
            && let Some(link) = self.links.iter_mut().find(|link| Some(link.id) == app.link)
            && link.takes(End::Server)
        {
            match app.client.output(time) {
                Ok(bytes) if !bytes.is_empty() => {
                    link.send(End::Server, now, &mut self.dice, bytes.freeze());
                    self.stirred += 1;
                }
                Ok(_) => {}
                Err(error) => broken = Some(error),
            }
        }
        device.take_answers(&self.durable)?;
        if let Some(error) = broken {
            self.stirred += 1;
            let link = device.app.as_ref().and_then(|app| app.link);
            device.lose(now, &error, self.dice.below(1000))?;
            if let Some(link) = self.links.iter_mut().find(|it| Some(it.id) == link) {
                link.leave(End::Device, now);
            }
            let (user, device) = (device.user.clone(), device.device.clone());
            self.note(|| format!("{user} {device} loses its connection: {error}"));
        }
        Ok(())
    }

    fn connect(&mut self, at: usize) -> Result<(), Found> {
        let (now, time) = (self.now, self.time());
        let (user, device) = (self.devices[at].user.clone(), self.devices[at].device.clone());
        if self.process.is_none() {
            let luck = self.dice.below(1000);
            return self.devices[at].lose(now.mono, &SimulatedClient::cut(), luck);
        }
        let scopes = match device.as_str() {
            "t" => Scopes::of(&[Scope::Client, Scope::Admin]),
            _ => Scopes::of(&[Scope::Client]),
        };
        let lives = Duration::from_secs(*self.dice.pick(&[30, 3_600, 86_400]));
        let token = self.context.keys.mint(&user, None, scopes, lives, now.wall);
        let id = self.next_link;
        self.next_link += 1;
        let delay = Duration::from_micros(*self.dice.pick(&[50, 1_000, 20_000, 150_000]));
        let Some(app) = &mut self.devices[at].app else { return Ok(()) };
        app.client.set_token(token.map_err(|e| e.to_string())?);
        app.client.connect(time);
        app.link = Some(id);
        self.links.push(Link::new(id, now.mono, delay));
        self.note(|| format!("{user} {device} connects: {id}"));
        self.accept(id, user)
    }

    pub(super) fn find(&self, user: &UserId, device: &DeviceId) -> Option<usize> {
        self.devices.iter().position(|it| (&it.user, &it.device) == (user, device))
    }

    /// The device runs.
    pub(super) fn come(&mut self, user: &UserId, device: &DeviceId) -> usize {
        let at = self.find(user, device).unwrap_or_else(|| {
            self.devices.push(Device::new(user.clone(), device.clone()));
            self.devices.len() - 1
        });
        let limits = proto::ClientLimits {
            max_unacked_entries: *self.dice.pick(&[0, 0, 0, 1, 3, 10]),
            max_unacked_bytes: *self.dice.pick(&[0, 0, 0, 300, 5_000]),
            max_batch_bytes: *self.dice.pick(&[0, 0, 1, 500]),
            max_missed_entries: *self.dice.pick(&[0, 0, 0, 3]),
        };
        self.devices[at].start(self.now.mono, limits);
        at
    }

    pub(super) fn link_of(&mut self, user: &UserId, device: &DeviceId) -> Option<&mut Link> {
        let at = self.find(user, device)?;
        let id = self.devices[at].app.as_ref()?.link?;
        self.links.iter_mut().find(|link| link.id == id)
    }
}

fn same_epoch(model: &Model, epoch: Epoch) -> Result<(), Found> {
    crate::compare::same("epoch", &epoch, &model.epoch)
}
