//! A peer that is gone without a word: the kernel is told to look, so that half-open connections end.
//!
//! Bytes that the socket takes may wait in the kernel for a peer that will never acknowledge them;
//! by its own rules the kernel tries for a quarter of an hour. And a peer that has nothing to say
//! is not missed before it has been silent for three heartbeats.

use std::io;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::limits::Limits;

/// The kernel asks a silent peer so often within `write_stall` whether it is there.
const PROBES: u32 = 3;

/// Sets what any connection needs: frames leave at once; what is not acknowledged within
/// `write_stall` ends the connection; a peer that says nothing for a heartbeat is asked, and gone when
/// it has not answered within `write_stall` either.
pub(super) fn expect_life(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // Whole seconds are what the kernel counts in, and none is not "at once".
    let interval = (limits.write_stall / PROBES).max(std::time::Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(limits.heartbeat_interval)
        .with_interval(interval)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits.write_stall))?;
    Ok(())
}
