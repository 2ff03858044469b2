//! A client without tasks, sockets and clocks, for the simulation: the same state and the same dialog,
//! driven by whoever has the time. It stands for `task.rs` and `connection.rs`, which add nothing but
//! input, output and pauses.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{
    config::ClientConfig,
    dialog::{Around, Dialog},
    error::ClientError,
    event::{Event, Link, Status},
    outbox::Waiter,
    shared::Shared,
};
use crate::wire::proto::{client_frame::Body, server_frame};

/// Resolves with the reply to a request.
pub type Answer = oneshot::Receiver<Result<server_frame::Body, ClientError>>;

/// The time, as a client needs it.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Monotonic clock.
    pub mono: Instant,
    /// Microseconds of the wall clock.
    pub micros: u64,
}

/// See the head of this module.
pub struct SimulatedClient {
    config: ClientConfig,
    shared: Arc<Shared>,
    dialog: Option<Dialog>,
    input: BytesMut,
    output: BytesMut,
}

impl SimulatedClient {
    /// A client that is not connected. What the configuration says of addresses and pauses is not used.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let shared = Shared::new(&config);
        let (input, output) = Default::default();
        Self { config, shared, dialog: None, input, output }
    }

    /// The token of the next sessions.
    pub fn set_token(&mut self, token: String) {
        self.config.token = token;
    }

    /// Whether there is a connection, as far as the client knows.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.dialog.is_some()
    }

    /// A connection is there: says Hello.
    pub fn connect(&mut self, time: Time) {
        self.shared.lock().link = Link::Connecting;
        self.input.clear();
        self.output.clear();
        let mut dialog = Dialog::new(time.mono);
        dialog.greet(&mut around(&self.config, &self.shared, time, &mut self.output));
        self.dialog = Some(dialog);
    }

    /// Bytes have come.
    ///
    /// # Errors
    /// Why the connection has to end; call [`SimulatedClient::lost`].
    pub fn receive(&mut self, time: Time, bytes: &[u8]) -> Result<(), ClientError> {
        let Some(dialog) = &mut self.dialog else { return Ok(()) };
        self.input.extend_from_slice(bytes);
        let mut around = around(&self.config, &self.shared, time, &mut self.output);
        dialog.read(&mut around, &mut self.input, &mut || {})
    }

    /// Takes what is to be written now; when that was much, there may be more.
    ///
    /// # Errors
    /// As [`SimulatedClient::receive`].
    pub fn output(&mut self, time: Time) -> Result<BytesMut, ClientError> {
        let Some(dialog) = &mut self.dialog else { return Ok(BytesMut::new()) };
        dialog.fill(&mut around(&self.config, &self.shared, time, &mut self.output))?;
        Ok(std::mem::take(&mut self.output))
    }

    /// When [`SimulatedClient::on_time`] is due; none = there is no connection.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.dialog.as_ref()?.wake_time(&self.config, &self.shared))
    }

    /// Does what is due.
    ///
    /// # Errors
    /// As [`SimulatedClient::receive`].
    pub fn on_time(&mut self, time: Time) -> Result<(), ClientError> {
        let Some(dialog) = &mut self.dialog else { return Ok(()) };
        dialog.on_time(&mut around(&self.config, &self.shared, time, &mut self.output))
    }

    /// The connection is over. What was written and may be written again waits for the next one.
    pub fn lost(&mut self, error: &ClientError) {
        self.dialog = None;
        let mut state = self.shared.lock();
        state.replica.lost();
        state.large.lost();
        state.outbox.lost(error);
    }

    /// The peer has closed or the transport has failed: why, for [`SimulatedClient::lost`].
    #[must_use]
    pub fn cut() -> ClientError {
        ClientError::lost(std::io::ErrorKind::ConnectionReset.into())
    }

    /// The next event; the ones before are dealt with.
    pub fn next_event(&mut self, time: Time) -> Option<Event> {
        self.shared.take_event(time.mono).ok().flatten()
    }

    /// Makes a request; none = too many are without a reply.
    pub fn request(&mut self, body: Body) -> Option<Answer> {
        let permit = Arc::clone(&self.shared.permits).try_acquire_owned().ok()?;
        let (waiter, reply) = oneshot::channel();
        self.shared.lock().outbox.push(body, Waiter::Caller(waiter, permit));
        Some(reply)
    }

    /// Goes to the background or comes back.
    pub fn set_background(&mut self, time: Time, background: bool) {
        self.shared.set_background(time.mono, background);
    }

    /// The client at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}

impl std::fmt::Debug for SimulatedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedClient").field("status", &self.status()).finish_non_exhaustive()
    }
}

fn around<'a>(
    config: &'a ClientConfig,
    shared: &'a Shared,
    time: Time,
    output: &'a mut BytesMut,
) -> Around<'a> {
    Around { config, shared, now: time.mono, micros: time.micros, output }
}
