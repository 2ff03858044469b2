//! What a request becomes, and what a refusal of one carries.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use roamd::{
    limits,
    message::HistoryPolicy,
    refusal::ErrorCode,
    request::{Destination, Direction, Feature, Incoming, Request},
    wire::{
        self, Refused,
        proto::{self, client_frame::Body},
    },
};

fn decode(req_id: u64, ack_seq: u64, body: Body) -> Result<Incoming, Refused> {
    let frame = proto::ClientFrame { req_id, ack_seq, body: Some(body) };
    wire::decode_client(frame.encode_to_vec().into())
}

fn request(body: Body) -> Request {
    decode(1, 0, body).unwrap().request
}

#[test]
fn a_send_keeps_everything_and_shares_the_frame() {
    let send = proto::Send {
        to: Some(proto::send::To::Peer("bob".into())),
        client_message_id: 7,
        created_at_ms: 8,
        content_type: "text/plain".into(),
        content: Bytes::from(vec![b'x'; 1000]),
        reply_to_seq: 9,
        mentions: vec!["carol".into()],
        silent: true,
        uncounted: false,
        no_push: true,
    };
    let frame = proto::ClientFrame { req_id: 3, ack_seq: 4, body: Some(Body::Send(send)) };
    let bytes = Bytes::from(frame.encode_to_vec());
    let incoming = wire::decode_client(bytes.clone()).unwrap();
    assert_eq!((incoming.req_id, incoming.ack.number()), (3, 4));
    let Request::Send { to, client_id, draft } = incoming.request else { panic!() };
    assert!(matches!(to, Destination::Peer(peer) if peer.as_str() == "bob"));
    assert_eq!((client_id.number(), draft.created_at.millis()), (7, 8));
    assert_eq!((&*draft.content_type, draft.reply_to.number()), ("text/plain", 9));
    assert_eq!(draft.mentions[0].as_str(), "carol");
    assert!(draft.flags.silent && !draft.flags.uncounted && draft.flags.no_push);
    assert!(bytes.as_ptr_range().contains(&draft.content.as_ptr()), "content was copied");
}

#[test]
fn zero_asks_for_the_documented_default() {
    let history = |limit, max_bytes| {
        request(Body::FetchHistory(proto::FetchHistory {
            conversation_id: "team".into(),
            direction: proto::Direction::Older.into(),
            anchor_seq: 6,
            limit,
            max_bytes,
        }))
    };
    let Request::FetchHistory { direction, limit, max_bytes, .. } = history(0, 0) else { panic!() };
    assert!(matches!(direction, Direction::Older(anchor) if anchor.number() == 6));
    assert_eq!((limit, max_bytes), (50, 256 * 1024));
    let Request::FetchHistory { limit, max_bytes, .. } = history(200, u32::MAX) else { panic!() };
    assert_eq!((limit, max_bytes), (200, limits::HISTORY_PAGE_BYTES_MAX));

    let list = request(Body::ListConversations(proto::ListConversations::default()));
    assert!(matches!(list, Request::ListConversations { snapshot: None, limit: 50, .. }));
    let members = proto::ListMembers { conversation_id: "team".into(), ..Default::default() };
    let members = request(Body::ListMembers(members));
    assert!(matches!(members, Request::ListMembers { limit: 200, .. }));
    let pull = request(Body::SyncPull(proto::SyncPull::default()));
    assert!(matches!(pull, Request::SyncPull { limit: 200, .. }));
    let group = proto::CreateGroup { client_request_id: 1, ..Default::default() };
    let group = request(Body::CreateGroup(group));
    assert!(matches!(
        group,
        Request::CreateGroup { policy: HistoryPolicy::SinceJoin, conversation: None, .. }
    ));
}

#[test]
fn features_of_a_later_protocol_are_passed_over() {
    let hello = proto::Hello { features: vec![4, 1, 77, 4], ..crate::hostile::hello() };
    let Request::Hello(hello) = request(Body::Hello(hello)) else { panic!() };
    assert_eq!(hello.features, [Feature::LargeGroups, Feature::Mutations]);
}

#[test]
fn a_refusal_carries_the_request_id_and_the_ack() {
    let bad = Body::Send(proto::Send::default());
    let refused = decode(9, 5, bad).unwrap_err();
    assert_eq!((refused.req_id, refused.ack.number()), (9, 5));
    assert_eq!((refused.refusal.code, refused.refusal.fatal), (ErrorCode::InvalidArgument, false));

    let refused = decode(0, 5, Body::Ping(proto::Ping::default())).unwrap_err();
    assert_eq!((refused.req_id, refused.ack.number()), (0, 5));
    assert_eq!((refused.refusal.code, refused.refusal.fatal), (ErrorCode::BadRequestId, true));
}

#[test]
fn ack_and_bye_need_no_request_id() {
    assert!(decode(0, 0, Body::Ack(proto::Ack { seq: 1 })).is_ok());
    assert!(decode(0, 0, Body::Bye(proto::Bye {})).is_ok());
}

#[test]
fn an_unknown_body_keeps_its_ack() {
    // req_id = 2, ack_seq = 3, field 500 = "x"
    let incoming =
        wire::decode_client(Bytes::from_static(b"\x08\x02\x10\x03\xa2\x1f\x01x")).unwrap();
    assert_eq!((incoming.req_id, incoming.ack.number()), (2, 3));
    assert_eq!(incoming.request, Request::Unknown);
}

#[test]
fn tokens_are_not_in_debug() {
    let token = "canary-7f3a";
    let hello = proto::Hello { token: token.into(), ..crate::hostile::hello() };
    let push = proto::RegisterPush { provider: "p".into(), token: token.into() };
    let frame = |body| proto::ClientFrame { req_id: 1, ack_seq: 0, body: Some(body) };
    let text = format!(
        "{:?} {:?} {:?}",
        frame(Body::Hello(hello.clone())),
        frame(Body::RegisterPush(push)),
        request(Body::Hello(hello))
    );
    assert!(!text.contains(token), "{text}");
}

#[test]
fn an_error_frame_tells_what_to_do() {
    use roamd::refusal::Refusal;
    use roamd::reply::Reply;
    let mut out = BytesMut::new();
    let refusal = Refusal::fatal(ErrorCode::Draining, "the server is stopping");
    wire::encode_server(8, &Reply::Refused(refusal), &mut out);
    let frame = proto::ServerFrame::decode_length_delimited(out).unwrap();
    let Some(proto::server_frame::Body::Error(error)) = frame.body else { panic!() };
    assert_eq!((frame.req_id, error.code(), error.fatal), (8, proto::ErrorCode::Draining, true));
    assert_eq!((error.retry(), error.retry_after_ms), (proto::Retry::Reconnect, 500));
}
