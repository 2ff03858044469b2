//! SIGHUP: what can change is read again, each part on its own. A part that cannot be read stays as it
//! is, and an ERROR line says why; nothing ends by it but sessions whose key is gone.

use std::error::Error;

use tokio::signal::unix::Signal;

use super::{Common, cert::Files, log::LogSwitch, serve::within_files};
use crate::{
    auth::KeyRing,
    config::{Config, Effective, Overrides},
    daemon::{Certificate, Reloader},
    limits::Limits,
};

/// What is needed to read everything again.
pub(super) struct Reload {
    common: Common,
    flags: Overrides,
    /// What the daemon started with.
    started: Effective,
    /// The last configuration that was right.
    last: Config,
    log: LogSwitch,
}

impl Reload {
    pub(super) fn new(
        common: Common,
        flags: Overrides,
        started: Effective,
        log: LogSwitch,
    ) -> Self {
        Self { common, flags, last: started.config.clone(), started, log }
    }

    /// Reads everything again whenever the signal comes. Never ends.
    pub(super) async fn run(mut self, mut hangup: Signal, daemon: Reloader) {
        while hangup.recv().await.is_some() {
            let daemon = daemon.clone();
            // Reads files, and may wait for the writer.
            match tokio::task::spawn_blocking(move || (self.again(&daemon), self)).await {
                Ok((changed, same)) => {
                    tracing::info!("reloaded: {}", changed.join(", "));
                    self = same;
                }
                Err(error) => {
                    tracing::error!(%error, "no more reloads until the next start");
                    break;
                }
            }
        }
        std::future::pending().await
    }

    /// The parts that are in force as they were read.
    fn again(&mut self, daemon: &Reloader) -> Vec<&'static str> {
        let mut done = Vec::new();
        match self.common.load(&self.flags) {
            Ok(new) => {
                self.take(new, daemon);
                done.extend(["log level", "limits"]);
            }
            Err(error) => stays("configuration", &error),
        }
        let secret = self.last.auth.hs256_secret_file.as_deref();
        match KeyRing::reopen(&self.last.data.dir, secret) {
            Ok(keys) => {
                tracing::info!(keys = ?keys.kids().collect::<Vec<_>>(), "keys in force");
                daemon.keys(keys);
                done.push("keys");
            }
            Err(error) => stays("keys", &error),
        }
        if self.started.config.tls.address.is_some() {
            let Files { chain, key } = Files::of(&self.last);
            match Certificate::read(&chain, &key) {
                Ok(certificate) => {
                    daemon.certificate(certificate);
                    done.push("certificate");
                }
                Err(error) => stays("certificate", &error),
            }
        }
        done
    }

    fn take(&mut self, new: Effective, daemon: &Reloader) {
        let fixed: Vec<_> =
            self.started.differences(&new).into_iter().filter(|key| is_fixed(key)).collect();
        if !fixed.is_empty() {
            tracing::warn!("changed, and taken at the next start only: {}", fixed.join(", "));
        }
        if !self.log.set(new.config.log.level) {
            tracing::error!("the log level cannot be changed");
        }
        daemon.limits(within_files(Limits::from(&new.config.limits)));
        self.last = Config { data: self.started.config.data.clone(), ..new.config };
    }
}

/// Whether only a start changes this setting.
fn is_fixed(key: &str) -> bool {
    match key.split_once('.') {
        Some(("limits", name)) => Limits::FIXED.contains(&name),
        Some(("auth", _)) => false,
        _ => !["log.level", "tls.cert_file", "tls.key_file"].contains(&key),
    }
}

fn stays(part: &str, error: &dyn Error) {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    tracing::error!("cannot reload: the {part} stays as it is: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_alone_changes() {
        for key in ["limits.connections", "log.level", "auth.hs256_secret_file", "tls.key_file"] {
            assert!(!is_fixed(key), "{key}");
        }
        for key in [
            "limits.inbox_entries",
            "listen.address",
            "tls.address",
            "log.format",
            "push.url",
            "data.dir",
        ] {
            assert!(is_fixed(key), "{key}");
        }
    }
}
