//! `roamd serve`: the daemon as a process.

use std::{error::Error, fs, net::SocketAddr, path::Path};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Common,
    cert::{self, Files},
    fail, log,
    reload::Reload,
};
#[cfg(feature = "simulation")]
use crate::planted;
use crate::{
    auth::{KeyRing, secret_file},
    cli::exit::Exit,
    clock::Clock,
    config::{Config, PushSection},
    daemon::{
        Certificate, CertificateError, Daemon, DaemonConfig, DaemonError, HookConfig, TlsListen,
    },
    limits::Limits,
    push::Settings,
    store::{StoreConfig, StoreError, fsync},
};

/// **For tests only; a daemon with it loses acked messages.** Set to 1, nothing is synced to disk.
/// `tests/power_cut` must see the loss with it, or it would be blind without it. Deliberately no
/// setting: it is in no documentation, file or flag, and the daemon says at once what it means.
const TEST_ONLY_NO_FSYNC: &str = "ROAMD_TEST_ONLY_NO_FSYNC";
/// Descriptors that are not connections.
const OTHER_FILES: u64 = 200;

#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// Address and port for clients without TLS, or off [default: 127.0.0.1:7100].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address and port for clients that speak TLS [default: none].
    #[arg(long, value_name = "ADDRESS")]
    tls_listen: Option<String>,
    /// The server's certificate and those up to its authority, PEM [default: tls/cert.pem of the data
    /// directory].
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// The private key of the certificate, PEM [default: tls/key.pem of the data directory].
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Keep data in a temporary directory that is removed at the end.
    #[arg(long)]
    dev: bool,
}

pub(super) fn run(common: &Common, args: &ServeArgs) -> Exit {
    let mut flags = common.overrides();
    for (key, flag, value) in [
        ("listen.address", "--listen", &args.listen),
        ("tls.address", "--tls-listen", &args.tls_listen),
        ("tls.cert_file", "--tls-cert", &args.tls_cert),
        ("tls.key_file", "--tls-key", &args.tls_key),
    ] {
        if let Some(value) = value {
            flags.set(key, flag, value);
        }
    }
    let temporary =
        args.dev.then(|| std::env::temp_dir().join(format!("roamd-dev-{}", std::process::id())));
    if let Some(dir) = &temporary {
        flags.set("data.dir", "--dev", dir.to_string_lossy());
    }
    let effective = match common.load(&flags) {
        Ok(effective) => effective,
        Err(error) => {
            return fail(Exit::Configuration, &error, "see `roamd config doc` for every setting");
        }
    };
    let config = effective.config.clone();
    let reload = Reload::new(common.clone(), flags, effective, log::start(&config));
    heed_test_switch();
    #[cfg(feature = "simulation")]
    if let Some(name) = std::env::var_os(planted::VARIABLE) {
        let name = name.to_string_lossy();
        if !planted::set_by_name(&name) {
            say!("roamd: no planted bug is called {name}");
            return Exit::Configuration;
        }
        tracing::warn!("{} is set: this daemon is wrong on purpose", planted::VARIABLE);
    }
    let exit = match make_certificate(&config, args.dev) {
        Ok(()) => serve(&config, reload),
        Err(error) => fail(Exit::Failed, &*error, "give --tls-cert and --tls-key"),
    };
    if let Some(dir) = temporary {
        let _ = std::fs::remove_dir_all(dir);
    }
    exit
}

/// For trying out, TLS needs no preparation.
fn make_certificate(config: &Config, dev: bool) -> Result<(), Box<dyn Error>> {
    if dev && config.tls.address.is_some() && config.tls.cert_file.is_none() {
        cert::make_if_missing(&config.data.dir)?;
    }
    Ok(())
}

/// Where to listen for TLS, and what is shown there.
fn tls_listen(config: &Config) -> Result<Option<TlsListen>, CertificateError> {
    let Some(address) = config.tls.address else { return Ok(None) };
    let Files { chain, key } = Files::of(config);
    Ok(Some(TlsListen { address, certificate: Certificate::read(&chain, &key)? }))
}

fn serve(config: &Config, reload: Reload) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(Exit::Failed, &error, ""),
    };
    let now = Clock::start().now().wall;
    let secret = config.auth.hs256_secret_file.as_deref();
    let keys = match KeyRing::open(&config.data.dir, secret, now) {
        Ok(keys) => keys,
        Err(error) => return fail(Exit::Configuration, &error, "check --data"),
    };
    let tls = match tls_listen(config) {
        Ok(tls) => tls,
        Err(error) => {
            let hint =
                "`roamd cert dev` makes one for development; see [tls] in `roamd config doc`";
            return fail(Exit::Configuration, &error, hint);
        }
    };
    let hook = match hook_config(&config.push) {
        Ok(hook) => hook,
        Err(error) => return fail(Exit::Configuration, &*error, "check the section [push]"),
    };
    let outcome = runtime.block_on(async {
        // From here on a hangup does not end the process.
        let hangup = signal(SignalKind::hangup());
        let limits = within_files(Limits::from(&config.limits));
        let daemon = Daemon::start(DaemonConfig {
            listen: config.listen.address.address(),
            tls,
            store: store_config(config),
            limits: limits.clone(),
            keys,
            hook,
        })?;
        // Whoever has read the first screen may stop the daemon in order.
        let stop = stop_signal();
        announce(config, &limits, daemon.address(), daemon.tls_address());
        match hangup {
            Ok(hangup) => drop(tokio::spawn(reload.run(hangup, daemon.reloader()))),
            Err(error) => tracing::warn!(%error, "SIGHUP cannot be caught and ends the daemon"),
        }
        daemon.serve(stop).await
    });
    match outcome {
        Ok(()) => {
            tracing::info!("stopped; everything acked is on disk");
            Exit::Ok
        }
        Err(error @ DaemonError::Store(StoreError::InUse(_))) => {
            fail(Exit::Failed, &error, "stop the other roamd, or give this one another --data")
        }
        Err(DaemonError::Store(error)) if error.is_damage() => fail(
            Exit::Storage,
            &error,
            "restore a backup, or see what `roamd store repair --dry-run` can save",
        ),
        Err(error @ DaemonError::Store(_)) => fail(
            Exit::Storage,
            &error,
            "nothing that was acked is affected unless this says so; look at the disk, then start again",
        ),
        Err(error @ DaemonError::Hook(_)) => {
            fail(Exit::Configuration, &error, "check the section [push]")
        }
        Err(error @ DaemonError::Listen { .. }) => {
            fail(Exit::Failed, &error, "is another roamd running? choose another --listen")
        }
        Err(error) => fail(Exit::Failed, &error, ""),
    }
}

/// As many connections as there may be open files, and enough files left for everything else: the
/// store must be able to open its next one, whoever connects.
pub(super) fn within_files(mut limits: Limits) -> Limits {
    let wanted = limits.connections as u64 + OTHER_FILES;
    if let Ok(files) = rlimit::increase_nofile_limit(wanted)
        && files < wanted
    {
        let most = files - OTHER_FILES.min(files / 2);
        limits.connections = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    }
    limits
}

/// The store's settings.
pub(super) fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        memory_bytes: usize::try_from(config.store.memory_bytes).unwrap_or(usize::MAX),
        cache_bytes: config.store.cache_bytes,
        segment_bytes: config.store.segment_bytes,
        checkpoint_interval: config.store.checkpoint_interval,
        inbox_entries: config.limits.inbox_entries,
        ..StoreConfig::new(&config.data.dir)
    }
}

/// The push hook's settings; none without an address.
fn hook_config(set: &PushSection) -> Result<Option<HookConfig>, Box<dyn Error>> {
    let (Some(url), Some(secret)) = (&set.url, &set.secret_file) else { return Ok(None) };
    let read = |path: &Path| {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    Ok(Some(HookConfig {
        settings: Settings {
            delay: set.delay,
            expiry: set.expiry,
            retry_first: set.retry_first,
            retry_max: set.retry_max,
            large_interval: set.large_interval,
            include_content: set.include_content,
        },
        url: url.clone(),
        secret: secret_file(secret)?,
        authorities: set.ca_file.as_deref().map(read).transpose()?,
        timeout: set.timeout,
        connections: set.connections as usize,
    }))
}

/// SIGTERM or SIGINT, caught from the call on.
fn stop_signal() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut term), Ok(mut int)) = signals else {
            tracing::warn!("signals cannot be caught; stop with kill");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

fn heed_test_switch() {
    if std::env::var_os(TEST_ONLY_NO_FSYNC).is_some_and(|value| value == "1") {
        fsync::set_enabled(false);
        tracing::error!(
            "{TEST_ONLY_NO_FSYNC}=1: NOTHING IS SYNCED TO DISK, a power cut loses acked messages; \
             unset it unless this is the power-cut test"
        );
    }
}

/// The first screen: where it listens, where data lies, and two commands to paste.
fn announce(config: &Config, limits: &Limits, plain: Option<SocketAddr>, tls: Option<SocketAddr>) {
    let data = &config.data.dir;
    let days = limits.inbox_age.as_secs() / 86_400;
    let version = env!("CARGO_PKG_VERSION");
    let chain = Files::of(config).chain;
    match (plain, tls) {
        (Some(address), _) => say!("roamd {version} listens on {address}"),
        (None, Some(address)) => say!("roamd {version} listens on {address} (TLS only)"),
        (None, None) => {}
    }
    if let Some(address) = tls {
        say!("  tls        {address} (certificate {})", chain.display());
    }
    say!("  data       {} (one process at a time)", data.display());
    say!(
        "  retention  inbox: {} entries or {days} days per user; history: kept",
        limits.inbox_entries
    );
    say!(
        "  limits     {} connections, {} KiB per message, {} members per group",
        limits.connections,
        limits.content_bytes / 1024,
        limits.members_per_group
    );
    if config.push.url.is_some() {
        say!("  push       devices without a session are told by the hook");
    }
    let wanted = config.limits.connections;
    if limits.connections < wanted {
        say!(
            "  WARNING    {wanted} connections are configured; too few files may be open (ulimit -n {})",
            wanted as u64 + OTHER_FILES
        );
    }
    let roamd = std::env::current_exe().unwrap_or_else(|_| "roamd".into());
    let roam = roamd.with_file_name("roam");
    let mint = format!("{} token mint --data {}", shell(&roamd), shell(data));
    let server = match (plain, tls) {
        (Some(address), _) => format!("--server {address}"),
        (None, Some(address)) => {
            let authority = chain.with_file_name("ca.pem");
            let trusted = if authority.exists() { authority } else { chain };
            format!("--server {address} --ca {}", shell(&trusted))
        }
        (None, None) => return,
    };
    say!("\nTry it in two other terminals:");
    if !roam.exists() {
        say!("  (the client is not built yet: cargo build --release)");
    }
    say!("  {} recv --follow {server} --token $({mint} --user bob)", shell(&roam));
    say!("  {} send @bob hello {server} --token $({mint} --user alice)\n", shell(&roam));
}

/// A path as a shell takes it: relative to here if it lies below, quoted if need be.
fn shell(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let text = match path.strip_prefix(&here) {
        Ok(below) if path.is_absolute() => format!("./{}", below.display()),
        _ => path.display().to_string(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
