//! One connection to the daemon: frames out, frames in, blocking.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use roamd::{
    limits::SERVER_FRAME_BYTES_MAX,
    wire::{
        FrameDecoder, decode_server, encode_client,
        proto::{self, client_frame, server_frame},
    },
};

/// Why a conversation with the daemon did not go on.
#[derive(Debug)]
pub enum Trouble {
    /// The connection is gone, as after a kill.
    Gone(String),
    /// The daemon is there and says what it must not.
    Wrong(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::WouldBlock => {
                Self::Wrong(format!("no readable frame: {error}"))
            }
            _ => Self::Gone(error.to_string()),
        }
    }
}

impl Trouble {
    /// For people.
    pub fn text(self) -> String {
        match self {
            Self::Gone(text) => format!("the connection is gone: {text}"),
            Self::Wrong(text) => text,
        }
    }
}

/// A reply that takes longer than this will not come.
const READ_TIME_MAX: Duration = Duration::from_secs(60);

pub struct Connection {
    stream: TcpStream,
    decoder: FrameDecoder,
    input: BytesMut,
    output: BytesMut,
    last_req_id: u64,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIME_MAX))?;
        Ok(Self {
            stream,
            decoder: FrameDecoder::new(SERVER_FRAME_BYTES_MAX),
            input: BytesMut::new(),
            output: BytesMut::new(),
            last_req_id: 0,
        })
    }

    /// What does not come within this time will not come.
    pub fn be_patient(&self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))
    }

    /// Puts a request into the buffer; returns its number.
    pub fn ask(&mut self, body: client_frame::Body, ack_seq: u64) -> u64 {
        self.last_req_id += 1;
        let frame = proto::ClientFrame { req_id: self.last_req_id, ack_seq, body: Some(body) };
        encode_client(&frame, &mut self.output);
        self.last_req_id
    }

    /// Writes the buffer.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.output);
        self.output.clear();
        written
    }

    /// The next frame.
    pub fn receive(&mut self) -> Result<proto::ServerFrame, Trouble> {
        loop {
            if let Some(frame) = self.decoder.next_frame(&mut self.input).map_err(bad)? {
                return Ok(decode_server(frame).map_err(bad)?);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer)? {
                0 => return Err(Trouble::Gone("end of stream".to_owned())),
                count => self.input.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            }
        }
    }

    /// One request and its reply. What comes in between is dropped.
    pub fn call(&mut self, body: client_frame::Body) -> Result<server_frame::Body, Trouble> {
        let number = self.ask(body, 0);
        self.flush()?;
        self.reply(number)
    }

    /// The reply to a request.
    pub fn reply(&mut self, number: u64) -> Result<server_frame::Body, Trouble> {
        loop {
            let frame = self.receive()?;
            match frame.body {
                Some(server_frame::Body::Error(error)) if frame.req_id == 0 => {
                    return Err(Trouble::Wrong(format!("unsolicited {error:?}")));
                }
                Some(body) if frame.req_id == number => return Ok(body),
                _ => {}
            }
        }
    }

    /// Hello, from a position (epoch, inbox_seq) or as a device that has nothing.
    pub fn greet(
        &mut self,
        token: &str,
        device: &str,
        resume: Option<(u64, u64)>,
    ) -> Result<proto::Welcome, Trouble> {
        let hello = proto::Hello {
            protocol_min: 1,
            protocol_max: 1,
            token: token.to_owned(),
            device_id: device.to_owned(),
            platform: "witness".to_owned(),
            resume: resume.map(|(epoch, seq)| proto::Position { epoch, seq }),
            ..Default::default()
        };
        match self.call(client_frame::Body::Hello(hello))? {
            server_frame::Body::Welcome(welcome) => Ok(welcome),
            // A daemon whose store has just failed takes nobody any more, and says so.
            server_frame::Body::Error(error)
                if error.fatal && error.code() == proto::ErrorCode::Overloaded =>
            {
                Err(Trouble::Gone(format!("turned away: {error:?}")))
            }
            other => Err(Trouble::Wrong(format!("Hello was answered by {other:?}"))),
        }
    }
}

fn bad(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
