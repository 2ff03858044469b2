//! What waits for one connection: answers, and signs that something has happened.
//!
//! Bounded by construction: answers by the session's outstanding requests, signs by being flags.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{engine::Answer, seq::InboxSeq};

/// What has come in since the connection last looked.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) head: Option<InboxSeq>,
    pub(super) displaced: bool,
    pub(super) drain: bool,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

impl Mailbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn answer(&self, number: u64, answer: Answer) {
        self.put(|mail| mail.answers.push((number, answer)));
    }

    pub(super) fn grow(&self, head: InboxSeq) {
        self.put(|mail| mail.head = mail.head.max(Some(head)));
    }

    pub(super) fn displace(&self) {
        self.put(|mail| mail.displaced = true);
    }

    pub(super) fn drain(&self) {
        self.put(|mail| mail.drain = true);
    }

    fn put(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock());
        self.arrived.notify_one();
    }

    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut self.mail.lock())
    }
}
