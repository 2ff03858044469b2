//! Five times what the daemon can do: what it takes it does in time, the rest is told when to come back.
//!
//! A send here is to a group of many people, so that it costs the daemon much and the sender, which shares
//! the machine with it, little. What the daemon can do is measured first, in the same run.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roamd::{
    refusal::ErrorCode,
    wire::proto::{
        self, Direction, FetchHistory, Position, ServerFrame, client_frame::Body, entry, send::To,
        server_frame::Body as Said,
    },
};
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{
    DEADLINE, alone, count, full,
    link::{Link, hint},
    quantile, run,
    server::{Mint, Server},
};

/// More requests than these one session has not outstanding: less than the server reads.
const WINDOW: usize = 240;
/// So many in the measurement of what the daemon can do.
const NARROW: usize = 8;
const TIMES: f64 = 5.0;
const TICK: Duration = Duration::from_millis(10);
/// In a full run what is acked is acked within so many times `limits.waiting_time`: that is for the wait
/// behind others, and beside it are the batch under way, its flush, and a sender that has other work.
const WITHIN: u32 = 3;
/// In a slice, on whatever machine.
const WITHIN_SLICE: Duration = Duration::from_secs(20);
/// So much of what is acked when nobody is refused is acked, in a full run.
const GOODPUT: f64 = 0.7;
const CONTENT: Bytes = Bytes::from_static(b"there is too much of this");

/// One phase of one sender.
#[derive(Default)]
struct Told {
    acked: Vec<(u64, Duration)>,
    refused: BTreeSet<u64>,
    /// Was not sent: as much as a session may have outstanding was.
    withheld: u64,
}

struct Sender {
    link: Link,
    group: String,
    next: u64,
    out: BTreeMap<u64, (u64, Instant)>,
    told: Told,
}

impl Sender {
    async fn start(server: &Server, mint: &Mint, number: usize, members: usize) -> Self {
        let token = mint.token(&format!("sender{number}"));
        let mut link = Link::adopt(server.address, &token, "phone").await;
        let group = format!("group{number}");
        link.create(&group, (0..members).map(|member| format!("member{member}"))).await;
        Self { link, group, next: 2, out: BTreeMap::new(), told: Told::default() }
    }

    fn send(&mut self) {
        let req = self.link.send(To::ConversationId(self.group.clone()), self.next, &CONTENT);
        self.out.insert(req, (self.next, Instant::now()));
        self.next += 1;
    }

    fn hear(&mut self, frame: ServerFrame) {
        let mut answered = || self.out.remove(&frame.req_id).expect("each request has one answer");
        match frame.body {
            Some(Said::SendAck(ack)) => {
                let (id, since) = answered();
                assert!(!ack.duplicate);
                self.told.acked.push((id, since.elapsed()));
            }
            Some(Said::Error(error)) => {
                let (id, _) = answered();
                is_for_now(&error);
                self.told.refused.insert(id);
            }
            Some(Said::GoAway(bye)) => panic!("{bye:?}"),
            _ => {}
        }
    }

    /// What comes, until the time is over; acks it.
    async fn listen(&mut self, span: Duration) {
        if let Ok(filled) = timeout(span, self.link.fill()).await {
            filled.expect("the session goes on");
        }
        while let Some(frame) = self.link.ready() {
            self.hear(frame);
        }
        self.link.ack(64);
    }

    /// As much as the daemon takes, for so long.
    async fn closely(&mut self, until: Instant) {
        while Instant::now() < until || !self.out.is_empty() {
            while self.out.len() < NARROW && Instant::now() < until {
                self.send();
            }
            self.link.flush().await.unwrap();
            self.listen(DEADLINE).await;
        }
    }

    /// So many a second, whatever comes back.
    async fn regardless(&mut self, rate: f64, until: Instant) {
        let (start, mut ticks, mut offered) = (Instant::now(), interval(TICK), 0);
        while Instant::now() < until {
            let due = (start.elapsed().as_secs_f64() * rate) as u64;
            while offered < due {
                offered += 1;
                if self.out.len() < WINDOW {
                    self.send();
                } else {
                    self.told.withheld += 1;
                }
            }
            self.link.flush().await.unwrap();
            self.listen(TICK).await;
            ticks.tick().await;
        }
        let over = Instant::now();
        while !self.out.is_empty() {
            assert!(over.elapsed() < DEADLINE, "{} requests have no answer", self.out.len());
            self.link.flush().await.unwrap();
            self.listen(DEADLINE).await;
        }
    }
}

/// A refusal says that it is not for ever, and when to come back.
fn is_for_now(error: &proto::Error) -> Duration {
    let codes = [ErrorCode::Overloaded, ErrorCode::RateLimited].map(ErrorCode::number);
    assert!(codes.contains(&error.code) && !error.fatal, "{error:?}");
    hint(error).expect("it says when to come back")
}

/// All senders at once; when they began and what they were told.
#[allow(clippy::await_holding_refcell_ref, reason = "each sender has one task")]
async fn all(
    senders: &[Rc<RefCell<Sender>>],
    span: Duration,
    rate: Option<f64>,
) -> (Duration, Vec<Told>) {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for sender in senders {
        let sender = Rc::clone(sender);
        tasks.spawn_local(async move {
            let mut sender = sender.borrow_mut();
            match rate {
                None => sender.closely(start + span).await,
                Some(rate) => sender.regardless(rate, start + span).await,
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let told = senders.iter().map(|sender| std::mem::take(&mut sender.borrow_mut().told));
    (start.elapsed(), told.collect())
}

/// Says little, does as it is told, and is heard in order: how long each message took from the first try.
async fn honest(mut link: Link, to: &str, over: Rc<Cell<bool>>) -> Vec<Duration> {
    let mut times = Vec::new();
    while !over.get() {
        let (id, since) = (times.len() as u64 + 1, Instant::now());
        'tries: loop {
            let req = link.send(To::Peer(to.into()), id, &CONTENT);
            link.ack(1);
            link.flush().await.unwrap();
            loop {
                let frame = link.next().await.expect("the session goes on");
                match frame.body {
                    Some(Said::SendAck(_)) if frame.req_id == req => break 'tries,
                    Some(Said::Error(error)) => {
                        sleep(is_for_now(&error)).await;
                        break;
                    }
                    _ => {}
                }
            }
        }
        times.push(since.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    times
}

/// Every message of a sender as the history of its group has it.
async fn history(sender: &mut Sender) -> Vec<u64> {
    let (link, mut ids, mut anchor_seq) = (&mut sender.link, Vec::new(), 0);
    loop {
        let req = link.say(Body::FetchHistory(FetchHistory {
            conversation_id: sender.group.clone(),
            direction: Direction::Newer.into(),
            anchor_seq,
            limit: 200,
            max_bytes: 0,
        }));
        link.flush().await.unwrap();
        let page = loop {
            let frame = link.next().await.unwrap();
            match frame.body {
                Some(Said::HistoryPage(page)) if frame.req_id == req => break page,
                Some(Said::Error(error)) => panic!("{error:?}"),
                _ => {}
            }
        };
        ids.extend(page.messages.iter().map(|message| message.client_message_id));
        anchor_seq = page.last_seq;
        if page.complete {
            return ids;
        }
    }
}

/// Every message in the inbox of one who was not there: by conversation, in order.
async fn inbox(server: &Server, mint: &Mint, user: &str) -> BTreeMap<String, Vec<u64>> {
    let token = mint.token(user);
    let first = Link::adopt(server.address, &token, "phone").await;
    let (head, at) = (first.seq, Some(Position { epoch: first.epoch, seq: 0 }));
    let mut link = Link::open(server.address, &token, "tablet", at).await.expect("a session");
    let mut messages = BTreeMap::<String, Vec<u64>>::new();
    while link.seq < head {
        if let Some(Said::SyncBatch(batch)) = link.next().await.unwrap().body {
            for entry in batch.entries {
                if let Some(entry::Kind::Message(message)) = entry.kind {
                    let of = messages.entry(message.conversation_id).or_default();
                    of.push(message.client_message_id);
                }
            }
        }
        link.ack(64);
        link.flush().await.unwrap();
    }
    messages
}

#[test]
#[allow(clippy::await_holding_refcell_ref, reason = "each sender has one task")]
fn five_times_what_can_be_done() {
    let _alone = alone();
    let (senders, members) = (count(128, 48), 300);
    let waiting_time = Duration::from_millis(count(1000, 100) as u64);
    let span = Duration::from_millis(count(15_000, 2_000) as u64);
    let server = Server::start(&[
        ("limits.waiting_time", &format!("{}ms", waiting_time.as_millis())),
        ("limits.inbox_entries", "10000000"),
    ]);
    let mint = Mint::open(&server.data());
    run(async {
        let mut all_of_them = Vec::new();
        for number in 0..senders {
            let sender = Sender::start(&server, &mint, number, members).await;
            all_of_them.push(Rc::new(RefCell::new(sender)));
        }
        let honest_link = Link::adopt(server.address, &mint.token("honest"), "phone").await;
        let mut friend = Link::adopt(server.address, &mint.token("friend"), "phone").await;

        let (took, calm) = all(&all_of_them, span, None).await;
        let acked_calm = calm.iter().map(|told| told.acked.len()).sum::<usize>();
        let peak = acked_calm as f64 / took.as_secs_f64();
        let rate = peak * TIMES / senders as f64;

        let over = Rc::new(Cell::new(false));
        let pair = tokio::task::spawn_local(honest(honest_link, "friend", Rc::clone(&over)));
        let (took, told) = all(&all_of_them, span, Some(rate)).await;
        over.set(true);
        let honest = pair.await.unwrap();

        let mut times: Vec<_> = told.iter().flat_map(|t| &t.acked).map(|(_, took)| *took).collect();
        let refused: usize = told.iter().map(|told| told.refused.len()).sum();
        let withheld: u64 = told.iter().map(|told| told.withheld).sum();
        let offered = (times.len() + refused) as f64 / span.as_secs_f64() / peak;
        let goodput = times.len() as f64 / took.as_secs_f64() / peak;
        let (middle, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let longest = honest.iter().max().copied().unwrap_or_default();
        println!(
            "{senders} senders to groups of {members}: {peak:.0} sends/s at most; then {offered:.1} times \
             that ({withheld} more not sent): {goodput:.2} of it acked, p50 {middle:?}, p99 {p99:?}, \
             {refused} refused; {} honest messages, the slowest after {longest:?}",
            honest.len(),
        );
        assert!(refused > 0 && offered > 1.5, "that was no overload");
        let bound = if full() { waiting_time * WITHIN } else { WITHIN_SLICE };
        assert!(p99 <= bound, "{p99:?}, the last one {:?}", times.last());
        assert!(!full() || goodput >= GOODPUT, "{goodput:.2}");

        // Each of the honest ones is heard, once and in order.
        let mut heard = Vec::new();
        while heard.len() < honest.len() {
            if let Some(Said::SyncBatch(batch)) = friend.next().await.unwrap().body {
                for entry in batch.entries {
                    if let Some(entry::Kind::Message(message)) = entry.kind {
                        heard.push(message.client_message_id);
                    }
                }
            }
            friend.ack(1);
            friend.flush().await.unwrap();
        }
        assert!(!heard.is_empty() && heard == (1..=honest.len() as u64).collect::<Vec<_>>());

        // What was acked is there, once and in order; what was refused is not.
        let mut inbox = inbox(&server, &mint, "member0").await;
        for (at, sender) in all_of_them.iter().enumerate() {
            let sender = &mut sender.borrow_mut();
            let of = |told: &Told| told.acked.iter().map(|(id, _)| *id).collect::<Vec<_>>();
            let acked: Vec<u64> = calm[at..=at].iter().chain(&told[at..=at]).flat_map(of).collect();
            assert!(acked == history(sender).await, "the history of {}", sender.group);
            assert!(Some(acked) == inbox.remove(&sender.group), "{} in an inbox", sender.group);
        }
    });
}
