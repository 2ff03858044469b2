//! Configuration: TOML file, environment and flags over defaults, every value with its origin.
//!
//! A flag wins over `ROAMD_SECTION__KEY`, that over the file, that over the default. An unknown key is
//! an error that names the nearest known one; a value that breaks a rule is an error that names its
//! origin. Secrets are not values: a `*_file` setting names the file that holds one.
//!
//! Owns nothing: [`Config::load`] returns a value. The process environment is an argument.

mod layers;
mod listen;
mod nearest;
mod rules;
mod section;
mod show;
#[cfg(test)]
mod tests;
mod value;

use std::{collections::BTreeMap, fmt, io, path::PathBuf};

pub use layers::Overrides;
pub use listen::ListenAddress;
pub use section::{
    AuthSection, Config, DataSection, LimitsSection, ListenSection, LogFormat, LogLevel,
    LogSection, PushSection, StoreSection, TlsSection,
};
pub use value::{parse_duration, parse_size};

/// A configuration that keeps all rules, and where each value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The values.
    pub config: Config,
    /// By `section.key`; what is missing is the default.
    origins: BTreeMap<String, Origin>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The configuration file.
    File {
        /// As given.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// An environment variable of this name.
    Env(String),
    /// A flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => {
                write!(f, "file {}:{line}:{column}", path.display())
            }
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {reason}")]
    Syntax {
        /// Where in the file.
        origin: Origin,
        /// For people.
        reason: String,
    },
    /// No such setting.
    #[error("{origin}: unknown key {key}{}", nearest.as_ref().map_or(String::new(), |near| format!("; did you mean {near}?")))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// As written.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// The value is of the wrong kind or breaks a rule.
    #[error("{origin}: {key}: {reason}")]
    Value {
        /// Where.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// For people.
        reason: String,
    },
}
