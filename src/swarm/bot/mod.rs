//! A bot: one device that does what it is told and checks everything that comes.
//!
//! It is the real client library, one `Client` per device, and not a leaner connection of its own: so
//! reconnecting, delayed acks, retries and large groups are those that people will run. That costs two
//! tasks per device, the client's and this one, and no thread and no task per message; what they hold is
//! bounded by [`FLIGHTS_MAX`] and [`MAIL_MAX`] and is empty most of the time.

mod events;
mod flight;
mod settle;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until},
};

use self::flight::{Flight, Purpose, answered};
use super::{
    check::{Broken, Mirror, Truth},
    tally::{Tally, more},
    world::World,
};
use crate::{
    client::{Client, ClientConfig, ClientError, Event, Position, Tls, Trace, Tracer},
    limits::ITEMS_PER_CALL_MAX,
    replay::server::Mint,
    wire::proto,
};

/// Requests of one bot without an answer; more wait with the bot.
pub const FLIGHTS_MAX: usize = 200;
/// Acts that wait for a bot that is busy. More are left out, and counted as shed.
pub const MAIL_MAX: usize = 1024;
/// Events taken at once.
const EVENTS_MAX: usize = 256;

/// What all bots share.
#[derive(Debug)]
pub struct Shared {
    /// Who is there.
    pub world: World,
    /// What is acked.
    pub truth: Truth,
    /// What is counted.
    pub tally: Tally,
    /// Of which run messages are.
    pub run: u64,
    /// Size of contents.
    pub body: usize,
    /// Where the daemon is.
    pub address: String,
    /// Speak TLS with it, and trust these.
    pub tls: Option<Tls>,
    /// Makes tokens.
    pub mint: Mint,
    /// How many devices may open their first session at the same time.
    pub opening: Arc<Semaphore>,
    /// Messages with smaller numbers are sent, or will be in a moment.
    pub issued: AtomicU64,
}

/// What a bot is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// Come (back).
    Come,
    /// Make the group.
    Create {
        /// Which conversation.
        talk: u32,
    },
    /// Send.
    Send {
        /// Into which conversation.
        talk: u32,
        /// Which message of the run.
        number: u64,
        /// When it was due.
        due_us: u64,
    },
    /// Mark as read what has come.
    Read {
        /// Which conversation.
        talk: u32,
    },
    /// Go away.
    Leave {
        /// Without a word.
        killed: bool,
    },
    /// Lose the connection.
    Cut,
    /// Everything is sent and acked: compare, as soon as everything has come.
    Settle,
    /// Compare with what there is, and end.
    End,
}

/// What the client library tells on its own task.
#[derive(Debug, Default)]
struct Probe {
    hello_us: AtomicU64,
    acked: AtomicU64,
}

/// See the head of this module.
#[derive(Debug)]
pub struct Bot {
    shared: Arc<Shared>,
    bot: u32,
    mirror: Mirror,
    probe: Arc<Probe>,
    position: Option<Position>,
    epoch: u64,
    cursors: Vec<proto::ConversationCursor>,
    /// Since when the device has everything that comes; none = it is away, or catches up.
    live_since: Option<u64>,
    /// Since when the session is lost.
    lost_at: Option<u64>,
    sessions: u32,
    opening: Option<OwnedSemaphorePermit>,
    flights: VecDeque<Flight>,
    /// Nothing is asked before: the daemon has said so.
    hold: Option<Instant>,
    order: u64,
    last_id: u64,
    settling: bool,
    settled: bool,
}

impl Bot {
    /// One that is away and has nothing.
    #[must_use]
    pub fn new(shared: Arc<Shared>, bot: u32) -> Self {
        Self {
            mirror: Mirror::new(&shared.world, bot),
            shared,
            bot,
            probe: Arc::default(),
            position: None,
            epoch: 0,
            cursors: Vec::new(),
            live_since: None,
            lost_at: None,
            sessions: 0,
            opening: None,
            flights: VecDeque::new(),
            hold: None,
            order: 0,
            last_id: 0,
            settling: false,
            settled: false,
        }
    }

    /// Does what comes by mail until it is told to end, or nobody is left to tell it.
    pub async fn run(mut self, mut mail: mpsc::Receiver<Mail>) {
        let mut client: Option<Client> = None;
        let mut events = Vec::new();
        loop {
            tokio::select! {
                told = mail.recv() => match told {
                    None | Some(Mail::End) => break,
                    Some(told) => self.told(&mut client, told).await,
                },
                outcome = next(&mut client, &mut events) => match outcome {
                    Ok(()) => self.take(&client, &mut events).await,
                    Err(error) => {
                        client = None;
                        self.gone();
                        self.refused(format!("the session ended for good: {error}"));
                    }
                },
                (at, outcome) = answered(&mut self.flights) => self.answer(at, outcome),
                () = until(self.hold) => self.hold = None,
            }
            self.launch(&client).await;
            self.settle(&client).await;
        }
        self.last_words();
        more(&self.shared.tally.counters.ended);
        self.shared.tally.changed.notify_one();
    }

    async fn told(&mut self, client: &mut Option<Client>, mail: Mail) {
        match mail {
            Mail::Come if client.is_none() => {
                if self.sessions == 0 {
                    let opening = Arc::clone(&self.shared.opening);
                    self.opening = opening.acquire_owned().await.ok();
                }
                match self.config() {
                    Ok(config) => *client = Some(Client::start(config)),
                    Err(why) => self.refused(why),
                }
            }
            Mail::Leave { killed } => {
                if let Some(client) = client.take() {
                    if !killed {
                        // What it acks last, it has; whether the daemon hears it does not matter.
                        let _ = client.close().await;
                    }
                    self.gone();
                }
            }
            Mail::Cut => {
                if let Some(client) = client {
                    client.reconnect();
                }
            }
            Mail::Create { talk } => {
                if let Some(client) = client {
                    match self.create(client, talk).await {
                        Ok(()) => drop(more(&self.shared.tally.counters.created)),
                        Err(error) => self.refused(format!("a group cannot be made: {error}")),
                    }
                    self.shared.tally.changed.notify_one();
                }
            }
            Mail::Send { talk, number, due_us } => {
                self.order += 1;
                let purpose = Purpose::Send { number, due_us, order: Some(self.order), id: 0 };
                self.push(Flight::new(talk, purpose));
            }
            Mail::Read { talk } => {
                let seq = self.mirror.last(&self.shared.world, talk);
                if seq > 0 {
                    self.push(Flight::new(talk, Purpose::Read { seq }));
                }
            }
            Mail::Settle => self.settling = true,
            Mail::Come | Mail::End => {}
        }
    }

    fn push(&mut self, flight: Flight) {
        more(&self.shared.tally.counters.begun);
        self.flights.push_back(flight);
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let Shared { world, mint, address, .. } = &*self.shared;
        let user = world.user_id(world.user_of(self.bot));
        let token = mint.token(&user).map_err(|error| error.to_string())?;
        let (probe, shared) = (Arc::clone(&self.probe), Arc::clone(&self.shared));
        let tell = move |trace: &Trace| match trace {
            Trace::Hello { .. } => probe.hello_us.store(shared.tally.now_us(), Relaxed),
            Trace::Resume(position) => probe.acked.store(position.seq, Relaxed),
            Trace::Ack { seq, .. } => {
                let before = probe.acked.swap(*seq, Relaxed);
                shared.tally.ack_covers(seq.saturating_sub(before));
            }
            _ => {}
        };
        let mut config = ClientConfig::new(address.as_str(), token, world.device_id(self.bot));
        config.platform = "swarm".into();
        config.tls = self.shared.tls.clone();
        config.large = self.cursors.clone();
        config.tracer = Some(Tracer::new(tell));
        Ok(match self.position {
            Some(position) => config.resume(position),
            None => config,
        })
    }

    async fn create(&self, client: &Client, talk: u32) -> Result<(), ClientError> {
        let world = &self.shared.world;
        let Some(talk) = world.talks.get(talk as usize) else { return Ok(()) };
        let own = world.user_of(self.bot);
        let others: Vec<_> = talk.members.iter().filter(|user| **user != own).collect();
        let mut parts = others.chunks(ITEMS_PER_CALL_MAX);
        let ids = |part: &[&u32]| part.iter().map(|user| world.user_id(**user)).collect::<Vec<_>>();
        let create = proto::CreateGroup {
            conversation_id: talk.id.clone(),
            title: talk.id.clone(),
            user_ids: parts.next().map(ids).unwrap_or_default(),
            ..proto::CreateGroup::default()
        };
        client.create_group(create).await?;
        for part in parts {
            client.add_members(talk.id.as_str(), ids(part)).await?;
        }
        Ok(())
    }

    /// There is no session, and nobody who waits for one.
    fn gone(&mut self) {
        self.not_live();
        self.lost_at = None;
        self.opening = None;
    }

    fn not_live(&mut self) {
        if self.live_since.take().is_some() {
            self.shared.tally.counters.live.fetch_sub(1, Relaxed);
        }
    }

    fn refused(&self, why: String) {
        self.shared.tally.broken(self.bot, None, Broken::Refused { why });
        self.shared.tally.changed.notify_one();
    }
}

async fn next(client: &mut Option<Client>, events: &mut Vec<Event>) -> Result<(), ClientError> {
    match client {
        Some(client) => client.next_events(events, EVENTS_MAX).await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
