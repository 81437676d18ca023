//! The plugin's settings; `manifest.toml` describes them.

use edgeway_plugin::json::{Path, push_quoted};
use edgeway_plugin::{Config, Event};

use crate::alarm::{Change, Side, Threshold};

/// A command to send.
#[derive(Debug, PartialEq)]
pub struct Order {
    pub name: String,
    pub payload: String,
}

/// What was configured.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// Where the reading stands in the event's JSON.
    pub path: Path,
    path_text: String,
    pub threshold: Threshold,
    pub alarm_topic: String,
    /// Where the device's name stands, if not in the key.
    pub device_path: Option<Path>,
    pub on_raise: Option<Order>,
    pub on_clear: Option<Order>,
    pub deliver_within_ms: Option<u32>,
}

impl Settings {
    pub fn read(config: &Config) -> Result<Settings, String> {
        let path_text = config.text("path").unwrap_or_default();
        Ok(Settings {
            path: Path::new(path_text),
            path_text: path_text.to_owned(),
            threshold: threshold(config)?,
            alarm_topic: config.text("alarm_topic").unwrap_or("alarms").to_owned(),
            device_path: config.text("device_path").map(Path::new),
            on_raise: order(config, "command", "payload"),
            on_clear: order(config, "clear_command", "clear_payload"),
            deliver_within_ms: match config.parsed("deliver_within_ms", 0)? {
                0 => None,
                ms => Some(ms),
            },
        })
    }

    /// The alarm event's JSON.
    pub fn alarm_text(&self, change: Change, device: &str, value: f64, event: &Event) -> String {
        let mut out = String::from(r#"{"alarm":"#);
        out.push_str(match change {
            Change::Raised => r#""raised","device":"#,
            Change::Cleared => r#""cleared","device":"#,
        });
        push_quoted(&mut out, device);
        out.push_str(r#","path":"#);
        push_quoted(&mut out, &self.path_text);
        out.push_str(&format!(
            r#","value":{value},"limit":{},"clear":{},"offset":{},"timestamp_ms":{}}}"#,
            self.threshold.limit, self.threshold.clear, event.offset, event.timestamp_ms,
        ));
        out
    }
}

fn threshold(config: &Config) -> Result<Threshold, String> {
    config.required("limit")?;
    let limit: f64 = config.parsed("limit", 0.0)?;
    let clear: f64 = config.parsed("clear", limit)?;
    let side = match config.text("side").unwrap_or("above") {
        "above" => Side::Above,
        "below" => Side::Below,
        other => {
            return Err(format!("setting `side` = `{other}`: expected `above` or `below`"));
        }
    };
    if !limit.is_finite() || !clear.is_finite() {
        return Err("settings `limit` and `clear` must be finite".to_owned());
    }
    if (side == Side::Above && clear > limit) || (side == Side::Below && clear < limit) {
        return Err(format!("setting `clear` = `{clear}` is on the alarming side of the limit"));
    }
    let readings = config.parsed("readings", 1)?;
    if readings == 0 {
        return Err("setting `readings` must be at least 1".to_owned());
    }
    Ok(Threshold { side, limit, clear, readings })
}

fn order(config: &Config, name: &str, payload: &str) -> Option<Order> {
    let name = config.text(name).filter(|name| !name.is_empty())?;
    Some(Order { name: name.to_owned(), payload: config.text(payload).unwrap_or_default().to_owned() })
}
