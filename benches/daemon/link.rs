//! A lean connection: frames out, frames in, nothing else.

use std::{cell::RefCell, future::poll_fn, path::Path, pin::Pin, sync::Arc, task::ready};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};
use roamd::wire::{
    encode_client,
    proto::{
        Ack, ClientFrame, Hello, Position, Resume, Send, ServerFrame, client_frame::Body, send::To,
        server_frame,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    scan::{self, Said},
    server::Target,
};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

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

/// A message to one place: all of its frame but two numbers is made once.
pub struct Template {
    send: Vec<u8>,
}

impl Template {
    pub fn new(to: To, content: &Bytes) -> Self {
        let send = Send {
            to: Some(to),
            content_type: "text/plain".into(),
            content: content.clone(),
            ..Send::default()
        };
        Self { send: send.encode_to_vec() }
    }

    fn put(&self, req_id: u64, message_id: u64, out: &mut BytesMut) {
        let body = self.send.len() + 1 + encoded_len_varint(message_id);
        let frame = 1 + encoded_len_varint(req_id) + 1 + encoded_len_varint(body as u64) + body;
        encode_varint(frame as u64, out);
        out.put_u8(1 << 3);
        encode_varint(req_id, out);
        out.put_u8(10 << 3 | 2);
        encode_varint(body as u64, out);
        out.put_slice(&self.send);
        out.put_u8(3 << 3);
        encode_varint(message_id, out);
    }
}

pub struct Link {
    pub stream: Box<dyn Both>,
    input: Vec<u8>,
    read: usize,
    pub output: BytesMut,
    next_req: u64,
    pub epoch: u64,
    pub last_seq: u64,
    acked: u64,
    /// The numbers of this device's messages are above this.
    pub first_message_id: u64,
}

impl Link {
    /// Connects and says Hello; returns after Welcome.
    pub async fn open(
        target: &Target,
        token: &str,
        device: &str,
        resume: Option<u64>,
        epoch: u64,
    ) -> Self {
        Self::open_on(Self::plain(target).await, token, device, resume, epoch).await
    }

    async fn plain(target: &Target) -> Box<dyn Both> {
        let stream = TcpStream::connect(target.address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Box::new(stream)
    }

    async fn tls(target: &Target) -> Box<dyn Both> {
        let (address, trusts) = target.tls.as_ref().expect("a target with TLS");
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::clone(trusts));
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
            input: Vec::new(),
            read: 0,
            output: BytesMut::new(),
            next_req: 0,
            epoch,
            last_seq: resume.unwrap_or(0),
            acked: resume.unwrap_or(0),
            first_message_id: 0,
        };
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.to_owned(),
            device_id: device.into(),
            resume: resume.map(|seq| Position { epoch, seq }),
            ..Hello::default()
        };
        link.say(Body::Hello(hello));
        link.flush().await;
        match link.rare().await {
            server_frame::Body::Welcome(welcome) => {
                link.epoch = welcome.epoch;
                link.first_message_id = welcome.last_client_message_id;
            }
            other => panic!("no welcome: {other:?}"),
        }
        link
    }

    /// As [`Link::open`] for a device without a copy, which adopts the head.
    pub async fn adopt(target: &Target, user: &str, device: &str) -> Self {
        Self::adopt_on(Self::plain(target).await, &target.token(user), device).await
    }

    /// The same over TLS.
    pub async fn adopt_tls(target: &Target, user: &str, device: &str) -> Self {
        Self::adopt_on(Self::tls(target).await, &target.token(user), device).await
    }

    async fn adopt_on(stream: Box<dyn Both>, token: &str, device: &str) -> Self {
        let mut link = Self::open_on(stream, token, device, None, 0).await;
        let server_frame::Body::TooLong(too_long) = link.rare().await else {
            panic!("a new device is told TooLong");
        };
        let position = Position { epoch: too_long.epoch, seq: too_long.head_seq };
        (link.last_seq, link.acked) = (too_long.head_seq, too_long.head_seq);
        link.say(Body::Resume(Resume { position: Some(position) }));
        link.flush().await;
        link
    }

    pub fn say(&mut self, body: Body) {
        self.next_req += 1;
        let frame = ClientFrame { req_id: self.next_req, ack_seq: 0, body: Some(body) };
        encode_client(&frame, &mut self.output);
    }

    pub fn send(&mut self, to: &Template, message_id: u64) {
        self.next_req += 1;
        to.put(self.next_req, message_id, &mut self.output);
    }

    pub async fn flush(&mut self) {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await.expect("a connection");
            self.stream.flush().await.expect("a connection");
            self.output.clear();
        }
    }

    /// A frame that is already here.
    pub fn ready(&mut self) -> Option<Said<'_>> {
        let rest = self.input.get(self.read..).unwrap_or_default();
        let Some((prefix, length)) = scan::frame(rest) else {
            self.input.drain(..self.read);
            self.read = 0;
            if self.input.is_empty() {
                // What waits costs nothing.
                self.input = Vec::new();
            }
            return None;
        };
        let start = self.read + prefix;
        self.read = start + length;
        let said = scan::said(&self.input[start..self.read]);
        if let Said::Batch { first, last } = said {
            assert_eq!(first, self.last_seq + 1, "the stream has no gap");
            self.last_seq = last;
        }
        Some(said)
    }

    /// Reads what comes next from the socket.
    pub async fn fill(&mut self) {
        let Self { stream, input, .. } = self;
        let count = poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                let read = Pin::new(&mut *stream).poll_read(context, &mut buffer);
                ready!(read).expect("a connection");
                input.extend_from_slice(buffer.filled());
                std::task::Poll::Ready(buffer.filled().len())
            })
        })
        .await;
        assert!(count > 0, "the server has closed the connection");
    }

    /// The next frame that is none of the frequent ones, which are passed over.
    pub async fn rare(&mut self) -> server_frame::Body {
        self.decoded().await.body.expect("a body")
    }

    async fn decoded(&mut self) -> ServerFrame {
        loop {
            match self.ready() {
                Some(Said::Other(frame)) => {
                    return ServerFrame::decode(frame).expect("a server frame");
                }
                Some(_) => {}
                None => self.fill().await,
            }
        }
    }

    /// Asks and waits for the answer, which is none of the frequent ones.
    pub async fn call(&mut self, body: Body) -> server_frame::Body {
        self.say(body);
        self.flush().await;
        loop {
            let frame = self.decoded().await;
            if frame.req_id == self.next_req {
                return frame.body.expect("a body");
            }
        }
    }

    /// Until the stream is live; acks what comes on the way.
    pub async fn caught_up(&mut self) {
        loop {
            match self.ready() {
                Some(Said::CaughtUp) => return,
                Some(Said::Other(frame)) => {
                    let frame = ServerFrame::decode(frame).expect("a server frame");
                    assert!(
                        matches!(frame.body, Some(server_frame::Body::Resumed(_))),
                        "not expected before CaughtUp: {frame:?}"
                    );
                }
                Some(_) => {}
                None => {
                    self.ack(64);
                    self.flush().await;
                    self.fill().await;
                }
            }
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
