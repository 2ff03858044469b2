//! The log on stderr, and its level, which can change while the daemon runs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, reload::Handle};

use crate::config::{Config, LogFormat, LogLevel};

/// Changes the level.
pub(super) struct LogSwitch(Box<dyn Fn(LogLevel) -> bool + Send>);

impl LogSwitch {
    /// From now on this is the least important that is logged. False = it cannot be changed.
    pub(super) fn set(&self, level: LogLevel) -> bool {
        (self.0)(level)
    }

    fn of<S: 'static>(handle: Handle<EnvFilter, S>) -> Self {
        Self(Box::new(move |level| handle.reload(filter(level)).is_ok()))
    }
}

/// Starts the log.
pub(super) fn start(config: &Config) -> LogSwitch {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config.log.level))
        // A log that cannot be written stops nobody; saying so on stderr would panic.
        .log_internal_errors(false)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => {
            let builder = builder.with_target(false).with_filter_reloading();
            let switch = LogSwitch::of(builder.reload_handle());
            let _ = builder.try_init();
            switch
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let switch = LogSwitch::of(builder.reload_handle());
            let _ = builder.try_init();
            switch
        }
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = format!("{level:?}").to_lowercase();
    EnvFilter::new(format!("{level},sled=warn,ureq=warn,ureq_proto=warn,rustls=warn"))
}
