//! The certificate that TLS shows, and how it is replaced while the daemon runs.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::auth::{KeyError, secret_file};

/// The listener for clients that speak TLS.
#[derive(Debug)]
pub struct TlsListen {
    /// Where to listen; port 0 = any.
    pub address: SocketAddr,
    /// What is shown to clients.
    pub certificate: Certificate,
}

/// A chain of certificates and the key of the first.
#[derive(Clone)]
pub struct Certificate(Arc<CertifiedKey>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key, which is a secret.
        write!(f, "Certificate({} in the chain)", self.0.cert.len())
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file of the chain cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file of the key cannot be read, or is open to others.
    #[error("the key of the certificate cannot be used")]
    Key(#[from] KeyError),
    /// Nothing in PEM form is in the file.
    #[error("{} has no {wanted} in PEM form", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// Chain and key are read, but do not belong together or are of an unknown kind.
    #[error("{} cannot be used with its key", path.display())]
    Mismatch {
        /// The file of the chain.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

impl Certificate {
    /// Reads a chain (the server's certificate first) and its private key, both in PEM form. The key's
    /// file must be closed to others (mode 0600 or 0640).
    ///
    /// # Errors
    /// [`CertificateError`] names the file and what is wrong with it.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let nothing = |path: &Path, wanted| CertificateError::Nothing { path: path.into(), wanted };
        let read = |source| CertificateError::Read { path: chain.to_owned(), source };
        let text = std::fs::read(chain).map_err(read)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<_, _>>()
            .map_err(|_| nothing(chain, "certificate"))?;
        if certificates.is_empty() {
            return Err(nothing(chain, "certificate"));
        }
        let secret = PrivateKeyDer::from_pem_slice(&secret_file(key)?)
            .map_err(|_| nothing(key, "private key"))?;
        let mismatch = |source| CertificateError::Mismatch { path: chain.to_owned(), source };
        CertifiedKey::from_der(certificates, secret, &ring::default_provider())
            .map(|certified| Self(Arc::new(certified)))
            .map_err(mismatch)
    }
}

/// The certificate in force.
pub(super) struct Shown(RwLock<Certificate>);

impl Shown {
    pub(super) fn new(certificate: Certificate) -> Arc<Self> {
        Arc::new(Self(RwLock::new(certificate)))
    }

    /// From the next handshake on.
    pub(super) fn replace(&self, certificate: Certificate) {
        *self.0.write() = certificate;
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.read().fmt(f)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().0))
    }
}

/// TLS 1.2 and 1.3 without client certificates. Who comes back resumes by a ticket, which costs the
/// server no memory.
pub(super) fn settings(shown: Arc<Shown>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    // One is enough: with every resumption comes another.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
