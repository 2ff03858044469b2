//! The bytes of one connection, plain or through TLS, for a connection that waits for readiness.
//!
//! TLS is the same socket with a state machine in front of it: what the socket has goes through it to
//! the input, what is to be said goes through it to the socket. So everything behind it is one code,
//! a plain connection pays nothing, and a handshake is only bytes before the first frame: the deadline
//! of Hello and the bound on greeting connections hold for it. It buffers at most one chunk.

use std::{
    cell::RefCell,
    io::{self, BufRead, IoSlice, Read, Write},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// Bytes read from the socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes that are encrypted before the socket has taken those before them.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a peer that has been told everything may take to close as well.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

thread_local! {
    static BYTES_READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// See the head of this module.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub(super) struct Tls {
    socket: TcpStream,
    tls: ServerConnection,
    /// The peer has said that it will say nothing more.
    over: bool,
    /// What waits for the socket is not waited for any more.
    abandoned: bool,
}

impl Stream {
    /// The server's side of TLS on this socket.
    pub(super) fn tls(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let tls = ServerConnection::new(config)?;
        Ok(Self::Tls(Box::new(Tls { socket, tls, over: false, abandoned: false })))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.socket,
        }
    }

    /// Waits until [`Stream::read`] has something to do.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tls(stream) if stream.over => Ok(()),
            _ => self.socket().readable().await,
        }
    }

    /// Waits until [`Stream::write`] has something to do.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket().writable().await
    }

    /// The same, for a caller that waits for other things as well.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_write_ready(context)
    }

    /// As [`Stream::read`], when something has come. A plain socket that gave less than was asked for
    /// is not asked in vain once more.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => BYTES_READ.with_borrow_mut(|bytes| {
                let mut bytes = ReadBuf::new(bytes);
                ready!(Pin::new(socket).poll_read(context, &mut bytes))?;
                Poll::Ready(take(bytes.filled(), input))
            }),
            Self::Tls(stream) => {
                if !stream.over {
                    ready!(stream.socket.poll_read_ready(context))?;
                }
                Poll::Ready(stream.read(input))
            }
        }
    }

    /// Appends what has come, perhaps nothing. `UnexpectedEof` = nothing more will come.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Plain(socket) => {
                BYTES_READ.with_borrow_mut(|bytes| match socket.try_read(bytes) {
                    Ok(count) => take(bytes.get(..count).unwrap_or_default(), input),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(error),
                })
            }
            Self::Tls(stream) => stream.read(input),
        }
    }

    /// Gives the socket as much of the output as it takes. True = it took something.
    pub(super) fn write(&mut self, output: &mut BytesMut) -> io::Result<bool> {
        let mut taken = false;
        loop {
            let wrote = match self {
                Self::Plain(_) if output.is_empty() => return Ok(taken),
                Self::Plain(socket) => socket.try_write(output).inspect(|at| output.advance(*at)),
                Self::Tls(stream) => {
                    stream.encrypt(output)?;
                    if !stream.holds_back() {
                        return Ok(taken);
                    }
                    stream.tls.write_tls(&mut Socket(&stream.socket))
                }
            };
            match wrote {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => taken = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether something waits for the socket that is in no output any more.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.holds_back(),
        }
    }

    /// Whether the server has done its part of a handshake; a plain stream has none to do.
    pub(super) fn has_replied(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream.tls.wants_write() || !stream.tls.is_handshaking(),
        }
    }

    /// The peer takes nothing: what waits for it is given up.
    pub(super) fn abandon(&mut self) {
        if let Self::Tls(stream) = self {
            stream.abandoned = true;
        }
    }

    /// Whether nothing can be said yet.
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.tls.is_handshaking(),
        }
    }

    /// Says this and nothing else, as far as the peer takes it in a moment.
    pub(super) async fn say_last(&mut self, mut frame: BytesMut) {
        let say = async {
            let mut dropped = BytesMut::new();
            loop {
                self.write(&mut frame)?;
                let (shakes, waits) = (self.is_handshaking(), self.holds_back());
                if !waits && frame.is_empty() {
                    return Ok::<_, io::Error>(());
                }
                tokio::select! {
                    ready = self.readable(), if shakes => {
                        ready?;
                        self.read(&mut dropped)?;
                    }
                    ready = self.writable(), if waits || !shakes => ready?,
                }
            }
        };
        if matches!(timeout(LINGER_TIME_MAX, say).await, Ok(Ok(()))) {
            self.linger().await;
        }
    }

    /// Says that nothing more will come, and for a moment drops what the peer still says. A socket
    /// closed with bytes unread resets the connection, and the last frames could be lost on their way.
    pub(super) async fn linger(&mut self) {
        let drop_all = async {
            self.finish().await?;
            let socket = self.socket();
            let mut dropped = vec![0; 4096];
            loop {
                socket.readable().await?;
                match socket.try_read(&mut dropped) {
                    Ok(0) => return Ok::<_, io::Error>(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        };
        // An error ends it as well.
        let _ = timeout(LINGER_TIME_MAX, drop_all).await;
    }

    async fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.tls.send_close_notify();
        }
        self.write(&mut BytesMut::new())?;
        while self.holds_back() {
            self.writable().await?;
            self.write(&mut BytesMut::new())?;
        }
        SockRef::from(self.socket()).shutdown(Shutdown::Write)
    }
}

/// What has come takes the memory that it needs: its frames may wait for long.
fn take(bytes: &[u8], input: &mut BytesMut) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    input.extend_from_slice(bytes);
    Ok(())
}

impl Tls {
    fn holds_back(&self) -> bool {
        self.tls.wants_write() && !self.abandoned
    }

    fn read(&mut self, input: &mut BytesMut) -> io::Result<()> {
        let before = input.len();
        let mut taken = 0;
        while taken < READ_BYTES && !self.over {
            match self.tls.read_tls(&mut Socket(&self.socket)) {
                Ok(0) => self.over = true,
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.over |= state.peer_has_closed();
                    self.decrypted(state.plaintext_bytes_to_read(), input)?;
                }
                Err(error) => {
                    // The alert says why; if it cannot go at once, nobody waits for it.
                    let _ = self.tls.write_tls(&mut Socket(&self.socket));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        // What came before the end is looked at first.
        if self.over && input.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn decrypted(&mut self, mut waiting: usize, input: &mut BytesMut) -> io::Result<()> {
        while waiting > 0 {
            let mut reader = self.tls.reader();
            let bytes = reader.fill_buf()?;
            let count = bytes.len();
            input.extend_from_slice(bytes);
            reader.consume(count);
            waiting = waiting.saturating_sub(count.max(1));
        }
        Ok(())
    }

    /// The next chunk of the output, once the one before is gone.
    fn encrypt(&mut self, output: &mut BytesMut) -> io::Result<()> {
        if output.is_empty() || self.tls.is_handshaking() || self.tls.wants_write() {
            return Ok(());
        }
        let chunk = output.get(..CHUNK_BYTES).unwrap_or(output);
        let count = self.tls.writer().write(chunk)?;
        output.advance(count);
        Ok(())
    }
}

/// A socket as TLS sees it: what would wait says so.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
