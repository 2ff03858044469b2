//! Scenarios that every `roam` has with it.

/// A scenario and its text.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Its TOML.
    pub text: &'static str,
}

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        /// All of them.
        pub const BUILT_IN: &[Builtin] = &[
            $(Builtin { name: $name, text: include_str!(concat!("../scenarios/", $name, ".toml")) }),+
        ];
    };
}

built_in!(
    "chat",
    "big-group-10k",
    "reconnect-storm",
    "cold-sync-1000",
    "multi-device",
    "flaky-net",
    "mixed-day",
);
