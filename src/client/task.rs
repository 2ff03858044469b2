//! The task behind a client: connects, and connects again.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    backoff::Attempts,
    config::ClientConfig,
    connection::Connection,
    error::ClientError,
    event::{Event, Link},
    shared::Shared,
    tls::Tls,
    transport,
};

/// A session that lasted so long was a good one: the next pause is a short one again.
const LASTED: std::time::Duration = std::time::Duration::from_secs(1);

/// How the first attempt ended.
pub(super) type First = oneshot::Receiver<Result<(), ClientError>>;

pub(super) struct Task {
    config: ClientConfig,
    shared: Arc<Shared>,
    attempts: Attempts,
    /// Waits for the first attempt.
    first: Option<oneshot::Sender<Result<(), ClientError>>>,
    /// Gives up when the first attempt fails.
    once: bool,
}

impl Task {
    pub(super) fn new(mut config: ClientConfig, shared: Arc<Shared>, once: bool) -> (Self, First) {
        config.tls = config.tls.as_ref().map(Tls::of_one_device);
        let (first, outcome) = oneshot::channel();
        let attempts = Attempts::new(config.reconnect.unwrap_or_default());
        (Self { config, shared, attempts, first: Some(first), once }, outcome)
    }

    pub(super) async fn run(mut self) {
        loop {
            self.shared.lock().link = Link::Connecting;
            let error = match self.attempt().await {
                Ok(()) => return self.shared.end(ClientError::Closed),
                Err(error) => error,
            };
            let first = self.first.take();
            let give_up = (self.once && first.is_some())
                || self.config.reconnect.is_none()
                || !error.is_temporary();
            if let Some(first) = first {
                let _ = first.send(Err(error.clone()));
            }
            let pause = self.attempts.pause(error.retry_after(), rand::random());
            {
                let mut state = self.shared.lock();
                state.replica.lost();
                state.large.lost();
                if give_up || state.closing {
                    drop(state);
                    return self.shared.end(error);
                }
                state.outbox.lost(&error);
                state.link = Link::Waiting((Instant::now() + pause).into_std());
                state.queue.push(Event::Disconnected { error: error.clone(), retry_in: pause });
            }
            self.shared.events.notify_one();
            tracing::debug!(address = %self.config.address, %error, ?pause, "connection ended");
            let pause = sleep(pause);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = self.shared.wake.notified() => {}
                }
                if self.shared.lock().closing {
                    return self.shared.end(error);
                }
            }
        }
    }

    /// One connection, from the first packet to the last. Ok = closed after Bye.
    async fn attempt(&mut self) -> Result<(), ClientError> {
        let address = &self.config.address;
        let waited = self.config.connect_timeout;
        let socket = match timeout(waited, transport::open(address, self.config.tls.as_ref())).await
        {
            Ok(Ok(socket)) => socket,
            Ok(Err(source)) => {
                let source = Arc::new(source);
                return Err(ClientError::Connect { address: address.clone(), source });
            }
            Err(_) => return Err(ClientError::Timeout { address: address.clone(), waited }),
        };
        let mut since = None;
        let first = &mut self.first;
        let opened = || {
            since = Some(Instant::now());
            if let Some(first) = first.take() {
                let _ = first.send(Ok(()));
            }
        };
        let outcome = Connection::new(&self.config, &self.shared, socket).run(opened).await;
        if since.is_some_and(|since| since.elapsed() >= LASTED) {
            self.attempts.reset();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Load tests run ten thousand clients beside a daemon.
    #[test]
    fn a_client_is_small() {
        let config = ClientConfig::new("127.0.0.1:7100", "token", "device");
        let shared = Shared::new(&config);
        let (task, _first) = Task::new(config, Arc::clone(&shared), true);
        let bytes = size_of_val(&task.run()) + size_of_val(&*shared);
        assert!(bytes <= 4096, "{bytes}");
    }
}
