//! Who is there: snapshot and changes, who may see whom, ends of all kinds, and typing.

use roamd::{
    limits::{EPHEMERALS_BURST, SUBSCRIPTIONS_MAX},
    refusal::ErrorCode,
    wire::proto::{
        AddMembers, CreateGroup, DevicePresence, Direction, FetchHistory, GoAwayReason, Hello,
        ListDevices, PresenceState, RemoveMembers, SendEphemeral, SetPresence, SubscribePresence,
        client_frame::Body,
    },
};

use crate::{
    expect,
    support::{Client, Daemon, daemon::until, peer, text},
};

fn subscribe(users: &[&str], unsubscribe: bool) -> Body {
    let user_ids = users.iter().map(|user| (*user).to_owned()).collect();
    Body::SubscribePresence(SubscribePresence { user_ids, unsubscribe })
}

/// Follows users; what the snapshot says, in order.
#[track_caller]
fn follow(client: &mut Client, users: &[&str]) -> Vec<(String, String, PresenceState)> {
    let snapshot = expect!(PresenceSnapshot, client.call(subscribe(users, false)));
    let mut devices: Vec<_> = snapshot.devices.iter().map(plain).collect();
    devices.sort();
    devices
}

fn plain(device: &DevicePresence) -> (String, String, PresenceState) {
    assert!(device.since_ms > 0);
    (device.user_id.clone(), device.device_id.clone(), device.state())
}

fn device(user: &str, device: &str, state: PresenceState) -> (String, String, PresenceState) {
    (user.into(), device.into(), state)
}

/// Waits for the next change and takes it.
#[track_caller]
fn change(client: &mut Client) -> (String, String, PresenceState) {
    let change = client.wait("a change of presence", |client| {
        (!client.presence.is_empty()).then(|| client.presence.remove(0))
    });
    plain(&change)
}

#[track_caller]
fn no_change(client: &mut Client) {
    client.settle();
    assert!(client.presence.is_empty(), "{:?}", client.presence);
}

#[track_caller]
fn set(client: &mut Client, state: PresenceState) {
    let body = Body::SetPresence(SetPresence { state: state.into() });
    assert_eq!(expect!(Done, client.call(body)).inbox_seq, 0);
}

/// Makes a group with these members besides the caller.
#[track_caller]
fn group(client: &mut Client, number: u64, id: &str, users: &[&str]) {
    let request = CreateGroup {
        client_request_id: number,
        conversation_id: id.into(),
        title: "t".into(),
        user_ids: users.iter().map(|user| (*user).to_owned()).collect(),
        ..CreateGroup::default()
    };
    expect!(GroupCreated, client.call(Body::CreateGroup(request)));
}

/// Waits until the server has noticed that a device is gone: by the word of another one.
#[track_caller]
fn gone(other: &mut Client, device: &str) {
    until("the device to be gone", || {
        let page = expect!(DevicePage, other.call(Body::ListDevices(ListDevices {})));
        let found = page.devices.into_iter().find(|found| found.device_id == device);
        found.is_some_and(|found| found.state() == PresenceState::Offline).then_some(())
    });
}

#[test]
fn a_snapshot_and_then_every_change() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let phone = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "hi");
    let online = device("bob", "phone", PresenceState::Online);
    assert_eq!(follow(&mut alice, &["bob", "carol", "bob"]), [online]);

    // A device that comes in the background, and comes to the front.
    let mut hello = daemon.greeting("bob", "tablet");
    hello.background = true;
    let mut tablet = daemon.open(hello);
    assert_eq!(change(&mut alice), device("bob", "tablet", PresenceState::Background));
    set(&mut tablet, PresenceState::Online);
    assert_eq!(change(&mut alice), device("bob", "tablet", PresenceState::Online));
    // What is no change is not told.
    set(&mut tablet, PresenceState::Online);
    no_change(&mut alice);
    set(&mut tablet, PresenceState::Background);
    assert_eq!(change(&mut alice), device("bob", "tablet", PresenceState::Background));

    phone.bye();
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Offline));
    // Asked again: what is there now, and still each change once.
    let background = device("bob", "tablet", PresenceState::Background);
    assert_eq!(follow(&mut alice, &["bob"]), [background]);
    drop(tablet);
    assert_eq!(change(&mut alice), device("bob", "tablet", PresenceState::Offline));
    no_change(&mut alice);

    // After unsubscribing nothing more.
    expect!(Done, alice.call(subscribe(&["bob", "nobody"], true)));
    let mut phone = daemon.login("bob", "phone");
    set(&mut phone, PresenceState::Background);
    no_change(&mut alice);
}

#[test]
fn own_devices_see_each_other() {
    let daemon = Daemon::start();
    let mut laptop = daemon.login("alice", "laptop");
    let me = device("alice", "laptop", PresenceState::Online);
    assert_eq!(follow(&mut laptop, &["alice"]), [me]);
    let phone = daemon.login("alice", "phone");
    assert_eq!(change(&mut laptop), device("alice", "phone", PresenceState::Online));
    set(&mut laptop, PresenceState::Background);
    assert_eq!(change(&mut laptop), device("alice", "laptop", PresenceState::Background));
    phone.bye();
    assert_eq!(change(&mut laptop), device("alice", "phone", PresenceState::Offline));
}

/// Strangers see nothing; who shares a conversation sees changes as long as that is so.
#[test]
fn only_those_who_share_a_conversation_see_anything() {
    let daemon = Daemon::start();
    let mut owner = daemon.login("owner", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let mut mallory = daemon.login("mallory", "laptop");
    assert_eq!(follow(&mut mallory, &["bob", "nobody"]), []);
    set(&mut bob, PresenceState::Background);
    no_change(&mut mallory);

    // Two groups join them. The first change after that is told.
    group(&mut owner, 1, "one", &["bob", "mallory"]);
    group(&mut owner, 2, "two", &["bob", "mallory"]);
    set(&mut bob, PresenceState::Online);
    assert_eq!(change(&mut mallory), device("bob", "phone", PresenceState::Online));

    let mut remove = |id: &str, user: &str| {
        let remove = RemoveMembers { conversation_id: id.into(), user_ids: vec![user.into()] };
        expect!(MemberItems, owner.call(Body::RemoveMembers(remove)));
    };
    remove("one", "mallory");
    set(&mut bob, PresenceState::Background);
    assert_eq!(change(&mut mallory), device("bob", "phone", PresenceState::Background));
    // The last one: it does not matter who of the two has left.
    remove("two", "bob");
    set(&mut bob, PresenceState::Online);
    no_change(&mut mallory);
    assert_eq!(follow(&mut mallory, &["bob"]), []);

    let add = AddMembers { conversation_id: "two".into(), user_ids: vec!["bob".into()] };
    expect!(MemberItems, owner.call(Body::AddMembers(add)));
    assert_eq!(follow(&mut mallory, &["bob"]), [device("bob", "phone", PresenceState::Online)]);
    bob.bye();
    assert_eq!(change(&mut mallory), device("bob", "phone", PresenceState::Offline));
}

#[test]
fn a_session_follows_so_many_and_no_more() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let names: Vec<String> = (0..=SUBSCRIPTIONS_MAX).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for some in names[..SUBSCRIPTIONS_MAX].chunks(200) {
        assert_eq!(follow(&mut alice, some), []);
    }
    // Those it follows already are not counted twice.
    assert_eq!(follow(&mut alice, &names[..200]), []);
    let one_more = &names[SUBSCRIPTIONS_MAX..];
    alice.refused(ErrorCode::TooManyItems, subscribe(one_more, false));
    alice.refused(ErrorCode::TooManyItems, subscribe(&names[..201], false));
    expect!(Done, alice.call(subscribe(&names[..1], true)));
    assert_eq!(follow(&mut alice, one_more), []);
    // What a session followed ends with it.
    let at = alice.position();
    let mut again = daemon.resume("alice", "laptop", at);
    for some in names[..SUBSCRIPTIONS_MAX].chunks(200) {
        assert_eq!(follow(&mut again, some), []);
    }
}

#[test]
fn a_new_session_of_a_device_is_no_change_and_follows_nobody() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "hi");
    assert_eq!(follow(&mut alice, &["bob"]).len(), 1);
    assert_eq!(follow(&mut bob, &["alice"]).len(), 1);
    let mut new = daemon.resume("bob", "phone", bob.position());
    bob.end().gone(GoAwayReason::Replaced);
    new.settle();
    no_change(&mut alice);
    set(&mut alice, PresenceState::Background);
    no_change(&mut new);
    // It comes back in another way: that is one change.
    let mut hello = Hello { resume: Some(new.position()), ..daemon.greeting("bob", "phone") };
    hello.background = true;
    let mut third = daemon.open(hello);
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Background));
    third.settle();
    no_change(&mut alice);
}

/// A socket that breaks is noticed at once, a peer that has vanished after three heartbeats.
#[test]
fn ugly_ends_are_ends() {
    let daemon = Daemon::with(&[("limits.heartbeat_interval", "1s")]);
    let mut alice = daemon.login("alice", "laptop");
    let broken = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "hi");
    assert_eq!(follow(&mut alice, &["bob"]).len(), 1);
    drop(broken);
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Offline));

    // Held and silent, as if its network had gone: nothing tells the server that it is no more.
    let _vanished = daemon.login("bob", "tablet");
    assert_eq!(change(&mut alice), device("bob", "tablet", PresenceState::Online));
    let offline = until("the silent device to be gone", || {
        alice.settle();
        (!alice.presence.is_empty()).then(|| plain(&alice.presence.remove(0)))
    });
    assert_eq!(offline, device("bob", "tablet", PresenceState::Offline));
}

/// A restart leaves no ghosts: who is there is who has come back.
#[test]
fn after_a_crash_those_are_there_who_came_back() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let bob = daemon.login("bob", "phone");
    let _tablet = daemon.login("bob", "tablet");
    alice.send(peer("bob"), 1, "hi");
    assert_eq!(follow(&mut alice, &["bob"]).len(), 2);
    let (at, bob_at) = (alice.position(), bob.position());
    daemon.crash();
    let mut alice = daemon.resume("alice", "laptop", at);
    assert_eq!(follow(&mut alice, &["bob"]), []);
    let bob = daemon.resume("bob", "phone", bob_at);
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Online));
    drop(bob);
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Offline));
}

/// A drain is not a time to tell who goes: everybody does.
#[test]
fn a_drain_ends_followers_as_well() {
    let mut daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    alice.send(peer("bob"), 1, "hi");
    assert_eq!(follow(&mut alice, &["bob"]).len(), 1);
    daemon.terminate();
    alice.end().gone(GoAwayReason::Draining);
    bob.end().gone(GoAwayReason::Draining);
    assert!(daemon.ended().success());
}

/// Asks for so much history that the socket takes no more, and reads nothing of it.
fn stall(client: &mut Client, id: &str) -> Vec<u64> {
    let page = FetchHistory {
        conversation_id: id.into(),
        direction: Direction::Newest.into(),
        limit: 200,
        max_bytes: 512 * 1024,
        ..FetchHistory::default()
    };
    let pages = (0..100).map(|_| client.post(Body::FetchHistory(page.clone()))).collect();
    client.wait_full();
    pages
}

/// However fast a device changes and however slowly a follower reads, what waits is bounded and the
/// last word arrives.
#[test]
fn a_slow_follower_gets_the_last_word() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let large = "x".repeat(60_000);
    let id = alice.send(peer("bob"), 1, &large).conversation_id;
    for number in 2..=10 {
        alice.send(peer("bob"), number, &large);
    }
    assert_eq!(follow(&mut alice, &["bob"]).len(), 1);
    let pages = stall(&mut alice, &id);
    // Bob's inbox holds no content, so he is served while alice is not.
    const CHANGES: usize = 2000;
    for change in 0..CHANGES {
        let state = if change % 2 == 0 { PresenceState::Background } else { PresenceState::Online };
        set(&mut bob, state);
    }
    set(&mut bob, PresenceState::Background);
    for req_id in pages {
        expect!(HistoryPage, alice.reply(req_id));
    }
    alice.settle();
    let last = alice.presence.last().map(plain);
    assert_eq!(last, Some(device("bob", "phone", PresenceState::Background)));
    let told = alice.presence.len();
    assert!(told < CHANGES, "{told} changes waited for a reader that read nothing");
}

fn typing(id: &str, content: &str) -> Body {
    Body::SendEphemeral(SendEphemeral {
        conversation_id: id.into(),
        content_type: "text/typing".into(),
        content: content.to_owned().into(),
    })
}

#[test]
fn typing_reaches_the_members_who_are_there_and_nobody_else() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut tablet = daemon.login("alice", "tablet");
    let mut bob = daemon.login("bob", "phone");
    let mut carol = daemon.login("carol", "phone");
    let mut mallory = daemon.login("mallory", "laptop");
    group(&mut alice, 1, "team", &["bob", "carol", "away"]);
    assert_eq!(expect!(Done, alice.call(typing("team", "a"))).inbox_seq, 0);
    for client in [&mut tablet, &mut bob, &mut carol] {
        let push = client.wait("typing", |client| client.ephemerals.pop());
        let said = (&*push.conversation_id, &*push.sender, &*push.sender_device);
        assert_eq!(said, ("team", "alice", "laptop"));
        assert_eq!((&*push.content_type, &push.content[..]), ("text/typing", &b"a"[..]));
    }
    // Missing and forbidden alike; who was removed is nobody.
    mallory.refused(ErrorCode::NotFound, typing("team", "x"));
    mallory.refused(ErrorCode::NotFound, typing("nowhere", "x"));
    let remove = RemoveMembers { conversation_id: "team".into(), user_ids: vec!["carol".into()] };
    expect!(MemberItems, alice.call(Body::RemoveMembers(remove)));
    carol.refused(ErrorCode::NotFound, typing("team", "x"));
    expect!(Done, bob.call(typing("team", "b")));
    alice.wait("typing", |client| client.ephemerals.pop());
    for client in [&mut carol, &mut mallory, &mut bob] {
        client.settle();
        assert!(client.ephemerals.is_empty(), "{:?}", client.ephemerals);
    }
    let large = "x".repeat(1025);
    alice.refused(ErrorCode::ContentTooLarge, typing("team", &large));
    // None of it is anywhere.
    assert_eq!(alice.history("team", Direction::Newest, 0, 10).messages.len(), 0);
    let away = daemon.open(daemon.greeting("away", "phone"));
    assert_eq!(
        (away.welcome.head_seq, away.welcome.unread_total),
        (2, 0),
        "two changes of members"
    );
}

/// In a large group typing is told to nobody; who is there may be seen as anywhere.
#[test]
fn a_large_group_does_not_type() {
    let daemon = Daemon::with(&[("limits.fanout_members", "2")]);
    let mut alice = daemon.login("alice", "laptop");
    let mut bob = daemon.login("bob", "phone");
    let mut mallory = daemon.login("mallory", "laptop");
    group(&mut alice, 1, "crowd", &["bob", "carol"]);
    let recents = alice.recents();
    assert!(recents[0].large, "{recents:?}");
    expect!(Done, alice.call(typing("crowd", "x")));
    mallory.refused(ErrorCode::NotFound, typing("crowd", "x"));
    bob.settle();
    assert!(bob.ephemerals.is_empty(), "{:?}", bob.ephemerals);
    assert_eq!(follow(&mut alice, &["bob"]), [device("bob", "phone", PresenceState::Online)]);
    assert_eq!(follow(&mut mallory, &["bob"]), []);
    bob.bye();
    assert_eq!(change(&mut alice), device("bob", "phone", PresenceState::Offline));
    // Small again: typing is back.
    let remove = RemoveMembers { conversation_id: "crowd".into(), user_ids: vec!["carol".into()] };
    expect!(MemberItems, alice.call(Body::RemoveMembers(remove)));
    let mut bob = daemon.login("bob", "phone");
    expect!(Done, alice.call(typing("crowd", "y")));
    bob.wait("typing", |client| client.ephemerals.pop());
}

#[test]
fn typing_has_a_rate() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    group(&mut alice, 1, "team", &["bob"]);
    let posted: Vec<u64> =
        (0..4 * EPHEMERALS_BURST).map(|_| alice.post(typing("team", "x"))).collect();
    let (mut taken, mut refused) = (0, 0);
    for req_id in posted {
        match alice.reply(req_id) {
            roamd::wire::proto::server_frame::Body::Done(_) => taken += 1,
            roamd::wire::proto::server_frame::Body::Error(error) => {
                assert_eq!(error.code, ErrorCode::RateLimited.number(), "{error:?}");
                assert!(!error.fatal && error.retry_after_ms > 0, "{error:?}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(taken >= EPHEMERALS_BURST && refused > 0, "{taken} taken, {refused} refused");
    // Messages have a rate of their own, and the next one is taken when it was said.
    alice.send(peer("bob"), 2, "hi");
    until("the rate to recover", || {
        let reply = alice.call(typing("team", "x"));
        matches!(reply, roamd::wire::proto::server_frame::Body::Done(_)).then_some(())
    });
}

/// Under pressure the oldest give way, and that is counted.
#[test]
fn typing_that_nobody_reads_gives_way() {
    let mut daemon = Daemon::start();
    let mut bob = daemon.login("bob", "phone");
    let mut writers: Vec<Client> =
        (0..5).map(|n| daemon.login("alice", &format!("device{n}"))).collect();
    let large = "x".repeat(60_000);
    let id = writers[0].send(peer("bob"), 1, &large).conversation_id;
    for number in 2..=10 {
        writers[0].post(text(peer("bob"), number, &large));
    }
    writers[0].settle();
    bob.synced(10);
    let pages = stall(&mut bob, &id);
    for (n, writer) in writers.iter_mut().enumerate() {
        for count in 0..EPHEMERALS_BURST {
            expect!(Done, writer.call(typing(&id, &format!("{n}:{count}"))));
        }
    }
    for req_id in pages {
        expect!(HistoryPage, bob.reply(req_id));
    }
    bob.settle();
    let (sent, got) = (5 * EPHEMERALS_BURST as usize, bob.ephemerals.len());
    assert!(got > 0 && got < sent, "{got} of {sent} came");
    let last = bob.ephemerals.last().map(|push| push.content.clone());
    assert_eq!(last.as_deref(), Some(&b"4:19"[..]), "the newest is worth most");
    daemon.terminate();
    assert!(daemon.ended().success());
    daemon.wait_log("gave way");
}

#[test]
fn what_a_session_may_say_of_itself() {
    let daemon = Daemon::start();
    let mut alice = daemon.login("alice", "laptop");
    let mut phone = daemon.login("alice", "phone");
    for state in [PresenceState::Unspecified, PresenceState::Offline] {
        let body = Body::SetPresence(SetPresence { state: state.into() });
        alice.refused(ErrorCode::InvalidArgument, body);
    }
    alice.refused(ErrorCode::InvalidArgument, subscribe(&[], false));
    set(&mut alice, PresenceState::Background);
    alice.bye();
    gone(&mut phone, "laptop");
}
