//! A connection's bytes: one transport, what was read from it and what waits to be written.

use std::{future::poll_fn, io, mem::MaybeUninit, pin::Pin, task::Poll};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::tls::Tls;

/// Bytes taken from the transport at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes taken before what has come is looked at.
const TURN_BYTES: usize = 256 * 1024;

/// Anything that carries bytes both ways.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Opens a connection to `host:port`.
pub(super) async fn open(address: &str, tls: Option<&Tls>) -> io::Result<Buffered> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let transport: Box<dyn Transport> = match tls {
        None => Box::new(socket),
        // The handshake's state is large, and needed for a moment only.
        Some(tls) => Box::new(Box::pin(tls.shake(socket, address)).await?),
    };
    Ok(Buffered::new(transport))
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something was read.
    Read,
    /// Everything was written.
    Written,
    /// The peer has closed.
    End,
}

/// A transport with its buffers, which hold memory only while there is something in them.
pub(super) struct Buffered {
    transport: Box<dyn Transport>,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    flushed: bool,
}

impl Buffered {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport, input: BytesMut::new(), output: BytesMut::new(), flushed: true }
    }

    /// Writes what waits and reads what comes, until there is something to do: bytes were read, the
    /// peer has closed, or, if `more` is to be written, all is written. Cancel safe.
    pub(super) async fn turn(&mut self, more: bool) -> io::Result<Turn> {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        poll_fn(|cx| {
            let transport = &mut *self.transport;
            while !self.output.is_empty() {
                match Pin::new(&mut *transport).poll_write(cx, &self.output)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => {
                        self.output.advance(count);
                        self.flushed = false;
                    }
                    Poll::Pending => break,
                }
            }
            if self.output.is_empty() && !self.flushed {
                self.flushed = Pin::new(&mut *transport).poll_flush(cx)?.is_ready();
                self.output = BytesMut::new();
            }
            let mut taken = 0;
            let mut bytes = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
            while taken < TURN_BYTES {
                let mut read = ReadBuf::uninit(&mut bytes);
                match Pin::new(&mut *transport).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if read.filled().is_empty() => {
                        let turn = if taken > 0 { Turn::Read } else { Turn::End };
                        return Poll::Ready(Ok(turn));
                    }
                    Poll::Ready(Ok(())) => {
                        taken += read.filled().len();
                        self.input.extend_from_slice(read.filled());
                    }
                    // What came before the error is looked at first; the error comes again.
                    Poll::Ready(Err(error)) if taken == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(_)) | Poll::Pending => break,
                }
            }
            if taken > 0 {
                Poll::Ready(Ok(Turn::Read))
            } else if more && self.output.is_empty() {
                Poll::Ready(Ok(Turn::Written))
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
