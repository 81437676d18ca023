//! The processes of a site on this machine: founded, joined, killed, started again.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::view::View;
use crate::bench::error::{BenchError, io};
use crate::bench::node::{self, NOWHERE, Node};

/// How long the nodes may take to be level.
const LEVEL_MAX: Duration = Duration::from_secs(60);
/// How often a node is asked how it sees its site.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// One node, running or not.
pub struct Member {
    /// What people call it: n1, n2 ...
    pub name: String,
    node: Option<Node>,
    data: PathBuf,
    /// Where it listens for other nodes, and where they reach it.
    listen: SocketAddr,
    address: SocketAddr,
    /// Where its devices look for it; kept over restarts.
    mqtt: SocketAddr,
}

/// The nodes of a site.
pub struct Site {
    binary: PathBuf,
    settings: String,
    pub members: Vec<Member>,
}

/// A free UDP port of the loopback interface; somebody may take it before it is used, which is then told.
pub fn free_port() -> Result<SocketAddr, BenchError> {
    let socket = UdpSocket::bind(NOWHERE).map_err(io("looking for a free UDP port"))?;
    socket.local_addr().map_err(io("looking for a free UDP port"))
}

impl Site {
    /// Founds a site of one node below `folder`; its name is n1, and `settings` are every node's besides the usual.
    pub fn found(binary: &Path, folder: &Path, settings: &str) -> Result<Site, BenchError> {
        let listen = free_port()?;
        Self::found_behind(binary, folder, settings, (listen, listen))
    }

    /// The same where others reach the node by another address than the one at which it listens.
    pub fn found_behind(
        binary: &Path,
        folder: &Path,
        settings: &str,
        (listen, address): (SocketAddr, SocketAddr),
    ) -> Result<Site, BenchError> {
        let mut site = Site { binary: binary.to_owned(), settings: settings.to_owned(), members: Vec::new() };
        let first = Member { listen, address, ..site.member(folder)? };
        node::cli(binary, &first.data, &["node", "init", "--name", &first.name])?;
        site.members.push(first);
        site.restart(0)?;
        Ok(site)
    }

    /// A site of so many nodes that are level.
    pub fn start(binary: &Path, folder: &Path, count: usize, settings: &str) -> Result<Site, BenchError> {
        let mut site = Site::found(binary, folder, settings)?;
        for _ in 1..count {
            site.join(folder)?;
        }
        site.wait_level()?;
        Ok(site)
    }

    /// One more node joins with a token of the first and is started.
    pub fn join(&mut self, folder: &Path) -> Result<(), BenchError> {
        let token = self.node(0)?.cli(&["node", "token"])?;
        let new = self.member(folder)?;
        let address = new.address.to_string();
        let words = ["node", "join", token.trim(), "--name", &new.name, "--address", &address];
        node::cli(&self.binary, &new.data, &words)?;
        self.members.push(new);
        self.restart(self.members.len() - 1)
    }

    fn member(&self, folder: &Path) -> Result<Member, BenchError> {
        let name = format!("n{}", self.members.len() + 1);
        let home = folder.join(&name);
        std::fs::create_dir_all(&home).map_err(io(format!("making {}", home.display())))?;
        let listen = free_port()?;
        Ok(Member { data: home.join("data"), name, node: None, listen, address: listen, mqtt: NOWHERE })
    }

    /// Starts a node where it was.
    pub fn restart(&mut self, place: usize) -> Result<(), BenchError> {
        let Some(member) = self.members.get_mut(place) else { return Err(no_node(place)) };
        let (listen, address) = (member.listen.to_string(), member.address.to_string());
        let more = ["--site-listen", &listen, "--site-address", &address];
        let node = Node::start_configured(&self.binary, &member.data, member.mqtt, &more, &self.settings)?;
        member.mqtt = node.mqtt;
        member.node = Some(node);
        Ok(())
    }

    /// Ends a node as a power switch would end its process.
    pub fn kill(&mut self, place: usize) {
        if let Some(member) = self.members.get_mut(place) {
            member.node = None;
        }
    }

    /// A node that runs.
    pub fn node(&self, place: usize) -> Result<&Node, BenchError> {
        self.members.get(place).and_then(|member| member.node.as_ref()).ok_or_else(|| no_node(place))
    }

    /// Where other nodes, and links, reach a node.
    pub fn address(&self, place: usize) -> Result<SocketAddr, BenchError> {
        self.members.get(place).map(|member| member.address).ok_or_else(|| no_node(place))
    }

    /// The places of those that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        self.members.iter().enumerate().filter(|(_, member)| member.node.is_some()).map(|(place, _)| place)
    }

    /// How a node sees its site.
    pub fn view(&self, place: usize) -> Result<View, BenchError> {
        let text = self.node(place)?.get("/v1/site")?;
        serde_json::from_str(&text).map_err(|error| BenchError::Program(format!("{error} in what a site says: {text}")))
    }

    /// Makes a topic that all nodes have.
    pub fn create_topic(&self, name: &str, durability: &str) -> Result<(), BenchError> {
        self.node(0)?.cli(&["topic", "create", name, "--durability", durability])?;
        let has = |place| Ok(self.node(place)?.get(&format!("/v1/topics/{name}")).is_ok());
        for place in self.running().collect::<Vec<_>>() {
            wait(&format!("topic {name} at all nodes"), LEVEL_MAX, || has(place))?;
        }
        Ok(())
    }

    /// Waits until every node that runs shows all that any of them showed, and the quorum is in reach.
    pub fn wait_level(&self) -> Result<(), BenchError> {
        wait("the nodes to be level", LEVEL_MAX, || self.is_level())
    }

    /// Whether every node that runs shows all that any of them showed just before, and the quorum is in reach.
    pub fn is_level(&self) -> Result<bool, BenchError> {
        let running: Vec<usize> = self.running().collect();
        let before = running.iter().map(|place| self.view(*place)).collect::<Result<Vec<_>, _>>()?;
        let now = running.iter().map(|place| self.view(*place)).collect::<Result<Vec<_>, _>>()?;
        let votes = [5, 3, 1].into_iter().find(|votes| *votes <= running.len()).unwrap_or(0) as u64;
        let is_whole = |view: &View| view.quorum.in_reach && view.quorum.voters >= votes;
        Ok(now.iter().all(|here| is_whole(here) && before.iter().all(|there| here.is_level_with(there))))
    }

    /// Stops all nodes in order.
    pub fn stop(&mut self) -> Result<(), BenchError> {
        let nodes: Vec<Node> = self.members.iter_mut().filter_map(|member| member.node.take()).collect();
        nodes.into_iter().try_for_each(Node::stop)
    }
}

fn no_node(place: usize) -> BenchError {
    BenchError::Program(format!("node n{} does not run", place + 1))
}

/// Asks until it holds.
pub fn wait(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<bool, BenchError>) -> Result<(), BenchError> {
    let began = Instant::now();
    while !ask()? {
        if began.elapsed() > limit {
            return Err(BenchError::Timeout { what: what.to_owned(), limit });
        }
        std::thread::sleep(ASK_EVERY);
    }
    Ok(())
}
