//! The client.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Roam {
    Replay(roamd::cli::replay::ReplayArgs),
}

fn main() -> ExitCode {
    let Roam::Replay(args) = Roam::parse();
    roamd::cli::replay::run(&args).into()
}
