//! The daemon and the tools for its data directory.

use std::process::ExitCode;

fn main() -> ExitCode {
    roamd::cli::server::run().into()
}
