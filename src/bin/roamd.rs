//! The daemon and the tools for its data directory.

use std::process::ExitCode;

/// Messages are many small values that one thread makes and another drops.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    roamd::cli::server::run().into()
}
