//! Which messages devices are told of, and what they are told.

use std::collections::{HashMap, HashSet};

use roamd::wire::proto::{Edit, Preferences, SetPreferences, client_frame::Body};

use crate::{
    World, expect, mark, special,
    support::{conversation, peer},
};

#[test]
fn a_device_that_is_away_and_registered_is_told() {
    let mut world = World::start();
    world.away("bob", "phone");
    world.daemon.login("bob", "tablet").bye();
    let mut laptop = world.registered("bob", "laptop");
    let mut alice = world.daemon.login("alice", "phone");
    let ack = alice.send(peer("bob"), 1, "canary");
    let jobs = world.came(&[("bob", "phone", "MESSAGE", 1)]);
    laptop.synced(1);
    let job = &jobs[0];
    assert_eq!((job.text("provider"), job.text("token")), ("apns", "token-of-bob-phone"));
    assert_eq!(job.text("conversation"), ack.conversation_id);
    assert_eq!(job.text("collapse_key"), ack.conversation_id);
    assert_eq!((job.text("sender"), job.number("time_ms")), ("alice", ack.time_ms));
    assert_eq!((job.number("badge"), job.number("position")), (1, 1));
    assert_eq!((job.number("attempt"), job.body["mention"].as_bool()), (1, Some(false)));
    assert!(!job.body.to_string().contains("canary") && job.body.get("content").is_none());
}

#[test]
fn messages_that_want_no_notification_have_none() {
    let mut world = World::start();
    world.away("bob", "phone");
    world.away("alice", "tablet");
    let mut bob = world.daemon.login("bob", "laptop");
    let mut alice = world.daemon.login("alice", "phone");
    let id = alice.send(peer("bob"), 1, "1").conversation_id;
    world.came(&[("bob", "phone", "MESSAGE", 1)]);
    for body in [
        special(peer("bob"), 2, |send| send.no_push = true),
        special(peer("bob"), 3, |send| send.uncounted = true),
    ] {
        expect!(SendAck, alice.call(body));
    }
    world.came(&[]);
    let mute = |muted| {
        let preferences = Preferences {
            conversation_id: id.clone(),
            muted: Some(muted),
            ..Preferences::default()
        };
        Body::SetPreferences(SetPreferences { preferences: Some(preferences) })
    };
    expect!(Done, bob.call(mute(true)));
    expect!(
        SendAck,
        alice.call(special(peer("bob"), 4, |send| send.mentions = vec!["bob".into()]))
    );
    world.came(&[]);
    expect!(Done, bob.call(mute(false)));
    expect!(SendAck, alice.call(special(peer("bob"), 5, |send| send.silent = true)));
    let jobs = world.came(&[("bob", "phone", "MESSAGE", 5)]);
    assert_eq!(jobs[0].body["silent"], true);
    // 1, 2, 4 and 5 count.
    assert_eq!(jobs[0].number("badge"), 4);
    // What bob writes itself is for the others: alice's tablet.
    bob.send(conversation(&id), 1, "own");
    let jobs = world.until_now();
    let gists: Vec<_> = jobs.iter().map(|job| job.gist()).collect();
    // Writing is reading, too.
    assert!(gists.contains(&("alice", "tablet", "MESSAGE", 6)), "{gists:?}");
    assert!(gists.contains(&("bob", "phone", "READ", 5)), "{gists:?}");
    assert_eq!(gists.len(), 2, "{gists:?}");
}

#[test]
fn a_group_is_told_and_who_is_named_knows_it() {
    let mut world = World::start();
    for user in ["bob", "carol", "dave"] {
        world.away(user, "phone");
    }
    let mut alice = world.daemon.login("alice", "phone");
    let id = crate::large::group(&mut alice, 1, &["bob", "carol"]);
    let body = special(conversation(&id), 2, |send| send.mentions = vec!["carol".into()]);
    expect!(SendAck, alice.call(body));
    let jobs = world.came(&[("bob", "phone", "MESSAGE", 1), ("carol", "phone", "MESSAGE", 1)]);
    assert_eq!((&jobs[0].body["mention"], &jobs[1].body["mention"]), (&false.into(), &true.into()));
}

/// One notification for many messages, when they come faster than they can be told.
#[test]
fn the_newest_message_stands_for_all() {
    let mut world = World::start();
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    world.hook.close();
    alice.send_many(&peer("bob"), 1..=3);
    expect!(
        SendAck,
        alice.call(special(peer("bob"), 4, |send| send.mentions = vec!["bob".into()]))
    );
    alice.send_many(&peer("bob"), 5..=9);
    world.hook.wait("a try", |jobs| jobs.first().map(|_| ()));
    alice.send_many(&peer("bob"), 10..=20);
    world.hook.open();
    let job = world.hook.taken(("bob", "phone", "MESSAGE", 20));
    assert_eq!((job.number("badge"), job.number("position")), (20, 20));
    assert_eq!(job.body["mention"], true);
    let taken: Vec<_> = world.until_now().into_iter().filter(|job| job.status < 300).collect();
    // A try that was on its way when the hook opened may be taken before the newest.
    let last = taken.last().map(|job| job.number("history_seq"));
    assert!(taken.len() <= 2 && last == Some(20), "{taken:?}");
}

/// Every badge is the total at the position it names, whatever happened before.
#[test]
fn a_badge_is_exact_at_its_position() {
    let mut world = World::start();
    world.away("bob", "phone");
    let mut laptop = world.daemon.login("bob", "laptop");
    let mut alice = world.daemon.login("alice", "phone");
    let mut carol = world.daemon.login("carol", "phone");
    let a = alice.send(peer("bob"), 1, "1").conversation_id;
    carol.send(peer("bob"), 1, "1");
    // A marker is told 2 s later, so a position may have had several totals.
    let mut totals: HashMap<u64, HashSet<u64>> = HashMap::new();
    let mut last = 0;
    let mut unread = |laptop: &mut crate::support::Client| {
        let body = Body::GetUnread(roamd::wire::proto::GetUnread::default());
        let unread = expect!(Unread, laptop.call(body));
        totals.entry(unread.position).or_default().insert(unread.unread_total);
        last = unread.unread_total;
    };
    unread(&mut laptop);
    for step in 2..40_u64 {
        match step % 5 {
            0 => mark(&mut laptop, &a, step / 2),
            1 => crate::recall(&mut alice, &a, step / 3),
            2 | 3 => {
                alice.send(peer("bob"), step, "more");
            }
            _ => {
                carol.send(peer("bob"), step, "more");
            }
        }
        unread(&mut laptop);
    }
    let jobs = world.until_now();
    let mut compared = 0;
    for job in &jobs {
        // Other positions are those of markers that were told between two steps.
        let Some(here) = totals.get(&job.number("position")) else { continue };
        assert!(here.contains(&job.number("badge")), "{here:?}: {}", job.body);
        compared += 1;
    }
    assert!(compared > 5, "{jobs:?}");
    assert_eq!(laptop.unread_total(), last);
}

#[test]
fn content_goes_along_when_it_is_wanted_and_as_it_is_now() {
    let mut world = World::with(&[("push.include_content", "true")]);
    world.away("bob", "phone");
    let mut alice = world.daemon.login("alice", "phone");
    let ack = alice.send(peer("bob"), 1, "hello");
    let jobs = world.came(&[("bob", "phone", "MESSAGE", 1)]);
    assert_eq!((jobs[0].text("content_type"), jobs[0].text("content")), ("text/plain", "aGVsbG8="));
    world.hook.close();
    alice.send(peer("bob"), 2, "wrong");
    world.hook.wait("a try", |jobs| jobs.first().map(|_| ()));
    let edit = Edit {
        conversation_id: ack.conversation_id,
        history_seq: 2,
        content_type: "text/plain".into(),
        content: "right".into(),
        base_revision: None,
    };
    expect!(Done, alice.call(Body::Edit(edit)));
    world.hook.open();
    let job = world.hook.taken(("bob", "phone", "MESSAGE", 2));
    assert_eq!(job.text("content"), "cmlnaHQ=");
}
