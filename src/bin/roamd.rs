//! roamd.

fn main() {}
