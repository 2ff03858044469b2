#![no_main]

#[path = "../../tests/fuzz_slice/bodies.rs"]
mod bodies;
#[path = "../../tests/fuzz_slice/heap.rs"]
mod heap;
#[path = "../../tests/fuzz_slice/session.rs"]
mod session;

libfuzzer_sys::fuzz_target!(|input: &[u8]| bodies::named("decode_client").check(input));
