//! Sending, receiving, asking.

use bytes::Bytes;
use roamd::{
    client::{Client, ClientError, Page, Recipient},
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
