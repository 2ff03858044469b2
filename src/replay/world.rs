//! What is true, as far as everybody in a replay must agree: what was sent and changed since, who may
//! see it, and what was violated.
//!
//! A change is noted before it is asked for, because a device may hear of it before whoever asked, and
//! again when it is acked: from then on whoever connects must get it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::wire::proto::{Message, MessageState};

/// Violations kept as text; the rest is counted.
const VIOLATIONS_TOLD: usize = 20;
/// The end of a span that is still open.
const OPEN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct World {
    pub(super) address: SocketAddr,
    channels: HashMap<String, usize>,
    /// Per channel, what was given to the daemon to send, in order.
    rows: Vec<Mutex<Vec<Row>>>,
    /// Per channel, what each user may see.
    sights: Vec<Mutex<HashMap<String, Sight>>>,
    violations: Mutex<Vec<String>>,
    violation_count: AtomicU64,
    pub(super) delivery: Mutex<Histogram<u64>>,
}

#[derive(Debug)]
struct Row {
    /// By revision.
    versions: Vec<u64>,
    at: Instant,
    gone: Option<Taken>,
}

/// A content that was taken away: asked for, and when that was acked.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    acked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Sight {
    /// First and last visible row of each stay.
    spans: Vec<(u64, u64)>,
    /// Once the user has left: how many versions each message had then. Later ones are not for it.
    left: Option<Vec<usize>>,
    hidden: HashMap<u64, Taken>,
}

/// What a device has, or must have, of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    /// Not even its place.
    #[default]
    Nothing,
    /// The content.
    Shown { fingerprint: u64, revision: u32 },
    /// Its place: the content is gone, for all or for this user.
    Blank,
}

impl World {
    pub(super) fn new(address: SocketAddr, channels: &[String]) -> Self {
        Self {
            address,
            channels: channels.iter().cloned().zip(0..).collect(),
            rows: channels.iter().map(|_| Mutex::default()).collect(),
            sights: channels.iter().map(|_| Mutex::default()).collect(),
            violations: Mutex::default(),
            violation_count: AtomicU64::new(0),
            delivery: Mutex::new(histogram()),
        }
    }

    pub(super) fn channel(&self, conversation: &str) -> Option<usize> {
        self.channels.get(conversation).copied()
    }

    /// The next message of a channel is given to the daemon; returns its place.
    pub(super) fn sends(&self, channel: usize, fingerprint: u64) -> u64 {
        let mut rows = self.rows[channel].lock();
        rows.push(Row { versions: vec![fingerprint], at: Instant::now(), gone: None });
        rows.len() as u64
    }

    pub(super) fn count(&self, channel: usize) -> u64 {
        self.rows[channel].lock().len() as u64
    }

    /// An edit is asked for.
    pub(super) fn edits(&self, channel: usize, seq: u64, fingerprint: u64) {
        if let Some(row) = self.rows[channel].lock().get_mut(index(seq)) {
            row.versions.push(fingerprint);
        }
    }

    /// A recall or a deletion for all is asked for; then, it is acked.
    pub(super) fn takes(&self, channel: usize, seq: u64, acked: bool) {
        if let Some(row) = self.rows[channel].lock().get_mut(index(seq)) {
            let taken = row.gone.get_or_insert_default();
            taken.acked = taken.acked.or_else(|| acked.then(Instant::now));
        }
    }

    pub(super) fn is_gone(&self, channel: usize, seq: u64) -> bool {
        self.rows[channel].lock().get(index(seq)).is_some_and(|row| row.gone.is_some())
    }

    /// A deletion for one user is asked for; then, it is acked.
    pub(super) fn hides(&self, channel: usize, user: &str, seq: u64, acked: bool) {
        let mut sights = self.sights[channel].lock();
        let taken = sights.entry(user.to_owned()).or_default().hidden.entry(seq).or_default();
        taken.acked = taken.acked.or_else(|| acked.then(Instant::now));
    }

    /// The user sees what is written from now on.
    pub(super) fn joins(&self, channel: usize, user: &str) {
        let first = self.count(channel) + 1;
        let mut sights = self.sights[channel].lock();
        let sight = sights.entry(user.to_owned()).or_default();
        sight.spans.push((first, OPEN));
        sight.left = None;
    }

    /// The user sees what was written until now.
    pub(super) fn leaves(&self, channel: usize, user: &str) {
        let versions: Vec<_> =
            self.rows[channel].lock().iter().map(|row| row.versions.len()).collect();
        let last = versions.len() as u64;
        if let Some(sight) = self.sights[channel].lock().get_mut(user)
            && let Some(span) = sight.spans.last_mut()
        {
            span.1 = last;
            sight.left = Some(versions);
        }
    }

    /// The first message after this one that the user may see.
    pub(super) fn next_visible(&self, channel: usize, user: &str, after: u64) -> Option<u64> {
        let count = self.count(channel);
        let sights = self.sights[channel].lock();
        let spans = &sights.get(user)?.spans;
        spans
            .iter()
            .map(|(first, last)| (*first.max(&(after + 1)), *last.min(&count)))
            .find_map(|(first, last)| (first <= last).then_some(first))
    }

    pub(super) fn sees(&self, channel: usize, user: &str, seq: u64) -> bool {
        let sights = self.sights[channel].lock();
        let spans = sights.get(user).map(|sight| &sight.spans);
        spans.into_iter().flatten().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// What the user must have of a message in the end.
    pub(super) fn truth(&self, channel: usize, user: &str, seq: u64) -> Kept {
        if !self.sees(channel, user, seq) {
            return Kept::Nothing;
        }
        let hidden = self.hidden(channel, user, seq).is_some();
        let left = self.versions_when_left(channel, user, seq);
        match self.rows[channel].lock().get(index(seq)) {
            Some(row) if row.gone.is_none() && !hidden => {
                let last = left.unwrap_or(row.versions.len()).saturating_sub(1);
                Kept::Shown {
                    fingerprint: row.versions.get(last).copied().unwrap_or_default(),
                    revision: last as u32,
                }
            }
            Some(_) => Kept::Blank,
            None => Kept::Nothing,
        }
    }

    /// Whether a device may end with this of a message. One whose user has left was not told of what
    /// was taken away since, and may still have it.
    pub(super) fn agrees(&self, channel: usize, user: &str, seq: u64, kept: Kept) -> bool {
        let due = self.truth(channel, user, seq);
        let has_left = self.versions_when_left(channel, user, seq).is_some();
        kept == due || (has_left && due == Kept::Blank && kept != Kept::Nothing)
    }

    fn versions_when_left(&self, channel: usize, user: &str, seq: u64) -> Option<usize> {
        self.sights[channel].lock().get(user)?.left.as_ref()?.get(index(seq)).copied()
    }

    /// Messages after `read` that count for the user.
    pub(super) fn unread(&self, channel: usize, user: &str, read: u64) -> u64 {
        let all = read + 1..=self.count(channel);
        all.filter(|seq| matches!(self.truth(channel, user, *seq), Kept::Shown { .. })).count()
            as u64
    }

    /// Whether a message is one that the user may be given on a session that began at `since`.
    pub(super) fn judge(
        &self,
        channel: usize,
        user: &str,
        message: &Message,
        since: Instant,
    ) -> Result<Kept, String> {
        let (name, seq) = (&message.conversation_id, message.history_seq);
        let hidden = self.hidden(channel, user, seq);
        if !self.sees(channel, user, seq) {
            return Err(format!("{name}: message {seq} is not this user's to see"));
        }
        let left = self.versions_when_left(channel, user, seq);
        let rows = self.rows[channel].lock();
        let Some(row) = rows.get(index(seq)) else {
            return Err(format!("{name}: message {seq} was never sent"));
        };
        if left.is_some_and(|versions| message.revision as usize >= versions) {
            return Err(format!("{name}: message {seq} with an edit made after the user left"));
        }
        if message.state() != MessageState::Normal {
            if !message.content.is_empty() {
                return Err(format!("{name}: message {seq} has content although it is gone"));
            }
            if row.gone.is_none() && hidden.is_none() {
                return Err(format!("{name}: message {seq} is gone and nobody did it"));
            }
            return Ok(Kept::Blank);
        }
        let (fingerprint, revision) = (fingerprint(message), message.revision);
        if row.versions.get(revision as usize) != Some(&fingerprint) {
            return Err(format!("{name}: message {seq} is not what was sent"));
        }
        let before = |taken: Taken| taken.acked.is_some_and(|acked| acked < since);
        if row.gone.is_some_and(before) || hidden.is_some_and(before) {
            return Err(format!("{name}: message {seq} came although it was gone before"));
        }
        Ok(Kept::Shown { fingerprint, revision })
    }

    fn hidden(&self, channel: usize, user: &str, seq: u64) -> Option<Taken> {
        self.sights[channel].lock().get(user)?.hidden.get(&seq).copied()
    }

    pub(super) fn delivered(&self, channel: usize, seq: u64, now: Instant) {
        let at = self.rows[channel].lock().get(index(seq)).map(|row| row.at);
        if let Some(at) = at {
            let _ = self.delivery.lock().record(now.duration_since(at).as_micros() as u64);
        }
    }

    pub(super) fn complain(&self, who: &str, text: String) {
        self.violation_count.fetch_add(1, Ordering::Relaxed);
        let mut violations = self.violations.lock();
        if violations.len() < VIOLATIONS_TOLD {
            violations.push(format!("{who}: {text}"));
        }
    }

    pub(super) fn violations(&self) -> (u64, Vec<String>) {
        (self.violation_count.load(Ordering::Relaxed), self.violations.lock().clone())
    }
}

fn index(seq: u64) -> usize {
    usize::try_from(seq.wrapping_sub(1)).unwrap_or(usize::MAX)
}

/// Microseconds up to an hour, three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("these bounds are valid")
}

/// Everything of a message that must arrive as it was sent.
pub(super) fn fingerprint(message: &Message) -> u64 {
    fingerprint_of(&message.sender, &message.content_type, &message.content)
}

pub(super) fn fingerprint_of(sender: &str, content_type: &str, content: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    for part in [sender.as_bytes(), content_type.as_bytes(), content] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}
