//! Counts what an operation takes: processor time and allocations of this thread, and its floor.

// Unsafe is needed to be an allocator, which hands every call on to the system's, and to read the
// clock of a thread.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize) {
    // A thread that ends has none of these any more.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = BYTES.try_with(|all| all.set(all.get() + bytes as u64));
}

// SAFETY: the system's allocator does the work; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Processor time of this thread, in nanoseconds.
fn thread_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives until it returns.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "a thread has a clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one operation took: the median of the rounds.
pub struct Cost {
    pub nanos: f64,
    pub allocations: f64,
    pub bytes: f64,
}

const ROUNDS: usize = 7;

/// `round` does so many operations each time it is called.
pub fn cost(operations: u64, mut round: impl FnMut()) -> Cost {
    // Once to warm up.
    round();
    let mut costs: Vec<Cost> = (0..ROUNDS)
        .map(|_| {
            let before = (thread_nanos(), CALLS.get(), BYTES.get());
            round();
            let each = |now: u64, then: u64| (now - then) as f64 / operations as f64;
            Cost {
                nanos: each(thread_nanos(), before.0),
                allocations: each(CALLS.get(), before.1),
                bytes: each(BYTES.get(), before.2),
            }
        })
        .collect();
    costs.sort_by(|a, b| a.nanos.total_cmp(&b.nanos));
    costs.swap_remove(ROUNDS / 2)
}

/// What memcpy takes for so many bytes, in nanoseconds.
pub fn memcpy(bytes: usize) -> f64 {
    let from = vec![7u8; bytes.max(1)];
    let mut to = vec![0u8; bytes.max(1)];
    let times = (64 << 20) / bytes.max(1) as u64;
    let copies = || {
        for _ in 0..times {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        }
    };
    cost(times, copies).nanos
}

pub fn head(name: &str) {
    println!(
        "{name:<44} {:>10} {:>8} {:>10} {:>10} {:>10} {:>8}",
        "cpu ns", "allocs", "alloc B", "made B", "floor ns", "x floor"
    );
}

/// One line: the cost, the bytes that were made, and the floor in nanoseconds.
pub fn line(name: &str, cost: &Cost, made: usize, floor: f64) {
    let Cost { nanos, allocations, bytes } = cost;
    let times = nanos / floor;
    println!(
        "  {name:<42} {nanos:>10.0} {allocations:>8.1} {bytes:>10.0} {made:>10} {floor:>10.1} {times:>8.1}"
    );
}
