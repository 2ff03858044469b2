//! A lean session: frames out, frames in, the stream checked for gaps.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use roamd::wire::{
    FrameDecoder, encode_client,
    proto::{
        self, Ack, ClientFrame, Hello, Position, Send, ServerFrame, client_frame::Body, send::To,
        server_frame::Body as Said,
    },
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

/// Anything that carries bytes both ways.
pub trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

/// How an attempt to open a session failed.
#[derive(Debug)]
pub enum Failed {
    /// The connection was refused or lost.
    Lost,
    /// The server said no; how long to wait, if it said that.
    Refused(proto::Error),
    GoAway(proto::GoAway),
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

pub struct Link {
    pub stream: Box<dyn Both>,
    decoder: FrameDecoder,
    input: BytesMut,
    output: BytesMut,
    next_req: u64,
    pub epoch: u64,
    /// The last entry received.
    pub seq: u64,
    acked: u64,
    caught_up: bool,
}

impl Link {
    /// Connects, says Hello and hears Welcome.
    pub async fn open(
        address: SocketAddr,
        token: &str,
        device: &str,
        resume: Option<Position>,
    ) -> Result<Self, Failed> {
        let mut link = Self::connect(address).await?;
        link.greet(token, device, resume).await?;
        Ok(link)
    }

    /// Says Hello and hears Welcome.
    pub async fn greet(
        &mut self,
        token: &str,
        device: &str,
        resume: Option<Position>,
    ) -> Result<(), Failed> {
        self.say(Body::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.to_owned(),
            device_id: device.into(),
            resume,
            ..Hello::default()
        }));
        self.seq = resume.map_or(0, |at| at.seq);
        self.acked = self.seq;
        self.flush().await?;
        match self.next().await?.body {
            Some(Said::Welcome(welcome)) => self.epoch = welcome.epoch,
            Some(Said::Error(error)) => return Err(Failed::Refused(error)),
            Some(Said::GoAway(bye)) => return Err(Failed::GoAway(bye)),
            other => panic!("no welcome: {other:?}"),
        }
        Ok(())
    }

    /// Makes a group with these members.
    pub async fn create(&mut self, id: &str, members: impl Iterator<Item = String>) {
        self.say(Body::CreateGroup(proto::CreateGroup {
            client_request_id: 1,
            conversation_id: id.to_owned(),
            title: "many".into(),
            user_ids: members.collect(),
            history_policy: 1,
            ..proto::CreateGroup::default()
        }));
        self.flush().await.unwrap();
        loop {
            match self.next().await.unwrap().body {
                Some(Said::GroupCreated(_)) => return,
                Some(Said::Error(error)) => panic!("{error:?}"),
                _ => {}
            }
        }
    }

    /// A connection on which nothing was said.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// A connection through TLS, on which nothing was said.
    pub async fn connect_tls(address: SocketAddr, tls: &TlsConnector) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(address.ip().into());
        Ok(Self::over(Box::new(tls.connect(name, stream).await?)))
    }

    /// The same as [`Link::connect`], from one of the addresses of this machine, with little room for what comes.
    pub async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    pub fn over(stream: Box<dyn Both>) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(2 << 20),
            input: BytesMut::new(),
            output: BytesMut::new(),
            next_req: 0,
            epoch: 0,
            seq: 0,
            acked: 0,
            caught_up: false,
        }
    }

    /// A session of a new device, which adopts the head of the inbox.
    pub async fn adopt(address: SocketAddr, token: &str, device: &str) -> Self {
        let mut link = Self::open(address, token, device, None).await.expect("a session");
        link.adopt_head().await;
        link
    }

    pub async fn adopt_head(&mut self) {
        let Some(Said::TooLong(too_long)) = self.next().await.expect("a frame").body else {
            panic!("a new device is told TooLong");
        };
        let position = Position { epoch: too_long.epoch, seq: too_long.head_seq };
        (self.seq, self.acked) = (too_long.head_seq, too_long.head_seq);
        self.say(Body::Resume(proto::Resume { position: Some(position) }));
        self.flush().await.expect("a connection");
    }

    /// Until CaughtUp, acking what comes.
    pub async fn caught_up(&mut self) -> io::Result<()> {
        while !self.caught_up {
            self.next().await?;
            self.ack(64);
            self.flush().await?;
        }
        Ok(())
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }

    /// Queues a request; returns its number.
    pub fn say(&mut self, body: Body) -> u64 {
        self.next_req += 1;
        let frame = ClientFrame { req_id: self.next_req, ack_seq: 0, body: Some(body) };
        encode_client(&frame, &mut self.output);
        self.next_req
    }

    pub fn send(&mut self, to: To, id: u64, content: &Bytes) -> u64 {
        self.say(Body::Send(Send {
            to: Some(to),
            client_message_id: id,
            content_type: "text/plain".into(),
            content: content.clone(),
            ..Send::default()
        }))
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// A frame that is already here.
    pub fn ready(&mut self) -> Option<ServerFrame> {
        let frame = self.decoder.next_frame(&mut self.input).expect("a frame");
        let Some(frame) = frame else {
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            return None;
        };
        let frame = ServerFrame::decode(frame).expect("a server frame");
        match &frame.body {
            Some(Said::SyncBatch(batch)) => {
                assert_eq!(batch.first_seq, self.seq + 1, "the stream has no gap");
                self.seq = batch.last_seq;
            }
            Some(Said::CaughtUp(_)) => self.caught_up = true,
            _ => {}
        }
        Some(frame)
    }

    pub async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(4096);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub async fn next(&mut self) -> io::Result<ServerFrame> {
        loop {
            if let Some(frame) = self.ready() {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Until the server ends the connection; its last words.
    pub async fn end(&mut self) -> Option<ServerFrame> {
        let mut last = None;
        while let Ok(frame) = self.next().await {
            last = Some(frame);
        }
        last
    }

    /// Acks what has come in, when it is at least `count` entries.
    pub fn ack(&mut self, count: u64) {
        if self.seq >= self.acked + count {
            self.acked = self.seq;
            let body = Some(Body::Ack(Ack { seq: self.acked }));
            encode_client(&ClientFrame { body, ..ClientFrame::default() }, &mut self.output);
        }
    }
}

/// What an error says about coming back.
pub fn hint(error: &proto::Error) -> Option<Duration> {
    (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms.into()))
}
