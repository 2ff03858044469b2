//! Sending, receiving, asking.

use bytes::Bytes;
use roamd::{
    client::{Client, ClientConfig, ClientError, Event, Page, Recipient, Wishes},
    limits::Limits,
    refusal::ErrorCode,
    wire::proto,
};

use crate::daemon::{Server, catch_up, entries, within};

#[tokio::test]
async fn a_message_reaches_the_other_and_the_own_devices() {
    let mut server = Server::start(Limits::default());
    let mut alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    assert!(catch_up(&mut alice).await.1.is_some(), "a new device gets a snapshot");
    catch_up(&mut bob).await;

    let ack = alice.send(Recipient::user("bob"), "text/plain", "hi bob").await.unwrap();
    assert_eq!((ack.history_seq, ack.inbox_seq, ack.duplicate), (1, 1, false));
    assert_eq!(entries(&mut alice, 1).await, [(1, "hi bob".to_owned())]);
    assert_eq!(entries(&mut bob, 1).await, [(1, "hi bob".to_owned())]);

    let conversation = Recipient::conversation(&ack.conversation_id);
    bob.send(conversation, "text/plain", "hi alice").await.unwrap();
    assert_eq!(entries(&mut alice, 1).await, [(2, "hi alice".to_owned())]);

    alice.close().await.unwrap();
    bob.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn every_request_has_its_helper() {
    let mut server = Server::start(Limits::default());
    let mut alice = server.connect("alice", "laptop").await;
    let bob = server.connect("bob", "phone").await;
    catch_up(&mut alice).await;

    let (_, pong) = alice.ping().await.unwrap();
    assert!(pong.server_time_ms > 0);
    let create = proto::CreateGroup {
        title: "lunch".into(),
        user_ids: vec!["bob".into()],
        ..Default::default()
    };
    let group = alice.create_group(create).await.unwrap().conversation_id;
    alice.send(Recipient::conversation(&group), "text/plain", "pizza?").await.unwrap();
    let page = bob.history(&group, Page::Newest, 10).await.unwrap();
    assert_eq!(page.messages.len(), 1);
    let unread = bob.unread(Vec::new(), true).await.unwrap();
    assert_eq!(unread.unread_total, 1);
    assert_eq!(bob.mark_read(&group, 1).await.unwrap().unread_total, 0);
    assert_eq!(bob.conversations(0, Bytes::new(), 0).await.unwrap().conversations.len(), 1);
    let found = bob.conversations_by_id(vec![group.clone(), "no".into()]).await.unwrap();
    assert!(found[0].is_some() && found[1].is_none());
    let added = alice.add_members(&group, vec!["carol".into()]).await.unwrap();
    assert_eq!(added.member_count, 3);
    assert_eq!(alice.members(&group, Bytes::new(), 0).await.unwrap().members.len(), 3);
    assert_eq!(alice.remove_members(&group, vec!["carol".into()]).await.unwrap().member_count, 2);
    assert_eq!(bob.leave(&group).await.map(|_| ()).ok(), Some(()));
    assert!(!alice.pull(0, 0).await.unwrap().entries.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn every_request_that_changes_what_is_there_has_its_helper() {
    let mut server = Server::start(Limits::default());
    let mut alice = server.connect("alice", "laptop").await;
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut alice).await;
    catch_up(&mut bob).await;
    let create = proto::CreateGroup { user_ids: vec!["bob".into()], ..Default::default() };
    let group = alice.create_group(create).await.unwrap().conversation_id;
    let to = || Recipient::conversation(&group);
    for text in ["one", "two", "three", "four"] {
        alice.send(to(), "text/plain", text).await.unwrap();
    }
    alice.edit(&group, 1, "text/plain", "uno", Some(0)).await.unwrap();
    let error = alice.edit(&group, 1, "text/plain", "eins", Some(0)).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Conflict));
    assert!(alice.recall(&group, 2).await.unwrap().inbox_seq > 0);
    assert_eq!(alice.recall(&group, 2).await.unwrap().inbox_seq, 0);
    alice.delete_for_all(&group, 3).await.unwrap();
    bob.delete_for_me(&group, vec![4]).await.unwrap();
    let changes = bob.mutations(&group, 0, 0).await.unwrap();
    let changed: Vec<_> = changes.mutations.iter().map(|it| it.mutation_seq).collect();
    assert_eq!((changed, changes.complete), (vec![1, 2, 3], true));
    let place = |seq| proto::MessageRef { conversation_id: group.clone(), history_seq: seq };
    let items = bob.messages(vec![place(1), place(9)]).await.unwrap();
    assert_eq!(items[0].message.as_ref().unwrap().content, "uno");
    assert!(items[1].message.is_none() && !items[1].skipped);

    bob.mark_read_visibly(&group, 4).await.unwrap();
    let readers = alice.readers(&group, 1, Bytes::new(), 0).await.unwrap();
    assert_eq!(readers.user_ids, ["bob"]);
    bob.mark_unread(&group).await.unwrap();
    bob.set_preferences(&group, Wishes { pinned: Some(true), ..Wishes::default() }).await.unwrap();
    bob.clear(&group, 1).await.unwrap();
    let found = bob.conversations_by_id(vec![group.clone()]).await.unwrap().remove(0).unwrap();
    assert!(found.marked_unread && found.preferences.unwrap().pinned());
    assert_eq!(found.visible_first_seq, 2);

    let id = alice.next_client_message_id();
    alice.cancel_send(id).await.unwrap();
    let error = alice.send_with_id(id, to(), "text/plain", "late").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Gone));
    alice.set_title(&group, "lunch").await.unwrap();
    alice.set_role(&group, "bob", proto::Role::Admin).await.unwrap();
    alice.disband(&group).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn presence_typing_and_devices() {
    let mut server = Server::start(Limits::default());
    let mut alice = server.connect("alice", "laptop").await;
    catch_up(&mut alice).await;
    let here = alice.send(Recipient::user("bob"), "x", "hi").await.unwrap().conversation_id;
    assert!(alice.subscribe_presence(vec!["bob".into()]).await.unwrap().is_empty());
    let config = ClientConfig { background: true, ..server.config("bob", "phone") };
    let mut bob = Client::connect(config).await.unwrap();
    catch_up(&mut bob).await;
    let background = proto::PresenceState::Background;
    assert_eq!(presence(&mut alice).await, ("phone".to_owned(), background));
    bob.set_background(false).await.unwrap();
    assert_eq!(presence(&mut alice).await.1, proto::PresenceState::Online);
    bob.send_ephemeral(&here, "typing", "").await.unwrap();
    loop {
        if let Event::Ephemeral(push) = within(alice.next_event()).await.unwrap() {
            assert_eq!((push.sender.as_str(), push.content_type.as_str()), ("bob", "typing"));
            break;
        }
    }
    let tablet = server.connect("bob", "tablet").await;
    let devices = tablet.devices().await.unwrap();
    assert_eq!(devices.iter().filter(|it| it.device_id == "phone").count(), 1);
    tablet.kick_device("phone").await.unwrap();
    let error = loop {
        match within(bob.next_event()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let ClientError::GoAway(bye) = error else { panic!("{error}") };
    assert_eq!(bye.reason(), proto::GoAwayReason::Kicked);
    alice.unsubscribe_presence(vec!["bob".into()]).await.unwrap();
    tablet.revoke_device("phone").await.unwrap();
    let error = tablet.kick_device("phone").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotFound));
    let notice = proto::SendNotice {
        to: Some(proto::send_notice::To::Everyone(true)),
        content_type: "text/plain".into(),
        content: "buy".into(),
        client_request_id: 0,
    };
    let error = tablet.send_notice(notice).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ForbiddenScope));
    tablet.register_push("apns", "0a").await.unwrap();
    server.stop().await;
}

async fn presence(client: &mut Client) -> (String, proto::PresenceState) {
    loop {
        if let Event::Presence(devices) = within(client.next_event()).await.unwrap() {
            let last = devices.last().unwrap();
            return (last.device_id.clone(), last.state());
        }
    }
}

#[tokio::test]
async fn a_refusal_has_its_code_and_hurts_nobody_else() {
    let mut server = Server::start(Limits::default());
    let alice = server.connect("alice", "laptop").await;
    let error = alice.history("nowhere", Page::Newest, 1).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotFound));
    assert!(error.to_string().starts_with("NOT_FOUND: "), "{error}");
    let large = vec![0; 200_000];
    let error = alice.send(Recipient::user("bob"), "x", large).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }));
    let bye = proto::client_frame::Body::Bye(proto::Bye {});
    assert!(matches!(alice.request(bye).await, Err(ClientError::NotARequest("Bye"))));
    alice.ping().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn many_in_flight_keep_their_order() {
    let mut server = Server::start(Limits::default());
    let mut bob = server.connect("bob", "phone").await;
    catch_up(&mut bob).await;
    let alice = server.connect("alice", "laptop").await;
    let mut acks = Vec::new();
    for number in 0..2000u32 {
        let send = proto::Send {
            to: Some(Recipient::user("bob").into()),
            content_type: "text/plain".into(),
            content: number.to_string().into(),
            ..Default::default()
        };
        acks.push(alice.begin_send(send).await.unwrap());
    }
    for (number, ack) in acks.into_iter().enumerate() {
        assert_eq!(within(ack).await.unwrap().history_seq, number as u64 + 1);
    }
    let got = entries(&mut bob, 2000).await;
    assert!(got.iter().map(|(_, text)| text.parse::<u32>().unwrap()).eq(0..2000));
    let status = bob.status();
    assert!(status.acks * 8 < 2000, "{} acks", status.acks);
    bob.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_token_and_a_closed_port_are_told_at_once() {
    let mut server = Server::start(Limits::default());
    let mut config = server.config("alice", "laptop");
    config.token = "not a token".into();
    let error = Client::connect(config).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Unauthenticated));
    let config = server.config("alice", "laptop");
    server.stop().await;
    let error = Client::connect(config).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}
