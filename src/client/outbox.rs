//! Requests: those that wait to be written, and those without a reply. Free of input and output.
//!
//! Invariants: requests are written in the order they were made; a request is in one of the two lists
//! until its waiter has been told; sends get increasing ids of their own when they are first written
//! and keep them; after a lost connection sends are written again, in order and before anything newer.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{error::ClientError, large::Fetch};
use crate::wire::proto::{client_frame::Body, server_frame};

/// What a request is answered with.
pub(super) type Outcome = Result<server_frame::Body, ClientError>;

/// Who waits for a reply.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller of the library. The permit counts the requests in flight.
    Caller(
        oneshot::Sender<Outcome>,
        #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit,
    ),
    /// The client itself, for a page of the snapshot.
    Snapshot,
    /// The client itself, for the answer to Resume.
    Resume,
    /// The client itself, to hear that the server is there.
    Heartbeat,
    /// The client itself, for what is missing of a large conversation.
    Large(Fetch),
}

impl Waiter {
    fn tell(self, outcome: Outcome) {
        if let Self::Caller(waiter, _) = self {
            // Who no longer waits is not told.
            let _ = waiter.send(outcome);
        }
    }
}

#[derive(Debug)]
struct Request {
    /// None once it is written and would not be written again.
    body: Option<Body>,
    waiter: Waiter,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Request>,
    outstanding: BTreeMap<u64, Request>,
    last_req_id: u64,
    last_client_id: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, body: Body, waiter: Waiter) {
        self.waiting.push_back(Request { body: Some(body), waiter });
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Requests without a reply, written or not.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.outstanding.len()
    }

    /// A number for a send: above all others, and above `micros` where that is greater.
    pub(super) fn next_client_id(&mut self, micros: u64) -> u64 {
        self.last_client_id = self.last_client_id.saturating_add(1).max(micros);
        self.last_client_id
    }

    /// The server has accepted numbers up to this one.
    pub(super) fn accepted(&mut self, last_client_id: u64) {
        self.last_client_id = self.last_client_id.max(last_client_id);
    }

    /// The number of a request the client itself makes now.
    pub(super) fn expect(&mut self, waiter: Waiter) -> u64 {
        self.last_req_id += 1;
        self.outstanding.insert(self.last_req_id, Request { body: None, waiter });
        self.last_req_id
    }

    /// Writes the next request with `write`, which is given its number and gives the body back.
    pub(super) fn write_next(
        &mut self,
        micros: u64,
        write: impl FnOnce(u64, Body) -> Option<Body>,
    ) {
        let Some(mut request) = self.waiting.pop_front() else { return };
        let Some(mut body) = request.body.take() else { return };
        if let Some(id) = client_id(&mut body) {
            match *id {
                0 => *id = self.next_client_id(micros),
                given => self.accepted(given),
            }
        }
        let repeats = client_id(&mut body).is_some();
        self.last_req_id += 1;
        request.body = write(self.last_req_id, body).filter(|_| repeats);
        self.outstanding.insert(self.last_req_id, request);
    }

    /// The reply to a request has come: who waits for it.
    pub(super) fn settle(&mut self, req_id: u64) -> Option<Waiter> {
        self.outstanding.remove(&req_id).map(|request| request.waiter)
    }

    /// Tells a waiter.
    pub(super) fn answer(waiter: Waiter, outcome: Outcome) {
        waiter.tell(outcome);
    }

    /// The connection is lost: sends wait again, other requests that were written fail.
    pub(super) fn lost(&mut self, error: &ClientError) {
        for (_, request) in std::mem::take(&mut self.outstanding).into_iter().rev() {
            match request.body {
                Some(_) => self.waiting.push_front(request),
                None => request.waiter.tell(Err(error.clone())),
            }
        }
    }

    /// Nothing will be written any more.
    pub(super) fn end(&mut self, error: &ClientError) {
        let outstanding = std::mem::take(&mut self.outstanding).into_values();
        for request in outstanding.chain(std::mem::take(&mut self.waiting)) {
            request.waiter.tell(Err(error.clone()));
        }
    }
}

/// The number that makes a request safe to repeat, of those requests that have one.
fn client_id(body: &mut Body) -> Option<&mut u64> {
    match body {
        Body::Send(send) => Some(&mut send.client_message_id),
        Body::CreateGroup(create) => Some(&mut create.client_request_id),
        Body::SendNotice(notice) => Some(&mut notice.client_request_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::wire::proto;

    struct Caller {
        permits: Arc<Semaphore>,
    }

    impl Caller {
        fn new() -> Self {
            Self { permits: Arc::new(Semaphore::new(100)) }
        }

        fn ask(&self, outbox: &mut Outbox, body: Body) -> oneshot::Receiver<Outcome> {
            let (waiter, reply) = oneshot::channel();
            let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
            outbox.push(body, Waiter::Caller(waiter, permit));
            reply
        }
    }

    fn send(id: u64) -> Body {
        Body::Send(proto::Send { client_message_id: id, ..Default::default() })
    }

    fn write_all(outbox: &mut Outbox) -> Vec<(u64, u64)> {
        let mut written = Vec::new();
        while outbox.has_waiting() {
            outbox.write_next(1000, |req_id, mut body| {
                written.push((req_id, client_id(&mut body).copied().unwrap_or(0)));
                Some(body)
            });
        }
        written
    }

    #[test]
    fn ids_increase_past_the_clock_and_past_what_the_server_knows() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.next_client_id(1000), 1000);
        assert_eq!(outbox.next_client_id(1000), 1001);
        outbox.accepted(5000);
        assert_eq!(outbox.next_client_id(1002), 5001);
        outbox.accepted(10);
        assert_eq!(outbox.next_client_id(9000), 9000);
    }

    #[test]
    fn sends_are_repeated_in_order_with_their_ids_and_other_requests_fail() {
        let (mut outbox, caller) = (Outbox::default(), Caller::new());
        let first = caller.ask(&mut outbox, send(0));
        let mut ping = caller.ask(&mut outbox, Body::Ping(proto::Ping::default()));
        let second = caller.ask(&mut outbox, send(0));
        assert_eq!(write_all(&mut outbox), [(1, 1000), (2, 0), (3, 1001)]);
        let third = caller.ask(&mut outbox, send(0));
        outbox.lost(&ClientError::Closed);
        assert!(matches!(ping.try_recv(), Ok(Err(ClientError::Closed))));
        assert_eq!(write_all(&mut outbox), [(4, 1000), (5, 1001), (6, 1002)]);

        let reply = server_frame::Body::Done(proto::Done::default());
        for (req_id, mut waiting) in [(5, second), (4, first), (6, third)] {
            Outbox::answer(outbox.settle(req_id).unwrap(), Ok(reply.clone()));
            assert!(matches!(waiting.try_recv(), Ok(Ok(_))));
        }
        assert!(outbox.settle(4).is_none());
        assert_eq!((outbox.len(), caller.permits.available_permits()), (0, 100));
    }

    #[test]
    fn a_number_of_the_callers_own_is_kept() {
        let (mut outbox, caller) = (Outbox::default(), Caller::new());
        let _replies =
            [send(7), send(0), send(2_000), send(0)].map(|body| caller.ask(&mut outbox, body));
        assert_eq!(write_all(&mut outbox), [(1, 7), (2, 1000), (3, 2000), (4, 2001)]);
    }

    #[test]
    fn the_end_is_told_to_everybody_once() {
        let (mut outbox, caller) = (Outbox::default(), Caller::new());
        let mut replies = [send(0), send(0)].map(|body| caller.ask(&mut outbox, body));
        outbox.write_next(1, |_, body| Some(body));
        outbox.expect(Waiter::Heartbeat);
        outbox.end(&ClientError::Closed);
        for reply in &mut replies {
            assert!(matches!(reply.try_recv(), Ok(Err(ClientError::Closed))));
        }
        assert_eq!(outbox.len(), 0);
    }
}
