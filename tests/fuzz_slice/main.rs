//! A slice of the fuzzing of `fuzz/`, on stable: the same bodies, on the corpus that is in the tree
//! and on inputs grown from it by chance.
//!
//! `FUZZ_ROUNDS=1000000 cargo test --test fuzz_slice` for more inputs of each body; `FUZZ_SEED=7` for
//! others. A failure prints the input; put it into `fuzz/corpus/<body>/` when it is mended.
//! `FUZZ_CORPUS=write cargo test --test fuzz_slice corpus` writes what the corpus begins with: the
//! examples of `docs/protocol.md`, what `tests/hostile` sends, one of each stored record.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod corpus;
mod heap;
#[path = "../hostile/mod.rs"]
#[allow(dead_code, reason = "of the hostile cases only the bytes are of use here")]
mod hostile;
mod session;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{Rng, SeedableRng, rngs::StdRng};

use bodies::{ALL, Body};

const ROUNDS: u64 = 60_000;
/// Longest input that is grown.
const BYTES_MAX: usize = 4096;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs one input; says which it was when it fails.
fn run(body: &Body, input: &[u8], how: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| body.check(input)));
    assert!(outcome.is_ok(), "{}, {how}: {}", body.name, input.escape_ascii());
}

/// What is known to be dear, or to have broken something once.
#[test]
fn the_corpus_breaks_nothing() {
    for body in &ALL {
        let inputs = corpus::of(body.name);
        assert!(inputs.len() >= 5, "{} has {} inputs", body.name, inputs.len());
        for input in inputs {
            run(body, &input, "corpus");
        }
    }
}

#[test]
fn what_chance_makes_of_the_corpus_breaks_nothing() {
    let (rounds, seed) = (number("FUZZ_ROUNDS", ROUNDS), number("FUZZ_SEED", 1));
    for body in &ALL {
        let mut pool = corpus::of(body.name);
        let mut dice = StdRng::seed_from_u64(seed);
        for round in 0..rounds {
            let input = grow(&mut dice, &pool);
            run(body, &input, &format!("seed {seed}, round {round}"));
            if dice.random_ratio(1, 50) {
                pool.push(input);
            }
        }
    }
    println!("{} bodies, {rounds} inputs each, seed {seed}: nothing broke", ALL.len());
}

/// One of the pool with a few changes.
fn grow(dice: &mut StdRng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pool[dice.random_range(0..pool.len())].clone();
    for _ in 0..dice.random_range(1..6) {
        let at = dice.random_range(0..=input.len());
        match dice.random_range(0..7) {
            0 => input.insert(at, dice.random()),
            1 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
            2 if at < input.len() => input[at] = dice.random(),
            3 => input.truncate(at),
            4 => {
                let other = &pool[dice.random_range(0..pool.len())];
                let from = dice.random_range(0..=other.len());
                let to = dice.random_range(from..=other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            5 => {
                let piece = input[at..].iter().take(16).copied().collect::<Vec<_>>();
                let times = dice.random_range(1..64);
                input.splice(at..at, piece.repeat(times));
            }
            _ => {
                let extreme: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
                input.splice(at..at, extreme);
            }
        }
    }
    input.truncate(BYTES_MAX);
    input
}

/// The tester is not blind: a body that takes too much memory is told of.
#[test]
fn memory_beyond_the_bound_is_seen() {
    let body = Body {
        name: "greedy",
        run: |input| drop(vec![0_u8; 100 * input.len()]),
        heap_constant: 0,
        heap_factor: 64,
    };
    let greedy = AssertUnwindSafe(|| body.check(&[1; 1000]));
    assert!(catch_unwind(greedy).is_err());
}
