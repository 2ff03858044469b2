//! A data directory that nobody writes to: how large, how soon it is open again, and how much memory
//! it took to write it and takes to read all of it.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

use tokio::task::{JoinSet, LocalSet};

use super::{
    Bench,
    page::{self, PAGE},
};
use crate::{
    figures::Outcome,
    load::{self, CONTENT_BYTES, Round, adopt_all},
    server::Server,
};

const SENDERS: usize = 200;
/// Inbox entries that the daemon keeps for a user.
const INBOX_ENTRIES: u64 = 1000;
const MIB: f64 = 1048576.0;

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

/// Reads every history once, each in pages that come in no order, all of them side by side.
async fn read_all(server: &Server, each: u64) {
    let mut reading = JoinSet::new();
    for (index, mut link) in adopt_all(&server.target, (0..SENDERS).map(|n| format!("r{n}")))
        .await
        .into_iter()
        .enumerate()
    {
        reading.spawn_local(async move {
            let id = page::only(&mut link).await;
            let pages = each / PAGE;
            // One that shares no factor with the pages visits each of them.
            let step = (pages * 5 / 8..).find(|step| gcd(*step, pages) == 1).unwrap_or(1);
            for turn in 0..pages {
                let number = (turn * step + index as u64) % pages;
                page::fetch(&mut link, &id, (number + 1) * PAGE + 1).await;
            }
        });
    }
    reading.join_all().await;
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

pub async fn rest(bench: &Bench) -> Outcome {
    let size = if bench.full { 5_000_000 } else { 1_000_000 };
    let each = bench.messages.unwrap_or(size) / SENDERS as u64;
    let messages = each * SENDERS as u64;
    let mut outcome = Outcome::default();
    let server = bench.server();
    let dir = server.dir.clone();
    LocalSet::new()
        .run_until(async {
            bench.step(&format!("{messages} messages"));
            let empty = taken(&dir);
            let senders = adopt_all(&server.target, (0..SENDERS).map(|n| format!("s{n}"))).await;
            let to = |sender| Round::varied(&format!("r{sender}"), sender as u64);
            let start = Instant::now();
            load::fill(senders, 32, each, to).await;
            outcome.add("messages/s", messages as f64 / start.elapsed().as_secs_f64(), "");
            // History, the memory of the retry, and of each of two inboxes what is kept.
            let entries = 2 * messages + 2 * SENDERS as u64 * each.min(INBOX_ENTRIES);
            outcome.add("entries in the store", entries as f64, "");
            outcome.add("resident with the store in use", server.resident() as f64 / MIB, "MiB");
            outcome.add("in use: at most", server.resident_most() as f64 / MIB, "MiB");
            bench.step("stop");
            let start = Instant::now();
            server.stop();
            outcome.add("orderly stop", start.elapsed().as_secs_f64() * 1e3, "ms");
            let stored = (messages * CONTENT_BYTES as u64) as f64;
            outcome.add("data directory when empty", empty as f64 / MIB, "MiB");
            outcome.add("data directory", taken(&dir) as f64 / MIB, "MiB");
            outcome.add("bytes on disk / byte of content", taken(&dir) as f64 / stored, "x");
            let server = Server::start(&dir);
            outcome.add("open again", server.opened_in.as_secs_f64(), "s");
            outcome.add("resident when open again", server.resident() as f64 / MIB, "MiB");
            outcome.add("open again: at most", server.resident_most() as f64 / MIB, "MiB");
            bench.step("read all");
            let start = Instant::now();
            read_all(&server, each).await;
            let pages = messages / PAGE;
            outcome.add("pages/s", pages as f64 / start.elapsed().as_secs_f64(), "");
            outcome.add("resident with all read", server.resident() as f64 / MIB, "MiB");
            outcome.add("all read: at most", server.resident_most() as f64 / MIB, "MiB");
        })
        .await;
    outcome
}
