//! SIGTERM under load, again and again: every device is told, nothing acked is lost, status 0 within
//! the ten seconds that a drain may take.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    tools::{ONE_AT_A_TIME, folder, none},
    witness::{Complaints, Depth, Launch, Load, look, seed, setting},
};

const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
const LOAD_TIME_MAX: Duration = Duration::from_secs(4);

#[test]
fn drain_under_load_again_and_again() {
    let _turn = ONE_AT_A_TIME.lock();
    let seed = seed("FAULT_SEED");
    let rounds = setting("FAULT_DRAINS", 4);
    let again = format!("FAULT_SEED={seed} FAULT_DRAINS={rounds} cargo test --test faults drain");
    println!("{again}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = folder();
    let launch = Launch::small_store(&dir.path().join("data"));
    let mut dir = Some(dir);
    let mut ledger = None;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let mut complaints = Complaints::new();
        match look(&launch, &mut ledger, Depth::New) {
            Err(found) => complaints = found,
            Ok((mut roamd, address)) => {
                let ledger = ledger.as_mut().unwrap();
                let load = Load::start(ledger, address, rng.random());
                if !load.work(rng.random_range(1..1000), LOAD_TIME_MAX) {
                    complaints.push(roamd.obituary("the load ended before its time"));
                }
                let told = Instant::now();
                roamd.terminate();
                match roamd.reap_in_time() {
                    Ok(status) if status.success() => {}
                    Ok(status) => {
                        complaints.push(format!("ended with {status}:{}", roamd.last_words()));
                    }
                    Err(text) => complaints.push(text),
                }
                slowest = slowest.max(told.elapsed());
                let played = load.end();
                let untold = played.iter().filter(|device| !device.drained).count();
                if untold > 0 {
                    complaints.push(format!("{untold} devices were not told GoAway"));
                }
                complaints.extend(ledger.take(played));
            }
        }
        none(&complaints, &format!("drain {round}"), &again, &mut dir);
        assert!(slowest < DRAIN_TIME_MAX, "a drain took {slowest:?}");
    }
    let complaints = look(&launch, &mut ledger, Depth::Whole).err().unwrap_or_default();
    none(&complaints, "at the end", &again, &mut dir);
    println!("{rounds} drains, the slowest {slowest:?}: {:?}", ledger.unwrap().figures);
}
