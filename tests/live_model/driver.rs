//! One run: the plan's steps, one at a time, and the accidents between them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use roamd::{
    auth::{Key, KeyRing},
    engine::{Caller, Command, Now},
    id::{DeviceId, Epoch, SessionId, UserId},
    limits::{Limits, MultiLogin},
    request::{Position, Request},
    seq::InboxSeq,
    time::Timestamp,
};

use super::{
    connections::Connection,
    dice::Dice,
    model::Model,
    plan::{self, Plan, Step},
    replica::Replica,
    wire,
    witness::{Launch, Roamd},
};

/// Before every run: what the plan takes for long ago.
pub const WALL_MS: u64 = 1_700_000_000_000;
/// A difference, or a failure of the daemon.
pub type Found = String;

/// Who watches.
const WATCH: &str = "watch";
const SECRET: &str = "a secret for tests only, 32 bytes and more";
/// Steps shown when a run fails.
const SHOWN: usize = 40;
/// Steps of one script of the plan; the rest of a longer one is left out.
const SCRIPT_MAX: usize = 40;
/// An accident after so many steps.
const ACCIDENT_EVERY: u64 = 22;
/// Both clocks tell two commands apart that are so far from each other.
const PACE: Duration = Duration::from_millis(2);

pub struct Live {
    pub(super) plan: Plan,
    pub(super) model: Model,
    pub(super) launch: Launch,
    pub(super) roamd: Option<Roamd>,
    pub(super) address: SocketAddr,
    pub(super) keys: KeyRing,
    pub(super) connections: Vec<Connection>,
    pub(super) next_id: u64,
    /// What devices have stored; they outlive connections and the process.
    pub(super) replicas: Vec<(Caller, Position, Replica)>,
    /// Totals and positions there were.
    pub(super) moments: BTreeMap<UserId, Vec<(u64, InboxSeq)>>,
    started: (Instant, Timestamp),
    /// The longest that anything took.
    pub(super) latency: Duration,
    /// The daemon was told to stop.
    pub(super) stopping: bool,
    /// A timer may have run before or after a command; nobody can know.
    pub doubtful: bool,
    pub tally: BTreeMap<&'static str, u64>,
    shown: VecDeque<String>,
    steps: u64,
    talk: bool,
    _dir: tempfile::TempDir,
}

fn limits(dice: &mut Dice) -> Limits {
    // Nothing depends on how long something takes, as far as limits go.
    let day = Duration::from_secs(24 * 3600);
    let limits = plan::limits(dice);
    Limits {
        // Less is no setting.
        fanout_members: limits.fanout_members.max(2),
        inbox_age: 7 * day,
        idempotency_window: 9 * day,
        content_bytes: 40,
        recall_window: day,
        edit_window: day,
        heartbeat_interval: Duration::from_secs(30),
        ..limits
    }
}

impl Live {
    /// A run of this seed, with a daemon that is told these settings as well.
    pub fn start(
        seed: u64,
        talk: bool,
        settings: &[(&'static str, String)],
    ) -> Result<Self, Found> {
        let mut dice = Dice::new(seed);
        let limits = limits(&mut dice);
        let dir = tempfile::Builder::new().prefix("roamd-live-").tempdir();
        let dir = dir.map_err(|e| e.to_string())?;
        let secret = dir.path().join("secret");
        std::fs::write(&secret, SECRET).map_err(|e| e.to_string())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&secret, mode).map_err(|e| e.to_string())?;
        let mut launch = Launch::small_store(&dir.path().join("data"));
        launch.env.retain(|(name, _)| !name.contains("INBOX_ENTRIES"));
        let multi_login = match limits.multi_login {
            MultiLogin::Many => "many",
            MultiLogin::OnePerPlatform => "one_per_platform",
            MultiLogin::One => "one",
        };
        for (name, value) in [
            ("ROAMD_AUTH__HS256_SECRET_FILE", secret.to_string_lossy().into_owned()),
            ("ROAMD_LIMITS__INBOX_ENTRIES", limits.inbox_entries.to_string()),
            ("ROAMD_LIMITS__CONTENT_BYTES", limits.content_bytes.to_string()),
            ("ROAMD_LIMITS__MEMBERS_PER_GROUP", limits.members_per_group.to_string()),
            ("ROAMD_LIMITS__CONVERSATIONS_PER_USER", limits.conversations_per_user.to_string()),
            ("ROAMD_LIMITS__DEVICES_PER_USER", limits.devices_per_user.to_string()),
            ("ROAMD_LIMITS__FANOUT_MEMBERS", limits.fanout_members.to_string()),
            ("ROAMD_LIMITS__RECALL_WINDOW", "1d".into()),
            ("ROAMD_LIMITS__EDIT_WINDOW", "1d".into()),
            ("ROAMD_LIMITS__MULTI_LOGIN", multi_login.into()),
        ] {
            launch.env.push((name, value));
        }
        launch.env.extend_from_slice(settings);
        let key = Key::hs256(SECRET.as_bytes()).map_err(|e| e.to_string())?;
        let keys = KeyRing::new([key]).map_err(|e| e.to_string())?;
        let (roamd, address) = launch.start()?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = Timestamp::from_millis(since.as_millis() as u64);
        let mut live = Self {
            plan: Plan::new(dice),
            model: Model::new(limits, Epoch::new(0)),
            launch,
            roamd: Some(roamd),
            address,
            keys,
            connections: Vec::new(),
            next_id: 1,
            replicas: Vec::new(),
            moments: BTreeMap::new(),
            started: (Instant::now(), wall),
            latency: Duration::ZERO,
            stopping: false,
            doubtful: false,
            tally: BTreeMap::new(),
            shown: VecDeque::new(),
            steps: 0,
            talk,
            _dir: dir,
        };
        live.watch()?;
        Ok(live)
    }

    /// One session that does nothing but ask: what it is answered, everything before it was done for.
    pub(super) fn watch(&mut self) -> Result<(), Found> {
        let user = plan::user(WATCH);
        let device = DeviceId::new("w").map_err(|e| e.to_string())?;
        self.connect(&user, &device)?;
        self.settle()
    }

    pub(super) fn now(&self) -> Now {
        let mono = Instant::now();
        Now { wall: self.started.1.plus(mono.duration_since(self.started.0)), mono }
    }

    /// When all tokens were made, in whole seconds: long before any revocation.
    pub(super) fn issued(&self) -> Timestamp {
        Timestamp::from_millis(self.started.1.millis() / 1000 * 1000 - 10_000)
    }

    pub(super) fn note(&mut self, line: String) {
        if self.talk {
            eprintln!("{line}");
        }
        self.shown.push_back(line);
        if self.shown.len() > SHOWN {
            self.shown.pop_front();
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub fn shown(&self) -> String {
        let lines: Vec<&str> = self.shown.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    pub fn obituary(&mut self) -> String {
        self.roamd.as_mut().map_or(String::new(), |roamd| roamd.obituary("roamd"))
    }

    pub fn run(&mut self, steps: u64) -> Result<(), Found> {
        let mut accident = ACCIDENT_EVERY;
        while self.steps < steps && !self.doubtful {
            for step in self.plan.next(&self.model).into_iter().take(SCRIPT_MAX) {
                self.steps += 1;
                self.note(format!("{:4} {step:?}", self.steps));
                self.timers()?;
                self.step(step)?;
                self.settle()?;
                if self.doubtful {
                    return Ok(());
                }
            }
            if self.steps >= accident {
                accident += ACCIDENT_EVERY;
                match self.plan.dice.below(6) {
                    0 => self.crash()?,
                    1 => self.reopen()?,
                    2 | 3 => self.crash_in_a_volley()?,
                    _ => self.freeze_in_a_volley()?,
                }
                self.settle()?;
            }
        }
        if self.doubtful { Ok(()) } else { self.finale() }
    }

    fn step(&mut self, step: Step) -> Result<(), Found> {
        match step {
            // The one that watches does nothing else.
            Step::Do(caller, _) if caller.user.as_str() == WATCH => Ok(()),
            Step::Do(caller, Command::Request(request)) => {
                let Some(id) = self.session_of(&caller.user, &caller.device)? else {
                    return Ok(());
                };
                let request = match request {
                    // Times are the daemon's.
                    Request::ListConversations { snapshot, page_token, limit, .. } => {
                        let since = Timestamp::default();
                        Request::ListConversations { since, snapshot, page_token, limit }
                    }
                    request => request,
                };
                self.ask(id, request)
            }
            Step::Do(caller, Command::Attach { .. }) | Step::Do(caller, Command::Resume(_)) => {
                self.login(&caller.user, &caller.device).map(|_| ())
            }
            Step::Do(caller, Command::Detach) => match self.open_of(&caller.user, &caller.device) {
                Some(id) => self.bye(id),
                None => Ok(()),
            },
            Step::Do(..) | Step::SetClock(_) | Step::Flush => Ok(()),
            Step::Live(user) => {
                let caller = self.plan.caller(&self.model);
                self.login(&user, &caller.device).map(|_| ())
            }
            Step::Online => {
                let caller = self.plan.caller(&self.model);
                self.login(&caller.user, &caller.device).map(|_| ())
            }
            Step::Wait(_) if self.plan.dice.chance(1, 12) => self.wait_for_silences(),
            Step::Wait(_) => Ok(()),
            Step::Crash => self.crash(),
            Step::Reopen => self.reopen(),
        }
    }

    /// One request on a connection, and everything that comes of it.
    fn ask(&mut self, id: u64, request: Request) -> Result<(), Found> {
        std::thread::sleep(PACE);
        let silences = self.model.silences_end();
        let Some(at) = self.at(id) else { return Ok(()) };
        let read = wire::as_read(&request);
        if read.as_ref().is_err_and(|refusal| refusal.fatal) {
            return Ok(());
        }
        let ack = match self.plan.dice.chance(1, 4) {
            true => self.connections[at].client.ackable(),
            false => 0,
        };
        let sent = Instant::now();
        let req_id = self.say(at, InboxSeq::new(ack), &request)?;
        self.connections[at].flush()?;
        let Some(body) = self.reply_to(at, req_id)? else { return Ok(()) };
        self.took(sent);
        let safe = silences.is_none_or(|end| end > Instant::now() + self.latency);
        self.doubtful |= !safe;
        self.count("requests");
        match read {
            Ok(request) => self.apply(at, req_id, Command::Request(request), &body),
            Err(refusal) => {
                let asked = &mut self.connections[at].client.asked;
                asked.insert(req_id, Some(roamd::reply::Reply::Refused(refusal)));
                Ok(())
            }
        }
    }

    pub(super) fn took(&mut self, since: Instant) {
        self.latency = self.latency.max(since.elapsed());
    }

    /// Waits for timers that are near, so that it is known what came first.
    pub(super) fn timers(&mut self) -> Result<(), Found> {
        let near = self.latency * 2 + Duration::from_millis(100);
        while self.model.silences_end().is_some_and(|end| end <= Instant::now() + near) {
            self.wait_for_silences()?;
        }
        Ok(())
    }

    /// Time passes until the next silence ends, and the daemon has written what waited for it.
    fn wait_for_silences(&mut self) -> Result<(), Found> {
        let Some(end) = self.model.silences_end() else { return Ok(()) };
        self.until(end)?;
        self.count("silences");
        self.settle()
    }

    /// Time passes, and timers run here and there.
    pub(super) fn until(&mut self, end: Instant) -> Result<(), Found> {
        std::thread::sleep(end.saturating_duration_since(Instant::now()) + PACE);
        // The daemon's timers began earlier, so they have run before it answers this.
        self.ask_the_watch()?;
        let now = Now { mono: end, ..self.now() };
        self.model.on_timer(now);
        self.tell();
        Ok(())
    }

    /// At the end all users come and look at everything.
    fn finale(&mut self) -> Result<(), Found> {
        self.note("finale".into());
        for user in plan::users() {
            self.timers()?;
            let device = DeviceId::new("p").map_err(|e| e.to_string())?;
            let Some(id) = self.session_of(&user, &device)? else { continue };
            let mut after = self.model.first(&user).previous();
            while after < self.model.head(&user) {
                self.ask(id, Request::SyncPull { after, limit: 200 })?;
                after = InboxSeq::new(after.number() + 200);
                self.settle()?;
            }
            let all = Request::GetUnread { conversations: Vec::new(), explain: true };
            self.ask(id, all)?;
            self.settle()?;
            let talks: Vec<_> = self.model.talks.keys().cloned().collect();
            for conversation in talks {
                let newest = Request::FetchHistory {
                    conversation,
                    direction: roamd::request::Direction::Newest,
                    limit: 200,
                    max_bytes: 512 * 1024,
                };
                self.ask(id, newest)?;
                self.settle()?;
            }
            if self.doubtful {
                return Ok(());
            }
        }
        if let Some(roamd) = &mut self.roamd {
            roamd.kill();
        }
        self.launch.verify().map(|_| ())
    }

    pub(super) fn caller(&self, user: &UserId, device: &DeviceId, id: u64) -> Caller {
        let (user, device) = (user.clone(), device.clone());
        Caller { user, device, session: SessionId::new(id), admin: true }
    }
}
