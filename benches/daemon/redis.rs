//! The same load on Redis with an append-only file that is synced before every answer, if Redis is
//! installed: the shortest work that still numbers, keeps and delivers. A message is one call of a script:
//! `INCR` numbers it, `ZADD` keeps it under that number in the inbox of its recipient, `PUBLISH` tells who is
//! there, number included. (A script, because several may write to one inbox.) There is no history, no unread,
//! no copy for the sender, no bound of the inbox, no idempotency, no token.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::load::{Tally, content};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 256 * 1024;
/// How long Redis may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(10);
const SCRIPT: &str = "local n = redis.call('INCR', KEYS[1])
local numbered = string.format('%020d', n) .. ARGV[1]
redis.call('ZADD', KEYS[2], n, numbered)
redis.call('PUBLISH', ARGV[2], numbered)
return n";

/// Redis as a child process, killed at the end.
pub struct Redis {
    child: Child,
    address: SocketAddr,
}

/// `ROAMD_BENCH_REDIS` = another binary than the one that is installed.
fn binary() -> OsString {
    env::var_os("ROAMD_BENCH_REDIS").unwrap_or_else(|| "redis-server".into())
}

impl Redis {
    /// None when it is not installed.
    pub fn start(dir: &Path) -> Option<Self> {
        let dir = dir.join("redis");
        std::fs::create_dir(&dir).expect("a directory");
        // The port is free again at once, for nobody has connected to it.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("an address");
        let mut child = Command::new(binary())
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let config = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             auto-aof-rewrite-percentage 0\n",
            address.port(),
            dir.display()
        );
        let mut input = child.stdin.take().expect("stdin is a pipe");
        input.write_all(config.as_bytes()).expect("Redis reads its configuration");
        drop(input);
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < START_PATIENCE, "Redis listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child, address })
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// Somebody who is there, and takes what comes for ever.
    pub async fn receive(
        &self,
        pair: usize,
        tally: Rc<Tally>,
    ) -> impl Future<Output = ()> + 'static {
        let mut stream = self.connect().await;
        let subscribe = command(&[b"SUBSCRIBE", name(pair).as_bytes()]);
        stream.write_all(&subscribe).await.expect("a connection");
        let confirmed =
            format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{}\r\n:1\r\n", name(pair).len(), name(pair));
        let mut answer = vec![0; confirmed.len()];
        stream.read_exact(&mut answer).await.expect("a connection");
        assert_eq!(answer, confirmed.as_bytes(), "subscribed");
        // All that comes has one length.
        let numbered = [&[b'0'; 20][..], &content(pair as u64)].concat();
        let each = command(&[b"message", name(pair).as_bytes(), &numbered]).len();
        async move {
            let (mut scratch, mut rest) = (vec![0; READ_BYTES], 0);
            loop {
                let count = stream.read(&mut scratch).await.expect("a connection");
                assert!(count > 0, "Redis has closed the connection");
                rest += count;
                tally.delivered.set(tally.delivered.get() + (rest / each) as u64);
                rest %= each;
            }
        }
    }

    /// Sends with `window` in flight, for ever.
    pub async fn send(
        &self,
        pair: usize,
        window: usize,
        tally: Rc<Tally>,
    ) -> impl Future<Output = ()> + 'static {
        let mut stream = self.connect().await;
        let load = command(&[b"SCRIPT", b"LOAD", SCRIPT.as_bytes()]);
        stream.write_all(&load).await.expect("a connection");
        let mut hash = [0; "$40\r\n".len() + 40 + 2];
        stream.read_exact(&mut hash).await.expect("a connection");
        let message = message(&hash[5..45], pair);
        async move {
            let (mut scratch, mut output) = (vec![0; READ_BYTES], BytesMut::new());
            let mut sent_at = VecDeque::new();
            loop {
                while sent_at.len() < window {
                    output.extend_from_slice(&message);
                    sent_at.push_back(Instant::now());
                }
                stream.write_all(&output).await.expect("a connection");
                output.clear();
                let count = stream.read(&mut scratch).await.expect("a connection");
                assert!(count > 0, "Redis has closed the connection");
                let said = &scratch[..count];
                assert!(!said.contains(&b'-'), "{}", String::from_utf8_lossy(said));
                for _ in said.iter().filter(|byte| **byte == b'\n') {
                    tally.ack(sent_at.pop_front().expect("an answer belongs to a message"));
                }
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(pair: usize) -> String {
    format!("r{pair}")
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    command
}

/// The command of a message, which needs no number of its own: the script gives it one.
fn message(hash: &[u8], pair: usize) -> Vec<u8> {
    let name = name(pair);
    let keys = [format!("seq:{name}"), format!("inbox:{name}")];
    let [seq, inbox] = keys.each_ref().map(|key| key.as_bytes());
    command(&[b"EVALSHA", hash, b"2", seq, inbox, &content(pair as u64), name.as_bytes()])
}
