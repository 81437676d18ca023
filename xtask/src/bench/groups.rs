//! The groups of figures, in the order in which they are measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bench::error::{BenchError, io};
use crate::bench::report::Row;
use crate::bench::{channel, commands, device_size, latency, plugins, quic, site, size, store, throughput};

/// Figures that are measured together.
pub struct Group {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Context) -> Result<Vec<Row>, BenchError>,
}

/// The groups of a run of everything.
pub const GROUPS: &[Group] = &[
    Group { name: "size", about: "binary size, start-up time and idle memory", run: size::run },
    Group { name: "store", about: "the store alone: append, read, sync", run: store::run },
    Group { name: "ingest", about: "QoS 1, synced before each PUBACK", run: throughput::ingest },
    Group {
        name: "ingest-subscriber",
        about: "the same with one QoS 1 subscriber",
        run: throughput::ingest_subscriber,
    },
    Group { name: "fan-out", about: "QoS 0 to one subscriber", run: throughput::fan_out },
    Group { name: "incompressible", about: "QoS 1 with random payloads", run: throughput::incompressible },
    Group { name: "quic", about: "MQTT and edgeway/1 over QUIC", run: quic::rates::run },
    Group { name: "alarm", about: "an alarm beside a bulk upload", run: quic::alarm::run },
    Group { name: "storm", about: "5,000 devices that reconnect at once", run: quic::storm::run },
    Group { name: "device", about: "the size of a minimal device", run: device_size::run },
    Group { name: "latency", about: "PUBACK latency at 1,000 messages/s", run: latency::run },
    Group { name: "plugin", about: "events/s through plugins", run: plugins::run },
    Group { name: "command", about: "from a reading to the command it causes", run: commands::run },
    Group { name: "channel", about: "commands to 10,000 devices: rate and latency", run: channel::run },
    Group { name: "absent", about: "a million commands for devices that are away", run: channel::run_absent },
    Group { name: "start", about: "start-up time on a store of 1 GB", run: size::start_large },
    Group { name: "site", about: "three nodes: quorum's rate and latency, a lost node, idle traffic", run: site::run },
    Group { name: "site-catch-up", about: "a node that is 1 GB behind", run: site::catch_up::run },
    Group { name: "link", about: "a backlog that drains into an upstream site", run: site::link::run },
    Group { name: "link-many", about: "200 sites that feed one node at once: fair shares", run: site::many::run },
    Group {
        name: "link-thin",
        about: "a link over thin lines: use, size, alarms beside a backlog",
        run: site::thin::run,
    },
];

/// Groups that take their time: measured where they are named, not in a run of everything.
pub const LONG: &[Group] = &[Group {
    name: "link-flap",
    about: "ten minutes of the thinnest line: cuts and late alarms",
    run: site::flap::run,
}];

/// The group of this name; all that are measured without being named where there is none.
pub fn chosen(only: Option<&str>) -> Vec<&'static Group> {
    match only {
        None => GROUPS.iter().collect(),
        Some(name) => GROUPS.iter().chain(LONG).filter(|group| group.name == name).collect(),
    }
}

/// What a group needs to know.
#[derive(Debug)]
pub struct Context {
    /// The workspace.
    pub root: PathBuf,
    /// The release binary.
    pub binary: PathBuf,
    /// Where mosquitto is, if it is.
    pub mosquitto: Option<PathBuf>,
    /// The length of a timed window.
    pub window: Duration,
    /// Holds the stores; removed at the end.
    pub scratch: tempfile::TempDir,
}

impl Context {
    /// A folder for one group's store, and its removal when it is done.
    pub fn store(&self, group: &str) -> Result<PathBuf, BenchError> {
        let folder = self.scratch.path().join(group).join("data");
        fs::create_dir_all(&folder).map_err(io(format!("making {}", folder.display())))?;
        Ok(folder)
    }

    /// Frees the disk for the next group.
    pub fn remove(&self, data: &Path) -> Result<(), BenchError> {
        let folder = data.parent().unwrap_or(data);
        fs::remove_dir_all(folder).map_err(io(format!("removing {}", folder.display())))
    }
}
