//! The client.

use std::process::ExitCode;

fn main() -> ExitCode {
    roamd::cli::roam::run().into()
}
