//! TLS in front of a test's socket: a relay that has no idea of the protocol, so that every test of a
//! plain connection is one of TLS as well: `ROAMD_TEST_TLS=1 cargo test --test end_to_end`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, OnceLock, mpsc},
};

use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use socket2::SockRef;
use tokio::{io::copy_bidirectional, net::TcpSocket, runtime::Runtime};
use tokio_rustls::TlsConnector;

use super::DEADLINE;

/// Bytes on the way through a relay, about.
const RELAY_BYTES: usize = 64 * 1024;

/// Whether every connection of every test goes through TLS.
pub fn everywhere() -> bool {
    std::env::var_os("ROAMD_TEST_TLS").is_some_and(|value| value == "1")
}

/// A socket whose bytes go through TLS.
pub struct Relay {
    pub near: TcpStream,
    shaken: mpsc::Receiver<Result<Shaken, String>>,
}

/// What a handshake has agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Shaken {
    pub version: ProtocolVersion,
    pub kind: HandshakeKind,
}

impl Relay {
    /// How the handshake went.
    #[track_caller]
    pub fn shaken(&self) -> Result<Shaken, String> {
        self.shaken.recv_timeout(DEADLINE).expect("a handshake, or its end")
    }
}

/// Trusts the authority in this file; any version of TLS.
pub fn trusting(authority: &Path) -> Arc<ClientConfig> {
    trusting_by(authority, rustls::DEFAULT_VERSIONS)
}

/// Trusts the authority in this file.
pub fn trusting_by(
    authority: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).expect("an authority") {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Connects to the server by its address.
pub fn relay(server: SocketAddr, config: &Arc<ClientConfig>) -> Relay {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    far.set_nonblocking(true).expect("a socket");
    // The relay holds little of its own, so that a slow reader is one.
    SockRef::from(&far).set_send_buffer_size(RELAY_BYTES).expect("a size");
    let (tell, shaken) = mpsc::channel();
    let connector = TlsConnector::from(Arc::clone(config));
    let name = ServerName::IpAddress(server.ip().into());
    runtime.spawn(async move {
        let shake = async {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(RELAY_BYTES as u32)?;
            let socket = socket.connect(server).await?;
            socket.set_nodelay(true)?;
            connector.connect(name, socket).await
        };
        let mut tls = match shake.await {
            Ok(tls) => tls,
            Err(error) => return drop(tell.send(Err(error.to_string()))),
        };
        let (_, connection) = tls.get_ref();
        let (version, kind) = (connection.protocol_version(), connection.handshake_kind());
        let _ = tell
            .send(Ok(Shaken { version: version.expect("shaken"), kind: kind.expect("shaken") }));
        let mut far = tokio::net::TcpStream::from_std(far).expect("a socket");
        let _ = far.set_nodelay(true);
        let _ = copy_bidirectional(&mut far, &mut tls).await;
    });
    Relay { near, shaken }
}
