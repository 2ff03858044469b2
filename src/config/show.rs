//! A configuration for people to read: effective values with their origin, and all settings with
//! their documentation. Both are valid TOML.

use std::fmt::Write;

use super::{Config, Effective, Origin, layers::value_of, section::SECTIONS};

impl Effective {
    /// Where the value of `section.key` comes from.
    #[must_use]
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// The settings (`section.key`) whose values differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let all = SECTIONS.iter().flat_map(|section| {
            section.settings.iter().map(move |setting| (section.name, setting.name))
        });
        let value = |of: &Self, section, name| value_of(&of.config, section, name);
        all.filter(|(section, name)| value(self, section, name) != value(other, section, name))
            .map(|(section, name)| format!("{section}.{name}"))
            .collect()
    }

    /// Every value with its origin in a comment.
    #[must_use]
    pub fn show(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            let gap = if out.is_empty() { "" } else { "\n" };
            let _ = writeln!(out, "{gap}[{}]", section.name);
            for setting in section.settings {
                let name = setting.name;
                let origin = self.origin(&format!("{}.{name}", section.name)).to_string();
                // A line end in a file's name must not leave the comment.
                let origin = origin.replace(char::is_control, "?");
                let _ = match value_of(&self.config, section.name, name) {
                    Some(value) => writeln!(out, "{name} = {value}  # {origin}"),
                    None => writeln!(out, "# {name} is not set  # {origin}"),
                };
            }
        }
        out
    }
}

impl Config {
    /// Every setting with its documentation and default: a file to start from.
    #[must_use]
    pub fn defaults_doc() -> String {
        let defaults = Self::default();
        let mut out = String::from(
            "# roamd configuration. What is not set has the default shown here.\n\
             # A flag wins over ROAMD_SECTION__KEY in the environment, that over this file.\n",
        );
        for section in SECTIONS {
            out.push('\n');
            for line in section.about {
                let _ = writeln!(out, "#{line}");
            }
            let _ = writeln!(out, "[{}]", section.name);
            for setting in section.settings {
                for line in setting.about {
                    let _ = writeln!(out, "#{line}");
                }
                let name = setting.name;
                let _ = match value_of(&defaults, section.name, name) {
                    Some(value) => writeln!(out, "{name} = {value}"),
                    None => writeln!(out, "# {name} = \"\""),
                };
            }
        }
        out
    }
}
