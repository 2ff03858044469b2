//! The end of a run: a bot that has everything is compared with what was acked.

use bytes::Bytes;

use super::Bot;
use crate::{
    client::{Client, ClientError},
    limits::LIST_PAGE_MAX,
    swarm::{check::Broken, tally::more},
};
use std::time::Duration;

/// The pause before unread counts are asked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often they are asked for.
const TRIES_MAX: usize = 100;

impl Bot {
    /// Compares, if it is time and everything has come.
    pub(super) async fn settle(&mut self, client: &Option<Client>) {
        if !self.settling || self.settled || self.live_since.is_none() || !self.flights.is_empty() {
            return;
        }
        let Some(client) = client else { return };
        let shared = std::sync::Arc::clone(&self.shared);
        if !self.mirror.is_complete(&shared.world, &shared.truth) {
            return;
        }
        self.settled = true;
        if let Err(violation) = self.mirror.compare(&shared.world, &shared.truth) {
            shared.tally.violated(violation);
        }
        // Unread is the user's: any of its devices can tell.
        if self.bot.is_multiple_of(shared.world.devices) {
            self.check_unread(client).await;
        }
        more(&shared.tally.counters.settled);
        more(&shared.tally.counters.progress);
        shared.tally.changed.notify_one();
    }

    async fn check_unread(&self, client: &Client) {
        let shared = &self.shared;
        let mut tries = 0;
        let told = loop {
            match unread(client).await {
                Ok(told) => break told,
                Err(error) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(error.retry_after().max(PAUSE)).await;
                }
                Err(error) => return self.refused(format!("no unread counts: {error}")),
            }
        };
        let known: Vec<_> = told
            .0
            .iter()
            .filter_map(|(id, unread)| Some((shared.world.talk(id)?, *unread)))
            .collect();
        if let Err(violation) = self.mirror.unread(&shared.world, &shared.truth, &known, told.1) {
            shared.tally.violated(violation);
        }
    }

    /// What is missing at the end, when there is no more time.
    pub(super) fn last_words(&self) {
        if self.settled || !self.settling {
            return;
        }
        let tally = &self.shared.tally;
        if let Err(violation) = self.mirror.compare(&self.shared.world, &self.shared.truth) {
            tally.violated(violation);
        }
        for flight in &self.flights {
            let why = "a request has had no answer to the end".to_owned();
            tally.broken(self.bot, Some(flight.talk), Broken::Refused { why });
        }
        if self.live_since.is_none() {
            self.refused("there was no session at the end".into());
        }
    }
}

/// Unread of every conversation, and the total.
async fn unread(client: &Client) -> Result<(Vec<(String, u64)>, u64), ClientError> {
    let mut told = Vec::new();
    let mut token = Bytes::new();
    loop {
        let page = client.conversations(0, token, LIST_PAGE_MAX).await?;
        told.extend(page.conversations.into_iter().map(|it| (it.conversation_id, it.unread)));
        if page.complete {
            return Ok((told, page.unread_total));
        }
        token = page.next_page_token;
    }
}
