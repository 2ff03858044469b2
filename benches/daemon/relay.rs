//! The floor of a rate: a relay in memory. It speaks the protocol as far as the driver needs it, one
//! thread in a process of its own, keeps nothing and does none of a messenger's work: what it cannot
//! do, the driver cannot do.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    rc::Rc,
};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{encode_varint, encoded_len_varint},
};
use roamd::wire::{
    FrameDecoder, encode_delimited,
    proto::{
        CaughtUp, ClientFrame, Entry, GroupCreated, HistoryPage, MemberItems, Message, Resumed,
        SendAck, ServerFrame, SyncBatch, TooLong, Welcome, client_frame, entry::Kind, send::To,
        server_frame::Body,
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::LocalSet,
};

use crate::server::Target;

/// A process with this in its environment is the relay.
pub const MARK: &str = "ROAMD_BENCH_RELAY";
/// A user whose name begins so has missed ...
pub const MISSED: char = 'c';
/// ... so many entries.
const BACKLOG: u64 = 1000;
const BATCH: u64 = 250;

/// The relay as a child process, killed at the end.
pub struct Relay {
    child: Child,
    pub target: Rc<Target>,
}

impl Relay {
    pub fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .env(MARK, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let output = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address: SocketAddr = line.trim().parse().expect("an address");
        Self { child, target: Rc::new(Target { address, tls: None, keys: None }) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What goes to one user.
#[derive(Default)]
struct Place {
    output: RefCell<BytesMut>,
    wake: Notify,
    seq: Cell<u64>,
}

impl Place {
    fn say(&self, req_id: u64, body: Body) {
        encode_delimited(&ServerFrame { req_id, body: Some(body) }, &mut self.output.borrow_mut());
    }
}

#[derive(Default)]
struct Places {
    of: RefCell<HashMap<String, Rc<Place>>>,
    page: RefCell<HistoryPage>,
    backlog: RefCell<Bytes>,
}

fn message(content: Bytes) -> Message {
    Message {
        message_id: 1,
        conversation_id: "d-conversation-of-two-users-that-has-an-id".into(),
        history_seq: 1,
        sender: "sender".into(),
        sender_device: "d".into(),
        client_message_id: 1,
        time_ms: 1_700_000_000_000,
        content_type: "text/plain".into(),
        content,
        ..Message::default()
    }
}

/// A frame of contiguous entries, each of which is these bytes.
fn put_batch(first: u64, count: u64, entry: &[u8], out: &mut BytesMut) {
    let last = first + count - 1;
    let numbers = SyncBatch {
        prev_seq: first - 1,
        first_seq: first,
        last_seq: last,
        head_seq: last,
        entries: Vec::new(),
    };
    let each = 1 + encoded_len_varint(entry.len() as u64) + entry.len();
    let body = numbers.encoded_len() + each * count as usize;
    let frame = 1 + encoded_len_varint(body as u64) + body;
    encode_varint(frame as u64, out);
    out.put_u8(4 << 3 | 2);
    encode_varint(body as u64, out);
    numbers.encode_raw(out);
    for _ in 0..count {
        out.put_u8(5 << 3 | 2);
        encode_varint(entry.len() as u64, out);
        out.put_slice(entry);
    }
}

fn entry(message: Message) -> Vec<u8> {
    Entry { time_ms: message.time_ms, kind: Some(Kind::Message(message)) }.encode_to_vec()
}

/// The life of the relay's process.
pub fn serve() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let places = Rc::new(Places::default());
    let some = message(Bytes::from(vec![b'x'; crate::load::CONTENT_BYTES]));
    places.page.borrow_mut().messages = vec![some.clone(); 50];
    let mut backlog = BytesMut::new();
    for first in (1..BACKLOG).step_by(BATCH as usize) {
        put_batch(first, BATCH, &entry(some.clone()), &mut backlog);
    }
    *places.backlog.borrow_mut() = backlog.freeze();
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            tokio::task::spawn_local(connection(stream, Rc::clone(&places)));
        }
    }));
}

async fn connection(stream: TcpStream, places: Rc<Places>) -> io::Result<()> {
    let mut own = Rc::new(Place::default());
    let mut decoder = FrameDecoder::new(1 << 20);
    let mut input = BytesMut::new();
    loop {
        tokio::select! {
            ready = stream.readable() => {
                ready?;
                input.reserve(64 * 1024);
                match stream.try_read_buf(&mut input) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
                while let Ok(Some(frame)) = decoder.next_frame(&mut input) {
                    let frame = ClientFrame::decode(frame).expect("a client frame");
                    answer(frame, &mut own, &places);
                }
            }
            () = own.wake.notified() => {}
        }
        let output = own.output.take();
        let mut rest = output.as_ref();
        while !rest.is_empty() {
            match stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn answer(frame: ClientFrame, own: &mut Rc<Place>, places: &Places) {
    let ClientFrame { req_id, body, .. } = frame;
    match body.expect("a body") {
        client_frame::Body::Hello(hello) => {
            let mut of = places.of.borrow_mut();
            let missed = hello.token.starts_with(MISSED);
            *own = Rc::clone(of.entry(hello.token).or_default());
            own.say(req_id, Body::Welcome(Welcome::default()));
            match hello.resume {
                None => {
                    let head_seq = own.seq.get();
                    own.say(0, Body::TooLong(TooLong { head_seq, ..TooLong::default() }));
                }
                Some(_) => {
                    if missed {
                        own.output.borrow_mut().extend_from_slice(&places.backlog.borrow());
                    }
                    own.say(0, Body::CaughtUp(CaughtUp::default()));
                }
            }
        }
        client_frame::Body::Resume(_) => {
            own.say(req_id, Body::Resumed(Resumed::default()));
            own.say(0, Body::CaughtUp(CaughtUp::default()));
        }
        client_frame::Body::Send(send) => {
            let mut sent = message(send.content);
            sent.client_message_id = send.client_message_id;
            let ack = SendAck {
                message_id: 1,
                conversation_id: sent.conversation_id.clone(),
                history_seq: 1,
                inbox_seq: 1,
                time_ms: sent.time_ms,
                duplicate: false,
            };
            own.say(req_id, Body::SendAck(ack));
            let entry = entry(sent);
            let deliver = |place: &Place| {
                let seq = place.seq.get() + 1;
                place.seq.set(seq);
                put_batch(seq, 1, &entry, &mut place.output.borrow_mut());
                place.wake.notify_one();
            };
            let of = places.of.borrow();
            match send.to {
                Some(To::Peer(peer)) => of.get(&peer).into_iter().for_each(|place| deliver(place)),
                _ => of.values().for_each(|place| deliver(place)),
            }
        }
        client_frame::Body::FetchHistory(_) => {
            own.say(req_id, Body::HistoryPage(places.page.borrow().clone()));
        }
        client_frame::Body::CreateGroup(_) => {
            own.say(req_id, Body::GroupCreated(GroupCreated::default()));
        }
        client_frame::Body::AddMembers(_) => {
            own.say(req_id, Body::MemberItems(MemberItems::default()));
        }
        _ => {}
    }
}
