//! The wire: bytes of a connection to values of the protocol, and back.
//!
//! ```text
//! bytes --frame--> frame body --scan--> bounded body --decode--> request::Incoming
//! reply::Reply --encode (raw for batches and pages, reply for the rest)--> bytes
//! ```
//!
//! Invariants:
//! - The only place that sees generated types, apart from the client library, which speaks them.
//! - A request that leaves [`decode_client`] keeps every argument rule of `proto/`; nobody checks
//!   them again. What depends on configuration (content size) or state is not checked here.
//! - Nothing is allocated for a frame before its length is known to be within the limit, and nothing
//!   is decoded before its fields are counted.
//! - No frame passes [`crate::limits::SERVER_FRAME_BYTES_MAX`].
//!
//! It holds no state beyond the frame limit of a [`FrameDecoder`], which its connection owns.

mod arguments;
mod decode;
mod encode;
mod frame;
pub mod proto;
mod raw;
mod reply;
mod scan;
mod sink;

pub use decode::{Refused, decode_client};
pub use encode::{encode_client, encode_server};
pub use frame::{FrameDecoder, FrameError, ReadError, encode_delimited};
pub use raw::{entry_len, message_len};

use bytes::Bytes;
use prost::Message;

/// The bytes of a server frame are not a `ServerFrame`, or one whose lists would take more memory than
/// [`limits::DECODED_BYTES_FACTOR`](crate::limits::DECODED_BYTES_FACTOR) allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame is not a ServerFrame: {0}")]
pub struct MalformedFrame(String);

/// Decodes the body of a frame the server sent; for the client's side.
///
/// # Errors
/// [`MalformedFrame`] when the bytes are not a `ServerFrame`; the stream is then of no more use.
pub fn decode_server(frame: Bytes) -> Result<proto::ServerFrame, MalformedFrame> {
    scan::scan_server(&frame).map_err(|error| MalformedFrame(error.to_string()))?;
    proto::ServerFrame::decode(frame).map_err(|error| MalformedFrame(error.to_string()))
}
