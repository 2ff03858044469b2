//! A user's devices: the list, kicking, revoking, and how many may be there at once.

use std::time::{Duration, SystemTime};

use roamd::{
    auth::Scope,
    refusal::ErrorCode,
    wire::proto::{
        Device, GoAwayReason, Hello, KickDevice, ListDevices, PresenceState, RevokeDevice,
        SetPresence, client_frame::Body,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, daemon::until, peer},
};

#[track_caller]
fn devices(client: &mut Client) -> Vec<Device> {
    expect!(DevicePage, client.call(Body::ListDevices(ListDevices {}))).devices
}

#[track_caller]
fn found(client: &mut Client, device: &str) -> Option<Device> {
    devices(client).into_iter().find(|found| found.device_id == device)
}

fn kick(device: &str) -> Body {
    Body::KickDevice(KickDevice { device_id: device.into() })
}

fn revoke(device: &str) -> Body {
    Body::RevokeDevice(RevokeDevice { device_id: device.into() })
}

/// A Hello with a token made so long after now.
fn later(daemon: &Daemon, user: &str, device: &str, after: Duration) -> Hello {
    let (ttl, now) = (Duration::from_secs(3600), SystemTime::now() + after);
    let token = daemon.mint(user, None, &[Scope::Client], ttl, now);
    Hello { token, ..daemon.greeting(user, device) }
}

#[test]
fn the_list_tells_what_is_known_of_each() {
    let mut daemon = Daemon::start();
    let mut laptop = daemon.login("alice", "laptop");
    let mut phone = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    bob.send(peer("alice"), 1, "hi");
    phone.synced(1);
    phone.ack(1);
    let body = Body::SetPresence(SetPresence { state: PresenceState::Background.into() });
    expect!(Done, phone.call(body));
    let list = devices(&mut laptop);
    let names: Vec<_> = list.iter().map(|device| &*device.device_id).collect();
    assert_eq!(names, ["phone", "laptop"], "in the order of their keys");
    let states: Vec<_> = list.iter().map(Device::state).collect();
    assert_eq!(states, [PresenceState::Background, PresenceState::Online]);
    assert_eq!(list[0].cursor, 1);
    assert!(list.iter().all(|device| device.platform == "test" && !device.push_registered));
    assert!(list.iter().all(|device| device.first_seen_ms > 0));

    // The end of a session is when the device was last seen, and that stays.
    let before = list[0].last_seen_ms;
    until("the clock to move on", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        (now as u64 > before).then_some(())
    });
    phone.bye();
    let offline = until("the end of the session", || {
        found(&mut laptop, "phone").filter(|phone| phone.state() == PresenceState::Offline)
    });
    assert!(offline.last_seen_ms > before, "{offline:?}");
    daemon.restart();
    let mut laptop = daemon.login("alice", "laptop");
    assert_eq!(found(&mut laptop, "phone"), Some(offline));
    // Nobody else's are in it.
    assert_eq!(devices(&mut laptop).len(), 2);
}

#[test]
fn a_kicked_device_goes_and_may_come_back() {
    let daemon = Daemon::start();
    let mut laptop = daemon.login("alice", "laptop");
    let mut phone = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "tablet");
    // Missing and somebody else's are the same.
    laptop.refused(ErrorCode::NotFound, kick("nowhere"));
    laptop.refused(ErrorCode::NotFound, kick("tablet"));
    expect!(Done, laptop.call(kick("phone")));
    phone.end().gone(GoAwayReason::Kicked);
    let state = found(&mut laptop, "phone").unwrap().state();
    assert_eq!(state, PresenceState::Offline, "gone as soon as that is said");
    // Again: it is known and has no session.
    expect!(Done, laptop.call(kick("phone")));
    let mut phone = daemon.resume("alice", "phone", phone.position());
    phone.settle();
    bob.settle();
    // A device may do it to itself.
    expect!(Done, phone.call(kick("phone")));
    phone.end().gone(GoAwayReason::Kicked);
}

#[test]
fn a_revoked_device_needs_a_token_of_later() {
    let mut daemon = Daemon::start();
    let mut laptop = daemon.login("alice", "laptop");
    let token = daemon.token("alice");
    let mut phone = daemon.login("alice", "phone");
    let old = Hello { token: token.clone(), ..daemon.greeting("alice", "phone") };
    laptop.refused(ErrorCode::NotFound, revoke("nowhere"));
    expect!(Done, laptop.call(revoke("phone")));
    phone.end().gone(GoAwayReason::Revoked);
    assert_eq!(found(&mut laptop, "phone"), None);

    let refused = |daemon: &Daemon, hello: Hello| {
        let mut client = daemon.connect();
        client.post(Body::Hello(hello));
        client.end().fatally(ErrorCode::Unauthenticated).clone()
    };
    let revoked = refused(&daemon, old.clone());
    // It is told no more than anybody whose token is not good.
    let forged = refused(&daemon, Hello { token: "x.y.z".into(), ..old.clone() });
    assert_eq!(revoked.detail, forged.detail);
    // The same token still opens the door to another device.
    daemon.open(Hello { token, ..daemon.greeting("alice", "tablet") });

    daemon.crash();
    refused(&daemon, old.clone());
    let mut phone = daemon.open(later(&daemon, "alice", "phone", Duration::from_secs(2)));
    assert_eq!(phone.welcome.device_cursor, 0, "a new device");
    let too_long = phone.too_long();
    phone.adopt(&too_long);
    refused(&daemon, old);

    // Again, by itself this time; and a third time, without any session.
    expect!(Done, phone.call(revoke("phone")));
    phone.end().gone(GoAwayReason::Revoked);
    let mut laptop = daemon.login("alice", "laptop");
    expect!(Done, laptop.call(revoke("phone")));
}

#[test]
fn a_revoked_device_leaves_room_for_another() {
    let daemon = Daemon::with(&[("limits.devices_per_user", "2")]);
    let mut laptop = daemon.login("alice", "laptop");
    daemon.login("alice", "phone");
    let mut third = daemon.connect();
    third.post(Body::Hello(daemon.greeting("alice", "tablet")));
    third.end().fatally(ErrorCode::TooManyDevices);
    expect!(Done, laptop.call(revoke("phone")));
    daemon.login("alice", "tablet");
}

/// What a revoked device still had under way is not done.
#[test]
fn a_session_that_is_over_does_nothing_more() {
    let daemon = Daemon::start();
    let mut phone = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    // In one piece: the revocation and, right behind it, a send.
    let revoked = phone.post(revoke("phone"));
    let sent = phone.post(crate::support::text(peer("bob"), 1, "too late"));
    expect!(Done, phone.reply(revoked));
    match phone.reply_or_end(sent) {
        None => {}
        Some(roamd::wire::proto::server_frame::Body::Error(error)) => {
            assert_eq!(error.code, ErrorCode::WrongState.number());
        }
        Some(other) => panic!("{other:?}"),
    }
    phone.end().gone(GoAwayReason::Revoked);
    bob.settle();
    assert_eq!(bob.seq, 0);
}

#[test]
fn one_device_at_a_time() {
    let daemon = Daemon::with(&[("limits.multi_login", "one")]);
    let mut phone = daemon.login("alice", "phone");
    let mut bob = daemon.login("bob", "phone");
    let mut laptop = daemon.login("alice", "laptop");
    phone.end().gone(GoAwayReason::Replaced);
    assert_eq!(found(&mut laptop, "phone").unwrap().state(), PresenceState::Offline);
    let mut phone = daemon.resume("alice", "phone", phone.position());
    laptop.end().gone(GoAwayReason::Replaced);
    bob.send(peer("alice"), 1, "hi");
    phone.synced(1);
}

#[test]
fn one_device_of_each_platform() {
    let daemon = Daemon::with(&[("limits.multi_login", "one_per_platform")]);
    let login = |device: &str, platform: &str| {
        let hello = Hello { platform: platform.into(), ..daemon.greeting("alice", device) };
        let mut client = daemon.open(hello);
        let too_long = client.too_long();
        client.adopt(&too_long);
        client
    };
    let mut phone = login("phone", "ios 18");
    let mut laptop = login("laptop", "macos");
    let mut bare = login("bare", "");
    let mut tablet = login("tablet", "iOS 19");
    phone.end().gone(GoAwayReason::Replaced);
    for client in [&mut laptop, &mut bare, &mut tablet] {
        client.settle();
    }
    let wrong = daemon.run(&["config", "check"]);
    assert!(wrong.status.success(), "{wrong:?}");
}
