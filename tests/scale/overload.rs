//! Five times more than can be done: what can be done is done, the rest is refused at once with a hint,
//! and what is accepted does not wait for long.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roamd::{
    refusal::ErrorCode,
    wire::proto::{CreateGroup, client_frame::Body, send::To, server_frame::Body as Said},
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    DEADLINE, alone, count, full,
    link::{Link, hint},
    quantile, run,
    server::{Mint, Server},
};

/// Members of the groups that are written to: what costs the daemon much, and those who send little.
const MEMBERS: usize = 200;

#[derive(Default)]
struct Tally {
    acked: Cell<usize>,
    refused: Cell<usize>,
    offered: Cell<usize>,
    /// Of those that were acked.
    times: RefCell<Vec<Duration>>,
    stop: Cell<bool>,
}

async fn create(link: &mut Link, sender: usize) -> To {
    let id = format!("group{sender}");
    link.say(Body::CreateGroup(CreateGroup {
        client_request_id: 1,
        conversation_id: id.clone(),
        title: "overload".into(),
        user_ids: (0..MEMBERS).map(|member| format!("member{sender}x{member}")).collect(),
        history_policy: 1,
        ..CreateGroup::default()
    }));
    link.flush().await.unwrap();
    loop {
        match link.next().await.unwrap().body {
            Some(Said::GroupCreated(_)) => break,
            Some(Said::Error(error)) => panic!("{error:?}"),
            _ => {}
        }
    }
    To::ConversationId(id)
}

/// Sends `window` at a time, and a refused one is not sent again: it gives way to the next.
async fn sender(mut link: Link, to: To, window: usize, tally: Rc<Tally>) {
    let content = Bytes::from_static(&[b'x'; 100]);
    let mut under_way: HashMap<u64, Instant> = HashMap::new();
    let mut id = 1;
    while !tally.stop.get() {
        while under_way.len() < window {
            id += 1;
            let req_id = link.send(to.clone(), id, &content);
            under_way.insert(req_id, Instant::now());
            tally.offered.set(tally.offered.get() + 1);
        }
        link.ack(64);
        link.flush().await.expect("a connection");
        link.fill().await.expect("a connection");
        let mut pause = None;
        while let Some(frame) = link.ready() {
            match frame.body {
                Some(Said::SendAck(_)) => {
                    let sent = under_way.remove(&frame.req_id).expect("an ack belongs to a send");
                    tally.acked.set(tally.acked.get() + 1);
                    tally.times.borrow_mut().push(sent.elapsed());
                }
                Some(Said::Error(error)) => {
                    assert_eq!(error.code, ErrorCode::Overloaded.number(), "{error:?}");
                    under_way.remove(&frame.req_id).expect("an answer belongs to a send");
                    tally.refused.set(tally.refused.get() + 1);
                    pause = pause.max(Some(hint(&error).expect("told when to come back")));
                }
                _ => {}
            }
        }
        if let Some(pause) = pause {
            // As told: whoever does not wait is refused again, and that costs the others.
            sleep(pause / 5).await;
        }
    }
}

/// What was acked in a second, and how long the slowest hundredth of it took.
async fn measure(tally: &Tally, length: Duration) -> (f64, Duration, f64) {
    sleep(length / 4).await;
    tally.times.borrow_mut().clear();
    let before = (tally.acked.get(), tally.offered.get());
    let start = Instant::now();
    sleep(length).await;
    let spent = start.elapsed().as_secs_f64();
    let rate = |now: usize, before: usize| (now - before) as f64 / spent;
    let acked = rate(tally.acked.get(), before.0);
    let p99 = quantile(&mut tally.times.borrow_mut(), 0.99);
    (acked, p99, rate(tally.offered.get(), before.1))
}

/// So many senders with so many under way each.
async fn load(
    server: &Server,
    mint: &Mint,
    name: &str,
    senders: usize,
    window: usize,
    length: Duration,
) -> (f64, Duration, f64, usize) {
    let tally = Rc::new(Tally::default());
    let mut tasks = JoinSet::new();
    for number in 0..senders {
        let token = mint.token(&format!("{name}{number}"));
        let mut link = Link::adopt(server.address, &token, "phone").await;
        let to = create(&mut link, number + if name == "many" { 1000 } else { 0 }).await;
        tasks.spawn_local(sender(link, to, window, Rc::clone(&tally)));
    }
    let (acked, p99, offered) = measure(&tally, length).await;
    tally.stop.set(true);
    tasks.abort_all();
    (acked, p99, offered, tally.refused.get())
}

#[test]
fn more_than_can_be_done() {
    let _alone = alone();
    let server = Server::start(&[]);
    let mint = Mint::open(&server.data());
    let length = Duration::from_secs(count(8, 1) as u64);
    run(async {
        // As much as keeps the daemon busy ...
        let few = count(20, 10);
        let (peak, peak_p99, _, none) = load(&server, &mint, "few", few, 50, length).await;
        // ... and far more than it takes.
        let many = few * 10;
        let (goodput, p99, offered, refused) =
            load(&server, &mint, "many", many, 256, length).await;
        println!(
            "groups of {MEMBERS}: at most {peak:.0} messages/s, p99 {peak_p99:?}; offered {offered:.0}/s by \
             {many} senders with 256 under way each: {goodput:.0}/s acked = {:.0} %, p99 {p99:?} = {:.1} x, \
             {refused} refused with a hint",
            goodput * 100.0 / peak,
            p99.as_secs_f64() / peak_p99.as_secs_f64(),
        );
        assert_eq!(none, 0, "refused although there was little to do");
        // Nothing is stuck, whatever was refused.
        let token = mint.token("after");
        let start = Instant::now();
        let mut link = Link::adopt(server.address, &token, "phone").await;
        link.send(To::Peer("before".into()), 1, &Bytes::from_static(b"x"));
        link.flush().await.unwrap();
        while !matches!(link.next().await.unwrap().body, Some(Said::SendAck(_))) {
            assert!(start.elapsed() < DEADLINE);
        }
        if full() {
            assert!(goodput >= 0.9 * peak, "{goodput:.0} of {peak:.0}");
        }
    });
}
