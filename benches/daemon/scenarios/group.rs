//! Groups: one message to many who are online.

use std::{rc::Rc, time::Duration};

use roamd::wire::proto::{AddMembers, CreateGroup, client_frame::Body, send::To, server_frame};
use tokio::task::{JoinSet, LocalSet};

use super::Bench;
use crate::{
    counts::Spent,
    figures::Outcome,
    link::Link,
    load::{self, Round, Tally, adopt_all, content, measure},
    server::{Server, Target},
};

const WRITERS: usize = 10;
/// Most users of one call.
const CALL: usize = 1000;

fn name(prefix: &str, member: usize) -> String {
    format!("{prefix}{member}")
}

/// The first of these names makes a group with all the others.
async fn group(owner: &mut Link, prefix: &str, members: usize) -> String {
    let users: Vec<String> = (1..members).map(|member| name(prefix, member)).collect();
    let (first, others) = users.split_at(users.len().min(CALL));
    let create = CreateGroup {
        client_request_id: owner.first_message_id + 1,
        user_ids: first.to_vec(),
        ..CreateGroup::default()
    };
    owner.first_message_id += 1;
    let server_frame::Body::GroupCreated(made) = owner.call(Body::CreateGroup(create)).await else {
        panic!("no group");
    };
    for users in others.chunks(CALL) {
        let add =
            AddMembers { conversation_id: made.conversation_id.clone(), user_ids: users.to_vec() };
        let answer = owner.call(Body::AddMembers(add)).await;
        assert!(matches!(answer, server_frame::Body::MemberItems(_)), "{answer:?}");
    }
    made.conversation_id
}

struct Came {
    acked: f64,
    delivered: f64,
    seconds: f64,
    spent: Option<Spent>,
}

/// A group of so many members, the first of them online; ten of them write.
async fn load(
    bench: &Bench,
    target: &Rc<Target>,
    server: Option<&Server>,
    (members, online, window): (usize, usize, usize),
    length: Duration,
) -> Came {
    let prefix = format!("g{members}-");
    let mut links = adopt_all(target, (0..online).map(|member| name(&prefix, member))).await;
    let id = group(&mut links[0], &prefix, members).await;
    let tally = Tally::new();
    let mut tasks = JoinSet::new();
    for (member, link) in links.into_iter().enumerate() {
        let tally = Rc::clone(&tally);
        if member < WRITERS {
            let to = Round::one(To::ConversationId(id.clone()), &content(member as u64));
            tasks.spawn_local(async move { drop(load::send(link, to, window, None, tally).await) });
        } else {
            tasks.spawn_local(load::receive(link, tally));
        }
    }
    tokio::time::sleep(length / 4).await;
    let window = server.map(|server| bench.watch(server));
    let seconds = measure(length, &tally).await;
    let (acked, delivered) = (tally.acked.get() as f64, tally.delivered.get() as f64);
    let spent = window.map(crate::counts::Window::close);
    tasks.abort_all();
    Came { acked, delivered, seconds, spent }
}

async fn floor(bench: &Bench, online: usize, window: usize) -> f64 {
    bench.step("the relay");
    let relay = bench.relay();
    let came = load(bench, &relay.target, None, (online, online, window), bench.length / 2).await;
    came.delivered / came.seconds
}

fn told(came: &Came, floor: f64, outcome: &mut Outcome) {
    let rate = came.delivered / came.seconds;
    outcome.add("deliveries/s", rate, "");
    outcome.add("messages/s", came.acked / came.seconds, "");
    outcome.add("relay deliveries/s", floor, "");
    outcome.add("of the relay", rate / floor * 100.0, "%");
    if let Some(spent) = &came.spent {
        outcome.add("processor time / message", spent.micros() / came.acked, "us");
        spent.per(came.delivered, "delivery", outcome);
    }
}

pub async fn small(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            let floor = floor(bench, 200, 8).await;
            bench.step("the daemon");
            let server = bench.server();
            let shape = (200, 200, 8);
            let came = load(bench, &server.target, Some(&server), shape, bench.length).await;
            told(&came, floor, &mut outcome);
        })
        .await;
    outcome
}

pub async fn large(bench: &Bench) -> Outcome {
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            let floor = floor(bench, 1000, 8).await;
            bench.step("10,000 members, 1,000 online");
            let server = bench.server();
            let shape = (10_000, 1000, 8);
            let came = load(bench, &server.target, Some(&server), shape, bench.length).await;
            told(&came, floor, &mut outcome);
            drop(server);
            let mut costs = Vec::new();
            for (index, members) in [1000, 10_000].into_iter().enumerate() {
                bench.step(&format!("{members} members, 100 online"));
                let dir = bench.dir.join(format!("cost{index}"));
                let server = Server::start(&dir);
                let shape = (members, 100, 4);
                let length = bench.length / 2;
                let came = load(bench, &server.target, Some(&server), shape, length).await;
                let cost = came.spent.map_or(0.0, |spent| spent.micros()) / came.acked;
                outcome.add(&format!("cost / message, 100 of {members} online"), cost, "us");
                costs.push(cost);
            }
            outcome.add("cost at 10,000 / at 1,000 members", costs[1] / costs[0], "x");
        })
        .await;
    outcome
}
