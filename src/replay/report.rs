//! What a replay has seen.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::json;

use super::world::histogram;

/// The figures of a replay, and what was violated.
#[derive(Clone, Debug)]
pub struct Report {
    /// Logs.
    pub channels: u64,
    /// Nicks.
    pub users: u64,
    /// Their devices.
    pub devices: u64,
    /// Messages sent and acked.
    pub messages: u64,
    /// Entries that came by the stream, to all devices.
    pub streamed: u64,
    /// Messages fetched from histories after an overflow or by new devices.
    pub fetched: u64,
    /// Messages that a snapshot and then the stream brought.
    pub repeated: u64,
    /// Recalls, edits and deletions that reached devices, by the stream or the mutation feed.
    pub changed: u64,
    /// Messages recalled by their authors.
    pub recalled: u64,
    /// Edits by authors.
    pub edited: u64,
    /// Messages deleted for all.
    pub deleted: u64,
    /// Messages deleted for one user.
    pub hidden: u64,
    /// Read markers moved, from either device.
    pub marked: u64,
    /// Members that came late.
    pub joined: u64,
    /// Members that left.
    pub left: u64,
    /// How often a device was told CaughtUp.
    pub catch_ups: u64,
    /// How often a device had to go back to the message index.
    pub overflows: u64,
    /// Connections lost by surprise and made again.
    pub reconnects: u64,
    /// How often the daemon was killed.
    pub crashes: u64,
    /// From first to last message.
    pub seconds: f64,
    /// Microseconds from send to ack.
    pub ack: Histogram<u64>,
    /// Microseconds from send to a live device.
    pub delivery: Histogram<u64>,
    /// Broken guarantees.
    pub violations: u64,
    /// The first of them, in words.
    pub violations_told: Vec<String>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            channels: 0,
            users: 0,
            devices: 0,
            messages: 0,
            streamed: 0,
            fetched: 0,
            repeated: 0,
            changed: 0,
            recalled: 0,
            edited: 0,
            deleted: 0,
            hidden: 0,
            marked: 0,
            joined: 0,
            left: 0,
            catch_ups: 0,
            overflows: 0,
            reconnects: 0,
            crashes: 0,
            seconds: 0.0,
            ack: histogram(),
            delivery: histogram(),
            violations: 0,
            violations_told: Vec::new(),
        }
    }
}

impl Report {
    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let times = |histogram: &Histogram<u64>| {
            json!({
                "count": histogram.len(),
                "p50_us": histogram.value_at_quantile(0.5),
                "p99_us": histogram.value_at_quantile(0.99),
                "max_us": histogram.max(),
            })
        };
        json!({
            "channels": self.channels,
            "users": self.users,
            "devices": self.devices,
            "messages": self.messages,
            "streamed_entries": self.streamed,
            "fetched_messages": self.fetched,
            "repeated_messages": self.repeated,
            "changes_delivered": self.changed,
            "recalled": self.recalled,
            "edited": self.edited,
            "deleted": self.deleted,
            "hidden": self.hidden,
            "marked_read": self.marked,
            "joined_late": self.joined,
            "left": self.left,
            "catch_ups": self.catch_ups,
            "overflow_fallbacks": self.overflows,
            "reconnects": self.reconnects,
            "crashes": self.crashes,
            "seconds": self.seconds,
            "send_to_ack": times(&self.ack),
            "send_to_delivery": times(&self.delivery),
            "violations": self.violations,
            "violations_told": self.violations_told,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<22}{value:>14}");
        row("channels", self.channels.to_string())?;
        row("users", self.users.to_string())?;
        row("devices", self.devices.to_string())?;
        row("messages", self.messages.to_string())?;
        row("stream deliveries", self.streamed.to_string())?;
        row("fetched from history", self.fetched.to_string())?;
        row("recalled / edited", format!("{} / {}", self.recalled, self.edited))?;
        row("deleted / hidden", format!("{} / {}", self.deleted, self.hidden))?;
        row("changes delivered", self.changed.to_string())?;
        row("joined late / left", format!("{} / {}", self.joined, self.left))?;
        row("marked as read", self.marked.to_string())?;
        row("catch-ups", self.catch_ups.to_string())?;
        row("overflow fallbacks", self.overflows.to_string())?;
        row("reconnects", self.reconnects.to_string())?;
        row("daemon killed", self.crashes.to_string())?;
        let rate = self.messages as f64 / self.seconds.max(1e-9);
        row("messages per second", format!("{rate:.0}"))?;
        let times = |histogram: &Histogram<u64>| {
            let millis = |q| histogram.value_at_quantile(q) as f64 / 1e3;
            format!("{:.2} / {:.2} ms", millis(0.5), millis(0.99))
        };
        row("send-to-ack p50/p99", times(&self.ack))?;
        row("to delivery p50/p99", times(&self.delivery))?;
        row("violations", self.violations.to_string())?;
        for text in &self.violations_told {
            writeln!(f, "  {text}")?;
        }
        let more = self.violations.saturating_sub(self.violations_told.len() as u64);
        if more > 0 {
            writeln!(f, "  and {more} more")?;
        }
        Ok(())
    }
}
