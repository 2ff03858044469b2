//! A daemon that is stopped for a while and goes on: SIGSTOP and SIGCONT.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use roamd::wire::proto::{Ping, client_frame::Body};

use crate::{
    expect,
    support::{Daemon, peer, text},
    tools::{ONE_AT_A_TIME, folder, none},
    witness::{Complaints, Depth, Launch, Load, look, seed, setting},
};

/// Lets time pass: here the time itself is the fault.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Cause: after a freeze longer than three heartbeats every session was due to end as silent, and
/// did, although what its client had said lay in the socket. Fix: who wakes up late looks at that first.
#[test]
fn freeze_for_longer_than_silence_may_last_and_who_has_spoken_stays() {
    let daemon = Daemon::with(&[("limits.heartbeat_interval", "1s")]);
    let mut clients: Vec<_> =
        (0..12).map(|number| daemon.login(&format!("user-{number}"), "phone")).collect();
    daemon.signal("STOP");
    let posted: Vec<_> = clients
        .iter_mut()
        .map(|client| {
            (
                client.post(Body::Ping(Ping { client_time_ms: 1 })),
                client.post(text(peer("zoe"), 1, "x")),
            )
        })
        .collect();
    pass(Duration::from_secs(4));
    daemon.signal("CONT");
    for (client, (ping, send)) in clients.iter_mut().zip(posted) {
        expect!(Pong, client.reply(ping));
        expect!(SendAck, client.reply(send));
        expect!(Pong, client.call(Body::Ping(Ping { client_time_ms: 2 })));
    }
}

#[test]
fn freeze_under_load_loses_nothing() {
    let _turn = ONE_AT_A_TIME.lock();
    let seed = seed("FAULT_SEED");
    let freezes = setting("FAULT_FREEZES", 6);
    let again =
        format!("FAULT_SEED={seed} FAULT_FREEZES={freezes} cargo test --test faults freeze");
    println!("{again}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = folder();
    let launch = Launch::small_store(&dir.path().join("data"));
    let mut dir = Some(dir);
    let mut ledger = None;
    let mut complaints = Complaints::new();
    match look(&launch, &mut ledger, Depth::New) {
        Err(found) => complaints = found,
        Ok((mut roamd, address)) => {
            let ledger = ledger.as_mut().unwrap();
            let load = Load::start(ledger, address, rng.random());
            for _ in 0..freezes {
                load.work(rng.random_range(1..100), Duration::from_secs(2));
                roamd.signal("STOP");
                pass(Duration::from_millis(rng.random_range(1..300)));
                roamd.signal("CONT");
            }
            roamd.signal("STOP");
            roamd.kill();
            complaints.extend(ledger.take(load.end()));
        }
    }
    none(&complaints, "frozen", &again, &mut dir);
    let complaints = look(&launch, &mut ledger, Depth::Whole).err().unwrap_or_default();
    none(&complaints, "after the last freeze", &again, &mut dir);
}
