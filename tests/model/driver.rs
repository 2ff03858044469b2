//! Runs the engine and the model side by side, and compares them.
//!
//! Answers are compared after the flush that lets them leave the process, joined with what is
//! durable then; until that flush a reader must see nothing of it. A crash drops engine and store
//! without a word; the model goes back to what it was at the last flush.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use roamd::{
    engine::{Caller, Command, Engine, Now},
    id::{Epoch, UserId},
    limits::Limits,
    push::{Job, Outcome as PushOutcome, Settings, Verdict},
    refusal::{ErrorCode, Refusal},
    reply::Reply,
    request::Request,
    seq::InboxSeq,
    store::{Reader, Store, StoreConfig},
    time::Timestamp,
};

use super::{
    compare::{Pending, chosen, is_refusal, kind, level, news, only_reads, outcome, pages, same},
    dice::Dice,
    invariant::{Invariant, named, of_answer},
    model::{Model, Outcome, PageKey},
    plan::{self, Plan, Step},
    shell::Shell,
    spoil::Spoiler,
};

/// When every run begins.
pub const WALL_MS: u64 = 1_700_000_000_000;
/// Steps shown when a run fails.
const SHOWN: usize = 30;

/// A difference, or a failure of the store.
pub type Found = String;

pub struct Driver {
    pub(super) plan: Plan,
    pub(super) shell: Shell,
    /// Sessions that a newer one of their device takes over from at the next flush.
    pub(super) displaced: Vec<u64>,
    config: StoreConfig,
    _dir: tempfile::TempDir,
    store: Option<Store>,
    engine: Option<Engine>,
    pub(super) model: Model,
    /// The model at the last flush.
    pub(super) durable: Model,
    pub(super) pending: Vec<Pending>,
    pub(super) now: Now,
    not_found: Option<Refusal>,
    shown: VecDeque<String>,
    steps: u64,
    talk: bool,
    /// Lies about what the server says.
    pub spoiler: Option<Spoiler>,
    /// By how much the wall clock was set, as the next process will see.
    clock_set: i64,
    /// There is a push hook.
    hook: Option<Settings>,
    /// Jobs that are with it.
    out: Vec<Job>,
    /// What totals and positions were when timers ran since the last flush.
    totals: Vec<BTreeMap<UserId, (u64, InboxSeq)>>,
    /// How often each kind of answer came.
    pub tally: BTreeMap<String, u64>,
}

impl Driver {
    /// A run of this seed, under limits of its choice.
    pub fn new(seed: u64, talk: bool) -> Result<Self, Found> {
        let mut dice = Dice::new(seed);
        let limits = plan::limits(&mut dice);
        Self::start(seed, dice, limits, talk)
    }

    /// A run under these limits.
    pub fn with(seed: u64, limits: Limits) -> Result<Self, Found> {
        Self::start(seed, Dice::new(seed), limits, false)
    }

    fn start(seed: u64, mut dice: Dice, limits: Limits, talk: bool) -> Result<Self, Found> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let epoch = Epoch::new(seed + 7);
        let config = StoreConfig {
            memory_bytes: *dice.pick(&[1 << 10, 16 << 10, 64 << 20]),
            segment_bytes: *dice.pick(&[64 << 10, 1 << 20]),
            cache_bytes: 16 << 20,
            inbox_entries: limits.inbox_entries,
            new_epoch: epoch,
            ..StoreConfig::new(dir.path())
        };
        let hook = dice.chance(1, 2).then(|| Settings {
            delay: Duration::from_secs(*dice.pick(&[0, 1, 5])),
            expiry: Duration::from_secs(*dice.pick(&[30, 86_400])),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(4),
            large_interval: Duration::from_secs(1),
            include_content: dice.chance(1, 2),
        });
        let shell = Shell::new(limits.clone())?;
        let model = Model::new(limits, epoch);
        let mut driver = Self {
            plan: Plan::new(dice),
            shell,
            displaced: Vec::new(),
            talk,
            config,
            _dir: dir,
            store: None,
            engine: None,
            durable: model.clone(),
            model,
            pending: Vec::new(),
            now: Now { wall: Timestamp::from_millis(WALL_MS), mono: Instant::now() },
            not_found: None,
            shown: VecDeque::new(),
            steps: 0,
            spoiler: None,
            clock_set: 0,
            hook,
            out: Vec::new(),
            totals: Vec::new(),
            tally: BTreeMap::new(),
        };
        driver.open()?;
        Ok(driver)
    }

    /// Does so many steps, or fewer when something is found.
    pub fn run(&mut self, steps: u64) -> Result<(), Found> {
        while self.steps < steps {
            for step in self.plan.next(&self.model) {
                self.steps += 1;
                self.note(format!("{:4} {step:?}", self.steps));
                self.step(step)?;
                self.pump()?;
            }
        }
        self.settle()?;
        self.crash()?;
        self.reopen()
    }

    /// Remembers what happens, for the report of a failure.
    pub(super) fn note(&mut self, line: String) {
        if self.talk {
            eprintln!("{line}");
        }
        self.shown.push_back(line);
        if self.shown.len() > SHOWN {
            self.shown.pop_front();
        }
    }

    /// The last steps, for the report of a failure.
    pub fn shown(&self) -> String {
        let lines: Vec<&str> = self.shown.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    pub fn step(&mut self, step: Step) -> Result<(), Found> {
        match step {
            Step::Do(caller, Command::Request(request)) => {
                if self.say_for(&caller, &request)? {
                    return Ok(());
                }
                self.apply(None, caller, Command::Request(request))
            }
            // Only its own connection says that a session is over.
            Step::Do(caller, Command::Detach) if self.is_connected(caller.session) => Ok(()),
            Step::Do(caller, command) => self.apply(None, caller, command),
            Step::Online => self.online(),
            Step::Live(user) => self.live(&user),
            Step::Wait(span) => self.wait(span),
            Step::SetClock(by) => {
                self.clock_set += by;
                if self.hook.is_none() {
                    self.set_clock();
                }
                Ok(())
            }
            Step::Flush => self.flush(),
            Step::Crash => self.crash(),
            Step::Reopen => self.reopen(),
        }
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("open between steps")
    }

    pub(super) fn reader(&self) -> Reader {
        self.store.as_ref().expect("open between steps").reader()
    }

    fn open(&mut self) -> Result<(), Found> {
        let (store, writer) = Store::open(&self.config)
            .map_err(|e| Invariant::I1.broken(format!("it does not open again: {e}")))?;
        same("epoch", &store.epoch(), &self.model.epoch).map_err(|e| Invariant::I1.broken(e))?;
        let limits = self.model.limits.clone();
        let now = self.now;
        let mut engine =
            Engine::new(writer, store.epoch(), limits, now).map_err(|e| e.to_string())?;
        // Few have many conversations here.
        engine.keep_counts_from(1);
        if let Some(settings) = self.hook.clone() {
            engine.set_push_hook(settings, now).map_err(|e| e.to_string())?;
        }
        // What was out when the process ended is told again.
        self.out.clear();
        self.store = Some(store);
        self.engine = Some(engine);
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        origin: Option<(u64, u64)>,
        caller: Caller,
        command: Command,
    ) -> Result<(), Found> {
        let now = self.now;
        let large = match command {
            // What its answer tells is newer.
            Command::CaughtUp => self.engine().take_large(),
            _ => Vec::new(),
        };
        let before = self.engine().staged_bytes();
        let answer = self
            .engine()
            .apply(now, &caller, &command)
            .map_err(|e| format!("apply failed: {e}"))?;
        let staged = self.engine().staged_bytes() - before;
        if staged > 0 && (only_reads(&command) || is_refusal(&answer)) {
            return Err(format!("{staged} bytes were staged by what changes nothing: {answer:?}"));
        }
        let mut chosen = chosen(&answer);
        chosen.page = self.page_key(&caller.user, &command);
        let (expected, next) = self.model.apply(now, &caller, &command, &chosen);
        let what = format!("step {}", self.steps);
        if let Some((id, _)) = origin {
            self.applied(id, &answer);
        }
        self.pending.push(Pending {
            before: large,
            origin,
            what,
            caller,
            command,
            answer,
            expected,
            next,
        });
        if self.plan.dice.chance(1, 10) { self.nothing_early() } else { Ok(()) }
    }

    /// The meaning of the page token in a request, if it is one that was given out.
    fn page_key(&self, user: &UserId, command: &Command) -> Option<PageKey> {
        let (pages, token) = pages(command)?;
        let known =
            self.plan.tokens.iter().find(|(u, p, t, _)| (u, p, t) == (user, &pages, &token));
        known.map(|(.., key)| key.clone())
    }

    fn wait(&mut self, span: Duration) -> Result<(), Found> {
        let until = self.now.mono + span;
        let mut slices = 0;
        loop {
            let engine = self.engine().deadline();
            let due = [engine, self.model.deadline(), self.session_deadline()];
            let due = due.into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.pass(due.saturating_duration_since(self.now.mono));
            let now = self.now;
            self.engine().on_timer(now).map_err(|e| format!("timer failed: {e}"))?;
            self.note_totals();
            self.model.on_timer(now);
            self.note_totals();
            if self.hook.is_some() {
                // Jobs are made by timers: what they tell is looked at on the spot.
                self.flush()?;
            }
            self.time_out()?;
            self.pump()?;
            let (engine, model) = (self.engine().deadline(), self.model.deadline());
            if model.is_some_and(|at| at <= now.mono) {
                return Err("the model's timer is still due after it has run".into());
            }
            // Long work comes in slices.
            slices = if engine.is_some_and(|at| at <= now.mono) { slices + 1 } else { 0 };
            if slices > 1000 {
                return Err(format!("a timer never has enough: {engine:?} at {:?}", now.mono));
            }
            // It may look more often than it must, and never later.
            if model.is_some_and(|model| engine.is_none_or(|engine| engine > model)) {
                return Err(format!("next timer: engine {engine:?}, model {model:?}"));
            }
        }
        self.pass(until.saturating_duration_since(self.now.mono));
        Ok(())
    }

    fn note_totals(&mut self) {
        let model = &self.model;
        let total = |user: UserId| (user.clone(), (model.unread_total(&user), model.head(&user)));
        self.totals.push(plan::users().into_iter().map(total).collect());
    }

    /// After a flush: what the hook is to say, and what became of what it was to say before.
    fn push_jobs(&mut self, jobs: Vec<Job>) -> Result<(), Found> {
        for job in jobs {
            self.model.check_job(&job)?;
            if self.out.iter().any(|out| out.place == job.place) {
                return Err(format!("two jobs for one place at once: {job:?}"));
            }
            *self.tally.entry(format!("job: {:?}", job.kind)).or_default() += 1;
            self.note(format!("job {job:?}"));
            self.out.push(job);
        }
        let now = self.now;
        for job in std::mem::take(&mut self.out) {
            let verdict = match self.plan.dice.below(12) {
                0..=5 => {
                    self.out.push(job);
                    continue;
                }
                6..=8 => Verdict::Accepted,
                9 => Verdict::Rejected,
                _ => Verdict::Failed(Duration::from_millis(self.plan.dice.below(3_000))),
            };
            self.note(format!("{verdict:?}: {:?}", job.place));
            if verdict == Verdict::Rejected {
                self.model.push_rejected(&job);
            }
            *self
                .tally
                .entry(format!("job: {verdict:?}").split('(').next().unwrap_or("").into())
                .or_default() += 1;
            let outcome = PushOutcome { place: job.place, id: job.id, verdict };
            self.engine().settle_push(now, &outcome).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// After a flush: totals that large conversations have moved.
    fn tell_totals(
        &mut self,
        told: impl IntoIterator<Item = (UserId, (u64, InboxSeq))>,
    ) -> Result<(), Found> {
        let moments = std::mem::take(&mut self.totals);
        for (user, total) in told {
            if !moments.iter().any(|moment| moment.get(&user) == Some(&total)) {
                let when: Vec<_> = moments.iter().map(|moment| moment.get(&user)).collect();
                let found = format!("{user} is told the total {total:?}, which was {when:?}");
                return Err(Invariant::I9.broken(found));
            }
            *self.tally.entry("push: total".into()).or_default() += 1;
            self.tell_total(&user, total);
        }
        Ok(())
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono += span;
        self.now.wall = self.now.wall.plus(span);
    }

    pub(super) fn flush(&mut self) -> Result<(), Found> {
        let mut effects = self.engine().flush().map_err(|e| format!("flush failed: {e}"))?;
        if let Some(spoiler) = &mut self.spoiler {
            spoiler.effects(&mut effects);
        }
        let told = news(&effects)?;
        let grown: BTreeSet<UserId> = effects.inboxes.into_iter().collect();
        let expected_grown = std::mem::take(&mut self.model.grown);
        let mut expected = std::mem::take(&mut self.model.news);
        expected.presence.retain(|_, changes| !changes.is_empty());
        same("news for those who are online", &told, &expected)
            .map_err(|found| Invariant::I12.broken(found))?;
        self.durable = self.model.clone();
        self.displace();
        self.unfollow(&told);
        for pending in std::mem::take(&mut self.pending) {
            let origin = pending.origin;
            self.tell_large(&pending.before);
            let outcome = self.compare(pending).map_err(|found| self.closer(found))?;
            if let Some(origin) = origin {
                self.deliver(origin, outcome);
            }
        }
        self.push_jobs(effects.jobs)?;
        self.tell_large(&effects.large);
        self.tell_totals(effects.totals)?;
        self.tell_news(told);
        self.tell_heads(&grown);
        self.unread()?;
        self.inboxes()?;
        same("users whose inbox grew", &grown, &expected_grown)
            .map_err(|found| Invariant::I11.broken(found))
    }

    /// What an answer says of an inbox is explained better by the inbox.
    fn closer(&mut self, found: Found) -> Found {
        match named(&found) {
            Some(Invariant::I3) => self.inboxes().err().unwrap_or(found),
            _ => found,
        }
    }

    /// Holds an answer against the model's; gives back what leaves the process.
    pub(super) fn compare(&mut self, pending: Pending) -> Result<Outcome, Found> {
        let Pending { what, caller, command, answer, expected, next, .. } = pending;
        let kept = self.model.limits.inbox_entries;
        let mut actual = outcome(&self.reader(), &caller.user, kept, answer)?;
        if let Some(spoiler) = &mut self.spoiler {
            spoiler.answer(&mut actual);
        }
        let leaves = actual.clone();
        let mut expected_outcome = expected.at(&self.durable);
        self.not_found_is_one(&command, &actual)?;
        *self.tally.entry(kind(&command, &actual)).or_default() += 1;
        let token = level(&mut actual, &mut expected_outcome)
            .map_err(|found| format!("{what}: {found}"))?;
        let what = format!("{what}, answer to {command:?}");
        same(&what, &actual, &expected_outcome)
            .map_err(|found| of_answer(&command, &actual, &expected_outcome).broken(found))?;
        let next = match &leaves {
            Outcome::Reply(Reply::ReaderPage { users, .. }) => {
                users.last().map(|last| (0, last.to_string()))
            }
            _ => next,
        };
        if let (Some((pages, _)), Some(token), Some(key)) = (pages(&command), token, next) {
            self.plan.tokens.push((caller.user.clone(), pages, token, key));
        }
        if let Outcome::Attached(compared) | Outcome::Resumed(compared) = &leaves {
            self.plan.snapshots.retain(|(user, _)| *user != caller.user);
            self.plan.snapshots.push((caller.user, compared.snapshot.clone()));
        }
        Ok(leaves)
    }

    /// Missing and forbidden must be the same in every byte.
    fn not_found_is_one(&mut self, command: &Command, actual: &Outcome) -> Result<(), Found> {
        let Outcome::Reply(Reply::Refused(refusal)) = actual else { return Ok(()) };
        // Of who is a member in its own group, and of its own devices, a caller may know.
        let other = ["no such member", "no such device"].contains(&&*refusal.detail);
        let of_its_own = matches!(
            command,
            Command::Request(
                Request::SetRole { .. } | Request::KickDevice { .. } | Request::RevokeDevice { .. }
            )
        );
        if refusal.code != ErrorCode::NotFound || (other && of_its_own) {
            return Ok(());
        }
        same("NOT_FOUND", refusal, self.not_found.get_or_insert_with(|| refusal.clone()))
    }

    /// Everything goes but what was flushed.
    fn crash(&mut self) -> Result<(), Found> {
        self.nothing_early()?;
        self.pending.clear();
        self.shell.connections.clear();
        self.displaced.clear();
        self.totals.clear();
        drop(self.engine.take());
        drop(self.store.take());
        self.model = self.durable.clone();
        self.started()
    }

    fn reopen(&mut self) -> Result<(), Found> {
        let now = self.now;
        self.engine().finish(now).map_err(|e| format!("finish failed: {e}"))?;
        self.model.finish(now);
        self.flush()?;
        self.shell.connections.clear();
        let (Some(store), Some(engine)) = (self.store.take(), self.engine.take()) else {
            return Err("nothing is open".into());
        };
        store.close(engine.into_writer()).map_err(|e| format!("close failed: {e}"))?;
        // An outcome of the hook that came after the last flush is not kept.
        self.model = self.durable.clone();
        self.started()
    }

    /// A daemon looks at the wall clock once; the hook relies on that, nothing else does.
    fn set_clock(&mut self) {
        let by = std::mem::take(&mut self.clock_set);
        self.now.wall = Timestamp::from_millis(self.now.wall.millis().saturating_add_signed(by));
    }

    fn started(&mut self) -> Result<(), Found> {
        self.set_clock();
        self.model.restart();
        self.durable = self.model.clone();
        self.open()?;
        self.inboxes()?;
        self.histories()?;
        self.survey();
        self.unread()
    }
}
