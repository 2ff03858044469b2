//! A sample each second: what happened in it, and what the processes used.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::MissedTickBehavior};

use super::{drive::Stage, process::Usage, record::Sample};

/// Time of one sample.
const PERIOD: Duration = Duration::from_secs(1);

/// Counters at the end of the sample before.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    counts: [u64; 6],
    server: Option<(u32, Usage)>,
    swarm: Option<Usage>,
}

/// Takes a sample each second and tells it, until told to stop; then gives all of them, the last one
/// shorter.
pub(super) async fn samples(
    stage: Arc<Stage>,
    mut tell: impl FnMut(&Sample),
    mut stop: oneshot::Receiver<()>,
) -> Vec<Sample> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at((start + PERIOD).into(), PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Before::default();
    // What was used until now belongs to no sample.
    let _ = before.sample(&stage, start);
    let mut all = Vec::new();
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            _ = &mut stop => true,
        };
        let sample = before.sample(&stage, start);
        tell(&sample);
        all.push(sample);
        if last {
            return all;
        }
    }
}

impl Before {
    fn sample(&mut self, stage: &Stage, start: Instant) -> Sample {
        let tally = &stage.shared.tally;
        let counters = &tally.counters;
        let shed = counters.shed.load(Relaxed);
        let refused = counters.refused.load(Relaxed) + shed;
        let now = [
            counters.offered.load(Relaxed),
            counters.sent.load(Relaxed),
            counters.acked.load(Relaxed),
            counters.delivered.load(Relaxed),
            refused,
            counters.reconnects.load(Relaxed),
        ];
        let mut grown = now;
        grown.iter_mut().zip(self.counts).for_each(|(now, before)| *now -= before);
        self.counts = now;
        let [offered, sent, acked, delivered, errors, reconnects] = grown;
        let window = tally.take_window();
        let process = stage.process.load(Relaxed);
        let server = Usage::of(process).map(|usage| (process, usage));
        let swarm = Usage::of(std::process::id());
        let used = |now: u64, before: u64| now.saturating_sub(before);
        let sample = Sample {
            at_ms: start.elapsed().as_millis() as u64,
            offered,
            sent,
            acked,
            delivered,
            errors,
            reconnects,
            in_flight: now[0].saturating_sub(shed + now[2]),
            send_to_ack_p50_us: window.map(|(p50, _)| p50),
            send_to_ack_p99_us: window.map(|(_, p99)| p99),
            // A process that is new has used nothing before.
            server_cpu_us: server.map(|(id, usage)| match self.server {
                Some((old, before)) if old == id => used(usage.cpu_us, before.cpu_us),
                _ => usage.cpu_us,
            }),
            server_rss_bytes: server.map(|(_, usage)| usage.resident_bytes),
            swarm_cpu_us: swarm
                .zip(self.swarm)
                .map(|(now, before)| used(now.cpu_us, before.cpu_us)),
            swarm_rss_bytes: swarm.map(|usage| usage.resident_bytes),
        };
        (self.server, self.swarm) = (server, swarm);
        sample
    }
}
