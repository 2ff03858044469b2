//! What a message costs the store, counted by the store itself: above the fan-out limit it does not
//! depend on how many members there are.

use std::time::Instant;

use bytes::Bytes;
use roamd::{
    engine::{Answer, Caller, Command, Engine, Now},
    id::{ClientMessageId, ConversationId, DeviceId, Epoch, SessionId, UserId},
    limits::Limits,
    message::{Draft, HistoryPolicy},
    reply::Reply,
    request::{Destination, Request},
    store::{Store, StoreConfig},
    time::Timestamp,
};

fn now() -> Now {
    Now { wall: Timestamp::from_millis(1_700_000_000_000), mono: Instant::now() }
}

fn users(count: usize) -> Vec<UserId> {
    (1..count).map(|number| UserId::new(&format!("u{number}")).unwrap()).collect()
}

/// Operations of one message in a group of so many, and its sender's entry.
fn cost(engine: &mut Engine, members: usize, number: u64) -> (u64, u64) {
    let caller = Caller {
        user: UserId::new("u0").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        session: SessionId::new(1),
        admin: false,
    };
    let id = ConversationId::new(&format!("group-{members}")).unwrap();
    let users = users(members);
    let (first, others) = users.split_at(users.len().min(1000));
    let create = Request::CreateGroup {
        client_id: ClientMessageId::new(number),
        conversation: Some(id.clone()),
        title: "".into(),
        users: first.to_vec(),
        policy: HistoryPolicy::SinceJoin,
    };
    let ask = |engine: &mut Engine, request| {
        let answer = engine.apply(now(), &caller, &Command::Request(request)).unwrap();
        engine.flush().unwrap();
        match answer {
            Answer::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(ask(engine, create), Reply::GroupCreated { .. }));
    for users in others.chunks(1000) {
        let add = Request::AddMembers { conversation: id.clone(), users: users.to_vec() };
        assert!(matches!(ask(engine, add), Reply::MemberItems { .. }));
    }
    let send = |number| Request::Send {
        to: Destination::Conversation(id.clone()),
        client_id: ClientMessageId::new(number),
        draft: Draft {
            created_at: Timestamp::default(),
            content_type: "text/plain".into(),
            content: Bytes::from_static(b"hello"),
            reply_to: Default::default(),
            mentions: Vec::new(),
            flags: Default::default(),
        },
    };
    // The first one also reserves ids.
    assert!(matches!(ask(engine, send(number + 1)), Reply::SendAck { .. }));
    let before = engine.operations();
    let reply = ask(engine, send(number + 2));
    let Reply::SendAck { inbox_seq, .. } = reply else { panic!("{reply:?}") };
    (engine.operations() - before, inbox_seq.number())
}

#[test]
fn a_message_costs_the_same_in_every_large_group() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        dir: dir.path().to_owned(),
        memory_bytes: 64 << 20,
        cache_bytes: 16 << 20,
        segment_bytes: 1 << 20,
        checkpoint_interval: std::time::Duration::from_secs(60),
        inbox_entries: 1000,
        new_epoch: Epoch::new(1),
    };
    let (store, writer) = Store::open(&config).unwrap();
    let mut engine = Engine::new(writer, store.epoch(), Limits::default(), now()).unwrap();
    // The message, the memory of the retry, the sender's read marker; and an entry per member.
    assert_eq!(cost(&mut engine, 500, 10).0, 3 + 500);
    for (members, number) in [(501, 20), (2_000, 30), (10_000, 40)] {
        assert_eq!(cost(&mut engine, members, number), (3, 0), "{members} members");
    }
    store.close(engine.into_writer()).unwrap();
}
