//! The simulation is not blind: bugs that are planted in the code are found by it. The same seeds pass
//! without a bug in the other test. (`tests/planted` has each bug found by name, by the checker made
//! for it; this is about what the simulated clients, network and disk see.)

use roamd::planted::{self, Bug};

use crate::{number, seeds, shrink::kind};

/// Seeds tried for each bug in a slice, in which only ...
const SEEDS: u64 = 30;
/// ... so many have to be found.
const FOUND: usize = 18;
/// What no simulated run comes by: the daemon's own threads, the push hook.
const ELSEWHERE: &[Bug] = &[Bug::AckBeforeSync, Bug::PushJobLost];

#[test]
fn planted_bugs_are_found() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    roamd::store::fsync::set_enabled(false);
    let tried = number("SIM_PLANTED").unwrap_or(SEEDS);
    let (mut lines, mut missed) = (Vec::new(), Vec::new());
    for bug in Bug::ALL.iter().filter(|bug| !ELSEWHERE.contains(bug)) {
        planted::set(Some(*bug));
        let (_, found) = seeds(1..tried + 1);
        planted::set(None);
        match found {
            Some((seed, run)) => {
                let text = run.result.err().unwrap_or_default();
                lines.push(format!("{:<24} | seed {seed:>3} | {}", bug.name(), kind(&text)));
            }
            None => missed.push(bug.name()),
        }
    }
    println!("{}\nnot found in {tried} seeds: {missed:?}", lines.join("\n"));
    let enough = if tried > SEEDS { missed.is_empty() } else { lines.len() >= FOUND };
    assert!(enough, "{} found, missed {missed:?}", lines.len());
}
