//! What the library costs, without sockets, threads and processes: `cargo bench --bench engine [-- NAME...]`.
//!
//! Engine and store on a temporary directory, and the codec; one thread. Processor time of this thread
//! and its allocations are counted for one operation, beside a floor of the same run: memcpy of the
//! bytes that the operation makes, or fdatasync of the bytes that it writes.

#![allow(
    missing_docs,
    clippy::panic,
    reason = "a program of its own, which stops at the first surprise"
)]

mod catch_up;
mod codec;
mod commit;
mod fan_out;
mod meter;
mod page;
mod unread;
mod world;

type Bench = (&'static str, fn());

const ALL: &[Bench] = &[
    ("codec", codec::run),
    ("commit", commit::run),
    ("catch_up", catch_up::run),
    ("page", page::run),
    ("fan_out", fan_out::run),
    ("unread", unread::run),
];

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, run) in ALL {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            meter::head(name);
            run();
        }
    }
}
