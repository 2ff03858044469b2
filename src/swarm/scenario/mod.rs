//! Scenarios: what a swarm does, as TOML. What is wrong with one is an error that names the key.
//!
//! A scenario is a value without a clock or a choice in it; `plan.rs` draws the choices from a seed.

mod builtin;
mod values;

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::builtin::{BUILT_IN, Builtin};
use self::values::{duration, durations, optional_duration, size};

/// Most users of a swarm.
pub const USERS_MAX: u32 = 100_000;
/// Most devices of a user: what a daemon allows unless told otherwise.
pub const DEVICES_MAX: u32 = 16;
/// Most devices of a swarm: connections of one process.
pub const BOTS_MAX: u64 = 200_000;
/// Most conversations of one kind.
pub const CONVERSATIONS_MAX: u32 = 100_000;
/// Most memberships: what the swarm remembers grows with devices times conversations.
pub const MEMBERSHIPS_MAX: u64 = 4_000_000;
/// Most messages (or other acts of one kind) per second.
pub const RATE_MAX: f64 = 200_000.0;
/// Largest body, as the daemon allows unless told otherwise.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest time of any kind.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Largest scenario file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// There is no such file, and none of this name is built in.
    #[error("there is no scenario {0:?}: neither a file nor built in")]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(String, std::io::Error),
    /// It is no TOML, or has a key that does not exist.
    #[error("{name}: {text}")]
    Parse {
        /// Which scenario.
        name: String,
        /// Where and what.
        text: String,
    },
    /// A value is outside of what is possible.
    #[error("{name}: {key} = {value}: {rule}")]
    Bound {
        /// Which scenario.
        name: String,
        /// Which key.
        key: String,
        /// What it says.
        value: String,
        /// What it may say.
        rule: String,
    },
}

/// What a swarm does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: that of the file, or the one built in.
    #[serde(skip)]
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Users.
    pub users: u32,
    /// Devices of each user.
    #[serde(default = "one")]
    pub devices: u32,
    /// Messages per second of all users together, due at random moments (Poisson).
    pub rate: f64,
    /// Moves of read markers per second of all users together.
    #[serde(default)]
    pub reads: f64,
    /// Size of each message's content.
    #[serde(default = "body", with = "size")]
    pub body: usize,
    /// What is measured.
    #[serde(with = "duration")]
    pub duration: Duration,
    /// Before anything is measured.
    #[serde(default, with = "duration")]
    pub warm_up: Duration,
    /// How long nothing may move at the end before what is missing counts as lost.
    #[serde(default = "patience", with = "duration")]
    pub patience: Duration,
    /// Who talks in pairs.
    #[serde(default)]
    pub direct: Direct,
    /// Who talks in groups.
    #[serde(default)]
    pub groups: Vec<Groups>,
    /// Devices that come and go, and what breaks.
    #[serde(default)]
    pub faults: Faults,
    /// What must be reached.
    #[serde(default)]
    pub objectives: Objectives,
}

/// Pairs of users.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// How many pairs, drawn at random.
    pub pairs: u32,
    /// Their part of the messages, in relation to those of the groups.
    #[serde(default = "part")]
    pub traffic: f64,
}

/// Groups of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// How many.
    pub count: u32,
    /// Members of each, drawn at random.
    pub members: u32,
    /// Their part of the messages.
    #[serde(default = "part")]
    pub traffic: f64,
    /// Messages are read from the history, not from inboxes. A daemon of the swarm's own is told so; any
    /// other decides by its own limit.
    #[serde(default)]
    pub large: bool,
}

/// Devices that come and go, and what breaks. Times count from the start, with the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// This part of the devices is away from the start.
    pub absent: f64,
    /// When they come back; without it, when all messages are sent.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub absent_until: Option<Duration>,
    /// Devices that go away per second.
    pub leaves: f64,
    /// How long they stay away.
    #[serde(with = "duration")]
    pub away: Duration,
    /// This part of them goes without a word: the program is killed.
    pub killed: f64,
    /// Connections that are cut per second.
    pub cuts: f64,
    /// All connections are cut at these moments.
    #[serde(with = "durations")]
    pub storms: Vec<Duration>,
    /// The daemon is killed (SIGKILL) and started again at these moments; one that is not the swarm's own
    /// is left alone, and all connections are cut instead.
    #[serde(with = "durations")]
    pub crashes: Vec<Duration>,
}

/// What must be reached. What is not named is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// 99 % of the sends are acked within this, from the moment they were due.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub send_to_ack_p99: Option<Duration>,
    /// 99 % of the deliveries to devices that are there come within this, from the same moment.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub send_to_delivery_p99: Option<Duration>,
    /// 99 % of the connections have caught up within this.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub connect_to_caught_up_p99: Option<Duration>,
    /// 99 % of the sessions that were lost have caught up again within this, from the loss.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub lost_to_caught_up_p99: Option<Duration>,
    /// At least this part of the sends that were due was acked within the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked: Option<f64>,
    /// At least so many deliveries per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<f64>,
}

fn one() -> u32 {
    1
}

fn part() -> f64 {
    1.0
}

fn body() -> usize {
    200
}

fn patience() -> Duration {
    Duration::from_secs(30)
}

impl Scenario {
    /// One that is built in, or a file.
    ///
    /// # Errors
    /// [`ScenarioError`] names the key.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some(built_in) = BUILT_IN.iter().find(|it| it.name == name) {
            return Self::parse(name, built_in.text);
        }
        let path = Path::new(name);
        let looks_like_a_file = path.extension().is_some() || name.contains('/');
        let length = match std::fs::metadata(path) {
            Ok(it) => it.len(),
            Err(error) if looks_like_a_file => return Err(ScenarioError::Read(name.into(), error)),
            Err(_) => return Err(ScenarioError::Unknown(name.into())),
        };
        if length > FILE_BYTES_MAX {
            let error = std::io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"));
            return Err(ScenarioError::Read(name.into(), error));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| ScenarioError::Read(name.into(), error))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(&stem.unwrap_or_else(|| name.into()), &text)
    }

    /// From its text.
    ///
    /// # Errors
    /// [`ScenarioError`] names the key.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let parsed: Self = toml::from_str(text)
            .map_err(|error| ScenarioError::Parse { name: name.into(), text: error.to_string() })?;
        let scenario = Self { name: name.into(), ..parsed };
        scenario.check()?;
        Ok(scenario)
    }

    /// As TOML.
    #[must_use]
    pub fn text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// With so many users. Pairs, groups and members become fewer or more in the same proportion; a
    /// large group stays one.
    ///
    /// # Errors
    /// [`ScenarioError::Bound`].
    pub fn with_users(mut self, users: u32) -> Result<Self, ScenarioError> {
        let factor = f64::from(users) / f64::from(self.users.max(1));
        let scale = |count: u32| (f64::from(count) * factor).ceil() as u32;
        if self.direct.pairs > 0 {
            self.direct.pairs = scale(self.direct.pairs);
        }
        for group in &mut self.groups {
            // Fewer users make fewer groups of the same size, as far as they are enough for one.
            if group.large || group.members > users {
                group.members = scale(group.members).clamp(2, users.max(2));
            }
            if !group.large {
                group.count = scale(group.count).max(1);
            }
        }
        self.users = users;
        self.check()?;
        Ok(self)
    }

    /// Measured for so long, with no longer warm-up. Moments of faults move in the same proportion.
    #[must_use]
    pub fn with_duration(mut self, duration: Duration) -> Self {
        let before = self.warm_up + self.duration;
        let warm_up = self.warm_up.min(duration);
        let factor =
            (warm_up + duration).as_secs_f64() / before.as_secs_f64().max(f64::MIN_POSITIVE);
        let faults = &mut self.faults;
        let moments = faults.storms.iter_mut().chain(&mut faults.crashes);
        for moment in moments.chain(&mut faults.absent_until) {
            *moment = Duration::from_millis((moment.as_millis() as f64 * factor) as u64);
        }
        (self.warm_up, self.duration) = (warm_up, duration);
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ScenarioError::Bound`] names the key and the bound.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let check = values::Check { name: &self.name };
        check.number("users", f64::from(self.users), 1.0, f64::from(USERS_MAX))?;
        check.number("devices", f64::from(self.devices), 1.0, f64::from(DEVICES_MAX))?;
        let bots = u64::from(self.users) * u64::from(self.devices);
        check.most("users x devices", bots, BOTS_MAX)?;
        check.number("rate", self.rate, 0.0, RATE_MAX)?;
        check.number("reads", self.reads, 0.0, RATE_MAX)?;
        let least = super::body::HEADER_BYTES as f64;
        check.number("body", self.body as f64, least, BODY_BYTES_MAX as f64)?;
        check.time("duration", self.duration, Duration::from_secs(1))?;
        check.time("warm_up", self.warm_up, Duration::ZERO)?;
        check.time("patience", self.patience, Duration::from_secs(1))?;
        self.check_conversations(&check)?;
        let Faults { absent, absent_until, leaves, away, killed, cuts, storms, crashes } =
            &self.faults;
        check.number("faults.absent", *absent, 0.0, 1.0)?;
        check.number("faults.killed", *killed, 0.0, 1.0)?;
        check.number("faults.leaves", *leaves, 0.0, RATE_MAX)?;
        check.number("faults.cuts", *cuts, 0.0, RATE_MAX)?;
        check.time("faults.away", *away, Duration::ZERO)?;
        let moments = absent_until.iter().map(|at| ("faults.absent_until", *at));
        let moments = moments.chain(storms.iter().map(|at| ("faults.storms", *at)));
        for (key, at) in moments.chain(crashes.iter().map(|at| ("faults.crashes", *at))) {
            check.time(key, at, Duration::ZERO)?;
        }
        let asked = &self.objectives;
        for (key, time) in [
            ("objectives.send_to_ack_p99", asked.send_to_ack_p99),
            ("objectives.send_to_delivery_p99", asked.send_to_delivery_p99),
            ("objectives.connect_to_caught_up_p99", asked.connect_to_caught_up_p99),
            ("objectives.lost_to_caught_up_p99", asked.lost_to_caught_up_p99),
        ] {
            check.time(key, time.unwrap_or_default(), Duration::ZERO)?;
        }
        check.number("objectives.acked", asked.acked.unwrap_or_default(), 0.0, 1.0)?;
        check.number("objectives.deliveries", asked.deliveries.unwrap_or_default(), 0.0, 1e9)
    }

    fn check_conversations(&self, check: &values::Check<'_>) -> Result<(), ScenarioError> {
        let Direct { pairs, traffic } = self.direct;
        check.number("direct.pairs", f64::from(pairs), 0.0, f64::from(CONVERSATIONS_MAX))?;
        check.number("direct.traffic", traffic, 0.0, 1e6)?;
        let users = u64::from(self.users);
        let possible = users * users.saturating_sub(1) / 2;
        check.most("direct.pairs", u64::from(pairs), possible)?;
        let mut memberships = u64::from(pairs) * 2;
        let mut traffic = if pairs > 0 { traffic } else { 0.0 };
        for group in &self.groups {
            let count = f64::from(group.count);
            check.number("groups.count", count, 1.0, f64::from(CONVERSATIONS_MAX))?;
            let members = f64::from(group.members);
            check.number("groups.members", members, 2.0, f64::from(self.users))?;
            check.number("groups.traffic", group.traffic, 0.0, 1e6)?;
            memberships += u64::from(group.count) * u64::from(group.members);
            traffic += group.traffic;
        }
        check.most(
            "memberships x devices",
            memberships * u64::from(self.devices),
            MEMBERSHIPS_MAX,
        )?;
        if traffic <= 0.0 && self.rate > 0.0 {
            return Err(ScenarioError::Bound {
                name: self.name.clone(),
                key: "rate".into(),
                value: self.rate.to_string(),
                rule: "there is no conversation with traffic: see direct and groups".into(),
            });
        }
        Ok(())
    }

    /// Members from which on groups are to be large; none = it does not matter.
    #[must_use]
    pub fn large_from(&self) -> Option<u32> {
        self.groups.iter().filter(|group| group.large).map(|group| group.members).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "description = \"a\"\nusers = 4\nrate = 1.0\nduration = \"2s\"\n\
                         direct = { pairs = 2 }\n";

    #[test]
    fn all_that_are_built_in_are_sound_at_every_size() {
        for built_in in BUILT_IN {
            let scenario = Scenario::find(built_in.name).unwrap();
            assert!(!scenario.description.is_empty(), "{}", built_in.name);
            for users in [20, 100, 1000] {
                let scaled = scenario.clone().with_users(users).unwrap();
                assert_eq!(scaled.users, users);
            }
            let again = Scenario::parse(built_in.name, &scenario.text()).unwrap();
            assert_eq!(again, scenario);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text: &str| Scenario::parse("mine", text).unwrap_err().to_string();
        assert!(error(&format!("{SMALL}colour = 1")).contains("`colour`"));
        assert!(error(&format!("{SMALL}[faults]\nfire = 1")).contains("`fire`"));
        assert!(error(&SMALL.replace("\"2s\"", "\"2 weeks\"")).contains("duration"));
        assert!(error(&SMALL.replace("\"2s\"", "\"3d\"")).contains("duration"));
        assert!(error(&SMALL.replace("users = 4", "users = 0")).contains("users"));
        assert!(error(&SMALL.replace("rate = 1.0", "rate = -1.0")).contains("rate"));
        assert!(error(&SMALL.replace("rate = 1.0", "rate = nan")).contains("rate"));
        assert!(error(&SMALL.replace("pairs = 2", "pairs = 7")).contains("direct.pairs"));
        assert!(error(&SMALL.replace("pairs = 2", "pairs = 0")).contains("direct and groups"));
        assert!(error(&format!("{SMALL}body = \"8B\"")).contains("body"));
        assert!(error(&format!("{SMALL}body = \"1MiB\"")).contains("body"));
        assert!(error(&format!("{SMALL}[faults]\nabsent = 1.5")).contains("faults.absent"));
        let groups = format!("{SMALL}[[groups]]\ncount = 1\nmembers = 5");
        assert!(error(&groups).contains("groups.members"));
        let objective = format!("{SMALL}[objectives]\nacked = 2.0");
        assert!(error(&objective).contains("objectives.acked"));
        assert!(matches!(Scenario::find("nothing"), Err(ScenarioError::Unknown(_))));
        assert!(matches!(Scenario::find("no/thing.toml"), Err(ScenarioError::Read(..))));
    }
}
