//! Framing: protobuf's delimited stream. A varint length, then that many bytes of one message.
//!
//! Invariants: a length is refused from the prefix alone, before any memory is reserved for it; the
//! buffer grows with the bytes that arrive, at most [`FRAME_GROWTH_BYTES_MAX`] ahead of them; a frame
//! is a slice of the read buffer, not a copy. The connection owns the decoder and its buffer.

use std::io;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio_util::codec::Decoder;

use crate::{
    limits::FRAME_GROWTH_BYTES_MAX,
    refusal::{ErrorCode, Refusal},
};

/// Longest length prefix, in bytes: 35 bits, more than any limit.
const PREFIX_BYTES_MAX: usize = 5;

/// Why a stream of frames cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length of zero.
    #[error("a frame has a length of zero")]
    Empty,
    /// A length prefix that is longer than it needs to be, or than 5 bytes.
    #[error("a length prefix is longer than it needs to be")]
    LongPrefix,
    /// A length over the limit.
    #[error("a frame of {announced} bytes is over the limit of {limit}")]
    TooLarge {
        /// What the prefix says.
        announced: u64,
        /// What is allowed now.
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
}

impl FrameError {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::Empty | Self::LongPrefix | Self::Truncated => ErrorCode::BadFrame,
        }
    }

    /// The last words to a client: every error of framing is fatal.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal::fatal(self.code(), self.to_string())
    }
}

/// Why nothing more comes from a framed reader.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer breaks the framing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The transport failed.
    #[error("cannot read from the connection")]
    Io(#[from] io::Error),
}

/// Cuts a byte stream into frame bodies.
///
/// Keeps nothing but its limit: the prefix is read again when more bytes have come, so the limit may
/// change between any two calls. After an error the stream is of no more use.
///
/// ```
/// use bytes::BytesMut;
/// use roamd::wire::{FrameDecoder, FrameError};
///
/// let mut stream = BytesMut::from(&b"\x02hi\x03yo"[..]);
/// let mut decoder = FrameDecoder::new(16);
/// assert_eq!(decoder.next_frame(&mut stream).unwrap().unwrap(), "hi");
/// assert_eq!(decoder.next_frame(&mut stream), Ok(None));
/// ```
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    limit: usize,
}

impl FrameDecoder {
    /// Takes frames of 1..=`limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Takes frames of 1..=`limit` bytes from now on.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many bytes the frame at the start of `stream` has with its prefix, as far as it can be told
    /// and may be.
    #[must_use]
    pub fn announced(&self, stream: &[u8]) -> Option<usize> {
        let (prefix, body) = read_prefix(stream, self.limit).ok()??;
        Some(prefix + body)
    }

    /// The body of the next frame, or none while it is incomplete.
    ///
    /// The body shares the memory of `stream`: keeping a piece of it keeps the read buffer it came in.
    ///
    /// # Errors
    /// [`FrameError`], from the first bytes that show it; `stream` is left as it is.
    pub fn next_frame(&mut self, stream: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some((prefix, body)) = read_prefix(stream, self.limit)? else {
            return Ok(None);
        };
        let missing = (prefix + body).saturating_sub(stream.len());
        if missing > 0 {
            stream.reserve(missing.min(FRAME_GROWTH_BYTES_MAX));
            return Ok(None);
        }
        let mut frame = stream.split_to(prefix + body);
        Ok(Some(frame.split_off(prefix).freeze()))
    }
}

/// Reads the length at the start of `stream`: how many bytes it takes and what it says.
fn read_prefix(stream: &[u8], limit: usize) -> Result<Option<(usize, usize)>, FrameError> {
    let mut announced: u64 = 0;
    for (index, &byte) in stream.iter().take(PREFIX_BYTES_MAX).enumerate() {
        announced |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 != 0 {
            continue;
        }
        if byte == 0 {
            return Err(if index == 0 { FrameError::Empty } else { FrameError::LongPrefix });
        }
        return match usize::try_from(announced) {
            Ok(body) if body <= limit => Ok(Some((index + 1, body))),
            _ => Err(FrameError::TooLarge { announced, limit }),
        };
    }
    if stream.len() >= PREFIX_BYTES_MAX { Err(FrameError::LongPrefix) } else { Ok(None) }
}

impl Decoder for FrameDecoder {
    type Item = Bytes;
    type Error = ReadError;

    fn decode(&mut self, stream: &mut BytesMut) -> Result<Option<Bytes>, ReadError> {
        Ok(self.next_frame(stream)?)
    }

    fn decode_eof(&mut self, stream: &mut BytesMut) -> Result<Option<Bytes>, ReadError> {
        match self.next_frame(stream)? {
            None if !stream.is_empty() => Err(FrameError::Truncated.into()),
            frame => Ok(frame),
        }
    }
}

/// Appends one message with its length prefix.
pub fn encode_delimited(message: &impl Message, out: &mut BytesMut) {
    message.encode_length_delimited(out).expect("a BytesMut grows as needed");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8], limit: usize) -> Result<Option<Bytes>, FrameError> {
        FrameDecoder::new(limit).next_frame(&mut BytesMut::from(bytes))
    }

    #[test]
    fn refuses_from_the_prefix() {
        assert_eq!(first(&[0], 10), Err(FrameError::Empty));
        assert_eq!(first(&[0x81, 0x00], 10), Err(FrameError::LongPrefix));
        assert_eq!(first(&[0x80; 5], 10), Err(FrameError::LongPrefix));
        assert_eq!(first(&[0x80; 4], 10), Ok(None));
        assert_eq!(first(&[11], 10), Err(FrameError::TooLarge { announced: 11, limit: 10 }));
        assert_eq!(
            first(&[0xff, 0xff, 0xff, 0xff, 0x7f], 10),
            Err(FrameError::TooLarge { announced: (1 << 35) - 1, limit: 10 })
        );
    }

    #[test]
    fn takes_a_frame_of_exactly_the_limit() {
        assert_eq!(first(&[2, 7, 8], 2), Ok(Some(Bytes::from_static(&[7, 8]))));
    }

    #[test]
    fn an_announcement_alone_reserves_no_more_than_one_step() {
        let mut stream = BytesMut::new();
        encode_prefix(1 << 30, &mut stream);
        assert_eq!(FrameDecoder::new(1 << 30).next_frame(&mut stream), Ok(None));
        assert!(stream.capacity() <= 2 * FRAME_GROWTH_BYTES_MAX, "{}", stream.capacity());

        let mut small = BytesMut::from(&[100u8][..]);
        assert_eq!(FrameDecoder::new(1 << 30).next_frame(&mut small), Ok(None));
        assert!(small.capacity() <= 256, "{}", small.capacity());
    }

    #[test]
    fn the_end_of_the_stream_inside_a_frame_is_an_error() {
        let mut decoder = FrameDecoder::new(10);
        let mut stream = BytesMut::from(&[3, 1, 2][..]);
        let end = decoder.decode_eof(&mut stream);
        assert!(matches!(end, Err(ReadError::Frame(FrameError::Truncated))));
        assert!(matches!(decoder.decode_eof(&mut BytesMut::new()), Ok(None)));
    }

    fn encode_prefix(len: u64, out: &mut BytesMut) {
        prost::encoding::encode_varint(len, out);
    }
}
