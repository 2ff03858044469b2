//! A peer that is gone without a word: the kernel is told to look, so that half-open connections end.
//!
//! Bytes that the socket takes may wait in the kernel for a peer that will never acknowledge them;
//! by its own rules the kernel tries for a quarter of an hour. And a peer that has nothing to say
//! is not missed before it has been silent for three heartbeats.

//!
//! On Linux a connection has from its start what its listener has been told, so that nothing needs to be
//! told to each: six system calls for every one that comes.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};

use crate::limits::Limits;

/// The kernel asks a silent peer so often within `write_stall` whether it is there.
const PROBES: u32 = 3;
/// Whether what a listener is told holds for what it accepts from then on.
const INHERITED: bool = cfg!(target_os = "linux");

/// What the connections of one listener begin with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    /// Heartbeat and stall; none = nothing.
    told: Option<(Duration, Duration)>,
}

impl Expected {
    /// Tells a listener what its connections will need. To be told before it listens.
    pub(super) fn tell(&mut self, listener: SockRef<'_>, limits: &Limits) {
        if INHERITED && expect_life(listener, limits).is_ok() {
            self.told = Some((limits.heartbeat_interval, limits.write_stall));
        }
    }

    /// A connection was accepted: it needs what these limits say, and so will those after it.
    pub(super) fn of_connection(
        &mut self,
        listener: SockRef<'_>,
        socket: SockRef<'_>,
        limits: &Limits,
    ) {
        if self.told != Some((limits.heartbeat_interval, limits.write_stall)) {
            let _ = expect_life(socket, limits);
            self.tell(listener, limits);
        }
    }
}

/// Sets what any connection needs: frames leave at once; what is not acknowledged within
/// `write_stall` ends the connection; a peer that says nothing for a heartbeat is asked, and gone when
/// it has not answered within `write_stall` either.
fn expect_life(socket: SockRef<'_>, limits: &Limits) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // Whole seconds are what the kernel counts in, and none is not "at once".
    let interval = (limits.write_stall / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(limits.heartbeat_interval)
        .with_interval(interval)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits.write_stall))?;
    Ok(())
}
