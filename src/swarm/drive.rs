//! A run from its beginning to its end: everybody connects, groups are made, the plan is walked, everybody
//! is given what is missing and compared.
//!
//! The plan is walked by a thread of its own that sleeps until each act is due, so that a busy runtime
//! makes no send late without its being seen: latencies count from when a send was due.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    SwarmError,
    bot::{Bot, MAIL_MAX, Mail, Shared},
    plan::{Act, Plan, Step},
    scenario::Scenario,
    tally::{Counters, more},
};
use crate::replay::server::Server;

/// Requests without an answer, of all bots together. A send that is due beyond is shed: not made, and
/// counted as an error.
pub const IN_FLIGHT_MAX: u64 = 200_000;
/// The plan is left within this time when the run is given up.
const NAP: Duration = Duration::from_millis(50);
/// How long nothing may move while everybody connects.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How often what is waited for is looked at, if nobody says that it has changed.
const LOOK: Duration = Duration::from_millis(100);

/// What the walk through the plan and the samples share with the run.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) shared: Arc<Shared>,
    /// The daemon, if it may be killed.
    server: Mutex<Server>,
    /// Its process, when it is on this machine and ours.
    pub(super) process: AtomicU32,
    mail: Vec<mpsc::Sender<Mail>>,
    over: AtomicBool,
}

impl Stage {
    /// Tells one bot something in time; what it cannot take is shed.
    fn post(&self, bot: u32, mail: Mail) -> bool {
        self.mail.get(bot as usize).is_some_and(|it| it.try_send(mail).is_ok())
    }

    /// Tells all bots something, and waits until each has room for it.
    async fn post_all(&self, mail: Mail) {
        for sender in &self.mail {
            let _ = sender.send(mail).await;
        }
    }

    fn counters(&self) -> &Counters {
        &self.shared.tally.counters
    }

    /// Waits until it is so; false = nothing has moved for as long as is allowed.
    async fn wait(&self, patience: Duration, done: impl Fn(&Counters) -> bool) -> bool {
        let counters = self.counters();
        let moved = || {
            let all = [
                &counters.progress,
                &counters.live,
                &counters.created,
                &counters.answered,
                &counters.settled,
            ];
            all.map(|counter| counter.load(Relaxed))
        };
        let (mut last, mut since) = (moved(), Instant::now());
        while !done(counters) {
            let _ = timeout(LOOK, self.shared.tally.changed.notified()).await;
            let now = moved();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > patience {
                return false;
            }
        }
        true
    }
}

/// A run: the stage and its bots.
pub(super) struct Run {
    pub(super) stage: Arc<Stage>,
    bots: JoinSet<()>,
}

/// What came of a run, apart from what was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// How late the plan was walked at worst, in microseconds.
    pub(super) late_us: u64,
    /// How long everybody took to connect at the beginning.
    pub(super) connected_in: Duration,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stage.over.store(true, Relaxed);
    }
}

impl Run {
    pub(super) fn new(shared: Arc<Shared>, server: Server) -> Self {
        let process = AtomicU32::new(server.process().unwrap_or(0));
        let mut bots = JoinSet::new();
        let mut mail = Vec::new();
        for bot in 0..shared.world.bots() {
            let (sender, receiver) = mpsc::channel(MAIL_MAX);
            mail.push(sender);
            bots.spawn(Bot::new(Arc::clone(&shared), bot).run(receiver));
        }
        let over = AtomicBool::new(false);
        let stage = Stage { shared, server: Mutex::new(server), process, mail, over };
        Self { stage: Arc::new(stage), bots }
    }

    /// Connects everybody and makes the groups.
    pub(super) async fn gather(&self) -> Result<Duration, SwarmError> {
        let since = Instant::now();
        let Stage { shared, .. } = &*self.stage;
        let world = &shared.world;
        let groups = || world.talks.iter().zip(0u32..).filter(|(talk, _)| !talk.direct);
        let owner = |members: &[u32]| members.first().map_or(0, |user| user * world.devices);
        let mut owners: Vec<_> = groups().map(|(talk, _)| owner(&talk.members)).collect();
        owners.sort_unstable();
        owners.dedup();
        for bot in &owners {
            self.stage.post(*bot, Mail::Come);
        }
        self.connected(owners.len() as u64).await?;
        for (talk, index) in groups() {
            // An owner of more groups than fit its mail is given time.
            if let Some(mail) = self.stage.mail.get(owner(&talk.members) as usize) {
                let _ = mail.send(Mail::Create { talk: index }).await;
            }
        }
        let wanted = groups().count() as u64;
        let created = |counters: &Counters| counters.created.load(Relaxed) >= wanted;
        if !self.stage.wait(CONNECT_PATIENCE, created).await {
            return Err(self.stuck("making the groups"));
        }
        self.stage.post_all(Mail::Come).await;
        self.connected(u64::from(world.bots())).await?;
        Ok(since.elapsed())
    }

    async fn connected(&self, count: u64) -> Result<(), SwarmError> {
        let live = |counters: &Counters| counters.live.load(Relaxed) >= count;
        match self.stage.wait(CONNECT_PATIENCE, live).await {
            true => Ok(()),
            false => Err(self.stuck("connecting")),
        }
    }

    fn stuck(&self, doing: &'static str) -> SwarmError {
        let Shared { world, tally, .. } = &*self.stage.shared;
        let first = tally.violations().1.first().map(|it| it.broken.to_string());
        SwarmError::Stuck {
            doing,
            live: tally.counters.live.load(Relaxed),
            bots: world.bots(),
            why: first.unwrap_or_else(|| "nothing moves any more".into()),
        }
    }

    /// Walks the plan. Its time begins now.
    pub(super) async fn walk(&self, scenario: &Scenario, seed: u64) -> Result<u64, SwarmError> {
        let Stage { shared, .. } = &*self.stage;
        // Those who are absent have been there, so that the daemon knows them.
        let absent = Plan::new(scenario, &shared.world, seed).away().to_vec();
        let mut here = u64::from(shared.world.bots());
        for (mail, absent) in self.stage.mail.iter().zip(absent) {
            if absent {
                here -= 1;
                let _ = mail.send(Mail::Leave { killed: false }).await;
            }
        }
        let left = |counters: &Counters| counters.live.load(Relaxed) <= here;
        if !self.stage.wait(CONNECT_PATIENCE, left).await {
            return Err(self.stuck("leaving"));
        }
        let start_us = shared.tally.now_us();
        let from_us = start_us + scenario.warm_up.as_micros() as u64;
        shared.tally.measure(from_us, from_us + scenario.duration.as_micros() as u64);
        let (stage, scenario) = (Arc::clone(&self.stage), scenario.clone());
        let walk = move || stage.walk(&scenario, seed, start_us);
        tokio::task::spawn_blocking(walk).await.map_err(|_| self.stuck("walking the plan"))
    }

    /// Waits until everything has its answer and has come to everybody, compares, and ends the bots.
    pub(super) async fn settle(mut self, patience: Duration) {
        let stage = Arc::clone(&self.stage);
        let bots = u64::from(stage.shared.world.bots());
        stage.post_all(Mail::Come).await;
        let answered =
            |counters: &Counters| counters.begun.load(Relaxed) <= counters.answered.load(Relaxed);
        let answered = stage.wait(patience, answered).await;
        if answered {
            let talks = stage.shared.world.talks.iter().zip(0u32..);
            for (talk, index) in talks {
                let user = talk.members.first().copied().unwrap_or(0);
                if let Err(broken) = stage.shared.truth.check(index) {
                    let bot = user * stage.shared.world.devices;
                    stage.shared.tally.broken(bot, Some(index), broken);
                }
            }
        }
        stage.post_all(Mail::Settle).await;
        let settled = |counters: &Counters| counters.settled.load(Relaxed) >= bots;
        stage.wait(patience, settled).await;
        stage.post_all(Mail::End).await;
        let _ = timeout(patience, async { while self.bots.join_next().await.is_some() {} }).await;
    }
}

impl Stage {
    /// On a thread of its own. Returns how late it was at worst.
    fn walk(self: &Arc<Self>, scenario: &Scenario, seed: u64, start_us: u64) -> u64 {
        let Shared { world, tally, .. } = &*self.shared;
        let mut late_us = 0;
        let mut crashes = Vec::new();
        for Step { at_us, act } in Plan::new(scenario, world, seed) {
            let due_us = start_us + at_us;
            if !self.sleep_until(due_us) {
                break;
            }
            late_us = late_us.max(tally.now_us().saturating_sub(due_us));
            match act {
                Act::Send { bot, talk, number } => self.send(bot, talk, number, due_us),
                Act::Read { bot, talk } => drop(self.post(bot, Mail::Read { talk })),
                Act::Leave { bot, killed } => drop(self.post(bot, Mail::Leave { killed })),
                Act::Come { bot } => drop(self.post(bot, Mail::Come)),
                Act::Cut { bot } => drop(self.post(bot, Mail::Cut)),
                Act::Storm => self.storm(),
                Act::Crash if self.process.load(Relaxed) == 0 => self.storm(),
                Act::Crash => {
                    let stage = Arc::clone(self);
                    crashes.push(std::thread::spawn(move || stage.crash()));
                }
            }
        }
        let end = start_us + (scenario.warm_up + scenario.duration).as_micros() as u64;
        self.sleep_until(end);
        crashes.into_iter().for_each(|crash| drop(crash.join()));
        late_us
    }

    fn send(&self, bot: u32, talk: u32, number: u64, due_us: u64) {
        let Shared { tally, issued, .. } = &*self.shared;
        more(&tally.counters.offered);
        tally.count("sends due", due_us, 1);
        issued.store(number + 1, Relaxed);
        let begun = tally.counters.begun.load(Relaxed);
        let open = begun.saturating_sub(tally.counters.answered.load(Relaxed));
        if open >= IN_FLIGHT_MAX || !self.post(bot, Mail::Send { talk, number, due_us }) {
            more(&tally.counters.shed);
            tally.count("sends shed", due_us, 1);
        }
    }

    fn storm(&self) {
        for bot in 0..self.shared.world.bots() {
            self.post(bot, Mail::Cut);
        }
    }

    fn crash(&self) {
        let mut server = self.server.lock();
        if let Err(error) = server.crash() {
            let why = super::check::Broken::Protocol { why: format!("after a crash: {error}") };
            self.shared.tally.broken(0, None, why);
        }
        self.process.store(server.process().unwrap_or(0), Relaxed);
    }

    /// False = the run is given up.
    fn sleep_until(&self, due_us: u64) -> bool {
        let due = self.shared.tally.instant(due_us);
        loop {
            if self.over.load(Relaxed) {
                return false;
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}
