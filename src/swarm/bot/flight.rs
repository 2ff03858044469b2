//! Requests of a bot that have no answer yet. A send is repeated under its number until it is answered,
//! also after the program was killed; so is a read marker, which does no harm twice.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::Poll,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{Bot, FLIGHTS_MAX};
use crate::{
    client::{Client, ClientError, InFlight, Recipient},
    refusal::Retry,
    swarm::{
        body::Tag,
        check::Broken,
        tally::{Span, more},
    },
    wire::proto::{self, client_frame::Body, server_frame::Body as Said},
};

/// The least pause before something is asked again.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// A request.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) talk: u32,
    pub(super) purpose: Purpose,
    /// None = it waits for a session, or for the time to ask again.
    reply: Option<InFlight>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Send {
        number: u64,
        due_us: u64,
        /// Its place among the sends of this device; none = it was refused meanwhile, so that it may be
        /// anywhere behind that.
        order: Option<u64>,
        /// The number it is repeated under; 0 = not sent yet.
        id: u64,
    },
    Read {
        seq: u64,
    },
}

impl Flight {
    pub(super) fn new(talk: u32, purpose: Purpose) -> Self {
        Self { talk, purpose, reply: None }
    }
}

/// The next answer, and whose.
pub(super) async fn answered(flights: &mut VecDeque<Flight>) -> (usize, Result<Said, ClientError>) {
    poll_fn(|context| {
        for (at, flight) in flights.iter_mut().enumerate() {
            if let Some(reply) = &mut flight.reply
                && let Poll::Ready(outcome) = Pin::new(reply).poll(context)
            {
                flight.reply = None;
                return Poll::Ready((at, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

impl Bot {
    /// Asks what waits to be asked, in order.
    pub(super) async fn launch(&mut self, client: &Option<Client>) {
        let Some(client) = client else { return };
        if self.hold.is_some() {
            return;
        }
        let Self { shared, bot, flights, last_id, .. } = self;
        for flight in flights.iter_mut().take(FLIGHTS_MAX).filter(|it| it.reply.is_none()) {
            let Some(talk) = shared.world.talks.get(flight.talk as usize) else { continue };
            let body = match &mut flight.purpose {
                Purpose::Read { seq } => Body::MarkRead(proto::MarkRead {
                    conversation_id: talk.id.clone(),
                    read_seq: *seq,
                    peer_visible: false,
                }),
                Purpose::Send { number, due_us, id, .. } => {
                    if *id == 0 {
                        *last_id = unix_micros().max(*last_id + 1);
                        *id = *last_id;
                        more(&shared.tally.counters.sent);
                    }
                    let tag = Tag {
                        run: shared.run,
                        number: *number,
                        due_us: *due_us,
                        bot: *bot,
                        talk: flight.talk,
                    };
                    let own = shared.world.user_of(*bot);
                    let peer = talk.members.iter().find(|user| **user != own);
                    let to = match peer {
                        Some(peer) if talk.direct => Recipient::user(shared.world.user_id(*peer)),
                        _ => Recipient::conversation(talk.id.as_str()),
                    };
                    Body::Send(proto::Send {
                        to: Some(to.into()),
                        client_message_id: *id,
                        created_at_ms: *id / 1000,
                        content_type: "application/octet-stream".into(),
                        content: tag.write(shared.body),
                        ..proto::Send::default()
                    })
                }
            };
            match client.begin(body).await {
                Ok(reply) => flight.reply = Some(reply),
                // The client has ended: it is asked again when there is another one.
                Err(_) => return,
            }
        }
    }

    /// An answer has come.
    pub(super) fn answer(&mut self, at: usize, outcome: Result<Said, ClientError>) {
        let Some(flight) = self.flights.get_mut(at) else { return };
        let (talk, purpose) = (flight.talk, flight.purpose);
        let tally = &self.shared.tally;
        let again = match (purpose, outcome) {
            (Purpose::Send { number, due_us, order, .. }, Ok(Said::SendAck(ack))) => {
                self.acked(talk, (number, due_us, order), &ack);
                false
            }
            (Purpose::Read { seq }, Ok(Said::MarkReadReply(_))) => {
                self.shared.truth.read(&self.shared.world, self.bot, talk, seq);
                false
            }
            (_, Ok(_)) => {
                let why = "the answer belongs to another request".to_owned();
                tally.broken(self.bot, Some(talk), Broken::Protocol { why });
                false
            }
            (_, Err(error)) => match error.retry() {
                // The session or the client is over: it is made again by itself.
                Retry::Never if matches!(error, ClientError::Closed) => true,
                Retry::Never | Retry::Reauth | Retry::Resync => {
                    let why = format!("a request was refused for good: {error}");
                    tally.broken(self.bot, Some(talk), Broken::Refused { why });
                    false
                }
                Retry::AfterDelay(_) | Retry::Reconnect(_) | Retry::SameId => {
                    if matches!(error, ClientError::Refused(_)) {
                        more(&tally.counters.refused);
                        if let Purpose::Send { order, .. } = &mut flight.purpose {
                            *order = None;
                        }
                    }
                    let hold = Instant::now() + error.retry_after().max(PAUSE_MIN);
                    self.hold = Some(self.hold.map_or(hold, |old| old.max(hold)));
                    true
                }
            },
        };
        if !again {
            self.flights.remove(at);
            let counters = &self.shared.tally.counters;
            more(&counters.progress);
            counters.answered.fetch_add(1, Relaxed);
            self.shared.tally.changed.notify_one();
        }
        if self.flights.is_empty() && self.flights.capacity() > 8 {
            self.flights = VecDeque::new();
        }
    }

    fn acked(
        &mut self,
        talk: u32,
        (number, due_us, order): (u64, u64, Option<u64>),
        ack: &proto::SendAck,
    ) {
        let world = &self.shared.world;
        let tally = &self.shared.tally;
        more(&tally.counters.acked);
        tally.took(Span::SendToAck, due_us);
        tally.count("sends acked", due_us, 1);
        if world.talk(&ack.conversation_id) != Some(talk) {
            let why = format!("the ack is of conversation {}", ack.conversation_id);
            tally.broken(self.bot, Some(talk), Broken::Protocol { why });
        }
        self.shared.truth.acked(world, self.bot, talk, ack.history_seq, number);
        if let Some(order) = order
            && let Err(violation) = self.mirror.acked(world, talk, order, ack.history_seq)
        {
            tally.violated(violation);
        }
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
