//! Cause: with a damaged newest message everything that needs its ordinal was refused as INTERNAL: sends,
//! lists, unread, the state at CaughtUp. Fix: the count goes on from the newest one that can be read, and
//! each that cannot counts.

use roamd::{
    reply::Reply,
    request::Request,
    seq::HistorySeq,
    store::{Commit, catalogue::LogKey},
};

use crate::{
    place::Place,
    scenario::{World, first_half, group, text, to_group},
};

#[test]
fn a_damaged_newest_message_stops_nobody() {
    let place = Place::new();
    let (store, writer) = place.open();
    let mut world = World::new(&store, writer);
    first_half(&mut world);
    let unread = |world: &mut World, who: &str| {
        let conversations = vec![group("team")];
        match world.request(who, Request::GetUnread { conversations, explain: true }) {
            Reply::Unread { conversations, .. } => conversations[0].unread,
            other => panic!("{other:?}"),
        }
    };
    let before = unread(&mut world, "bob");
    let head = world.head("bob", &group("team"));
    let mut writer = world.engine.into_writer();
    for _ in 0..2 {
        let mut commit = Commit::new();
        commit.append(LogKey::history(&group("team")), "\u{7f}no message".into());
        writer.stage(&commit).unwrap();
    }
    writer.flush().unwrap();
    let mut world = World::new(&store, writer);
    assert_eq!(unread(&mut world, "bob"), before + 2);
    world.send("alice", to_group("team"), 500, text("it goes on"));
    assert_eq!(world.head("bob", &group("team")), HistorySeq::new(head.number() + 3));
    assert_eq!(unread(&mut world, "bob"), before + 3);
    world.read("bob", group("team"), head.number() + 3);
    assert_eq!(unread(&mut world, "bob"), 0);
}
