//! Which devices are told: those that are not there, and when they count as gone.

use std::time::{Duration, Instant};

use roamd::wire::proto::{ListDevices, PresenceState, RevokeDevice, client_frame::Body};

use crate::{World, expect, presence, register, support::peer};

#[test]
fn a_device_in_the_background_is_told() {
    let mut world = World::start();
    let mut phone = world.registered("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    alice.send(peer("bob"), 1, "1");
    phone.synced(1);
    phone.ack(1);
    world.came(&[]);
    presence(&mut phone, PresenceState::Background);
    world.came(&[]);
    alice.send(peer("bob"), 2, "2");
    world.came(&[("bob", "phone", "MESSAGE", 2)]);
    presence(&mut phone, PresenceState::Online);
    alice.send(peer("bob"), 3, "3");
    world.came(&[]);
    // 2 was told, 3 was not acked.
    presence(&mut phone, PresenceState::Background);
    world.came(&[("bob", "phone", "MESSAGE", 3)]);
    // A session that begins in the background, too.
    phone.bye();
    let hello = world.daemon.greeting("bob", "phone");
    let background = roamd::wire::proto::Hello { background: true, ..hello };
    let _phone = world.daemon.open(background);
    alice.send(peer("bob"), 4, "4");
    world.came(&[("bob", "phone", "MESSAGE", 4)]);
}

/// What was on its way to a device when its connection broke is told.
#[test]
fn a_device_that_goes_is_told_what_it_has_not_acked() {
    let mut world = World::start();
    let mut alice = world.daemon.login("alice", "phone");
    let mut carol = world.daemon.login("carol", "phone");
    let mut phone = world.registered("bob", "phone");
    alice.send_many(&peer("bob"), 1..=2);
    phone.synced(2);
    phone.ack(2);
    phone.settle();
    carol.send_many(&peer("bob"), 1..=3);
    drop(phone);
    let job = world.hook.taken(("bob", "phone", "MESSAGE", 3));
    assert_eq!((job.text("sender"), job.number("badge")), ("carol", 5));
    world.came(&[("bob", "phone", "MESSAGE", 3)]);
    // Told is told: coming and going tells nothing again.
    world.daemon.open(world.daemon.greeting("bob", "phone")).bye();
    drop(world.daemon.open(world.daemon.greeting("bob", "phone")));
    world.came(&[]);
}

#[test]
fn a_device_that_has_just_gone_is_left_alone_for_a_while() {
    let mut world = World::with(&[("push.delay", "400ms")]);
    let mut alice = world.daemon.login("alice", "phone");
    let phone = world.registered("bob", "phone");
    let gone = Instant::now();
    phone.bye();
    alice.send(peer("bob"), 1, "1");
    let job = world.hook.taken(("bob", "phone", "MESSAGE", 1));
    assert!(job.came - gone >= Duration::from_millis(400), "{:?}", job.came - gone);
    alice.send_many(&peer("bob"), 2..=3);
    world.until_now();
}

#[test]
fn a_device_that_comes_back_in_time_is_not_told() {
    let delay = Duration::from_secs(2);
    let mut world = World::with(&[("push.delay", "2s")]);
    let mut alice = world.daemon.login("alice", "phone");
    let mut phone = world.registered("bob", "phone");
    let carol = world.registered("carol", "phone");
    let gone = Instant::now();
    alice.send(peer("bob"), 1, "1");
    alice.send(peer("carol"), 2, "2");
    phone.synced(1);
    let at = phone.position();
    drop(phone);
    let mut phone = world.daemon.resume("bob", "phone", at);
    phone.ack(1);
    phone.settle();
    let in_time = gone.elapsed() < delay;
    // Carol went later and does not come back.
    drop(carol);
    world.hook.taken(("carol", "phone", "MESSAGE", 1));
    let all = world.until_now();
    let told = all.iter().filter(|job| job.text("user") == "bob").count();
    assert!(!in_time || told == 0, "{all:?}");
}

#[test]
fn a_token_lasts_until_it_is_taken_back() {
    let mut world = World::start();
    let mut alice = world.daemon.login("alice", "phone");
    let mut phone = world.registered("bob", "phone");
    let registered = |client: &mut crate::support::Client| {
        let page = expect!(DevicePage, client.call(Body::ListDevices(ListDevices {})));
        let find = |device: &&roamd::wire::proto::Device| device.device_id == "phone";
        page.devices.iter().find(find).is_some_and(|phone| phone.push_registered)
    };
    assert!(registered(&mut phone));
    register(&mut phone, "another");
    phone.bye();
    alice.send(peer("bob"), 1, "1");
    assert_eq!(world.came(&[("bob", "phone", "MESSAGE", 1)])[0].text("token"), "another");

    // What waits goes with the token.
    world.hook.close();
    alice.send(peer("bob"), 2, "2");
    world.hook.wait("a try", |jobs| jobs.first().map(|_| ()));
    let mut phone = world.daemon.login("bob", "phone");
    register(&mut phone, "");
    assert!(!registered(&mut phone));
    phone.bye();
    world.hook.open();
    world.hook.forget();
    alice.send(peer("bob"), 3, "3");
    world.came(&[]);

    world.away("bob", "phone");
    let mut laptop = world.daemon.login("bob", "laptop");
    alice.send(peer("bob"), 4, "4");
    world.came(&[("bob", "phone", "MESSAGE", 4)]);
    expect!(Done, laptop.call(Body::RevokeDevice(RevokeDevice { device_id: "phone".into() })));
    alice.send(peer("bob"), 5, "5");
    world.came(&[]);
    assert!(!registered(&mut laptop));
}
