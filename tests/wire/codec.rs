//! Framing and decoding must take any bytes in any pieces: the same frames come out, nothing
//! panics, and no buffer grows beyond what the limit allows.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use roamd::{
    limits,
    refusal::{ErrorCode, Refusal},
    request::Request,
    wire::{self, FrameDecoder, FrameError},
};

use crate::{
    hostile::{self, When},
    values,
};

/// Feeds `stream` in pieces of the given sizes (repeated) and collects frames until the end or an
/// error.
fn cut(stream: &[u8], pieces: &[usize], limit: usize) -> (Vec<Bytes>, Option<FrameError>, usize) {
    let (mut decoder, mut buffer) = (FrameDecoder::new(limit), BytesMut::new());
    let (mut frames, mut capacity) = (Vec::new(), 0);
    let mut rest = stream;
    for &piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        loop {
            let next = decoder.next_frame(&mut buffer);
            capacity = capacity.max(buffer.capacity());
            match next {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), capacity),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (frames, None, capacity)
}

proptest! {
    #[test]
    fn the_same_frames_however_the_stream_is_cut(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
        pieces in prop::collection::vec(1usize..50, 1..10),
    ) {
        let mut stream = BytesMut::new();
        for body in &bodies {
            prost::encoding::encode_varint(body.len() as u64, &mut stream);
            stream.extend_from_slice(body);
        }
        let whole = [stream.len().max(1)];
        for pieces in [&pieces[..], &[1], &whole] {
            let (frames, error, _) = cut(&stream, pieces, 300);
            prop_assert_eq!(&frames, &bodies);
            prop_assert_eq!(error, None);
        }
    }

    #[test]
    fn any_bytes_stay_within_the_limit(
        stream in prop::collection::vec(any::<u8>(), 0..2000),
        piece in 1usize..100,
        limit in 1usize..1000,
    ) {
        let (frames, _, capacity) = cut(&stream, &[piece], limit);
        prop_assert!(frames.iter().all(|frame| (1..=limit).contains(&frame.len())));
        // A frame, its prefix and one piece of the next; a Vec may double.
        prop_assert!(capacity <= 2 * (limit + 5 + piece) + 64, "{capacity}");
    }

    #[test]
    fn any_bytes_are_answered(frame in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = wire::decode_client(frame.clone().into());
        let _ = wire::decode_server(frame.into());
    }

    #[test]
    fn a_frame_with_some_bytes_changed_is_answered(
        frame in values::client_frame(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = prost::Message::encode_to_vec(&frame);
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Err(refused) = wire::decode_client(bytes.into()) {
            prop_assert!(refused.refusal.detail.len() < 100, "{}", refused.refusal.detail);
        }
    }

    #[test]
    fn client_frames_make_the_round_trip(frames in prop::collection::vec(values::client_frame(), 1..6)) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            wire::encode_client(frame, &mut stream);
        }
        let (bodies, error, _) = cut(&stream, &[7], limits::CLIENT_FRAME_BYTES_MAX);
        prop_assert_eq!(error, None);
        prop_assert_eq!(bodies.len(), frames.len());
        for (body, frame) in bodies.into_iter().zip(&frames) {
            let decoded: wire::proto::ClientFrame = prost::Message::decode(body.clone()).unwrap();
            prop_assert_eq!(&decoded, frame);
            let incoming = wire::decode_client(body).unwrap();
            prop_assert_eq!(incoming.req_id, frame.req_id);
            prop_assert_eq!(incoming.ack.number(), frame.ack_seq);
        }
    }
}

#[test]
fn hostile_input_gets_its_code() {
    let cases = hostile::cases();
    assert!(cases.len() >= 30);
    for case in cases {
        let refusal = answer(&case.bytes, case.when);
        assert_eq!(
            refusal.as_ref().map(|refusal| (refusal.code, refusal.fatal)),
            Some((case.expect, case.fatal)),
            "{} ({:?}): {refusal:?}",
            case.name,
            case.when
        );
        assert!(refusal.is_some_and(|refusal| refusal.detail.len() < 100), "{}", case.name);
    }
}

/// The first refusal a connection gives to `bytes`, with the least a session must add: what belongs
/// in which state, and the answers to what is unknown or off.
fn answer(bytes: &[u8], when: When) -> Option<Refusal> {
    let limit = match when {
        When::BeforeHello => limits::GREETING_FRAME_BYTES_MAX,
        When::AfterWelcome => limits::CLIENT_FRAME_BYTES_MAX,
    };
    let frame = match FrameDecoder::new(limit).next_frame(&mut BytesMut::from(bytes)) {
        Ok(frame) => frame?,
        Err(error) => return Some(error.refusal()),
    };
    let request = match wire::decode_client(frame) {
        Ok(incoming) => incoming.request,
        Err(refused) => return Some(refused.refusal),
    };
    match (when, request) {
        (When::BeforeHello, Request::Hello(_)) => None,
        (When::BeforeHello, _) => Some(Refusal::fatal(ErrorCode::HelloExpected, "")),
        (_, Request::Hello(_)) => Some(Refusal::fatal(ErrorCode::WrongState, "")),
        (_, Request::Unknown) => Some(Refusal::new(ErrorCode::UnknownRequest, "")),
        _ => None,
    }
}
