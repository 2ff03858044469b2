//! The end of a replay: everybody comes back, and everything is looked at.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::{
    Replay, ReplayError, Report,
    device::{Device, End},
    world::histogram,
};
use crate::client::{Page, Requests};

impl Replay<'_> {
    /// Every device comes back and gets what it has missed.
    pub(super) async fn gather(&mut self) -> Result<(), ReplayError> {
        for device in 0..self.devices.len() {
            self.connect(device).await?;
        }
        let deadline = Instant::now() + self.options.patience;
        for device in &self.devices {
            while !self.is_complete(device) {
                if Instant::now() >= deadline {
                    let user = &self.users[device.user];
                    let behind = self.difference(device).unwrap_or_default();
                    let waited = self.options.patience.as_secs();
                    let text = format!("has not got everything within {waited} s: {behind}");
                    self.world.complain(&format!("{}/{}", user.id, device.name), text);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    fn is_complete(&self, device: &Device) -> bool {
        self.difference(device).is_none()
    }

    /// The first thing in which a device differs from what its user must have.
    fn difference(&self, device: &Device) -> Option<String> {
        let user = &self.users[device.user];
        let storage = device.storage.lock();
        for (channel, copy) in storage.channels.iter().enumerate() {
            let group = &self.groups[channel];
            for seq in 1..=self.world.count(channel) {
                let (has, due) = (copy.kept(seq), self.world.truth(channel, user.id.as_str(), seq));
                if !self.world.agrees(channel, user.id.as_str(), seq, has) {
                    return Some(format!("{group} {seq}: {has:?} instead of {due:?}"));
                }
            }
            if copy.read != user.read[channel] {
                let (has, due) = (copy.read, user.read[channel]);
                return Some(format!("{group}: read up to {has} instead of {due}"));
            }
        }
        None
    }

    pub(super) async fn check(&mut self, progress: &ProgressBar) -> Result<(), ReplayError> {
        for channel in 0..self.groups.len() {
            let reader = self.owner(channel);
            let name = self.users[reader].id.clone();
            self.check_history(channel, name.as_str(), &self.requests(reader)?).await?;
        }
        progress.set_length(self.users.len() as u64);
        for user in 0..self.users.len() {
            self.check_unread(user).await?;
            progress.set_position(user as u64);
        }
        for device in &mut self.devices {
            device.disconnect(End::Proper).await;
        }
        Ok(())
    }

    /// The history equals the log, with all that was changed since.
    async fn check_history(
        &self,
        channel: usize,
        reader: &str,
        requests: &Requests,
    ) -> Result<(), ReplayError> {
        let group = &self.groups[channel];
        let mut next = 1;
        loop {
            let page = requests.history(group.as_str(), Page::Newer(next - 1), 200).await;
            let page = page.map_err(|error| ReplayError::Client {
                what: format!("reading the history of {group} from {next}"),
                error,
            })?;
            for message in &page.messages {
                let due = self.world.truth(channel, reader, next);
                let has = self.world.judge(channel, reader, message, Instant::now());
                if message.history_seq != next || has.as_ref() != Ok(&due) {
                    let row = message.history_seq;
                    let text = format!("row {row} is {has:?}, line {next} of the log {due:?}");
                    self.world.complain(group, text);
                }
                next += 1;
            }
            if page.complete {
                break;
            }
            if page.messages.is_empty() {
                self.world.complain(group, format!("an empty page from {next} on"));
                break;
            }
        }
        if next - 1 != self.channels[channel].lines.len() as u64 {
            let lines = self.channels[channel].lines.len();
            self.world.complain(group, format!("{} rows for {lines} lines", next - 1));
        }
        Ok(())
    }

    /// Unread equals a recount: the messages after the read marker, which own messages move.
    async fn check_unread(&mut self, user: usize) -> Result<(), ReplayError> {
        let unread = self.requests_of(user).await?.unread(Vec::new(), false).await;
        let unread = unread.map_err(|error| ReplayError::Client {
            what: format!("unread of {}", self.users[user].id),
            error,
        })?;
        let mut sum = 0;
        for count in &unread.conversations {
            sum += count.unread;
        }
        if sum != unread.unread_total {
            let text = format!("unread total {} is not the sum {sum}", unread.unread_total);
            self.world.complain(self.users[user].id.as_str(), text);
        }
        for channel in 0..self.groups.len() {
            let group = &self.groups[channel];
            let told = unread.conversations.iter().find(|c| c.conversation_id == *group);
            let told = told.map_or(0, |count| count.unread);
            let own = &self.users[user];
            let expected = self.world.unread(channel, own.id.as_str(), own.read[channel]);
            if told != expected {
                let text = format!("{told} unread in {group}, a recount gives {expected}");
                self.world.complain(self.users[user].id.as_str(), text);
            }
        }
        Ok(())
    }

    async fn requests_of(&mut self, user: usize) -> Result<Requests, ReplayError> {
        self.connect(self.users[user].devices[0]).await?;
        self.requests(user)
    }

    pub(super) fn finish(mut self) -> Report {
        for device in &self.devices {
            let tally = device.storage.lock().tally;
            self.report.streamed += tally.streamed;
            self.report.fetched += tally.fetched;
            self.report.repeated += tally.repeated;
            self.report.changed += tally.changed;
            self.report.catch_ups += tally.catch_ups;
            self.report.overflows += tally.overflows;
            self.report.reconnects += tally.reconnects;
        }
        self.report.users = self.users.len() as u64;
        self.report.devices = self.devices.len() as u64;
        self.report.channels = self.groups.len() as u64;
        self.report.delivery = std::mem::replace(&mut *self.world.delivery.lock(), histogram());
        (self.report.violations, self.report.violations_told) = self.world.violations();
        self.report
    }
}
