//! Servers that break the rules, or just stop.

use std::time::Duration;

use bytes::BytesMut;
use prost::Message;
use roamd::{
    client::replica::StreamError,
    client::{Backoff, Client, ClientConfig, ClientError, Event, Position},
    refusal::Retry,
    wire::{
        FrameDecoder, encode_delimited,
        proto::{self, client_frame, server_frame::Body},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::daemon::within;

/// A server that does what the test says.
struct Puppet {
    listener: TcpListener,
}

/// One connection to it.
struct Strings {
    stream: TcpStream,
    input: BytesMut,
}

impl Puppet {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn client(&self, seq: u64) -> Client {
        let address = self.listener.local_addr().unwrap().to_string();
        Client::start(ClientConfig {
            reconnect: Some(Backoff { first: Duration::ZERO, most: Duration::ZERO }),
            ..ClientConfig::new(address, "t", "d").resume(Position { epoch: 1, seq })
        })
    }

    /// The next connection, after its Hello: where it resumes.
    async fn accept(&self, welcome: proto::Welcome) -> (Strings, u64) {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        let mut strings = Strings { stream, input: BytesMut::new() };
        let hello = strings.hear().await;
        let Some(client_frame::Body::Hello(said)) = hello.body else { panic!("{hello:?}") };
        strings.say(hello.req_id, Body::Welcome(welcome)).await;
        (strings, said.resume.unwrap().seq)
    }
}

impl Strings {
    async fn say(&mut self, req_id: u64, body: Body) {
        let mut bytes = BytesMut::new();
        encode_delimited(&proto::ServerFrame { req_id, body: Some(body) }, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn hear(&mut self) -> proto::ClientFrame {
        loop {
            let frame = FrameDecoder::new(1 << 20).next_frame(&mut self.input).unwrap();
            if let Some(frame) = frame {
                return proto::ClientFrame::decode(frame).unwrap();
            }
            assert!(within(self.stream.read_buf(&mut self.input)).await.unwrap() > 0, "closed");
        }
    }

    /// The ack that comes next, whatever it rides on.
    async fn hear_ack(&mut self) -> u64 {
        loop {
            let frame = self.hear().await;
            match frame.body {
                Some(client_frame::Body::Ack(ack)) => return ack.seq,
                _ if frame.ack_seq > 0 => return frame.ack_seq,
                _ => {}
            }
        }
    }
}

fn batch(prev: u64, last: u64) -> Body {
    let entries = (prev..last).map(|_| proto::Entry::default()).collect();
    let first_seq = prev + 1;
    Body::SyncBatch(proto::SyncBatch {
        prev_seq: prev,
        first_seq,
        last_seq: last,
        head_seq: last,
        entries,
    })
}

async fn entry(client: &mut Client) -> u64 {
    loop {
        if let Event::Entry { seq, .. } = within(client.next_event()).await.unwrap() {
            return seq;
        }
    }
}

async fn disconnected(client: &mut Client) -> (ClientError, Duration) {
    loop {
        if let Event::Disconnected { error, retry_in } = within(client.next_event()).await.unwrap()
        {
            return (error, retry_in);
        }
    }
}

#[tokio::test]
async fn a_gap_ends_the_connection_and_nothing_of_it_is_used() {
    let puppet = Puppet::new().await;
    let mut client = puppet.client(10);
    let (mut server, at) = puppet.accept(proto::Welcome::default()).await;
    assert_eq!(at, 10);
    server.say(0, batch(10, 12)).await;
    server.say(0, batch(13, 14)).await;
    assert_eq!((entry(&mut client).await, entry(&mut client).await), (11, 12));
    let (error, _) = disconnected(&mut client).await;
    let gap = StreamError::Gap { expected: 12, prev: 13 };
    assert!(matches!(error, ClientError::Stream(error) if error == gap), "{error}");
    let (mut server, at) = puppet.accept(proto::Welcome::default()).await;
    assert_eq!(at, 12);
    server.say(0, batch(12, 14)).await;
    assert_eq!(entry(&mut client).await, 13);
}

#[tokio::test]
async fn what_the_consumer_stored_meanwhile_is_acked_only_when_it_was_sent_again() {
    let puppet = Puppet::new().await;
    let mut client = puppet.client(0);
    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    server.say(0, batch(0, 5)).await;
    assert_eq!(entry(&mut client).await, 1);
    drop(server);
    let (mut server, at) = puppet.accept(proto::Welcome::default()).await;
    assert_eq!(at, 0, "the first is not dealt with yet");
    for seq in 2..=5 {
        assert_eq!(entry(&mut client).await, seq);
    }
    // Four are stored, none of which this session has sent.
    let ping = client.requests();
    let ping = tokio::spawn(async move { ping.ping().await });
    let frame = server.hear().await;
    assert_eq!(frame.ack_seq, 0);
    server.say(frame.req_id, Body::Pong(proto::Pong::default())).await;
    within(ping).await.unwrap().unwrap();
    server.say(0, batch(0, 3)).await;
    assert_eq!(server.hear_ack().await, 3);
    server.say(0, batch(3, 6)).await;
    assert_eq!(entry(&mut client).await, 6, "what was sent again is dropped");
    assert_eq!(server.hear_ack().await, 5);
}

#[tokio::test]
async fn a_server_that_does_not_answer_any_more_is_left() {
    let puppet = Puppet::new().await;
    let mut client = puppet.client(0);
    let beats = proto::Welcome { heartbeat_interval_ms: 250, ..Default::default() };
    let (mut server, _) = puppet.accept(beats).await;
    for _ in 0..3 {
        let ping = server.hear().await;
        assert!(matches!(ping.body, Some(client_frame::Body::Ping(_))), "{ping:?}");
        server.say(ping.req_id, Body::Pong(proto::Pong::default())).await;
    }
    let (error, _) = disconnected(&mut client).await;
    assert!(matches!(error, ClientError::Lost(_)), "{error}");
    puppet.accept(proto::Welcome::default()).await;
}

#[tokio::test]
async fn the_server_says_how_long_to_stay_away_and_when_for_good() {
    let puppet = Puppet::new().await;
    let mut client = puppet.client(0);
    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    let bye = |reason: proto::GoAwayReason, retry_after_ms| {
        Body::GoAway(proto::GoAway { reason: reason.into(), retry_after_ms, detail: String::new() })
    };
    server.say(0, bye(proto::GoAwayReason::Draining, 70)).await;
    let (_, retry_in) = disconnected(&mut client).await;
    assert_eq!(retry_in, Duration::from_millis(70));

    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    let refusal = proto::Error {
        code: proto::ErrorCode::Overloaded.into(),
        retry: proto::Retry::AfterDelay.into(),
        retry_after_ms: 40,
        detail: "full".into(),
        fatal: true,
    };
    server.say(0, Body::Error(refusal)).await;
    let (error, retry_in) = disconnected(&mut client).await;
    assert_eq!(error.retry(), Retry::AfterDelay(Duration::from_millis(40)));
    assert_eq!(retry_in, Duration::from_millis(40));

    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    server.say(0, bye(proto::GoAwayReason::Revoked, 0)).await;
    loop {
        match within(client.next_event()).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.retry(), Retry::Reauth, "{error}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_code_from_the_future_is_told_by_its_number() {
    let puppet = Puppet::new().await;
    let client = puppet.client(0);
    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    let asker = client.requests();
    let asking = tokio::spawn(async move { asker.mark_read("c", 1).await });
    let frame = server.hear().await;
    let error = proto::Error { code: 999, detail: "new".into(), ..Default::default() };
    server.say(frame.req_id, Body::Error(error)).await;
    let error = within(asking).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (None, "error 999: new"));
}

#[tokio::test]
async fn a_snapshot_survives_a_lost_connection() {
    let puppet = Puppet::new().await;
    let mut client = puppet.client(3);
    let too_long = |head_seq| {
        Body::TooLong(proto::TooLong {
            epoch: 1,
            head_seq,
            first_seq: 9,
            reason: 2,
            ..Default::default()
        })
    };
    let page = |complete| {
        let conversations = vec![proto::Conversation::default()];
        let next_page_token = "next".into();
        Body::ConversationPage(proto::ConversationPage {
            conversations,
            complete,
            next_page_token,
            ..Default::default()
        })
    };
    let (mut server, _) = puppet.accept(proto::Welcome::default()).await;
    server.say(0, too_long(20)).await;
    let ask = server.hear().await;
    server.say(ask.req_id, page(false)).await;
    server.hear().await;
    drop(server);

    let (mut server, at) = puppet.accept(proto::Welcome::default()).await;
    assert_eq!(at, 3);
    server.say(0, too_long(30)).await;
    for complete in [false, true] {
        let ask = server.hear().await;
        assert!(matches!(ask.body, Some(client_frame::Body::ListConversations(_))), "{ask:?}");
        server.say(ask.req_id, page(complete)).await;
    }
    let snapshot = loop {
        if let Event::Snapshot(snapshot) = within(client.next_event()).await.unwrap() {
            break snapshot;
        }
    };
    assert_eq!((snapshot.conversations.len(), snapshot.position.seq), (2, 30));
    assert_eq!(client.status().position, Some(Position { epoch: 1, seq: 3 }), "not stored yet");
    let resumed = async {
        let frame = server.hear().await;
        let Some(client_frame::Body::Resume(resume)) = frame.body else { panic!("{frame:?}") };
        assert_eq!(resume.position.unwrap().seq, 30);
        server.say(frame.req_id, Body::Resumed(proto::Resumed { head_seq: 31 })).await;
        server.say(0, batch(30, 31)).await;
    };
    let (seq, ()) = tokio::join!(entry(&mut client), resumed);
    assert_eq!(seq, 31);
}
