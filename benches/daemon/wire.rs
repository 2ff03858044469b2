//! A lean connection: frames out, frames in, nothing else.

use std::{path::Path, sync::Arc};

use bytes::BytesMut;
use prost::Message;
use roamd::wire::{
    FrameDecoder, encode_client,
    proto::{
        Ack, ClientFrame, Hello, Position, Send, ServerFrame, client_frame::Body, send::To,
        server_frame,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::Server;

/// Anything that carries bytes both ways.
pub trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

/// Trusts the authority in this file, and shakes hands in full every time.
pub fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority).expect("an authority");
    roots.add(certificate).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

pub struct Link {
    pub stream: Box<dyn Both>,
    decoder: FrameDecoder,
    input: BytesMut,
    pub output: BytesMut,
    next_req: u64,
    pub epoch: u64,
    pub last_seq: u64,
    acked: u64,
}

impl Link {
    /// Connects and says Hello; returns after Welcome.
    pub async fn open(
        server: &Server,
        token: &str,
        device: &str,
        resume: Option<u64>,
        epoch: u64,
    ) -> Self {
        Self::open_on(Self::plain(server).await, token, device, resume, epoch).await
    }

    async fn plain(server: &Server) -> Box<dyn Both> {
        let stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Box::new(stream)
    }

    async fn tls(server: &Server) -> Box<dyn Both> {
        let stream = TcpStream::connect(server.tls).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let name = ServerName::IpAddress(server.tls.ip().into());
        let connector = TlsConnector::from(Arc::clone(&server.trusts));
        Box::new(connector.connect(name, stream).await.expect("a handshake"))
    }

    async fn open_on(
        stream: Box<dyn Both>,
        token: &str,
        device: &str,
        resume: Option<u64>,
        epoch: u64,
    ) -> Self {
        let mut link = Self {
            stream,
            decoder: FrameDecoder::new(2 << 20),
            input: BytesMut::new(),
            output: BytesMut::new(),
            next_req: 0,
            epoch,
            last_seq: resume.unwrap_or(0),
            acked: 0,
        };
        link.say(Body::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.to_owned(),
            device_id: device.into(),
            resume: resume.map(|seq| Position { epoch, seq }),
            ..Hello::default()
        }));
        link.flush().await;
        match link.next().await.body {
            Some(server_frame::Body::Welcome(welcome)) => link.epoch = welcome.epoch,
            other => panic!("no welcome: {other:?}"),
        }
        link
    }

    /// As [`Link::open`] for a device without a copy, which adopts the head.
    pub async fn adopt(server: &Server, user: &str, device: &str) -> Self {
        Self::adopt_on(Self::plain(server).await, &server.token(user), device).await
    }

    /// The same over TLS.
    pub async fn adopt_tls(server: &Server, user: &str, device: &str) -> Self {
        Self::adopt_on(Self::tls(server).await, &server.token(user), device).await
    }

    async fn adopt_on(stream: Box<dyn Both>, token: &str, device: &str) -> Self {
        let mut link = Self::open_on(stream, token, device, None, 0).await;
        let Some(server_frame::Body::TooLong(too_long)) = link.next().await.body else {
            panic!("a new device is told TooLong");
        };
        let position = Position { epoch: too_long.epoch, seq: too_long.head_seq };
        link.last_seq = too_long.head_seq;
        link.say(Body::Resume(roamd::wire::proto::Resume { position: Some(position) }));
        link.flush().await;
        link
    }

    pub fn say(&mut self, body: Body) {
        self.next_req += 1;
        let frame = ClientFrame { req_id: self.next_req, ack_seq: 0, body: Some(body) };
        encode_client(&frame, &mut self.output);
    }

    pub fn send(&mut self, peer: &str, id: u64, content: &bytes::Bytes) {
        self.say(Body::Send(Send {
            to: Some(To::Peer(peer.into())),
            client_message_id: id,
            content_type: "text/plain".into(),
            content: content.clone(),
            ..Send::default()
        }));
    }

    pub async fn flush(&mut self) {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await.expect("a connection");
            self.stream.flush().await.expect("a connection");
            self.output.clear();
        }
    }

    /// A frame that is already here.
    pub fn ready(&mut self) -> Option<ServerFrame> {
        let frame = self.decoder.next_frame(&mut self.input).expect("a frame")?;
        let frame = ServerFrame::decode(frame).expect("a server frame");
        if let Some(server_frame::Body::SyncBatch(batch)) = &frame.body {
            assert_eq!(batch.first_seq, self.last_seq + 1, "the stream has no gap");
            self.last_seq = batch.last_seq;
        }
        Some(frame)
    }

    pub async fn fill(&mut self) {
        self.input.reserve(64 * 1024);
        let read = self.stream.read_buf(&mut self.input).await.expect("a connection");
        assert!(read > 0, "the server has closed the connection");
    }

    pub async fn next(&mut self) -> ServerFrame {
        loop {
            if let Some(frame) = self.ready() {
                return frame;
            }
            self.fill().await;
        }
    }

    /// Acks what has come in, when it is at least `count` entries.
    pub fn ack(&mut self, count: u64) {
        if self.last_seq >= self.acked + count {
            self.acked = self.last_seq;
            let frame = ClientFrame {
                body: Some(Body::Ack(Ack { seq: self.acked })),
                ..ClientFrame::default()
            };
            encode_client(&frame, &mut self.output);
        }
    }
}
