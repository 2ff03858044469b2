//! What the disk alone can do: overwriting 4 KiB and waiting for the disk.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

pub fn fdatasync_p50(dir: &Path) -> Duration {
    let file = File::create(dir.join("floor")).expect("a file");
    file.write_all_at(&vec![0; 1 << 20], 0).expect("room");
    file.sync_all().expect("a disk");
    let mut times: Vec<Duration> = (0..400u64)
        .map(|round| {
            let block = [round as u8; 4096];
            let start = Instant::now();
            file.write_all_at(&block, round % 256 * 4096).expect("room");
            file.sync_data().expect("a disk");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}
