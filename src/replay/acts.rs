//! What people do beside writing: read, recall, edit, delete, come late, leave.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::{Replay, ReplayError, TEXT, User, log::Channel, world::fingerprint_of};
use crate::{
    client::ClientError,
    wire::proto::{self, client_frame::Body, server_frame::Body as Said},
};

/// One nick in so many is added late.
const LATE: u32 = 6;
/// One message in so many is followed by a change of some recent message.
const CHANGES: u32 = 8;
/// Changes concern so many of the latest messages.
const RECENT: u64 = 60;
/// One message in so many is followed by somebody leaving who has nothing more to say.
const LEAVES: u32 = 20;

/// Draws who comes late to a channel.
pub(super) fn plan(
    dice: &mut StdRng,
    users: &mut [User],
    number: usize,
    channel: &Channel,
    people: &[usize],
) {
    let owner = people[channel.lines[0].author];
    for (nick, user) in people.iter().enumerate() {
        let mut own = channel.lines.iter().enumerate().filter(|(_, line)| line.author == nick);
        let first = own.next().map(|(line, _)| line);
        let last = own.next_back().map(|(line, _)| line).or(first);
        let user_state = &mut users[*user];
        user_state.last_line[number] = user_state.last_line[number].max(last.unwrap_or(0));
        if *user != owner && user_state.added_at[number].is_none() && dice.random_ratio(1, LATE) {
            let anywhere = dice.random_range(0..channel.lines.len());
            user_state.added_at[number] = Some(first.unwrap_or(anywhere));
            user_state.member[number] = false;
        }
    }
}

impl Replay<'_> {
    /// The owner adds those whose time has come.
    pub(super) async fn add_late(
        &mut self,
        channel: usize,
        line: usize,
    ) -> Result<(), ReplayError> {
        let mut due: Vec<usize> = self.people[channel]
            .iter()
            .copied()
            .filter(|user| self.users[*user].added_at[channel] == Some(line))
            .collect();
        due.dedup();
        if due.is_empty() {
            return Ok(());
        }
        let owner = self.owner(channel);
        self.come(owner).await?;
        for user in &due {
            let id = self.users[*user].id.clone();
            self.world.joins(channel, id.as_str());
            let read = self.world.count(channel);
            let user = &mut self.users[*user];
            user.read[channel] = read;
            user.member[channel] = true;
            user.added_at[channel] = None;
            // What it had not seen is not unread, on any device.
            for device in user.devices.clone() {
                self.devices[device].storage.lock().channels[channel].read = read;
            }
            self.report.joined += 1;
        }
        let add = proto::AddMembers {
            conversation_id: self.groups[channel].clone(),
            user_ids: due.iter().map(|user| self.users[*user].id.as_str().to_owned()).collect(),
        };
        self.insist(owner, 0, "adding members", Body::AddMembers(add)).await?;
        Ok(())
    }

    /// Now and then somebody who has nothing more to say leaves.
    pub(super) async fn somebody_leaves(
        &mut self,
        channel: usize,
        line: usize,
    ) -> Result<(), ReplayError> {
        if !self.dice.random_ratio(1, LEAVES) {
            return Ok(());
        }
        let Some(user) = self.somebody_here(channel) else { return Ok(()) };
        if user == self.owner(channel) || self.users[user].last_line[channel] > line {
            return Ok(());
        }
        let id = self.users[user].id.clone();
        self.world.leaves(channel, id.as_str());
        self.users[user].member[channel] = false;
        self.report.left += 1;
        let leave = proto::LeaveGroup { conversation_id: self.groups[channel].clone() };
        self.insist(user, 0, "leaving", Body::LeaveGroup(leave)).await?;
        Ok(())
    }

    /// Now and then somebody who is here marks as read what one of its devices has.
    pub(super) async fn somebody_reads(&mut self, channel: usize) -> Result<(), ReplayError> {
        if !self.dice.random_ratio(1, 4) {
            return Ok(());
        }
        let Some(user) = self.somebody_here(channel) else { return Ok(()) };
        let which = self.dice.random_range(0..self.users[user].devices.len());
        let device = self.users[user].devices[which];
        let seq = self.devices[device].storage.lock().channels[channel].last;
        if seq == 0 || self.devices[device].requests().is_none() {
            return Ok(());
        }
        let mark = proto::MarkRead {
            conversation_id: self.groups[channel].clone(),
            read_seq: seq,
            peer_visible: false,
        };
        let read = self.users[user].read[channel].max(seq);
        self.users[user].read[channel] = read;
        self.report.marked += 1;
        let said = self.insist(user, which, "marking as read", Body::MarkRead(mark)).await?;
        match said {
            Said::MarkReadReply(reply) if reply.read_seq == read => {}
            other => {
                let text = format!("{other:?} instead of a read marker at {read}");
                self.world.complain(self.users[user].id.as_str(), text);
            }
        }
        Ok(())
    }

    /// Now and then something recent is recalled, edited or deleted.
    pub(super) async fn somebody_changes(&mut self, channel: usize) -> Result<(), ReplayError> {
        if !self.dice.random_ratio(1, CHANGES) {
            return Ok(());
        }
        let count = self.world.count(channel);
        let seq = self.dice.random_range(count.saturating_sub(RECENT) + 1..=count);
        let author = self.people[channel][self.channels[channel].lines[seq as usize - 1].author];
        let can_change = self.online.contains(&author)
            && self.users[author].member[channel]
            && !self.world.is_gone(channel, seq);
        let (conversation_id, history_seq) = (self.groups[channel].clone(), seq);
        match self.dice.random_range(0..4) {
            0 if can_change => {
                self.world.takes(channel, seq, false);
                let recall = proto::Recall { conversation_id, history_seq };
                self.insist(author, 0, "recalling", Body::Recall(recall)).await?;
                self.world.takes(channel, seq, true);
                self.report.recalled += 1;
            }
            1 if can_change => {
                let content = format!("edited {}", self.dice.random::<u32>());
                let id = self.users[author].id.clone();
                self.world.edits(
                    channel,
                    seq,
                    fingerprint_of(id.as_str(), TEXT, content.as_bytes()),
                );
                let edit = proto::Edit {
                    conversation_id,
                    history_seq,
                    content_type: TEXT.into(),
                    content: content.into(),
                    base_revision: None,
                };
                self.insist(author, 0, "editing", Body::Edit(edit)).await?;
                self.report.edited += 1;
            }
            2 => {
                let owner = self.owner(channel);
                self.come(owner).await?;
                self.world.takes(channel, seq, false);
                let delete = proto::DeleteForAll { conversation_id, history_seq };
                self.insist(owner, 0, "deleting for all", Body::DeleteForAll(delete)).await?;
                self.world.takes(channel, seq, true);
                self.report.deleted += 1;
            }
            3 => {
                let Some(user) = self.somebody_here(channel) else { return Ok(()) };
                let id = self.users[user].id.clone();
                if !self.world.sees(channel, id.as_str(), seq) {
                    return Ok(());
                }
                self.world.hides(channel, id.as_str(), seq, false);
                let delete = proto::DeleteForMe { conversation_id, history_seqs: vec![seq] };
                self.insist(user, 0, "deleting for me", Body::DeleteForMe(delete)).await?;
                self.world.hides(channel, id.as_str(), seq, true);
                self.report.hidden += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// A member of the channel that is online.
    fn somebody_here(&mut self, channel: usize) -> Option<usize> {
        let user = self.online.choose(&mut self.dice).copied()?;
        self.users[user].member[channel].then_some(user)
    }

    /// Asks on one of a user's devices until there is an answer: all that is asked here may be asked
    /// twice.
    async fn insist(
        &self,
        user: usize,
        which: usize,
        what: &str,
        body: Body,
    ) -> Result<Said, ReplayError> {
        let device = &self.devices[self.users[user].devices[which]];
        let mut last = ClientError::Closed;
        // The client waits for a connection by itself; a killed daemon leaves a few outcomes unknown.
        for _ in 0..20 {
            let Some(requests) = device.requests() else { break };
            match requests.request(body.clone()).await {
                Ok(said) => return Ok(said),
                Err(error @ ClientError::Refused(_)) => {
                    last = error;
                    break;
                }
                Err(error) => last = error,
            }
        }
        let what = format!("{what} by {}", self.users[user].id);
        Err(ReplayError::Client { what, error: last })
    }
}
