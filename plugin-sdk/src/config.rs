//! The manifest's `[config]` table, read with errors that name the setting.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::Setting;

/// The plugin's settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    settings: BTreeMap<String, String>,
}

impl Config {
    /// The setting's text, `None` where the manifest does not have it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The setting's text.
    ///
    /// # Errors
    /// Says which setting is missing.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.text(name).ok_or_else(|| format!("setting `{name}` is missing"))
    }

    /// The setting as a number or a boolean, or `default` where it is absent.
    ///
    /// # Errors
    /// Names the setting and what is wrong with its value.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        match self.settings.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|error| format!("setting `{name}` = `{text}`: {error}")),
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Config {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Config {
        Config { settings: settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

impl From<Vec<Setting>> for Config {
    fn from(settings: Vec<Setting>) -> Config {
        settings.into_iter().map(|s| (s.name, s.value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_setting_is_named() {
        let config: Config = [("limit", "high"), ("count", "3")].into_iter().collect();
        assert_eq!(config.parsed("count", 1u32), Ok(3));
        assert_eq!(config.parsed("absent", 7u32), Ok(7));
        let error = config.parsed("limit", 0.0f64).unwrap_err();
        assert!(error.starts_with("setting `limit` = `high`"), "{error}");
        let error = config.required("topic").unwrap_err();
        assert_eq!(error, "setting `topic` is missing");
    }
}
