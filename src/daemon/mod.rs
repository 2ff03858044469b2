//! The daemon: accepts connections, gives each a session, and the engine to all.
//!
//! One task per connection ([`connection`]), one thread for the engine ([`writer`]), one behind the
//! store, a few for the push hook ([`hook`]). They meet in feeds and in one bounded [`queue`]; nothing else is shared but the store's
//! reader.

mod admission;
mod batch;
mod connection;
mod control;
mod directory;
mod failures;
mod feed;
mod hook;
mod pace;
mod peer;
mod queue;
mod reload;
mod stream;
mod tls;
mod writer;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{Notify, Semaphore},
    time::{sleep, sleep_until, timeout},
};

use self::{
    admission::{Admission, Entry},
    connection::Connection,
    control::Control,
    hook::Posts,
    peer::Expected,
    stream::Stream,
    tls::Shown,
    writer::Submitter,
};
pub use self::{
    control::ask_for_backup,
    hook::HookConfig,
    reload::Reloader,
    tls::{Certificate, CertificateError, TlsListen},
};
use crate::{
    auth::KeyRing,
    clock::Clock,
    engine::Engine,
    id::SessionId,
    limits::Limits,
    refusal::Refusal,
    reply::Reply,
    session::SessionContext,
    store::{Reader, Store, StoreConfig, StoreError, Writer},
    wire,
};

/// How long a drain waits for connections to end.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// The same when the store has failed: the replies still due will never come.
pub const FAIL_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a stop waits for the posts of the push hook that are under way.
const POSTS_TIME_MAX: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// Pause when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections without a place that have a moment to hear so. More: they may hear a reset instead.
const TURNED_AWAY_MAX: usize = 256;

/// What a daemon needs to start.
#[derive(Debug)]
pub struct DaemonConfig {
    /// Where to listen without TLS; port 0 = any, none = nowhere.
    pub listen: Option<SocketAddr>,
    /// Where to listen for TLS; none = nowhere.
    pub tls: Option<TlsListen>,
    /// The data directory.
    pub store: StoreConfig,
    /// What is allowed.
    pub limits: Limits,
    /// Keys that tokens are verified with.
    pub keys: KeyRing,
    /// The push hook; none = devices without a session hear of nothing.
    pub hook: Option<HookConfig>,
}

/// Why a daemon did not start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// There is no address to listen on, with or without TLS.
    #[error("there is no address to listen on")]
    NoAddress,
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The push hook cannot be set up.
    #[error("cannot set up the push hook: {0}")]
    Hook(io::Error),
    /// No thread can be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    context: RwLock<Arc<SessionContext>>,
    /// What TLS shows, where there is TLS.
    shown: Option<Arc<Shown>>,
    clock: Clock,
    reader: Reader,
    submitter: Submitter,
    admission: Mutex<Admission>,
    /// A connection has given up its place among all or among those that greet.
    place_left: Notify,
    connection_ended: Notify,
    /// Bytes that large frames under way may still take.
    inbound: Arc<Semaphore>,
}

impl Shared {
    /// Keys and limits of now.
    fn context(&self) -> Arc<SessionContext> {
        Arc::clone(&self.context.read())
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    plain: Option<Listener>,
    tls: Option<Listener>,
    store: Store,
    writer: JoinHandle<Result<Writer, StoreError>>,
    writer_ended: Arc<Notify>,
    /// None when there cannot be one: then everything works but backups while it serves.
    control: Option<Control>,
    posts: Arc<Posts>,
    next_session: AtomicU64,
    /// Those who are told that there is no place, and have not gone yet.
    turned_away: Arc<Semaphore>,
}

impl Daemon {
    /// Opens the data directory and listens. Connections wait until [`Daemon::serve`].
    ///
    /// # Errors
    /// [`DaemonError`] says what is in the way.
    pub fn start(config: DaemonConfig) -> Result<Self, DaemonError> {
        let open = |address, tls| Listener::open(address, tls, &config.limits);
        let plain = config.listen.map(|address| open(address, None)).transpose()?;
        let (tls, shown) = match config.tls {
            None => (None, None),
            Some(TlsListen { address, certificate }) => {
                let shown = Shown::new(certificate);
                let settings = tls::settings(Arc::clone(&shown)).map_err(DaemonError::Tls)?;
                (Some(open(address, Some(settings))?), Some(shown))
            }
        };
        if plain.is_none() && tls.is_none() {
            return Err(DaemonError::NoAddress);
        }
        let (store, writer) = Store::open(&config.store)?;
        let control = Control::open(&config.store.dir)
            .inspect_err(|error| tracing::warn!(%error, "no backups while this daemon serves"))
            .ok();
        let clock = Clock::start();
        let mut engine = Engine::new(writer, store.epoch(), config.limits.clone(), clock.now())?;
        let (to_hook, jobs) = hook::channel();
        if let Some(hook) = &config.hook {
            engine.set_push_hook(hook.settings.clone(), clock.now())?;
        }
        let writer_ended = Arc::new(Notify::new());
        let ended = Arc::clone(&writer_ended);
        let (submitter, writer) = writer::start(
            engine,
            store.reader(),
            clock,
            to_hook,
            config.limits.waiting_time,
            // Where one worker serves everybody nothing may hold it.
            Handle::try_current().is_ok_and(|runtime| runtime.metrics().num_workers() > 1),
            move || {
                ended.notify_one();
            },
        )
        .map_err(DaemonError::Thread)?;
        let posts = Arc::default();
        if let Some(hook) = &config.hook {
            hook::start(hook, &jobs, &submitter, &posts).map_err(DaemonError::Hook)?;
        }
        let inbound = config.limits.inbound_bytes.min(Semaphore::MAX_PERMITS);
        let context = SessionContext::new(config.keys, config.limits);
        let shared = Arc::new(Shared {
            context: RwLock::new(Arc::new(context)),
            shown,
            clock,
            reader: store.reader(),
            submitter,
            admission: Mutex::default(),
            place_left: Notify::new(),
            connection_ended: Notify::new(),
            inbound: Arc::new(Semaphore::new(inbound)),
        });
        // Ids do not repeat across restarts, so that logs of two lives do not mix.
        let next_session = AtomicU64::new(clock.now().wall.millis() << 20);
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
        Ok(Self {
            shared,
            plain,
            tls,
            store,
            writer,
            writer_ended,
            control,
            posts,
            next_session,
            turned_away,
        })
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(|listener| listener.address)
    }

    /// Where it listens for TLS.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|listener| listener.address)
    }

    /// What changes keys, limits and certificate while it runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        Reloader::new(Arc::clone(&self.shared))
    }

    /// Serves until `stop` resolves, then drains: replies still due are given, every client is told
    /// GoAway, cursors are written, the store is closed. At most [`DRAIN_TIME_MAX`].
    ///
    /// # Errors
    /// [`DaemonError::Store`] when the store has failed; nothing acked is lost by that.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let patience = tokio::select! {
            () = self.accept(self.plain.as_ref()) => DRAIN_TIME_MAX,
            () = self.accept(self.tls.as_ref()) => DRAIN_TIME_MAX,
            () = self.command() => DRAIN_TIME_MAX,
            () = self.writer_ended.notified() => {
                tracing::error!("the store has failed; stopping");
                FAIL_TIME_MAX
            }
            () = stop => {
                tracing::info!("draining");
                DRAIN_TIME_MAX
            }
        };
        drop((self.plain, self.tls, self.control));
        let posts = self.posts;
        let posted = tokio::task::spawn_blocking(move || posts.stop(POSTS_TIME_MAX));
        for feed in self.shared.admission.lock().feeds() {
            feed.drain();
        }
        let gone = async {
            while !self.shared.admission.lock().is_empty() {
                self.shared.connection_ended.notified().await;
            }
        };
        if timeout(patience, gone).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        if !posted.await.unwrap_or(false) {
            tracing::warn!("a push job is still being posted: the next start posts it again");
        }
        self.shared.submitter.finish();
        let writer = self.writer;
        let joined = tokio::task::spawn_blocking(move || writer.join()).await;
        match joined {
            Ok(Ok(Ok(writer))) => Ok(self.store.close(writer)?),
            failed => {
                // The engine's drop syncs its file and panics when it cannot, as on a disk that is
                // gone. The store stays open until the process ends, which is now.
                std::mem::forget(self.store);
                match failed {
                    Ok(Ok(Err(error))) => Err(error.into()),
                    _ => Err(StoreError::Poisoned.into()),
                }
            }
        }
    }

    /// Never ends.
    async fn command(&self) {
        match &self.control {
            Some(control) => control.serve(&self.shared.reader).await,
            None => std::future::pending().await,
        }
    }

    /// Never ends.
    async fn accept(&self, listener: Option<&Listener>) {
        let Some(listener) = listener else { return std::future::pending().await };
        let (mut fails, mut expected) = (false, listener.expected);
        loop {
            match listener.socket.accept().await {
                Ok((socket, peer)) => {
                    let (from, to) = (SockRef::from(&listener.socket), SockRef::from(&socket));
                    expected.of_connection(from, to, &self.shared.context().limits);
                    if std::mem::take(&mut fails) {
                        tracing::info!("connections are accepted again");
                    }
                    self.admit(socket, peer, listener.tls.as_ref()).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(%error, "cannot accept; existing connections go on");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn admit(&self, socket: TcpStream, peer: SocketAddr, tls: Option<&Arc<ServerConfig>>) {
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => match Stream::tls(socket, Arc::clone(tls)) {
                Ok(stream) => stream,
                Err(error) => return tracing::error!(%error, "TLS cannot begin"),
            },
        };
        let id = SessionId::new(self.next_session.fetch_add(1, Ordering::Relaxed));
        let feed = loop {
            let left = self.shared.place_left.notified();
            let entry = {
                let context = self.shared.context();
                let mut admission = self.shared.admission.lock();
                admission.enter(&context.limits, id, peer.ip(), Instant::now())
            };
            match entry {
                Entry::In(feed) => break feed,
                Entry::Refused(refusal) => return self.turn_away(stream, id, refusal),
                Entry::NotBefore(at) => tokio::select! {
                    () = left => {}
                    () = sleep_until(at.into()) => {}
                },
            }
        };
        // In a box: a future has room for what it is made from and for what becomes of it.
        let connection = Connection::new(Arc::clone(&self.shared), id, feed, stream);
        tokio::spawn(Box::new(connection).run());
    }

    /// Says why there is no place. The peer has a moment to hear it, as long as few are in that moment.
    fn turn_away(&self, mut stream: Stream, id: SessionId, mut refusal: Refusal) {
        refusal.retry = refusal.retry.spread(id.number());
        let mut frame = BytesMut::new();
        wire::encode_server(0, &Reply::Refused(refusal), &mut frame);
        match Arc::clone(&self.turned_away).try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(async move {
                stream.say_last(frame).await;
                drop(place);
            })),
            // Over TLS this says nothing: a handshake is needed first.
            Err(_) => drop(stream.write(&mut frame)),
        }
    }
}

/// Takes a connection off the list however it ends.
struct Ended {
    shared: Arc<Shared>,
    id: SessionId,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.admission.lock().leave(self.id);
        self.shared.place_left.notify_one();
        self.shared.connection_ended.notify_one();
    }
}

/// One address, one mode.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    /// None = plain.
    tls: Option<Arc<ServerConfig>>,
    expected: Expected,
}

impl Listener {
    fn open(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        limits: &Limits,
    ) -> Result<Self, DaemonError> {
        let failed = |source| DaemonError::Listen { address, source };
        let mut expected = Expected::default();
        let socket = listen(address, limits, &mut expected).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, tls, expected })
    }
}

fn listen(
    address: SocketAddr,
    limits: &Limits,
    expected: &mut Expected,
) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    expected.tell(SockRef::from(&socket), limits);
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
