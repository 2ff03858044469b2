//! A daemon in this process, that can be stopped and started again on its port.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use roamd::{
    auth::{KeyRing, Scope, Scopes},
    client::{Client, ClientConfig, Event, Snapshot},
    daemon::{Daemon, DaemonConfig, DaemonError},
    id::UserId,
    limits::Limits,
    store::StoreConfig,
    time::Timestamp,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

pub struct Server {
    folder: TempDir,
    limits: Limits,
    address: SocketAddr,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), DaemonError>>,
}

impl Server {
    pub fn start(limits: Limits) -> Self {
        // Tests are faster than people, and machines that test are slower.
        let waiting_time = Duration::from_secs(3600);
        let limits = Limits { sends_per_second: 0, sessions_per_second: 0, waiting_time, ..limits };
        let folder = TempDir::new().unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let mut server = Self { folder, limits, address, running: None };
        server.resume();
        server
    }

    fn keys(&self) -> KeyRing {
        KeyRing::open(self.folder.path(), None, now()).unwrap()
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Starts again, on the same port and with the same data.
    pub fn resume(&mut self) {
        let keys = self.keys();
        let store = StoreConfig {
            inbox_entries: self.limits.inbox_entries,
            ..StoreConfig::new(PathBuf::from(self.folder.path()))
        };
        let daemon = Daemon::start(DaemonConfig {
            hook: None,
            listen: Some(self.address),
            tls: None,
            store,
            limits: self.limits.clone(),
            keys,
        })
        .unwrap();
        self.address = daemon.address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(daemon.serve(async {
            let _ = stopped.await;
        }));
        self.running = Some(Running { stop, task });
    }

    /// Drains.
    pub async fn stop(&mut self) {
        let Running { stop, task } = self.running.take().unwrap();
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
    }

    pub fn token(&self, user: &str) -> String {
        let (user, scopes) = (UserId::new(user).unwrap(), Scopes::of(&[Scope::Client]));
        self.keys().mint(&user, None, scopes, Duration::from_secs(3600), now()).unwrap()
    }

    pub fn config(&self, user: &str, device: &str) -> ClientConfig {
        ClientConfig::new(self.address(), self.token(user), device)
    }

    pub async fn connect(&self, user: &str, device: &str) -> Client {
        Client::connect(self.config(user, device)).await.unwrap()
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// Takes events until CaughtUp: the entries as (seq, text) and the snapshot, if one came.
pub async fn catch_up(client: &mut Client) -> (Vec<(u64, String)>, Option<Snapshot>) {
    let (mut entries, mut snapshot) = (Vec::new(), None);
    loop {
        match within(client.next_event()).await.unwrap() {
            Event::Entry { seq, entry } => entries.push((seq, text(&entry))),
            Event::Snapshot(new) => snapshot = Some(new),
            Event::CaughtUp(_) => return (entries, snapshot),
            _ => {}
        }
    }
}

/// Takes events until `count` entries have come.
pub async fn entries(client: &mut Client, count: usize) -> Vec<(u64, String)> {
    let mut entries = Vec::new();
    while entries.len() < count {
        if let Event::Entry { seq, entry } = within(client.next_event()).await.unwrap() {
            entries.push((seq, text(&entry)));
        }
    }
    entries
}

fn text(entry: &roamd::wire::proto::Entry) -> String {
    use roamd::wire::proto::entry::Kind;
    match &entry.kind {
        Some(Kind::Message(message)) => String::from_utf8_lossy(&message.content).into_owned(),
        Some(Kind::Read(read)) => format!("read {}", read.read_seq),
        other => format!("{other:?}"),
    }
}

/// Nothing in these tests takes long unless it never comes.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it never came")
}
