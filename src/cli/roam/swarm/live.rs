//! How a run goes, while it goes: one line on stderr that is written over, or one every few seconds.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::swarm::record::Sample;

/// Without a terminal there is one line for so many samples.
const EVERY: u64 = 5;

/// Tells samples to people.
#[derive(Clone, Debug)]
pub(super) struct Live {
    terminal: bool,
    lines: bool,
    count: Arc<AtomicU64>,
}

impl Live {
    /// `lines`: also when stderr is no terminal.
    pub(super) fn new(lines: bool) -> Self {
        Self { terminal: std::io::stderr().is_terminal(), lines, count: Arc::default() }
    }

    pub(super) fn sample(&self, sample: &Sample) {
        let count = self.count.fetch_add(1, Relaxed) + 1;
        if self.terminal {
            eprint!("\r{}\x1b[K", line(sample));
            let _ = std::io::stderr().flush();
        } else if self.lines && count % EVERY == 1 {
            eprintln!("{}", line(sample));
        }
    }

    /// Leaves nothing behind on a terminal.
    pub(super) fn clear(&self) {
        if self.terminal && self.count.load(Relaxed) > 0 {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(sample: &Sample) -> String {
    let ms = |us: Option<u64>| us.map_or("-".into(), |us| format!("{:.1}", us as f64 / 1000.0));
    let of = |cpu: Option<u64>, bytes: Option<u64>| match (cpu, bytes) {
        (Some(cpu), Some(bytes)) => {
            // A million microseconds in a second is one processor.
            format!("{:.0}% {} MiB", cpu as f64 / 10_000.0, bytes >> 20)
        }
        _ => "-".into(),
    };
    format!(
        "{:>4} s  {}/s  acked {}/s  delivered {}/s  in flight {}  p50 {} p99 {} ms  errors {}  \
         reconnects {}  server {}  swarm {}",
        sample.at_ms / 1000,
        sample.offered,
        sample.acked,
        sample.delivered,
        sample.in_flight,
        ms(sample.send_to_ack_p50_us),
        ms(sample.send_to_ack_p99_us),
        sample.errors,
        sample.reconnects,
        of(sample.server_cpu_us, sample.server_rss_bytes),
        of(sample.swarm_cpu_us, sample.swarm_rss_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_all_that_matters() {
        let sample = Sample {
            at_ms: 5004,
            offered: 100,
            acked: 99,
            delivered: 990,
            in_flight: 1,
            send_to_ack_p50_us: Some(1500),
            server_cpu_us: Some(250_000),
            server_rss_bytes: Some(64 << 20),
            ..Sample::default()
        };
        let line = line(&sample);
        for part in ["5 s", "100/s", "acked 99/s", "p50 1.5 p99 - ms", "server 25% 64 MiB"] {
            assert!(line.contains(part), "{line}: {part}");
        }
    }
}
