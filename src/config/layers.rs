//! Defaults, file, environment and flags, laid over each other.
//!
//! Every value goes through [`Layers::put`], which checks it alone, so an error always knows its
//! origin; the merged table is read once at the end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, ConfigError, Effective, Origin, nearest::nearest, rules, section::SECTIONS};

/// Variables of this prefix, with `__` between section and key, are settings.
const ENV_PREFIX: &str = "ROAMD_";

/// Values from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(&'static str, &'static str, String)>);

impl Overrides {
    /// No flag was given.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// `flag` (as typed, such as `--listen`) gives `key` (such as `listen.address`) this value.
    ///
    /// The value is written as in the environment: without quotes.
    pub fn set(&mut self, key: &'static str, flag: &'static str, value: impl Into<String>) {
        self.0.push((key, flag, value.into()));
    }
}

impl Config {
    /// Reads the file, if there is one, and lays environment and flags over it.
    ///
    /// `env` is the whole environment; only `ROAMD_SECTION__KEY` variables are looked at. Pass
    /// `std::env::vars_os()` with what is not Unicode left out, since `std::env::vars()` panics on it.
    ///
    /// # Errors
    /// [`ConfigError`] names the place and the nearest valid key.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Effective, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = file {
            let read = |source| ConfigError::Read { path: path.to_owned(), source };
            layers.file(path, &fs::read_to_string(path).map_err(read)?)?;
        }
        let mut env: Vec<_> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        // The same error every time, whatever the order of the environment.
        env.sort_unstable();
        for (name, value) in env {
            layers.variable(name, value)?;
        }
        for (key, flag, value) in &flags.0 {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            layers.text(Origin::Flag(flag), section, name, value.clone())?;
        }
        layers.finish()
    }

    /// What a file with this text would say, without environment and flags.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(text: &str) -> Result<Effective, ConfigError> {
        let mut layers = Layers::default();
        layers.file(Path::new("text"), text)?;
        layers.finish()
    }
}

#[derive(Default)]
struct Layers {
    values: Table,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset| place(path, text, offset);
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            origin: at(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        };
        let places = DeTable::parse(text).map_err(syntax)?;
        let values: Table = text.parse().map_err(syntax)?;
        for (section, content) in places.get_ref() {
            let (name, origin) = (section.get_ref().as_ref(), at(section.span().start));
            if !SECTIONS.iter().any(|known| known.name == name) {
                let nearest = nearest(name, None);
                return Err(ConfigError::UnknownKey { origin, key: name.to_owned(), nearest });
            }
            let DeValue::Table(keys) = content.get_ref() else {
                let reason = format!("is a section; write [{name}]");
                return Err(ConfigError::Value { origin, key: name.to_owned(), reason });
            };
            for key in keys.keys() {
                let written = key.get_ref().as_ref();
                let value = values.get(name).and_then(|keys| keys.get(written));
                if let Some(value) = value {
                    self.put(at(key.span().start), name, written, value.clone())?;
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: String, value: String) -> Result<(), ConfigError> {
        let key = name.strip_prefix(ENV_PREFIX).unwrap_or_default();
        if let Some((section, key)) = key.split_once("__") {
            let (section, key) = (section.to_lowercase(), key.to_lowercase());
            return self.text(Origin::Env(name), &section, &key, value);
        }
        // Others may use the prefix (Kubernetes makes ROAMD_PORT for a service of our name), but one
        // underscore too few must not pass in silence.
        let meant = variables().find(|known| known.replace("__", "_") == name);
        match meant {
            None => Ok(()),
            nearest => {
                let origin = Origin::Env(name.clone());
                Err(ConfigError::UnknownKey { origin, key: name, nearest })
            }
        }
    }

    /// A value without quotes: what it is depends on the setting.
    fn text(
        &mut self,
        origin: Origin,
        section: &str,
        key: &str,
        text: String,
    ) -> Result<(), ConfigError> {
        let value = match default_value(section, key) {
            Some(Value::Integer(_)) => text.parse().map(Value::Integer).ok(),
            Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).ok(),
            _ => None,
        };
        let value = value.unwrap_or(Value::String(text));
        self.put(origin, section, key, value)
    }

    fn put(
        &mut self,
        origin: Origin,
        section: &str,
        key: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        let path = format!("{section}.{key}");
        let known = SECTIONS.iter().find(|known| known.name == section);
        if !known.is_some_and(|s| s.settings.iter().any(|known| known.name == key)) {
            let nearest = nearest(section, Some(key));
            return Err(ConfigError::UnknownKey { origin, key: path, nearest });
        }
        let alone = Table::from_iter([(key.to_owned(), value.clone())]);
        let alone = Table::from_iter([(section.to_owned(), Value::Table(alone))]);
        if let Err(error) = alone.try_into::<Config>() {
            let reason = error.message().to_owned();
            return Err(ConfigError::Value { origin, key: path, reason });
        }
        let keys = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(keys) = keys {
            keys.insert(key.to_owned(), value);
        }
        self.origins.insert(path, origin);
        Ok(())
    }

    fn finish(self) -> Result<Effective, ConfigError> {
        let Self { values, origins } = self;
        let broken = |key: &str, reason: String| ConfigError::Value {
            origin: origins.get(key).cloned().unwrap_or(Origin::Default),
            key: key.to_owned(),
            reason,
        };
        // Each value was read alone before, so together they can be read too.
        let config: Config =
            values.try_into().map_err(|error| broken("", error.message().to_owned()))?;
        if let Some((key, reason)) = rules::broken(&config) {
            return Err(broken(key, reason));
        }
        Ok(Effective { config, origins })
    }
}

/// The names of all variables that are settings.
fn variables() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|section| {
        let name = move |key| format!("{ENV_PREFIX}{}__{key}", section.name).to_uppercase();
        section.settings.iter().map(move |setting| name(setting.name))
    })
}

fn default_value(section: &str, key: &str) -> Option<Value> {
    value_of(&Config::default(), section, key)
}

/// The value of a setting as it stands in a file; none = not set.
pub(super) fn value_of(config: &Config, section: &str, key: &str) -> Option<Value> {
    let table = Table::try_from(config).ok()?;
    table.get(section)?.get(key).cloned()
}

fn place(path: &Path, text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Origin::File {
        path: PathBuf::from(path),
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
    }
}
