//! roam.

fn main() {}
