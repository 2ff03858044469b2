//! One connection, from Hello to its end: moves bytes between the transport and the dialog.
//!
//! Every end is an end of [`Connection::run`]. The task that runs it decides what follows.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::time::sleep_until;

use super::{
    config::ClientConfig,
    dialog::{Around, Dialog},
    error::ClientError,
    shared::Shared,
    transport::{Buffered, Turn},
};

pub(super) struct Connection<'a> {
    config: &'a ClientConfig,
    shared: &'a Shared,
    socket: Buffered,
    dialog: Dialog,
}

impl<'a> Connection<'a> {
    pub(super) fn new(config: &'a ClientConfig, shared: &'a Arc<Shared>, socket: Buffered) -> Self {
        Self { config, shared, socket, dialog: Dialog::new(now()) }
    }

    /// Says Hello and goes on until the connection is over. `opened` is called at Welcome. Ok = closed
    /// after Bye.
    pub(super) async fn run(mut self, mut opened: impl FnMut()) -> Result<(), ClientError> {
        let Self { config, shared, socket, dialog } = &mut self;
        dialog.greet(&mut around(config, shared, socket));
        let timer = sleep_until(dialog.wake_time(config, shared).into());
        tokio::pin!(timer);
        let mut fired = false;
        loop {
            let more = dialog.fill(&mut around(config, shared, socket))?;
            let due = dialog.wake_time(config, shared);
            // A timer that is too early costs less than setting it anew each time.
            if fired || timer.deadline().into_std() > due {
                timer.as_mut().reset(due.into());
                fired = false;
            }
            tokio::select! {
                turn = socket.turn(more) => match turn.map_err(ClientError::lost)? {
                    Turn::Read => {
                        let mut input = std::mem::take(&mut socket.input);
                        let mut around = around(config, shared, socket);
                        dialog.read(&mut around, &mut input, &mut opened)?;
                        socket.input = input;
                    }
                    Turn::Written => {}
                    Turn::End if dialog.is_leaving() => return Ok(()),
                    Turn::End => {
                        let error = std::io::ErrorKind::UnexpectedEof.into();
                        return Err(ClientError::lost(error));
                    }
                },
                () = shared.wake.notified() => {}
                () = &mut timer => {
                    dialog.on_time(&mut around(config, shared, socket))?;
                    fired = true;
                }
            }
        }
    }
}

fn around<'a>(
    config: &'a ClientConfig,
    shared: &'a Shared,
    socket: &'a mut Buffered,
) -> Around<'a> {
    Around { config, shared, now: now(), micros: unix_micros(), output: &mut socket.output }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
