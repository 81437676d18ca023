//! A site of real nodes on free ports in their own folders: made, joined, killed, wiped, and waited for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cli::{self, Ran};
use super::node::Node;
use super::wait;

/// Ports that the system gives to nobody who does not name them: a node's stays free while the node is dead.
const PORTS: Range<usize> = 20_000..30_000;
/// Routing of what is published below `vital/` to the topic of that name, which is acknowledged by quorum, and of what
/// is below `plain/` to one that is acknowledged by the node's own disk. The key is the MQTT topic.
pub const ROUTING: &str = r#"
[[routing.rules]]
pattern = "vital/#"
topic = "vital"

[[routing.rules]]
pattern = "plain/#"
topic = "plain"
"#;

/// One node of a site.
pub struct Member {
    /// What people call it.
    pub name: String,
    /// The node.
    pub node: Node,
}

/// The nodes of a site, in the order in which they came.
pub struct Site {
    pub members: Vec<Member>,
    config: String,
    came: usize,
}

/// A UDP port of the loopback interface that nobody has.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let from = std::process::id() as usize * 131;
    for _ in PORTS {
        let number = (from + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len();
        let port = u16::try_from(PORTS.start + number).unwrap();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no UDP port is free");
}

/// A node that is not started, and will listen for its site on `port` and be reached at `address`.
fn prepare(config: &str, port: u16, address: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare_in(folder, data, config, port, address)
}

fn prepare_in(folder: tempfile::TempDir, data: PathBuf, config: &str, port: u16, address: &str) -> Node {
    let listen = format!("127.0.0.1:{port}");
    Node::prepare(folder, data, config, &["--site-listen", &listen, "--site-address", address])
}

/// `edgeway node join` of a data folder.
pub fn join(data: &Path, token: &str, name: &str, address: &str) -> Ran {
    cli::edgeway(&["node", "join", token, "--data", data.to_str().unwrap(), "--name", name, "--address", address])
}

impl Site {
    /// So many nodes, which are called n1, n2 ...; all are up and level.
    pub fn of(count: usize) -> Site {
        Site::of_with(count, ROUTING)
    }

    /// The same with a configuration.
    pub fn of_with(count: usize, config: &str) -> Site {
        let mut site = Site::found(config);
        for _ in 1..count {
            site.join();
        }
        site.wait_level();
        site
    }

    /// A site of one node, which is started.
    pub fn found(config: &str) -> Site {
        let port = free_port();
        Site::found_at(config, port, &format!("127.0.0.1:{port}"))
    }

    /// The same for a node that the others reach by another address, as that of a relay.
    pub fn found_at(config: &str, port: u16, address: &str) -> Site {
        let mut node = prepare(config, port, address);
        node.cli(&["node", "init", "--name", "n1"]).ok();
        node.run();
        let first = Member { name: "n1".to_owned(), node };
        Site { members: vec![first], config: config.to_owned(), came: 1 }
    }

    /// A new node joins by the first that runs, and is started; its place in `members`.
    pub fn join(&mut self) -> usize {
        let port = free_port();
        self.join_at(port, &format!("127.0.0.1:{port}"))
    }

    /// The same for a node that the others reach by another address, as that of a relay.
    pub fn join_at(&mut self, port: u16, address: &str) -> usize {
        let token = self.token();
        self.came += 1;
        let name = format!("n{}", self.came);
        let mut node = prepare(&self.config, port, address);
        join(node.data(), &token, &name, address).ok();
        node.run();
        self.members.push(Member { name, node });
        self.members.len() - 1
    }

    /// A token of the first node that runs.
    pub fn token(&self) -> String {
        let first = self.running().next().unwrap();
        let token = self[first].cli(&["node", "token"]).ok().out;
        token.trim().to_owned()
    }

    /// A node on a copy of a stopped node's data folder, not started, with a UDP port of its own.
    pub fn copied(&self, member: usize) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        copy(self[member].data(), &data);
        let port = free_port();
        prepare_in(folder, data, &self.config, port, &format!("127.0.0.1:{port}"))
    }

    /// A copy of a stopped node's data folder.
    pub fn backup(&self, member: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy(self[member].data(), &folder.path().join("data"));
        folder
    }

    /// Puts a copy in the place of a stopped node's data folder.
    pub fn restore(&self, member: usize, backup: &tempfile::TempDir) {
        std::fs::remove_dir_all(self[member].data()).unwrap();
        copy(&backup.path().join("data"), self[member].data());
    }

    /// The places of those that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|place| self[*place].is_started())
    }

    /// Kills all of these.
    pub fn kill(&mut self, places: &[usize]) {
        places.iter().for_each(|place| self.members[*place].node.kill());
    }

    /// Starts all of these.
    pub fn run(&mut self, places: &[usize]) {
        places.iter().for_each(|place| self.members[*place].node.run());
    }

    /// How a node sees its site.
    pub fn status(&self, place: usize) -> Value {
        self[place].get("site").ok().json()
    }

    /// How one node sees another, by name.
    pub fn seen(&self, place: usize, name: &str) -> Value {
        let status = self.status(place);
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).cloned().unwrap_or_default()
    }

    /// How far a follower is with a node's own log.
    pub fn follower(&self, place: usize, name: &str) -> Value {
        let status = self.status(place);
        let own = status["origins"].as_array().unwrap().iter().find(|origin| origin["own"] == true).unwrap().clone();
        let followers = own["followers"].as_array().unwrap();
        followers.iter().find(|follower| follower["node"] == name).cloned().unwrap_or_default()
    }

    /// What a node says that people should know, by code.
    pub fn troubles(&self, place: usize) -> Vec<String> {
        let status = self.status(place);
        let troubles = status["troubles"].as_array().unwrap();
        troubles.iter().map(|trouble| trouble["code"].as_str().unwrap().to_owned()).collect()
    }

    /// Makes a topic at a node, and waits until all that run have it.
    pub fn create_topic(&self, place: usize, name: &str, durability: &str) {
        let made = ["topic", "create", name, "--durability", durability, "--partitions", "2"];
        self[place].cli(&made).ok();
        for other in self.running() {
            let path = format!("topics/{name}");
            wait::until_true(&format!("{name} at {}", self.members[other].name), || {
                self[other].get(&path).status == 200
            });
        }
    }

    /// Waits until every node that runs has all that any of them had when this was called, to be read, the voters are
    /// as many as they can be, and events of quorum topics are taken.
    pub fn wait_level(&self) {
        let running: Vec<usize> = self.running().collect();
        let votes = [5, 3, 1].into_iter().find(|votes| *votes <= running.len()).unwrap();
        let wanted = self.furthest(&running);
        let began = Instant::now();
        for place in running {
            let name = &self.members[place].name;
            wait::until(&format!("{name} to be level with {wanted:?}"), || {
                let status = self.status(place);
                let behind = behind(&status, &wanted, votes);
                assert!(began.elapsed() < LEVEL_MAX, "{name}: {behind:?} in\n{status}");
                behind.is_none().then_some(())
            });
        }
    }

    /// The newest commit and the visible ends of each origin, as far as anybody has it.
    fn furthest(&self, running: &[usize]) -> Furthest {
        let mut furthest = Furthest::new();
        for place in running {
            for origin in self.status(*place)["origins"].as_array().unwrap() {
                let known = furthest.entry(text(&origin["origin"])).or_default();
                known.commit = known.commit.max(origin["commit"].as_u64().unwrap());
                for partition in origin["partitions"].as_array().unwrap() {
                    let end = known.visible.entry(partition_of(partition)).or_default();
                    *end = partition["visible_end"].as_u64().unwrap().max(*end);
                }
            }
        }
        furthest
    }
}

/// How long a site may take to become level.
const LEVEL_MAX: Duration = Duration::from_secs(50);

type Furthest = BTreeMap<String, End>;

/// How far an origin is.
#[derive(Debug, Default)]
struct End {
    commit: u64,
    visible: BTreeMap<(String, u64), u64>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn partition_of(view: &Value) -> (String, u64) {
    (text(&view["topic"]), view["partition"].as_u64().unwrap())
}

/// What a node lacks of what is wanted.
fn behind(status: &Value, wanted: &Furthest, votes: usize) -> Option<String> {
    let quorum = &status["quorum"];
    if quorum["in_reach"] != true || quorum["voters"].as_u64() < Some(votes as u64) {
        return Some(format!("the quorum is {quorum}"));
    }
    let origins = status["origins"].as_array()?;
    for (origin, end) in wanted {
        let Some(here) = origins.iter().find(|here| here["origin"] == *origin) else {
            return Some(format!("there is no origin {origin}"));
        };
        if here["whole"] != true || here["commit"].as_u64()? < end.commit {
            return Some(format!("origin {origin} is not whole up to commit {}", end.commit));
        }
        let partitions = here["partitions"].as_array()?;
        for (partition, visible) in &end.visible {
            let there = partitions.iter().find(|there| partition_of(there) == *partition);
            if there.and_then(|there| there["visible_end"].as_u64()).unwrap_or(0) < *visible {
                return Some(format!("{partition:?} of origin {origin} is not shown up to {visible}"));
            }
        }
    }
    None
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).unwrap();
        }
    }
}

impl std::ops::Index<usize> for Site {
    type Output = Node;

    fn index(&self, place: usize) -> &Node {
        &self.members[place].node
    }
}
