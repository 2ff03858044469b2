//! A data directory that nobody writes to: how large, and how soon it is open again.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

use tokio::task::LocalSet;

use super::Bench;
use crate::{
    figures::Outcome,
    load::{self, CONTENT_BYTES, Round, adopt_all},
    server::Server,
};

/// Bytes of all files below, as the disk has given them room.
fn taken(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, meta)| if meta.is_dir() { taken(&path) } else { meta.blocks() * 512 })
        .sum()
}

pub async fn rest(bench: &Bench) -> Outcome {
    const SENDERS: usize = 200;
    let messages: u64 = if bench.full { 5_000_000 } else { 1_000_000 };
    let mut outcome = Outcome::default();
    let server = bench.server();
    let dir = server.dir.clone();
    LocalSet::new()
        .run_until(async {
            bench.step(&format!("{messages} messages"));
            let empty = taken(&dir);
            let senders = adopt_all(&server.target, (0..SENDERS).map(|n| format!("s{n}"))).await;
            let to = |sender| Round::varied(&format!("r{sender}"), sender as u64);
            load::fill(senders, 32, messages / SENDERS as u64, to).await;
            outcome.add(
                "resident with the store in use",
                server.resident() as f64 / 1048576.0,
                "MiB",
            );
            bench.step("stop");
            let start = Instant::now();
            server.stop();
            outcome.add("orderly stop", start.elapsed().as_secs_f64() * 1e3, "ms");
            let stored = (messages * CONTENT_BYTES as u64) as f64;
            outcome.add("data directory when empty", empty as f64 / 1048576.0, "MiB");
            outcome.add("data directory", taken(&dir) as f64 / 1048576.0, "MiB");
            outcome.add("bytes on disk / byte of content", taken(&dir) as f64 / stored, "x");
            let server = Server::start(&dir);
            outcome.add("open again", server.opened_in.as_secs_f64(), "s");
        })
        .await;
    outcome
}
