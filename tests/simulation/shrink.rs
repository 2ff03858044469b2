//! Makes the plan of a failure small: steps are left out, many at a time and then few, as long as what
//! is found stays the same kind of thing (delta debugging).

use std::time::{Duration, Instant};

use crate::{acts::Step, driver::Found};

/// Shrinking ends then, with what it has.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What kind of thing was found: its words without numbers, up to the first detail.
pub fn kind(found: &str) -> String {
    let line = found.lines().next().unwrap_or("");
    let text: String = line.chars().filter(|c| !c.is_ascii_digit()).take(40).collect();
    match found.split_once(':') {
        Some((name, _)) if name.len() <= 3 => name.to_owned(),
        _ => text,
    }
}

/// The steps that are needed, by their places in the plan.
pub fn shrink(
    plan: &[Step],
    found: &str,
    run: impl Fn(&[usize]) -> Result<(), Found>,
) -> (Vec<usize>, Found) {
    let wanted = kind(found);
    let began = Instant::now();
    let mut kept: Vec<usize> = (0..plan.len()).collect();
    let mut found = found.to_owned();
    let mut piece = (kept.len() / 2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < kept.len() {
            if began.elapsed() > TIME_MAX {
                return (kept, found);
            }
            let mut fewer = kept.clone();
            fewer.drain(at..(at + piece).min(kept.len()));
            match run(&fewer) {
                Err(again) if kind(&again) == wanted => {
                    (kept, found, smaller) = (fewer, again, true);
                }
                _ => at += piece,
            }
        }
        if piece == 1 && !smaller {
            return (kept, found);
        }
        piece = (piece / 2).max(1);
    }
}
