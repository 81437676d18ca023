//! `edgeway device list` and `show`: devices as people and programs read them.

use std::io::Write;

use crate::catalog::{Filter, Value};
use crate::cli::Failure;
use crate::cli::api::{Api, encoded};
use crate::cli::out::Out;
use crate::cli::table::{Table, printable};
use crate::cli::when;
use crate::directory::{DeviceView, Page};

/// Which devices are listed.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Which {
    /// Those that a filter takes, such as 'tag = pump and pressure > 5 and not device = "pump-*"'
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Those with a tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Those that are connected
    #[arg(long)]
    connected: bool,
}

impl Which {
    fn is_all(&self) -> bool {
        self.filter.is_none() && self.tags.is_empty() && !self.connected
    }

    /// The query that asks for them.
    ///
    /// # Errors
    /// When the filter is wrong.
    fn query(&self) -> Result<String, Failure> {
        let filter = self.filter.as_deref().unwrap_or_default();
        Filter::parse(filter).map_err(|error| Failure::usage(format!("--where is wrong {error}")))?;
        let connected = if self.connected { "&connected=true" } else { "" };
        Ok(format!("where={}&tag={}{connected}", encoded(filter), encoded(&self.tags.join(","))))
    }
}

pub fn run(api: &Api, which: &Which, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let query = which.query()?;
    let mut table = Table::new(&["DEVICE", "ENROLLED", "CONNECTED", "PROTOCOL", "FROM", "LAST SEEN", "TAGS"]);
    let mut after = String::new();
    loop {
        let Page { devices, next } = api.get(&format!("devices?{query}{after}"))?;
        for device in &devices {
            match out.is_json() {
                true => out.object(device)?,
                false => table.row(row(device)),
            }
        }
        match next {
            Some(next) => after = format!("&after={}", encoded(&next)),
            None => break,
        }
    }
    let empty = if which.is_all() { "no device has been seen or added yet" } else { "no such device" };
    if out.is_json() { Ok(()) } else { out.table(&table, empty) }
}

/// An attribute as it would be typed: text is in quotes.
fn typed(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

fn row(device: &DeviceView) -> [String; 7] {
    [
        device.device.clone(),
        yes(device.enrolled),
        yes(device.connected),
        or_dash(device.protocol.as_deref()),
        or_dash(device.remote.as_deref()),
        or_dash(device.last_seen_ms.map(when::show_ms).as_deref()),
        device.tags.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
    ]
}

/// All that is known of one device.
pub fn show(device: &DeviceView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(device);
    }
    let [name, enrolled, connected, protocol, remote, last_seen, tags] = row(device);
    let first_seen = or_dash(device.first_seen_ms.map(when::show_ms).as_deref());
    let refuses_repeats = match device.refuses_repeats {
        Some(flag) => yes(flag),
        None => "unknown".to_owned(),
    };
    let session = or_dash(device.session.map(|session| session.to_string()).as_deref());
    let lines = [
        ("device", name),
        ("enrolled", enrolled),
        ("connected", connected),
        ("session", session),
        ("protocol", protocol),
        ("from", remote),
        ("first seen", first_seen),
        ("last seen", last_seen),
        ("refuses repeats", refuses_repeats),
        ("tags", if tags.is_empty() { "-".to_owned() } else { tags }),
    ];
    let attributes = device.attributes.iter().map(|(name, value)| ("attribute", format!("{name} = {}", typed(value))));
    let filters = device.filters.iter().map(|filter| ("subscribed to", filter.clone()));
    for (what, text) in lines.into_iter().chain(attributes).chain(filters) {
        out.line(&format!("{what:<16} {}", printable(&text)))?;
    }
    Ok(())
}
