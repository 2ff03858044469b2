//! The other side of the hook: a web server that takes jobs, checks who speaks, and answers as told.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::support::DEADLINE;

pub const SECRET: &str = "a-secret-of-at-least-32-bytes-....";

/// A job that was posted.
#[derive(Clone, Debug)]
pub struct Job {
    pub body: Value,
    pub came: Instant,
    /// What it was answered.
    pub status: u16,
}

impl Job {
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_else(|| panic!("{field}: {}", self.body))
    }

    pub fn number(&self, field: &str) -> u64 {
        self.body[field].as_u64().unwrap_or_else(|| panic!("{field}: {}", self.body))
    }

    /// User, device, kind and message: what most tests are about.
    pub fn gist(&self) -> (&str, &str, &str, u64) {
        let message = self.number("history_seq");
        (self.text("user"), self.text("device"), self.text("kind"), message)
    }
}

/// Decides on an answer: status, and body or more headers.
type Answer = Box<dyn FnMut(&Value) -> (u16, &'static str, &'static str) + Send>;

struct State {
    jobs: Vec<Job>,
    answer: Answer,
}

/// See the head of this file.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    /// One that takes everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Answer = Box::new(|_| (200, "", ""));
        let state = Arc::new((Mutex::new(State { jobs: Vec::new(), answer }), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on it answers like this.
    pub fn answer(
        &self,
        answer: impl FnMut(&Value) -> (u16, &'static str, &'static str) + Send + 'static,
    ) {
        self.state.0.lock().unwrap().answer = Box::new(answer);
    }

    /// From now on it takes nothing.
    pub fn close(&self) {
        self.answer(|_| (503, "", ""));
    }

    /// From now on it takes everything.
    pub fn open(&self) {
        self.answer(|_| (204, "", ""));
    }

    /// Everything posted so far, taken or not.
    pub fn all(&self) -> Vec<Job> {
        self.state.0.lock().unwrap().jobs.clone()
    }

    /// Forgets everything posted so far.
    pub fn forget(&self) {
        self.state.0.lock().unwrap().jobs.clear();
    }

    /// Waits until the jobs posted so far have something in them.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&[Job]) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap();
        loop {
            if let Some(found) = look(&state.jobs) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            let seen: Vec<String> = state.jobs.iter().map(|job| job.body.to_string()).collect();
            assert!(!left.is_zero(), "waited in vain for {what}; there were {seen:#?}");
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for a job that is taken.
    #[track_caller]
    pub fn taken(&self, gist: (&str, &str, &str, u64)) -> Job {
        self.wait(&format!("{gist:?}"), |jobs| {
            jobs.iter().find(|job| job.status < 300 && job.gist() == gist).cloned()
        })
    }
}

fn serve(stream: TcpStream, state: &(Mutex<State>, Condvar)) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut output = stream;
    // One connection serves many jobs.
    while let Some((headers, body)) = request(&mut input) {
        check(&headers, &body);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(headers["roamd-job"], body["id"].to_string());
        let (lock, changed) = state;
        let mut state = lock.lock().unwrap();
        let (status, more, text) = (state.answer)(&body);
        state.jobs.push(Job { body, came: Instant::now(), status });
        changed.notify_all();
        drop(state);
        let length = text.len();
        let answer =
            format!("HTTP/1.1 {status} Said\r\n{more}content-length: {length}\r\n\r\n{text}");
        if output.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One request: its headers, in lower case, and its body. None at the end.
fn request(input: &mut impl BufRead) -> Option<(HashMap<String, String>, Vec<u8>)> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    assert!(line.starts_with("POST /hook HTTP/1.1"), "{line}");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    input.read_exact(&mut body).ok()?;
    Some((headers, body))
}

/// As `docs/push.md` says it is to be checked.
fn check(headers: &HashMap<String, String>, body: &[u8]) {
    assert_eq!(headers["content-type"], "application/json");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{}.", headers["roamd-timestamp"]).as_bytes());
    mac.update(body);
    let mac: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(headers["roamd-signature"], format!("v1={mac}"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let said: u64 = headers["roamd-timestamp"].parse().unwrap();
    assert!(now.as_secs().abs_diff(said) < 300, "{said}");
}
