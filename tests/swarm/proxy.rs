//! A proxy that spoils one content on its way from the daemon.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use roamd::swarm::body::HEADER_BYTES;

/// What contents of the swarm begin with.
const MAGIC: &[u8] = b"SWRM";

pub struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    pub fn start(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let spoiled = Arc::new(AtomicBool::new(false));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(daemon).unwrap();
                let there = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(there.0, there.1, |_| {}));
                let spoiled = Arc::clone(&spoiled);
                thread::spawn(move || pass(server, client, |bytes| spoil(bytes, &spoiled)));
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        change(&mut bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Changes a byte behind the header of the first content that is here as far as that.
fn spoil(bytes: &mut [u8], spoiled: &AtomicBool) {
    let content = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
    let place = content.map(|at| at + HEADER_BYTES + 2).filter(|at| *at < bytes.len());
    if let Some(at) = place
        && !spoiled.swap(true, SeqCst)
    {
        bytes[at] ^= 0x20;
    }
}
