//! Pages of a long history, one after the other from one device.

use std::{rc::Rc, time::Instant};

use prost::Message as _;
use roamd::wire::proto::{
    Direction, FetchHistory, ListConversations, ServerFrame, client_frame::Body, server_frame,
};
use tokio::task::LocalSet;

use super::Bench;
use crate::{
    figures::Outcome,
    link::Link,
    load::{self, Round, content},
    scan::Said,
    server::Target,
};

pub const PAGE: u64 = 50;
pub const PAGES: usize = 2000;
/// Devices of one sender that fill the conversation together.
const FILLERS: usize = 8;

fn ask(conversation: &str, before: u64) -> Body {
    let direction = if before == 0 { Direction::Newest } else { Direction::Older };
    Body::FetchHistory(FetchHistory {
        conversation_id: conversation.to_owned(),
        direction: direction.into(),
        anchor_seq: before,
        limit: PAGE as u32,
        max_bytes: 0,
    })
}

/// Fetches the page of messages before this one, all of it.
pub async fn fetch(link: &mut Link, conversation: &str, before: u64) {
    link.say(ask(conversation, before));
    link.flush().await;
    loop {
        match link.ready() {
            Some(Said::Page(messages)) => {
                assert_eq!(messages, PAGE);
                return;
            }
            Some(Said::Other(frame)) => panic!("{:?}", ServerFrame::decode(frame)),
            Some(_) => {}
            None => link.fill().await,
        }
    }
}

/// The median of so many pages, in microseconds.
pub async fn median(link: &mut Link, conversation: &str, mut before: impl FnMut() -> u64) -> f64 {
    let mut took = Vec::with_capacity(PAGES);
    for _ in 0..PAGES {
        let before = before();
        let start = Instant::now();
        fetch(link, conversation, before).await;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    took[PAGES / 2]
}

/// So many messages from one user to another, who is not there.
pub async fn write(target: &Rc<Target>, messages: u64) {
    let mut fillers = Vec::new();
    for index in 0..FILLERS {
        let mut filler = Link::adopt(target, "writer", &format!("f{index}")).await;
        filler.caught_up().await;
        fillers.push(filler);
    }
    let to = |filler| Round::peer("reader", &content(filler as u64));
    load::fill(fillers, 32, messages / FILLERS as u64, to).await;
}

/// The reader, and its only conversation.
pub async fn reader(target: &Target) -> (Link, String) {
    let mut link = Link::adopt(target, "reader", "d").await;
    link.caught_up().await;
    let id = only(&mut link).await;
    (link, id)
}

/// The only conversation of a user.
pub async fn only(link: &mut Link) -> String {
    let list = Body::ListConversations(ListConversations::default());
    let server_frame::Body::ConversationPage(page) = link.call(list).await else {
        panic!("no conversations");
    };
    page.conversations[0].conversation_id.clone()
}

/// Places anywhere in so many messages, the same in every run.
pub fn anywhere(messages: u64) -> impl FnMut() -> u64 {
    let mut number = 1u64;
    move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        PAGE + 1 + (number >> 33) % (messages - PAGE)
    }
}

pub async fn page(bench: &Bench) -> Outcome {
    let messages: u64 = if bench.full { 1_000_000 } else { 100_000 };
    let mut outcome = Outcome::default();
    LocalSet::new()
        .run_until(async {
            let relay = bench.relay();
            let mut link = Link::adopt(&relay.target, "reader", "d").await;
            link.caught_up().await;
            let floor = median(&mut link, "any", || 0).await;
            drop(relay);
            let server = bench.server();
            bench.step(&format!("a conversation of {messages} messages"));
            write(&server.target, messages).await;
            let (mut link, id) = reader(&server.target).await;
            bench.step("pages");
            let window = bench.watch(&server);
            let newest = median(&mut link, &id, || 0).await;
            let middle = median(&mut link, &id, anywhere(messages)).await;
            let oldest = median(&mut link, &id, || PAGE + 1).await;
            let spent = window.close();
            for (name, micros) in [("newest", newest), ("anywhere", middle), ("oldest", oldest)] {
                outcome.add(&format!("{name} p50"), micros, "us");
            }
            outcome.add("worst p50", newest.max(middle).max(oldest), "us");
            outcome.add("relay p50", floor, "us");
            outcome.add("worst / relay", newest.max(middle).max(oldest) / floor, "x");
            spent.per((3 * PAGES) as f64, "page", &mut outcome);
        })
        .await;
    outcome
}
