//! What the site's story is played with: three nodes on stores of their own, and their devices.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bench::error::io;
use crate::bench::site::nodes::Site;
use crate::bench::site::view::View;
use crate::bench::{BenchError, build};

use super::gateways::{Accounts, DEVICES, Devices};
use super::headquarters::{self, Headquarters};
use super::lacking;
use super::panel::{Frame, Gateway};
use super::story::Seen;

/// Nodes of the site.
const NODES: usize = 3;
/// The one that dies, and its place.
pub const VICTIM: &str = "n2";
const VICTIM_PLACE: usize = 1;
/// How often the nodes are asked how they see their site.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Events that may be under way from a node to another that counts as level while readings flow.
const LEVEL_EVENTS: u64 = 200;

/// The nodes, the devices, and what was last seen of them.
pub struct Stage {
    site: Site,
    devices: Vec<Devices>,
    /// How each node sees the site; `None` for one that is dead.
    views: Vec<Option<View>>,
    asked_at: Instant,
    /// Readings acknowledged at each gateway at an earlier time, for the rates.
    before: (Instant, Vec<u64>),
    rates: Vec<u64>,
    headquarters: Option<Headquarters>,
    binary: PathBuf,
    folder: tempfile::TempDir,
}

/// What is left when all has stopped.
pub struct Ending {
    /// The devices' accounts, by gateway.
    pub accounts: Vec<Accounts>,
    /// Each node's name, and the readings in its log, an event a line.
    pub tails: Vec<(String, String)>,
}

impl Stage {
    /// Builds the node, founds a site, has two more join it, and starts the devices.
    pub fn set(root: &Path) -> Result<Stage, BenchError> {
        let binary = build::release(root, &["--package", "edgeway"])?.join("edgeway");
        let folder = tempfile::tempdir().map_err(io("making a folder for the stores"))?;
        println!("n1 founds a site; n2 and n3 join it, each with a token that serves once.");
        let site = Site::start(&binary, folder.path(), NODES, "")?;
        site.create_topic("telemetry", "quorum")?;
        println!("The topic of the readings asks for a quorum: two of three nodes must have synced each.\n");
        let mut devices = Vec::new();
        for (place, member) in site.members.iter().enumerate() {
            devices.push(Devices::start(&member.name, site.node(place)?.mqtt, place as u64 + 1)?);
        }
        let now = Instant::now();
        let mut stage = Stage {
            site,
            devices,
            views: Vec::new(),
            asked_at: now,
            before: (now, vec![0; NODES]),
            rates: vec![0; NODES],
            headquarters: None,
            binary,
            folder,
        };
        stage.ask()?;
        Ok(stage)
    }

    fn ask(&mut self) -> Result<(), BenchError> {
        let running: Vec<usize> = self.site.running().collect();
        let view = |place| if running.contains(&place) { self.site.view(place).map(Some) } else { Ok(None) };
        self.views = (0..NODES).map(view).collect::<Result<_, _>>()?;
        if let Some(headquarters) = &mut self.headquarters {
            headquarters.ask(&self.site)?;
        }
        self.asked_at = Instant::now();
        Ok(())
    }

    /// What the story goes by.
    pub fn seen(&mut self) -> Result<Seen, BenchError> {
        if self.asked_at.elapsed() >= ASK_EVERY {
            self.ask()?;
        }
        let totals: Vec<_> = self.devices.iter().map(Devices::totals).collect();
        let views = || self.views.iter().flatten();
        let others = |view: &View| view.nodes.iter().filter(|node| !node.is_self).all(|node| node.connected);
        let names: Vec<String> = self.site.members.iter().map(|member| member.name.clone()).collect();
        let is_level = |view: &View| lacking(view, &names).iter().all(|(_, events)| *events < LEVEL_EVENTS);
        Ok(Seen {
            devices: NODES * DEVICES,
            online: totals.iter().map(|totals| totals.online).sum(),
            acked: totals.iter().map(|totals| totals.acked).sum(),
            all_heard: views().count() == NODES && views().all(others)
                // Right after it was killed the others hear it still.
                || views().count() < NODES && views().any(|view| view.hears(VICTIM)),
            level: views().count() == NODES && views().all(is_level),
            upstream: self.headquarters.as_ref().map(|headquarters| headquarters.seen),
        })
    }

    /// What the panel shows.
    pub fn frame(&mut self, elapsed: Duration, title: &'static str) -> Frame {
        let totals: Vec<_> = self.devices.iter().map(Devices::totals).collect();
        let (since, before) = &self.before;
        if since.elapsed() >= Duration::from_secs(1) {
            let seconds = since.elapsed().as_secs_f64();
            let rate = |(now, before): (u64, &u64)| ((now - before) as f64 / seconds) as u64;
            self.rates = totals.iter().map(|totals| totals.acked).zip(before).map(rate).collect();
            self.before = (Instant::now(), totals.iter().map(|totals| totals.acked).collect());
        }
        let gateway = |(place, devices): (usize, &Devices)| {
            let names = self.site.members.iter().map(|member| member.name.clone());
            let others: Vec<String> = names.filter(|name| *name != devices.gateway).collect();
            let (view, totals) = (self.views.get(place).and_then(Option::as_ref), totals.get(place));
            Gateway {
                name: devices.gateway.clone(),
                is_alive: view.is_some(),
                online: totals.map_or(0, |totals| totals.online),
                devices: DEVICES,
                kept: totals.map_or(0, |totals| totals.sent - totals.acked),
                acked: totals.map_or(0, |totals| totals.acked),
                per_second: self.rates.get(place).copied().unwrap_or(0),
                lacking: view.map(|view| lacking(view, &others)).unwrap_or_default(),
            }
        };
        let gateways = self.devices.iter().enumerate().map(gateway).collect();
        Frame { elapsed, title, gateways, upstream: self.headquarters.as_ref().map(Headquarters::shown) }
    }

    /// Ends a node as a power switch would end its process.
    pub fn kill(&mut self) {
        self.site.kill(VICTIM_PLACE);
        if let Some(view) = self.views.get_mut(VICTIM_PLACE) {
            *view = None;
        }
    }

    /// Starts it again on its store, where its devices look for it.
    pub fn restart(&mut self) -> Result<(), BenchError> {
        self.site.restart(VICTIM_PLACE)?;
        self.ask()
    }

    /// Founds the headquarters and links each gateway to it.
    pub async fn grow(&mut self) -> Result<(), BenchError> {
        let folder = self.folder.path().join("headquarters");
        self.headquarters = Some(Headquarters::found(&self.binary, &folder, &self.site).await?);
        self.ask()
    }

    /// Cuts the way to the headquarters, or mends it.
    pub fn cut(&mut self, is_cut: bool) {
        if let Some(headquarters) = &mut self.headquarters {
            headquarters.cut(is_cut);
        }
    }

    /// What the first gateway says of its link.
    pub fn link(&self) -> Result<String, BenchError> {
        self.site.node(0)?.cli(&["link", "show", headquarters::LINK])
    }

    /// What the first node says of its site.
    pub fn status(&self) -> Result<String, BenchError> {
        self.site.node(0)?.cli(&["node", "status"])
    }

    /// Stops the devices, waits until the nodes are level, and gives what is left.
    pub async fn close(mut self, within: Duration) -> Result<Ending, BenchError> {
        let mut accounts = Vec::new();
        for devices in self.devices {
            accounts.push(devices.stop(within).await);
        }
        self.site.wait_level()?;
        let mut tails = Vec::new();
        for (place, member) in self.site.members.iter().enumerate() {
            let tail = self.site.node(place)?.cli(&["tail", "telemetry", "--from", "start", "--json"])?;
            tails.push((member.name.clone(), tail));
        }
        if let Some(headquarters) = self.headquarters {
            tails.push((headquarters::LINK.to_owned(), headquarters.close(&self.site)?));
        }
        self.site.stop()?;
        Ok(Ending { accounts, tails })
    }
}
