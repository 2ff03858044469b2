//! Replay: real people's conversations through the real daemon, and a check of every device.
//!
//! Every nick of the logs is a user, every log a group with its nicks as members; some are added
//! late, some leave. Lines are sent by their author in the order of the file. At any time half of the
//! users are offline: whoever has to speak comes back and catches up, and somebody else goes, properly
//! or suddenly. One user in five has a second device that comes and goes on its own. Now and then
//! something is recalled, edited, deleted for all or for one, or marked as read on either device.
//! In the end everybody comes back, and every device must have every message once and in order, as it
//! is by then, and no other; every history must equal its log, and every unread count a recount.
//! Whatever happens is drawn from one seed.

pub mod log;
pub mod names;
pub mod server;

mod acts;
mod copy;
mod device;
mod follower;
mod report;
mod verdict;
mod world;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

pub use self::report::Report;
use self::{
    device::{Device, End},
    log::Channel,
    server::{Mint, Server, ServerError, Setting},
    world::{World, fingerprint_of},
};
use crate::{
    client::{ClientError, Recipient, Requests},
    id::UserId,
    wire::proto,
};

const TEXT: &str = "text/plain";
const ACTION: &str = "text/x-irc-action";
/// One user in so many has a second device.
const SECOND_DEVICE: u32 = 5;

/// What a replay does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random is drawn from this.
    pub seed: u64,
    /// So many times as fast as it was; none = as fast as the acks allow.
    pub speed: Option<f64>,
    /// Kill our own daemon so many times on the way.
    pub crashes: u32,
    /// How long the last catch-up may take.
    pub patience: Duration,
}

/// Why a replay cannot be made or finished. Violations are no error; see [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A log cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// The logs hold no messages.
    #[error(
        "there is no message in these files; is this an IRC log with lines such as \"[12:34] <nick> text\"?"
    )]
    Empty,
    /// The daemon.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A request that had to succeed did not.
    #[error("{what}: {error}")]
    Client {
        /// What was asked.
        what: String,
        /// The answer.
        error: ClientError,
    },
}

/// What a daemon of our own is told. A replay may be slower than life: who may change a message does not
/// depend on it. Every group goes to inboxes, so that every device's stream has every message. Days pass
/// in seconds: there are no rates.
#[must_use]
pub fn settings(inbox_entries: Option<u64>) -> Vec<Setting> {
    let entries = inbox_entries.map(|entries| ("limits.inbox_entries", entries.to_string()));
    let fixed = [
        ("limits.recall_window", "365d"),
        ("limits.edit_window", "365d"),
        ("limits.fanout_members", "100000"),
        ("limits.sends_per_second", "0"),
        ("limits.waiting_time", "1h"),
        ("limits.sessions_per_second", "0"),
    ];
    fixed.map(|(key, value)| (key, value.to_owned())).into_iter().chain(entries).collect()
}

/// Reads logs; each is a channel named after its file.
///
/// # Errors
/// [`ReplayError::Read`], and [`ReplayError::Empty`] when there is nothing to send.
pub fn read(files: &[PathBuf]) -> Result<Vec<Channel>, ReplayError> {
    let mut channels = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).map_err(|error| ReplayError::Read(file.clone(), error))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        channels.push(log::parse(&name, &bytes));
    }
    channels.retain(|channel| !channel.lines.is_empty());
    if channels.is_empty() { Err(ReplayError::Empty) } else { Ok(channels) }
}

struct User {
    id: UserId,
    token: String,
    devices: Vec<usize>,
    /// Per channel: the read marker this user must have.
    read: Vec<u64>,
    /// In which channels, at the moment.
    member: Vec<bool>,
    /// Per channel: the line before which the user is added; none = from the start.
    added_at: Vec<Option<usize>>,
    /// Per channel: the last line the user writes.
    last_line: Vec<usize>,
}

struct Replay<'a> {
    options: &'a Options,
    channels: &'a [Channel],
    /// Ids of the channels' groups.
    groups: Vec<String>,
    /// Per channel: the user of each nick.
    people: Vec<Vec<usize>>,
    users: Vec<User>,
    devices: Vec<Device>,
    online: Vec<usize>,
    world: Arc<World>,
    dice: StdRng,
    report: Report,
}

/// Replays the channels one after the other and checks everything.
///
/// # Errors
/// [`ReplayError`] when it cannot be finished.
pub async fn run(
    channels: &[Channel],
    (server, mint): (&mut Server, &Mint),
    options: &Options,
    progress: &ProgressBar,
) -> Result<Report, ReplayError> {
    let mut replay = Replay::prepare(channels, (server, mint), options)?;
    let lines: usize = channels.iter().map(|channel| channel.lines.len()).sum();
    progress.set_length(lines as u64);
    let crash_at: Vec<usize> = (1..=options.crashes as usize)
        .map(|n| n * lines / (options.crashes as usize + 1))
        .collect();
    let start = Instant::now();
    let mut done = 0;
    for (channel, log) in channels.iter().enumerate() {
        progress.set_message(log.name.clone());
        replay.create_group(channel).await?;
        let (began, first) = (Instant::now(), log.lines[0].minute);
        for (line, said) in log.lines.iter().enumerate() {
            if let Some(speed) = options.speed {
                let minutes = said.minute - first;
                let due = began + Duration::from_secs_f64(f64::from(minutes) * 60.0 / speed);
                tokio::time::sleep_until(due.into()).await;
            }
            if crash_at.contains(&done) {
                server.crash()?;
                replay.report.crashes += 1;
            }
            replay.say(channel, line).await?;
            done += 1;
            progress.set_position(done as u64);
        }
    }
    replay.report.seconds = start.elapsed().as_secs_f64();
    progress.set_message("everybody comes back");
    replay.gather().await?;
    progress.set_message("checking");
    replay.check(progress).await?;
    Ok(replay.finish())
}

impl<'a> Replay<'a> {
    fn prepare(
        channels: &'a [Channel],
        (server, mint): (&Server, &Mint),
        options: &'a Options,
    ) -> Result<Self, ReplayError> {
        let mut dice = StdRng::seed_from_u64(options.seed);
        let mut users: Vec<User> = Vec::new();
        let mut devices = Vec::new();
        let mut index = BTreeMap::new();
        let mut people = Vec::new();
        for (number, channel) in channels.iter().enumerate() {
            let mut here = Vec::new();
            for nick in &channel.nicks {
                let id = names::user_id(nick);
                let user = match index.get(&id) {
                    Some(user) => *user,
                    None => {
                        let user = users.len();
                        let mut own = vec![devices.len()];
                        devices.push(Device::new(user, "first".into(), channels.len()));
                        if dice.random_ratio(1, SECOND_DEVICE) {
                            own.push(devices.len());
                            devices.push(Device::new(user, "second".into(), channels.len()));
                        }
                        users.push(User {
                            token: mint.token(id.as_str())?,
                            id: id.clone(),
                            devices: own,
                            read: vec![0; channels.len()],
                            member: vec![false; channels.len()],
                            added_at: vec![None; channels.len()],
                            last_line: vec![0; channels.len()],
                        });
                        index.insert(id, user);
                        user
                    }
                };
                users[user].member[number] = true;
                here.push(user);
            }
            acts::plan(&mut dice, &mut users, number, channel, &here);
            people.push(here);
        }
        // A fresh name each time, so that one daemon can be replayed to more than once.
        let groups: Vec<String> = channels
            .iter()
            .map(|channel| {
                format!("{}.{:08x}", names::user_id(channel.name.as_bytes()), dice.random::<u32>())
            })
            .map(|name| name.chars().take(60).collect())
            .collect();
        Ok(Self {
            world: Arc::new(World::new(server.address(), &groups)),
            options,
            channels,
            groups,
            people,
            users,
            devices,
            online: Vec::new(),
            dice,
            report: Report::default(),
        })
    }

    async fn create_group(&mut self, channel: usize) -> Result<(), ReplayError> {
        let owner = self.owner(channel);
        // Half of those who will be here are here.
        let mut here = self.people[channel].clone();
        while here.len() > self.people[channel].len() / 2 {
            let index = self.dice.random_range(0..here.len());
            here.swap_remove(index);
        }
        here.push(owner);
        for user in here {
            self.come(user).await?;
        }
        let members: Vec<usize> = self.people[channel]
            .iter()
            .copied()
            .filter(|user| self.users[*user].member[channel])
            .collect();
        for user in &members {
            self.world.joins(channel, self.users[*user].id.as_str());
        }
        let mut user_ids: Vec<String> =
            members.iter().map(|user| self.users[*user].id.as_str().to_owned()).collect();
        user_ids.sort_unstable();
        user_ids.dedup();
        let create = proto::CreateGroup {
            conversation_id: self.groups[channel].clone(),
            title: format!("#{}", self.channels[channel].name),
            user_ids,
            ..proto::CreateGroup::default()
        };
        let requests = self.requests(owner)?;
        requests.create_group(create).await.map_err(|error| ReplayError::Client {
            what: format!("creating group {}", self.groups[channel]),
            error,
        })?;
        Ok(())
    }

    /// The author of a line says it.
    async fn say(&mut self, channel: usize, line: usize) -> Result<(), ReplayError> {
        self.add_late(channel, line).await?;
        let line = &self.channels[channel].lines[line];
        let author = self.people[channel][line.author];
        if !self.online.contains(&author) {
            self.come(author).await?;
            self.somebody_goes(author).await;
        }
        self.second_devices_move(channel).await?;
        let content_type = if line.action { ACTION } else { TEXT };
        let id = &self.users[author].id;
        let due = self.world.sends(channel, fingerprint_of(id.as_str(), content_type, &line.text));
        let to = Recipient::conversation(self.groups[channel].as_str());
        let start = Instant::now();
        let ack = self.requests(author)?.send(to, content_type, line.text.clone()).await;
        let ack = ack.map_err(|error| ReplayError::Client {
            what: format!("sending message {due} of {}", self.groups[channel]),
            error,
        })?;
        let _ = self.report.ack.record(start.elapsed().as_micros() as u64);
        self.report.messages += 1;
        if ack.history_seq != due {
            let text = format!("message {due} was acked as {}", ack.history_seq);
            self.world.complain(self.users[author].id.as_str(), text);
        }
        self.users[author].read[channel] = due;
        self.somebody_reads(channel).await?;
        self.somebody_changes(channel).await?;
        self.somebody_leaves(channel, due as usize - 1).await
    }

    /// Who wrote the first line made the group, and stays.
    fn owner(&self, channel: usize) -> usize {
        self.people[channel][self.channels[channel].lines[0].author]
    }

    async fn come(&mut self, user: usize) -> Result<(), ReplayError> {
        if self.online.contains(&user) {
            return Ok(());
        }
        self.online.push(user);
        let first = self.users[user].devices[0];
        self.connect(first).await
    }

    async fn connect(&mut self, device: usize) -> Result<(), ReplayError> {
        let user = &self.users[self.devices[device].user];
        let (id, token) = (user.id.clone(), user.token.clone());
        self.devices[device]
            .connect(&self.world, &id, token)
            .await
            .map_err(|error| ReplayError::Client { what: format!("connecting {id}"), error })
    }

    async fn somebody_goes(&mut self, but: usize) {
        for _ in 0..8 {
            let index = self.dice.random_range(0..self.online.len());
            let user = self.online[index];
            if user != but {
                self.online.swap_remove(index);
                let end = if self.dice.random_ratio(1, 3) { End::Sudden } else { End::Proper };
                for device in self.users[user].devices.clone() {
                    self.devices[device].disconnect(end).await;
                }
                return;
            }
        }
    }

    /// Second devices come and go while their user is online.
    async fn second_devices_move(&mut self, channel: usize) -> Result<(), ReplayError> {
        let Some(user) = self.online.choose(&mut self.dice).copied() else { return Ok(()) };
        let Some(second) = self.users[user].devices.get(1).copied() else { return Ok(()) };
        if !self.users[user].member[channel] {
            return Ok(());
        }
        if self.devices[second].requests().is_some() {
            self.devices[second].disconnect(End::Sudden).await;
            Ok(())
        } else {
            self.connect(second).await
        }
    }

    fn requests(&self, user: usize) -> Result<Requests, ReplayError> {
        let device = &self.devices[self.users[user].devices[0]];
        device.requests().cloned().ok_or_else(|| ReplayError::Client {
            what: format!("{} is not connected", self.users[user].id),
            error: ClientError::Closed,
        })
    }
}
