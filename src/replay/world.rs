//! What is true, as far as everybody in a replay must agree: what was sent, and what was violated.

use std::{net::SocketAddr, sync::atomic::AtomicU64, sync::atomic::Ordering, time::Instant};

use hashbrown::HashMap;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::wire::proto::Message;

/// Violations kept as text; the rest is counted.
const VIOLATIONS_TOLD: usize = 20;

#[derive(Debug)]
pub(super) struct World {
    pub(super) address: SocketAddr,
    channels: HashMap<String, usize>,
    /// Per channel, what was given to the daemon to send, in order.
    sent: Vec<Mutex<Vec<Sent>>>,
    violations: Mutex<Vec<String>>,
    violation_count: AtomicU64,
    pub(super) delivery: Mutex<Histogram<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    fingerprint: u64,
    at: Instant,
}

impl World {
    pub(super) fn new(address: SocketAddr, channels: &[String]) -> Self {
        Self {
            address,
            channels: channels.iter().cloned().zip(0..).collect(),
            sent: channels.iter().map(|_| Mutex::default()).collect(),
            violations: Mutex::default(),
            violation_count: AtomicU64::new(0),
            delivery: Mutex::new(histogram()),
        }
    }

    pub(super) fn channel(&self, conversation: &str) -> Option<usize> {
        self.channels.get(conversation).copied()
    }

    /// Notes that the next message of a channel is given to the daemon; returns its place.
    pub(super) fn sends(&self, channel: usize, fingerprint: u64) -> u64 {
        let mut sent = self.sent[channel].lock();
        sent.push(Sent { fingerprint, at: Instant::now() });
        sent.len() as u64
    }

    pub(super) fn count(&self, channel: usize) -> u64 {
        self.sent[channel].lock().len() as u64
    }

    pub(super) fn expected(&self, channel: usize, seq: u64) -> Option<u64> {
        let index = usize::try_from(seq).ok()?.checked_sub(1)?;
        self.sent[channel].lock().get(index).map(|sent| sent.fingerprint)
    }

    pub(super) fn delivered(&self, channel: usize, seq: u64, now: Instant) {
        let index = (seq as usize).saturating_sub(1);
        let at = self.sent[channel].lock().get(index).map(|sent| sent.at);
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
