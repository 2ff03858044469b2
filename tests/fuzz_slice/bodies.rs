//! What is done with one input. Used twice: by the targets in `fuzz/` (nightly, cargo-fuzz), and by
//! the slice that `cargo test` runs. A body panics at whatever must not be.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use roamd::{
    auth::{Key, KeyRing, Scope, Scopes},
    config::{Config, parse_duration},
    conversation::{Conversation, Hidden, Member, Membership, Preference},
    history::{self, Mutated, Mutation},
    id::UserId,
    inbox::{self, Device, Revocation},
    limits::{CLIENT_FRAME_BYTES_MAX, GREETING_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
    notice::{self, Notice},
    push::{self, Outbox, Target},
    sent::Remembered,
    store::forms,
    time::Timestamp,
    wire::{self, FrameDecoder, FrameError, proto},
};

use crate::heap;

/// One way to try to break something.
pub struct Body {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Heap that one input may hold at a time: so many bytes ...
    pub heap_constant: usize,
    /// ... and so many for each byte of it.
    pub heap_factor: usize,
}

/// All of them, as they are named in `fuzz/`.
pub const ALL: [Body; 6] = [
    Body { name: "frame_stream", run: frame_stream, heap_constant: 320 << 10, heap_factor: 64 },
    Body { name: "decode_client", run: decode_client, heap_constant: 16 << 10, heap_factor: 64 },
    Body { name: "decode_server", run: decode_server, heap_constant: 16 << 10, heap_factor: 64 },
    Body {
        name: "session",
        run: crate::session::session,
        heap_constant: 256 << 10,
        heap_factor: 64,
    },
    Body { name: "records", run: records, heap_constant: 16 << 10, heap_factor: 64 },
    // No client writes a configuration: what the TOML library takes is its own.
    Body { name: "text", run: text, heap_constant: 1 << 20, heap_factor: 1024 },
];

impl Body {
    /// Does it, and panics when it took more memory than it may.
    pub fn check(&self, input: &[u8]) {
        let peak = heap::peak(|| (self.run)(input));
        let most = self.heap_constant + self.heap_factor * input.len();
        assert!(
            peak <= most,
            "{}: {peak} bytes of heap for {} of input, at most {most}",
            self.name,
            input.len()
        );
    }
}

/// The body of this name.
#[allow(dead_code, reason = "each target names one")]
pub fn named(name: &str) -> &'static Body {
    ALL.iter().find(|body| body.name == name).expect("a target names a body")
}

/// The first byte says in what pieces the rest arrives. However that is, the same frames come out of
/// it and the same error ends it; a request among them is decoded as the daemon would.
fn frame_stream(input: &[u8]) {
    let Some((&piece, stream)) = input.split_first() else { return };
    let whole = frames(stream, usize::MAX);
    let pieces = frames(stream, 1 + usize::from(piece));
    assert_eq!(whole, pieces);
    for frame in whole.0 {
        let _ = wire::decode_client(frame);
    }
}

/// The first frame under the limit of a greeting, the others under that of a session.
fn frames(stream: &[u8], piece: usize) -> (Vec<Bytes>, Option<FrameError>) {
    let mut decoder = FrameDecoder::new(GREETING_FRAME_BYTES_MAX);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.next_frame(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(!frame.is_empty() && frame.len() <= CLIENT_FRAME_BYTES_MAX);
                    // Copied: one that is kept would keep the buffer of all of them.
                    frames.push(Bytes::copy_from_slice(&frame));
                    decoder.set_limit(CLIENT_FRAME_BYTES_MAX);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// A request that is taken is the same one when the client writes it again.
fn decode_client(input: &[u8]) {
    let frame = Bytes::copy_from_slice(input);
    match wire::decode_client(frame.clone()) {
        Ok(incoming) => {
            let again = proto::ClientFrame::decode(frame).expect("it was taken");
            let again = wire::decode_client(again.encode_to_vec().into());
            assert_eq!(again.as_ref(), Ok(&incoming));
        }
        Err(refused) => assert!(refused.refusal.fatal || refused.req_id > 0),
    }
}

/// What a client makes of what a server says.
fn decode_server(input: &[u8]) {
    let Ok(frame) = wire::decode_server(Bytes::copy_from_slice(input)) else { return };
    let again = frame.encode_to_vec();
    assert!(again.len() <= 2 * input.len().max(SERVER_FRAME_BYTES_MAX));
    // One at a time: what is bounded is a frame, not two of them.
    drop(frame);
    let frame = wire::decode_server(again.clone().into()).expect("it was written from one");
    assert_eq!(frame.encode_to_vec(), again);
}

/// What is taken comes back from what it is written as.
macro_rules! comes_back {
    ($bytes:expr, $decode:path, $encode:path) => {
        if let Ok(value) = $decode($bytes) {
            assert!(
                $decode($encode(&value)).as_ref() == Ok(&value),
                concat!(stringify!($decode), " does not come back")
            );
        }
    };
    ($bytes:expr, $kind:ty) => {
        if let Ok(value) = <$kind>::decode($bytes) {
            assert!(
                <$kind>::decode(value.encode()).as_ref() == Ok(&value),
                concat!(stringify!($kind), " does not come back")
            );
        }
    };
}

/// The first byte says what the rest is taken for.
fn records(input: &[u8]) {
    let Some((&form, bytes)) = input.split_first() else { return };
    let shared = Bytes::copy_from_slice(bytes);
    match form % 16 {
        0 => comes_back!(shared, history::decode, history::encode),
        1 => {
            // An entry of a newer version is passed over, and nobody writes one.
            if let Ok(entry) = inbox::decode(shared)
                && entry.kind != roamd::message::EntryKind::Unknown
            {
                assert_eq!(inbox::decode(inbox::encode(&entry)).as_ref(), Ok(&entry));
            }
        }
        2 => comes_back!(shared, Remembered),
        3 => comes_back!(shared, Mutation),
        4 => comes_back!(shared, Notice),
        5 => comes_back!(shared, Conversation),
        6 => comes_back!(shared, Membership),
        7 => comes_back!(shared, Member),
        8 => comes_back!(shared, Device),
        9 => comes_back!(shared, Mutated),
        10 => {
            comes_back!(shared.clone(), Hidden);
            comes_back!(shared, Revocation);
        }
        11 => comes_back!(shared, Preference),
        12 => comes_back!(shared, Target),
        13 => comes_back!(shared, Outbox),
        14 => {
            comes_back!(shared.clone(), push::Round);
            comes_back!(shared, notice::Round);
        }
        _ => {
            let _ = forms::taking(bytes);
        }
    }
}

fn ring() -> &'static KeyRing {
    static RING: OnceLock<KeyRing> = OnceLock::new();
    RING.get_or_init(|| {
        KeyRing::new([Key::hs256(&[7; 32]).expect("a key")]).expect("a ring of one key")
    })
}

/// A configuration, a duration, a token.
fn text(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let now = Timestamp::from_millis(1_700_000_000_000);
    match text.as_bytes().first() {
        Some(b'.') => {
            // A genuine token with a piece of it replaced is none.
            static TOKEN: OnceLock<String> = OnceLock::new();
            let token = TOKEN.get_or_init(|| {
                let user = UserId::new("alice").expect("an id");
                let hour = std::time::Duration::from_secs(3600);
                ring().mint(&user, None, Scopes::of(&[Scope::Client]), hour, now).expect("a token")
            });
            let rest = &text[1..];
            let at = rest.bytes().next().map_or(0, usize::from) % token.len();
            let forged: String = token[..at].chars().chain(rest.chars()).collect();
            assert!(forged == *token || ring().verify(&forged, now).is_err());
        }
        Some(b'd') => {
            let _ = parse_duration(&text[1..]);
        }
        _ => {
            let _ = Config::read(text);
            assert!(ring().verify(text, now).is_err());
        }
    }
}
