//! `roamd cert …`: a certificate for development, and where the certificate of the daemon lies.

use std::{
    error::Error,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use super::{fail, print};
use crate::{cli::exit::Exit, clock::Clock, config::Config};

/// The folder in the data directory.
const FOLDER: &str = "tls";
/// What every development certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a development certificate is good.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    /// Make a certificate for development, for localhost and this machine's own addresses.
    #[command(after_help = "Examples:\n  roamd cert dev\n  roamd cert dev --name chat.test\n  \
        roamd serve --tls-listen 127.0.0.1:7101\n  \
        roam ping --server localhost:7101 --ca roamd-data/tls/ca.pem\n\n\
        It lies in tls/ of the data directory: cert.pem and key.pem are the daemon's, ca.pem is for\n\
        clients. The key of the authority is thrown away, so nobody can make another by it.")]
    Dev {
        /// One more name or address that the certificate is for.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Also when there is one. Clients need the new ca.pem; SIGHUP makes the daemon show it.
        #[arg(long)]
        replace: bool,
    },
}

/// Where certificate and key lie.
pub(super) struct Files {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    /// Those of the configuration, else those in the data directory.
    pub(super) fn of(config: &Config) -> Self {
        match (&config.tls.cert_file, &config.tls.key_file) {
            (Some(chain), Some(key)) => Self { chain: chain.clone(), key: key.clone() },
            _ => Self::development(&config.data.dir),
        }
    }

    fn development(data: &Path) -> Self {
        let folder = data.join(FOLDER);
        Self { chain: folder.join("cert.pem"), key: folder.join("key.pem") }
    }
}

pub(super) fn run(config: &Config, command: &CertCommand) -> Exit {
    let CertCommand::Dev { names, replace } = command;
    let data = &config.data.dir;
    let Files { chain, key } = Files::development(data);
    if !replace && (chain.exists() || key.exists()) {
        let text = format!("there is a certificate in {} already", data.join(FOLDER).display());
        return fail(Exit::Failed, &io::Error::other(text), "--replace makes another");
    }
    match make(data, names) {
        Ok(authority) => {
            print(&format!("{}\n{}\n{}\n", authority.display(), chain.display(), key.display()));
            Exit::Ok
        }
        Err(error) => fail(Exit::Failed, &*error, "check --data and --name"),
    }
}

/// Makes a certificate for development where there is none.
pub(super) fn make_if_missing(data: &Path) -> Result<(), Box<dyn Error>> {
    let Files { chain, key } = Files::development(data);
    if chain.exists() && key.exists() {
        return Ok(());
    }
    make(data, &[]).map(|_| ())
}

/// Makes authority, certificate and key; returns the file of the authority.
fn make(data: &Path, names: &[String]) -> Result<PathBuf, Box<dyn Error>> {
    let now = Duration::from_millis(Clock::start().now().wall.millis());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let validity = |mut params: CertificateParams, name: &str| {
        // Clocks of clients may be behind.
        params.not_before = epoch + now.saturating_sub(DAY);
        params.not_after = epoch + now.saturating_add(LIFE);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };

    let mut params = validity(CertificateParams::default(), "roamd development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signs = KeyPair::generate()?;
    let authority = params.self_signed(&signs)?.pem();
    let issuer = Issuer::from_params(&params, signs);

    let names: Vec<_> =
        NAMES.iter().map(|name| (*name).to_owned()).chain(names.iter().cloned()).collect();
    let mut params = validity(CertificateParams::new(names)?, "roamd development");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let own = KeyPair::generate()?;
    let certificate = params.signed_by(&own, &issuer)?.pem();

    let folder = data.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let Files { chain, key } = Files::development(data);
    let path = folder.join("ca.pem");
    put(&key, own.serialize_pem().as_bytes(), 0o600)?;
    put(&chain, certificate.as_bytes(), 0o644)?;
    put(&path, authority.as_bytes(), 0o644)?;
    File::open(&folder)?.sync_all()?;
    Ok(path)
}

/// Replaces a file, whole or not at all.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}
