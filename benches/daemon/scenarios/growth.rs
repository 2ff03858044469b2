//! Whether a cost depends on how much there is: processor time of the daemon on the way to an answer,
//! for one operation, each time what lies in the store has doubled.

use tokio::task::LocalSet;

use super::{Bench, page};
use crate::{
    figures::{Outcome, short},
    link::Link,
    load::{self, Round, adopt_all, content},
    server::Server,
};

/// Sizes: this, and doubled three times.
const DOUBLINGS: u32 = 3;
const MESSAGES: u64 = 20_000;
const SENDERS: usize = 100;
const CONNECTS: usize = 200;

/// Costs by size, in microseconds.
struct Series {
    name: &'static str,
    costs: Vec<(u64, f64)>,
}

impl Series {
    const fn new(name: &'static str) -> Self {
        Self { name, costs: Vec::new() }
    }

    fn told(self, outcome: &mut Outcome) {
        let Self { name, costs } = self;
        for (size, cost) in &costs {
            outcome.add(&format!("{name}: {}", short(*size as f64)), *cost, "us");
        }
        let (Some((_, first)), Some((_, last))) = (costs.first(), costs.last()) else { return };
        let change = (last / first).powf(1.0 / f64::from(DOUBLINGS)) - 1.0;
        outcome.add(&format!("{name}: change per doubling"), change * 100.0, "%");
    }
}

fn sizes(first: u64) -> impl Iterator<Item = u64> {
    (0..=DOUBLINGS).map(move |power| first << power)
}

pub async fn growth(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            users(bench, &mut outcome).await;
            conversations(bench, &mut outcome).await;
            history(bench, &mut outcome).await;
        })
        .await;
    outcome
}

/// Sends `MESSAGES` from these, and says what each cost.
async fn sends(
    bench: &Bench,
    server: &Server,
    links: Vec<Link>,
    to: impl Fn(usize) -> Round,
) -> (Vec<Link>, f64) {
    let each = MESSAGES / links.len() as u64;
    let sent = each * links.len() as u64;
    let window = bench.watch(server);
    let links = load::fill(links, 8, each, to).await;
    (links, window.close().micros_to_answer() / sent as f64)
}

async fn users(bench: &Bench, outcome: &mut Outcome) {
    let server = Server::start(&bench.dir.join("users"));
    let mut hot = Series::new("send to the same users, users in the store");
    let mut spread = Series::new("send to any user, users in the store");
    let mut links = adopt_all(&server.target, (0..SENDERS).map(|n| format!("s{n}"))).await;
    let mut there = 0;
    for size in sizes(12_500) {
        bench.step(&format!("{size} users"));
        let each = (size - there) / SENDERS as u64;
        let peers = |sender: usize, from: u64, count: u64| {
            let from = from + sender as u64 * count;
            Round::peers((from..from + count).map(|n| format!("p{n}")), &content(sender as u64))
        };
        links = load::fill(links, 8, each, |sender| peers(sender, there, each)).await;
        let own = |sender: usize| Round::peer(&format!("p{sender}"), &content(sender as u64));
        let cost;
        (links, cost) = sends(bench, &server, links, own).await;
        hot.costs.push((size, cost));
        let cost;
        (links, cost) = sends(bench, &server, links, |sender| peers(sender, there, each)).await;
        spread.costs.push((size, cost));
        there += each * SENDERS as u64;
    }
    hot.told(outcome);
    spread.told(outcome);
}

async fn conversations(bench: &Bench, outcome: &mut Outcome) {
    let server = Server::start(&bench.dir.join("conversations"));
    let mut send = Series::new("send, conversations of the sender");
    let mut connect = Series::new("connect, conversations of the user");
    let mut links = adopt_all(&server.target, ["busy".to_owned()].into_iter()).await;
    let token = server.target.token("busy");
    let mut there = 0;
    for size in sizes(500) {
        bench.step(&format!("{size} conversations of one user"));
        let new = |_| Round::peers((there..size).map(|n| format!("p{n}")), &content(1));
        links = load::fill(links, 8, size - there, new).await;
        there = size;
        let one = |_| Round::peer("p0", &content(1));
        let cost;
        (links, cost) = sends(bench, &server, links, one).await;
        send.costs.push((size, cost));
        let (seq, epoch) = (links[0].last_seq, links[0].epoch);
        let window = bench.watch(&server);
        for _ in 0..CONNECTS {
            Link::open(&server.target, &token, "other", Some(seq), epoch).await.caught_up().await;
        }
        connect.costs.push((size, window.close().micros_to_answer() / CONNECTS as f64));
    }
    send.told(outcome);
    connect.told(outcome);
}

async fn history(bench: &Bench, outcome: &mut Outcome) {
    let server = Server::start(&bench.dir.join("history"));
    let mut send = Series::new("send, messages in the conversation");
    let mut read = Series::new("page anywhere, messages in the conversation");
    let mut links = adopt_all(&server.target, ["other".to_owned()].into_iter()).await;
    let mut there = 0;
    for size in sizes(25_000) {
        bench.step(&format!("a conversation of {size} messages"));
        page::write(&server.target, size - there).await;
        there = size;
        let (mut link, id) = page::reader(&server.target).await;
        let window = bench.watch(&server);
        page::median(&mut link, &id, page::anywhere(size)).await;
        read.costs.push((size, window.close().micros_to_answer() / page::PAGES as f64));
        drop(link);
        let one = |_| Round::peer("reader", &content(1));
        let cost;
        (links, cost) = sends(bench, &server, links, one).await;
        send.costs.push((size, cost));
    }
    send.told(outcome);
    read.told(outcome);
}
