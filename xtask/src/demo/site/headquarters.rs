//! The site's upstream in its demo: a node of another site, behind a way that can be cut.

use std::path::Path;
use std::time::{Duration, Instant};

use devices::fleet::relay::{LineConfig, Relay};

use serde::Deserialize;

use crate::bench::BenchError;
use crate::bench::error::io;
use crate::bench::site::nodes::{Site, free_port, wait};

use super::panel::Fed;
use super::story::Upstream;

/// What the gateways call their link, and what the headquarters calls the site.
pub const LINK: &str = "hq";
const SITE: &str = "plant";
/// How long the last readings may take to be there.
const LEVEL_MAX: Duration = Duration::from_secs(30);

/// The node, and the way to it.
pub struct Headquarters {
    site: Site,
    way: Relay,
    is_cut: bool,
    pub seen: Upstream,
    /// When it was asked before, and what it had then.
    before: Option<(Instant, u64)>,
    per_second: u64,
}

/// What `/v1/links` says, as far as the demo reads it.
#[derive(Deserialize)]
struct Links {
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    name: String,
    state: String,
}

/// What `/v1/topics/NAME` says, as far as the demo reads it.
#[derive(Deserialize)]
struct Topic {
    events: u64,
}

impl Headquarters {
    /// Founds it, and links each gateway of a site to it with a token of its own.
    pub async fn found(binary: &Path, folder: &Path, gateways: &Site) -> Result<Headquarters, BenchError> {
        let listen = free_port()?;
        let way = Relay::start(listen, LineConfig::default(), 1).await.map_err(io("starting a relay"))?;
        let site = Site::found_behind(binary, folder, "", (listen, way.address()))?;
        for place in gateways.running() {
            let token = site.node(0)?.cli(&["link", "invite", SITE])?;
            gateways.node(place)?.cli(&["link", "accept", token.trim(), "--name", LINK])?;
        }
        Ok(Headquarters { site, way, is_cut: false, seen: Upstream::default(), before: None, per_second: 0 })
    }

    /// Cuts the way to it, or mends it.
    pub fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
        self.way.cut(is_cut);
    }

    /// Asks the gateways what waits, and the headquarters what it has.
    pub fn ask(&mut self, gateways: &Site) -> Result<(), BenchError> {
        let mut seen = Upstream { is_connected: true, ..Upstream::default() };
        for place in gateways.running() {
            let links: Links = read(&gateways.node(place)?.get("/v1/links")?)?;
            let link = links.links.iter().find(|link| link.name == LINK);
            seen.is_connected &= link.is_some_and(|link| link.state == "connected");
        }
        seen.stored = self.stored()?;
        // Of what the others send a gateway hears late; so the logs of all are counted, by the gateway that has most of them.
        let mut written = 0;
        for place in gateways.running() {
            written = written.max(read::<Topic>(&gateways.node(place)?.get("/v1/topics/telemetry")?)?.events);
        }
        seen.waiting = written.saturating_sub(seen.stored);
        let now = Instant::now();
        if let Some((at, before)) = self.before {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            self.per_second = (seen.stored.saturating_sub(before) as f64 / seconds) as u64;
        }
        (self.before, self.seen) = (Some((now, seen.stored)), seen);
        Ok(())
    }

    fn stored(&self) -> Result<u64, BenchError> {
        // The topic is there with its first reading.
        let Ok(text) = self.site.node(0)?.get(&format!("/v1/topics/{SITE}%2Ftelemetry")) else { return Ok(0) };
        Ok(read::<Topic>(&text)?.events)
    }

    /// What the panel shows of it.
    pub fn shown(&self) -> Fed {
        let Upstream { stored, waiting, .. } = self.seen;
        Fed { is_cut: self.is_cut, stored, per_second: self.per_second, waiting }
    }

    /// Waits until it has what the gateways have; its readings, an event a line, as a gateway would print them.
    pub fn close(mut self, gateways: &Site) -> Result<String, BenchError> {
        let topic: Topic = read(&gateways.node(0)?.get("/v1/topics/telemetry")?)?;
        wait("the headquarters to have all", LEVEL_MAX, || Ok(self.stored()? >= topic.events))?;
        let name = format!("{SITE}/telemetry");
        let tail = self.site.node(0)?.cli(&["tail", &name, "--from", "start", "--json"])?;
        self.site.stop()?;
        // What the topic is called is all that may differ.
        Ok(tail.replace(&format!("\"topic\":\"{name}\""), "\"topic\":\"telemetry\""))
    }
}

fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, BenchError> {
    serde_json::from_str(text).map_err(|error| BenchError::Program(format!("{error} in what a node says: {text}")))
}
