//! TLS from the client's side: whom to trust, and tickets to come back with.

use std::{fmt, io, path::Path, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, NamedGroup, RootCertStore,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        WebPkiServerVerifier,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the authorities cannot be read.
    #[error("cannot read the authorities: {0}")]
    Read(#[from] io::Error),
    /// There is no certificate in PEM form, or one that is none.
    #[error("there is no usable certificate of an authority in PEM form")]
    NoAuthority,
    /// Neither a DNS name nor an address.
    #[error("{0:?} is no name of a server")]
    BadName(String),
    /// The library refuses.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

/// How to speak TLS: which authorities are trusted, and which name the server must prove. Cheap to
/// clone, for all clients of a process.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Trusts the public authorities.
    ///
    /// # Errors
    /// [`TlsError::Library`].
    pub fn public() -> Result<Self, TlsError> {
        Self::trusting(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()))
    }

    /// Trusts these authorities (certificates in PEM form) and no others.
    ///
    /// # Errors
    /// [`TlsError`] says what is wrong with them.
    pub fn authorities(pem: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TlsError::NoAuthority)?;
            roots.add(certificate).map_err(|_| TlsError::NoAuthority)?;
        }
        if roots.is_empty() { Err(TlsError::NoAuthority) } else { Self::trusting(roots) }
    }

    /// The same, from a file.
    ///
    /// # Errors
    /// [`TlsError`] says what is wrong with it.
    pub fn authorities_in(path: &Path) -> Result<Self, TlsError> {
        Self::authorities(&std::fs::read(path)?)
    }

    /// The server must prove this name, instead of the host of the address.
    ///
    /// # Errors
    /// [`TlsError::BadName`].
    pub fn server_name(self, name: &str) -> Result<Self, TlsError> {
        Ok(Self { name: Some(parse(name)?), ..self })
    }

    /// The server must prove the host of this `host:port`, unless a name was given before: for clients
    /// that connect to an address it was looked up for.
    ///
    /// # Errors
    /// [`TlsError::BadName`].
    pub fn host_of(self, address: &str) -> Result<Self, TlsError> {
        if self.name.is_some() { Ok(self) } else { self.server_name(host(address)) }
    }

    fn trusting(roots: RootCertStore) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|_| TlsError::NoAuthority)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name: None })
    }

    /// The same with tickets of its own: those of one device are worth nothing to another.
    pub(super) fn of_one_device(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::new(Tickets::default()));
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// Shakes hands with the server at `host:port`.
    pub(super) async fn shake(
        &self,
        socket: TcpStream,
        address: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => parse(host(address))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        };
        TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await
    }
}

fn parse(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName(name.to_owned()))
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Tickets that wait for the next connection; the newest is used, once.
const TICKETS_MAX: usize = 2;

/// What one device needs to come back without a full handshake. It knows one server.
#[derive(Debug, Default)]
struct Tickets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: Vec<Tls13ClientSessionValue>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.lock().tls12 = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.lock().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.lock().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.0.lock();
        if kept.tls13.len() >= TICKETS_MAX {
            kept.tls13.remove(0);
        }
        kept.tls13.push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().tls13.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, wanted) in
            [("a.example:7100", "a.example"), ("[::1]:7100", "::1"), ("10.0.0.1:1", "10.0.0.1")]
        {
            assert_eq!(host(address), wanted);
            assert!(parse(host(address)).is_ok(), "{address}");
        }
        assert!(matches!(parse("no name"), Err(TlsError::BadName(_))));
    }

    #[test]
    fn without_an_authority_nobody_can_be_trusted() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(
                matches!(Tls::authorities(pem.as_bytes()), Err(TlsError::NoAuthority)),
                "{pem}"
            );
        }
        assert!(Tls::public().is_ok());
    }
}
